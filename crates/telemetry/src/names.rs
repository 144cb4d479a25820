//! Every metric's name, its help and its buckets, as scrapers see them. Where OpenTelemetry's semantic conventions
//! for generative AI define a name, it is used in Prometheus spelling; the others start with `mcpctl_`. Dashboards and
//! alerts depend on the names, so a change of one breaks them.

/// Requests answered, by route template and status.
pub const REQUESTS: &str = "mcpctl_requests_total";
/// Requests in flight, streams included.
pub const INFLIGHT: &str = "mcpctl_inflight_requests";
/// Attempts at an upstream, by Llm and outcome: `ok` or a failure class.
pub const ATTEMPTS: &str = "mcpctl_attempts_total";
/// Attempts that repeated an earlier one at the same upstream, by Llm.
pub const RETRIES: &str = "mcpctl_retries_total";
/// Fallbacks tried after an Llm failed, by that Llm and outcome: `served`, `refused`, `skipped` (its
/// breaker is open) or a failure class.
pub const FALLBACKS: &str = "mcpctl_fallbacks_total";
/// Upstreams whose breaker is not closed, by Llm.
pub const OPEN_BREAKERS: &str = "mcpctl_open_breakers";
/// Failovers considered, by Llm, the primary's failure class and the outcome.
pub const FAILOVERS: &str = "mcpctl_failover_total";
/// Access probes, by result: `allowed`, `forbidden` or `unreachable`.
pub const PROBES: &str = "mcpctl_probe_total";
/// Running requests that ended with their caller's access, by reason: `revoked`, `expired` or `unconfirmed`. At the agent, local
/// ones, and besides by `reconfigured`.
pub const ACCESS_ENDED: &str = "mcpctl_access_ended_total";
/// Feeds of agents that are open at this replica.
pub const FEEDS: &str = "mcpctl_feeds";
/// The revision of the snapshot by which requests are decided.
pub const REVISION: &str = "mcpctl_revision";
/// Requests that authorization denied, by verb and kind.
pub const DENIED: &str = "mcpctl_denied_total";
/// The end of the TLS certificate in use.
pub const TLS_VALID_UNTIL: &str = "mcpctl_tls_certificate_valid_until_seconds";
/// Whether changed TLS files are not in use, because they cannot be: 0 or 1.
pub const TLS_FILES_REFUSED: &str = "mcpctl_tls_files_refused";
/// Starts of managed engines, by engine and outcome.
pub const ENGINE_STARTS: &str = "mcpctl_engine_starts_total";
/// OpenTelemetry `gen_ai.client.operation.duration`, in seconds: from request to the last byte.
pub const OPERATION_DURATION: &str = "gen_ai_client_operation_duration_seconds";
/// OpenTelemetry `gen_ai.client.token.usage`, in tokens.
pub const TOKEN_USAGE: &str = "gen_ai_client_token_usage";
/// OpenTelemetry `gen_ai.server.time_to_first_token`, in seconds: from request to the first content.
pub const TIME_TO_FIRST_TOKEN: &str = "gen_ai_server_time_to_first_token_seconds";
/// OpenTelemetry `gen_ai.server.time_per_output_token`, in seconds: between two tokens after the first one, on average.
pub const TIME_PER_OUTPUT_TOKEN: &str = "gen_ai_server_time_per_output_token_seconds";

/// The bucket boundaries that the conventions advise for `gen_ai.client.operation.duration`, in seconds.
pub const OPERATION_DURATION_BUCKETS: [f64; 14] =
    [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
/// The bucket boundaries that the conventions advise for `gen_ai.client.token.usage`, in tokens.
pub const TOKEN_USAGE_BUCKETS: [f64; 14] = [
    1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0,
    16777216.0, 67108864.0,
];
/// The bucket boundaries that the conventions advise for `gen_ai.server.time_to_first_token`, in seconds.
pub const TIME_TO_FIRST_TOKEN_BUCKETS: [f64; 16] =
    [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// The bucket boundaries that the conventions advise for `gen_ai.server.time_per_output_token`, in seconds; the lowest are
/// ours, for models that are fast.
pub const TIME_PER_OUTPUT_TOKEN_BUCKETS: [f64; 15] =
    [0.001, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5];
