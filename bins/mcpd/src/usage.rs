//! Who used how much: adds rows of usage to the sums, and answers questions from the sums.
//!
//! Names of accounts, Llms and groups are those of the snapshot that the question is answered in; the sums themselves go by id.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use mcpctl_access::Snapshot;
use mcpctl_api::{
    Id, Kind, Name, Usd, Verb,
    spec::Subject,
    usage::{UsageBy, UsageItem, UsageTotals},
};
use mcpctl_store::{Store, StoreError, UsageAccount, UsagePart, UsageParts, UsageQuery, UsageSums};
use tokio::{
    sync::{Mutex, Semaphore},
    time::timeout,
};

use crate::caller::Caller;

/// Maximum of rows that one transaction counts: a request that records waits for it.
pub const COUNT_BATCH: u32 = 200;
/// Maximum of batches that a question waits for.
const MAX_BATCHES: u32 = 20;
/// Questions that are answered at once; others wait.
const MAX_AT_ONCE: usize = 2;
/// How long a question may wait, and how long it may take.
const MAX_WAIT: Duration = Duration::from_secs(5);
const MAX_TIME: Duration = Duration::from_secs(10);
/// Maximum of parts of one answer, over all its pages.
const MAX_PARTS: usize = 50_000;
/// Seconds of an hour.
const HOUR: i64 = 3600;
/// Hours of a day.
const DAY_HOURS: u32 = 24;

/// Counts and answers, for all requests of this process.
pub struct UsageReports {
    counting: Mutex<()>,
    places: Semaphore,
}

impl Default for UsageReports {
    fn default() -> Self {
        Self { counting: Mutex::default(), places: Semaphore::new(MAX_AT_ONCE) }
    }
}

/// What is asked.
#[derive(Debug, Clone)]
pub struct Question {
    /// From the hour of this time on.
    pub since: Timestamp,
    /// Up to the end of the hour before this time, or of the one that it is in.
    pub until: Timestamp,
    /// What the sums are grouped by.
    pub by: Vec<UsageBy>,
    /// Whose usage.
    pub account: Option<UsageAccount>,
    /// An Llm's name or id.
    pub llm: Option<String>,
}

/// The answer to a question.
pub struct Report {
    /// The sums of each part, in order.
    parts: BTreeMap<PartKey, UsageSums>,
    by: Vec<UsageBy>,
    /// The hours that are in it.
    pub hours: (Timestamp, Timestamp),
    /// All of them together.
    pub totals: UsageTotals,
    /// Whether every row is counted.
    pub complete: bool,
}

/// What a part is grouped by: one text for each, and for accounts and Llms their id besides.
pub type PartKey = Vec<String>;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// The end is not after the beginning.
    #[error("`until` is not after `since`")]
    Empty,
    /// More parts than an answer may have.
    #[error("the answer has more than {MAX_PARTS} rows")]
    TooManyParts,
    /// Too many questions, or too much to add up.
    #[error("adding up the usage takes too long")]
    TooLong,
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl UsageReports {
    /// Adds rows to the sums, at most so many batches; returns whether none is left. `pause` is between two batches, so that writers
    /// get their turn.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn count(&self, store: &Store, max_batches: u32, pause: Duration) -> Result<bool, StoreError> {
        let _turn = self.counting.lock().await;
        for _ in 0..max_batches {
            if store.count_usage(COUNT_BATCH).await? < u64::from(COUNT_BATCH) {
                return Ok(true);
            }
            tokio::time::sleep(pause).await;
        }
        Ok(false)
    }

    /// Answers a question, up to the last row that is on record.
    ///
    /// # Errors
    /// When it cannot be answered, or not in time.
    pub async fn answer(
        &self,
        store: &Store,
        caller: &Caller,
        question: Question,
    ) -> Result<Report, UsageError> {
        let place = timeout(MAX_WAIT, self.places.acquire()).await;
        let Ok(Ok(_place)) = place else { return Err(UsageError::TooLong) };
        let answer = async {
            let complete = self.count(store, MAX_BATCHES, Duration::ZERO).await?;
            Report::read(store, caller, question, complete).await
        };
        timeout(MAX_TIME, answer).await.map_err(|_| UsageError::TooLong)?
    }
}

impl Report {
    async fn read(
        store: &Store,
        caller: &Caller,
        question: Question,
        complete: bool,
    ) -> Result<Self, UsageError> {
        let Question { since, until, by, account, llm } = question;
        let first = since.as_second().div_euclid(HOUR);
        // An hour that has begun is in it.
        let end = until.as_second().div_euclid(HOUR)
            + i64::from(until.as_nanosecond() % (i128::from(HOUR) * 1_000_000_000) != 0);
        if end <= first {
            return Err(UsageError::Empty);
        }
        let has = |part: UsageBy| by.contains(&part);
        let hours = match (has(UsageBy::Day), has(UsageBy::Hour)) {
            (_, true) => Some(1),
            (true, false) => Some(DAY_HOURS),
            (false, false) => None,
        };
        let parts = UsageParts {
            account: has(UsageBy::User) || has(UsageBy::Group),
            llm: has(UsageBy::Llm),
            model: has(UsageBy::Model),
            hours,
        };
        // An Llm's name leads to its id, so that rows under an earlier name count too.
        let llm =
            llm.map(|llm| caller.snapshot.resolve(Kind::Llm, &llm).map_or(llm, |llm| llm.id().to_string()));
        let query = UsageQuery { since: first, until: end, account, llm, parts };
        let mut sums =
            PartSums { keys: Keys::new(caller, &by), parts: BTreeMap::new(), all: UsageSums::default() };
        let mut fits = true;
        store
            .usage_sums(&query, |part| {
                sums.add(&part);
                fits = sums.parts.len() <= MAX_PARTS;
                fits
            })
            .await?;
        if !fits {
            return Err(UsageError::TooManyParts);
        }
        let PartSums { parts, all, .. } = sums;
        Ok(Self { parts, by, hours: (hour(first), hour(end)), totals: totals(&all), complete })
    }

    /// The items after a part, and the key of the last one where more follow.
    pub fn page(&self, after: Option<PartKey>, limit: usize) -> (Vec<UsageItem>, Option<&PartKey>) {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        let mut rest = self.parts.range((from, Unbounded));
        let page: Vec<_> = rest.by_ref().take(limit).collect();
        let last = page.last().map(|(key, _)| *key).filter(|_| rest.next().is_some());
        (page.into_iter().map(|(key, sums)| item(&self.by, key, sums)).collect(), last)
    }
}

fn hour(number: i64) -> Timestamp {
    Timestamp::from_second(number.saturating_mul(HOUR)).unwrap_or(Timestamp::MAX)
}

/// Adds up the parts as they come.
struct PartSums<'a> {
    keys: Keys<'a>,
    parts: BTreeMap<PartKey, UsageSums>,
    all: UsageSums,
}

impl PartSums<'_> {
    fn add(&mut self, part: &UsagePart) {
        self.all.add(&part.sums);
        if self.keys.by.is_empty() || part.sums == UsageSums::default() {
            return;
        }
        for key in self.keys.of(part) {
            self.parts.entry(key).or_default().add(&part.sums);
        }
    }
}

/// The keys of parts, with the names of a snapshot.
struct Keys<'a> {
    caller: &'a Caller,
    by: &'a [UsageBy],
    /// The names of accounts and of the groups that they are in, by id: looked up once each.
    accounts: HashMap<Id, (String, Vec<Name>)>,
}

impl<'a> Keys<'a> {
    fn new(caller: &'a Caller, by: &'a [UsageBy]) -> Self {
        Self { caller, by, accounts: HashMap::new() }
    }

    /// The keys of a part: one, or one for each of its account's groups.
    fn of(&mut self, part: &UsagePart) -> Vec<PartKey> {
        let unknown = || (part.principal.clone(), Vec::new());
        let (name, groups) = match &part.account {
            Some(id) => {
                let (caller, by) = (self.caller, self.by);
                let found = self.accounts.entry(id.clone()).or_insert_with(|| {
                    let account = caller.snapshot.by_id(id).and_then(|stored| stored.as_subject());
                    account.map_or_else(unknown, |account| {
                        let groups = if by.contains(&UsageBy::Group) {
                            groups_of(caller, &account, id)
                        } else {
                            Vec::new()
                        };
                        (account.to_string(), groups)
                    })
                });
                (found.0.clone(), found.1.clone())
            }
            None => unknown(),
        };
        let in_groups: Vec<String> = match self.by.contains(&UsageBy::Group) && !groups.is_empty() {
            true => groups.iter().map(Name::to_string).collect(),
            false => vec![String::new()],
        };
        let key = |group: String| {
            let mut key = Vec::with_capacity(2 * self.by.len());
            for by in self.by {
                match by {
                    UsageBy::User => {
                        key.push(name.clone());
                        key.push(part.account.as_ref().map(Id::to_string).unwrap_or_default());
                    }
                    UsageBy::Group => key.push(group.clone()),
                    UsageBy::Llm => {
                        key.push(llm_name(&self.caller.snapshot, part));
                        key.push(part.llm_id.clone());
                    }
                    UsageBy::Model => key.push(part.model.clone()),
                    // Of equal length, so that texts have the order of times.
                    UsageBy::Day | UsageBy::Hour => key.push(format!("{:010}", part.hour)),
                }
            }
            key
        };
        in_groups.into_iter().map(key).collect()
    }
}

/// The groups of an account that the caller may know of: those that it may view, and its own.
fn groups_of(caller: &Caller, account: &Subject, id: &Id) -> Vec<Name> {
    let Caller { principal, snapshot, .. } = caller;
    let may_know = |group: &Name| {
        *id == principal.id
            || snapshot.authorize_name(principal, Verb::View, Kind::Group, group.as_str()).is_ok()
    };
    let mut groups: Vec<Name> =
        snapshot.groups_of_account(account).filter(|group| may_know(group)).cloned().collect();
    groups.sort();
    groups.dedup();
    groups
}

fn llm_name(snapshot: &Snapshot, part: &UsagePart) -> String {
    let known = part.llm_id.parse().ok().and_then(|id: Id| snapshot.by_id(&id));
    known.map_or_else(|| part.llm_name.clone(), |llm| llm.name().to_string())
}

/// Reads a key back into what it was made from.
fn item(by: &[UsageBy], key: &PartKey, sums: &UsageSums) -> UsageItem {
    let mut item = UsageItem { totals: totals(sums), ..UsageItem::default() };
    let mut texts = key.iter().cloned();
    let mut next = || texts.next().unwrap_or_default();
    for by in by {
        match by {
            UsageBy::User => {
                item.principal = Some(next());
                item.principal_id = next().parse().ok();
            }
            UsageBy::Group => item.group = next().parse().ok(),
            UsageBy::Llm => {
                item.llm = Some(next());
                item.llm_id = Some(next());
            }
            UsageBy::Model => item.model = Some(next()),
            UsageBy::Day | UsageBy::Hour => item.from = next().parse().ok().map(hour),
        }
    }
    item
}

fn totals(sums: &UsageSums) -> UsageTotals {
    UsageTotals {
        requests: sums.requests,
        fallbacks: sums.fallbacks,
        failures: sums.failures,
        input_tokens: sums.input_tokens,
        output_tokens: sums.output_tokens,
        cached_input_tokens: sums.cached_input_tokens,
        cache_write_input_tokens: sums.cache_write_input_tokens,
        reasoning_tokens: sums.reasoning_tokens,
        estimated: sums.estimated,
        unpriced: sums.unpriced,
        cost: Usd::from_nanos(sums.cost_nanos).to_string().parse().unwrap_or_default(),
    }
}

/// The number of the hour before which sums are removed, of those that are kept for so long.
///
/// # Errors
/// When the time is before the first one that there is.
pub fn first_kept_hour(now: Timestamp, retention: SignedDuration) -> Result<i64, jiff::Error> {
    Ok(now.checked_sub(retention)?.as_second().div_euclid(HOUR))
}
