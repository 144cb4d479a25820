//! The local requests of one caller for one Llm: they share the repeated probe, and end together.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use jiff::Timestamp;
use mcpctl_api::feed::FeedEnd;
use mcpctl_failover::{AccessVerdict, Bearer, Denial, LlmId, LlmRef};
use tokio::sync::{Notify, watch};

use super::{
    ended::AccessEnded,
    follower::{FeedView, jittered},
};

/// How often the whole probe is repeated, a fifth more or less.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
/// How soon it is repeated while mcpd does not decide.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);
/// How long requests go on after the last answer of mcpd's, by feed or by probe.
const CONFIRMATION_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a group without requests keeps its feed, so that a caller's next request finds it.
const LINGER: Duration = Duration::from_secs(30);
/// Longest wait until the expiry is compared with the clock again, which may be set meanwhile.
const MAX_EXPIRY_WAIT: Duration = Duration::from_secs(5);

/// Asks mcpd again, and takes note of denials.
pub trait AccessCheck: Send + Sync {
    /// Whether the caller may use the Llm now.
    fn check<'a>(
        &'a self,
        llm: &'a LlmRef,
        bearer: &'a Bearer,
        signed_in: bool,
    ) -> BoxFuture<'a, AccessVerdict>;

    /// Takes note of a denial that came by the feed.
    fn denied(&self, llm: &LlmRef, bearer: &Bearer, denial: &Denial);
}

/// A local request that was allowed.
pub struct RunningRequest {
    /// The Llm, as the caller named it.
    pub llm: LlmRef,
    /// The caller's own credential.
    pub bearer: Bearer,
    /// Whether the caller is the user who is signed in on this machine.
    pub signed_in: bool,
    /// The Llm's id, where the probe named it.
    pub llm_id: Option<LlmId>,
    /// When the probe was sent that allowed it.
    pub asked_at: Instant,
    /// When the lease ends, where one allowed it.
    pub lease_ends: Option<Instant>,
}

/// The watch over one local request; it ends when it is dropped.
pub struct AccessWatch {
    group: Arc<Group>,
    number: u64,
    ended: watch::Receiver<Option<AccessEnded>>,
}

impl AccessWatch {
    /// Takes the answer of a probe that was sent for this request again, and allowed it.
    pub fn renew(&self, asked_at: Instant, lease_ends: Option<Instant>) {
        let mut state = self.group.state();
        if lease_ends.is_none() {
            state.answered_at = state.answered_at.max(asked_at);
        }
        if let Some(member) = state.requests.get_mut(&self.number) {
            member.lease_ends = lease_ends;
        }
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
        self.group.state().requests.remove(&self.number);
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
    requests: HashMap<u64, Member>,
    next: u64,
    /// When the last probe was sent that mcpd answered.
    answered_at: Instant,
}

struct Member {
    llm_id: Option<LlmId>,
    asked_at: Instant,
    lease_ends: Option<Instant>,
    ended: watch::Sender<Option<AccessEnded>>,
}

impl Group {
    pub(super) fn of(request: &RunningRequest) -> Self {
        let state = State { requests: HashMap::new(), next: 0, answered_at: request.asked_at };
        Self {
            llm: request.llm.clone(),
            bearer: request.bearer.clone(),
            signed_in: request.signed_in,
            state: Mutex::new(state),
            changed: Notify::new(),
        }
    }

    pub(super) fn join(self: &Arc<Self>, request: RunningRequest) -> AccessWatch {
        let (sender, ended) = watch::channel(None);
        let RunningRequest { llm_id, asked_at, lease_ends, .. } = request;
        let number = {
            let mut state = self.state();
            let number = state.next;
            state.next = number.wrapping_add(1);
            if lease_ends.is_none() {
                // Its probe is as good as a repeated one.
                state.answered_at = state.answered_at.max(asked_at);
            }
            state.requests.insert(number, Member { llm_id, asked_at, lease_ends, ended: sender });
            number
        };
        self.changed.notify_one();
        AccessWatch { group: Arc::clone(self), number, ended }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.state().requests.is_empty()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// INVARIANT 8: where the check itself fails, no request goes on unchecked.
    pub(super) fn end_all(&self) {
        self.state().end(|_| true, AccessEnded::Unconfirmed);
    }

    /// Watches over the requests until `close` returns true, which it is asked to when there has been none for a while.
    pub(super) async fn run(
        self: Arc<Self>,
        check: impl Fn() -> Arc<dyn AccessCheck>,
        mut feed: Option<watch::Receiver<FeedView>>,
        close: impl Fn() -> bool,
    ) {
        let mut probing: Option<BoxFuture<'static, (Instant, AccessVerdict)>> = None;
        let mut probe_at = Instant::now() + jittered(PROBE_INTERVAL);
        let mut empty_since = None;
        let mut refusals = feed.as_ref().map_or(0, |feed| feed.borrow().refusals);
        loop {
            let now = Instant::now();
            let view = feed.as_mut().map(|feed| feed.borrow_and_update().clone()).unwrap_or_default();
            if view.refusals != refusals {
                refusals = view.refusals;
                probe_at = now;
            }
            let wake_at = {
                let mut state = self.state();
                let heard_at = state.shown(&view, &self.llm.asked);
                state.confirm(heard_at, now);
                state.expire(view.expires_at, Timestamp::now());
                state.wake_at(heard_at, view.expires_at, now)
            };
            let wake_at = match wake_at {
                Some(at) => {
                    empty_since = None;
                    at.min(if probing.is_some() { at } else { probe_at })
                }
                None => {
                    let since = *empty_since.get_or_insert(now);
                    if now >= since + LINGER && close() {
                        return;
                    }
                    since + LINGER
                }
            };
            let is_running = empty_since.is_none();
            if is_running && probing.is_none() && now >= probe_at {
                let (check, group) = (check(), Arc::clone(&self));
                probing = Some(Box::pin(async move {
                    let sent = Instant::now();
                    (sent, check.check(&group.llm, &group.bearer, group.signed_in).await)
                }));
            }
            tokio::select! {
                () = changed(&mut feed) => {}
                () = self.changed.notified() => {}
                (sent, verdict) = probed(&mut probing) => {
                    probing = None;
                    let interval = if matches!(verdict, AccessVerdict::Allowed(_)) { PROBE_INTERVAL } else { RETRY_INTERVAL };
                    probe_at = Instant::now() + jittered(interval);
                    self.state().answered(sent, &verdict, Instant::now());
                }
                () = tokio::time::sleep_until(wake_at.into()) => {}
            }
        }
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

impl State {
    fn end(&self, which: impl Fn(&Member) -> bool, why: AccessEnded) {
        for member in self.requests.values().filter(|member| which(member)) {
            member.ended.send_if_modified(|ended| {
                let is_first = ended.is_none();
                ended.get_or_insert(why);
                is_first
            });
        }
    }

    /// Ends what the feed takes away. Returns the latest moment for which the feed confirms the access of this group.
    fn shown(&mut self, view: &FeedView, asked: &str) -> Option<Instant> {
        let changed_at = view.changed_at?;
        // What was decided before the probe of a request says nothing about it.
        let is_newer = |member: &Member| changed_at >= member.asked_at;
        if let Some(ended) = view.ended {
            let why = match ended {
                FeedEnd::Revoked => AccessEnded::Revoked,
                FeedEnd::Expired => AccessEnded::Expired,
            };
            self.end(is_newer, why);
            return None;
        }
        let llm = view.llms.get(asked)?;
        let Some(id) = llm.id.as_ref().filter(|_| llm.allowed) else {
            self.end(is_newer, AccessEnded::Revoked);
            return None;
        };
        self.is_about(&LlmId::new(id.as_str()), is_newer);
        view.heard_at
    }

    /// The Llm has this id now: ends requests for another one that had its name.
    fn is_about(&mut self, id: &LlmId, which: impl Fn(&Member) -> bool) {
        self.end(
            |member| which(member) && member.llm_id.as_ref().is_some_and(|known| known != id),
            AccessEnded::Revoked,
        );
        for member in self.requests.values_mut().filter(|member| which(member)) {
            member.llm_id.get_or_insert_with(|| id.clone());
        }
    }

    /// Takes the answer of a probe that was sent at `sent`.
    fn answered(&mut self, sent: Instant, verdict: &AccessVerdict, now: Instant) {
        match verdict {
            AccessVerdict::Allowed(allowance) => {
                self.answered_at = self.answered_at.max(sent);
                if let Some(id) = &allowance.llm {
                    self.is_about(id, |member| member.asked_at <= sent);
                }
            }
            AccessVerdict::Leased { cover, .. } => {
                let ends = now.checked_add(cover.remaining);
                let covered =
                    |member: &&mut Member| member.llm_id.as_ref().is_none_or(|known| *known == cover.llm);
                for member in self.requests.values_mut().filter(covered) {
                    member.lease_ends = ends;
                }
            }
            // Those that began meanwhile have a later probe of their own.
            AccessVerdict::Forbidden { .. } => {
                self.end(|member| member.asked_at <= sent, AccessEnded::Revoked);
            }
            AccessVerdict::Unreachable(_) => {}
        }
    }

    /// Until when a request goes on without another answer of mcpd's.
    fn holds_until(&self, member: &Member, heard_at: Option<Instant>) -> Instant {
        let answered_at = heard_at.map_or(self.answered_at, |heard_at| heard_at.max(self.answered_at));
        let until = answered_at + CONFIRMATION_TIMEOUT;
        member.lease_ends.map_or(until, |ends| ends.max(until))
    }

    /// Ends requests whose access has not been confirmed in time.
    fn confirm(&self, heard_at: Option<Instant>, now: Instant) {
        self.end(|member| now >= self.holds_until(member, heard_at), AccessEnded::Unconfirmed);
    }

    /// Ends all requests where the credential has expired.
    fn expire(&self, expires_at: Option<Timestamp>, now: Timestamp) {
        if expires_at.is_some_and(|expires_at| now >= expires_at) {
            self.end(|_| true, AccessEnded::Expired);
        }
    }

    /// When the clocks have to be looked at again; `None` where there is no request.
    fn wake_at(
        &self,
        heard_at: Option<Instant>,
        expires_at: Option<Timestamp>,
        now: Instant,
    ) -> Option<Instant> {
        if self.requests.is_empty() {
            return None;
        }
        let longest = now + CONFIRMATION_TIMEOUT;
        let running = self.requests.values().filter(|member| member.ended.borrow().is_none());
        let Some(first) = running.map(|member| self.holds_until(member, heard_at)).min() else {
            return Some(longest);
        };
        let until_expiry = expires_at.map(|expires_at| {
            let until: Duration =
                expires_at.duration_since(Timestamp::now()).try_into().unwrap_or(Duration::ZERO);
            now + until.min(MAX_EXPIRY_WAIT)
        });
        Some(first.min(until_expiry.unwrap_or(longest)).max(now))
    }
}
