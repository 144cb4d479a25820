//! The feeds of this process: what each agent's caller may do, decided again in each snapshot.
//!
//! All feeds hang from the process's one follower of the store. A snapshot in which no decision can be another one costs
//! nothing, and every other one is decided in batches, between which the rest of the process runs. Only those feeds wake in
//! which something changed. What a feed shows is the latest state and never a list of changes, so that a reader who does not
//! read costs no memory.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use mcpctl_access::{Principal, Rejected, Snapshot};
use mcpctl_api::{
    Id, Revision,
    feed::{FeedEnd, FeedLlm},
};
use mcpctl_secret::token::TokenHash;
use mcpctl_store::Replica;
use tokio::sync::watch;

use crate::{
    clock,
    watchers::{TooManyWatches, WatchPermit, Watchers},
};

/// Feeds that are decided before other tasks of the process get their turn.
const BATCH: usize = 64;
/// The time that deciding all feeds takes is followed by this many times as long a pause, so that it takes at most a fifth of a
/// core however many changes there are.
const PAUSE_FACTOR: u32 = 4;
/// Longest pause.
const MAX_PAUSE: Duration = Duration::from_millis(200);
/// Before the follower starts again after a failure.
const RESTART_INTERVAL: Duration = Duration::from_millis(250);

/// The open feeds.
pub struct Feeds(Arc<Shared>);

struct Shared {
    replica: Arc<Replica>,
    permits: Watchers,
    open: Mutex<Open>,
    /// The revision up to which every feed is decided.
    decided: AtomicU64,
}

#[derive(Default)]
struct Open {
    feeds: HashMap<u64, Arc<Entry>>,
    next: u64,
}

struct Entry {
    bearer: TokenHash,
    asked: Box<[Box<str>]>,
    state: watch::Sender<State>,
}

/// What a feed shows.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    revision: Revision,
    /// Why it ends.
    ended: Option<FeedEnd>,
    expires_at: Timestamp,
    /// The ids of those that are allowed, in the order in which they were asked for.
    allowed: Box<[Option<Id>]>,
}

/// One open feed; it is closed when it is dropped.
pub struct Feed {
    shared: Arc<Shared>,
    number: u64,
    entry: Arc<Entry>,
    news: watch::Receiver<State>,
    _permit: WatchPermit,
}

/// What a feed shows now.
#[derive(Debug, Clone, PartialEq)]
pub struct Decided {
    /// Why the credential is not valid any more, where it is not.
    pub ended: Option<FeedEnd>,
    /// The revision that it was decided in.
    pub revision: Revision,
    /// When the credential expires.
    pub expires_at: Timestamp,
    /// Each Llm.
    pub llms: BTreeMap<String, FeedLlm>,
}

impl Feeds {
    /// Starts to decide the feeds that will be opened.
    pub fn start(replica: &Arc<Replica>, permits: Watchers) -> Self {
        let shared = Shared {
            replica: Arc::clone(replica),
            permits,
            open: Mutex::default(),
            decided: AtomicU64::new(0),
        };
        let shared = Arc::new(shared);
        tokio::spawn(keep_following(Arc::clone(&shared)));
        Self(shared)
    }

    /// Opens a feed of a principal about these Llms, which begins with this snapshot.
    ///
    /// # Errors
    /// When the caller, or all together, have as many feeds as they may.
    pub fn open(
        &self,
        principal: &Principal,
        bearer: TokenHash,
        snapshot: &Snapshot,
        asked: BTreeSet<String>,
    ) -> Result<Feed, TooManyWatches> {
        let permit = self.0.permits.admit(&principal.id)?;
        let asked: Box<[Box<str>]> = asked.into_iter().map(String::into_boxed_str).collect();
        let state = decide(snapshot, bearer, &asked);
        let entry = Arc::new(Entry { bearer, asked, state: watch::Sender::new(state) });
        let news = entry.state.subscribe();
        let number = self.0.insert(&entry);
        // After it is among those that are open, so that each later snapshot finds it.
        entry.check(&self.0.replica);
        Ok(Feed { shared: Arc::clone(&self.0), number, entry, news, _permit: permit })
    }

    /// The number of open feeds.
    pub fn count(&self) -> usize {
        self.0.open().feeds.len()
    }
}

impl Feed {
    /// What it shows now; [`Feed::changed`] waits for something else.
    pub fn decided(&mut self) -> Decided {
        let state = self.news.borrow_and_update();
        let asked = self.entry.asked.iter().map(|asked| String::from(&**asked));
        let llms = state.allowed.iter().map(|id| FeedLlm { id: id.clone(), allowed: id.is_some() });
        Decided {
            ended: state.ended,
            revision: state.revision,
            expires_at: state.expires_at,
            llms: asked.zip(llms).collect(),
        }
    }

    /// Waits until it shows something else than [`Feed::decided`] returned.
    ///
    /// # Errors
    /// Never, while the feed is open.
    pub async fn changed(&mut self) -> Result<(), watch::error::RecvError> {
        self.news.changed().await
    }

    /// When the credential expires.
    pub fn expires_at(&self) -> Timestamp {
        self.news.borrow().expires_at
    }

    /// The revision up to which [`Feed::decided`] returned what holds; `None` while there is something newer to return.
    pub fn shown_up_to(&self) -> Option<Revision> {
        // Before the state is read, so that whatever all feeds show at that revision is in it.
        let all = Revision(self.shared.decided.load(Ordering::Acquire));
        let state = self.news.borrow();
        (!state.has_changed()).then(|| state.revision.max(all))
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.shared.open().feeds.remove(&self.number);
    }
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert(&self, entry: &Arc<Entry>) -> u64 {
        let mut open = self.open();
        let number = open.next;
        open.next = number.wrapping_add(1);
        open.feeds.insert(number, Arc::clone(entry));
        number
    }

    fn feeds(&self) -> Vec<Arc<Entry>> {
        self.open().feeds.values().cloned().collect()
    }

    /// Decides every feed in the latest snapshot.
    async fn check(&self) {
        for batch in self.feeds().chunks(BATCH) {
            batch.iter().for_each(|feed| feed.check(&self.replica));
            tokio::task::yield_now().await;
        }
    }
}

impl Entry {
    /// Decides it in the latest snapshot.
    fn check(&self, replica: &Replica) {
        self.state.send_if_modified(|state| {
            // A credential that was revoked is not valid again for this feed.
            if state.ended.is_some() {
                return false;
            }
            // The snapshot is taken while the state is held, so that none replaces what a newer one decided.
            let decided = decide(&replica.latest(), self.bearer, &self.asked);
            let is_new = (state.ended, state.expires_at, &state.allowed)
                != (decided.ended, decided.expires_at, &decided.allowed);
            *state = decided;
            is_new
        });
    }

    fn end(&self) {
        self.state.send_if_modified(|state| state.ended.replace(FeedEnd::Revoked).is_none());
    }
}

fn decide(snapshot: &Snapshot, bearer: TokenHash, asked: &[Box<str>]) -> State {
    let revision = snapshot.revision();
    let ended = |why| State {
        revision,
        ended: Some(why),
        expires_at: Timestamp::UNIX_EPOCH,
        allowed: asked.iter().map(|_| None).collect(),
    };
    match snapshot.authenticate(bearer.as_bytes(), clock::now()) {
        Err(Rejected::Expired) => ended(FeedEnd::Expired),
        Err(_) => ended(FeedEnd::Revoked),
        Ok(principal) => {
            // The function that decides probes, so that a feed never shows something else.
            let allowed = |llm: &str| {
                let decision = snapshot.failover_decision(&principal, llm);
                decision.llm.filter(|_| decision.reason.allows())
            };
            let allowed = asked.iter().map(|llm| allowed(llm)).collect();
            State { revision, ended: None, expires_at: principal.expires_at, allowed }
        }
    }
}

/// INVARIANT 8: where deciding itself fails, no feed shows what may not hold any more.
async fn keep_following(feeds: Arc<Shared>) {
    loop {
        let following = tokio::spawn(follow(Arc::clone(&feeds)));
        if let Err(error) = following.await {
            tracing::error!(%error, "the feeds could not be decided: they are ended");
        }
        feeds.feeds().iter().for_each(|feed| feed.end());
        tokio::time::sleep(RESTART_INTERVAL).await;
    }
}

async fn follow(feeds: Arc<Shared>) {
    let mut snapshots = feeds.replica.subscribe();
    // What was published before this began is decided too.
    snapshots.mark_changed();
    let mut decided_in = None;
    while snapshots.changed().await.is_ok() {
        let (revision, decisions) = {
            let snapshot = snapshots.borrow_and_update();
            (snapshot.revision(), snapshot.decisions().clone())
        };
        let began = Instant::now();
        let is_needed = decided_in.as_ref() != Some(&decisions);
        if is_needed {
            feeds.check().await;
            decided_in = Some(decisions);
        }
        feeds.decided.store(revision.0, Ordering::Release);
        if is_needed {
            tokio::time::sleep((began.elapsed() * PAUSE_FACTOR).min(MAX_PAUSE)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use mcpctl_access::{Change, Confidential, Stored};
    use mcpctl_api::{
        Resource, Spec,
        spec::{Subject, SubjectKind, TokenSpec, UserSpec},
    };
    use mcpctl_secret::envelope::{Keyring, MasterKey};
    use mcpctl_store::{Author, Location, RecordedChanges, Store};

    use super::*;
    use crate::{config::StreamLimits, watchers::Watched};

    const BEARER: [u8; 32] = [7; 32];

    fn stored(id: &Id, revision: u64, spec: Spec, confidential: Option<Confidential>) -> Arc<Stored> {
        let resource = Resource {
            id: id.clone(),
            name: "alice".parse().unwrap(),
            labels: BTreeMap::new(),
            annotations: Default::default(),
            revision: Revision(revision),
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
            spec,
        };
        Arc::new(Stored { resource, confidential })
    }

    async fn commit(store: &Store, base: u64, changes: Vec<Change>) {
        let author = Author { principal: "tester".to_owned(), ..Author::default() };
        let changes = RecordedChanges::new(Revision(base), author, Timestamp::UNIX_EPOCH, changes);
        store.commit(changes).await.unwrap();
    }

    /// A reader that goes on from such a revision would never learn of the state.
    #[tokio::test]
    async fn revision_of_a_state_is_not_shown_before_the_state() {
        let dir = tempfile::tempdir().unwrap();
        let key = Arc::new(Keyring::new(MasterKey::generate().unwrap()));
        let store = Store::open(&Location::Sqlite(dir.path().join("db")), key).await.unwrap();
        let user = |disabled, revision| {
            let spec = Spec::User(UserSpec { disabled, ..UserSpec::default() });
            Change::Put(stored(&"caaaaaaaaaaaaaaaaaaaaaaaa".parse().unwrap(), revision, spec, None))
        };
        let token = TokenSpec {
            rules: None,
            subject: Subject { kind: SubjectKind::User, name: "alice".parse().unwrap() },
            subject_id: user(false, 1).id().clone(),
            expires_at: "2999-01-01T00:00:00Z".parse().unwrap(),
            session: false,
            origin: None,
            issued_by: Vec::new(),
            rotated_from: None,
            begun_with: None,
            prefix: None,
        };
        let hash = Some(Confidential::TokenHash(BEARER));
        let token = Change::Put(stored(&Id::mint(), 2, Spec::Token(token), hash));
        commit(&store, 0, vec![user(false, 1), token]).await;
        let replica = Replica::start(store.clone()).await.unwrap();
        let feeds = Feeds::start(&replica, Watchers::new(Watched::Access, StreamLimits::FEEDS));
        let snapshot = replica.fresh().await.unwrap();
        let alice = snapshot.authenticate(&BEARER, clock::now()).unwrap();
        let mut feed =
            feeds.open(&alice, BEARER.into(), &snapshot, BTreeSet::from(["claude".to_owned()])).unwrap();
        assert_eq!((feed.decided().ended, feed.shown_up_to()), (None, Some(Revision(2))));

        commit(&store, 2, vec![user(true, 3)]).await;
        while feeds.0.decided.load(Ordering::Acquire) < 3 {
            tokio::task::yield_now().await;
        }
        assert_eq!(feed.shown_up_to(), None, "the end is not returned yet");
        assert_eq!(feed.decided().ended, Some(FeedEnd::Revoked));
        assert_eq!(feed.shown_up_to(), Some(Revision(3)));
    }
}
