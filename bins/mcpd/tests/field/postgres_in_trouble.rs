//! PostgreSQL restarts, ends sessions, holds locks or takes no writes: everything is denied while it lasts, and mcpd
//! recovers by itself.

use futures::future::join_all;
use mcpctl_testkit::{daemons::McpdOptions, postgres::Postgres};
use reqwest::StatusCode;
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::store_trouble::World;

async fn world(postgres: &Postgres) -> World {
    World::with(McpdOptions { database_url: Some(postgres.url()), ..McpdOptions::default() }).await
}

async fn other(postgres: &Postgres) -> PgConnection {
    PgConnection::connect(&postgres.url()).await.unwrap()
}

async fn chats(world: &World) {
    let statuses = join_all((0..12).map(|_| world.chat())).await;
    assert!(statuses.iter().all(|status| *status == StatusCode::OK), "{statuses:?}");
}

#[tokio::test]
async fn ended_sessions_fail_no_later_request() {
    let postgres = Postgres::start();
    let mut world = world(&postgres).await;
    let mut other = other(&postgres).await;
    for _ in 0..3 {
        chats(&world).await;
        let all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        other.execute(all).await.unwrap();
        chats(&world).await;
        world.is_well("after the sessions ended").await;
    }
}

#[tokio::test]
async fn restart_denies_and_heals() {
    let mut postgres = Postgres::start();
    let mut world = world(&postgres).await;
    chats(&world).await;
    for round in 0..2 {
        postgres.stop();
        world.records_nothing(&format!("round {round}"), "the store does not answer").await;
        postgres.start_again();
        world.is_well("after the restart").await;
        chats(&world).await;
    }
}

#[tokio::test]
async fn locked_table_denies_and_heals() {
    let postgres = Postgres::start();
    let mut world = world(&postgres).await;
    let mut other = other(&postgres).await;
    for round in 0..2 {
        world.is_well("before").await;
        other.execute("BEGIN; LOCK TABLE audit").await.unwrap();
        world.records_nothing(&format!("round {round}"), "another program holds the lock of the store").await;
        other.execute("ROLLBACK").await.unwrap();
        world.is_well("after the lock").await;
    }
}

#[tokio::test]
async fn read_only_database_denies_and_heals() {
    let postgres = Postgres::start();
    let mut world = world(&postgres).await;
    let mut other = other(&postgres).await;
    world.is_well("before").await;
    other.execute("ALTER SYSTEM SET default_transaction_read_only = on").await.unwrap();
    other.execute("SELECT pg_reload_conf()").await.unwrap();
    while world.write().await.0 != StatusCode::SERVICE_UNAVAILABLE {}
    world.records_nothing("read-only", "the store is read-only").await;
    other.execute("SET default_transaction_read_only = off").await.unwrap();
    other.execute("ALTER SYSTEM SET default_transaction_read_only = off").await.unwrap();
    other.execute("SELECT pg_reload_conf()").await.unwrap();
    world.is_well("writable again").await;
}
