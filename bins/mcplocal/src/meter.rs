//! What the agent measures of inference: the metrics of each request, and the speed of each local provider in tokens per second,
//! as its callers see it. For the speed, time without requests does not count, so an
//! idle provider needs no clock.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use mcpctl_failover::FailureClass;
use mcpctl_server::EndedRequest;
use mcpctl_telemetry::{
    Configured, InferenceMetrics, TokenType,
    metrics::{OVERFLOW, Operation},
};

/// Records the metrics of a request for inference that has ended. Its labels are names that mcpd or the configuration resolved,
/// and `_other` where a request got no answer, so that callers cannot make up new ones.
pub fn inference(metrics: &InferenceMetrics, ended: &EndedRequest<'_>) {
    let line = ended.line;
    let Some(name) = line.operation else { return };
    let succeeded = ended.status.is_some_and(|status| status < 400);
    let answered = line.served_by.as_deref().filter(|_| succeeded);
    // Not by the header of a failover: mcpd sends one too, where another Llm answered.
    let provider = if line.local { "local" } else { "mcpctl" };
    let operation = Operation { name, provider, llm: Configured::resolved(answered.unwrap_or(OVERFLOW)) };
    let error = match &line.class {
        Some(class) => Some(
            FailureClass::ALL
                .into_iter()
                .map(FailureClass::as_str)
                .find(|known| known == class)
                .unwrap_or("other"),
        ),
        None => (!succeeded).then_some("other"),
    };
    metrics.operation(operation, error, ended.took);
    if answered.is_none() {
        return;
    }
    if let Some(began) = ended.stream_began {
        metrics.first_token(operation, began);
    }
    if let Some(usage) = &line.usage {
        metrics.token_usage(operation, TokenType::Input, usage.input_tokens);
        metrics.token_usage(operation, TokenType::Output, usage.output_tokens);
        if let (Some(began), None) = (ended.stream_began, error) {
            metrics.output_token(operation, ended.took.saturating_sub(began), usage.output_tokens);
        }
    }
}

/// Answers that ended longer ago no longer count.
const WINDOW: Duration = Duration::from_secs(300);
/// Maximum of answers that count.
const MAX_ANSWERS: usize = 32;

/// Measures one provider. Clones share it.
#[derive(Clone, Default)]
pub struct Meter(Arc<Mutex<MeterState>>);

#[derive(Default)]
struct MeterState {
    ended: VecDeque<Ended>,
    running: HashMap<u64, RunningAnswer>,
    next: u64,
    totals: AnswerTotals,
}

/// The answers of one provider.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AnswerTotals {
    /// Those that are being written.
    pub running: usize,
    /// Those that were written.
    pub ended: u64,
    /// Their tokens.
    pub tokens: u64,
}

struct Ended {
    at: Instant,
    tokens: u64,
    took: Duration,
}

struct RunningAnswer {
    begun: Instant,
    /// When its first piece arrived: the prompt's processing does not count.
    first: Option<Instant>,
    pieces: u64,
}

impl RunningAnswer {
    /// The time since its first piece. An answer in one piece was written before it arrived.
    fn took(&self) -> Duration {
        self.first.filter(|_| self.pieces > 1).unwrap_or(self.begun).elapsed()
    }
}

/// One answer that is being written. If it is dropped without an end, it does not count.
pub struct AnswerMeter {
    meter: Meter,
    id: u64,
}

impl Meter {
    /// An answer begins.
    pub fn begin(&self) -> AnswerMeter {
        let mut state = self.lock();
        let id = state.next;
        state.next += 1;
        state.running.insert(id, RunningAnswer { begun: Instant::now(), first: None, pieces: 0 });
        AnswerMeter { meter: self.clone(), id }
    }

    /// The mean speed of the last answers and of those in progress; `None` where there are none.
    pub fn tokens_per_second(&self) -> Option<f64> {
        let state = self.lock();
        let ended = state.ended.iter().filter(|ended| ended.at.elapsed() < WINDOW);
        let running = state.running.values().filter(|running| running.pieces > 0);
        let all = ended
            .map(|ended| (ended.tokens, ended.took))
            .chain(running.map(|running| (running.pieces, running.took())));
        let (tokens, took) = all.fold((0, Duration::ZERO), |(tokens, took), (more, longer)| {
            // A server may report any number.
            (u64::saturating_add(tokens, more), took.saturating_add(longer))
        });
        #[expect(clippy::cast_precision_loss, reason = "no answer has 2^52 tokens")]
        let rate = tokens as f64 / took.as_secs_f64();
        (tokens > 0 && rate.is_finite()).then_some(rate)
    }

    /// How many answers there were, and how many there are now.
    pub fn totals(&self) -> AnswerTotals {
        let state = self.lock();
        AnswerTotals { running: state.running.len(), ..state.totals }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, MeterState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AnswerMeter {
    /// Counts a piece of the answer, about a token.
    pub fn piece(&self) {
        if let Some(running) = self.meter.lock().running.get_mut(&self.id) {
            running.first.get_or_insert_with(Instant::now);
            running.pieces += 1;
        }
    }

    /// Ends the answer; `tokens` is the model's own count, or 0 where it has none.
    pub fn ended(&self, tokens: u64) {
        let mut state = self.meter.lock();
        let Some(running) = state.running.remove(&self.id) else { return };
        let tokens = if tokens > 0 { tokens } else { running.pieces };
        state.totals.ended += 1;
        state.totals.tokens = state.totals.tokens.saturating_add(tokens);
        state.ended.push_back(Ended { at: Instant::now(), tokens, took: running.took() });
        while state.ended.len() > MAX_ANSWERS {
            state.ended.pop_front();
        }
    }
}

impl Drop for AnswerMeter {
    fn drop(&mut self) {
        self.meter.lock().running.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ended_and_running_answers_count_and_dropped_ones_do_not() {
        let meter = Meter::default();
        assert_eq!(meter.tokens_per_second(), None);
        let ended = meter.begin();
        (0..2).for_each(|_| ended.piece());
        ended.ended(1000);
        let first = meter.tokens_per_second().unwrap();
        assert!(first > 1000.0, "a thousand tokens in no time: {first}");
        let running = meter.begin();
        running.piece();
        drop(meter.begin());
        assert_eq!(meter.totals(), AnswerTotals { running: 1, ended: 1, tokens: 1000 });
        drop(running);
        assert_eq!(meter.totals(), AnswerTotals { running: 0, ended: 1, tokens: 1000 });
    }

    #[test]
    fn answer_in_one_piece_was_written_before_it_arrived() {
        let meter = Meter::default();
        let whole = meter.begin();
        while whole.meter.lock().running.values().all(|running| running.took() < Duration::from_millis(20)) {
            std::thread::yield_now();
        }
        whole.piece();
        whole.ended(100);
        assert!(meter.tokens_per_second().unwrap() <= 5000.0);
    }

    #[test]
    fn only_the_last_answers_count() {
        let meter = Meter::default();
        for _ in 0..100 {
            meter.begin().ended(1);
        }
        assert_eq!(meter.lock().ended.len(), MAX_ANSWERS);
    }
}
