//! Stores of earlier versions, in both databases: each is upgraded at the start of this version, and keeps what it has. A newer one is
//! refused.
//!
//! A layout that was released is kept in `layouts/` as the dump of an SQLite store with one of everything; `mcpd migrate`, which
//! upgrades nothing, brings it to PostgreSQL. To add one at a release: fill a store, `sqlite3 mcpd.sqlite .dump`, and the lines at its head.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use mcpctl_testkit::{
    daemons::{Mcpd, eventually},
    model_server::{ModelServer, Reply},
    postgres::Postgres,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::Connection as _;

use crate::installation::{done, options, refused};

const RELEASED: [(&str, &str); 1] = [("0.1.0", include_str!("layouts/0.1.0.sql"))];

/// The value of a line at the head of a dump.
fn named<'a>(dump: &'a str, name: &str) -> &'a str {
    dump.lines()
        .find_map(|line| line.strip_prefix("-- ")?.strip_prefix(name)?.strip_prefix(": "))
        .expect(name)
}

/// Makes a data directory of a dump.
async fn lay_out(dump: &'static str, data_dir: &Path) {
    fs::create_dir_all(data_dir).unwrap();
    fs::set_permissions(data_dir, fs::Permissions::from_mode(0o700)).unwrap();
    let key = data_dir.join("master-key");
    fs::write(&key, named(dump, "master key")).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let url = format!("sqlite://{}?mode=rwc", data_dir.join("mcpd.sqlite").display());
    let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
    sqlx::raw_sql(dump).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn stores_of_released_versions_are_upgraded_and_keep_everything() {
    let provider = ModelServer::with_default(Reply::text("Hi")).await;
    provider.require_key("sk-of-the-secret");
    for (version, dump) in RELEASED {
        let postgres = Postgres::start();
        for database_url in [None, Some(postgres.url())] {
            let dir = tempfile::tempdir().unwrap();
            let data_dir = dir.path().join("data");
            lay_out(dump, &data_dir).await;
            let database_url = database_url.as_deref();
            if let Some(url) = database_url {
                done(&["migrate", "--to", url], &data_dir, None);
            }
            // Before the upgrade too.
            let backup = dir.path().join("before").to_str().unwrap().to_owned();
            done(&["backup", &backup], &data_dir, database_url);
            let early = refused(&["fsck"], &data_dir, database_url);
            assert!(early.contains("written by an earlier version of mcpd: it has layout "), "{early}");
            assert!(early.contains("start this mcpd once, which upgrades the store"), "{early}");
            let mut options = options(database_url);
            options.data_dir = Some(data_dir.clone());
            let mcpd = Mcpd::start_with(options.clone()).await;
            check(&mcpd, dump, &provider).await;
            let checked = done(&["fsck"], &data_dir, database_url);
            assert!(!checked.contains("problem"), "{version}: {checked}");
            drop(mcpd);
            // A backup of the earlier layout is upgraded on the way.
            done(&["restore", &backup, "--replace", "-y"], &data_dir, database_url);
            check(&Mcpd::start_with(options).await, dump, &provider).await;
        }
    }
}

async fn check(mcpd: &Mcpd, dump: &str, provider: &ModelServer) {
    let (admin, alice) = (named(dump, "token of admin"), named(dump, "token of alice"));
    let count = async |path: &str| {
        let list = mcpd.get(path, admin).await;
        assert_eq!(list.status(), StatusCode::OK, "{path}");
        list.json::<Value>().await.unwrap()["items"].as_array().unwrap().len()
    };
    for (path, expected) in [
        ("/api/v1/users", 2),
        ("/api/v1/groups", 1),
        ("/api/v1/llms", 1),
        ("/api/v1/secrets", 1),
        ("/api/v1/limits", 1),
        ("/api/v1/rolebindings", 2),
        ("/api/v1/tokens", 3),
        ("/api/v1/serviceaccounts", 0),
        ("/api/v1/audit?action=journal-lost", 1),
        ("/api/v1/audit?subject=user/alice&action=run", 2),
    ] {
        assert_eq!(count(path).await, expected, "{path}");
    }
    // Rows of a version without sums are added up after the start.
    let usage = "/api/v1/usage?by=llm&since=2036-01-01T00:00:00Z&until=2037-12-31T00:00:00Z";
    eventually("the usage of before is added up", async || {
        let usage: Value = mcpd.get(usage, admin).await.json().await.unwrap();
        let totals = &usage["totals"];
        (totals["requests"] == 2 && totals["outputTokens"] == 14 && usage["complete"] == true).then_some(())
    })
    .await;
    let patch = mcpd.request(Method::PATCH, "/api/v1/llms/gpt?skipCheck=true", admin);
    let patched = patch.json(&json!({"url": provider.base_url()})).send().await.unwrap();
    assert_eq!(patched.status(), StatusCode::OK);
    let body = json!({"model": "gpt", "messages": [{"role": "user", "content": "Hi"}]});
    let answer = mcpd.post("/v1/chat/completions", alice, &body).await;
    assert_eq!(answer.status(), StatusCode::OK, "{}", answer.text().await.unwrap());
}

#[tokio::test]
async fn store_of_a_newer_version_is_refused_in_words() {
    const NEWER: &str = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         SELECT 9999, 'later', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1";
    let postgres = Postgres::start();
    let (_, dump) = RELEASED[0];
    for database_url in [None, Some(postgres.url())] {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("data");
        lay_out(dump, &data_dir).await;
        match &database_url {
            None => {
                let url = format!("sqlite://{}", data_dir.join("mcpd.sqlite").display());
                let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
                sqlx::raw_sql(NEWER).execute(&mut connection).await.unwrap();
                connection.close().await.unwrap();
            }
            Some(url) => {
                done(&["migrate", "--to", url], &data_dir, None);
                let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
                sqlx::raw_sql(NEWER).execute(&mut connection).await.unwrap();
            }
        }
        for words in [&["serve", "--listen", "127.0.0.1:0"][..], &["backup", "-"], &["fsck"]] {
            let output = refused(words, &data_dir, database_url.as_deref());
            assert!(output.contains("written by a newer version of mcpd"), "{words:?}: {output}");
        }
    }
}
