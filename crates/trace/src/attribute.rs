//! The names of span attributes: OpenTelemetry's semantic conventions for HTTP and for generative AI (version 1.38), and our
//! own below `mcpctl.`. Dashboards depend on them.

/// Method of an HTTP request.
pub const HTTP_METHOD: &str = "http.request.method";
/// Template of the route, never the path.
pub const HTTP_ROUTE: &str = "http.route";
/// Status of an HTTP answer.
pub const HTTP_STATUS: &str = "http.response.status_code";
/// Host that a request goes to.
pub const SERVER_ADDRESS: &str = "server.address";
/// Port that a request goes to.
pub const SERVER_PORT: &str = "server.port";
/// Failure class, or the status where there is none.
pub const ERROR_TYPE: &str = "error.type";
/// Account of the caller.
pub const ENDUSER: &str = "enduser.id";

/// `chat`, `text_completion`, `embeddings`, `count_tokens`.
pub const OPERATION: &str = "gen_ai.operation.name";
/// Whose API the upstream speaks.
pub const PROVIDER: &str = "gen_ai.provider.name";
/// Model that the request names.
pub const REQUEST_MODEL: &str = "gen_ai.request.model";
/// Whether the request asks for a stream.
pub const REQUEST_STREAM: &str = "gen_ai.request.stream";
/// Model that answered, as it calls itself.
pub const RESPONSE_MODEL: &str = "gen_ai.response.model";
/// Seconds until the first content of a stream.
pub const TIME_TO_FIRST_CHUNK: &str = "gen_ai.response.time_to_first_chunk";
/// Tokens of the prompt, cached ones included.
pub const INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
/// Tokens of the answer, reasoning included.
pub const OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
/// Tokens of the prompt that a cache saved.
pub const CACHED_TOKENS: &str = "gen_ai.usage.cache_read.input_tokens";
/// Tokens of the answer that were spent on reasoning.
pub const REASONING_TOKENS: &str = "gen_ai.usage.reasoning.output_tokens";

/// Id of the request at this daemon.
pub const REQUEST_ID: &str = "mcpctl.request.id";
/// Llm or local provider that answered.
pub const SERVED_BY: &str = "mcpctl.served_by";
/// Class of the primary's failure, where a local provider answered.
pub const FAILOVER: &str = "mcpctl.failover";
/// Attempts that the request took.
pub const ATTEMPTS: &str = "mcpctl.attempts";
/// Answer of a probe: `allowed`, `forbidden` or `unreachable`.
pub const ACCESS: &str = "mcpctl.access";
/// Cost of the request in US dollars.
pub const COST: &str = "mcpctl.cost";
