//! Stores whose schema is that of any earlier migration are upgraded when they are opened, with their rows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::{path::Path, sync::Arc};

use mcpctl_secret::envelope::{Keyring, MasterKey};
use mcpctl_store::{AuditFilter, Location, Store, UsageFilter};
use mcpctl_testkit::postgres::Postgres;
use sqlx::{
    Connection as _, Executor as _, PgConnection, SqliteConnection,
    migrate::{Migrate, Migrator},
};

/// Rows of the first layout.
const ROWS: &str = "INSERT INTO audit VALUES ('01a21c44-badc-7385-9dcc-d5b877010da8', 1, 'User alice', 'run', 'Llm', NULL, 'gpt', \
     'denied', '', 1, 'r'); \
     INSERT INTO usage VALUES ('01a21c44-badc-7385-9dcc-d5b877010da9', 1, 'User alice', 'czniz3r5vp46llst6ykxjyh4e', \
     'ch6dbdpmoglk7q51vjpvsjkci', 'gpt', 'm', 3, 4, 0, 'ok', 200, 1, 5, 'r')";

async fn migrated(migrations: &Migrator, version: i64, connection: &mut (impl Migrate + Sized)) {
    migrations.run_direct(Some(version), connection, false).await.unwrap();
}

async fn check(location: &Location, version: i64) {
    let keys = Arc::new(Keyring::new(MasterKey::generate().unwrap()));
    let store = Store::open(location, keys).await.unwrap();
    store.load().await.unwrap();
    let audit = store.audit(&AuditFilter { limit: 10, ..AuditFilter::default() }).await.unwrap();
    let usage = store.usage(&UsageFilter { limit: 10, ..UsageFilter::default() }).await.unwrap();
    assert_eq!((audit.len(), usage.len()), (1, 1), "from {version}");
    assert_eq!((audit[0].principal.as_str(), usage[0].output_tokens), ("User alice", 4), "from {version}");
    store.close().await;
}

#[tokio::test]
async fn every_earlier_layout_is_upgraded_with_its_rows() {
    let migrations = |database: &str| Migrator::new(Path::new("migrations").join(database));
    let (sqlite, postgres) = (migrations("sqlite").await.unwrap(), migrations("postgres").await.unwrap());
    let versions = |migrations: &Migrator| migrations.iter().map(|one| one.version).collect::<Vec<_>>();
    assert_eq!(versions(&sqlite), versions(&postgres), "a layout has the same number in both databases");
    let server = Postgres::start();
    for version in versions(&sqlite) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mcpd.sqlite");
        let url = format!("sqlite://{}?mode=rwc", path.display());
        let mut connection = SqliteConnection::connect(&url).await.unwrap();
        migrated(&sqlite, 1, &mut connection).await;
        connection.execute(ROWS).await.unwrap();
        migrated(&sqlite, version, &mut connection).await;
        connection.close().await.unwrap();
        check(&Location::Sqlite(path), version).await;

        let mut connection = PgConnection::connect(&server.url()).await.unwrap();
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public").await.unwrap();
        migrated(&postgres, 1, &mut connection).await;
        connection.execute(ROWS).await.unwrap();
        migrated(&postgres, version, &mut connection).await;
        connection.close().await.unwrap();
        check(&Location::Postgres(server.url()), version).await;
    }
}
