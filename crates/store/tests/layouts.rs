//! Stores whose schema is that of any earlier migration are upgraded when they are opened, with their rows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::{path::Path, sync::Arc};

use mcpctl_secret::envelope::{Keyring, MasterKey};
use mcpctl_store::{AuditFilter, Location, Store, UsageFilter, UsageParts, UsageQuery, UsageTime};
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

/// The layout with sums of hours alone.
const HOURS: i64 = 11;
/// In two hours of one day, and one of the 720 hours before; one account of two has no id.
const HOUR_ROWS: &str = "INSERT INTO usage_hours VALUES \
    (500000, 'czniz3r5vp46llst6ykxjyh4e', 'l', 'm', 'User ann', 'gpt', 1, 0, 0, 10, 0, 0, 0, 0, 0, 0, 5), \
    (500001, 'czniz3r5vp46llst6ykxjyh4e', 'l', 'm', 'User ann', 'gpt', 2, 0, 0, 20, 0, 0, 0, 0, 0, 0, 5), \
    (500001, 'User bob', 'l', 'm', 'User bob', 'gpt', 3, 0, 0, 30, 0, 0, 0, 0, 0, 0, 5), \
    (499000, 'User bob', 'l', 'm', 'User bob', 'gpt', 4, 0, 0, 40, 0, 0, 0, 0, 0, 0, 5)";

async fn check_sums(location: &Location) {
    let store = Store::open(location, Arc::new(Keyring::new(MasterKey::generate().unwrap()))).await.unwrap();
    for account in [false, true] {
        for time in [None, Some(UsageTime::Hour), Some(UsageTime::Day { offset: 0 })] {
            let parts = UsageParts { account, time, ..UsageParts::default() };
            let query = UsageQuery { until: 600_000, parts, ..UsageQuery::default() };
            let (mut requests, mut tokens) = (0, 0);
            let add = |part: mcpctl_store::UsagePart| {
                (requests, tokens) = (requests + part.sums.requests, tokens + part.sums.input_tokens);
                true
            };
            store.usage_sums(&query, add).await.unwrap();
            assert_eq!((requests, tokens), (10, 100), "{parts:?}");
        }
    }
    store.close().await;
}

#[tokio::test]
async fn sums_of_hours_become_sums_of_every_length() {
    let migrations = |database: &str| Migrator::new(Path::new("migrations").join(database));
    let (sqlite, postgres) = (migrations("sqlite").await.unwrap(), migrations("postgres").await.unwrap());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mcpd.sqlite");
    let mut connection =
        SqliteConnection::connect(&format!("sqlite://{}?mode=rwc", path.display())).await.unwrap();
    migrated(&sqlite, HOURS, &mut connection).await;
    connection.execute(HOUR_ROWS).await.unwrap();
    connection.close().await.unwrap();
    check_sums(&Location::Sqlite(path)).await;

    let server = Postgres::start();
    let mut connection = PgConnection::connect(&server.url()).await.unwrap();
    migrated(&postgres, HOURS, &mut connection).await;
    connection.execute(HOUR_ROWS).await.unwrap();
    connection.close().await.unwrap();
    check_sums(&Location::Postgres(server.url())).await;
}
