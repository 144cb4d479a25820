//! The process that serves an SQLite database: its replica reads when something was committed, and only then.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "support/database.rs"]
mod database;

use std::sync::Arc;

use database::{Database, commit, put};
use jiff::Timestamp;
use mcpctl_api::{Kind, Revision};
use mcpctl_store::{AuditRow, CommitError, Decision, Location, Ownership, Replica, Store};

async fn owned(database: &Database) -> Store {
    let Location::Sqlite(path) = &database.location else { panic!("SQLite alone has an owner") };
    let ownership = Ownership::take(path).unwrap();
    database.open().await.owned(ownership)
}

#[tokio::test]
async fn inv_05_owner_reads_after_each_commit_and_only_then() {
    let database = Database::sqlite();
    let store = owned(&database).await;
    let guest = database.open().await;
    let replica = Replica::start(store.clone()).await.unwrap();
    replica.fresh().await.unwrap();
    for base in 0..200 {
        // Another program, as `mcpd bootstrap-token`, writes as well.
        let writer = if base % 3 == 0 { &guest } else { &store };
        commit(writer, base, vec![put(&format!("u{base}"), base + 1)]).await.unwrap();
        assert_eq!(replica.fresh().await.unwrap().revision(), Revision(base + 1));
        let reads = replica.reads();
        for _ in 0..10 {
            assert_eq!(replica.fresh().await.unwrap().revision(), Revision(base + 1));
        }
        assert_eq!(replica.reads(), reads, "nothing was committed, and the store was read");
    }
}

/// The caller of a commit goes away at any moment: before its effect, after it, or between.
#[tokio::test]
async fn inv_05_commit_whose_caller_left_is_not_missed() {
    let database = Database::sqlite();
    let store = owned(&database).await;
    let replica = Replica::start(store.clone()).await.unwrap();
    let mut took_effect = 0;
    for round in 0..200 {
        let base = store.current_revision().await.unwrap().0;
        let commit = tokio::spawn({
            let store = store.clone();
            async move { commit(&store, base, vec![put(&format!("u{round}"), base + 1)]).await }
        });
        for _ in 0..round * 25 {
            tokio::task::yield_now().await;
        }
        commit.abort();
        let _ = commit.await;
        let there = store.current_revision().await.unwrap();
        let fresh = replica.fresh().await.unwrap().revision();
        assert!(fresh >= there, "{fresh} where the store is at {there}");
        took_effect += there.0 - base;
    }
    assert!(took_effect > 0, "no commit came as far as that");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_05_writers_and_readers_at_once_see_what_was_acknowledged() {
    let database = Database::sqlite();
    let (store, guest) = (owned(&database).await, database.open().await);
    let replica = Replica::start(store.clone()).await.unwrap();
    let writers = [&store, &store, &guest].into_iter().enumerate().map(|(writer, store)| {
        let (store, replica) = (store.clone(), Arc::clone(&replica));
        tokio::spawn(async move {
            for n in 0..50 {
                let acknowledged = loop {
                    let base = replica.fresh().await.unwrap().revision().0;
                    match commit(&store, base, vec![put(&format!("u{writer}-{n}"), base + 1)]).await {
                        Ok(revision) => break revision,
                        Err(CommitError::Moved { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                };
                let fresh = replica.fresh().await.unwrap().revision();
                assert!(fresh >= acknowledged, "{fresh} after {acknowledged} was acknowledged");
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    assert_eq!(replica.fresh().await.unwrap().revision(), Revision(150));
}

#[tokio::test]
async fn owner_knows_the_key_that_signs_after_a_rotation() {
    let database = Database::sqlite();
    let store = owned(&database).await;
    store.signing_keys().await.unwrap();
    let replica = Replica::start(store.clone()).await.unwrap();
    for _ in 0..5 {
        replica.fresh().await.unwrap();
        let rotated = store.rotate_signing_keys(None, None, rotation()).await.unwrap();
        replica.fresh().await.unwrap();
        assert_eq!(replica.signing_key(), rotated.number);
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

#[tokio::test]
async fn rare_actions_of_the_audit_are_found_by_their_index() {
    use sqlx::{Connection as _, Row as _};
    let database = Database::sqlite();
    drop(database.open().await);
    let Location::Sqlite(path) = &database.location else { panic!("SQLite") };
    let url = format!("sqlite://{}", path.display());
    let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
    // As `Store::audit_events` asks.
    let plan = sqlx::query(
        "EXPLAIN QUERY PLAN SELECT * FROM audit WHERE TRUE AND action = ? AND action NOT IN ('run', 'view') \
         ORDER BY at DESC, id DESC LIMIT ?",
    )
    .bind("login")
    .bind(10)
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let plan: Vec<String> = plan.iter().map(|step| step.get("detail")).collect();
    assert!(plan.iter().any(|step| step.contains("audit_rare_action")), "{plan:?}");
}
