//! A silent mcpd is questioned: is it slow, or gone? A model may think for minutes and mcpd sends nothing meanwhile, so silence
//! alone proves nothing; its `/healthz`, on a new connection, decides. One that refuses connections may be draining, and still
//! answers its running requests.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared},
};
use mcpctl_client::{Health, HealthCheck};
use mcpctl_failover::FailureClass;
use mcpctl_upstream::{Failure, Progress};

/// How long mcpd may be silent before it is questioned, and between two questions.
pub const SILENCE_TIMEOUT: Duration = Duration::from_secs(5);
/// How many questions in a row stay unanswered before mcpd counts as gone.
const QUESTIONS: u32 = 2;
/// How long an answer holds for other requests, so that many that wait do not become a flood.
const ANSWER_HOLDS: Duration = Duration::from_secs(1);

/// How long an mcpd that refuses connections is waited for: as long as it drains.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(30);

/// The health check of one mcpd, shared by all requests that wait for it: one question at a time.
pub struct SilenceCheck {
    health: HealthCheck,
    state: Mutex<CheckState>,
}

#[derive(Default)]
struct CheckState {
    /// The questions that requests wait for; ends with the last of them.
    asking: Option<WeakShared<BoxFuture<'static, Health>>>,
    answered_at: Option<Instant>,
}

impl SilenceCheck {
    /// A check that has asked nothing yet.
    pub fn new(health: HealthCheck) -> Self {
        Self { health, state: Mutex::default() }
    }

    /// Waits while mcpd is silent and answers its health check.
    ///
    /// Returns the failure once it answers neither the request nor the check.
    pub async fn until_gone(&self, progress: &Progress) -> Failure {
        let (mut heard, mut refused_since) = (progress.last(), None);
        loop {
            let next = heard + SILENCE_TIMEOUT;
            let next = refused_since.map_or(next, |since| next.min(since + REFUSAL_TIMEOUT));
            tokio::time::sleep_until(next.into()).await;
            let health = if progress.last() > heard { Health::Answered } else { self.check().await };
            if health == Health::Refused && refused_since.is_none() {
                tracing::info!("mcpd refuses connections; the agent keeps waiting for its running requests");
            }
            refused_since = (health == Health::Refused).then(|| refused_since.unwrap_or_else(Instant::now));
            if progress.last() > heard {
                heard = progress.last();
            } else if let Some(detail) = gone(health, refused_since.map(|since| since.elapsed())) {
                return Failure::new(FailureClass::NoResponse, detail);
            } else {
                heard = Instant::now();
            }
        }
    }

    /// What the questions find.
    async fn check(&self) -> Health {
        let Some(asking) = self.asking() else { return Health::Answered };
        let health = asking.await;
        if health == Health::Answered {
            self.state.lock().unwrap_or_else(PoisonError::into_inner).answered_at = Some(Instant::now());
        }
        health
    }

    /// The questions that are being asked, or new ones; none while the last answer holds.
    fn asking(&self) -> Option<Shared<BoxFuture<'static, Health>>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.answered_at.is_some_and(|at| at.elapsed() < ANSWER_HOLDS) {
            return None;
        }
        let running =
            state.asking.as_ref().and_then(WeakShared::upgrade).filter(|asking| asking.peek().is_none());
        Some(running.unwrap_or_else(|| {
            let asking = ask(self.health.clone()).boxed().shared();
            state.asking = asking.downgrade();
            asking
        }))
    }
}

/// Asks until an answer comes. The next question is no earlier than the end of the last one's time: where that failed at once,
/// mcpd may be restarting.
async fn ask(check: HealthCheck) -> Health {
    let mut health = Health::Silent;
    for _ in 0..QUESTIONS {
        let until = tokio::time::Instant::now() + HealthCheck::TIMEOUT;
        health = check.ask().await;
        if health == Health::Answered {
            return health;
        }
        tokio::time::sleep_until(until).await;
    }
    health
}

/// Why mcpd counts as gone, in words; `None` while it is waited for.
fn gone(health: Health, refused_for: Option<Duration>) -> Option<String> {
    match health {
        Health::Answered => None,
        Health::Refused if refused_for.is_none_or(|refused_for| refused_for < REFUSAL_TIMEOUT) => None,
        Health::Refused => {
            Some(format!("it was silent, and refused connections for {} s", REFUSAL_TIMEOUT.as_secs()))
        }
        Health::Silent => Some(format!(
            "it was silent for {} s, and its `/healthz` did not answer within {} s, {QUESTIONS} times in a row",
            SILENCE_TIMEOUT.as_secs(),
            HealthCheck::TIMEOUT.as_secs(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mcpd_that_refuses_connections_is_gone_after_it_had_time_to_drain() {
        let just_before = REFUSAL_TIMEOUT - Duration::from_millis(1);
        assert_eq!(gone(Health::Refused, Some(just_before)), None);
        assert!(gone(Health::Refused, Some(REFUSAL_TIMEOUT)).is_some());
        assert_eq!(gone(Health::Answered, None), None);
        assert!(gone(Health::Silent, None).is_some());
    }
}
