//! Checks a store in one snapshot: what the database finds itself, and what it cannot know. Nothing is repaired.

use std::collections::{HashMap, HashSet};

use futures::TryStreamExt as _;
use mcpctl_access::{Confidential, Stored, builtin};
use mcpctl_api::{Id, Kind, Revision, Spec};
use mcpctl_journal::LineHash;
use mcpctl_secret::envelope::{self, Keyring, OpenError};

use super::{
    error::TransferError,
    layout,
    link::{Link, on_link},
    source::{Source, read_tables},
};
use crate::{resources::StoredRow, signing_keys};

/// Problems of one kind that are listed; more are counted.
const MAX_LISTED: usize = 20;

/// One thing that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What, as `resources`.
    pub subject: &'static str,
    /// How many of them.
    pub count: u64,
    /// What is wrong, up to a maximum of 20.
    pub problems: Vec<Problem>,
    /// How many problems are not listed.
    pub unlisted: u64,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: String,
    /// What.
    pub what: String,
    /// The next step.
    pub hint: &'static str,
}

const RESTORE: &str = "restore the last good backup with `mcpd restore --replace`";
const WRITE_AGAIN: &str = "write it again with `mcpctl apply`, or restore a backup";
const KEY: &str = "give the key that it was sealed with by --master-key-file; `mcpd rotate-master-key` completes a rotation that was interrupted";
const REFERENCE: &str = "delete it or write it again; it gives no rights meanwhile";
const JOURNAL: &str =
    "compare with `mcpctl local journal verify` at that agent; the audit was changed or has lost rows";

impl Check {
    const fn new(subject: &'static str) -> Self {
        Self { subject, count: 0, problems: Vec::new(), unlisted: 0 }
    }

    fn problem(&mut self, place: impl Into<String>, what: impl Into<String>, hint: &'static str) {
        if self.problems.len() < MAX_LISTED {
            self.problems.push(Problem { place: place.into(), what: what.into(), hint });
        } else {
            self.unlisted += 1;
        }
    }

    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }
}

impl Source {
    /// Checks everything, and returns what was found about each part.
    ///
    /// # Errors
    /// When the store cannot be read, or its layout is an earlier one.
    pub async fn check(&mut self, keys: &Keyring) -> Result<Vec<Check>, TransferError> {
        // A newer one was refused when the store was opened.
        let (found, known) = (self.layout.version, layout::latest());
        if found != known {
            return Err(TransferError::Older { what: format!("the database {}", self.place), found, known });
        }
        let database = self.check_database().await?;
        if !database.is_good() {
            // What the other checks found would be its consequence.
            return Ok(vec![database]);
        }
        let (resources, revision) = (self.stored().await?, self.revision().await?);
        Ok(vec![
            database,
            check_resources(&resources, revision),
            check_references(&resources),
            self.check_sealed(&resources, keys).await?,
            self.check_changes(&resources, revision).await?,
            self.check_journals().await?,
        ])
    }

    /// What the database finds: pages and indexes of SQLite. PostgreSQL has checks of its own; here every row is read once.
    async fn check_database(&mut self) -> Result<Check, TransferError> {
        let mut check = Check::new("rows");
        if let Link::Sqlite(connection) = &mut self.link {
            let found: Vec<String> =
                sqlx::query_scalar("PRAGMA integrity_check(20)").fetch_all(connection).await?;
            for found in found.into_iter().filter(|found| found != "ok") {
                check.problem(&self.place, found, RESTORE);
            }
        }
        match read_tables(&mut self.link, &self.layout, self.log.as_deref(), async |_| Ok(())).await {
            Ok(tallies) => check.count = tallies.iter().map(|tally| tally.rows).sum(),
            Err(TransferError::Database(error) | TransferError::Damaged(error)) => {
                check.problem(&self.place, error, RESTORE)
            }
            Err(error) => return Err(error),
        }
        Ok(check)
    }

    async fn revision(&mut self) -> Result<i64, TransferError> {
        Ok(on_link!(&mut self.link, connection => {
            sqlx::query_scalar("SELECT current FROM revision").fetch_one(connection).await?
        }))
    }

    /// Every resource, with its columns and what reading it gives.
    async fn stored(&mut self) -> Result<Vec<Row>, TransferError> {
        const SELECT: &str =
            "SELECT id, kind, name, revision, body, confidential FROM resources ORDER BY kind, name";
        type Columns = (String, String, String, i64, String, Option<Vec<u8>>);
        let rows: Vec<Columns> = on_link!(&mut self.link, connection => {
            sqlx::query_as(SELECT).fetch(connection).try_collect().await?
        });
        Ok(rows
            .into_iter()
            .map(|(id, kind, name, revision, body, confidential)| {
                let place = format!("{kind} `{name}`");
                let row = StoredRow { id: id.clone(), kind, body, confidential };
                Row { place, id, name, revision, read: row.read().map_err(|error| error.to_string()) }
            })
            .collect())
    }

    /// Whether everything that is sealed opens: the store's own canary, secrets and signing keys.
    async fn check_sealed(&mut self, resources: &[Row], keys: &Keyring) -> Result<Check, TransferError> {
        let mut check = Check::new("sealed values");
        check.count += 1;
        if self.link.has_key(keys).await? != Some(true) {
            check.problem("the master key", "it is not the one that the store was set up with", KEY);
        }
        for (row, stored) in resources.iter().filter_map(|row| Some((row, row.read.as_ref().ok()?))) {
            let Some(Confidential::Sealed(sealed)) = &stored.confidential else { continue };
            check.count += 1;
            if let Err(error) = envelope::open(keys, row.id.as_bytes(), sealed) {
                check.problem(&row.place, error.to_string(), sealed_hint(&error, WRITE_AGAIN));
            }
        }
        let signing: Vec<(i64, Vec<u8>)> = on_link!(&mut self.link, connection => {
            sqlx::query_as(signing_keys::SELECT).fetch_all(connection).await?
        });
        let numbers: Vec<i64> = signing.iter().map(|(number, _)| *number).collect();
        if !matches!(numbers.as_slice(), [] | [_, _]) || !are_successive(&numbers) {
            check.problem(
                "the signing keys",
                format!("their numbers are {numbers:?} instead of two that follow each other"),
                RESTORE,
            );
        }
        for (number, sealed) in &signing {
            check.count += 1;
            if let Err(error) = envelope::open(keys, signing_keys::bound_to(*number).as_bytes(), sealed) {
                let hint = sealed_hint(&error, RESTORE);
                check.problem(format!("signing key {number}"), error.to_string(), hint);
            }
        }
        Ok(check)
    }

    /// Whether the kept changes are a sequence without gaps that ends at the current revision, and no resource is ahead of them.
    async fn check_changes(&mut self, resources: &[Row], revision: i64) -> Result<Check, TransferError> {
        let mut check = Check::new("changes");
        let changes: Vec<(i64, String, String)> = on_link!(&mut self.link, connection => {
            sqlx::query_as("SELECT revision, id, op FROM changes ORDER BY revision").fetch_all(connection).await?
        });
        check.count = u64::try_from(changes.len()).unwrap_or(u64::MAX);
        let numbers: Vec<i64> = changes.iter().map(|(number, ..)| *number).collect();
        for pair in numbers.windows(2).filter(|pair| !are_successive(pair)) {
            check.problem("the changes", format!("revisions {pair:?} do not follow each other"), RESTORE);
        }
        if let Some(last) = numbers.last().filter(|last| **last != revision) {
            check.problem(
                "the changes",
                format!("the last is {last}, and the store is at {revision}"),
                RESTORE,
            );
        }
        let last: HashMap<&str, (i64, &str)> =
            changes.iter().map(|(number, id, op)| (id.as_str(), (*number, op.as_str()))).collect();
        for row in resources {
            match last.get(row.id.as_str()) {
                Some((_, "delete")) => {
                    check.problem(&row.place, "it was deleted and is still there", RESTORE)
                }
                Some((number, _)) if *number != row.revision => {
                    check.problem(
                        &row.place,
                        format!("its last change is {number}, and it is at {}", row.revision),
                        RESTORE,
                    );
                }
                _ => {}
            }
        }
        Ok(check)
    }

    /// Whether the lines that agents reported are those whose hashes are on record, and continue one another where no break is on
    /// record.
    async fn check_journals(&mut self) -> Result<Check, TransferError> {
        let mut check = Check::new("journal lines");
        const LINES: &str = "SELECT id, line_hash, line FROM audit \
             WHERE line_hash IS NOT NULL AND action <> 'journal-line'";
        on_link!(&mut self.link, connection => {
            let mut rows = sqlx::query_as::<_, (String, String, String)>(LINES).fetch(connection);
            while let Some((id, hash, line)) = rows.try_next().await? {
                check.count += 1;
                let is_it = hash.parse().is_ok_and(|hash: LineHash| hash.is_of_shown(&line));
                if !is_it {
                    let what = "its line is not the one that its hash is of";
                    check.problem(format!("audit row `{id}`"), what, JOURNAL);
                }
            }
        });
        // Retention removes what was received first: a line is not missing by it while an earlier one, received no later, is there.
        // What did not continue the chain when it was received is on record in the same transaction, which has its time.
        const BROKEN: &str = "SELECT a.agent_id, a.line_seq, a.at, \
             (SELECT COUNT(*) FROM audit m WHERE m.agent_id = a.agent_id AND m.at = a.at \
             AND m.action IN ('journal-gap', 'journal-fork')) AS marks FROM audit a \
             WHERE a.line_prev IS NOT NULL AND a.line_seq > 1 \
             AND NOT EXISTS (SELECT 1 FROM audit b WHERE b.agent_id = a.agent_id AND b.line_seq = a.line_seq - 1 \
             AND b.line_hash = a.line_prev) \
             AND (EXISTS (SELECT 1 FROM audit b WHERE b.agent_id = a.agent_id AND b.line_hash IS NOT NULL \
             AND b.line_seq = a.line_seq - 1) \
             OR EXISTS (SELECT 1 FROM audit b WHERE b.agent_id = a.agent_id AND b.line_hash IS NOT NULL \
             AND b.line_seq BETWEEN 1 AND a.line_seq - 2 AND b.at <= a.at)) \
             ORDER BY a.agent_id, a.at, a.line_seq";
        on_link!(&mut self.link, connection => {
            let mut rows = sqlx::query_as::<_, (String, i64, i64, i64)>(BROKEN).fetch(connection);
            let (mut received, mut broken) = (None, 0);
            while let Some((agent, seq, at, marks)) = rows.try_next().await? {
                if received.as_ref() != Some(&(agent.clone(), at)) {
                    (received, broken) = (Some((agent.clone(), at)), 0);
                }
                broken += 1;
                if broken > marks {
                    let place = format!("line {seq} of agent `{agent}`");
                    check.problem(place, "it does not continue the line before it", JOURNAL);
                }
            }
        });
        Ok(check)
    }
}

/// The next step for a sealed value that does not open. A value that was sealed with another key is good.
const fn sealed_hint(error: &OpenError, damaged: &'static str) -> &'static str {
    match error {
        OpenError::UnknownKey { .. } => KEY,
        OpenError::Tampered | OpenError::Malformed => damaged,
    }
}

/// A row of `resources`.
struct Row {
    place: String,
    id: String,
    name: String,
    revision: i64,
    read: Result<std::sync::Arc<Stored>, String>,
}

fn check_resources(rows: &[Row], revision: i64) -> Check {
    let mut check = Check::new("resources");
    for row in rows {
        check.count += 1;
        let stored = match &row.read {
            Ok(stored) => stored,
            Err(error) => {
                check.problem(&row.place, error, WRITE_AGAIN);
                continue;
            }
        };
        if stored.id().as_str() != row.id || stored.name().as_str() != row.name {
            check.problem(&row.place, "its columns name another resource than its body", WRITE_AGAIN);
        }
        if stored.resource.revision != Revision(row.revision.unsigned_abs()) {
            check.problem(&row.place, "its columns have another revision than its body", WRITE_AGAIN);
        }
        if row.revision > revision {
            check.problem(
                &row.place,
                format!("it is at {}, and the store is at {revision}", row.revision),
                RESTORE,
            );
        }
        let needs_secret = matches!(stored.kind(), Kind::Secret | Kind::Token);
        if needs_secret && stored.confidential.is_none() {
            check.problem(&row.place, "its confidential part is missing", WRITE_AGAIN);
        }
    }
    check
}

/// References that a write would not have left: tokens of accounts, and roles of bindings. Others may name what is not there yet.
fn check_references(rows: &[Row]) -> Check {
    let mut check = Check::new("references");
    let all = || rows.iter().filter_map(|row| Some((row, row.read.as_ref().ok()?)));
    let ids: HashSet<&Id> = all().map(|(_, stored)| stored.id()).collect();
    let roles: HashSet<&str> = all()
        .filter(|(_, stored)| stored.kind() == Kind::Role)
        .map(|(_, stored)| stored.name().as_str())
        .collect();
    for (row, stored) in all() {
        match &stored.resource.spec {
            Spec::Token(token) => {
                check.count += 1;
                if !ids.contains(&token.subject_id) {
                    check.problem(
                        &row.place,
                        format!("its account {} is not there", token.subject),
                        REFERENCE,
                    );
                }
            }
            Spec::RoleBinding(binding) => {
                check.count += 1;
                let role = binding.role.as_str();
                if !roles.contains(role) && !builtin::is_builtin(role) {
                    check.problem(&row.place, format!("its role `{role}` is not there"), REFERENCE);
                }
            }
            _ => {}
        }
    }
    check
}

fn are_successive(numbers: &[i64]) -> bool {
    match numbers {
        [first, second] => first.checked_add(1) == Some(*second),
        _ => true,
    }
}
