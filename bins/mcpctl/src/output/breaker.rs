//! The state of a breaker, in one line.

use mcpctl_api::breaker_status::{BreakerState, BreakerStatus};

use super::table::{age, until};

/// `open since 12s ago (connect), next try in 8s`
pub fn breaker(status: &BreakerStatus) -> String {
    let BreakerStatus { url: _, state, since, next_try_at, last_failure, some_forms } = status;
    let word = match state {
        BreakerState::Closed => return "closed".to_owned(),
        BreakerState::Open => "open",
        BreakerState::HalfOpen => "half open",
        BreakerState::Other => return "in a state not known to this version".to_owned(),
    };
    let whose = if *some_forms { " for some requests, e.g. with tools or images," } else { "" };
    let since = since.map(|since| format!(" since {} ago", age(since))).unwrap_or_default();
    let class = last_failure.as_ref().map(|class| format!(" ({class})")).unwrap_or_default();
    let next = match next_try_at {
        Some(at) => format!("next try {}", until(*at)),
        None => "one request tries it".to_owned(),
    };
    format!("{word}{whose}{since}{class}, {next}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn state_is_one_line() {
        assert_eq!(breaker(&BreakerStatus::default()), "closed");
        // Half an hour more, so that the test may take its time.
        let ago = Duration::from_secs(40 * 86_400 + 3600 + 1800);
        let hour = Some(Duration::from_secs(3600));
        let line = breaker(&BreakerStatus::opened(ago, hour, Some("connect"), false));
        assert!(line.starts_with("open since 40d1h ago (connect), next try in "), "{line}");
        let line = breaker(&BreakerStatus::opened(ago, hour, None, true));
        let expected = "open for some requests, e.g. with tools or images, since 40d1h ago, next try in ";
        assert!(line.starts_with(expected), "{line}");
        let trying = BreakerStatus::opened(ago, None, None, false);
        assert_eq!(breaker(&trying), "half open since 40d1h ago, one request tries it");
    }
}
