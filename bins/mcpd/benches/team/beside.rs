//! A backup beside the daemon: how long it takes, and how long chats and revocations take meanwhile.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use mcpctl_testkit::daemons::Mcpd;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::{Installation, READ_TARGET, table::Table};

/// Requests before the backup, for comparison.
const SAMPLES: usize = 200;
/// Of chats and revocations beside a backup, on a machine of two cores that the backup uses both of.
const TARGET: Duration = Duration::from_millis(100);

/// Of SQLite, while a backup keeps its log from beginning anew; writes alone let it grow to 32 MiB.
const MAX_LOG_MIB: usize = 128;

/// Who asks.
pub struct Callers {
    pub alice: String,
    pub admin: String,
}

#[derive(Default)]
struct Times {
    chats: Vec<Duration>,
    revocations: Vec<Duration>,
}

pub async fn backup(
    installation: &Installation,
    mcpd: &Mcpd,
    callers: &Callers,
    database: &str,
    file: &Path,
    url: Option<&str>,
    table: &mut Table,
) {
    let mut alone = Times::default();
    for at in 0..SAMPLES {
        alone.measure(mcpd, callers, at).await;
    }
    table.times(&format!("{database}: a chat, alone"), alone.chats, 0.99, TARGET);
    table.times(&format!("{database}: a revocation, alone"), alone.revocations, 0.99, TARGET);
    let mut command = installation.command(&["backup", file.to_str().unwrap()], &mcpd.data_dir(), url);
    let begun = Instant::now();
    let running = tokio::task::spawn_blocking(move || (command.output().unwrap(), begun.elapsed()));
    let (mut beside, mut longest_log, mut at) = (Times::default(), 0, SAMPLES);
    while !running.is_finished() {
        beside.measure(mcpd, callers, at).await;
        at += 1;
        let log = fs::metadata(mcpd.data_dir().join("mcpd.sqlite-wal"));
        longest_log = longest_log.max(log.map_or(0, |log| log.len()));
    }
    let (done, took) = running.await.unwrap();
    if !done.status.success() {
        return table.failed(&format!("{database}: a backup"), &String::from_utf8_lossy(&done.stderr));
    }
    table.times(&format!("{database}: a backup"), vec![took], 1.0, installation.target(READ_TARGET));
    table.times(&format!("{database}: a chat beside it"), beside.chats, 0.99, TARGET);
    table.times(&format!("{database}: a revocation beside it"), beside.revocations, 0.99, TARGET);
    let mib = |bytes: u64| bytes >> 20;
    table.note(&format!("{database}: the backup has {} MiB", mib(file.metadata().unwrap().len())));
    if url.is_none() {
        let mib = usize::try_from(mib(longest_log)).unwrap();
        table.count(&format!("{database}: the write-ahead log, MiB"), mib, MAX_LOG_MIB);
    }
}

impl Times {
    async fn measure(&mut self, mcpd: &Mcpd, callers: &Callers, at: usize) {
        let body = json!({"model": "gpt", "messages": [{"role": "user", "content": "Hi"}]});
        let begun = Instant::now();
        let answer = mcpd.post("/v1/chat/completions", &callers.alice, &body).await;
        assert_eq!(answer.status(), StatusCode::OK);
        answer.bytes().await.unwrap();
        self.chats.push(begun.elapsed());
        let binding = json!({"name": format!("b-{at}"), "role": "llm-user", "subjects": [{"kind": "User", "name": "alice"}]});
        let made = mcpd.post("/api/v1/rolebindings", &callers.admin, &binding).await;
        assert_eq!(made.status(), StatusCode::CREATED);
        let revoke = mcpd.request(Method::DELETE, &format!("/api/v1/rolebindings/b-{at}"), &callers.admin);
        let begun = Instant::now();
        assert_eq!(revoke.send().await.unwrap().status(), StatusCode::NO_CONTENT);
        self.revocations.push(begun.elapsed());
    }
}
