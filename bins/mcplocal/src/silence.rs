//! A silent mcpd is questioned: is it slow, or gone? A model may think for minutes and mcpd sends nothing meanwhile, so silence
//! alone proves nothing; its `/healthz`, on a new connection, decides. One that accepts no connections may be ending: it then still
//! answers what it has, on the connections that are left, and those break if it is gone.

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

/// How long a request waits for an mcpd that accepts no connections: as long as an mcpd that ends answers its last requests.
const LAST_ANSWERS: Duration = Duration::from_secs(30);

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
            tokio::time::sleep_until((heard + SILENCE_TIMEOUT).into()).await;
            let health = if progress.last() > heard { Health::Answered } else { self.asked().await };
            refused_since = (health == Health::Refused).then(|| refused_since.unwrap_or_else(Instant::now));
            if progress.last() > heard {
                heard = progress.last();
                continue;
            }
            let detail = match (health, refused_since) {
                (Health::Answered, _) => None,
                (Health::Refused, Some(since)) if since.elapsed() < LAST_ANSWERS => None,
                (Health::Refused, _) => Some(format!(
                    "it was silent, and accepted no connections for {} s",
                    LAST_ANSWERS.as_secs()
                )),
                (Health::Silent, _) => Some(format!(
                    "it was silent for {} s, and its `/healthz` did not answer within {} s, {QUESTIONS} times in a row",
                    SILENCE_TIMEOUT.as_secs(),
                    HealthCheck::TIMEOUT.as_secs(),
                )),
            };
            if let Some(detail) = detail {
                return Failure::new(FailureClass::NoResponse, detail);
            }
            heard = Instant::now();
        }
    }

    /// What mcpd answers to the questions.
    async fn asked(&self) -> Health {
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
    if health == Health::Refused {
        tracing::info!("mcpd accepts no connections; requests that it has are waited for");
    }
    health
}
