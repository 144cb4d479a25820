//! Ends running requests whose caller may no longer run the Llm, also while nothing of them moves.
//!
//! INVARIANT 6: each new snapshot in which a decision can be another one is asked about every running request, as it would be about
//! a new one: the same bearer, the same Llms by id. Where it denies, the request has ended. Expiry is compared with the clock
//! besides. A replica that does not know whether its snapshot is the store's present state ends its requests too.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use mcpctl_access::{Decisions, Denied, Permit, Rejected, Snapshot, verb::Run};
use mcpctl_api::{Id, Kind};
pub use mcpctl_failover::AccessEnded;
use mcpctl_secret::token::TokenHash;
use mcpctl_store::Replica;
use tokio::sync::{Notify, watch};

use super::in_flight::InFlightPermit;
use crate::{caller::Caller, clock};

/// How often expiry and the replica are checked while requests run.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// How long requests go on while the store does not answer, so that they have ended within 15 s, the checks included. It is asked
/// every 5 s at least.
const CONFIRMATION_TIMEOUT: Duration = Duration::from_secs(14);
/// Requests that are checked before other tasks of the process get their turn.
const BATCH: usize = 256;

/// The running requests of this process.
pub struct AccessWatches(Arc<Shared>);

struct Shared {
    replica: Arc<Replica>,
    running: Mutex<Running>,
    /// There is a request where there was none.
    begun: Notify,
}

#[derive(Default)]
struct Running {
    requests: HashMap<u64, Arc<Request>>,
    next: u64,
}

/// What has to hold for one request to go on.
struct Request {
    bearer: TokenHash,
    /// The earliest time that a snapshot has named: a rotation makes the old secret expire sooner.
    expires_at: Mutex<Timestamp>,
    /// The Llm that was asked for.
    llm: Id,
    /// The fallback that answers or is tried.
    fallback: Mutex<Option<Id>>,
    ended: watch::Sender<Option<AccessEnded>>,
}

/// The watch over one running request; it ends when it is dropped.
pub struct AccessWatch {
    shared: Arc<Shared>,
    number: u64,
    request: Arc<Request>,
    _permit: InFlightPermit,
}

impl AccessWatches {
    /// Starts to check the requests that will run.
    pub fn start(replica: &Arc<Replica>) -> Self {
        let shared = Shared { replica: Arc::clone(replica), running: Mutex::default(), begun: Notify::new() };
        let shared = Arc::new(shared);
        tokio::spawn(keep_following(Arc::clone(&shared)));
        Self(shared)
    }

    /// Watches over a request that the permit allows its caller, and that is in flight until the watch ends. What was revoked
    /// since then has ended already.
    pub fn watch(&self, caller: &Caller, permit: &Permit<Run>, in_flight: InFlightPermit) -> AccessWatch {
        let request = Arc::new(Request {
            bearer: caller.bearer(),
            expires_at: Mutex::new(caller.principal.expires_at),
            llm: permit.resource().id().clone(),
            fallback: Mutex::default(),
            ended: watch::Sender::new(None),
        });
        let (shared, number) = (Arc::clone(&self.0), self.0.begin(&request));
        // After it is among those that run, so that each later snapshot finds it.
        let latest = shared.replica.latest();
        if latest.decisions() == caller.snapshot.decisions() {
            // No change since the decision can have made it another one; time can.
            request.check_clock(clock::now());
        } else {
            request.check(&latest);
        }
        AccessWatch { shared, number, request, _permit: in_flight }
    }

    /// How many of the requests that run at this replica would end with a snapshot that is not in force yet.
    pub fn would_end(&self, after: &Snapshot) -> usize {
        let running = self.0.requests().into_iter();
        running.filter(|request| request.ended.borrow().is_none() && request.judge(after).is_err()).count()
    }
}

impl AccessWatch {
    /// Why the request has ended, if it has.
    pub fn has_ended(&self) -> Option<AccessEnded> {
        *self.request.ended.borrow()
    }

    /// Waits until access ends; `None` where the request ends before.
    pub fn ended(&self) -> impl Future<Output = Option<AccessEnded>> + Send + use<> {
        let mut ended = self.request.ended.subscribe();
        async move { ended.wait_for(Option::is_some).await.ok().and_then(|ended| *ended) }
    }

    /// Watches over the right to run this permit's Llm too, in place of an earlier fallback. The permit is of the caller's
    /// snapshot.
    ///
    /// # Errors
    /// When the caller may not run it any more.
    pub fn turn_to(&self, caller: &Caller, permit: &Permit<Run>) -> Result<(), Denied> {
        let Self { shared, request, .. } = self;
        let llm = permit.resource().id();
        *request.fallback() = (*llm != request.llm).then(|| llm.clone());
        let latest = shared.replica.latest();
        if latest.decisions() == caller.snapshot.decisions() {
            return Ok(());
        }
        let denied = match latest.authenticate(request.bearer.as_bytes(), clock::now()) {
            // The request has ended, or will in a moment.
            Err(_) => None,
            Ok(principal) => latest.authorize::<Run>(&principal, Kind::Llm, llm.as_str()).err(),
        };
        if denied.is_some() {
            // It is left out, and the request goes on without it.
            *request.fallback() = None;
        }
        denied.map_or(Ok(()), Err)
    }
}

impl Drop for AccessWatch {
    fn drop(&mut self) {
        self.shared.running().requests.remove(&self.number);
    }
}

impl Shared {
    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, request: &Arc<Request>) -> u64 {
        let mut running = self.running();
        let number = running.next;
        running.next = number.wrapping_add(1);
        if running.requests.is_empty() {
            self.begun.notify_one();
        }
        running.requests.insert(number, Arc::clone(request));
        number
    }

    fn requests(&self) -> Vec<Arc<Request>> {
        self.running().requests.values().cloned().collect()
    }

    async fn check(&self, snapshot: &Snapshot) {
        for batch in self.requests().chunks(BATCH) {
            batch.iter().for_each(|request| request.check(snapshot));
            tokio::task::yield_now().await;
        }
    }

    fn check_clocks(&self) {
        let (now, confirmed_at) = (clock::now(), self.replica.confirmed_at());
        let is_confirmed = confirmed_at.elapsed() < CONFIRMATION_TIMEOUT;
        for request in self.requests() {
            request.check_clock(now);
            if !is_confirmed {
                request.end(AccessEnded::Unconfirmed);
            }
        }
    }
}

impl Request {
    fn fallback(&self) -> MutexGuard<'_, Option<Id>> {
        self.fallback.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn expires_at(&self) -> MutexGuard<'_, Timestamp> {
        self.expires_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_clock(&self, now: Timestamp) {
        if now >= *self.expires_at() {
            self.end(AccessEnded::Expired);
        }
    }

    fn check(&self, snapshot: &Snapshot) {
        match self.judge(snapshot) {
            Err(why) => self.end(why),
            Ok(until) => {
                // The earliest, because snapshots may be checked out of order.
                let mut expires_at = self.expires_at();
                *expires_at = until.min(*expires_at);
            }
        }
    }

    /// Until when it may go on by this snapshot.
    fn judge(&self, snapshot: &Snapshot) -> Result<Timestamp, AccessEnded> {
        let principal = match snapshot.authenticate(self.bearer.as_bytes(), clock::now()) {
            Err(Rejected::Expired) => return Err(AccessEnded::Expired),
            Err(_) => return Err(AccessEnded::Revoked),
            Ok(principal) => principal,
        };
        // By id: an Llm that was made again under the name is another one.
        let may_run = |llm: &Id| snapshot.authorize::<Run>(&principal, Kind::Llm, llm.as_str()).is_ok();
        // INVARIANT 7: the fallback in its own right.
        if may_run(&self.llm) && self.fallback().as_ref().is_none_or(may_run) {
            Ok(principal.expires_at)
        } else {
            Err(AccessEnded::Revoked)
        }
    }

    fn end(&self, why: AccessEnded) {
        self.ended.send_if_modified(|ended| {
            let is_first = ended.is_none();
            ended.get_or_insert(why);
            is_first
        });
    }
}

/// INVARIANT 8: where the check itself fails, no request goes on unchecked.
async fn keep_following(watches: Arc<Shared>) {
    loop {
        let following = tokio::spawn(follow(Arc::clone(&watches)));
        if let Err(error) = following.await {
            tracing::error!(%error, "the check of running requests failed: they are ended");
        }
        watches.requests().iter().for_each(|request| request.end(AccessEnded::Unconfirmed));
        tokio::time::sleep(CHECK_INTERVAL).await;
    }
}

/// Checks the running requests in each new snapshot, and their clocks while there are any.
async fn follow(watches: Arc<Shared>) {
    let mut snapshots = watches.replica.subscribe();
    // What was published before this began is checked too.
    snapshots.mark_changed();
    let mut checked: Option<Decisions> = None;
    loop {
        let is_idle = watches.running().requests.is_empty();
        tokio::select! {
            changed = snapshots.changed() => {
                if changed.is_err() {
                    return;
                }
                let snapshot = Arc::clone(&snapshots.borrow_and_update());
                // Most changes make credentials, which decide nothing about those that exist.
                if checked.as_ref() != Some(snapshot.decisions()) {
                    watches.check(&snapshot).await;
                    checked = Some(snapshot.decisions().clone());
                }
            }
            () = tokio::time::sleep(CHECK_INTERVAL), if !is_idle => watches.check_clocks(),
            () = watches.begun.notified(), if is_idle => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use mcpctl_access::{Change, Confidential, Stored};
    use mcpctl_api::{Resource, Revision, Spec, spec::TokenSpec, yaml};
    use mcpctl_secret::envelope::{Keyring, MasterKey};
    use mcpctl_store::{Author, Location, RecordedChanges, Store};

    use super::*;
    use crate::{config::StreamLimits, inference::in_flight::InFlight};

    const BEARER: [u8; 32] = [7; 32];
    const WORLD: &str = "kind: User\nname: alice\n---\n\
        kind: Llm\nname: claude\ntype: openai\nurl: http://x\nmodel: m\n---\n\
        kind: Role\nname: runner\nrules: [{kinds: [llms], verbs: [run], names: ['*']}]\n---\n\
        kind: RoleBinding\nname: alice\nrole: runner\nsubjects: [{kind: User, name: alice}]\n";

    fn stored(name: &str, revision: u64, spec: Spec, confidential: Option<Confidential>) -> Arc<Stored> {
        let resource = Resource {
            id: Id::mint(),
            name: name.parse().unwrap(),
            labels: BTreeMap::new(),
            annotations: Default::default(),
            revision: Revision(revision),
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
            spec,
        };
        Arc::new(Stored { resource, confidential })
    }

    fn token(owner: &Stored, name: &str, revision: u64, hash: [u8; 32]) -> Change {
        let spec = TokenSpec {
            subject: owner.as_subject().unwrap(),
            subject_id: owner.id().clone(),
            expires_at: Timestamp::MAX,
            session: false,
            origin: None,
            rotated_from: None,
            begun_with: None,
            prefix: None,
            issued_by: Vec::new(),
            rules: None,
        };
        Change::Put(stored(name, revision, Spec::Token(spec), Some(Confidential::TokenHash(hash))))
    }

    async fn commit(store: &Store, changes: Vec<Change>) {
        let base = Revision(changes[0].revision().0 - 1);
        let author = Author { principal: "tester".to_owned(), ..Author::default() };
        store.commit(RecordedChanges::new(base, author, Timestamp::UNIX_EPOCH, changes)).await.unwrap();
    }

    /// A new token decides nothing about the requests that run, and the snapshot after it is not asked about them.
    #[tokio::test]
    async fn inv_06_snapshots_that_are_not_asked_lose_no_revocation() {
        let dir = tempfile::tempdir().unwrap();
        let key = Arc::new(Keyring::new(MasterKey::generate().unwrap()));
        let store = Store::open(&Location::Sqlite(dir.path().join("db")), key).await.unwrap();
        let documents = yaml::read_documents(WORLD).unwrap().into_iter().zip(1..);
        let world: Vec<_> = documents
            .map(|(located, revision)| {
                let document = located.document;
                stored(document.name.as_ref().unwrap().as_str(), revision, document.spec, None)
            })
            .collect();
        let (alice, binding) = (&world[0], &world[3]);
        let mut changes: Vec<_> = world.iter().cloned().map(Change::Put).collect();
        changes.push(token(alice, "hers", 5, BEARER));
        commit(&store, changes).await;

        let replica = Replica::start(store.clone()).await.unwrap();
        let watches = AccessWatches::start(&replica);
        let caller = Caller::of(BEARER.into(), replica.fresh().await.unwrap()).unwrap();
        let permit = caller.snapshot.authorize(&caller.principal, Kind::Llm, "claude").unwrap();
        let in_flight = InFlight::new(StreamLimits::INFERENCE).admit(&caller.principal.id).unwrap();
        let watch = watches.watch(&caller, &permit, in_flight);
        for revision in 6..10 {
            commit(&store, vec![token(alice, &format!("t{revision}"), revision, [0; 32])]).await;
            replica.fresh().await.unwrap();
        }
        assert_eq!(watch.has_ended(), None);
        let (kind, id, name) = (binding.kind(), binding.id().clone(), binding.name().clone());
        commit(&store, vec![Change::Delete { kind, id, name, revision: Revision(10) }]).await;
        assert_eq!(watch.ended().await, Some(AccessEnded::Revoked));
    }
}
