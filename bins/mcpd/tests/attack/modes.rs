//! Files and modes: what the daemon writes is for its user alone, and nothing secret lies outside its files.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use mcpctl_testkit::{
    daemons::{Mcpd, eventually, program},
    process,
};
use reqwest::StatusCode;
use serde_json::{Value, json};

/// A process that is ended when it is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `mcpd` of this data directory, started by a shell that takes no permission away from new files.
fn mcpd_without_umask(data_dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "umask 000; exec \"$@\"", "sh"]).arg(program("mcpd")).args(arguments);
    command.arg("--data-dir").arg(data_dir).stdin(Stdio::null());
    command
}

/// Fails where others than the owner may read or write something in this directory, or the directory itself.
fn assert_private(dir: &Path, expected: &[&str]) {
    let names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    for name in expected {
        assert!(names.iter().any(|found| found == name), "`{name}` is missing: {names:?}");
    }
    let paths = names.iter().map(|name| dir.join(name)).chain([dir.to_owned()]);
    for path in paths {
        let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "`{}` is open to others: {mode:o}", path.display());
    }
}

#[tokio::test]
async fn files_are_private_whatever_the_umask() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("parent/data");
    let log = dir.path().join("log");
    let file = fs::File::create(&log).unwrap();
    let mut serve = mcpd_without_umask(&data_dir, &["serve", "--listen", "127.0.0.1:0"]);
    let child = serve.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
    let running = Process(child);
    let url = eventually("the daemon is ready", async || {
        let log = fs::read_to_string(&log).unwrap();
        let (_, rest) = log.split_once("mcpd is ready listen=")?;
        rest.split_once(char::is_whitespace).map(|(address, _)| format!("http://{address}"))
    })
    .await;
    let token = fs::read_to_string(data_dir.join("bootstrap-token")).unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let made =
        http.post(format!("{url}/api/v1/users")).bearer_auth(token.trim()).json(&json!({"name": "alice"}));
    assert_eq!(made.send().await.unwrap().status(), StatusCode::CREATED);
    let files = [
        "mcpd.sqlite",
        "mcpd.sqlite-wal",
        "mcpd.sqlite-shm",
        "mcpd.sqlite-owner",
        "bootstrap-token",
        "master-key",
    ];
    assert_private(&data_dir, &files);

    let reissued = eventually("a new token is made", async || {
        let ended = mcpd_without_umask(&data_dir, &["bootstrap-token"]).output().unwrap();
        ended.status.success().then_some(ended)
    })
    .await;
    assert_private(&data_dir, &files);
    let new = fs::read_to_string(data_dir.join("bootstrap-token")).unwrap();
    assert_ne!(new, token);
    let printed = [reissued.stdout, reissued.stderr].concat();
    assert!(!String::from_utf8_lossy(&printed).contains(new.trim()), "the token is printed");
    drop(running);
    assert_private(&data_dir, &["mcpd.sqlite", "bootstrap-token", "master-key"]);
}

#[tokio::test]
async fn readable_master_key_stops_the_start() {
    let mcpd = Mcpd::start().await;
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("master-key");
    fs::copy(mcpd.data_dir().join("master-key"), &key).unwrap();
    for mode in [0o640, 0o604, 0o644, 0o660, 0o666, 0o602, 0o777] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        let mut start = Command::new(program("mcpd"));
        start.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(dir.path().join("data"));
        // Where the start is not refused, the time limit ends it.
        let mut limited = Command::new("timeout");
        limited.arg("5").arg(start.get_program()).args(start.get_args()).arg("--master-key-file").arg(&key);
        let ended = limited.output().unwrap();
        let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(1), "mode {mode:o}: {stderr}");
        assert!(stderr.contains("hint: "), "mode {mode:o}: {stderr}");
    }
}

#[tokio::test]
async fn secrets_stay_in_the_files_for_them() {
    let mcpd = Mcpd::start().await;
    let (password, value) = ("correct horse battery staple", "value-of-the-secret-itself");
    mcpd.apply(json!([
        {"kind": "User", "name": "alice", "password": password},
        {"kind": "Secret", "name": "provider", "data": {"token": value}},
        {"kind": "Llm", "name": "claude", "type": "openai", "url": "http://127.0.0.1:1", "model": "m",
         "apiKey": {"secret": "provider", "key": "token"}},
    ]))
    .await;
    let login = json!({"user": "alice", "password": password});
    let session: Value = mcpd.post("/api/v1/auth/login", "", &login).await.json().await.unwrap();
    let session = session["token"].as_str().unwrap().to_owned();
    let wrong = json!({"user": "alice", "password": "wrong horse battery staple"});
    mcpd.post("/api/v1/auth/login", "", &wrong).await;
    // Refused documents and requests, because error paths tend to repeat what they were given.
    let admin = mcpd.admin();
    for (path, body) in [
        ("/api/v1/secrets", json!({"name": "Bad Name", "data": {"token": value}})),
        ("/api/v1/secrets", json!({"name": "other", "data": {"token": value}, "unknown": value})),
        ("/api/v1/users", json!({"name": "bob", "password": password, "passwort": password})),
        ("/api/v1/auth/login", json!({"user": "alice", "password": password, "x": 1})),
    ] {
        let answer = mcpd.post(path, &admin, &body).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{body}");
        let text = answer.text().await.unwrap();
        assert!(!text.contains(value) && !text.contains(password), "{path} repeats the secret: {text}");
    }
    let chat = json!({"model": "claude", "messages": []});
    assert!(!mcpd.post("/v1/chat/completions", &admin, &chat).await.status().is_success());

    let master_key = fs::read(mcpd.data_dir().join("master-key")).unwrap();
    let master_key = String::from_utf8(master_key).unwrap().trim().to_owned();
    let secrets = [
        ("the bootstrap token", admin.as_str()),
        ("a session's token", &session),
        ("a password", password),
        ("a wrong password", "wrong horse battery staple"),
        ("a secret's value", value),
        ("the master key", &master_key),
    ];
    let pid = mcpd.pid();
    let mut places = vec![
        ("the log".to_owned(), mcpd.log().into_bytes()),
        ("arguments and environment".to_owned(), process::arguments_and_environment(pid)),
    ];
    for name in ["mcpd.sqlite", "mcpd.sqlite-wal", "mcpd.sqlite-shm"] {
        places.push((name.to_owned(), fs::read(mcpd.data_dir().join(name)).unwrap()));
    }
    for path in
        ["/api/v1/secrets", "/api/v1/users", "/api/v1/tokens", "/api/v1/llms", "/metrics", "/openapi.json"]
    {
        let answer = mcpd.get(path, &admin).await;
        places.push((path.to_owned(), answer.bytes().await.unwrap().to_vec()));
    }
    for (what, secret) in secrets {
        for (place, content) in &places {
            let found = content.windows(secret.len()).any(|bytes| bytes == secret.as_bytes());
            assert!(!found, "{what} is in {place}");
        }
    }
    // Kept open, the files of the first token and of the key could be read through `/proc`.
    for open in process::descriptors(pid) {
        let name = open.file_name().unwrap_or_default().to_string_lossy().into_owned();
        assert!(
            !name.contains("bootstrap-token") && !name.contains("master-key"),
            "`{}` stays open",
            open.display()
        );
    }
}
