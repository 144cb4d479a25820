//! What a restored mcpd does about what was given out after the backup.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    process::Stdio,
};

use mcpctl_testkit::{daemons::Mcpd, postgres::Postgres};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::Connection as _;

use crate::installation::{Installation, command, done, options, refused};

fn revision_of(list: &Value) -> u64 {
    list["revision"].as_u64().expect("a revision")
}

#[tokio::test]
async fn restored_store_replaces_the_present_one_and_is_ahead_of_it() {
    let postgres = Postgres::start();
    for database_url in [None, Some(postgres.url())] {
        let database_url = database_url.as_deref();
        let mut installation = Installation::start(database_url).await;
        let data_dir = installation.mcpd.data_dir();
        let admin = installation.mcpd.admin();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("backup").to_str().unwrap().to_owned();
        done(&["backup", &file], &data_dir, database_url);

        // After the backup: a revocation, and changes that clients have seen.
        let mcpd = &installation.mcpd;
        assert_eq!(
            mcpd.delete("/api/v1/rolebindings/alice-llm-user", &admin).await.status(),
            StatusCode::NO_CONTENT
        );
        for at in 0..5 {
            mcpd.apply(json!([{"kind": "User", "name": format!("later-{at}")}])).await;
        }
        assert_ne!(installation.chat(mcpd).await, StatusCode::OK);
        let seen: Value = mcpd.get("/api/v1/users", &admin).await.json().await.unwrap();
        let seen = revision_of(&seen);

        // Refused beside the daemon, and without `--replace`.
        let output = refused(&["restore", &file, "--replace", "-y"], &data_dir, database_url);
        assert!(output.contains("served by another mcpd") || output.contains("mcpd runs on"), "{output}");
        installation.stop();
        let output = refused(&["restore", &file], &data_dir, database_url);
        assert!(output.contains("is not empty") && output.contains("--replace"), "{output}");
        let output = refused(&["restore", &file, "--replace"], &data_dir, database_url);
        assert!(output.contains("--yes"), "{output}");

        done(&["restore", &file, "--replace", "-y"], &data_dir, database_url);
        installation.mcpd.restart().await;
        let mcpd = &installation.mcpd;
        assert_eq!(installation.chat(mcpd).await, StatusCode::OK, "the revocation is undone");
        let users: Value = mcpd.get("/api/v1/users", &admin).await.json().await.unwrap();
        assert!(
            users["items"]
                .as_array()
                .unwrap()
                .iter()
                .all(|user| !user["name"].as_str().unwrap().starts_with("later"))
        );
        assert!(revision_of(&users) > seen, "{} after {seen}", revision_of(&users));
        // A client that goes on from what it saw has to read everything anew.
        let watch = mcpd.request(Method::GET, &format!("/api/v1/watch?since={seen}"), &admin);
        assert_eq!(watch.send().await.unwrap().status(), StatusCode::GONE);
        mcpd.apply(json!([{"kind": "User", "name": "after-the-restore"}])).await;
    }
}

/// Neither store knows of the other.
#[tokio::test]
async fn two_restores_of_one_backup_share_no_revision() {
    let installation = Installation::start(None).await;
    let (admin, key) = (installation.mcpd.admin(), installation.key_file());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("backup").to_str().unwrap().to_owned();
    done(&["backup", &file], &installation.mcpd.data_dir(), None);
    let mut seen = Value::Null;
    for name in ["first", "second"] {
        let data_dir = dir.path().join(name);
        done(&["restore", &file, "--master-key-file", key.to_str().unwrap()], &data_dir, None);
        let mut options = options(None);
        (options.data_dir, options.master_key_file) = (Some(data_dir), Some(key.clone()));
        let mcpd = Mcpd::start_with(options).await;
        if name == "second" {
            let users: Value = mcpd.get("/api/v1/users", &admin).await.json().await.unwrap();
            assert!(revision_of(&users) > revision_of(&seen), "{users} after {seen}");
            let since = revision_of(&seen);
            let watch = mcpd.request(Method::GET, &format!("/api/v1/watch?since={since}"), &admin);
            assert_eq!(watch.send().await.unwrap().status(), StatusCode::GONE);
            return;
        }
        let user = json!({"name": "of-the-first"});
        assert_eq!(mcpd.post("/api/v1/users", &admin, &user).await.status(), StatusCode::CREATED);
        seen = mcpd.get("/api/v1/users", &admin).await.json().await.unwrap();
    }
}

/// SQLite would read the log of the store that is gone as that of the new one.
#[tokio::test]
async fn store_that_another_program_has_open_is_not_replaced() {
    let mut installation = Installation::start(None).await;
    let data_dir = installation.mcpd.data_dir();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("backup").to_str().unwrap().to_owned();
    done(&["backup", &file], &data_dir, None);
    installation.stop();
    let url = format!("sqlite://{}", data_dir.join("mcpd.sqlite").display());
    let mut other = sqlx::SqliteConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("SELECT * FROM revision").execute(&mut other).await.unwrap();
    let output = refused(&["restore", &file, "--replace", "-y"], &data_dir, None);
    assert!(output.contains("cannot be replaced") && output.contains("end the other programs"), "{output}");
    other.close().await.unwrap();
    done(&["restore", &file, "--replace", "-y"], &data_dir, None);
    installation.mcpd.restart().await;
    assert_eq!(installation.chat(&installation.mcpd).await, StatusCode::OK);
}

#[tokio::test]
async fn restore_without_tokens_ends_every_credential() {
    let mut installation = Installation::start(None).await;
    let (data_dir, admin) = (installation.mcpd.data_dir(), installation.mcpd.admin());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("backup").to_str().unwrap().to_owned();
    done(&["backup", &file], &data_dir, None);
    installation.stop();
    let output = done(&["restore", &file, "--replace", "-y", "--without-tokens"], &data_dir, None);
    assert!(
        output.contains("passwords, rights and keys") && !output.contains("tokens, sessions"),
        "{output}"
    );
    installation.mcpd.restart().await;
    assert_eq!(installation.chat(&installation.mcpd).await, StatusCode::UNAUTHORIZED);
    assert_eq!(installation.mcpd.get("/api/v1/users", &admin).await.status(), StatusCode::UNAUTHORIZED);
    done(&["bootstrap-token"], &data_dir, None);
    let list = installation.mcpd.get("/api/v1/tokens", &installation.mcpd.admin()).await;
    assert_eq!(list.status(), StatusCode::OK);
}

#[tokio::test]
async fn replacement_is_agreed_to_by_a_line_and_not_by_a_key() {
    let mut installation = Installation::start(None).await;
    let data_dir = installation.mcpd.data_dir();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("backup").to_str().unwrap().to_owned();
    done(&["backup", &file], &data_dir, None);
    installation.stop();
    for (typed, agrees) in [("yup, why not\n", false), ("\n", false), ("y\n", true)] {
        let pty = nix::pty::openpty(None, None).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let mut restore = command(&["restore", &file, "--replace"], &data_dir, None);
        let mut child = restore.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        drop((restore, pty.slave));
        let mut terminal = File::from(pty.master);
        terminal.write_all(typed.as_bytes()).unwrap();
        let mut shown = Vec::new();
        // Ends with an error once the other end is closed.
        let _ = terminal.read_to_end(&mut shown);
        let shown = String::from_utf8_lossy(&shown);
        assert_eq!(child.wait().unwrap().success(), agrees, "{typed:?}: {shown}");
        assert!(shown.contains("? [y/N]"), "{shown}");
    }
}
