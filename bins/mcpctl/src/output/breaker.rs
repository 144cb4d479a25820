//! How a breaker stands, in one line.

use mcpctl_api::breaker_status::{BreakerState, BreakerStatus};

use super::table::{age, until};

/// `open since 12s ago (connect): requests skip it, next try in 8s`
pub fn breaker(status: &BreakerStatus) -> String {
    let BreakerStatus { state, since, next_try_at, last_failure, some_forms } = status;
    let word = match state {
        BreakerState::Closed => return "closed".to_owned(),
        BreakerState::Open => "open",
        BreakerState::HalfOpen => "half open",
    };
    let since = since.map(|since| format!(" since {} ago", age(since))).unwrap_or_default();
    let class = last_failure.as_ref().map(|class| format!(" ({class})")).unwrap_or_default();
    let whose = if *some_forms { "some requests, e.g. with tools or images," } else { "requests" };
    let next = match next_try_at {
        Some(at) => format!("{whose} skip it, next try {}", until(*at)),
        None => "one request tries it".to_owned(),
    };
    format!("{word}{since}{class}: {next}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn state_is_one_line() {
        assert_eq!(breaker(&BreakerStatus::default()), "closed");
        let minute = Duration::from_secs(60);
        let hour = Some(Duration::from_secs(3600));
        let line = breaker(&BreakerStatus::opened(minute, hour, Some("connect"), false));
        assert!(line.starts_with("open since 1m ago (connect): requests skip it, next try in 59m"), "{line}");
        let line = breaker(&BreakerStatus::opened(minute, hour, None, true));
        assert!(
            line.starts_with("open since 1m ago: some requests, e.g. with tools or images, skip it"),
            "{line}"
        );
        let trying = BreakerStatus::opened(minute, None, None, false);
        assert_eq!(breaker(&trying), "half open since 1m ago: one request tries it");
    }
}
