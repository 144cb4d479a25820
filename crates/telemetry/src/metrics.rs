//! The metrics of `mcpd` and of `mcplocal`, and their text for scrapers. The value of a label is either a literal of the
//! program (`&'static str`) or a name that an operator configured ([`Configured`]), never a value from a request, so
//! that callers cannot grow the number of series. The number of names is bounded besides.

mod http;
mod inference;
mod tls;

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError, RwLock, atomic::AtomicU64},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Metric, Registry},
};

use crate::names;
pub use http::{HttpMetrics, InFlight};
pub use inference::{InferenceMetrics, Operation, TokenType};
pub use tls::TlsMetrics;

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
struct SeenNames(RwLock<HashSet<Arc<str>>>);

impl SeenNames {
    /// The label for `name`: the name itself, or [`OVERFLOW`].
    fn label(&self, name: Configured<'_>) -> Arc<str> {
        let seen = self.0.read().unwrap_or_else(PoisonError::into_inner).get(name.0).cloned();
        seen.unwrap_or_else(|| self.add(name.0))
    }

    fn add(&self, name: &str) -> Arc<str> {
        let mut names = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= MAX_NAMES && !names.contains(name) {
            return OVERFLOW.into();
        }
        let label = Arc::<str>::from(name);
        names.insert(Arc::clone(&label));
        label
    }
}

/// The possible results of a probe. Each has a series from the start.
const PROBE_RESULTS: [&str; 3] = ["allowed", "forbidden", "unreachable"];
/// The reasons for which access ends. Each has a series from the start.
const END_REASONS: [&str; 3] = ["revoked", "expired", "unconfirmed"];

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LlmClassOutcome {
    llm: Arc<str>,
    class: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct EngineOutcome {
    engine: Arc<str>,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
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

/// The metrics of `mcpd`.
#[derive(Debug)]
pub struct McpdMetrics {
    registry: Registry,
    /// The requests.
    pub http: HttpMetrics,
    /// The inference at providers.
    pub inference: InferenceMetrics,
    /// The certificate.
    pub tls: TlsMetrics,
    revision: Gauge<u64, AtomicU64>,
    denied: Family<VerbKind, Counter>,
    feeds: Gauge<u64, AtomicU64>,
    access_ended: Family<Reason, Counter>,
}

impl McpdMetrics {
    /// Registers the metrics; all are zero.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let http = HttpMetrics::register(&mut registry);
        let inference = InferenceMetrics::register(&mut registry);
        let tls = TlsMetrics::register(&mut registry);
        let (revision, denied) = (Gauge::default(), Family::default());
        register(&mut registry, names::REVISION, "Revision that decisions are made on", &revision);
        register(&mut registry, names::DENIED, "Requests that authorization denied", &denied);
        let feeds = Gauge::default();
        register(&mut registry, names::FEEDS, "Open feeds of agents", &feeds);
        let access_ended = access_ended(&mut registry);
        Self { registry, http, inference, tls, revision, denied, feeds, access_ended }
    }

    /// Sets the revision of the current snapshot.
    pub fn revision(&self, revision: u64) {
        self.revision.set(revision);
    }

    /// Counts a denied request.
    pub fn denied(&self, verb: &'static str, kind: &'static str) {
        self.denied.get_or_create(&VerbKind { verb, kind }).inc();
    }

    /// Sets the number of open feeds.
    pub fn feeds(&self, open: usize) {
        self.feeds.set(u64::try_from(open).unwrap_or(u64::MAX));
    }

    /// Counts a running request that ended with its caller's access; `reason` is `revoked`, `expired` or `unconfirmed`.
    pub fn access_ended(&self, reason: &'static str) {
        self.access_ended.get_or_create(&Reason { reason }).inc();
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
    /// The requests.
    pub http: HttpMetrics,
    /// The inference, as the agent's callers see it.
    pub inference: InferenceMetrics,
    llms: SeenNames,
    failovers: Family<LlmClassOutcome, Counter>,
    engines: SeenNames,
    probes: Family<Access, Counter>,
    access_ended: Family<Reason, Counter>,
    engine_starts: Family<EngineOutcome, Counter>,
}

impl McplocalMetrics {
    /// Registers the metrics; all are zero.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let http = HttpMetrics::register(&mut registry);
        let inference = InferenceMetrics::register(&mut registry);
        let (failovers, engine_starts) = (Family::default(), Family::default());
        let probes = Family::<Access, Counter>::default();
        for access in PROBE_RESULTS {
            drop(probes.get_or_create(&Access { access }));
        }
        register(&mut registry, names::FAILOVERS, "Failovers considered", &failovers);
        register(&mut registry, names::PROBES, "Access probes by answer", &probes);
        let access_ended = access_ended(&mut registry);
        register(&mut registry, names::ENGINE_STARTS, "Starts of managed engines", &engine_starts);
        let (llms, engines) = (SeenNames::default(), SeenNames::default());
        Self { registry, http, inference, llms, failovers, engines, probes, access_ended, engine_starts }
    }

    /// Counts a failover: the failure class that asked for it, and what came of it (`served`, `forbidden`, …).
    pub fn failover(&self, llm: Configured<'_>, class: &'static str, outcome: &'static str) {
        let labels = LlmClassOutcome { llm: self.llms.label(llm), class, outcome };
        self.failovers.get_or_create(&labels).inc();
    }

    /// Counts a probe; `access` is `allowed`, `forbidden` or `unreachable`.
    pub fn probe(&self, access: &'static str) {
        self.probes.get_or_create(&Access { access }).inc();
    }

    /// Counts a local request that ended with its caller's access; `reason` is `revoked`, `expired` or `unconfirmed`.
    pub fn access_ended(&self, reason: &'static str) {
        self.access_ended.get_or_create(&Reason { reason }).inc();
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

/// The counter of requests that ended with their caller's access.
fn access_ended(registry: &mut Registry) -> Family<Reason, Counter> {
    let ended = Family::<Reason, Counter>::default();
    for reason in END_REASONS {
        drop(ended.get_or_create(&Reason { reason }));
    }
    register(registry, names::ACCESS_ENDED, "Running requests that lost access", &ended);
    ended
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
    use std::time::Duration;

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
        metrics.feeds(7);
        metrics.access_ended("expired");
        metrics.http.request("/v1/chat/completions", 200);
        metrics.inference.attempt(claude(), "ok");
        metrics.inference.attempt(claude(), "server_error");
        metrics.inference.retry(claude());
        let chat = Operation { name: "chat", provider: "anthropic", llm: claude() };
        metrics.inference.operation(chat, None, Duration::from_millis(30));
        metrics.inference.operation(chat, Some("broken_stream"), Duration::from_millis(30));
        metrics.inference.first_token(chat, Duration::from_millis(3));
        metrics.inference.token_usage(chat, TokenType::Input, 12);
        metrics.inference.output_token(chat, Duration::from_millis(400), 5);
        metrics.inference.output_token(chat, Duration::from_millis(300), 1);
        let text = metrics.render();
        has(&text, "mcpctl_revision 42");
        has(&text, r#"mcpctl_denied_total{verb="run",kind="llms"} 1"#);
        has(&text, "mcpctl_feeds 7");
        has(&text, r#"mcpctl_access_ended_total{reason="expired"} 1"#);
        has(&text, r#"mcpctl_access_ended_total{reason="revoked"} 0"#);
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
        has(&text, &format!("gen_ai_server_time_per_output_token_seconds_sum{{{chat}}} 0.1"));
        has(&text, &format!("gen_ai_server_time_per_output_token_seconds_count{{{chat}}} 1"));
        has(&text, &format!(r#"gen_ai_client_token_usage_sum{{{chat},gen_ai_token_type="input"}} 12.0"#));
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn mcplocal_metrics_are_rendered_by_name() {
        let metrics = McplocalMetrics::new();
        has(&metrics.render(), r#"mcpctl_probe_total{access="unreachable"} 0"#);
        metrics.probe("forbidden");
        metrics.failover(claude(), "connect", "forbidden");
        metrics.engine_start(Configured::resolved("small"), "ready");
        metrics.access_ended("unconfirmed");
        let text = metrics.render();
        has(&text, r#"mcpctl_probe_total{access="forbidden"} 1"#);
        has(&text, r#"mcpctl_probe_total{access="allowed"} 0"#);
        has(&text, r#"mcpctl_failover_total{llm="claude",class="connect",outcome="forbidden"} 1"#);
        has(&text, r#"mcpctl_engine_starts_total{engine="small",outcome="ready"} 1"#);
        has(&text, r#"mcpctl_access_ended_total{reason="unconfirmed"} 1"#);
    }

    #[test]
    fn in_flight_ends_with_its_guard() {
        let metrics = McpdMetrics::new();
        let first = metrics.http.in_flight();
        let second = metrics.http.in_flight();
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
            metrics.inference.retry(Configured::resolved(&format!("llm-{number}")));
        }
        metrics.inference.retry(Configured::resolved("llm-0"));
        let text = metrics.render();
        let series = text.lines().filter(|line| line.starts_with("mcpctl_retries_total{")).count();
        assert_eq!(series, MAX_NAMES + 1);
        has(&text, r#"mcpctl_retries_total{llm="_other"} 500"#);
        has(&text, r#"mcpctl_retries_total{llm="llm-0"} 2"#);
    }
}
