//! Writers that get in the way of a revocation.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use mcpctl_testkit::{
    daemons::{Mcpd, McpdOptions, eventually},
    postgres::Postgres,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const WRITERS: usize = 64;
const REVOCATIONS: usize = 20;
/// The most changes of the writers that are stored while one revocation waits: each of them may have been ahead of it, and each
/// may be stored once more before the revocation's answer is read.
const MAX_OVERTAKING: usize = 4 * WRITERS;

/// Writers that change one Llm over and over through these daemons, while the last daemon takes revocations.
async fn revocations_among_writers(daemons: &[&Mcpd]) {
    let (first, last) = (daemons[0], daemons[daemons.len() - 1]);
    let admin = first.admin();
    let spec = |model: &str| json!({"type": "openai", "url": "http://127.0.0.1:1/v1", "model": model});
    let made = first.request(Method::PUT, "/api/v1/llms/mine", &admin).json(&spec("m")).send().await.unwrap();
    assert_eq!(made.status(), StatusCode::OK);
    let mallory = first
        .user_with_rules("mallory", json!([{"kinds": ["llms"], "verbs": ["edit"], "names": ["mine"]}]))
        .await;
    let bindings: Vec<Value> = (0..REVOCATIONS)
        .map(|n| {
            json!({"kind": "RoleBinding", "name": format!("rb{n}"), "role": "viewer",
                   "subjects": [{"kind": "User", "name": "other"}]})
        })
        .collect();
    first.apply(Value::Array(bindings)).await;

    let (stop, stored) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..WRITERS {
        let (stop, stored) = (Arc::clone(&stop), Arc::clone(&stored));
        let daemon = daemons[n % daemons.len()];
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let (url, mallory) = (format!("{}/api/v1/llms/mine", daemon.url()), mallory.clone());
        writers.spawn(async move {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                count += 1;
                let model = format!("m{n}-{count}");
                let body = json!({"type": "openai", "url": "http://127.0.0.1:1/v1", "model": model});
                let sent = http.put(&url).bearer_auth(&mallory).json(&body).send().await;
                if sent.is_ok_and(|answer| answer.status() == StatusCode::OK) {
                    stored.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    eventually("the writers write", || async {
        (stored.load(Ordering::Relaxed) > WRITERS / 2).then_some(())
    })
    .await;
    for n in 0..REVOCATIONS {
        let before = stored.load(Ordering::Relaxed);
        let answer = last.delete(&format!("/api/v1/rolebindings/rb{n}"), &admin).await;
        assert_eq!(answer.status(), StatusCode::NO_CONTENT, "revocation {n}");
        let overtaking = stored.load(Ordering::Relaxed) - before;
        assert!(overtaking <= MAX_OVERTAKING, "{overtaking} writers went before revocation {n}");
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revocations_go_through_among_64_writers() {
    // A rate that a single principal never spends here: the turns alone must do.
    let config = "limits: {writes: {perSecond: 100000, burst: 100000, inProgress: 1000}}".to_owned();
    let mcpd = Mcpd::start_with(McpdOptions { config: Some(config), ..McpdOptions::default() }).await;
    revocations_among_writers(&[&mcpd]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revocations_go_through_on_another_replica() {
    let postgres = Postgres::start();
    let config = "limits: {writes: {perSecond: 100000, burst: 100000, inProgress: 1000}}";
    let key = tempfile::tempdir().unwrap();
    let key_file = key.path().join("master-key");
    std::fs::copy(Mcpd::start().await.data_dir().join("master-key"), &key_file).unwrap();
    let options = || McpdOptions {
        database_url: Some(postgres.url()),
        master_key_file: Some(key_file.clone()),
        config: Some(config.to_owned()),
        ..McpdOptions::default()
    };
    let first = Mcpd::start_with(options()).await;
    let second = Mcpd::start_with(options()).await;
    revocations_among_writers(&[&first, &second]).await;
}

#[tokio::test]
async fn one_account_writes_no_more_than_its_rate() {
    let config = "limits: {writes: {perSecond: 1, burst: 5, inProgress: 4}}".to_owned();
    let mcpd = Mcpd::start_with(McpdOptions { config: Some(config), ..McpdOptions::default() }).await;
    let mallory = mcpd
        .user_with_rules("mallory", json!([{"kinds": ["llms"], "verbs": ["edit"], "names": ["mine"]}]))
        .await;
    let mut refused = None;
    for _ in 0..20 {
        let answer = mcpd.delete("/api/v1/llms/mine", &mallory).await;
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("a refusal");
    assert!(refused.headers().contains_key("retry-after"));
    let text = refused.text().await.unwrap();
    assert!(text.contains("limits.writes"), "{text}");
    for bad in ["0", "-1"] {
        let mut command = std::process::Command::new(mcpctl_testkit::daemons::program("mcpd"));
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("mcpd.yaml");
        std::fs::write(&file, format!("limits:\n  writes:\n    burst: {bad}\n")).unwrap();
        let done = command.args(["serve", "--config"]).arg(&file).output().unwrap();
        let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success() && stderr.contains("mcpd.yaml:3:"), "{stderr}");
    }
}
