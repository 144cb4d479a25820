//! The one follower of a process: what its subscribers get, and what they cost the store.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "support/database.rs"]
mod database;

use std::{collections::BTreeSet, sync::Arc};

use database::{Database, commit, delete, put, user};
use mcpctl_access::{Change, Snapshot};
use mcpctl_api::Revision;
use mcpctl_store::{Feed, Location, Replica};
use mcpctl_testkit::daemons::eventually;
use sqlx::{Connection as _, PgConnection};
use tokio::sync::watch;

/// Waits until a subscriber has this revision or a later one.
async fn revision(subscriber: &mut watch::Receiver<Arc<Snapshot>>, revision: u64) -> Revision {
    subscriber.wait_for(|snapshot| snapshot.revision().0 >= revision).await.unwrap().revision()
}

async fn subscribers_get_what_this_replica_commits(database: Database) {
    let store = database.open().await;
    let replica = Replica::start(store.clone()).await.unwrap();
    let mut subscribers: Vec<_> = (0..1000).map(|_| replica.subscribe()).collect();
    let before = replica.reads();
    for base in 0..100 {
        commit(&store, base, vec![put(&format!("u{base}"), base + 1)]).await.unwrap();
        for subscriber in &mut subscribers {
            revision(subscriber, base + 1).await;
        }
    }
    let reads = replica.reads() - before;
    assert!(reads <= 200, "{reads} reads for 100 commits and 1000 subscribers");
}

/// A commit takes part in no other: what is decided between two of them was never true.
async fn subscribers_see_whole_commits_alone(database: Database) {
    const CHANGES: u64 = 1500;
    let (one, two) = (database.open().await, database.open().await);
    let replica = Replica::start(one.clone()).await.unwrap();
    let mut subscriber = replica.subscribe();
    let seen = tokio::spawn(async move {
        let mut seen = BTreeSet::new();
        loop {
            let revision = subscriber.borrow_and_update().revision();
            seen.insert(revision.0);
            if revision.0 == 4 * CHANGES {
                return seen;
            }
            subscriber.changed().await.unwrap();
        }
    });
    for round in 0..4 {
        let base = round * CHANGES;
        let changes = (1..=CHANGES).map(|n| put(&format!("u{round}-{n}"), base + n)).collect();
        // The last one by the replica's own store, so that the file's replica reads at once.
        let store = if round == 3 { &one } else { &two };
        commit(store, base, changes).await.unwrap();
    }
    for revision in seen.await.unwrap() {
        assert_eq!(revision % CHANGES, 0, "a part of a commit was published");
    }
}

async fn recent_changes_are_read_from_memory_as_from_the_store(database: Database) {
    let store = database.open().await;
    commit(&store, 0, vec![put("before", 1)]).await.unwrap();
    let replica = Replica::start(store.clone()).await.unwrap();
    let (a, b) = (user("a", 2), user("b", 3));
    commit(&store, 1, vec![Change::Put(Arc::clone(&a)), Change::Put(b)]).await.unwrap();
    let again = database::at(&a, 4);
    commit(&store, 3, vec![Change::Put(again)]).await.unwrap();
    commit(&store, 4, vec![delete(&a, 5), put("c", 6)]).await.unwrap();
    revision(&mut replica.subscribe(), 6).await;
    for since in 0..=7 {
        for limit in [1, 2, 100] {
            let (mine, theirs) = (
                replica.changes_since(Revision(since), limit).await.unwrap(),
                store.changes_since(Revision(since), limit).await.unwrap(),
            );
            let (Feed::Changes { changes: mine, .. }, Feed::Changes { changes: theirs, .. }) = (mine, theirs)
            else {
                panic!("compacted")
            };
            // The store counts changes towards the limit that were made again later.
            assert!(mine.starts_with(&theirs), "since {since}, at most {limit}");
        }
    }
}

macro_rules! on_both {
    ($($case:ident)*) => {
        mod sqlite { $( #[tokio::test] async fn $case() { super::$case(super::Database::sqlite()).await } )* }
        mod postgres { $( #[tokio::test] async fn $case() { super::$case(super::Database::postgres()).await } )* }
    };
}

on_both! {
    subscribers_get_what_this_replica_commits
    subscribers_see_whole_commits_alone
    recent_changes_are_read_from_memory_as_from_the_store
}

/// Ends the connections that listen, and returns how many there were.
async fn end_listening(database: &Database) -> usize {
    let Location::Postgres(url) = &database.location else { panic!("PostgreSQL alone listens") };
    let mut connection = PgConnection::connect(url).await.unwrap();
    let ended: Vec<bool> = sqlx::query_scalar(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'mcpd listens'",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    ended.len()
}

/// The bound of a test is far below a hundred polls, so what passes here was announced.
#[tokio::test]
async fn postgres_announces_commits_to_other_replicas() {
    let database = Database::postgres();
    let (one, two) = (database.open().await, database.open().await);
    let replica = Replica::start(two).await.unwrap();
    let mut subscriber = replica.subscribe();
    for base in 0..100 {
        commit(&one, base, vec![put(&format!("u{base}"), base + 1)]).await.unwrap();
        revision(&mut subscriber, base + 1).await;
    }
}

#[tokio::test]
async fn lost_notices_cost_time_alone() {
    let mut database = Database::postgres();
    let (one, two) = (database.open().await, database.open().await);
    let replica = Replica::start(two).await.unwrap();
    let mut subscriber = replica.subscribe();
    for base in 0..5 {
        eventually("a connection listens", async || (end_listening(&database).await > 0).then_some(())).await;
        commit(&one, base, vec![put(&format!("u{base}"), base + 1)]).await.unwrap();
        revision(&mut subscriber, base + 1).await;
    }
    database.postgres.as_mut().unwrap().stop();
    let confirmed = replica.confirmed_at();
    database.postgres.as_mut().unwrap().start_again();
    commit(&one, 5, vec![put("u5", 6)]).await.unwrap();
    revision(&mut subscriber, 6).await;
    assert!(replica.confirmed_at() > confirmed);
    eventually("a connection listens", async || (end_listening(&database).await > 0).then_some(())).await;
}

#[tokio::test]
async fn sqlite_shows_what_other_programs_commit() {
    let database = Database::sqlite();
    let replica = Replica::start(database.open().await).await.unwrap();
    commit(&database.open().await, 0, vec![put("u", 1)]).await.unwrap();
    revision(&mut replica.subscribe(), 1).await;
}
