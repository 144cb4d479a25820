//! Rows of audit and usage in groups of any size, on SQLite and on PostgreSQL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "support/database.rs"]
mod database;

use database::Database;
use jiff::Timestamp;
use mcpctl_api::{Id, Kind, Revision};
use mcpctl_store::{AuditFilter, AuditRow, Decision, Durability, Recorder, UsageFilter, UsageRow};
use uuid::Uuid;

fn audit(n: u64) -> AuditRow {
    AuditRow {
        id: Uuid::now_v7(),
        at: Timestamp::from_microsecond(1_800_000_000_000_000).unwrap(),
        principal: format!("User u{n}"),
        principal_id: Some(Id::mint()),
        token_id: n.is_multiple_of(2).then(Id::mint),
        action: "run".to_owned(),
        kind: Kind::Llm,
        resource_id: n.is_multiple_of(3).then(Id::mint),
        resource_name: "claude".to_owned(),
        decision: if n.is_multiple_of(2) { Decision::Allowed } else { Decision::Denied },
        reason: "no rule".to_owned(),
        revision: Revision(n),
        request_id: format!("r{n}"),
    }
}

fn usage(n: u64) -> UsageRow {
    UsageRow {
        id: Uuid::now_v7(),
        at: Timestamp::from_microsecond(1_800_000_000_000_000).unwrap(),
        principal: format!("User u{n}"),
        principal_id: n.is_multiple_of(2).then(Id::mint),
        token_id: Id::mint(),
        llm_id: Id::mint(),
        llm_name: "claude".to_owned(),
        model: "claude-4".to_owned(),
        target: n.is_multiple_of(2).then(|| "api.example.com:443".to_owned()),
        input_tokens: n,
        output_tokens: n + 1,
        cached_input_tokens: n + 2,
        cache_write_input_tokens: n + 3,
        reasoning_tokens: n + 4,
        estimated: n.is_multiple_of(3),
        cost_nanos: n.is_multiple_of(2).then_some(n + 5),
        stream: n.is_multiple_of(2),
        outcome: "ok".to_owned(),
        status: 200,
        attempts: 2,
        begins: n.is_multiple_of(2),
        fallback: n.is_multiple_of(3),
        duration_ms: n + 6,
        request_id: format!("r{n}"),
    }
}

/// What goes in together comes out, whichever number of rows of each table shares a transaction.
async fn groups_of_any_size_are_stored(database: Database) {
    let store = database.open().await;
    let recorder = Recorder::new(store.clone(), Durability::default());
    let (mut audits, mut usages) = (Vec::new(), Vec::new());
    for (of_audit, of_usage) in [
        (1, 0),
        (0, 1),
        (1, 1),
        (3, 2),
        (5, 9),
        (0, 33),
        (64, 64),
        (65, 1),
        (2, 130),
        (200, 0),
        (0, 4),
        (0, 3),
        (4, 0),
        (3, 0),
    ] {
        let group: Vec<AuditRow> = (0..of_audit).map(audit).collect();
        let used: Vec<UsageRow> = (0..of_usage).map(usage).collect();
        let (first, second) = tokio::join!(recorder.audit(group.clone()), recorder.usage(used.clone()));
        first.unwrap();
        second.unwrap();
        audits.extend(group);
        usages.extend(used);
    }
    let mut found = store.audit(&AuditFilter { limit: 9999, ..AuditFilter::default() }).await.unwrap();
    let mut used = store.usage(&UsageFilter { limit: 9999, ..UsageFilter::default() }).await.unwrap();
    for rows in [&mut found, &mut audits] {
        rows.sort_by_key(|row| row.id);
    }
    for rows in [&mut used, &mut usages] {
        rows.sort_by_key(|row| row.id);
    }
    assert_eq!(found, audits);
    assert_eq!(used, usages);
}

#[tokio::test]
async fn groups_of_any_size_are_stored_in_sqlite() {
    groups_of_any_size_are_stored(Database::sqlite()).await;
}

#[tokio::test]
async fn groups_of_any_size_are_stored_in_postgres() {
    groups_of_any_size_are_stored(Database::postgres()).await;
}

#[tokio::test]
async fn usage_that_was_begun_is_stored_by_the_close() {
    let database = Database::sqlite();
    let store = database.open().await;
    let recorder = Recorder::new(store.clone(), Durability::default());
    let begun = recorder.begin_usage(vec![usage(1)]);
    recorder.close().await;
    begun.await.unwrap();
    assert!(recorder.usage(vec![usage(2)]).await.is_err(), "closed");
    assert_eq!(store.usage(&UsageFilter { limit: 10, ..UsageFilter::default() }).await.unwrap().len(), 1);
}
