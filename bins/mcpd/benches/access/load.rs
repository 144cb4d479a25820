//! Callers that saturate mcpd, and their model server, in a process of their own that gives way to mcpd: what is measured is mcpd's work
//! and not the load's. [`Load`] is that process as the figures see it, [`run`] what it does.

use std::{
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use mcpctl_testkit::model_server::{ModelServer, Reply};
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
};

/// The word that makes this program the load.
pub const COMMAND: &str = "load";
/// The load's niceness: the kernel gives it a tenth of what mcpd gets where both want a core.
const NICENESS: &str = "10";
/// Wait of a refused caller, shorter than its `Retry-After`.
const RETRY: Duration = Duration::from_millis(200);
/// Events of a stream.
const EVENTS: usize = 40;

/// What the load does.
#[derive(Debug, Serialize, Deserialize)]
pub struct Orders {
    /// mcpd's address.
    pub mcpd: String,
    /// The callers' bearers, which they share.
    pub bearers: Vec<String>,
    /// Callers at once.
    pub callers: usize,
}

/// What it did.
#[derive(Debug, Serialize, Deserialize)]
pub struct Done {
    /// Streams that came to their end.
    pub served: usize,
    /// Requests that mcpd refused.
    pub refused: usize,
}

/// A running load.
pub struct Load {
    /// The base URL of its model server.
    pub model: String,
    orders: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Load {
    /// Starts one whose model server pauses so long before each event.
    pub async fn start(pace: Duration) -> Self {
        let mut command = Command::new("nice");
        command.args(["-n", NICENESS]).arg(std::env::current_exe().unwrap());
        command.args([COMMAND, &pace.as_millis().to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn().unwrap();
        let orders = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let model = lines.next_line().await.unwrap().expect("the address of the model server");
        Self { model, orders, lines, _child: child }
    }

    /// Starts the callers, and returns when mcpd has refused one.
    pub async fn saturate(&mut self, orders: &Orders) {
        let line = format!("{}\n", serde_json::to_string(orders).unwrap());
        self.orders.write_all(line.as_bytes()).await.unwrap();
        self.lines.next_line().await.unwrap().expect("a refusal");
    }

    /// Ends it.
    pub async fn end(self) -> Done {
        let Self { orders, mut lines, .. } = self;
        drop(orders);
        serde_json::from_str(&lines.next_line().await.unwrap().expect("what was done")).unwrap()
    }
}

/// The load's own program.
#[tokio::main]
pub async fn run() {
    let pace = std::env::args().nth(2).and_then(|pace| pace.parse().ok()).expect("the pace");
    let reply = Reply::text(&"word ".repeat(EVENTS));
    let reply = if pace == 0 { reply } else { reply.pace(Duration::from_millis(pace)) };
    let model = ModelServer::with_default(reply).await;
    println!("{}", model.base_url());
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let orders = lines.next_line().await.unwrap().expect("orders");
    let orders: Orders = serde_json::from_str(&orders).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let [served, refused] = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let body = json!({"model": "claude", "stream": true, "messages": [{"role": "user", "content": "Hi"}]});
    for at in 0..orders.callers {
        let request = http.post(format!("{}/v1/chat/completions", orders.mcpd)).json(&body);
        let request = request.bearer_auth(&orders.bearers[at % orders.bearers.len()]);
        let (served, refused, stop) = (Arc::clone(&served), Arc::clone(&refused), Arc::clone(&stop));
        tokio::spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                let answer = request.try_clone().unwrap().send().await.unwrap();
                if answer.status() == StatusCode::OK {
                    let text = answer.text().await.unwrap();
                    served.fetch_add(usize::from(text.contains("[DONE]")), Ordering::SeqCst);
                } else {
                    refused.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(RETRY).await;
                }
            }
        });
    }
    while refused.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(RETRY).await;
    }
    println!("saturated");
    // Until the figures close their end.
    while let Ok(Some(_)) = lines.next_line().await {}
    stop.store(true, Ordering::SeqCst);
    let [served, refused] = [served, refused].map(|count| count.load(Ordering::SeqCst));
    println!("{}", serde_json::to_string(&Done { served, refused }).unwrap());
}
