//! A new installation, on either database: who makes the master key, and who does not.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use mcpctl_testkit::{
    daemons::{Mcpd, McpdOptions, eventually, program},
    postgres::Postgres,
};
use reqwest::StatusCode;
use serde_json::json;
use tempfile::TempDir;

fn home() -> TempDir {
    tempfile::Builder::new().prefix("first-start-").tempdir().unwrap()
}

fn mcpd(words: &[&str], data_dir: &Path, database_url: Option<&str>) -> Command {
    let mut command = Command::new(program("mcpd"));
    command.args(words).arg("--data-dir").arg(data_dir);
    if let Some(url) = database_url {
        command.args(["--database-url", url]);
    }
    command
}

fn output(words: &[&str], data_dir: &Path, database_url: Option<&str>) -> (bool, String) {
    let Output { status, stdout, stderr } = mcpd(words, data_dir, database_url).output().unwrap();
    (status.success(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

fn serve(data_dir: &Path, database_url: &str) -> Child {
    let mut command = mcpd(&["serve", "--listen", "127.0.0.1:0"], data_dir, Some(database_url));
    command
        .stdout(Stdio::null())
        .stderr(fs::File::create(data_dir.with_extension("log")).unwrap())
        .spawn()
        .unwrap()
}

fn log(data_dir: &Path) -> String {
    fs::read_to_string(data_dir.with_extension("log")).unwrap()
}

/// Waits until each daemon is ready or has ended; ends them, and returns which were ready.
async fn settled(daemons: Vec<(PathBuf, Child)>) -> Vec<bool> {
    let mut ready = Vec::new();
    for (data_dir, mut daemon) in daemons {
        let is_ready = eventually("a daemon to start or to end", || {
            let outcome = if log(&data_dir).contains("mcpd is ready") {
                Some(true)
            } else {
                daemon.try_wait().unwrap().map(|_| false)
            };
            async move { outcome }
        })
        .await;
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        ready.push(is_ready);
    }
    ready
}

#[tokio::test]
async fn empty_postgres_and_empty_directory_make_an_installation() {
    let postgres = Postgres::start();
    let mut mcpd =
        Mcpd::start_with(McpdOptions { database_url: Some(postgres.url()), ..McpdOptions::default() }).await;
    let key = mcpd.data_dir().join("master-key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(mcpd.log().contains("keep a copy"), "{}", mcpd.log());
    mcpd.apply(json!([{"kind": "Secret", "name": "openai", "data": {"token": "sk-1"}}])).await;

    // What was sealed is never followed by another key.
    mcpd.terminate();
    mcpd.wait();
    let (data_dir, url) = (mcpd.data_dir(), postgres.url());
    let kept = data_dir.join("kept");
    fs::rename(&key, &kept).unwrap();
    for words in [&["serve", "--listen", "127.0.0.1:0"][..], &["master-key", "new"], &["bootstrap-token"]] {
        let (done, stderr) = output(words, &data_dir, Some(&url));
        assert!(!done && stderr.contains("the store was set up with one"), "{words:?}: {stderr}");
        assert!(stderr.contains("copy it to"), "{words:?}: {stderr}");
        assert!(!key.exists(), "{words:?} made a second key");
    }
    fs::rename(&kept, &key).unwrap();
    mcpd.restart().await;
    let answer = mcpd.get("/api/v1/secrets/openai", &mcpd.admin()).await;
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn replicas_that_share_a_directory_agree_on_one_key() {
    let postgres = Postgres::start();
    let home = home();
    let data_dir = home.path().join("data");
    let daemons = (0..3).map(|n| {
        // Their logs are apart, and their directory is one.
        let alias = home.path().join(format!("data-{n}"));
        std::os::unix::fs::symlink(&data_dir, &alias).unwrap();
        alias
    });
    let aliases: Vec<PathBuf> = daemons.collect();
    fs::create_dir(&data_dir).unwrap();
    fs::set_permissions(&data_dir, fs::Permissions::from_mode(0o700)).unwrap();
    let daemons = aliases.iter().map(|alias| (alias.clone(), serve(alias, &postgres.url()))).collect();
    assert_eq!(
        settled(daemons).await,
        [true, true, true],
        "{}",
        aliases.iter().map(|dir| log(dir)).collect::<String>()
    );
    let mut files: Vec<_> = fs::read_dir(&data_dir).unwrap().map(|file| file.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["bootstrap-token", "master-key"]);
}

#[tokio::test]
async fn replicas_with_own_directories_name_the_key_to_copy() {
    let postgres = Postgres::start();
    let home = home();
    let dirs: Vec<PathBuf> = (0..3).map(|n| home.path().join(format!("data-{n}"))).collect();
    let daemons = dirs.iter().map(|dir| (dir.clone(), serve(dir, &postgres.url()))).collect();
    let ready = settled(daemons).await;
    assert_eq!(ready.iter().filter(|ready| **ready).count(), 1, "{ready:?}");
    let winner = ready.iter().position(|ready| *ready).unwrap();
    for (n, dir) in dirs.iter().enumerate().filter(|(n, _)| *n != winner) {
        let stderr = log(dir);
        let key = dir.join("master-key");
        assert!(stderr.contains(&format!("copy it to `{}`", key.display())), "{n}: {stderr}");
        assert!(!key.exists(), "{n} made a second key");
        fs::copy(dirs[winner].join("master-key"), &key).unwrap();
        assert_eq!(settled(vec![(dir.clone(), serve(dir, &postgres.url()))]).await, [true], "{}", log(dir));
    }
}

#[tokio::test]
async fn lost_key_of_sqlite_is_not_replaced() {
    let mut mcpd = Mcpd::start().await;
    mcpd.terminate();
    mcpd.wait();
    let key = mcpd.data_dir().join("master-key");
    fs::rename(&key, key.with_extension("kept")).unwrap();
    for words in [&["serve", "--listen", "127.0.0.1:0"][..], &["master-key", "new"], &["bootstrap-token"]] {
        let (done, stderr) = output(words, &mcpd.data_dir(), None);
        assert!(!done && stderr.contains("the store was set up with one"), "{words:?}: {stderr}");
        assert!(!key.exists(), "{words:?} made a second key");
    }
}

#[tokio::test]
async fn key_made_ahead_is_the_one_that_is_used() {
    let postgres = Postgres::start();
    let home = home();
    let data_dir = home.path().join("data");
    let (done, stderr) = output(&["master-key", "new"], &data_dir, Some(&postgres.url()));
    let key = data_dir.join("master-key");
    assert!(done && stderr.trim() == key.display().to_string(), "{stderr}");
    let made = fs::read(&key).unwrap();
    let (done, stderr) = output(&["master-key", "new"], &data_dir, Some(&postgres.url()));
    assert!(!done && stderr.contains("already"), "{stderr}");
    let named = home.path().join("named-key");
    let (done, stderr) = output(&["master-key", "new", "--file", named.to_str().unwrap()], &data_dir, None);
    assert!(done && named.is_file(), "{stderr}");
    assert_ne!(fs::read(&named).unwrap(), made);
    assert_eq!(settled(vec![(data_dir.clone(), serve(&data_dir, &postgres.url()))]).await, [true]);
    assert_eq!(fs::read(&key).unwrap(), made);

    let other = home.path().join("other");
    let (done, stderr) = output(&["bootstrap-token"], &other, None);
    assert!(!done && stderr.contains("there is no database"), "{stderr}");
}

#[tokio::test]
async fn bootstrap_token_makes_no_installation() {
    let postgres = Postgres::start();
    let home = home();
    let (done, stderr) = output(&["bootstrap-token"], &home.path().join("data"), Some(&postgres.url()));
    assert!(!done && stderr.contains("never started"), "{stderr}");
    assert!(!home.path().join("data/master-key").exists());
}

#[tokio::test]
async fn second_mcpd_on_a_database_is_refused_and_names_the_first() {
    let mut mcpd = Mcpd::start().await;
    let accepts = async |mcpd: &Mcpd, token: &str| mcpd.get("/api/v1/users", token).await.status();
    let first = mcpd.admin();
    let (started, text) = output(&["serve", "--listen", "127.0.0.1:0"], &mcpd.data_dir(), None);
    assert!(!started);
    let expected = format!("mcpd.sqlite` is served by another mcpd, process {}", mcpd.pid());
    assert!(text.contains(&expected) && text.contains("hint: stop that one first"), "{text}");
    assert_eq!(accepts(&mcpd, &first).await, StatusCode::OK);
    // These run beside it, and what they write counts at once.
    assert!(output(&["fingerprint"], &mcpd.data_dir(), None).0);
    assert!(output(&["bootstrap-token"], &mcpd.data_dir(), None).0);
    assert_ne!(mcpd.admin(), first);
    assert_eq!(accepts(&mcpd, &mcpd.admin()).await, StatusCode::OK);
    // A killed owner leaves no lock behind.
    mcpd.kill();
    mcpd.restart().await;
    assert_eq!(accepts(&mcpd, &mcpd.admin()).await, StatusCode::OK);
}
