//! The names of the product's own HTTP headers. Every program and test takes them from here.

use http::HeaderName;

/// The id that the daemon that answers gave to the request; every answer of mcpd and mcplocal carries it.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("mcpctl-request-id");
/// Who wrote an error: `mcpd`, `mcplocal` or `upstream`.
pub const ERROR_SOURCE: HeaderName = HeaderName::from_static("mcpctl-error-source");
/// The failure class of an error.
pub const FAILURE: HeaderName = HeaderName::from_static("mcpctl-failure");
/// The Llm or the local provider that answered.
pub const SERVED_BY: HeaderName = HeaderName::from_static("mcpctl-served-by");
/// How many attempts a request took, the failed ones included.
pub const ATTEMPTS: HeaderName = HeaderName::from_static("mcpctl-attempts");
/// How the Llm that the caller asked for failed, on the answer of a fallback: another Llm, or a local provider.
pub const FAILOVER: HeaderName = HeaderName::from_static("mcpctl-failover");
/// Why no local provider answered, on the primary's own error, where the caller may know it.
pub const NO_FAILOVER: HeaderName = HeaderName::from_static("mcpctl-no-failover");
/// Its value where no local provider is for the Llm.
pub const NO_PROVIDER: &str = "no_provider";
/// On an answer that was not computed by a model: what of it is an estimate.
pub const ESTIMATED: HeaderName = HeaderName::from_static("mcpctl-estimated");
/// What the writer of a change should know, separated by `; `.
pub const WARNING: HeaderName = HeaderName::from_static("mcpctl-warning");
/// The ids of the daemons that a request has passed, so that a loop ends.
pub const HOPS: HeaderName = HeaderName::from_static("mcpctl-hops");
/// `true` where the Llm keeps what this caller sent and received.
pub const CAPTURED: HeaderName = HeaderName::from_static("mcpctl-captured");
/// The 128 random bits of a probe, 22 base64url characters; a HEAD of an Llm with it is answered with a signed proof.
pub const PROBE_NONCE: HeaderName = HeaderName::from_static("mcpctl-probe-nonce");
/// The id of the agent that sends a probe.
pub const AGENT: HeaderName = HeaderName::from_static("mcpctl-agent");
/// The id of the Llm that an answer is about.
pub const LLM_ID: HeaderName = HeaderName::from_static("mcpctl-llm-id");
/// The signed answer to a probe.
pub const ACCESS_PROOF: HeaderName = HeaderName::from_static("mcpctl-access-proof");
/// The signed lease beside an allowing answer to a probe, where the Llm has an `offlineGrace`.
pub const ACCESS_LEASE: HeaderName = HeaderName::from_static("mcpctl-access-lease");
