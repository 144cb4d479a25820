//! Accounts for an inference: one row of usage, however the request ends.

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use mcpctl_access::{Principal, Stored};
use mcpctl_api::{
    Spec, Usd,
    spec::{ProviderType, Upstream},
    visible::short,
};
use mcpctl_dialect::{Operation, Request, usage::Usage};
use mcpctl_failover::{FailureClass, Outstanding};
use mcpctl_relay::{StreamEnd, StreamOutcome};
use mcpctl_store::{StoreError, UsageRow};
use mcpctl_telemetry::{Configured, TokenType, metrics};
use mcpctl_upstream::{Failure, WholeAnswer};

use super::{
    access::{AccessEnded, AccessWatch},
    activity::RunningRequest,
    settlement::Settlement,
};
use crate::{app::App, clock, limits::estimate, prices::Pricing};

/// Longest name of an Llm in the access log, in bytes: no resource has a longer one.
const MAX_LLM_BYTES: usize = 64;

/// Longest host and port in the access log, in bytes: the longest that DNS has, and the port.
const MAX_HOST_BYTES: usize = 253 + 6;

/// The account of a running request. It is closed once; a drop without a close means that the caller went away, or
/// lost access.
pub struct Account {
    app: Arc<App>,
    /// `None` once the account is closed.
    row: Option<UsageRow>,
    settlement: Settlement,
    /// Its place in the Llm's activity, until the account is closed.
    running: Option<RunningRequest>,
    access: Option<Arc<AccessWatch>>,
    /// The request that is outstanding at an upstream, until the account is closed.
    outstanding: Option<Outstanding>,
    /// `gen_ai.operation.name` and `gen_ai.provider.name`.
    operation: (&'static str, &'static str),
    arrived: Instant,
    /// Whether the end counts for how the Llm does.
    counts_for_health: bool,
    /// When a stream's first content came.
    first_content: Arc<OnceLock<Instant>>,
}

/// The place of an Llm among those that one request tries.
#[derive(Debug, Clone, Copy)]
pub struct Position {
    /// When the time of the request began.
    pub arrived: Instant,
    /// Whether it is the first one that is tried.
    pub begins: bool,
    /// Whether it is tried in place of the one that the caller named.
    pub fallback: bool,
}

/// Adds to the access log which Llm a request names, whether or not there is one.
pub fn named(operation: Operation, llm: &str) {
    mcpctl_server::access_line(|line| {
        line.operation = Some(operation.genai_name());
        line.llm = Some(short(llm, MAX_LLM_BYTES));
    });
}

/// The metrics' labels of an operation of an Llm.
fn labels<'a>((name, provider): (&'static str, &'static str), llm: &'a str) -> metrics::Operation<'a> {
    metrics::Operation { name, provider, llm: Configured::resolved(llm) }
}

/// `gen_ai.provider.name` of OpenTelemetry's conventions: the API of an Llm's provider.
fn provider(llm: &Stored) -> &'static str {
    match &llm.resource.spec {
        Spec::Llm(llm) if llm.provider == ProviderType::Anthropic => "anthropic",
        Spec::Llm(llm) if llm.provider == ProviderType::AzureOpenai => "azure.ai.openai",
        _ => "openai",
    }
}

impl Account {
    /// Opens the account of a permitted request.
    pub fn open(
        app: &Arc<App>,
        principal: &Principal,
        llm: &Stored,
        request: &Request,
        position: Position,
        settlement: Settlement,
    ) -> Self {
        let Position { arrived, begins, fallback } = position;
        let row = UsageRow {
            id: uuid::Uuid::now_v7(),
            at: clock::now(),
            principal: principal.subject.to_string(),
            principal_id: Some(principal.id.clone()),
            token_id: principal.token.clone(),
            llm_id: llm.id().clone(),
            llm_name: llm.name().to_string(),
            model: String::new(),
            target: None,
            input_tokens: 0,
            output_tokens: 0,
            stream: request.stream,
            cached_input_tokens: 0,
            cache_write_input_tokens: 0,
            reasoning_tokens: 0,
            estimated: false,
            cost_nanos: None,
            outcome: String::new(),
            status: 0,
            attempts: 0,
            begins,
            fallback,
            duration_ms: 0,
            request_id: mcpctl_server::request_id(),
        };
        Self {
            app: Arc::clone(app),
            row: Some(row),
            settlement,
            running: Some(app.inference.activity.begin(llm.id(), request.stream)),
            access: None,
            outstanding: None,
            operation: (request.operation.genai_name(), provider(llm)),
            arrived,
            counts_for_health: true,
            first_content: Arc::default(),
        }
    }

    /// Distinguishes a caller who lost access from one who went away.
    #[must_use]
    pub fn under(mut self, access: &Arc<AccessWatch>) -> Self {
        self.access = Some(Arc::clone(access));
        self
    }

    /// Leaves it to the caller to note how the Llm does, of a request that shows it only together with others.
    #[must_use]
    pub fn apart_from_health(mut self) -> Self {
        self.counts_for_health = false;
        self
    }

    fn access_ended(&self) -> Option<AccessEnded> {
        self.access.as_ref()?.has_ended()
    }

    /// Notes which upstream the request goes to now: what it costs there, and that it is outstanding.
    pub fn goes_to(&mut self, upstream: &Upstream<'_>, price: Option<Pricing>, outstanding: Outstanding) {
        if upstream.place.is_some() {
            let host = short(&upstream.host(), MAX_HOST_BYTES);
            if let Some(row) = &mut self.row {
                row.target = Some(host.clone());
            }
            mcpctl_server::access_line(|line| line.upstream = Some(host));
        }
        self.settlement.set_price(price);
        self.outstanding = Some(outstanding);
    }

    /// Observes the time to the first content of a stream, from the request's arrival. Call it at each content.
    pub fn on_content(&self) -> impl FnMut() + Send + 'static {
        let (app, operation, arrived) = (Arc::clone(&self.app), self.operation, self.arrived);
        let mut llm = self.row.as_ref().map(|row| row.llm_name.clone());
        let delivered = self.settlement.delivered();
        let streamed = self.running.as_ref().map(RunningRequest::streamed);
        let first_content = Arc::clone(&self.first_content);
        move || {
            delivered.add(1);
            if let Some(streamed) = &streamed {
                streamed.add();
            }
            if let Some(llm) = llm.take() {
                first_content.get_or_init(Instant::now);
                let took = arrived.elapsed();
                app.metrics.inference.first_token(labels(operation, &llm), took);
                if let Some(streamed) = &streamed {
                    streamed.first(took);
                }
            }
        }
    }

    /// Closes with a whole response; the row is stored before the response is sent.
    ///
    /// # Errors
    /// When the row cannot be stored.
    pub async fn close_whole(mut self, whole: &WholeAnswer, attempts: u32) -> Result<(), StoreError> {
        let status = whole.status.as_u16();
        // Neither embeddings nor a count of tokens is output.
        let without_output = [Operation::Embeddings, Operation::CountTokens].map(Operation::genai_name);
        if !without_output.contains(&self.operation.0) {
            self.settlement.delivered().add(estimate::output_tokens(whole.body.len()));
        }
        let row = self.close(status, attempts, "ok", whole.model.as_deref(), whole.usage.as_ref());
        self.app.recorder.usage(row).await
    }

    /// Closes with a failure; the row is stored before the response is sent.
    ///
    /// # Errors
    /// When the row cannot be stored.
    pub async fn close_failed(mut self, failure: &Failure, attempts: u32) -> Result<(), StoreError> {
        let status = failure.status.map_or(0, |status| status.as_u16());
        let row = self.close(status, attempts, failure.class.as_str(), None, None);
        self.app.recorder.usage(row).await
    }

    /// The function that closes the account when the stream ends.
    pub fn on_end(mut self, attempts: u32) -> impl FnOnce(StreamEnd) + Send + 'static {
        move |ending| {
            let outcome = match ending.outcome {
                StreamOutcome::Completed => "ok",
                StreamOutcome::Broken(class) => class.as_str(),
                StreamOutcome::Cancelled => {
                    self.access_ended().map_or(FailureClass::Cancelled.as_str(), AccessEnded::code)
                }
            };
            let row = self.close(200, attempts, outcome, ending.model.as_deref(), ending.usage.as_ref());
            self.record_later(row);
        }
    }

    /// Stores the row where the end cannot wait. It is in the queue at once, which is stored before the daemon ends.
    fn record_later(&self, row: Vec<UsageRow>) {
        let stored = self.app.recorder.begin_usage(row);
        let record = async move {
            if let Err(error) = stored.await {
                tracing::error!(error = &error as &dyn std::error::Error, "usage could not be stored");
            }
        };
        tokio::spawn(mcpctl_server::in_request_scope(record));
    }

    /// Completes the row; empty if the account was closed before.
    fn close(
        &mut self,
        status: u16,
        attempts: u32,
        outcome: &'static str,
        model: Option<&str>,
        usage: Option<&Usage>,
    ) -> Vec<UsageRow> {
        let Some(mut row) = self.row.take() else { return Vec::new() };
        let took = self.arrived.elapsed();
        row.status = status;
        row.attempts = attempts;
        row.outcome = outcome.to_owned();
        row.duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        row.model = model.unwrap_or_default().chars().take(200).collect();
        std::mem::take(&mut self.settlement).settle(&mut row, usage);
        if let Some(running) = self.running.take() {
            running.ended(&row);
        }
        if self.counts_for_health {
            self.app.inference.health.note(&row.llm_id, outcome, status, clock::now());
        }
        mcpctl_server::access_line(|line| {
            // The Llm that was asked for is the first one that is tried.
            if line.attempts.is_none() {
                line.llm = Some(row.llm_name.clone());
            }
            // Of all Llms together, where there were more.
            line.attempts = line.attempts.max(Some(attempts));
            line.usage = usage.copied();
            let cost = row.cost_nanos.and_then(|nanos| Usd::from_nanos(nanos).to_string().parse().ok());
            line.cost = cost.map(|cost: f64| cost + line.cost.unwrap_or_default()).or(line.cost);
            line.class = (outcome != "ok").then_some(outcome.into());
        });
        let operation = labels(self.operation, &row.llm_name);
        let inference = &self.app.metrics.inference;
        if let Some(ended) = self.access_ended().filter(|ended| ended.code() == outcome) {
            self.app.metrics.access_ended(ended.reason());
        }
        inference.operation(operation, (outcome != "ok").then_some(outcome), took);
        if let Some(usage) = usage {
            inference.token_usage(operation, TokenType::Input, usage.input_tokens);
            inference.token_usage(operation, TokenType::Output, usage.output_tokens);
            if let (Some(first), "ok") = (self.first_content.get(), outcome) {
                inference.output_token(operation, first.elapsed(), usage.output_tokens);
            }
        }
        vec![row]
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let (status, outcome) = match self.access_ended() {
            None => (0, FailureClass::Cancelled.as_str()),
            Some(ended @ AccessEnded::Unconfirmed) => (503, ended.code()),
            Some(ended) => (403, ended.code()),
        };
        let row = self.close(status, 0, outcome, None, None);
        if !row.is_empty() {
            self.record_later(row);
        }
    }
}
