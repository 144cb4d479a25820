//! What is written down: bounded, kept for a time, and complete.

use std::{path::Path, process::Command, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use mcpctl_api::{Id, Kind, Revision};
use mcpctl_secret::{
    envelope::Keyring,
    master_key_file::{self, IfMissing},
};
use mcpctl_store::{
    AuditFilter, AuditRow, Decision, Durability, Location, Recorder, Store, UsageFilter, UsageRow,
};
use mcpctl_testkit::{
    daemons::{Mcpd, McpdOptions, eventually, program},
    postgres::Postgres,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

async fn start(config: &str) -> Mcpd {
    Mcpd::start_with(McpdOptions { config: Some(config.to_owned()), ..McpdOptions::default() }).await
}

/// What the daemon put on record, read from its own database.
async fn store(mcpd: &Mcpd) -> Store {
    let dir = mcpd.data_dir();
    let key = master_key_file::load_or_create(&dir.join("master-key"), IfMissing::Fail).unwrap();
    Store::open(&Location::Sqlite(dir.join("mcpd.sqlite")), Arc::new(Keyring::new(key))).await.unwrap()
}

async fn audit(store: &Store) -> Vec<AuditRow> {
    store.audit(&AuditFilter { limit: 100_000, ..AuditFilter::default() }).await.unwrap()
}

fn of<'a>(rows: &'a [AuditRow], principal: &str) -> Vec<&'a AuditRow> {
    rows.iter().filter(|row| row.principal == principal).collect()
}

fn size(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).unwrap().flatten();
    let database = files.filter(|file| file.file_name().to_string_lossy().starts_with("mcpd.sqlite"));
    database.map(|file| file.metadata().unwrap().len()).sum()
}

#[tokio::test]
async fn denials_store_little_for_any_request() {
    let mcpd = start("").await;
    let bob = mcpd.user("bob", None).await;
    let before = size(&mcpd.data_dir());
    let long = "x".repeat(3_000_000);
    for _ in 0..3 {
        let body = json!({"model": long, "messages": []});
        let answer = mcpd.post("/v1/chat/completions", &bob, &body).await;
        assert!(answer.status().is_client_error(), "{}", answer.status());
        // A path has a bound of its own, far below.
        let path = format!("/api/v1/llms/{}", "y".repeat(5000));
        assert_eq!(mcpd.get(&path, &bob).await.status(), StatusCode::FORBIDDEN);
        let user = json!({"kind": "User", "name": "eve", "displayName": "z".repeat(1_000_000)});
        assert!(mcpd.post("/api/v1/users", &bob, &user).await.status().is_client_error());
    }
    let grown = size(&mcpd.data_dir()) - before;
    assert!(grown < 300_000, "nine refusals wrote {grown} bytes");
    let rows = audit(&store(&mcpd).await).await;
    let denied = of(&rows, "User bob");
    assert!(denied.len() >= 6);
    assert!(denied.iter().all(|row| row.resource_name.len() <= 128 && row.reason.len() <= 512));
}

#[tokio::test]
async fn denials_beyond_a_rate_are_summed() {
    let mut mcpd = start("limits: {records: {rows: {burst: 10, every: 1h}}}").await;
    let (bob, carol) = (mcpd.user("bob", None).await, mcpd.user("carol", None).await);
    for number in 0..60 {
        let status = mcpd.get(&format!("/api/v1/llms/l{number}"), &bob).await.status();
        assert_eq!(status, StatusCode::FORBIDDEN);
        let probe = mcpd.head(&format!("/api/v1/llms/l{number}"), &bob).await.status();
        assert_eq!(probe, StatusCode::FORBIDDEN);
    }
    assert_eq!(mcpd.get("/api/v1/llms/l", &carol).await.status(), StatusCode::FORBIDDEN);
    let store = store(&mcpd).await;
    let rows = audit(&store).await;
    assert_eq!(of(&rows, "User bob").len(), 11, "ten, and the announcement of a sum");
    assert_eq!(of(&rows, "User carol").len(), 1, "other denied principals have rows of their own");

    // The number is stored when the daemon ends, or the window does.
    mcpd.terminate();
    assert!(mcpd.wait().success());
    let rows = audit(&store).await;
    let bobs = of(&rows, "User bob");
    assert_eq!(bobs.len(), 12);
    assert!(bobs[0].reason.starts_with("and 109 more of this kind from "), "{}", bobs[0].reason);
    assert!(bobs[1].reason.starts_with("more of this kind within 5m are counted"), "{}", bobs[1].reason);
    assert!(bobs.iter().all(|row| row.principal_id == bobs[0].principal_id && row.token_id.is_some()));
}

#[tokio::test]
async fn allowed_probes_are_summed_by_llm_and_inference_is_not() {
    let mcpd = start("limits: {records: {rows: {burst: 5, every: 1h}, window: 1s}}").await;
    mcpd.llm("claude", "http://127.0.0.1:1").await;
    mcpd.llm("gpt", "http://127.0.0.1:1").await;
    let alice = mcpd.user("alice", Some("llm-user")).await;
    for _ in 0..20 {
        for llm in ["claude", "gpt"] {
            assert_eq!(mcpd.head(&format!("/api/v1/llms/{llm}"), &alice).await.status(), StatusCode::OK);
        }
    }
    for _ in 0..7 {
        let body = json!({"model": "claude", "messages": []});
        assert_eq!(mcpd.post("/v1/chat/completions", &alice, &body).await.status(), StatusCode::BAD_GATEWAY);
    }
    let store = store(&mcpd).await;
    eventually("each probe is on record or counted", async || {
        let rows = audit(&store).await;
        let mut probes = [0_u64; 2];
        for row in of(&rows, "User alice").into_iter().filter(|row| row.action == "view") {
            assert!(row.decision == Decision::Allowed && row.resource_id.is_some());
            let counted =
                row.reason.strip_prefix("and ").map(|rest| rest.split(' ').next().unwrap().parse::<u64>());
            let at = usize::from(row.resource_name == "gpt");
            probes[at] += counted.map_or(1, Result::unwrap);
        }
        (probes == [20, 20]).then_some(())
    })
    .await;
    let rows = audit(&store).await;
    let of_alice = |action: &str| of(&rows, "User alice").iter().filter(|row| row.action == action).count();
    assert_eq!(of_alice("run"), 7);
    assert!(of_alice("view") < 35, "40 probes have {} rows", of_alice("view"));
}

#[tokio::test]
async fn refused_logins_are_recorded_with_name_and_network() {
    let mut mcpd = start("limits: {records: {rows: {burst: 4, every: 1h}}}").await;
    mcpd.apply(json!([{"kind": "User", "name": "carol", "password": "correct horse battery"}])).await;
    let login = async |user: &str, password: &str| {
        let body = json!({"user": user, "password": password});
        mcpd.post("/api/v1/auth/login", "", &body).await.status()
    };
    assert_eq!(login("carol", "wrong wrong").await, StatusCode::UNAUTHORIZED);
    assert_eq!(login("made-up", "wrong wrong").await, StatusCode::UNAUTHORIZED);
    assert_eq!(login("Correct Horse Battery!", "oops").await, StatusCode::UNAUTHORIZED);
    assert_eq!(login("carol", "correct horse battery").await, StatusCode::CREATED);
    let store = store(&mcpd).await;
    let rows = audit(&store).await;
    let refused: Vec<&AuditRow> = rows.iter().filter(|row| row.action == "login").rev().collect();
    let names: Vec<&str> = refused.iter().map(|row| row.resource_name.as_str()).collect();
    // What is no name may be a password that was typed into the wrong field.
    assert_eq!(names, ["carol", "made-up", "(not a name)"]);
    for row in refused {
        assert!(row.decision == Decision::Denied && row.kind == Kind::User && !row.request_id.is_empty());
        assert!(row.reason.ends_with("from 127.0.0.1"), "{}", row.reason);
    }
    // A flood of them is summed.
    for number in 0..100 {
        login(&format!("Not A Name {number}"), "x").await;
    }
    mcpd.terminate();
    assert!(mcpd.wait().success());
    let rows = audit(&store).await;
    let refused: Vec<&AuditRow> = rows.iter().filter(|row| row.action == "login").collect();
    assert_eq!(refused.len(), 6);
    assert!(refused[0].reason.starts_with("and 98 more of this kind"), "{}", refused[0].reason);
    assert!(!mcpd.log().contains("Correct Horse"), "neither in the log");
}

#[tokio::test]
async fn namesakes_are_recorded_apart() {
    let mcpd = start("").await;
    let token = mcpd.user("alice", None).await;
    let denied = async |token: &str| {
        assert_eq!(mcpd.get("/api/v1/llms/gpt", token).await.status(), StatusCode::FORBIDDEN);
    };
    denied(&token).await;
    assert_eq!(
        mcpd.delete("/api/v1/tokens/alice-token", &mcpd.admin()).await.status(),
        StatusCode::NO_CONTENT
    );
    assert_eq!(mcpd.delete("/api/v1/users/alice", &mcpd.admin()).await.status(), StatusCode::NO_CONTENT);
    let token = mcpd.user("alice", None).await;
    denied(&token).await;
    let rows = audit(&store(&mcpd).await).await;
    let [second, first] = of(&rows, "User alice")[..] else { panic!("{rows:?}") };
    let user: Value = mcpd.get("/api/v1/users/alice", &mcpd.admin()).await.json().await.unwrap();
    assert_eq!(second.principal_id.as_ref().unwrap().as_str(), user["id"]);
    assert!(first.principal_id.is_some() && first.principal_id != second.principal_id);
    assert!(first.token_id.is_some() && first.token_id != second.token_id);
    assert!(rows.iter().all(|row| row.principal != "User admin" || row.token_id.is_some()));
}

#[tokio::test]
async fn account_sees_what_it_did_under_an_earlier_name() {
    let mcpd = start("").await;
    let token = mcpd.user("ann", None).await;
    assert_eq!(mcpd.get("/api/v1/llms/gpt", &token).await.status(), StatusCode::FORBIDDEN);
    let rename =
        mcpd.request(Method::PATCH, "/api/v1/users/ann", &mcpd.admin()).json(&json!({"name": "anna"}));
    assert_eq!(rename.send().await.unwrap().status(), StatusCode::OK);
    let own: Value = mcpd.get("/api/v1/audit?decision=denied", &token).await.json().await.unwrap();
    let names: Vec<_> = own["items"].as_array().unwrap().iter().map(|row| &row["principal"]).collect();
    assert_eq!(names, ["User ann"]);
}

#[tokio::test]
async fn records_are_deleted_after_their_retention() {
    let mut mcpd = start("limits: {records: {audit: 30d, usage: 10d}}").await;
    let store = store(&mcpd).await;
    let recorder = Recorder::new(store.clone(), Durability::default());
    let days = |days: i64| Timestamp::now() - SignedDuration::from_hours(24 * days);
    let id = Id::mint();
    let audit_row = |at: Timestamp| AuditRow {
        id: uuid::Uuid::now_v7(),
        at,
        principal: "User old".to_owned(),
        principal_id: None,
        token_id: None,
        action: "view".to_owned(),
        kind: Kind::Llm,
        resource_id: None,
        resource_name: "gpt".to_owned(),
        decision: Decision::Denied,
        reason: String::new(),
        revision: Revision(1),
        request_id: String::new(),
    };
    let usage_row = |at: Timestamp| UsageRow {
        id: uuid::Uuid::now_v7(),
        at,
        principal: "User old".to_owned(),
        principal_id: Some(id.clone()),
        token_id: id.clone(),
        llm_id: id.clone(),
        llm_name: "gpt".to_owned(),
        model: String::new(),
        target: None,
        input_tokens: 1,
        output_tokens: 1,
        cached_input_tokens: 0,
        cache_write_input_tokens: 0,
        reasoning_tokens: 0,
        estimated: false,
        cost_nanos: None,
        stream: false,
        outcome: "ok".to_owned(),
        status: 200,
        attempts: 1,
        begins: true,
        fallback: false,
        duration_ms: 1,
        request_id: String::new(),
    };
    // More than one batch of them.
    let old = (0..2500).map(|_| audit_row(days(31))).chain([audit_row(days(29)), audit_row(days(11))]);
    recorder.audit(old.collect()).await.unwrap();
    recorder.usage([11, 9, 31].map(|age| usage_row(days(age))).to_vec()).await.unwrap();
    mcpd.terminate();
    assert!(mcpd.wait().success());
    mcpd.restart().await;
    eventually("old records are gone, and only those", async || {
        let rows = audit(&store).await;
        let usage = store.usage(&UsageFilter { limit: 10, ..UsageFilter::default() }).await.unwrap();
        (of(&rows, "User old").len() == 2 && usage.len() == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn database_password_does_not_show_in_arguments() {
    let postgres = Postgres::start();
    let dir = tempfile::tempdir().unwrap();
    let with_password = postgres.url().replace("test@", "test:s3cret-word@");
    let mut command = Command::new(program("mcpd"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(dir.path());
    let refused = command.args(["--database-url", &with_password]).output().unwrap();
    let stderr = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && !stderr.contains("s3cret"), "{stderr}");
    assert!(
        stderr.contains("error: `--database-url` holds a password") && stderr.contains("hint: "),
        "{stderr}"
    );

    let key = dir.path().join("master-key");
    master_key_file::load_or_create(&key, IfMissing::Create).unwrap();
    let file = dir.path().join("database-url");
    std::fs::write(&file, &with_password).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mcpd = Mcpd::start_with(McpdOptions {
        config: Some(format!("databaseUrlFile: {}", file.display())),
        master_key_file: Some(key),
        ..McpdOptions::default()
    })
    .await;
    let arguments = std::fs::read(format!("/proc/{}/cmdline", mcpd.pid())).unwrap();
    assert!(!String::from_utf8_lossy(&arguments).contains("s3cret"));
    assert!(!mcpd.log().contains("s3cret"));
    mcpd.apply(json!([{"kind": "User", "name": "alice"}])).await;
}
