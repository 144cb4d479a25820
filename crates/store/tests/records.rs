//! Rows of audit and usage in groups of any size, on SQLite and on PostgreSQL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "support/database.rs"]
mod database;

use database::Database;
use jiff::Timestamp;
use mcpctl_api::{Id, Kind, Revision};
use mcpctl_store::{AuditFilter, AuditRow, Decision, Durability, Location, Recorder, UsageFilter, UsageRow};
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
        duration_ms: n + 6,
        request_id: format!("r{n}"),
    }
}

/// What goes in together comes out, whichever number of rows of each table shares a transaction.
async fn groups_of_any_size_are_stored(database: Database) {
    let store = database.open().await;
    let recorder = Recorder::new(store.clone(), Durability::default());
    let (mut audits, mut usages) = (Vec::new(), Vec::new());
    for (of_audit, of_usage) in
        [(1, 0), (0, 1), (1, 1), (3, 2), (5, 9), (0, 33), (64, 64), (65, 1), (2, 130), (200, 0)]
    {
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

/// The steps by which SQLite finds the rows of a query.
async fn plan(database: &Database, query: &'static str) -> Vec<String> {
    use sqlx::{Connection as _, Row as _};
    drop(database.open().await);
    let Location::Sqlite(path) = &database.location else { panic!("SQLite") };
    let url = format!("sqlite://{}", path.display());
    let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let steps = sqlx::query(query).bind("").bind("").bind(10).fetch_all(&mut connection).await.unwrap();
    steps.iter().map(|step| step.get("detail")).collect()
}

#[tokio::test]
async fn rows_about_an_account_are_found_by_the_index_of_its_name() {
    // As `Store::audit_events` asks.
    let plan = plan(
        &Database::sqlite(),
        "EXPLAIN QUERY PLAN SELECT * FROM audit WHERE TRUE AND principal_id = ? AND principal = ? \
         ORDER BY at DESC, id DESC LIMIT ?",
    )
    .await;
    assert!(plan.iter().any(|step| step.contains("audit_principal ")), "{plan:?}");
}
