//! Commands that have a store to themselves: no mcpd begins to serve it meanwhile, and one that was overlooked acknowledges nothing that
//! would be lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "support/database.rs"]
mod database;

use mcpctl_store::{
    Location, OpenError, Store,
    transfer::{Reservation, Source, TransferError},
};
use sqlx::Connection as _;

use database::{Database, commit, put};

#[tokio::test]
async fn no_mcpd_starts_on_a_reserved_postgres() {
    let database = Database::postgres();
    database.open().await.close().await;
    let reservation = Reservation::take(&database.location).await.unwrap();
    let refused = Store::open(&database.location, database.keys()).await.err().unwrap();
    assert!(matches!(refused, OpenError::Reserved { .. }), "{refused}");
    assert!(refused.hint().unwrap().contains("start again once"));
    let other = Reservation::take(&database.location).await.err().unwrap();
    assert!(matches!(other, TransferError::Reserved { .. }), "{other}");
    drop(reservation);
    let serving = database.open().await;
    let refused = Reservation::take(&database.location).await.err().unwrap();
    assert!(matches!(refused, TransferError::InUse { .. }), "{refused}");
    serving.close().await;
    Reservation::take(&database.location).await.unwrap();
}

/// One that was started on the command's heels, or that a pooler hides.
#[tokio::test]
async fn overlooked_mcpd_can_read_and_not_write_while_postgres_is_moved() {
    let database = Database::postgres();
    let store = database.open().await;
    commit(&store, 0, vec![put("alice", 1)]).await.unwrap();
    store.close().await;
    let Location::Postgres(url) = &database.location else { panic!("{:?}", database.location) };
    let mut source = Source::open_alone(&database.location).await.unwrap();
    let mut hidden = sqlx::PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql("SET lock_timeout = '100ms'").execute(&mut hidden).await.unwrap();
    let read: i64 = sqlx::query_scalar("SELECT current FROM revision").fetch_one(&mut hidden).await.unwrap();
    assert_eq!(read, 1);
    for statement in ["UPDATE revision SET current = 2", "INSERT INTO settings VALUES ('key', '')"] {
        let error = sqlx::raw_sql(statement).execute(&mut hidden).await.unwrap_err();
        let code = error.as_database_error().unwrap().code().unwrap().into_owned();
        assert_eq!(code, "55P03", "{statement}: {error}");
    }
    source.check_unchanged().await.unwrap();
    // It is noticed before the move takes effect.
    sqlx::raw_sql("SET application_name = 'mcpd'").execute(&mut hidden).await.unwrap();
    let error = source.check_unchanged().await.unwrap_err();
    assert!(matches!(error, TransferError::InUse { count: 1, .. }), "{error}");
    drop(source);
    sqlx::raw_sql("UPDATE revision SET current = 2").execute(&mut hidden).await.unwrap();
}

/// `mcpd bootstrap-token` writes beside the owner.
#[tokio::test]
async fn change_of_a_file_while_it_is_moved_is_noticed() {
    let database = Database::sqlite();
    let store = database.open().await;
    commit(&store, 0, vec![put("alice", 1)]).await.unwrap();
    let mut source = Source::open_alone(&database.location).await.unwrap();
    source.check_unchanged().await.unwrap();
    commit(&store, 1, vec![put("bob", 2)]).await.unwrap();
    let error = source.check_unchanged().await.unwrap_err();
    assert!(matches!(error, TransferError::Changed { .. }), "{error}");
    assert!(error.hint().unwrap().contains("nothing was moved"));
}
