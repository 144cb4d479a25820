//! The local requests of one caller for one Llm: they share the repeated probe, and end together.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use jiff::Timestamp;
use mcpctl_failover::{
    AccessEnded, AccessVerdict, Allowance, Bearer, LlmId, LlmRef, RunningRequests,
    lease::{LeaseCover, LeaseTime},
    machine::AccessGrant,
};
use tokio::sync::{Notify, watch};

use super::follower::{FeedView, jittered};

/// How long a group without requests keeps its feed, so that a caller's next request finds it.
const LINGER: Duration = Duration::from_secs(30);
/// How far the clock of the boot is ahead of the other one at least where the machine was suspended.
const MIN_SUSPENSION: Duration = Duration::from_secs(1);

/// Asks mcpd again, and knows the leases.
pub trait AccessCheck: Send + Sync {
    /// Whether the caller may use the Llm now.
    fn check<'a>(
        &'a self,
        llm: &'a LlmRef,
        bearer: &'a Bearer,
        signed_in: bool,
    ) -> BoxFuture<'a, AccessVerdict>;

    /// The lease that covers the caller and the Llm now.
    fn lease(&self, llm: &LlmRef, bearer: &Bearer) -> Option<LeaseCover>;

    /// The clocks of leases, which run while the machine is suspended.
    fn lease_time(&self) -> Option<LeaseTime>;
}

/// A local request that was allowed.
pub struct RunningRequest {
    /// The Llm, as the caller named it.
    pub llm: LlmRef,
    /// The caller's own credential.
    pub bearer: Bearer,
    /// Whether the caller is the user who is signed in on this machine.
    pub signed_in: bool,
    /// The Llm's id, where the probe or the lease named it.
    pub llm_id: Option<LlmId>,
    /// When the probe was sent.
    pub asked_at: Instant,
    /// What it allowed; `None` where a lease covers the request.
    pub allowance: Option<Allowance>,
}

/// The watch over one local request; it ends when it is dropped.
pub struct AccessWatch {
    group: Arc<Group>,
    number: u64,
    ended: watch::Receiver<Option<AccessEnded>>,
}

impl AccessWatch {
    /// The request begins to run, by what its last probe, sent at `asked_at`, or a lease granted.
    pub fn renew(&self, asked_at: Instant, grant: &AccessGrant) {
        self.group.act(|running| running.begin(self.number, grant.llm_id(), asked_at, grant.allowance()));
        self.group.changed.notify_one();
    }

    /// Why the request has ended, if it has.
    pub fn has_ended(&self) -> Option<AccessEnded> {
        *self.ended.borrow()
    }

    /// Waits until access ends; `None` where the request ends before.
    pub fn ended(&self) -> impl Future<Output = Option<AccessEnded>> + Send + use<> {
        let mut ended = self.ended.clone();
        async move { ended.wait_for(Option::is_some).await.ok().and_then(|ended| *ended) }
    }
}

impl Drop for AccessWatch {
    fn drop(&mut self) {
        self.group.leave(self.number);
        self.group.changed.notify_one();
    }
}

/// The local requests of one caller for one Llm.
pub(super) struct Group {
    llm: LlmRef,
    bearer: Bearer,
    signed_in: bool,
    state: Mutex<State>,
    /// A request has joined or left.
    changed: Notify,
}

struct State {
    running: RunningRequests,
    /// Where the end of each request shows.
    ends: HashMap<u64, watch::Sender<Option<AccessEnded>>>,
}

/// What is to be done after a look at the requests.
struct Look {
    wake_at: Option<Instant>,
    is_probe_due: bool,
    is_empty: bool,
}

impl Group {
    pub(super) fn of(request: &RunningRequest) -> Self {
        Self {
            llm: request.llm.clone(),
            bearer: request.bearer.clone(),
            signed_in: request.signed_in,
            state: Mutex::new(State { running: RunningRequests::new(Instant::now()), ends: HashMap::new() }),
            changed: Notify::new(),
        }
    }

    pub(super) fn join(self: &Arc<Self>, request: RunningRequest) -> AccessWatch {
        let RunningRequest { llm_id, asked_at, allowance, .. } = request;
        let (sender, ended) = watch::channel(None);
        let number = {
            let mut state = self.state();
            let number = state.running.join(llm_id, asked_at, allowance.as_ref());
            state.ends.insert(number, sender);
            state.show_ends();
            number
        };
        self.changed.notify_one();
        AccessWatch { group: Arc::clone(self), number, ended }
    }

    fn leave(&self, number: u64) {
        let mut state = self.state();
        state.running.leave(number);
        state.ends.remove(&number);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.state().running.is_empty()
    }

    /// Ends all its requests.
    pub(super) fn end_all(&self, why: AccessEnded) {
        self.act(|running| running.end_all(why));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does this with the requests, and shows which have ended by it.
    fn act<T>(&self, act: impl FnOnce(&mut RunningRequests) -> T) -> T {
        let mut state = self.state();
        let done = act(&mut state.running);
        state.show_ends();
        done
    }

    /// Looks at the feed, the lease and the clocks.
    fn look(
        &self,
        check: &dyn AccessCheck,
        view: &FeedView,
        suspended: Option<Duration>,
        is_probing: bool,
        now: Instant,
    ) -> Look {
        let reading = view.reading(&self.llm.asked, Timestamp::now());
        self.act(|running| {
            if let Some(slept) = suspended {
                running.slept(slept, now);
            }
            running.observe(reading.as_ref());
            // The book itself, each time: a lease may have been destroyed, or ended by a clock that this one does not see.
            let lease = if running.has_running() { check.lease(&self.llm, &self.bearer) } else { None };
            running.check(lease.as_ref(), now);
            let is_probe_due = !is_probing && running.probe_due().is_some_and(|due| now >= due);
            if is_probe_due {
                running.probe_sent(now);
            }
            let wake_at = running.wake_at(is_probing || is_probe_due, now);
            Look { wake_at, is_probe_due, is_empty: running.is_empty() }
        })
    }

    /// Watches over the requests until `close` returns true, which it is asked to when there has been none for a while.
    pub(super) async fn run(
        self: Arc<Self>,
        check: impl Fn() -> Arc<dyn AccessCheck>,
        mut feed: Option<watch::Receiver<FeedView>>,
        close: impl Fn() -> bool,
    ) {
        let mut probing: Option<BoxFuture<'static, (Instant, AccessVerdict)>> = None;
        let (mut empty_since, mut awake) = (None, AwakeClock::default());
        let mut refusals = feed.as_ref().map_or(0, |feed| feed.borrow().refusals);
        loop {
            let (now, check) = (Instant::now(), check());
            let view = feed.as_mut().map(|feed| feed.borrow_and_update().clone()).unwrap_or_default();
            if view.refusals != refusals {
                refusals = view.refusals;
                self.act(|running| running.refused(now));
            }
            let suspended = awake.suspended(check.lease_time(), now);
            let look = self.look(&*check, &view, suspended, probing.is_some(), now);
            if look.is_probe_due {
                let group = Arc::clone(&self);
                probing = Some(Box::pin(async move {
                    let sent = Instant::now();
                    (sent, check.check(&group.llm, &group.bearer, group.signed_in).await)
                }));
            }
            let lingers_until = look.is_empty.then(|| *empty_since.get_or_insert(now) + LINGER);
            match lingers_until {
                Some(until) if now >= until && close() => return,
                Some(_) => {}
                None => empty_since = None,
            }
            let wake_at = [look.wake_at, lingers_until].into_iter().flatten().min().unwrap_or(now + LINGER);
            tokio::select! {
                () = changed(&mut feed) => {}
                () = self.changed.notified() => {}
                (sent, verdict) = probed(&mut probing) => {
                    probing = None;
                    self.act(|running| running.answered(sent, &verdict, Instant::now(), jittered));
                }
                () = tokio::time::sleep_until(wake_at.into()) => {}
            }
        }
    }
}

impl State {
    /// Shows the ends that are new.
    fn show_ends(&self) {
        for (number, why) in self.running.ended() {
            let Some(end) = self.ends.get(&number) else { continue };
            end.send_if_modified(|shown| shown.replace(why).is_none());
        }
    }
}

/// Notices that the machine was suspended: the clock of the boot has run on, the other one has not.
#[derive(Default)]
struct AwakeClock(Option<(Duration, Instant)>);

impl AwakeClock {
    /// For how long the machine was suspended since the last look.
    fn suspended(&mut self, time: Option<LeaseTime>, now: Instant) -> Option<Duration> {
        let boot = time?.boot;
        let (boot_before, before) = self.0.replace((boot, now))?;
        let ahead = boot.checked_sub(boot_before)?.checked_sub(now.saturating_duration_since(before))?;
        (ahead >= MIN_SUSPENSION).then_some(ahead)
    }
}

async fn changed(feed: &mut Option<watch::Receiver<FeedView>>) {
    let is_gone = match feed {
        Some(feed) => feed.changed().await.is_err(),
        None => std::future::pending().await,
    };
    if is_gone {
        *feed = None;
    }
}

async fn probed(
    probing: &mut Option<BoxFuture<'static, (Instant, AccessVerdict)>>,
) -> (Instant, AccessVerdict) {
    match probing {
        Some(probing) => probing.await,
        None => std::future::pending().await,
    }
}
