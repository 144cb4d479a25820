//! Probes ahead, so that there are leases when the central path breaks: for the signed-in user, each Llm of `failoverFor`, where
//! mcpd's keys are pinned. A lease is renewed when half of its grace is over; an Llm without `offlineGrace` is asked about again
//! after some minutes, and one that the feed denies at once.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use mcpctl_client::{PinnedKeys, ProofKeys as _};
use mcpctl_failover::{AccessVerdict, Bearer, LeaseBook, LlmRef};
use tokio::sync::watch;

use super::signed_in::SignedIn;
use crate::app::App;

/// How often it is looked which probes are due.
const TICK: Duration = Duration::from_secs(2);
/// How long until an Llm without a lease is asked about again.
const UNLEASED_INTERVAL: Duration = Duration::from_secs(300);
/// How long until mcpd is asked again that did not decide.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);
/// The shortest time between two probes of one Llm.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// When each name was asked about, and is next.
type Schedule = HashMap<String, Scheduled>;

struct Scheduled {
    asked: Instant,
    due: Instant,
}

/// Keeps leases for the signed-in user as long as the agent runs.
pub async fn keep(app: Arc<App>, mut signed_in: watch::Receiver<Option<SignedIn>>) {
    let mut schedule = Schedule::new();
    let mut asked_for = None;
    loop {
        let user = signed_in.borrow_and_update().clone();
        let now_for = user.as_ref().map(|user| (user.bearer.digest(), user.runtime.config.server.clone()));
        if asked_for != now_for {
            schedule.clear();
            asked_for = now_for;
        }
        for llm in app.probing.hints.take() {
            if let Some(scheduled) = schedule.get_mut(&llm) {
                scheduled.due = scheduled.due.min(scheduled.asked + MIN_INTERVAL);
            }
        }
        if let Some(user) = user
            && matches!(user.runtime.keys.pinned().await, PinnedKeys::Keys(_))
        {
            probe_due(&app, &user, &signed_in, &mut schedule).await;
        }
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            () = app.probing.hints.added() => {}
            changed = signed_in.changed() => if changed.is_err() { return },
        }
    }
}

/// Asks about the names whose time has come, one after the other, because mcpd has more to do, and as long as this user is the
/// one who is signed in.
async fn probe_due(
    app: &App,
    user: &SignedIn,
    signed_in: &watch::Receiver<Option<SignedIn>>,
    schedule: &mut Schedule,
) {
    let SignedIn { bearer, runtime } = user;
    schedule.retain(|name, _| runtime.registry.failover_for(name).is_some());
    for (name, _) in runtime.registry.failovers() {
        let asked = Instant::now();
        if schedule.get(name).is_some_and(|scheduled| asked < scheduled.due) {
            continue;
        }
        if signed_in.has_changed().unwrap_or(true) {
            return;
        }
        let llm = LlmRef::named(name);
        let verdict = runtime.router.check_access(&llm, bearer, true).await;
        app.metrics.probe(verdict.access().as_str());
        let wait = until_next(&verdict, &runtime.leases, bearer, &llm);
        schedule.insert(name.to_owned(), Scheduled { asked, due: Instant::now() + wait });
    }
}

fn until_next(verdict: &AccessVerdict, leases: &LeaseBook, bearer: &Bearer, llm: &LlmRef) -> Duration {
    let lease = || leases.cover(&bearer.digest(), llm);
    let wait = match verdict {
        AccessVerdict::Allowed(_) => lease().map_or(UNLEASED_INTERVAL, |lease| lease.remaining / 2),
        AccessVerdict::Forbidden { .. } => UNLEASED_INTERVAL,
        AccessVerdict::Leased { .. } | AccessVerdict::Unreachable(_) => RETRY_INTERVAL,
    };
    // Agents that were started together ask at different times.
    let jitter = f64::from(rand::random_range(0..250_u32)) / 1000.0;
    wait.mul_f64(1.0 - jitter).max(MIN_INTERVAL)
}
