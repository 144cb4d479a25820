//! Daemons that are killed with SIGKILL while they acknowledge: what they had acknowledged has to be there after their restart.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::{
    daemons::{Mcpd, McpdOptions, UNBOUNDED_WRITES, eventually},
    deployment::Deployment,
    model_server::ModelServer,
    response::{content, header},
};

/// Writers at a daemon that is killed.
const WRITERS: usize = 4;

/// What became of a daemon that was killed many times.
#[derive(Debug, Default)]
pub struct Kills {
    /// How often it was killed.
    pub rounds: usize,
    /// What it had acknowledged, in all.
    pub acknowledged: usize,
    /// What it had acknowledged and lost.
    pub lost: Vec<String>,
}

/// What one writer was acknowledged in one round.
#[derive(Debug, Default)]
struct Acknowledged {
    created: BTreeSet<String>,
    deleted: BTreeSet<String>,
}

/// Kills an mcpd amid creates and deletions of users. `options` without a configuration.
pub async fn of_mcpd(options: McpdOptions, rounds: usize) -> Kills {
    let config = format!("{}{UNBOUNDED_WRITES}", options.config.unwrap_or_default());
    let mut mcpd = Mcpd::start_with(McpdOptions { config: Some(config), ..options }).await;
    let mut kills = Kills { rounds, ..Kills::default() };
    for round in 0..rounds {
        let count = Arc::new(AtomicUsize::new(0));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                tokio::spawn(write(Writer::new(&mcpd, format!("k{round}-{writer}")), Arc::clone(&count)))
            })
            .collect();
        // At another moment of the writes each time.
        let enough = 4 + round * 7 % 23;
        eventually("writes are acknowledged", async || {
            (count.load(Ordering::SeqCst) >= enough).then_some(())
        })
        .await;
        mcpd.kill();
        let mut acknowledged = Acknowledged::default();
        for writer in writers {
            let Acknowledged { created, deleted } = writer.await.expect("a writer");
            acknowledged.created.extend(created);
            acknowledged.deleted.extend(deleted);
        }
        mcpd.restart().await;
        let list = mcpd.get("/api/v1/users", &mcpd.admin()).await;
        let list: Value = list.json().await.expect("the users");
        let items = list["items"].as_array().expect("the users");
        let present: BTreeSet<&str> = items.iter().filter_map(|user| user["name"].as_str()).collect();
        kills.acknowledged += acknowledged.created.len() + acknowledged.deleted.len();
        let gone = acknowledged.created.iter().filter(|name| !present.contains(name.as_str()));
        kills.lost.extend(gone.map(|name| format!("round {round}: the user {name} is gone")));
        let back = acknowledged.deleted.iter().filter(|name| present.contains(name.as_str()));
        kills.lost.extend(back.map(|name| format!("round {round}: the deleted user {name} is back")));
    }
    kills
}

/// What a writer needs of a daemon that is killed meanwhile.
struct Writer {
    http: reqwest::Client,
    url: String,
    admin: String,
    prefix: String,
}

impl Writer {
    fn new(mcpd: &Mcpd, prefix: String) -> Self {
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        Self { http, url: mcpd.url().to_owned(), admin: mcpd.admin(), prefix }
    }

    /// The status; `None` where no answer came.
    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Option<StatusCode> {
        let request = self.http.request(method, format!("{}{path}", self.url)).bearer_auth(&self.admin);
        let request = match &body {
            Some(body) => request.json(body),
            None => request,
        };
        Some(request.send().await.ok()?.status())
    }
}

/// Creates users, and deletes every other one, until the daemon is gone.
async fn write(writer: Writer, count: Arc<AtomicUsize>) -> Acknowledged {
    let mut acknowledged = Acknowledged::default();
    for at in 0.. {
        let name = format!("{}-{at}", writer.prefix);
        let document = json!({"name": name});
        match writer.send(Method::POST, "/api/v1/users", Some(document)).await {
            None => break,
            Some(StatusCode::CREATED) => {
                acknowledged.created.insert(name.clone());
                count.fetch_add(1, Ordering::SeqCst);
            }
            // Crowded out by another writer.
            Some(_) => continue,
        }
        if at % 2 == 0 {
            // From here on both are possible, unless it is acknowledged.
            acknowledged.created.remove(&name);
            match writer.send(Method::DELETE, &format!("/api/v1/users/{name}"), None).await {
                None => break,
                Some(StatusCode::NO_CONTENT) => {
                    acknowledged.deleted.insert(name);
                    count.fetch_add(1, Ordering::SeqCst);
                }
                Some(_) => {}
            }
        }
    }
    acknowledged
}

/// Kills an mcpd amid answers of an Llm. Each answer that a caller got has to be in the audit and in `usage`, which returns the ids of the
/// requests with a row of usage.
pub async fn of_records(
    options: McpdOptions,
    rounds: usize,
    usage: impl AsyncFn(&Mcpd) -> BTreeSet<String>,
) -> Kills {
    let provider = ModelServer::start().await;
    // On PostgreSQL, providers on this machine are refused by default.
    let config = format!("{}upstreamAddresses: {{loopback: true}}\n", options.config.unwrap_or_default());
    let mut mcpd = Mcpd::start_with(McpdOptions { config: Some(config), ..options }).await;
    mcpd.llm_with_default_timeouts("claude", &provider.base_url()).await;
    let alice = mcpd.user("alice", Some("llm-user")).await;
    let mut kills = Kills { rounds, ..Kills::default() };
    for round in 0..rounds {
        let count = Arc::new(AtomicUsize::new(0));
        let callers: Vec<_> = (0..WRITERS)
            .map(|_| tokio::spawn(ask(mcpd.url().to_owned(), alice.clone(), Arc::clone(&count))))
            .collect();
        let enough = 4 + round * 7 % 23;
        eventually("answers come", async || (count.load(Ordering::SeqCst) >= enough).then_some(())).await;
        mcpd.kill();
        let mut answered = Vec::new();
        for caller in callers {
            answered.extend(caller.await.expect("a caller"));
        }
        mcpd.restart().await;
        let page = mcpd.get("/api/v1/audit?action=run&limit=1000", &mcpd.admin()).await;
        let page: Value = page.json().await.expect("the audit");
        let decided: BTreeSet<&str> = page["items"]
            .as_array()
            .expect("rows")
            .iter()
            .filter_map(|row| row["requestId"].as_str())
            .collect();
        let used = usage(&mcpd).await;
        kills.acknowledged += answered.len();
        for request in answered {
            if !decided.contains(request.as_str()) {
                kills.lost.push(format!("round {round}: the decision on {request} is in no row"));
            }
            if !used.contains(&request) {
                kills.lost.push(format!("round {round}: the usage of {request} is in no row"));
            }
        }
    }
    kills
}

/// Kills an agent amid local answers. Each answer that a caller got has to be in the journal.
pub async fn of_agent(rounds: usize) -> Kills {
    let mut deployment = Deployment::builder().unreachable_inference().start().await;
    let mut kills = Kills { rounds, ..Kills::default() };
    for round in 0..rounds {
        let count = Arc::new(AtomicUsize::new(0));
        let callers: Vec<JoinHandle<Vec<String>>> = (0..WRITERS)
            .map(|_| {
                tokio::spawn(ask(
                    deployment.agent.url().to_owned(),
                    deployment.alice.clone(),
                    Arc::clone(&count),
                ))
            })
            .collect();
        let enough = 2 + round * 5 % 11;
        eventually("answers come", async || (count.load(Ordering::SeqCst) >= enough).then_some(())).await;
        deployment.agent.kill();
        let mut answered = Vec::new();
        for caller in callers {
            answered.extend(caller.await.expect("a caller"));
        }
        let recorded = served(&deployment.agent.journal_file());
        kills.acknowledged += answered.len();
        let lost = answered.iter().filter(|request| !recorded.contains(*request));
        kills
            .lost
            .extend(lost.map(|request| format!("round {round}: the answer to {request} is in no line")));
        deployment.agent.restart().await;
        // The line that the kill may have torn is removed, and the journal goes on.
        assert_eq!(content(deployment.chat().await).await, "from the desk");
        assert!(!deployment.agent.journal().is_empty());
    }
    kills
}

/// The requests that were answered locally, as far as the journal's lines are whole.
fn served(journal: &std::path::Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(journal).unwrap_or_default();
    let entries = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    entries
        .filter(|entry| entry["event"] == "failover" && entry["outcome"] == "served")
        .filter_map(|entry| entry["request"].as_str().map(str::to_owned))
        .collect()
}

/// Asks until the agent is gone; the ids of the requests whose answers came.
async fn ask(url: String, bearer: String, count: Arc<AtomicUsize>) -> Vec<String> {
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let body = json!({"model": "claude", "messages": [{"role": "user", "content": "Hi"}]});
    let mut answered = Vec::new();
    loop {
        let request = http.post(format!("{url}/v1/chat/completions")).bearer_auth(&bearer).json(&body);
        let Ok(answer) = request.send().await else { return answered };
        if answer.status() == StatusCode::OK {
            answered.extend(header(&answer, "mcpctl-request-id").map(str::to_owned));
            count.fetch_add(1, Ordering::SeqCst);
        }
    }
}
