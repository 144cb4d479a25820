//! Conformance of the store: every case runs on SQLite and on PostgreSQL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "support/database.rs"]
mod database;

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use jiff::Timestamp;
use mcpctl_access::{Change, Confidential, Snapshot, Stored};
use mcpctl_api::{
    Id, Kind, Resource, Revision, Spec,
    spec::{SecretSpec, UserSpec},
};
use mcpctl_journal::{ChainHead, JournalEntry, Line, LineHash};
use mcpctl_secret::envelope::{Keyring, MasterKey};
use mcpctl_store::{
    AuditFilter, AuditQuery, AuditRow, CommitError, Confirmation, CounterChange, Decision, Discontinuity,
    Durability, Feed, HandOverError, HandedOver, JournalBatch, JournalVolume, LimitCounter, LimitKey,
    Location, OpenError, Recorder, Replica, ReportedLine, RotationError, Store, StoreError, UsagePart,
    UsageQuery, UsageRow,
};
use proptest::prelude::*;

use database::{Database, commit, delete, put, stored, user};

/// Declares every case as a test of both databases.
macro_rules! on_both {
    ($($case:ident)*) => {
        mod sqlite { $( #[tokio::test] async fn $case() { super::$case(super::Database::sqlite()).await } )* }
        mod postgres { $( #[tokio::test] async fn $case() { super::$case(super::Database::postgres()).await } )* }
    };
}

on_both! {
    revisions_are_gap_free_under_many_writers
    a_commit_is_all_or_nothing
    a_commit_on_an_old_state_is_refused
    every_change_has_an_audit_row
    the_feed_is_in_order_and_resumable
    a_compacted_feed_is_reported
    names_are_unique_per_kind_and_free_again_after_a_delete
    confidential_parts_stay_out_of_what_is_shown
    another_master_key_is_refused
    rotated_master_key_opens_everything_and_the_earlier_one_seals_nothing_more
    inv_05_a_commit_is_seen_by_the_next_fresh_of_another_replica
    fresh_calls_share_reads
    inv_08_without_a_database_there_is_no_snapshot
    recorded_rows_are_there_when_it_returns
    texts_of_records_are_bounded
    old_records_are_removed_in_batches
    inv_14_lines_of_journals_are_recorded_once
    forks_volume_and_proofs_of_journals
    audit_is_read_in_pages_and_by_filters
    counters_add_up_across_replicas
    limit_counters_lose_no_update_of_any_replica
    replicas_that_start_together_make_one_pair_of_keys
    a_rotation_keeps_the_next_key_and_is_recorded
    tampered_or_swapped_signing_keys_are_refused
    last_uses_only_move_forward_and_end_with_their_token
}

fn all(snapshot: &Snapshot) -> Vec<Arc<Stored>> {
    Kind::RESOURCES.into_iter().flat_map(|kind| snapshot.all(kind).cloned().collect::<Vec<_>>()).collect()
}

async fn revisions_are_gap_free_under_many_writers(database: Database) {
    let store = database.open().await;
    let writers = (0..50).map(|writer| {
        let store = store.clone();
        async move {
            let mut lost = 0;
            loop {
                let base = store.current_revision().await.unwrap();
                match commit(&store, base.0, vec![put(&format!("u{writer}"), base.0 + 1)]).await {
                    Ok(revision) => return (revision, lost),
                    Err(CommitError::Moved { current }) => {
                        assert!(current > base);
                        lost += 1;
                    }
                    Err(error) => panic!("{error:?}"),
                }
            }
        }
    });
    let ended = futures::future::join_all(writers).await;
    let mut revisions: Vec<u64> = ended.iter().map(|(revision, _)| revision.0).collect();
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=50).collect::<Vec<_>>());
    assert!(ended.iter().any(|(_, lost)| *lost > 0), "no writer lost, so the race was not tested");
    assert_eq!(store.current_revision().await.unwrap(), Revision(50));
    assert_eq!(store.load().await.unwrap().len(), 50);
}

async fn a_commit_is_all_or_nothing(database: Database) {
    let store = database.open().await;
    commit(&store, 0, vec![put("taken", 1)]).await.unwrap();
    let refused = commit(&store, 1, vec![put("new", 2), put("taken", 3)]).await.unwrap_err();
    assert!(matches!(refused, CommitError::NameTaken { .. }), "{refused}");
    assert_eq!(store.current_revision().await.unwrap(), Revision(1), "no revision is left of it");
    assert!(store.load().await.unwrap().by_name(Kind::User, "new").is_none());
    let wrong = commit(&store, 1, vec![put("new", 3)]).await;
    assert!(wrong.is_err(), "a gap is not accepted");
    assert_eq!(commit(&store, 1, vec![put("new", 2)]).await.unwrap(), Revision(2));
}

async fn a_commit_on_an_old_state_is_refused(database: Database) {
    let store = database.open().await;
    commit(&store, 0, vec![put("a", 1)]).await.unwrap();
    let late = commit(&store, 0, vec![put("b", 1)]).await.unwrap_err();
    assert!(matches!(late, CommitError::Moved { current: Revision(1) }), "{late}");
    let early = commit(&store, 7, vec![put("b", 8)]).await.unwrap_err();
    assert!(matches!(early, CommitError::Moved { current: Revision(1) }), "{early}");
}

async fn every_change_has_an_audit_row(database: Database) {
    let store = database.open().await;
    let a = user("a", 1);
    commit(&store, 0, vec![Change::Put(Arc::clone(&a)), put("b", 2)]).await.unwrap();
    commit(&store, 2, vec![delete(&a, 3)]).await.unwrap();
    commit(&store, 2, vec![put("late", 3)]).await.unwrap_err();
    let rows = store.audit(&AuditFilter { limit: 10, ..AuditFilter::default() }).await.unwrap();
    let mut rows: Vec<_> = rows
        .iter()
        .map(|row| (row.revision.0, row.action.as_str(), row.resource_name.as_str(), row.principal.as_str()))
        .collect();
    rows.sort_unstable();
    assert_eq!(
        rows,
        [(1, "create", "a", "tester"), (2, "create", "b", "tester"), (3, "delete", "a", "tester")]
    );
}

async fn the_feed_is_in_order_and_resumable(database: Database) {
    let store = database.open().await;
    let (a, b) = (user("a", 1), user("b", 2));
    commit(&store, 0, vec![Change::Put(Arc::clone(&a)), Change::Put(b)]).await.unwrap();
    let again = Resource { revision: Revision(3), ..a.resource.clone() };
    let again = Arc::new(Stored { resource: again, confidential: None });
    commit(&store, 2, vec![Change::Put(Arc::clone(&again)), put("c", 4)]).await.unwrap();
    commit(&store, 4, vec![delete(&again, 5)]).await.unwrap();

    let Feed::Changes { up_to, changes } = store.changes_since(Revision(0), 100).await.unwrap() else {
        panic!()
    };
    assert_eq!(up_to, Revision(5));
    let seen: Vec<u64> = changes.iter().map(|change| change.revision().0).collect();
    assert_eq!(seen, [2, 4, 5], "each resource once, at its last change");
    let Feed::Changes { up_to, changes } = store.changes_since(Revision(1), 2).await.unwrap() else {
        panic!()
    };
    assert_eq!((up_to, changes.len()), (Revision(3), 1), "a page ends where it ends");

    let mut replica = Snapshot::default();
    while replica.revision() < Revision(5) {
        let Feed::Changes { up_to, changes } = store.changes_since(replica.revision(), 2).await.unwrap()
        else {
            panic!()
        };
        replica = replica.after(up_to, changes);
    }
    assert_eq!(all(&replica), all(&store.load().await.unwrap()));
}

async fn a_compacted_feed_is_reported(database: Database) {
    let store = database.open().await;
    commit(&store, 0, vec![put("a", 1), put("b", 2), put("c", 3)]).await.unwrap();
    assert_eq!(store.compact(Duration::from_secs(3600)).await.unwrap(), 0);
    assert_eq!(store.compact(Duration::ZERO).await.unwrap(), 2, "the latest one stays");
    assert_eq!(store.changes_since(Revision(0), 10).await.unwrap(), Feed::Compacted);
    assert!(matches!(store.changes_since(Revision(2), 10).await.unwrap(), Feed::Changes { .. }));
    assert!(matches!(store.changes_since(Revision(3), 10).await.unwrap(), Feed::Changes { .. }));
    let replica = Replica::start(store.clone()).await.unwrap();
    commit(&store, 3, vec![put("d", 4)]).await.unwrap();
    store.compact(Duration::ZERO).await.unwrap();
    assert_eq!(replica.fresh().await.unwrap().len(), 4);
}

async fn names_are_unique_per_kind_and_free_again_after_a_delete(database: Database) {
    let store = database.open().await;
    let first = user("a", 1);
    commit(&store, 0, vec![Change::Put(Arc::clone(&first))]).await.unwrap();
    let group = stored("a", Spec::Group(Default::default()), 2, None);
    commit(&store, 1, vec![Change::Put(group)]).await.unwrap();
    commit(&store, 2, vec![delete(&first, 3), put("a", 4)]).await.unwrap();
    let second = store.load().await.unwrap().by_name(Kind::User, "a").unwrap().id().clone();
    assert_ne!(second, *first.id());
}

async fn confidential_parts_stay_out_of_what_is_shown(database: Database) {
    let store = database.open().await;
    let data = [("token".to_owned(), None)].into();
    let secret =
        stored("s", Spec::Secret(SecretSpec { hosts: Vec::new(), description: None, data }), 1, None);
    let sealed = store.seal(secret.id(), b"pl4in-text-value").unwrap();
    let mut secret = Arc::unwrap_or_clone(secret);
    secret.confidential = Some(Confidential::Sealed(sealed));
    let hash = Some(Confidential::PasswordHash("$argon2id$h4sh".to_owned()));
    let user = stored("u", Spec::User(UserSpec::default()), 2, hash);
    commit(&store, 0, vec![Change::Put(Arc::new(secret)), Change::Put(user)]).await.unwrap();

    let snapshot = store.load().await.unwrap();
    let secret = snapshot.by_name(Kind::Secret, "s").unwrap();
    assert_eq!(store.unseal(secret).unwrap(), b"pl4in-text-value");
    let shown = serde_json::to_string(&secret.resource).unwrap();
    assert!(!shown.contains("pl4in") && !format!("{secret:?}").contains("pl4in"));
    // Moved to another resource, it does not open: the id is part of the seal.
    let mut moved = Stored::clone(secret);
    moved.resource.id = Id::mint();
    assert!(store.unseal(&moved).is_err());
    store.close().await;
    for file in std::fs::read_dir(database.dir.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(16).any(|window| window == b"pl4in-text-value"), "encrypted at rest");
    }
}

async fn rotated_master_key_opens_everything_and_the_earlier_one_seals_nothing_more(database: Database) {
    let (store, other) = (database.open().await, database.open().await);
    let signing = store.signing_keys().await.unwrap().current;
    let secret = |store: &Store, name: &str, revision: u64| {
        let spec =
            SecretSpec { hosts: Vec::new(), description: None, data: [("token".to_owned(), None)].into() };
        let mut secret = Arc::unwrap_or_clone(stored(name, Spec::Secret(spec), revision, None));
        secret.confidential = Some(Confidential::Sealed(store.seal(secret.id(), name.as_bytes()).unwrap()));
        Change::Put(Arc::new(secret))
    };
    commit(&store, 0, vec![secret(&store, "one", 1), secret(&store, "two", 2)]).await.unwrap();
    let next = MasterKey::generate().unwrap();
    let text = next.to_text();
    let resealed = store.rotate_master_key(next).await.unwrap();
    assert_eq!((resealed.secrets, resealed.signing_keys), (2, 2));
    assert_eq!(
        store.audit(&AuditFilter { limit: 1, ..AuditFilter::default() }).await.unwrap()[0].action,
        "rotate-master-key"
    );

    // What had the earlier key can write what is not sealed, and nothing else.
    let refused = commit(&other, 2, vec![secret(&other, "three", 3)]).await;
    assert!(matches!(refused, Err(CommitError::Store(StoreError::MasterKeyRotated))), "{refused:?}");
    assert_eq!(other.current_revision().await.unwrap(), Revision(2));
    commit(&other, 2, vec![put("alice", 3)]).await.unwrap();
    assert!(other.signing_keys().await.is_err());

    let keys = Arc::new(Keyring::new(MasterKey::from_text(&text).unwrap()));
    let rotated = Store::open(&database.location, keys).await.unwrap();
    assert_eq!(rotated.signing_keys().await.unwrap().current.public(), signing.public());
    let snapshot = rotated.load().await.unwrap();
    for name in ["one", "two"] {
        assert_eq!(rotated.unseal(snapshot.by_name(Kind::Secret, name).unwrap()).unwrap(), name.as_bytes());
    }
}

async fn another_master_key_is_refused(database: Database) {
    database.open().await.close().await;
    let other = Arc::new(Keyring::new(MasterKey::generate().unwrap()));
    let refused = Store::open(&database.location, other).await.err().unwrap();
    assert!(matches!(refused, OpenError::WrongMasterKey { .. }), "{refused}");
    assert!(refused.hint().is_some() && !refused.to_string().contains('\n'));
    database.open().await;
}

async fn inv_05_a_commit_is_seen_by_the_next_fresh_of_another_replica(database: Database) {
    let (one, two) = (database.open().await, database.open().await);
    let replica = Replica::start(two).await.unwrap();
    for base in 0..100 {
        commit(&one, base, vec![put(&format!("u{base}"), base + 1)]).await.unwrap();
        let fresh = replica.fresh().await.unwrap();
        assert_eq!(fresh.revision(), Revision(base + 1));
        assert!(fresh.by_name(Kind::User, &format!("u{base}")).is_some());
    }
}

async fn fresh_calls_share_reads(database: Database) {
    let replica = Replica::start(database.open().await).await.unwrap();
    let before = replica.reads();
    let calls = (0..200).map(|_| replica.fresh());
    assert!(futures::future::join_all(calls).await.iter().all(Result::is_ok));
    let reads = replica.reads() - before;
    assert!((1..=50).contains(&reads), "{reads} reads for 200 calls");
}

async fn inv_08_without_a_database_there_is_no_snapshot(mut database: Database) {
    let store = database.open().await;
    let replica = Replica::start(store.clone()).await.unwrap();
    assert!(replica.fresh().await.is_ok());
    match &mut database.postgres {
        Some(postgres) => {
            postgres.stop();
            assert!(replica.fresh().await.is_err(), "an old snapshot was given out");
            postgres.start_again();
            assert!(replica.fresh().await.is_ok(), "it comes back by itself");
        }
        None => {
            store.close().await;
            assert!(replica.fresh().await.is_err(), "an old snapshot was given out");
        }
    }
}

fn audit_row(n: u64) -> AuditRow {
    AuditRow {
        id: uuid::Uuid::now_v7(),
        at: Timestamp::from_microsecond(1_800_000_000_000_000).unwrap(),
        principal: format!("User u{n}"),
        principal_id: Some(Id::mint()),
        token_id: Some(Id::mint()),
        action: "run".to_owned(),
        kind: Kind::Llm,
        resource_id: Some(Id::mint()),
        resource_name: "claude".to_owned(),
        decision: Decision::Denied,
        reason: "no rule".to_owned(),
        revision: Revision(n),
        request_id: "r".to_owned(),
    }
}

async fn texts_of_records_are_bounded(database: Database) {
    let store = database.open().await;
    let recorder = Recorder::new(store.clone(), Durability::default());
    let long = "x\0\n\u{202e}".repeat(100_000);
    let row = AuditRow {
        principal: long.clone(),
        action: long.clone(),
        resource_name: long.clone(),
        reason: long.clone(),
        request_id: long,
        ..audit_row(1)
    };
    recorder.audit(vec![row]).await.unwrap();
    let found = store.audit(&AuditFilter { limit: 1, ..AuditFilter::default() }).await.unwrap().remove(0);
    for text in [found.principal, found.action, found.resource_name, found.reason, found.request_id] {
        assert!(text.len() <= 512 && !text.contains(['\0', '\n', '\u{202e}']), "{text}");
    }
}

async fn old_records_are_removed_in_batches(database: Database) {
    let store = database.open().await;
    let recorder = Recorder::new(store.clone(), Durability::default());
    let second = |n: u64| Timestamp::from_second(1_800_000_000 + n as i64).unwrap();
    recorder.audit((0..10).map(|n| AuditRow { at: second(n), ..audit_row(n) }).collect()).await.unwrap();
    assert_eq!(store.prune_audit(second(7), 5).await.unwrap(), 5);
    let rows = async || {
        let all = AuditFilter { limit: 100, ..AuditFilter::default() };
        let rows = store.audit(&all).await.unwrap();
        rows.iter().map(|row| row.revision.0).collect::<Vec<_>>()
    };
    assert_eq!(rows().await, [9, 8, 7, 6, 5], "the oldest went first");
    assert_eq!(store.prune_audit(second(7), 5).await.unwrap(), 2);
    assert_eq!(rows().await, [9, 8, 7]);
    assert_eq!(store.prune_usage(second(7), 5).await.unwrap(), 0);
}

fn batch(agent: &Id, reporter: &Id, lines: &[Vec<u8>], gap: bool) -> JournalBatch {
    let line = |bytes: &Vec<u8>| ReportedLine {
        bytes: bytes.clone(),
        row: audit_row(1),
        confirmation: None,
        text: String::from_utf8(bytes.clone()).unwrap(),
        at: None,
    };
    JournalBatch {
        agent: agent.clone(),
        reported_by: "User alice".to_owned(),
        reported_by_id: reporter.clone(),
        lines: lines.iter().map(line).collect(),
        gap,
        max_agents: 2,
        volume: JournalVolume { per_day: 1 << 20, total: 2 << 20 },
        now: Timestamp::now(),
    }
}

async fn inv_14_lines_of_journals_are_recorded_once(database: Database) {
    let (one, other) = (database.open().await, database.open().await);
    let (agent, alice) = (Id::mint(), Id::mint());
    let lines = chained(ChainHead::genesis(&agent), 40, 0);
    let mark = |_: &ChainHead, _| AuditRow { action: "journal-gap".to_owned(), ..audit_row(2) };
    let hand_over = async |store: &Store, from: usize, to: usize| {
        store.hand_over(&batch(&agent, &alice, &lines[from..to], false), mark).await
    };
    // Two replicas get the same lines at the same time, again and again.
    for at in [0, 10, 20] {
        let (a, b) = futures::join!(hand_over(&one, at, at + 10), hand_over(&other, at, at + 10));
        let (a, b) = (a.unwrap(), b.unwrap());
        assert_eq!((a.recorded + b.recorded, a.breaks + b.breaks, a.head), (10, 0, b.head));
    }
    let repeated = hand_over(&one, 5, 15).await.unwrap();
    assert_eq!((repeated.recorded, repeated.breaks), (0, 0));
    assert_eq!(one.journal_head(&agent, &alice).await.unwrap().seq, 30);
    let refused = hand_over(&one, 35, 40).await;
    assert!(matches!(refused, Err(HandOverError::DoesNotContinue(ChainHead { seq: 30, .. }))), "{refused:?}");
    let admitted = one.hand_over(&batch(&agent, &alice, &lines[35..], true), mark).await.unwrap();
    assert!(matches!(admitted, HandedOver { recorded: 5, breaks: 1, .. }), "{admitted:?}");
    let all = AuditQuery { agent: Some(agent.clone()), limit: 100, ..AuditQuery::default() };
    let rows = one.audit_events(&all).await.unwrap();
    assert_eq!(rows.len(), 36);
    assert!(rows.iter().all(|row| row.report.as_ref().unwrap().reported_by_id == alice));
    // An account has so many agents, until those that are silent are forgotten.
    for _ in 0..2 {
        let agent = Id::mint();
        let first = one.hand_over(&batch(&agent, &alice, &lines[..1], true), mark).await;
        assert!(first.is_ok() || matches!(first, Err(HandOverError::TooManyAgents(2))), "{first:?}");
    }
    let third = one.hand_over(&batch(&Id::mint(), &alice, &lines[..1], true), mark).await;
    assert!(matches!(third, Err(HandOverError::TooManyAgents(2))), "{third:?}");
    let listed = one.reporting_agents(None, None, 10).await.unwrap();
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|listed| listed.reporter == alice));
    assert_eq!(listed.iter().find(|listed| listed.agent == agent).unwrap().lines, 40);
    assert_eq!(one.reporting_agents(Some(&alice), None, 1).await.unwrap(), listed[..1]);
    assert_eq!(one.reporting_agents(Some(&alice), listed.first(), 10).await.unwrap(), listed[1..]);
    assert_eq!(one.reporting_agents(Some(&Id::mint()), None, 10).await.unwrap(), []);
    let later = Timestamp::now().checked_add(jiff::SignedDuration::from_secs(1)).unwrap();
    assert_eq!(one.prune_journal_chains(later, 10).await.unwrap(), 2);
    assert_eq!(one.journal_head(&agent, &alice).await.unwrap(), ChainHead::genesis(&agent));
}

/// So many lines after this one.
fn chained(mut head: ChainHead, count: u64, first: u64) -> Vec<Vec<u8>> {
    let line = |refusals| {
        let entry = JournalEntry::Omitted { at: Timestamp::now(), refusals };
        let (line, next) = Line::after(head, &entry).unwrap();
        head = next;
        line
    };
    (first..first + count).map(line).collect()
}

async fn forks_volume_and_proofs_of_journals(database: Database) {
    let store = database.open().await;
    let (agent, alice) = (Id::mint(), Id::mint());
    let mark = |before: &ChainHead, what: Discontinuity| AuditRow {
        action: format!("{} {}", if what == Discontinuity::Fork { "fork" } else { "gap" }, before.seq),
        ..audit_row(2)
    };
    let genesis = ChainHead::genesis(&agent);
    let lines = chained(genesis, 6, 0);
    let third = ChainHead { seq: 3, hash: LineHash::of(&lines[2]) };
    let copied = [&lines[2..3], &chained(third, 2, 100)[..]].concat();
    for lines in [&lines[..], &copied, &lines[1..6]] {
        store.hand_over(&batch(&agent, &alice, lines, false), mark).await.unwrap();
    }
    let actions = async |agent: &Id| {
        let all = AuditQuery { agent: Some(agent.clone()), limit: 100, ..AuditQuery::default() };
        let rows = store.audit_events(&all).await.unwrap();
        let marks = rows.into_iter().filter(|row| row.report.as_ref().unwrap().seq.is_none());
        marks.map(|row| row.row.action).collect::<Vec<_>>()
    };
    assert_eq!(actions(&agent).await, ["fork 3"]);

    // A proof confirms one line; the same line sent again is no second one.
    let confirmed = batch_with_proofs(&agent, &alice, &chained(genesis, 3, 200));
    for _ in 0..2 {
        store.hand_over(&confirmed, mark).await.unwrap();
    }
    let of = |action: &str| AuditQuery { action: Some(action.to_owned()), limit: 9, ..AuditQuery::default() };
    assert_eq!(store.audit_events(&of("confirmed")).await.unwrap().len(), 1);
    assert_eq!(store.audit_events(&of("used")).await.unwrap().len(), 2);
    // With the line's row a failover counts, and with nothing else.
    while store.count_usage(100).await.unwrap() > 0 {}
    let (mut counted, all) = ((0, 0, 0), UsageQuery { until: i64::MAX, ..UsageQuery::default() });
    let take = |UsagePart { sums, .. }: UsagePart| {
        counted = (counted.0 + sums.requests, counted.1 + sums.fallbacks, counted.2 + sums.unpriced);
        true
    };
    store.usage_sums(&all, take).await.unwrap();
    assert_eq!(counted, (0, 1, 0));

    // Bytes of a day, then of all days: what is refused counts for nothing.
    let bob = Id::mint();
    let agent = Id::mint();
    let mut end = ChainHead::genesis(&agent);
    let mut days = Vec::new();
    for day in 0..4 {
        let mut recorded = 0;
        let refused = loop {
            let lines = chained(end, 100, 0);
            let mut batch = batch(&agent, &bob, &lines, false);
            batch.now = Timestamp::from_second(1_800_000_000 + day * 24 * 3600).unwrap();
            match store.hand_over(&batch, mark).await {
                Ok(handed) => (end, recorded) = (handed.head, recorded + handed.recorded),
                Err(error) => break error,
            }
        };
        days.push((
            recorded,
            matches!(refused, HandOverError::DayFull(_)),
            matches!(refused, HandOverError::Full(_)),
        ));
    }
    // 1 MiB a day and 2 MiB in all, each batch about 230 kB.
    assert_eq!(days, [(400, true, false), (400, true, false), (100, false, true), (0, false, true)]);
    store.prune_journal_days(Timestamp::from_second(1_800_000_000 + 24 * 3600).unwrap()).await.unwrap();
    let again = batch(&agent, &bob, &chained(end, 100, 0), false);
    assert_eq!(store.hand_over(&again, mark).await.unwrap().recorded, 100);
}

/// The lines, each with the same proof.
fn batch_with_proofs(agent: &Id, reporter: &Id, lines: &[Vec<u8>]) -> JournalBatch {
    let mut batch = batch(agent, reporter, lines, true);
    for line in &mut batch.lines {
        line.confirmation = Some(Confirmation {
            row: AuditRow { action: "confirmed".to_owned(), ..line.row.clone() },
            nonce: Some("n".to_owned()),
            used_up: AuditRow { action: "used".to_owned(), ..line.row.clone() },
            usage: Some(failover_row(&line.row)),
        });
    }
    batch
}

/// By which a failover counts.
fn failover_row(row: &AuditRow) -> UsageRow {
    UsageRow {
        id: row.id,
        at: row.at,
        principal: row.principal.clone(),
        principal_id: row.principal_id.clone(),
        token_id: Id::mint(),
        llm_id: Id::mint(),
        llm_name: "claude".to_owned(),
        model: String::new(),
        target: None,
        input_tokens: 0,
        output_tokens: 0,
        cached_input_tokens: 0,
        cache_write_input_tokens: 0,
        reasoning_tokens: 0,
        estimated: false,
        cost_nanos: Some(0),
        stream: false,
        outcome: "ok".to_owned(),
        status: 0,
        attempts: 0,
        begins: false,
        fallback: true,
        duration_ms: 0,
        request_id: row.request_id.clone(),
    }
}

async fn audit_is_read_in_pages_and_by_filters(database: Database) {
    let store = database.open().await;
    let recorder = Recorder::new(store.clone(), Durability::default());
    // All at one time, so that pages go by id.
    let rows: Vec<_> = (0..25).map(audit_row).collect();
    recorder.audit(rows.clone()).await.unwrap();
    let mut query = AuditQuery { limit: 10, ..AuditQuery::default() };
    let mut found = Vec::new();
    loop {
        let page = store.audit_events(&query).await.unwrap();
        let Some(last) = page.last() else { break };
        query.after = Some((last.row.at, last.row.id));
        found.extend(page.into_iter().map(|event| event.row));
    }
    found.reverse();
    assert_eq!(found, rows);
    let seven = &rows[7];
    let all = || AuditQuery { limit: 100, ..AuditQuery::default() };
    for query in [
        AuditQuery { principal_id: seven.principal_id.clone(), ..all() },
        AuditQuery { principal: Some("User u7".to_owned()), ..all() },
        AuditQuery {
            kind: Some(Kind::Llm),
            resource: seven.resource_id.as_ref().map(ToString::to_string),
            ..all()
        },
        AuditQuery {
            principal: Some("User u7".to_owned()),
            resource: Some("claude".to_owned()),
            action: Some("run".to_owned()),
            decision: Some(Decision::Denied),
            requests: Some(vec!["none".to_owned(), seven.request_id.clone()]),
            since: Some(seven.at),
            ..all()
        },
    ] {
        let found = store.audit_events(&query).await.unwrap();
        assert_eq!(found.len(), 1, "{query:?}");
        assert_eq!((&found[0].row, &found[0].report), (seven, &None));
    }
    for query in [
        AuditQuery { until: Some(seven.at), ..all() },
        AuditQuery { kind: Some(Kind::User), ..all() },
        AuditQuery { agent: Some(Id::mint()), ..all() },
        AuditQuery { requests: Some(vec!["none".to_owned()]), ..all() },
        AuditQuery { requests: Some(Vec::new()), ..all() },
        AuditQuery { decision: Some(Decision::Allowed), ..all() },
    ] {
        assert!(store.audit_events(&query).await.unwrap().is_empty(), "{query:?}");
    }
}

async fn counters_add_up_across_replicas(database: Database) {
    let (one, other) = (database.open().await, database.open().await);
    let (a, b, now) = ([1; 16], [2; 16], 1_000_000);
    let add = |key, micros| vec![(key, CounterChange::Add(micros))];
    assert_eq!(one.change_counters(now, add(a, 500)).await.unwrap(), [(a, now + 500)]);
    assert_eq!(other.change_counters(now + 100, add(a, 500)).await.unwrap(), [(a, now + 1000)]);
    assert_eq!(one.counters(&[a, b]).await.unwrap(), [(a, now + 1000)]);
    // What is full does not save up.
    assert_eq!(one.change_counters(now + 5000, add(a, 500)).await.unwrap(), [(a, now + 5500)]);
    let reset = vec![(a, CounterChange::Reset(0)), (b, CounterChange::Add(7))];
    assert_eq!(one.change_counters(now, reset).await.unwrap(), [(a, now), (b, now + 7)]);
    assert_eq!(other.prune_counters(now + 1, 100).await.unwrap(), 1);
    assert_eq!(other.counters(&[a, b]).await.unwrap(), [(b, now + 7)]);
}

async fn last_uses_only_move_forward_and_end_with_their_token(database: Database) {
    let (one, other) = (database.open().await, database.open().await);
    let token = Id::mint();
    let at = |second| Timestamp::from_second(second).unwrap();
    one.record_token_uses(&[(token.clone(), at(200))].into()).await.unwrap();
    other.record_token_uses(&[(token.clone(), at(100))].into()).await.unwrap();
    assert_eq!(one.token_uses().await.unwrap(), [(token.clone(), at(200))].into());
    other.record_token_uses(&[(token.clone(), at(300))].into()).await.unwrap();
    assert_eq!(one.token_uses().await.unwrap(), [(token.clone(), at(300))].into());
    // Of some tokens alone, however many they are.
    let mut asked: Vec<Id> = (0..1200).map(|_| Id::mint()).collect();
    assert!(one.token_uses_of(&asked).await.unwrap().is_empty());
    asked.push(token.clone());
    assert_eq!(one.token_uses_of(&asked).await.unwrap(), [(token.clone(), at(300))].into());
    assert!(one.token_uses_of(&[]).await.unwrap().is_empty());
    // There is no such token, or no longer.
    assert_eq!(one.prune_token_uses(10).await.unwrap(), 1);
    assert!(one.token_uses().await.unwrap().is_empty());
}

async fn limit_counters_lose_no_update_of_any_replica(database: Database) {
    let (one, other) = (database.open().await, database.open().await);
    let limit = Id::mint();
    let key = |subject: Option<&Id>| LimitKey {
        limit: limit.clone(),
        subject: subject.cloned(),
        counts: "requests/1m".to_owned(),
    };
    let alice = Id::mint();
    // Both take two counters each time, in either order, and add one to each.
    let add = async |store: &Store, keys: [LimitKey; 2]| {
        let added = store.change_limit_counters(keys, |counters| {
            for counter in counters.values_mut() {
                let count: u64 = counter.state.parse().unwrap_or(0);
                *counter = LimitCounter { state: (count + 1).to_string(), expires_at: 1000 };
            }
            Ok::<_, StoreError>(())
        });
        added.await.unwrap();
    };
    let (shared, own) = (key(None), key(Some(&alice)));
    let adding = (0..40).map(|at| {
        let store = if at % 2 == 0 { &one } else { &other };
        let keys = if at % 3 == 0 { [shared.clone(), own.clone()] } else { [own.clone(), shared.clone()] };
        add(store, keys)
    });
    // Not all at once: a waiter that gets no connection in time is an error of its own.
    futures::stream::iter(adding).buffer_unordered(4).collect::<Vec<()>>().await;
    let counted = LimitCounter { state: "40".to_owned(), expires_at: 1000 };
    let both = vec![(shared.clone(), counted.clone()), (own.clone(), counted)];
    assert_eq!(one.limit_counters(&limit, 999, 10).await.unwrap(), both);
    assert_eq!(other.limit_counters(&limit, 999, 1).await.unwrap().len(), 1);
    assert_eq!(one.limit_counters(&limit, 1000, 10).await.unwrap(), [], "expired ones are not shown");

    let failed = one.change_limit_counters([shared.clone()], |counters| {
        counters.values_mut().for_each(|counter| counter.state.clear());
        Err::<(), _>(StoreError::Ended("test"))
    });
    assert!(failed.await.is_err());
    assert_eq!(one.limit_counters(&limit, 0, 10).await.unwrap(), both, "an error changes nothing");
    assert_eq!(other.prune_limit_counters(1000, 10).await.unwrap(), 0);
    assert_eq!(other.prune_limit_counters(1001, 1).await.unwrap(), 1);
    assert_eq!(other.prune_limit_counters(1001, 10).await.unwrap(), 1);
}

async fn recorded_rows_are_there_when_it_returns(database: Database) {
    let store = database.open().await;
    let recorder = Recorder::new(store.clone(), Durability::default());
    let row = audit_row;
    let rows: Vec<AuditRow> = (0..300).map(row).collect();
    let records = rows.iter().map(|row| recorder.audit(vec![row.clone()]));
    assert!(futures::future::join_all(records).await.iter().all(Result::is_ok));
    let found = store.audit(&AuditFilter { limit: 1000, ..AuditFilter::default() }).await.unwrap();
    assert_eq!(found.len(), 300);
    let mine = AuditFilter { principal: Some("User u7".to_owned()), limit: 10 };
    assert_eq!(store.audit(&mine).await.unwrap(), [rows[7].clone()]);
    recorder.close().await;
    assert!(recorder.audit(vec![row(1)]).await.is_err(), "nothing is taken and dropped");
}

#[tokio::test]
async fn open_errors_are_one_line_with_a_hint() {
    let database = Database::sqlite();
    let file = database.dir.path().join("text");
    std::fs::write(&file, "this is no database but a text of more than a hundred bytes, so that it is read as a page of one, which it is not").unwrap();
    let missing = database.dir.path().join("no/such/dir/db");
    for location in [
        Location::Sqlite(file),
        Location::Sqlite(missing),
        Location::Postgres("postgres://u:p4ss@127.0.0.1:1/db".to_owned()),
    ] {
        let error = Store::open(&location, database.keys()).await.err().unwrap();
        let text = error.to_string();
        assert!(
            text.contains("cannot be opened") && !text.contains('\n') && !text.contains("p4ss"),
            "{text}"
        );
        assert!(error.hint().is_some());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever is done, following the changes leads where reading everything leads.
    #[test]
    fn following_and_loading_agree(steps in prop::collection::vec((0..4_usize, 0..5_usize), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let database = Database::sqlite();
            let store = database.open().await;
            let mut followed = Snapshot::default();
            for (step, which) in steps {
                let base = followed.revision().0;
                let name = format!("u{which}");
                let existing = followed.by_name(Kind::User, &name).cloned();
                let change = match (step, existing) {
                    (0, Some(old)) => delete(&old, base + 1),
                    (1, Some(old)) => {
                        let labels = [("n".to_owned(), base.to_string())].into();
                        let resource = Resource { labels, revision: Revision(base + 1), ..old.resource.clone() };
                        Change::Put(Arc::new(Stored { resource, confidential: None }))
                    }
                    (_, None) => put(&name, base + 1),
                    _ => continue,
                };
                commit(&store, base, vec![change.clone()]).await.unwrap();
                followed = followed.after(Revision(base + 1), [change]);
            }
            assert_eq!(all(&followed), all(&store.load().await.unwrap()));
        });
    }
}

fn rotation() -> AuditRow {
    AuditRow {
        id: uuid::Uuid::now_v7(),
        at: Timestamp::UNIX_EPOCH,
        principal: "User root".to_owned(),
        principal_id: None,
        token_id: None,
        action: "rotate-keys".to_owned(),
        kind: Kind::Secret,
        resource_id: None,
        resource_name: String::new(),
        decision: Decision::Allowed,
        reason: String::new(),
        revision: Revision(0),
        request_id: String::new(),
    }
}

async fn replicas_that_start_together_make_one_pair_of_keys(database: Database) {
    let store = database.open().await;
    let others = if database.postgres.is_some() { 8 } else { 0 };
    let mut replicas = vec![store.clone(), store.clone(), store];
    for _ in 0..others {
        replicas.push(database.open().await);
    }
    let started = futures::future::join_all(replicas.iter().map(Store::signing_keys)).await;
    let publics =
        |keys: &mcpctl_store::SigningKeys| (keys.number, *keys.current.public(), *keys.next.public());
    let first = publics(started[0].as_ref().unwrap());
    assert!(started.iter().all(|keys| publics(keys.as_ref().unwrap()) == first));
    assert_ne!(first.1, first.2);
    let later = database.open().await.signing_keys().await.unwrap();
    assert_eq!(publics(&later), first, "a restart keeps them");
}

async fn a_rotation_keeps_the_next_key_and_is_recorded(database: Database) {
    let store = database.open().await;
    let before = store.signing_keys().await.unwrap();
    let mut noticed = store.rotations();
    let current = before.current.public().id();
    let after = store.rotate_signing_keys(Some(&current), Some(Timestamp::MIN), rotation()).await.unwrap();
    assert_eq!((after.number, after.current.public()), (2, before.next.public()));
    assert!(noticed.has_changed().unwrap());
    noticed.mark_unchanged();
    assert!(after.next.public() != before.current.public() && after.next.public() != before.next.public());
    let read = store.signing_keys().await.unwrap();
    assert_eq!((read.number, read.next.public()), (2, after.next.public()));
    let row = store.audit(&AuditFilter { principal: None, limit: 1 }).await.unwrap().remove(0);
    assert_eq!(
        (row.action.as_str(), row.resource_name),
        ("rotate-keys", after.current.public().fingerprint().to_string())
    );

    // Two who rotate the same key rotate it once.
    let error = store.rotate_signing_keys(Some(&current), None, rotation()).await.unwrap_err();
    assert!(error.to_string().contains(&after.current.public().id().to_string()), "{error}");
    assert_eq!(store.signing_keys().await.unwrap().number, 2);
    assert!(!noticed.has_changed().unwrap());
    let soon = store.rotate_signing_keys(None, Some(Timestamp::MIN), rotation()).await.unwrap_err();
    let RotationError::TooSoon { rotated_at } = soon else { panic!("{soon}") };
    assert_eq!(store.signing_keys().await.unwrap().number, 2);
    assert_eq!(store.rotate_signing_keys(None, Some(rotated_at), rotation()).await.unwrap().number, 3);
    assert_eq!(store.rotate_signing_keys(None, None, rotation()).await.unwrap().number, 4);
}

async fn tampered_or_swapped_signing_keys_are_refused(database: Database) {
    let store = database.open().await;
    store.signing_keys().await.unwrap();
    database.execute("UPDATE signing_keys SET number = 3 - number + 10 WHERE number < 10").await;
    let swapped = store.signing_keys().await.unwrap_err().to_string();
    assert!(swapped.contains("signing key `11`") && swapped.contains("moved here"), "{swapped}");
    database.execute("DELETE FROM signing_keys WHERE number = 11").await;
    let one = store.signing_keys().await.unwrap_err().to_string();
    assert!(one.contains("there are not two"), "{one}");
    assert!(store.rotate_signing_keys(None, None, rotation()).await.is_err());
}
