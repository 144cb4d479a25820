//! The local requests that run, by caller and Llm, and the feeds that they hang from.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mcpctl_api::feed::MAX_FEED_LLMS;
use mcpctl_client::FeedClient;
use mcpctl_failover::{AccessEnded, Bearer, BearerDigest};
use tokio::sync::watch;

use super::{
    follower::{FeedView, Follower, OnDenial},
    group::{AccessCheck, AccessWatch, Group, RunningRequest},
    hints::DenialHints,
};

/// Feeds of bearers other than the signed-in user's. Requests of more bearers are checked by probes alone.
const MAX_FEEDS: usize = 64;

/// The watches over the local requests of one mcpd's callers.
pub struct AccessWatches(Arc<Shared>);

struct Shared {
    feeds: FeedClient,
    check: Mutex<Arc<dyn AccessCheck>>,
    hints: Arc<DenialHints>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    groups: HashMap<GroupKey, Arc<Group>>,
    followers: HashMap<BearerDigest, Followed>,
    /// Whether the mcpd is the agent's no longer.
    is_closed: bool,
}

/// A caller, and the Llm as the caller named it.
type GroupKey = (BearerDigest, String);

/// A bearer whose feed is followed.
struct Followed {
    follower: Follower,
    /// Llms that the feed is about while the user is signed in.
    signed_in: BTreeSet<String>,
    /// Llms that requests run for.
    running: BTreeMap<String, usize>,
}

impl Followed {
    fn wanted(&self) -> BTreeSet<String> {
        let running = self.running.keys().filter(|llm| !self.signed_in.contains(*llm));
        self.signed_in.iter().chain(running).take(MAX_FEED_LLMS).cloned().collect()
    }

    fn is_needed(&self) -> bool {
        !self.signed_in.is_empty() || !self.running.is_empty()
    }
}

impl AccessWatches {
    /// Watches that follow these feeds, and ask mcpd again through `check`. What a feed denies to the signed-in user goes to
    /// `hints` where no request runs that asks by itself.
    pub fn new(feeds: FeedClient, check: Arc<dyn AccessCheck>, hints: Arc<DenialHints>) -> Self {
        Self(Arc::new(Shared { feeds, check: Mutex::new(check), hints, state: Mutex::default() }))
    }

    /// Ends all requests, and those that begin later: the mcpd that allowed them is not the agent's any more, or proves who it is
    /// by another key.
    pub fn close(&self) {
        let mut state = self.0.state();
        state.is_closed = true;
        state.followers.clear();
        state.groups.values().for_each(|group| group.end_all(AccessEnded::Reconfigured));
    }

    /// Asks mcpd through `check` from now on.
    pub fn ask_through(&self, check: Arc<dyn AccessCheck>) {
        *self.0.check.lock().unwrap_or_else(PoisonError::into_inner) = check;
    }

    /// Watches over a local request that was allowed a moment ago.
    pub fn watch(&self, request: RunningRequest) -> AccessWatch {
        let key = (request.bearer.digest(), request.llm.asked.clone());
        let mut state = self.0.state();
        let known = state.groups.get(&key).map(Arc::clone);
        // It joins while the groups are locked, so that no group closes at this moment.
        let group = known.unwrap_or_else(|| self.0.begin(&mut state, key, &request));
        let watch = group.join(request);
        if state.is_closed {
            group.end_all(AccessEnded::Reconfigured);
        }
        watch
    }

    /// Follows the feed of the user who is signed in, about these Llms; none where no user is.
    pub fn follow_signed_in(&self, user: Option<(&Bearer, BTreeSet<String>)>) {
        let digest = user.as_ref().map(|(bearer, _)| bearer.digest());
        let mut state = self.0.state();
        state.followers.retain(|bearer, followed| {
            if Some(bearer) != digest.as_ref() && !followed.signed_in.is_empty() {
                followed.signed_in.clear();
                followed.follower.want(followed.wanted());
            }
            followed.is_needed()
        });
        let (Some((bearer, llms)), Some(digest), false) = (user, digest, state.is_closed) else { return };
        let followed = state.followers.entry(digest).or_insert_with(|| self.0.follow(bearer));
        followed.signed_in = llms;
        followed.follower.want(followed.wanted());
        state.followers.retain(|_, followed| followed.is_needed());
    }

    /// What the feed of the signed-in user shows, where one is followed, and the number of all feeds that are.
    pub fn feeds(&self) -> (Option<FeedView>, usize) {
        let state = self.0.state();
        let signed_in = state.followers.values().find(|followed| !followed.signed_in.is_empty());
        let view = signed_in.map(|followed| followed.follower.view().borrow().clone());
        (view, state.followers.len())
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self) -> Arc<dyn AccessCheck> {
        Arc::clone(&self.check.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn begin(self: &Arc<Self>, state: &mut State, key: GroupKey, request: &RunningRequest) -> Arc<Group> {
        let feed = self.feed_about(state, &key, &request.bearer);
        let group = Arc::new(Group::of(request));
        state.groups.insert(key.clone(), Arc::clone(&group));
        let (shared, running) = (Arc::clone(self), Arc::clone(&group));
        let check = {
            let shared = Arc::clone(self);
            move || shared.check()
        };
        let close = {
            let (shared, key) = (Arc::clone(self), key.clone());
            move || shared.close(&key)
        };
        tokio::spawn(async move {
            let watching = tokio::spawn(Arc::clone(&running).run(check, feed, close));
            if let Err(error) = watching.await {
                tracing::error!(%error, "the watch over local requests failed: they are ended");
                let mut state = shared.state();
                state.groups.remove(&key);
                state.left(&key);
                // INVARIANT 8: where the watch itself fails, no request goes on unwatched.
                running.end_all(AccessEnded::Unconfirmed);
            }
        });
        group
    }

    fn feed_about(
        self: &Arc<Self>,
        state: &mut State,
        (digest, llm): &GroupKey,
        bearer: &Bearer,
    ) -> Option<watch::Receiver<FeedView>> {
        if state.is_closed {
            return None;
        }
        let others = state.followers.values().filter(|followed| followed.signed_in.is_empty()).count();
        if others >= MAX_FEEDS && !state.followers.contains_key(digest) {
            return None;
        }
        let followed = state.followers.entry(digest.clone()).or_insert_with(|| self.follow(bearer));
        *followed.running.entry(llm.clone()).or_default() += 1;
        followed.follower.want(followed.wanted());
        Some(followed.follower.view())
    }

    fn follow(self: &Arc<Self>, bearer: &Bearer) -> Followed {
        let (shared, digest) = (Arc::downgrade(self), bearer.digest());
        let on_denial: OnDenial = Box::new(move |llms| {
            if let Some(shared) = shared.upgrade() {
                let unwatched = shared.state().unwatched(&digest, llms);
                shared.hints.add(unwatched);
            }
        });
        let follower = Follower::start(self.feeds.clone(), bearer.clone(), BTreeSet::new(), on_denial);
        Followed { follower, signed_in: BTreeSet::new(), running: BTreeMap::new() }
    }

    /// Closes a group that has no requests.
    fn close(&self, key: &GroupKey) -> bool {
        let mut state = self.state();
        if !state.groups.get(key).is_none_or(|group| group.is_empty()) {
            return false;
        }
        state.groups.remove(key);
        state.left(key);
        true
    }
}

impl State {
    /// Those of a signed-in user's Llms for which no request runs that would ask mcpd by itself.
    fn unwatched(&self, digest: &BearerDigest, mut llms: BTreeSet<String>) -> BTreeSet<String> {
        let Some(followed) = self.followers.get(digest) else { return BTreeSet::new() };
        llms.retain(|llm| followed.signed_in.contains(llm) && !followed.running.contains_key(llm));
        llms
    }

    /// No request runs for this caller and Llm any more.
    fn left(&mut self, (digest, llm): &GroupKey) {
        let Some(followed) = self.followers.get_mut(digest) else { return };
        match followed.running.get_mut(llm) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(followed.running.remove(llm)),
        }
        followed.follower.want(followed.wanted());
        if !followed.is_needed() {
            self.followers.remove(digest);
        }
    }
}
