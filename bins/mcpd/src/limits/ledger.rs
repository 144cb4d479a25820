//! The counters of Limits, shared by all replicas through the store. Requests that reserve at the same time share a
//! transaction; what they took more or less than they reserved follows in a later one.
//!
//! INVARIANT 8: a request that cannot be counted is denied. A reservation that is dropped is given back, wherever its request
//! was; after `kill -9` it counts at its estimate, because the provider may have charged for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mcpctl_api::{
    Id,
    spec::{Measure, Span},
};
use mcpctl_store::{LimitCounter, LimitKey, Store, StoreError};
use tokio::sync::{Notify, mpsc, oneshot};

use super::{
    decision::{self, Charge, Entry, Exceeded, Standing},
    tally::{Millis, Tally},
};
use crate::clock;

/// Requests in the queue; further ones wait for a place in it.
const MAX_QUEUED: usize = 1024;
/// Requests that share a transaction.
const MAX_GROUP: usize = 64;
/// Corrections of other counters that share it.
const MAX_CORRECTED: usize = 256;
/// How long corrections wait for a request to share its transaction.
const CORRECTION_INTERVAL: Duration = Duration::from_millis(50);
/// How long the ledger waits after the store failed.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// How long a counter that no longer counts is kept, for clocks that differ.
const GRACE_MILLIS: Millis = 3_600_000;

/// Counts what Limits bound.
pub struct Ledger {
    queue: mpsc::Sender<Message>,
}

enum Message {
    Reserve { charges: Vec<Charge>, answer: oneshot::Sender<Answer> },
    Close(oneshot::Sender<()>),
}

type Answer = Result<Decided, Arc<StoreError>>;
type Decided = (Result<Reservation, Exceeded>, Vec<Standing>);

/// Now, on the clock that slots are counted by.
pub fn now() -> Millis {
    clock::now().as_millisecond()
}

/// The error of a counter whose state was not written by mcpd.
pub fn malformed(limit: &Id) -> StoreError {
    let reason = "its state is malformed".to_owned();
    StoreError::Unreadable { kind: "limit counter".to_owned(), id: limit.to_string(), reason }
}

/// What a running request took under its Limits. It is settled with the truth, or given back when it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Reservation {
    entries: Vec<Entry>,
    corrections: Arc<Corrections>,
}

impl Reservation {
    /// Replaces the estimates by what the request took, of each measure.
    pub fn settle(mut self, spent: impl Fn(Measure) -> u64) {
        self.correct(spent);
    }

    fn correct(&mut self, spent: impl Fn(Measure) -> u64) {
        let entries = std::mem::take(&mut self.entries);
        if entries.is_empty() {
            return;
        }
        let corrections = entries.into_iter().filter_map(|entry| {
            let difference = i128::from(spent(entry.measure)) - i128::from(entry.amount);
            let by = i64::try_from(difference).unwrap_or(if difference < 0 { i64::MIN } else { i64::MAX });
            (by != 0).then_some((Place { key: entry.key, slot: entry.slot, span: entry.span }, by))
        });
        self.corrections.add(corrections);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.correct(|_| 0);
    }
}

/// A slot of a counter.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    key: LimitKey,
    slot: Millis,
    span: Span,
}

/// The corrections that are not in the store yet, one sum for each slot of a counter: as many as requests run at most.
#[derive(Debug, Default)]
struct Corrections {
    pending: Mutex<BTreeMap<(LimitKey, Millis), (Span, i64)>>,
    changed: Notify,
}

impl Corrections {
    fn pending(&self) -> MutexGuard<'_, BTreeMap<(LimitKey, Millis), (Span, i64)>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, corrections: impl Iterator<Item = (Place, i64)>) {
        let mut pending = self.pending();
        for (Place { key, slot, span }, by) in corrections {
            let sum = &mut pending.entry((key, slot)).or_insert((span, 0)).1;
            *sum = sum.saturating_add(by);
        }
        drop(pending);
        self.changed.notify_one();
    }

    /// Takes those of the given counters, and some of others.
    fn take(&self, keys: &BTreeSet<LimitKey>) -> Vec<(Place, i64)> {
        let mut others = 0;
        let mut take = |key: &LimitKey| {
            keys.contains(key) || {
                others += 1;
                others <= MAX_CORRECTED
            }
        };
        let taken = self.pending().extract_if(.., |(key, _), _| take(key)).collect::<Vec<_>>();
        taken.into_iter().map(|((key, slot), (span, by))| (Place { key, slot, span }, by)).collect()
    }
}

impl Ledger {
    /// Starts the task that counts.
    pub fn start(store: Store) -> Self {
        let (queue, messages) = mpsc::channel(MAX_QUEUED);
        let corrections = Arc::new(Corrections::default());
        tokio::spawn(run(store, messages, corrections));
        Self { queue }
    }

    /// Takes what a request needs under all its Limits, or nothing. Returns how the Limits stand in either case.
    ///
    /// # Errors
    /// When it cannot be counted.
    pub async fn reserve(&self, charges: Vec<Charge>) -> Result<Decided, StoreError> {
        let ended = || StoreError::Ended("ledger of limits");
        let (answer, decided) = oneshot::channel();
        self.queue.send(Message::Reserve { charges, answer }).await.map_err(|_| ended())?;
        decided.await.map_err(|_| ended())?.map_err(StoreError::NotRecorded)
    }

    /// Stores the corrections so far, then accepts no more.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.queue.send(Message::Close(done)).await.is_ok() {
            let _ = closed.await;
        }
    }
}

async fn run(store: Store, mut messages: mpsc::Receiver<Message>, corrections: Arc<Corrections>) {
    let mut group = Vec::with_capacity(MAX_GROUP);
    loop {
        let due = async {
            corrections.changed.notified().await;
            tokio::time::sleep(CORRECTION_INTERVAL).await;
        };
        tokio::select! {
            received = messages.recv_many(&mut group, MAX_GROUP) => if received == 0 { return },
            () = due => {}
        }
        let (mut waiting, mut closing) = (Vec::new(), None);
        for message in group.drain(..) {
            match message {
                Message::Reserve { charges, answer } => waiting.push((charges, answer)),
                Message::Close(done) => closing = Some(done),
            }
        }
        let alone = waiting.is_empty();
        let mut stored = count(&store, &corrections, waiting).await;
        // One transaction takes only so many corrections.
        while closing.is_some() && stored.is_ok() && !corrections.pending().is_empty() {
            stored = count(&store, &corrections, Vec::new()).await;
        }
        if let Err(error) = &stored {
            tracing::warn!(error = error as &dyn std::error::Error, "what Limits count could not be stored");
        }
        if let Some(done) = closing {
            let _ = done.send(());
            return;
        }
        if stored.is_err() && alone {
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
        if !corrections.pending().is_empty() {
            corrections.changed.notify_one();
        }
    }
}

type Waiting = (Vec<Charge>, oneshot::Sender<Answer>);

/// Stores corrections and decides reservations in one transaction, then answers.
async fn count(
    store: &Store,
    corrections: &Arc<Corrections>,
    waiting: Vec<Waiting>,
) -> Result<(), Arc<StoreError>> {
    let mut keys: BTreeSet<LimitKey> =
        waiting.iter().flat_map(|(charges, _)| charges.iter().map(|charge| charge.key.clone())).collect();
    let taken = corrections.take(&keys);
    keys.extend(taken.iter().map(|(place, _)| place.key.clone()));
    if keys.is_empty() {
        return Ok(());
    }
    let decided = store
        .change_limit_counters(keys, |counters| {
            decide(counters, &taken, waiting.iter().map(|(charges, _)| charges))
        })
        .await;
    match decided {
        Ok(decided) => {
            for ((_, answer), (reserved, standings)) in waiting.into_iter().zip(decided) {
                // A reservation whose request went away is given back as it is dropped.
                let reserved =
                    reserved.map(|entries| Reservation { entries, corrections: Arc::clone(corrections) });
                let _ = answer.send(Ok((reserved, standings)));
            }
            Ok(())
        }
        Err(error) => {
            let error = Arc::new(error);
            corrections.add(taken.into_iter());
            for (_, answer) in waiting {
                let _ = answer.send(Err(Arc::clone(&error)));
            }
            Err(error)
        }
    }
}

type Entries = (Result<Vec<Entry>, Exceeded>, Vec<Standing>);

fn decide<'a>(
    counters: &mut BTreeMap<LimitKey, LimitCounter>,
    corrections: &[(Place, i64)],
    waiting: impl Iterator<Item = &'a Vec<Charge>>,
) -> Result<Vec<Entries>, StoreError> {
    let mut tallies = BTreeMap::new();
    for (key, counter) in counters.iter() {
        let tally = Tally::parse(&counter.state).ok_or_else(|| malformed(&key.limit))?;
        tallies.insert(key.clone(), tally);
    }
    // The truth about earlier requests first, so that what they did not need is free for these.
    for (Place { key, slot, .. }, by) in corrections {
        if let Some(tally) = tallies.get_mut(key) {
            tally.correct(*slot, *by);
        }
    }
    let now = now();
    let mut spans: BTreeMap<&LimitKey, Span> =
        corrections.iter().map(|(place, _)| (&place.key, place.span)).collect();
    let mut decided = Vec::new();
    for charges in waiting {
        decided.push(decision::reserve(&mut tallies, charges, now));
        spans.extend(charges.iter().map(|charge| (&charge.key, charge.ceiling.span)));
    }
    for (key, counter) in counters.iter_mut() {
        let (Some(tally), Some(span)) = (tallies.get(key), spans.get(key)) else { continue };
        let state = tally.to_text();
        if state != counter.state {
            let expires_at = tally.cleared_at(*span, now).saturating_add(GRACE_MILLIS);
            *counter = LimitCounter { state, expires_at };
        }
    }
    Ok(decided)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mcpctl_api::spec::{Ceiling, Period};
    use mcpctl_secret::envelope::{Keyring, MasterKey};
    use mcpctl_store::Location;

    use super::*;

    /// The end does not wait until corrections are due, and one transaction does not take all of them.
    #[tokio::test]
    async fn corrections_are_stored_before_the_ledger_ends() {
        let dir = tempfile::tempdir().unwrap();
        let key = Arc::new(Keyring::new(MasterKey::generate().unwrap()));
        let store = Store::open(&Location::Sqlite(dir.path().join("db")), key).await.unwrap();
        let ledger = Ledger::start(store.clone());
        let span = Span::Period(Period::Month);
        let limit: Id = "caaaaaaaaaaaaaaaaaaaaaaaa".parse().unwrap();
        let charges: Vec<Charge> = (0..3 * MAX_CORRECTED)
            .map(|at| Charge {
                key: LimitKey { limit: limit.clone(), subject: None, counts: at.to_string() },
                limit: "l".parse().unwrap(),
                ceiling: Ceiling { measure: Measure::Tokens, max: 100, span },
                amount: 50,
            })
            .collect();
        let (reserved, _) = ledger.reserve(charges.clone()).await.unwrap();
        reserved.unwrap().settle(|_| 7);
        ledger.close().await;
        let counters = store.limit_counters(&limit, 0, u32::MAX).await.unwrap();
        assert_eq!(counters.len(), charges.len());
        for (key, counter) in counters {
            let tally = Tally::parse(&counter.state).unwrap();
            assert_eq!(tally.used(span, now()), 7, "{key:?}");
        }
    }
}
