//! Backups that are not restored, and why; the store that is there stays as it is.

use std::{fs, io::Write as _, path::Path, process::Stdio};

use mcpctl_testkit::{daemons::eventually, postgres::Postgres};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use reqwest::StatusCode;
use serde_json::json;

use crate::installation::{Installation, command, done, files, refused};

#[tokio::test]
async fn damaged_cut_foreign_and_newer_backups_are_refused_in_words() {
    let mut installation = Installation::start(None).await;
    let data_dir = installation.mcpd.data_dir();
    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("good");
    done(&["backup", good.to_str().unwrap()], &data_dir, None);
    installation.stop();
    let bytes = fs::read(&good).unwrap();
    let mut flipped = bytes.clone();
    let middle = bytes.len() / 2;
    flipped[middle] ^= 1;
    let mut header = bytes.clone();
    header[60] ^= 1;
    let newer = [b"mcpd backup 7\n".as_slice(), &bytes[14..]].concat();
    let continued = [bytes.as_slice(), b"more"].concat();
    let stranger = Installation::start(None).await;
    let foreign = dir.path().join("foreign");
    done(&["backup", foreign.to_str().unwrap()], &stranger.mcpd.data_dir(), None);
    let foreign = fs::read(foreign).unwrap();
    let postgres = Postgres::start();
    let empty = dir.path().join("empty");
    let key = installation.key_file();
    for (case, bytes, expected) in [
        ("flipped", flipped, "it is damaged or incomplete"),
        ("header", header, "its header was changed or cut"),
        ("cut", bytes[..bytes.len() - 1].to_vec(), "it is damaged or incomplete"),
        ("half", bytes[..middle].to_vec(), "it is damaged or incomplete"),
        ("short", bytes[..30].to_vec(), "it is damaged or incomplete"),
        ("continued", continued, "it is damaged or incomplete"),
        ("newer", newer, "written by a newer version of mcpd: it has format 7"),
        ("foreign", foreign, "which is not this one"),
        ("no format", [b"mcpd backup 0\n".as_slice(), &bytes[14..]].concat(), "it is not a backup of mcpd"),
        ("text", b"kind: User".to_vec(), "it is not a backup of mcpd"),
        ("nothing", Vec::new(), "it is not a backup of mcpd"),
    ] {
        let file = dir.path().join(case);
        fs::write(&file, bytes).unwrap();
        let name = file.to_str().unwrap();
        let before = files(&data_dir);
        for (words, data_dir, url) in [
            (vec!["backup", "--verify", name], data_dir.as_path(), None),
            (vec!["restore", name, "--replace", "-y"], data_dir.as_path(), None),
            (vec!["restore", name], empty.as_path(), None),
            (vec!["restore", name], empty.as_path(), Some(postgres.url())),
        ] {
            let mut words = words;
            words.extend(["--master-key-file", key.to_str().unwrap()]);
            let output = refused(&words, data_dir, url.as_deref());
            assert!(output.contains(&format!("`{name}`")) && output.contains(expected), "{case}: {output}");
            assert!(output.contains("hint: ") && output.trim().lines().count() == 2, "{case}: {output}");
        }
        assert_eq!(files(&data_dir), before, "{case}");
    }
    // None of it changed the store, and both empty ones are empty.
    installation.mcpd.restart().await;
    assert_eq!(installation.chat(&installation.mcpd).await, StatusCode::OK);
    for url in [None, Some(postgres.url())] {
        let words = ["restore", good.to_str().unwrap(), "--master-key-file", key.to_str().unwrap()];
        done(&words, &empty, url.as_deref());
    }
}

#[tokio::test]
async fn backup_of_a_newer_layout_and_a_database_of_another_program_are_refused() {
    let mut installation = Installation::start(None).await;
    let data_dir = installation.mcpd.data_dir();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("backup");
    installation.stop();
    let database = data_dir.join("mcpd.sqlite");
    execute(&database, "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'later', TRUE, X'00', 0)").await;
    let output = refused(&["backup", file.to_str().unwrap()], &data_dir, None);
    assert!(output.contains("written by a newer version of mcpd: it has layout 9999"), "{output}");
    assert!(files(dir.path()).is_empty());

    // Another program's migrations: its tables are not dropped.
    let postgres = Postgres::start();
    let other = Installation::start(None).await;
    done(&["backup", file.to_str().unwrap()], &other.mcpd.data_dir(), None);
    let mut connection = <sqlx::PgConnection as sqlx::Connection>::connect(&postgres.url()).await.unwrap();
    sqlx::raw_sql(
        "CREATE TABLE _sqlx_migrations (version BIGINT, success BOOLEAN); INSERT INTO _sqlx_migrations VALUES (1, TRUE)",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    let key = other.key_file();
    let words =
        ["restore", file.to_str().unwrap(), "--replace", "-y", "--master-key-file", key.to_str().unwrap()];
    let output = refused(&words, &dir.path().join("data"), Some(&postgres.url()));
    assert!(output.contains("has a table `_sqlx_migrations` of another program"), "{output}");
    let kept: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM _sqlx_migrations").fetch_one(&mut connection).await.unwrap();
    assert_eq!(kept, 1);
}

/// Tables of other programs have names like those of mcpd, and one of its migrations is no mark of mcpd alone.
#[tokio::test]
async fn tables_of_another_program_are_never_deleted() {
    let mut installation = Installation::start(None).await;
    let data_dir = installation.mcpd.data_dir();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("backup").to_str().unwrap().to_owned();
    done(&["backup", &file], &data_dir, None);
    installation.stop();
    let key = installation.key_file();
    let key = key.to_str().unwrap();
    let restore = ["restore", &file, "--replace", "-y", "--master-key-file", key];
    for (table, statement) in [
        ("audit", "CREATE TABLE audit (what TEXT); INSERT INTO audit VALUES ('theirs')"),
        ("settings", "CREATE TABLE settings (what TEXT)"),
        (
            "_sqlx_migrations",
            "CREATE TABLE _sqlx_migrations (version BIGINT, success BOOLEAN, checksum BYTEA); \
             INSERT INTO _sqlx_migrations VALUES (1, TRUE, '\\x00'); \
             CREATE TABLE revision (current BIGINT); CREATE TABLE resources (what TEXT)",
        ),
    ] {
        let postgres = Postgres::start();
        let url = postgres.url();
        let mut connection = <sqlx::PgConnection as sqlx::Connection>::connect(&url).await.unwrap();
        sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
        for output in [
            refused(&restore, &dir.path().join("data"), Some(&url)),
            refused(&restore[..2], &data_dir, Some(&url)),
            refused(&["migrate", "--to", &url], &data_dir, None),
        ] {
            assert!(output.contains(&format!("has a table `{table}` of another program")), "{output}");
            assert!(output.contains("hint: name an empty database"), "{output}");
        }
        let there = format!("SELECT * FROM {table}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(there)).execute(&mut connection).await.unwrap();
    }

    // A file may have any table of another program.
    let other = dir.path().join("other");
    done(&["restore", &file, "--master-key-file", key], &other, None);
    let database = other.join("mcpd.sqlite");
    fs::remove_file(&database).unwrap();
    fs::write(&database, []).unwrap();
    execute(&database, "CREATE TABLE notes (text TEXT)").await;
    let output = refused(&restore, &other, None);
    assert!(output.contains("has a table `notes` of another program"), "{output}");
    execute(&database, "INSERT INTO notes VALUES ('kept')").await;
}

async fn execute(database: &Path, statement: &'static str) {
    let url = format!("sqlite://{}", database.display());
    let mut connection = <sqlx::SqliteConnection as sqlx::Connection>::connect(&url).await.unwrap();
    sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
    sqlx::Connection::close(connection).await.unwrap();
}

/// A restore that is ended amid its input leaves the store as it was: empty. After SIGKILL the next one removes the draft.
#[tokio::test]
async fn restore_that_is_interrupted_leaves_an_empty_store() {
    let installation = Installation::start(None).await;
    let dir = tempfile::tempdir().unwrap();
    // More than a restore reads ahead.
    let values: serde_json::Map<String, serde_json::Value> =
        (0..8).map(|at| (format!("key-{at}"), "x".repeat(60_000).into())).collect();
    installation.mcpd.apply(json!([{"kind": "Secret", "name": "large", "data": values}])).await;
    let file = dir.path().join("backup");
    done(&["backup", file.to_str().unwrap()], &installation.mcpd.data_dir(), None);
    let bytes = fs::read(&file).unwrap();
    let key = installation.key_file();
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let data_dir = dir.path().join(signal.as_str());
        let words = ["restore", "-", "--master-key-file", key.to_str().unwrap()];
        let mut restoring =
            command(&words, &data_dir, None).stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        // All but the end.
        restoring.stdin.as_mut().unwrap().write_all(&bytes[..bytes.len() - 8]).unwrap();
        let draft = data_dir.join("mcpd.sqlite-draft");
        eventually("the draft is there", async || draft.exists().then_some(())).await;
        kill(Pid::from_raw(i32::try_from(restoring.id()).unwrap()), signal).unwrap();
        assert!(!restoring.wait().unwrap().success());
        assert_eq!(draft.exists(), signal == Signal::SIGKILL);

        let words = ["restore", file.to_str().unwrap(), "--master-key-file", key.to_str().unwrap()];
        done(&words, &data_dir, None);
        assert!(!draft.exists());
    }
}
