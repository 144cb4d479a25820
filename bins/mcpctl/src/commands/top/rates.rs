//! Rates from counts: what Llms did over the last seconds, by the answers of every replica that was asked.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::{Duration, Instant},
};

use mcpctl_api::{
    Id, Name,
    activity::{Activity, ActivityCounts, LlmActivity},
    breaker_status::LlmState,
};
use serde::Serialize;

/// How long ago rates begin, where it was asked as long: shorter ones jump.
pub const WINDOW: Duration = Duration::from_secs(10);
/// After so long without an answer a replica is gone, or another one is asked now.
const MAX_SILENCE: Duration = Duration::from_secs(30);

/// The answers by which rates are computed.
#[derive(Default)]
pub struct Rates {
    replicas: HashMap<String, VecDeque<Sample>>,
}

/// One answer of a replica.
struct Sample {
    at: Instant,
    up: Duration,
    llms: HashMap<Id, LlmActivity>,
}

/// What an Llm does in a second, and did in the window.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LlmRates {
    /// The Llm.
    pub llm: Name,
    /// How it does.
    pub state: LlmState,
    /// Requests that ended, in a second; `None` until there are two answers.
    pub requests_per_second: Option<f64>,
    /// Input tokens of those, in a second.
    pub input_tokens_per_second: Option<f64>,
    /// Output tokens in a second.
    pub output_tokens_per_second: Option<f64>,
    /// The mean time to the first token of the streams that had one in the window.
    pub first_token_seconds: Option<f64>,
    /// Requests that failed in the window.
    pub errors: u64,
    /// Requests in the window that the Llm got in place of another one.
    pub fallbacks: u64,
    /// Requests that it is answering.
    pub running: u64,
    /// Of those, the streams.
    pub streams: u64,
}

/// Sums over replicas.
#[derive(Default)]
struct Sums {
    seconds: f64,
    requests: f64,
    input_tokens: f64,
    output_tokens: f64,
    window: ActivityCounts,
    running: u64,
    streams: u64,
}

impl Rates {
    /// Adds an answer; returns whether the replica took the place of the one before, so that all counts begin anew.
    pub fn add(&mut self, at: Instant, activity: Activity) -> bool {
        let Activity { replica, up_millis, items } = activity;
        let up = Duration::from_millis(up_millis);
        let last = self.replicas.values().filter_map(|samples| samples.back()).map(|sample| sample.at).max();
        let is_new = !self.replicas.contains_key(&replica);
        // One that runs for longer is another replica, beside those that are known.
        let restarted =
            is_new && last.is_some_and(|last| up < at.saturating_duration_since(last) + RESTART_SLACK);
        if restarted {
            self.replicas.clear();
        }
        let llms = items.into_iter().map(|llm| (llm.id.clone(), llm)).collect();
        let samples = self.replicas.entry(replica).or_default();
        samples.push_back(Sample { at, up, llms });
        // The newest one that is as old as the window stays, so that there is always something to compare with.
        while samples.get(1).is_some_and(|sample| at.saturating_duration_since(sample.at) >= WINDOW) {
            samples.pop_front();
        }
        self.replicas.retain(|_, samples| {
            samples.back().is_some_and(|sample| at.saturating_duration_since(sample.at) < MAX_SILENCE)
        });
        restarted
    }

    /// How many replicas have answered lately.
    pub fn replicas(&self) -> usize {
        self.replicas.len()
    }

    /// How long the replica runs that answered last.
    pub fn up(&self) -> Option<Duration> {
        Some(self.newest()?.up)
    }

    /// How many seconds the rates are of.
    pub fn seconds(&self) -> Option<f64> {
        let of = |samples: &VecDeque<Sample>| Some(seconds(samples.front()?, samples.back()?));
        let longest = self.replicas.values().filter_map(of).fold(0.0, f64::max);
        (longest > 0.0).then_some(longest)
    }

    fn newest(&self) -> Option<&Sample> {
        self.replicas.values().filter_map(|samples| samples.back()).max_by_key(|sample| sample.at)
    }

    /// The Llms of the last answer, the busiest first.
    pub fn llms(&self) -> Vec<LlmRates> {
        let Some(newest) = self.newest() else { return Vec::new() };
        let mut sums: BTreeMap<&Id, Sums> = newest.llms.keys().map(|id| (id, Sums::default())).collect();
        for samples in self.replicas.values() {
            let (Some(first), Some(last)) = (samples.front(), samples.back()) else { continue };
            let seconds = seconds(first, last);
            for (id, llm) in &last.llms {
                let Some(sums) = sums.get_mut(id) else { continue };
                sums.running = sums.running.saturating_add(llm.counts.running);
                sums.streams = sums.streams.saturating_add(llm.counts.streams);
                if seconds > 0.0 {
                    // One that the first answer has not was made since then.
                    let before = first.llms.get(id).map(|llm| llm.counts).unwrap_or_default();
                    sums.add(seconds, &since(&before, &llm.counts));
                }
            }
        }
        let mut rates: Vec<LlmRates> = sums
            .into_iter()
            .filter_map(|(id, sums)| newest.llms.get(id).map(|llm| sums.rates(llm)))
            .collect();
        rates.sort_by(|a, b| {
            b.load()
                .partial_cmp(&a.load())
                .unwrap_or(std::cmp::Ordering::Equal)
                .then_with(|| a.llm.cmp(&b.llm))
        });
        rates
    }
}

/// How much later the process of a replica may seem to have begun than the last answer of the one before, because both are measured
/// by different clocks.
const RESTART_SLACK: Duration = Duration::from_secs(1);

fn seconds(first: &Sample, last: &Sample) -> f64 {
    last.up.saturating_sub(first.up).as_secs_f64()
}

fn since(before: &ActivityCounts, now: &ActivityCounts) -> ActivityCounts {
    ActivityCounts {
        requests: now.requests.saturating_sub(before.requests),
        failures: now.failures.saturating_sub(before.failures),
        fallbacks: now.fallbacks.saturating_sub(before.fallbacks),
        input_tokens: now.input_tokens.saturating_sub(before.input_tokens),
        output_tokens: now.output_tokens.saturating_sub(before.output_tokens),
        first_tokens: now.first_tokens.saturating_sub(before.first_tokens),
        first_token_micros: now.first_token_micros.saturating_sub(before.first_token_micros),
        running: now.running,
        streams: now.streams,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate is shown with three digits")]
const fn float(count: u64) -> f64 {
    count as f64
}

impl Sums {
    fn add(&mut self, seconds: f64, window: &ActivityCounts) {
        self.seconds = self.seconds.max(seconds);
        self.requests += float(window.requests) / seconds;
        self.input_tokens += float(window.input_tokens) / seconds;
        self.output_tokens += float(window.output_tokens) / seconds;
        self.window.failures = self.window.failures.saturating_add(window.failures);
        self.window.fallbacks = self.window.fallbacks.saturating_add(window.fallbacks);
        self.window.first_tokens = self.window.first_tokens.saturating_add(window.first_tokens);
        self.window.first_token_micros =
            self.window.first_token_micros.saturating_add(window.first_token_micros);
    }

    fn rates(self, llm: &LlmActivity) -> LlmRates {
        let rate = |rate: f64| (self.seconds > 0.0).then(|| rounded(rate));
        let first_tokens = self.window.first_tokens;
        let first_token = float(self.window.first_token_micros) / float(first_tokens.max(1)) / 1e6;
        LlmRates {
            llm: llm.llm.clone(),
            state: llm.state,
            requests_per_second: rate(self.requests),
            input_tokens_per_second: rate(self.input_tokens),
            output_tokens_per_second: rate(self.output_tokens),
            first_token_seconds: (first_tokens > 0).then(|| rounded(first_token)),
            errors: self.window.failures,
            fallbacks: self.window.fallbacks,
            running: self.running,
            streams: self.streams,
        }
    }
}

fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

impl LlmRates {
    /// What the order of rows goes by: what runs, then what was used.
    fn load(&self) -> (u64, f64, f64, u64) {
        let rate = Option::unwrap_or_default;
        (self.running, rate(self.output_tokens_per_second), rate(self.requests_per_second), self.errors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activity(replica: &str, up: u64, llms: &[(&Id, &str, ActivityCounts)]) -> Activity {
        let item = |(id, name, counts): &(&Id, &str, ActivityCounts)| LlmActivity {
            id: (*id).clone(),
            llm: name.parse().unwrap(),
            state: LlmState::Ok,
            counts: *counts,
        };
        Activity { replica: replica.to_owned(), up_millis: up * 1000, items: llms.iter().map(item).collect() }
    }

    fn counts(requests: u64, output_tokens: u64, running: u64) -> ActivityCounts {
        ActivityCounts {
            requests,
            output_tokens,
            running,
            failures: requests / 2,
            ..ActivityCounts::default()
        }
    }

    #[test]
    fn rates_are_of_a_window_and_of_all_replicas() {
        let (claude, gpt) = (Id::mint(), Id::mint());
        let (mut rates, begin) = (Rates::default(), Instant::now());
        let at = |second| begin + Duration::from_secs(second);
        assert!(!rates.add(at(0), activity("a", 100, &[(&claude, "claude", counts(10, 100, 0))])));
        assert_eq!((rates.llms()[0].requests_per_second, rates.seconds()), (None, None));
        let both = [(&claude, "claude", counts(14, 140, 1)), (&gpt, "gpt", counts(2, 800, 1))];
        assert!(!rates.add(at(2), activity("a", 102, &both)));
        let llms = rates.llms();
        // The busiest first; one that was made meanwhile has counts from zero on.
        let shown: Vec<_> = llms
            .iter()
            .map(|llm| (llm.llm.as_str(), llm.requests_per_second, llm.output_tokens_per_second, llm.errors))
            .collect();
        assert_eq!(shown, [("gpt", Some(1.0), Some(400.0), 1), ("claude", Some(2.0), Some(20.0), 2)]);
        // Another replica, which runs for longer than top does.
        assert!(!rates.add(at(3), activity("b", 500, &[(&claude, "claude", counts(0, 0, 2))])));
        assert!(!rates.add(at(5), activity("b", 502, &[(&claude, "claude", counts(6, 0, 2))])));
        let claude_now = rates.llms().into_iter().find(|llm| llm.llm.as_str() == "claude").unwrap();
        assert_eq!((claude_now.requests_per_second, claude_now.running, rates.replicas()), (Some(5.0), 3, 2));
        // One that began after the last answer has taken their place.
        assert!(rates.add(at(9), activity("c", 3, &[(&claude, "claude", counts(1, 0, 0))])));
        assert_eq!((rates.replicas(), rates.llms()[0].requests_per_second), (1, None));
    }

    #[test]
    fn what_is_older_than_the_window_no_longer_counts() {
        let id = Id::mint();
        let (mut rates, begin) = (Rates::default(), Instant::now());
        for second in 0..60 {
            // All of it in the first ten seconds.
            let counts = counts(second.min(10), 0, 0);
            rates.add(begin + Duration::from_secs(second), activity("a", second, &[(&id, "claude", counts)]));
        }
        assert_eq!(rates.llms()[0].requests_per_second, Some(0.0));
        assert!(rates.replicas["a"].len() <= 12, "{}", rates.replicas["a"].len());
        assert_eq!(rates.seconds(), Some(10.0));
    }
}
