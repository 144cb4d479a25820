//! Probes ahead, so that there are leases when the central path breaks: for the signed-in user, each Llm of `failoverFor`, where
//! mcpd's keys are pinned. A lease is renewed when half of its grace is over; an Llm without `offlineGrace` is asked about again
//! after some minutes. Drops the leases of users who are signed in no longer.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use mcpctl_client::{PinnedKeys, ProofKeys as _};
use mcpctl_failover::{AccessVerdict, Bearer, LeaseBook, LlmRef};

use crate::app::{App, Runtime};

/// How often the signed-in user is looked up.
const TICK: Duration = Duration::from_secs(2);
/// How long until an Llm without a lease is asked about again.
const UNLEASED_INTERVAL: Duration = Duration::from_secs(300);
/// How long until mcpd is asked again that did not decide.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);
/// The shortest time between two probes of one Llm.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// When each name is asked about next.
type Schedule = HashMap<String, Instant>;

/// Keeps leases for the signed-in user as long as the agent runs.
pub async fn keep(app: Arc<App>) {
    let (mut schedule, mut asked_for) = (Schedule::new(), None);
    loop {
        let runtime = app.runtime.load_full();
        let bearer = app.identity.signed_in_bearer(&runtime.config.server);
        let digest = bearer.as_ref().map(Bearer::digest);
        app.probing.leases.keep_signed_in(digest.as_ref());
        let now_for = Some((digest, runtime.config.server.clone()));
        if asked_for != now_for {
            schedule.clear();
            asked_for = now_for;
        }
        let is_pinned = matches!(runtime.keys.pinned(), PinnedKeys::Keys(_));
        if let Some(bearer) = bearer.filter(|_| is_pinned) {
            probe_due(&app, &runtime, &bearer, &mut schedule).await;
        }
        drop(runtime);
        tokio::time::sleep(TICK).await;
    }
}

/// Asks about the names whose time has come, one after the other: mcpd has more to do.
async fn probe_due(app: &App, runtime: &Runtime, bearer: &Bearer, schedule: &mut Schedule) {
    schedule.retain(|name, _| runtime.registry.failover_for(name).is_some());
    for (name, _) in runtime.registry.failovers() {
        if schedule.get(name).is_some_and(|due| Instant::now() < *due) {
            continue;
        }
        let llm = LlmRef::named(name);
        let verdict = runtime.router.check_access(&llm, bearer, true).await;
        app.metrics.probe(verdict.access().as_str());
        let wait = until_next(&verdict, &app.probing.leases, bearer, &llm);
        schedule.insert(name.to_owned(), Instant::now() + wait);
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
