//! The headers by which clients learn how their Limits stand: OpenAI's `x-ratelimit-*`, and Anthropic's on its own routes.
//! Cost has no header of its own: no client would read it.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use mcpctl_api::spec::Measure;
use mcpctl_dialect::Dialect;
use mcpctl_server::caller_dialect;

use crate::limits::{Standing, ledger};

/// The names of one measure's headers.
struct Names {
    limit: HeaderName,
    remaining: HeaderName,
    reset: HeaderName,
}

/// Replaces the provider's headers of each measure that a Limit bounds: the caller's own Limits are the nearer ones. Of several,
/// the one with the least left is shown.
pub(super) fn insert(headers: &mut HeaderMap, standings: &[Standing]) {
    insert_for(caller_dialect(), headers, standings);
}

fn insert_for(dialect: Dialect, headers: &mut HeaderMap, standings: &[Standing]) {
    for measure in [Measure::Requests, Measure::Tokens] {
        let tightest = standings.iter().filter(|s| s.measure == measure).min_by_key(|s| (s.remaining, s.max));
        let Some(Standing { max, remaining, resets_at, .. }) = tightest else { continue };
        let (names, reset) = match dialect {
            Dialect::Anthropic => (anthropic_names(measure), rfc_3339(*resets_at)),
            Dialect::Openai => (openai_names(measure), go_duration(resets_at.saturating_sub(ledger::now()))),
        };
        headers.insert(names.limit, HeaderValue::from(*max));
        headers.insert(names.remaining, HeaderValue::from(*remaining));
        if let Ok(reset) = HeaderValue::from_str(&reset) {
            headers.insert(names.reset, reset);
        }
    }
}

/// <https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers>
fn openai_names(measure: Measure) -> Names {
    if measure == Measure::Requests {
        Names {
            limit: HeaderName::from_static("x-ratelimit-limit-requests"),
            remaining: HeaderName::from_static("x-ratelimit-remaining-requests"),
            reset: HeaderName::from_static("x-ratelimit-reset-requests"),
        }
    } else {
        Names {
            limit: HeaderName::from_static("x-ratelimit-limit-tokens"),
            remaining: HeaderName::from_static("x-ratelimit-remaining-tokens"),
            reset: HeaderName::from_static("x-ratelimit-reset-tokens"),
        }
    }
}

/// <https://platform.claude.com/docs/en/api/rate-limits#response-headers>
fn anthropic_names(measure: Measure) -> Names {
    if measure == Measure::Requests {
        Names {
            limit: HeaderName::from_static("anthropic-ratelimit-requests-limit"),
            remaining: HeaderName::from_static("anthropic-ratelimit-requests-remaining"),
            reset: HeaderName::from_static("anthropic-ratelimit-requests-reset"),
        }
    } else {
        Names {
            limit: HeaderName::from_static("anthropic-ratelimit-tokens-limit"),
            remaining: HeaderName::from_static("anthropic-ratelimit-tokens-remaining"),
            reset: HeaderName::from_static("anthropic-ratelimit-tokens-reset"),
        }
    }
}

fn rfc_3339(millis: i64) -> String {
    // Whole seconds, rounded up, as Anthropic writes them.
    Timestamp::from_second(millis.saturating_add(999) / 1000).unwrap_or(Timestamp::MAX).to_string()
}

/// As Go writes durations, which OpenAI does: `12ms`, `1s`, `6m0s`, `1h0m0s`.
fn go_duration(millis: i64) -> String {
    let millis = millis.max(0);
    if millis < 1000 {
        return if millis == 0 { "0s".to_owned() } else { format!("{millis}ms") };
    }
    let seconds = millis.saturating_add(999) / 1000;
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (millis, expected) in [
            (-5, "0s"),
            (12, "12ms"),
            (1000, "1s"),
            (1001, "2s"),
            (360_000, "6m0s"),
            (3_600_000, "1h0m0s"),
            (90_061_000, "25h1m1s"),
        ] {
            assert_eq!(go_duration(millis), expected);
        }
    }

    #[test]
    fn the_tightest_limit_replaces_the_providers_headers() {
        let standing = |measure, max, remaining| Standing { measure, max, remaining, resets_at: 0 };
        let standings = [
            standing(Measure::Requests, 60, 5),
            standing(Measure::Requests, 1000, 2),
            standing(Measure::Cost, 9, 9),
        ];
        let mut headers = HeaderMap::new();
        for name in ["x-ratelimit-remaining-requests", "x-ratelimit-remaining-tokens"] {
            headers.insert(name, HeaderValue::from_static("777"));
        }
        insert_for(Dialect::Openai, &mut headers, &standings);
        assert_eq!(headers["x-ratelimit-limit-requests"], "1000");
        assert_eq!(headers["x-ratelimit-remaining-requests"], "2");
        assert_eq!(headers["x-ratelimit-reset-requests"], "0s");
        assert_eq!(headers["x-ratelimit-remaining-tokens"], "777", "no Limit is about tokens");
        let mut headers = HeaderMap::new();
        insert_for(Dialect::Anthropic, &mut headers, &standings);
        assert_eq!(headers["anthropic-ratelimit-requests-reset"], "1970-01-01T00:00:00Z");
        assert!(!headers.contains_key("x-ratelimit-limit-requests"));
    }
}
