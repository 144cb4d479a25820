//! The answer to a question about usage: the sums of each part, with names of now.
//!
//! Names of accounts, Llms and groups are those of the snapshot that the question is answered in; the sums themselves go by id.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use mcpctl_access::Snapshot;
use mcpctl_api::{
    Id, Kind, Name, Usd, Verb,
    spec::Subject,
    usage::{UsageBy, UsageItem, UsageTotals},
};
use mcpctl_store::{Store, UsagePart, UsageParts, UsageQuery, UsageSums};

use super::question::{Question, Stretch, UsageError, hour};
use crate::caller::Caller;

/// Maximum of parts of one answer, over all its pages.
pub const MAX_PARTS: usize = 50_000;

/// The answer to a question.
pub struct Report {
    /// The sums of each part, in order.
    parts: BTreeMap<PartKey, UsageSums>,
    question: Question,
    /// The hours that are in it.
    pub hours: (Timestamp, Timestamp),
    /// All of them together.
    pub totals: UsageTotals,
    /// Whether every row is counted.
    pub complete: bool,
}

/// What a part is grouped by: one text for each, and for accounts and Llms their id besides.
pub type PartKey = Vec<String>;

impl Report {
    pub(super) async fn read(
        store: &Store,
        caller: &Caller,
        question: Question,
        complete: bool,
    ) -> Result<Self, UsageError> {
        let (first, end) = question.hours()?;
        let has = |part: UsageBy| question.by.contains(&part);
        let (account, llm, model) =
            (has(UsageBy::User) || has(UsageBy::Group), has(UsageBy::Llm), has(UsageBy::Model));
        // An Llm's name leads to its id, so that rows under an earlier name count too.
        let wanted = question.llm.as_ref().map(|asked| {
            caller
                .snapshot
                .resolve(Kind::Llm, asked)
                .map_or_else(|| asked.clone(), |llm| llm.id().to_string())
        });
        let keys = Keys::new(caller, &question.by);
        let mut sums = PartSums { keys, parts: BTreeMap::new(), all: UsageSums::default() };
        let mut fits = true;
        for Stretch { since, until, time } in question.stretches()? {
            let parts = UsageParts { account, llm, model, time };
            let (account, llm) = (question.account.clone(), wanted.clone());
            let query = UsageQuery { since, until, account, llm, parts };
            store
                .usage_sums(&query, |part| {
                    sums.add(&part);
                    fits = sums.parts.len() <= MAX_PARTS;
                    fits
                })
                .await?;
            if !fits {
                return Err(UsageError::TooManyParts(MAX_PARTS));
            }
        }
        let PartSums { parts, all, .. } = sums;
        Ok(Self { parts, hours: (hour(first), hour(end)), totals: totals(&all), complete, question })
    }

    /// The items after a part, and the key of the last one where more follow.
    pub fn page(
        &self,
        caller: &Caller,
        after: Option<PartKey>,
        limit: usize,
    ) -> (Vec<UsageItem>, Option<&PartKey>) {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        let mut rest = self.parts.range((from, Unbounded));
        let page: Vec<_> = rest.by_ref().take(limit).collect();
        let last = page.last().map(|(key, _)| *key).filter(|_| rest.next().is_some());
        (page.into_iter().map(|(key, sums)| item(caller, &self.question, key, sums)).collect(), last)
    }
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
                    UsageBy::Day | UsageBy::Hour => key.push(format!("{:010}", part.time)),
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

/// Whether a resource of a part is gone, as far as the caller may know: to others a name that is hidden and one that is gone are the same.
fn is_deleted(caller: &Caller, kind: Kind, name: &str, id: Option<&Id>) -> bool {
    let Caller { principal, snapshot, .. } = caller;
    id.is_some_and(|id| snapshot.by_id(id).is_none())
        && snapshot.authorize_name(principal, Verb::View, kind, name).is_ok()
}

/// Reads a key back into what it was made from.
fn item(caller: &Caller, question: &Question, key: &PartKey, sums: &UsageSums) -> UsageItem {
    let mut item = UsageItem { totals: totals(sums), ..UsageItem::default() };
    let mut texts = key.iter().cloned();
    let mut next = || texts.next().unwrap_or_default();
    for by in &question.by {
        match by {
            UsageBy::User => {
                let (name, id) = (next(), next().parse().ok());
                item.principal_deleted = name.split_once(' ').is_some_and(|(kind, name)| {
                    kind.parse().is_ok_and(|kind| is_deleted(caller, kind, name, id.as_ref()))
                });
                (item.principal, item.principal_id) = (Some(name), id);
            }
            UsageBy::Group => item.group = next().parse().ok(),
            UsageBy::Llm => {
                let (name, id) = (next(), next());
                item.llm_deleted = is_deleted(caller, Kind::Llm, &name, id.parse().ok().as_ref());
                (item.llm, item.llm_id) = (Some(name), Some(id));
            }
            UsageBy::Model => item.model = Some(next()),
            UsageBy::Day => item.from = next().parse().ok().map(|number| question.day(number)),
            UsageBy::Hour => item.from = next().parse().ok().map(hour),
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
