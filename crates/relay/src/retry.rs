//! Retries an attempt on the same upstream, as the table of `docs/reference/contract.md` allows for each failure class.

use std::time::{Duration, Instant};

use mcpctl_failover::class::{FailureClass, RetryRule};
use mcpctl_upstream::{
    Answer, AttemptTimeout, Client, Failure, Request, Target, TimeoutKind, send as attempt,
};

use crate::RetryBudget;

/// First backoff, before jitter.
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
/// Longest backoff, before jitter.
const MAX_BACKOFF: Duration = Duration::from_secs(4);
/// Longest `Retry-After` that is waited for; beyond it the caller decides.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(5);

/// How often an attempt is retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Most attempts besides the first.
    pub max: u32,
    /// When the answer must have begun, all attempts and waits included.
    pub deadline: Instant,
}

/// The result of all attempts.
#[derive(Debug)]
pub struct RetryOutcome {
    /// The answer, or the last failure.
    pub result: Result<Answer, Failure>,
    /// How many attempts were made, at least one.
    pub attempts: u32,
}

/// Sends a request until it is answered, may not be retried, or the deadline passes. Calls `on_retry` before each retry.
pub async fn send(
    client: &Client,
    target: &Target,
    request: &Request,
    policy: RetryPolicy,
    budget: &RetryBudget,
    mut on_retry: impl FnMut(FailureClass) + Send,
) -> RetryOutcome {
    budget.request(Instant::now());
    let mut attempts = 1;
    // How many of the attempts failed because their connection was stale.
    let mut stale = 0;
    loop {
        let sent = attempt(client, target, request);
        let result = match tokio::time::timeout_at(policy.deadline.into(), sent).await {
            Ok(result) => result,
            Err(_) => {
                let timeout = AttemptTimeout { kind: TimeoutKind::Answer, duration: target.timeouts.answer };
                Err(Failure::timed_out(FailureClass::NoResponse, "no answer", timeout))
            }
        };
        let failure = match result {
            Ok(answer) => return RetryOutcome { result: Ok(answer), attempts },
            Err(failure) => failure,
        };
        let wait = if failure.is_stale_connection() && stale == 0 {
            // The server did not fail: no wait, no budget. The next connection is a new one.
            stale += 1;
            Some(Duration::ZERO)
        } else {
            wait_before_next(&failure, attempts - stale, policy, budget, rand::random())
        };
        let Some(wait) = wait else { return RetryOutcome { result: Err(failure), attempts } };
        on_retry(failure.class);
        tokio::time::sleep(wait).await;
        attempts += 1;
    }
}

/// Sends a request once, and once more where its connection was stale: for what is not retried.
///
/// # Errors
/// The failure of the last attempt.
pub async fn once(client: &Client, target: &Target, request: &Request) -> Result<Answer, Failure> {
    match attempt(client, target, request).await {
        Err(failure) if failure.is_stale_connection() => attempt(client, target, request).await,
        result => result,
    }
}

/// How long to wait before the next attempt; `None` for no further attempt. `jitter` is from 0 to 1.
fn wait_before_next(
    failure: &Failure,
    attempts: u32,
    policy: RetryPolicy,
    budget: &RetryBudget,
    jitter: f64,
) -> Option<Duration> {
    let retried = attempts - 1;
    if retried >= policy.max {
        return None;
    }
    let backoff =
        FIRST_BACKOFF.saturating_mul(1 << retried.min(8)).min(MAX_BACKOFF).mul_f64(jitter.clamp(0.0, 1.0));
    let wait = match failure.class.retry() {
        RetryRule::Never => return None,
        RetryRule::Once if retried >= 1 => return None,
        RetryRule::Once => Duration::ZERO,
        RetryRule::WithinBudget if failure.quota_used_up => return None,
        RetryRule::WithinBudget => match failure.retry_after {
            Some(hint) if hint > MAX_RETRY_AFTER => return None,
            Some(hint) => hint.max(backoff),
            None => backoff,
        },
    };
    let now = Instant::now();
    // The budget comes last: a retry that does not happen costs nothing.
    (now + wait < policy.deadline && budget.take(now)).then_some(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(class: FailureClass, retry_after: Option<Duration>) -> Failure {
        let mut failure = Failure::new(class, "for a test");
        failure.retry_after = retry_after;
        failure
    }

    /// The wait before the attempt after `attempts`, with full jitter at its longest.
    fn wait(class: FailureClass, attempts: u32, retry_after: Option<Duration>) -> Option<Duration> {
        let policy = RetryPolicy { max: 2, deadline: Instant::now() + Duration::from_secs(60) };
        wait_before_next(&failure(class, retry_after), attempts, policy, &RetryBudget::default(), 1.0)
    }

    #[test]
    fn each_class_is_retried_as_in_the_contract() {
        let seconds = Duration::from_secs;
        assert_eq!(wait(FailureClass::Connect, 1, None), Some(Duration::ZERO));
        assert_eq!(wait(FailureClass::Connect, 2, None), None, "once");
        assert_eq!(wait(FailureClass::ServerError, 1, None), Some(Duration::from_millis(250)));
        assert_eq!(wait(FailureClass::ServerError, 2, None), Some(Duration::from_millis(500)));
        assert_eq!(wait(FailureClass::ServerError, 3, None), None, "two besides the first");
        assert_eq!(wait(FailureClass::RateLimited, 1, Some(seconds(3))), Some(seconds(3)));
        assert_eq!(
            wait(FailureClass::RateLimited, 1, Some(seconds(6))),
            None,
            "too long to wait for the caller"
        );
        assert_eq!(wait(FailureClass::ServerError, 1, Some(seconds(2))), Some(seconds(2)));
        assert_eq!(wait(FailureClass::ServerError, 1, Some(seconds(6))), None);
        let hint = Some(Duration::from_millis(1));
        assert_eq!(wait(FailureClass::RateLimited, 2, hint), Some(Duration::from_millis(500)), "no storm");
        let mut used_up = failure(FailureClass::RateLimited, None);
        used_up.quota_used_up = true;
        let policy = RetryPolicy { max: 2, deadline: Instant::now() + seconds(60) };
        assert_eq!(wait_before_next(&used_up, 1, policy, &RetryBudget::default(), 1.0), None);
        for class in FailureClass::ALL {
            let retried = [FailureClass::Connect, FailureClass::ServerError, FailureClass::RateLimited];
            assert_eq!(wait(class, 1, None).is_some(), retried.contains(&class), "{class}");
        }
    }

    #[test]
    fn inv_15_waits_respect_deadline_and_budget() {
        let budget = RetryBudget::default();
        let busy = failure(FailureClass::ServerError, None);
        let late = RetryPolicy { max: 2, deadline: Instant::now() + Duration::from_millis(100) };
        assert_eq!(wait_before_next(&busy, 1, late, &budget, 1.0), None);
        let none = RetryPolicy { max: 0, deadline: Instant::now() + Duration::from_secs(60) };
        assert_eq!(wait_before_next(&busy, 1, none, &budget, 0.0), None);
        let policy = RetryPolicy { max: 2, ..none };
        let taken = (0..5).filter(|_| wait_before_next(&busy, 1, policy, &budget, 0.0).is_some()).count();
        assert_eq!(taken, 2, "a quiet Llm has two in ten seconds");
    }
}
