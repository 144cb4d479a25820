//! The metrics of inference at upstreams.

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::{Configured, SeenNames, register};
use crate::names;

/// Whether tokens were read or written by a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenType {
    /// Tokens of the prompt.
    Input,
    /// Tokens of the answer.
    Output,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Llm {
    llm: Arc<str>,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LlmOutcome {
    llm: Arc<str>,
    outcome: &'static str,
}

/// One operation of a model, with the attributes that OpenTelemetry's conventions require.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation<'a> {
    /// `gen_ai.operation.name`: `chat`, `text_completion`, `embeddings`, `count_tokens`.
    pub name: &'static str,
    /// `gen_ai.provider.name`: the API of the upstream, `openai`, `anthropic` or `azure.ai.openai`; at the agent `mcpctl`
    /// for mcpd, `local` for a local provider.
    pub provider: &'static str,
    /// `gen_ai.request.model`: the Llm, which callers name as the model.
    pub llm: Configured<'a>,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OperationLabels {
    gen_ai_operation_name: &'static str,
    gen_ai_provider_name: &'static str,
    gen_ai_request_model: Arc<str>,
}

/// `error_type` is `""` after a success; scrapers treat an empty label as absent.
#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DurationLabels {
    gen_ai_operation_name: &'static str,
    gen_ai_provider_name: &'static str,
    gen_ai_request_model: Arc<str>,
    error_type: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TokenLabels {
    gen_ai_operation_name: &'static str,
    gen_ai_provider_name: &'static str,
    gen_ai_request_model: Arc<str>,
    gen_ai_token_type: &'static str,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Attempts at upstreams, and operations of models.
#[derive(Debug)]
pub struct InferenceMetrics {
    names: SeenNames,
    attempts: Family<LlmOutcome, Counter>,
    retries: Family<Llm, Counter>,
    fallbacks: Family<LlmOutcome, Counter>,
    open_breakers: Family<Llm, Gauge>,
    durations: Histograms<DurationLabels>,
    first_tokens: Histograms<OperationLabels>,
    output_tokens: Histograms<OperationLabels>,
    tokens: Histograms<TokenLabels>,
}

impl InferenceMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            names: SeenNames::default(),
            attempts: Family::default(),
            retries: Family::default(),
            fallbacks: Family::default(),
            open_breakers: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(names::OPERATION_DURATION_BUCKETS)),
            first_tokens: Family::new_with_constructor(|| Histogram::new(names::TIME_TO_FIRST_TOKEN_BUCKETS)),
            output_tokens: Family::new_with_constructor(|| {
                Histogram::new(names::TIME_PER_OUTPUT_TOKEN_BUCKETS)
            }),
            tokens: Family::new_with_constructor(|| Histogram::new(names::TOKEN_USAGE_BUCKETS)),
        };
        register(registry, names::ATTEMPTS, "Attempts at a target", &metrics.attempts);
        register(registry, names::RETRIES, "Attempts that repeated an earlier one", &metrics.retries);
        register(registry, names::FALLBACKS, "Fallbacks tried after an Llm failed", &metrics.fallbacks);
        register(
            registry,
            names::OPEN_BREAKERS,
            "Upstreams whose breaker is not closed",
            &metrics.open_breakers,
        );
        register(registry, names::OPERATION_DURATION, "Seconds to the last byte", &metrics.durations);
        register(registry, names::TIME_TO_FIRST_TOKEN, "Seconds to the first content", &metrics.first_tokens);
        register(
            registry,
            names::TIME_PER_OUTPUT_TOKEN,
            "Seconds per token after the first content",
            &metrics.output_tokens,
        );
        register(registry, names::TOKEN_USAGE, "Tokens read and written by models", &metrics.tokens);
        metrics
    }

    /// Counts an attempt at a target; `outcome` is `ok` or a failure class.
    pub fn attempt(&self, llm: Configured<'_>, outcome: &'static str) {
        self.attempts.get_or_create(&LlmOutcome { llm: self.names.label(llm), outcome }).inc();
    }

    /// Counts a retry on the same target.
    pub fn retry(&self, llm: Configured<'_>) {
        self.retries.get_or_create(&Llm { llm: self.names.label(llm) }).inc();
    }

    /// Counts a fallback that was tried for an Llm; `outcome` is `served`, `refused`, `skipped` or a failure class.
    pub fn fallback(&self, llm: Configured<'_>, outcome: &'static str) {
        self.fallbacks.get_or_create(&LlmOutcome { llm: self.names.label(llm), outcome }).inc();
    }

    /// Replaces the numbers of upstreams whose breaker is not closed. Llms that are gone lose their series.
    pub fn open_breakers<'a>(&self, of_llms: impl IntoIterator<Item = (Configured<'a>, usize)>) {
        self.open_breakers.clear();
        for (llm, open) in of_llms {
            let open = i64::try_from(open).unwrap_or(i64::MAX);
            self.open_breakers.get_or_create(&Llm { llm: self.names.label(llm) }).inc_by(open);
        }
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
        self.first_tokens.get_or_create(&self.labels(operation)).observe(took.as_secs_f64());
    }

    /// Records how long each token after the first content took, where `took` is the time from there to the last byte and
    /// `tokens` is the model's own count of all. A stream of one token has no such time.
    pub fn output_token(&self, operation: Operation<'_>, took: Duration, tokens: u64) {
        if let Some(after_first) = tokens.checked_sub(1).filter(|count| *count > 0) {
            let each = took.as_secs_f64() / after_first as f64;
            self.output_tokens.get_or_create(&self.labels(operation)).observe(each);
        }
    }

    fn labels(&self, operation: Operation<'_>) -> OperationLabels {
        OperationLabels {
            gen_ai_operation_name: operation.name,
            gen_ai_provider_name: operation.provider,
            gen_ai_request_model: self.names.label(operation.llm),
        }
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
