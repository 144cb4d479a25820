//! A silent mcpd is questioned: is it slow, or gone? A model may think for minutes and mcpd sends nothing meanwhile, so silence
//! alone proves nothing; its `/healthz`, on a new connection, decides.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared},
};
use mcpctl_client::HealthCheck;
use mcpctl_failover::FailureClass;
use mcpctl_upstream::{Failure, Progress};

/// How long mcpd may be silent before it is questioned, and between two questions.
pub const SILENCE_TIMEOUT: Duration = Duration::from_secs(5);
/// How many questions in a row stay unanswered before mcpd counts as gone.
const QUESTIONS: u32 = 2;
/// How long an answer holds for other requests, so that many that wait do not become a flood.
const ANSWER_HOLDS: Duration = Duration::from_secs(1);

/// The health check of one mcpd, shared by all requests that wait for it: one question at a time.
pub struct SilenceCheck {
    health: HealthCheck,
    state: Mutex<CheckState>,
}

#[derive(Default)]
struct CheckState {
    /// The questions that requests wait for; ends with the last of them.
    asking: Option<WeakShared<BoxFuture<'static, bool>>>,
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
        let mut heard = progress.last();
        loop {
            tokio::time::sleep_until((heard + SILENCE_TIMEOUT).into()).await;
            if progress.last() > heard {
                heard = progress.last();
            } else if self.is_answered().await || progress.last() > heard {
                heard = Instant::now();
            } else {
                let detail = format!(
                    "it was silent for {} s, and its `/healthz` did not answer within {} s, {QUESTIONS} times in a row",
                    SILENCE_TIMEOUT.as_secs(),
                    HealthCheck::TIMEOUT.as_secs(),
                );
                return Failure::new(FailureClass::NoResponse, detail);
            }
        }
    }

    /// Whether mcpd answers one of the questions.
    async fn is_answered(&self) -> bool {
        let Some(asking) = self.asking() else { return true };
        let answered = asking.await;
        if answered {
            self.state.lock().unwrap_or_else(PoisonError::into_inner).answered_at = Some(Instant::now());
        }
        answered
    }

    /// The questions that are being asked, or new ones; none while the last answer holds.
    fn asking(&self) -> Option<Shared<BoxFuture<'static, bool>>> {
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
async fn ask(health: HealthCheck) -> bool {
    for _ in 0..QUESTIONS {
        let until = tokio::time::Instant::now() + HealthCheck::TIMEOUT;
        if health.is_answered().await {
            return true;
        }
        tokio::time::sleep_until(until).await;
    }
    false
}
