//! The metrics of `mcpd` and of `mcplocal`, and their text for scrapers. The value of a label is either a literal of the
//! program (`&'static str`) or a name that an operator configured ([`Configured`]), never a value from a request, so
//! that callers cannot grow the number of series. The number of names is bounded besides.

use std::{
    collections::HashSet,
    sync::{PoisonError, RwLock, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Metric, Registry},
};

use crate::names;

/// The `Content-Type` of the text that `render` returns.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Names that have series of their own; further names are counted under [`OVERFLOW`].
const MAX_NAMES: usize = 1000;
/// The label of all names beyond [`MAX_NAMES`]; no resource can have this name.
pub const OVERFLOW: &str = "_other";

/// The name of an Llm, a provider or an engine that an operator configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Configured<'a>(&'a str);

impl<'a> Configured<'a> {
    /// Wraps a name that was looked up in the resources or the configuration, never one taken from a request.
    pub const fn resolved(name: &'a str) -> Self {
        Self(name)
    }
}

/// The names that have been counted so far.
#[derive(Debug, Default)]
struct SeenNames(RwLock<HashSet<String>>);

impl SeenNames {
    /// The label for `name`: the name itself, or [`OVERFLOW`].
    fn label(&self, name: Configured<'_>) -> String {
        if !self.0.read().unwrap_or_else(PoisonError::into_inner).contains(name.0) {
            let mut names = self.0.write().unwrap_or_else(PoisonError::into_inner);
            if names.len() >= MAX_NAMES && !names.contains(name.0) {
                return OVERFLOW.to_owned();
            }
            names.insert(name.0.to_owned());
        }
        name.0.to_owned()
    }
}

/// The possible results of a probe. Each has a series from the start.
const PROBE_RESULTS: [&str; 3] = ["allowed", "forbidden", "unreachable"];

/// Whether tokens were read or written by a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenType {
    /// Tokens of the prompt.
    Input,
    /// Tokens of the answer.
    Output,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RouteStatus {
    route: &'static str,
    status: u16,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Llm {
    llm: String,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LlmOutcome {
    llm: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LlmClassOutcome {
    llm: String,
    class: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct EngineOutcome {
    engine: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Access {
    access: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct VerbKind {
    verb: &'static str,
    kind: &'static str,
}

/// One operation of a model, with the attributes that OpenTelemetry's conventions require.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation<'a> {
    /// `gen_ai.operation.name`: `chat`, `text_completion`, `embeddings`.
    pub name: &'static str,
    /// `gen_ai.provider.name`: the dialect of the upstream, `openai` or `anthropic`.
    pub provider: &'static str,
    /// `gen_ai.request.model`: the Llm, which callers name as the model.
    pub llm: Configured<'a>,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OperationLabels {
    gen_ai_operation_name: &'static str,
    gen_ai_provider_name: &'static str,
    gen_ai_request_model: String,
}

/// `error_type` is `""` after a success; scrapers treat an empty label as absent.
#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DurationLabels {
    gen_ai_operation_name: &'static str,
    gen_ai_provider_name: &'static str,
    gen_ai_request_model: String,
    error_type: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TokenLabels {
    gen_ai_operation_name: &'static str,
    gen_ai_provider_name: &'static str,
    gen_ai_request_model: String,
    gen_ai_token_type: &'static str,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// The metrics that both daemons have.
#[derive(Debug)]
pub struct Traffic {
    names: SeenNames,
    requests: Family<RouteStatus, Counter>,
    inflight: Gauge,
    attempts: Family<LlmOutcome, Counter>,
    retries: Family<Llm, Counter>,
    failovers: Family<LlmClassOutcome, Counter>,
    durations: Histograms<DurationLabels>,
    first_tokens: Histograms<OperationLabels>,
    tokens: Histograms<TokenLabels>,
}

impl Traffic {
    fn register(registry: &mut Registry) -> Self {
        let traffic = Self {
            names: SeenNames::default(),
            requests: Family::default(),
            inflight: Gauge::default(),
            attempts: Family::default(),
            retries: Family::default(),
            failovers: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(names::OPERATION_DURATION_BUCKETS)),
            first_tokens: Family::new_with_constructor(|| Histogram::new(names::TIME_TO_FIRST_TOKEN_BUCKETS)),
            tokens: Family::new_with_constructor(|| Histogram::new(names::TOKEN_USAGE_BUCKETS)),
        };
        register(registry, names::REQUESTS, "Requests answered", &traffic.requests);
        register(registry, names::INFLIGHT, "Requests being answered now", &traffic.inflight);
        register(registry, names::ATTEMPTS, "Attempts at a target", &traffic.attempts);
        register(registry, names::RETRIES, "Attempts that repeated an earlier one", &traffic.retries);
        register(registry, names::FAILOVERS, "Failovers considered", &traffic.failovers);
        register(registry, names::OPERATION_DURATION, "Seconds to the last byte", &traffic.durations);
        register(registry, names::TIME_TO_FIRST_TOKEN, "Seconds to the first content", &traffic.first_tokens);
        register(registry, names::TOKEN_USAGE, "Tokens read and written by models", &traffic.tokens);
        traffic
    }

    /// Counts an answered request; `route` is the route's template, never the requested path.
    pub fn request(&self, route: &'static str, status: u16) {
        self.requests.get_or_create(&RouteStatus { route, status }).inc();
    }

    /// Counts a request as in flight until the guard is dropped, which happens after the last byte of the response.
    #[must_use]
    pub fn in_flight(&self) -> InFlight {
        self.inflight.inc();
        InFlight(self.inflight.clone())
    }

    /// Counts an attempt at a target; `outcome` is `ok` or a failure class.
    pub fn attempt(&self, llm: Configured<'_>, outcome: &'static str) {
        self.attempts.get_or_create(&LlmOutcome { llm: self.names.label(llm), outcome }).inc();
    }

    /// Counts a retry on the same target.
    pub fn retry(&self, llm: Configured<'_>) {
        self.retries.get_or_create(&Llm { llm: self.names.label(llm) }).inc();
    }

    /// Counts a failover: the failure class that asked for it, and what came of it (`served`, `forbidden`, …).
    pub fn failover(&self, llm: Configured<'_>, class: &'static str, outcome: &'static str) {
        let labels = LlmClassOutcome { llm: self.names.label(llm), class, outcome };
        self.failovers.get_or_create(&labels).inc();
    }

    /// Records how long an operation took, to its last byte; `error` is the failure class where it failed.
    pub fn operation(&self, operation: Operation<'_>, error: Option<&'static str>, took: Duration) {
        let labels = DurationLabels {
            gen_ai_operation_name: operation.name,
            gen_ai_provider_name: operation.provider,
            gen_ai_request_model: self.names.label(operation.llm),
            error_type: error.unwrap_or_default(),
        };
        self.durations.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Records how long the first content took.
    pub fn first_token(&self, operation: Operation<'_>, took: Duration) {
        let labels = OperationLabels {
            gen_ai_operation_name: operation.name,
            gen_ai_provider_name: operation.provider,
            gen_ai_request_model: self.names.label(operation.llm),
        };
        self.first_tokens.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Records the tokens that one operation read or wrote.
    pub fn token_usage(&self, operation: Operation<'_>, kind: TokenType, tokens: u64) {
        let labels = TokenLabels {
            gen_ai_operation_name: operation.name,
            gen_ai_provider_name: operation.provider,
            gen_ai_request_model: self.names.label(operation.llm),
            gen_ai_token_type: match kind {
                TokenType::Input => "input",
                TokenType::Output => "output",
            },
        };
        self.tokens.get_or_create(&labels).observe(tokens as f64);
    }
}

/// A request that is in flight until this is dropped.
#[derive(Debug)]
pub struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The metrics of `mcpd`.
#[derive(Debug)]
pub struct McpdMetrics {
    registry: Registry,
    /// What both daemons count.
    pub traffic: Traffic,
    revision: Gauge<u64, AtomicU64>,
    denied: Family<VerbKind, Counter>,
}

impl McpdMetrics {
    /// Registers the metrics; all are zero.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let traffic = Traffic::register(&mut registry);
        let (revision, denied) = (Gauge::default(), Family::default());
        register(&mut registry, names::REVISION, "Revision that decisions are made on", &revision);
        register(&mut registry, names::DENIED, "Requests that authorization denied", &denied);
        Self { registry, traffic, revision, denied }
    }

    /// Sets the revision of the current snapshot.
    pub fn revision(&self, revision: u64) {
        self.revision.set(revision);
    }

    /// Counts a denied request.
    pub fn denied(&self, verb: &'static str, kind: &'static str) {
        self.denied.get_or_create(&VerbKind { verb, kind }).inc();
    }

    /// All metrics in OpenMetrics text.
    pub fn render(&self) -> String {
        render(&self.registry)
    }
}

impl Default for McpdMetrics {
    fn default() -> Self {
        Self::new()
    }
}

/// The metrics of `mcplocal`.
#[derive(Debug)]
pub struct McplocalMetrics {
    registry: Registry,
    engines: SeenNames,
    /// What both daemons count.
    pub traffic: Traffic,
    probes: Family<Access, Counter>,
    engine_starts: Family<EngineOutcome, Counter>,
}

impl McplocalMetrics {
    /// Registers the metrics; all are zero.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let traffic = Traffic::register(&mut registry);
        let (probes, engine_starts) = (Family::<Access, Counter>::default(), Family::default());
        for access in PROBE_RESULTS {
            drop(probes.get_or_create(&Access { access }));
        }
        register(&mut registry, names::PROBES, "Access probes by answer", &probes);
        register(&mut registry, names::ENGINE_STARTS, "Starts of managed engines", &engine_starts);
        Self { registry, engines: SeenNames::default(), traffic, probes, engine_starts }
    }

    /// Counts a probe; `access` is `allowed`, `forbidden` or `unreachable`.
    pub fn probe(&self, access: &'static str) {
        self.probes.get_or_create(&Access { access }).inc();
    }

    /// Counts a start of an engine; `outcome` is `ready` or why it is not.
    pub fn engine_start(&self, engine: Configured<'_>, outcome: &'static str) {
        let labels = EngineOutcome { engine: self.engines.label(engine), outcome };
        self.engine_starts.get_or_create(&labels).inc();
    }

    /// All metrics in OpenMetrics text.
    pub fn render(&self) -> String {
        render(&self.registry)
    }
}

impl Default for McplocalMetrics {
    fn default() -> Self {
        Self::new()
    }
}

fn register(registry: &mut Registry, name: &str, help: &str, metric: &(impl Metric + Clone)) {
    // The encoder adds the suffix that OpenMetrics wants on counters.
    registry.register(name.strip_suffix("_total").unwrap_or(name), help, metric.clone());
}

fn render(registry: &Registry) -> String {
    let mut text = String::new();
    if let Err(error) = text::encode(&mut text, registry) {
        tracing::error!(%error, "metrics could not be written");
        return "# EOF\n".to_owned();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claude() -> Configured<'static> {
        Configured::resolved("claude")
    }

    /// Asserts that the text has a line.
    #[track_caller]
    fn has(text: &str, line: &str) {
        assert!(text.lines().any(|found| found == line), "`{line}` is not in\n{text}");
    }

    #[test]
    fn mcpd_metrics_are_rendered_by_name() {
        let metrics = McpdMetrics::new();
        metrics.revision(42);
        metrics.denied("run", "llms");
        metrics.traffic.request("/v1/chat/completions", 200);
        metrics.traffic.attempt(claude(), "ok");
        metrics.traffic.attempt(claude(), "server_error");
        metrics.traffic.retry(claude());
        let chat = Operation { name: "chat", provider: "anthropic", llm: claude() };
        metrics.traffic.operation(chat, None, Duration::from_millis(30));
        metrics.traffic.operation(chat, Some("broken_stream"), Duration::from_millis(30));
        metrics.traffic.first_token(chat, Duration::from_millis(3));
        metrics.traffic.token_usage(chat, TokenType::Input, 12);
        let text = metrics.render();
        has(&text, "mcpctl_revision 42");
        has(&text, r#"mcpctl_denied_total{verb="run",kind="llms"} 1"#);
        has(&text, r#"mcpctl_requests_total{route="/v1/chat/completions",status="200"} 1"#);
        has(&text, r#"mcpctl_attempts_total{llm="claude",outcome="server_error"} 1"#);
        has(&text, r#"mcpctl_retries_total{llm="claude"} 1"#);
        let chat =
            r#"gen_ai_operation_name="chat",gen_ai_provider_name="anthropic",gen_ai_request_model="claude""#;
        let failed = format!(r#"{chat},error_type="broken_stream""#);
        has(&text, &format!("gen_ai_client_operation_duration_seconds_count{{{failed}}} 1"));
        has(
            &text,
            &format!(
                r#"gen_ai_client_operation_duration_seconds_bucket{{le="0.02",{chat},error_type=""}} 0"#
            ),
        );
        has(
            &text,
            &format!(
                r#"gen_ai_client_operation_duration_seconds_bucket{{le="0.04",{chat},error_type=""}} 1"#
            ),
        );
        has(&text, &format!("gen_ai_server_time_to_first_token_seconds_count{{{chat}}} 1"));
        has(&text, &format!(r#"gen_ai_client_token_usage_sum{{{chat},gen_ai_token_type="input"}} 12.0"#));
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn mcplocal_metrics_are_rendered_by_name() {
        let metrics = McplocalMetrics::new();
        has(&metrics.render(), r#"mcpctl_probe_total{access="unreachable"} 0"#);
        metrics.probe("forbidden");
        metrics.traffic.failover(claude(), "connect", "forbidden");
        metrics.engine_start(Configured::resolved("small"), "ready");
        let text = metrics.render();
        has(&text, r#"mcpctl_probe_total{access="forbidden"} 1"#);
        has(&text, r#"mcpctl_probe_total{access="allowed"} 0"#);
        has(&text, r#"mcpctl_failover_total{llm="claude",class="connect",outcome="forbidden"} 1"#);
        has(&text, r#"mcpctl_engine_starts_total{engine="small",outcome="ready"} 1"#);
    }

    #[test]
    fn in_flight_ends_with_its_guard() {
        let metrics = McpdMetrics::new();
        let first = metrics.traffic.in_flight();
        let second = metrics.traffic.in_flight();
        has(&metrics.render(), "mcpctl_inflight_requests 2");
        drop(first);
        has(&metrics.render(), "mcpctl_inflight_requests 1");
        drop(second);
        has(&metrics.render(), "mcpctl_inflight_requests 0");
    }

    #[test]
    fn names_are_bounded_and_no_count_is_lost() {
        let metrics = McpdMetrics::new();
        for number in 0..MAX_NAMES + 500 {
            metrics.traffic.retry(Configured::resolved(&format!("llm-{number}")));
        }
        metrics.traffic.retry(Configured::resolved("llm-0"));
        let text = metrics.render();
        let series = text.lines().filter(|line| line.starts_with("mcpctl_retries_total{")).count();
        assert_eq!(series, MAX_NAMES + 1);
        has(&text, r#"mcpctl_retries_total{llm="_other"} 500"#);
        has(&text, r#"mcpctl_retries_total{llm="llm-0"} 2"#);
    }
}
