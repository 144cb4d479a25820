//! What each Llm is doing in this process: counts that a request adds to as it goes, for those who may view the Llm. How it does is
//! in `health`; who used how much is in the store.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use mcpctl_access::Snapshot;
use mcpctl_api::{Id, activity::ActivityCounts};
use mcpctl_store::UsageRow;

/// The activity of each Llm that was used.
pub struct LlmActivities {
    since: Instant,
    llms: Mutex<HashMap<Id, Arc<Counters>>>,
}

/// What one Llm has done.
#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU64,
    failures: AtomicU64,
    fallbacks: AtomicU64,
    input_tokens: AtomicU64,
    output_tokens: AtomicU64,
    first_tokens: AtomicU64,
    first_token_micros: AtomicU64,
    running: AtomicU64,
    streams: AtomicU64,
}

/// One request at an Llm; it runs until it is dropped.
#[derive(Debug)]
pub struct RunningRequest {
    counters: Arc<Counters>,
    is_stream: bool,
    /// Output tokens that are counted already.
    streamed: Arc<AtomicU64>,
}

/// Counts the tokens of a stream.
pub struct StreamedTokens {
    counters: Arc<Counters>,
    streamed: Arc<AtomicU64>,
}

impl Default for LlmActivities {
    fn default() -> Self {
        Self { since: Instant::now(), llms: Mutex::default() }
    }
}

impl LlmActivities {
    /// How long it counts: about as long as the process runs.
    pub fn up(&self) -> Duration {
        self.since.elapsed()
    }

    /// A request goes to an Llm.
    pub fn begin(&self, llm: &Id, is_stream: bool) -> RunningRequest {
        let counters = Arc::clone(self.llms().entry(llm.clone()).or_default());
        counters.running.fetch_add(1, Relaxed);
        counters.streams.fetch_add(u64::from(is_stream), Relaxed);
        RunningRequest { counters, is_stream, streamed: Arc::default() }
    }

    /// The counts of an Llm; zero where it was not used.
    pub fn of(&self, llm: &Id) -> ActivityCounts {
        self.llms().get(llm).map(|counters| counters.read()).unwrap_or_default()
    }

    /// Forgets the Llms that the snapshot has not.
    pub fn retain(&self, snapshot: &Snapshot) {
        self.llms().retain(|llm, _| snapshot.by_id(llm).is_some());
    }

    fn llms(&self) -> MutexGuard<'_, HashMap<Id, Arc<Counters>>> {
        self.llms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counters {
    fn read(&self) -> ActivityCounts {
        ActivityCounts {
            requests: self.requests.load(Relaxed),
            failures: self.failures.load(Relaxed),
            fallbacks: self.fallbacks.load(Relaxed),
            input_tokens: self.input_tokens.load(Relaxed),
            output_tokens: self.output_tokens.load(Relaxed),
            first_tokens: self.first_tokens.load(Relaxed),
            first_token_micros: self.first_token_micros.load(Relaxed),
            running: self.running.load(Relaxed),
            streams: self.streams.load(Relaxed),
        }
    }
}

impl RunningRequest {
    /// What counts the tokens of its stream as they arrive.
    pub fn streamed(&self) -> StreamedTokens {
        StreamedTokens { counters: Arc::clone(&self.counters), streamed: Arc::clone(&self.streamed) }
    }

    /// Counts the request as its row of usage has it.
    pub fn ended(&self, row: &UsageRow) {
        let counters = &self.counters;
        counters.requests.fetch_add(1, Relaxed);
        let failed = !["ok", "cancelled"].contains(&row.outcome.as_str());
        counters.failures.fetch_add(u64::from(failed), Relaxed);
        counters.fallbacks.fetch_add(u64::from(row.fallback), Relaxed);
        counters.input_tokens.fetch_add(row.input_tokens, Relaxed);
        // Some events have several tokens, and some have none.
        let streamed = self.streamed.load(Relaxed);
        match row.output_tokens.checked_sub(streamed) {
            Some(more) => counters.output_tokens.fetch_add(more, Relaxed),
            None => counters.output_tokens.fetch_sub(streamed.saturating_sub(row.output_tokens), Relaxed),
        };
    }
}

impl Drop for RunningRequest {
    fn drop(&mut self) {
        self.counters.running.fetch_sub(1, Relaxed);
        self.counters.streams.fetch_sub(u64::from(self.is_stream), Relaxed);
    }
}

impl StreamedTokens {
    /// The first token came, so long after the request.
    pub fn first(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.counters.first_tokens.fetch_add(1, Relaxed);
        self.counters.first_token_micros.fetch_add(micros, Relaxed);
    }

    /// One more token came.
    pub fn add(&self) {
        self.streamed.fetch_add(1, Relaxed);
        self.counters.output_tokens.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(outcome: &str, output_tokens: u64) -> UsageRow {
        UsageRow {
            id: uuid::Uuid::nil(),
            at: jiff::Timestamp::UNIX_EPOCH,
            principal: String::new(),
            principal_id: None,
            token_id: Id::mint(),
            llm_id: Id::mint(),
            llm_name: String::new(),
            model: String::new(),
            target: None,
            input_tokens: 3,
            output_tokens,
            cached_input_tokens: 0,
            cache_write_input_tokens: 0,
            reasoning_tokens: 0,
            estimated: false,
            cost_nanos: None,
            stream: true,
            outcome: outcome.to_owned(),
            status: 200,
            attempts: 1,
            begins: true,
            fallback: false,
            duration_ms: 0,
            request_id: String::new(),
        }
    }

    #[test]
    fn tokens_of_a_stream_count_once_and_running_ends_with_the_request() {
        let (activities, llm) = (LlmActivities::default(), Id::mint());
        assert_eq!(activities.of(&llm), ActivityCounts::default());
        let stream = activities.begin(&llm, true);
        let tokens = stream.streamed();
        tokens.first(Duration::from_millis(2));
        (0..4).for_each(|_| tokens.add());
        let now = activities.of(&llm);
        assert_eq!((now.running, now.streams, now.output_tokens, now.requests), (1, 1, 4, 0));
        assert_eq!((now.first_tokens, now.first_token_micros), (1, 2_000));
        stream.ended(&row("ok", 10));
        drop(stream);
        // A provider that counts fewer tokens than there were events.
        let other = activities.begin(&llm, true);
        let more = other.streamed();
        (0..3).for_each(|_| more.add());
        other.ended(&row("broken_stream", 1));
        drop(other);
        activities.begin(&llm, false).ended(&row("cancelled", 0));
        let counts = activities.of(&llm);
        assert_eq!((counts.running, counts.streams), (0, 0));
        assert_eq!((counts.requests, counts.failures), (3, 1));
        assert_eq!((counts.input_tokens, counts.output_tokens), (9, 11));
        activities.retain(&Snapshot::default());
        assert_eq!(activities.of(&llm), ActivityCounts::default());
    }
}
