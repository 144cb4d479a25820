//! 5,000 feeds of agents at one mcpd: what they cost, and when the last one hears of a revocation.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use mcpctl_testkit::{
    daemons::{Mcpd, McpdOptions},
    model_server::ModelServer,
    process::{processor_seconds, resident_bytes},
};
use reqwest::StatusCode;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Barrier,
};

use crate::table::Table;

const FEEDS: usize = 5000;
const USERS: usize = 100;
/// Long enough for two heartbeats of each feed.
const QUIET: Duration = Duration::from_secs(10);
const LIMITS: &str = "limits: {writes: {perSecond: 100000, burst: 1000000, inProgress: 1000}, feeds: {perPrincipal: 6000, total: 6000}, http: {connections: 8192, connectionsPerPeer: 8192}}\n";

pub async fn figures(table: &mut Table) {
    let options = McpdOptions { config: Some(LIMITS.to_owned()), ..McpdOptions::default() };
    let mcpd = Arc::new(Mcpd::start_with(options).await);
    let model = ModelServer::start().await;
    mcpd.llm_with_default_timeouts("claude", &model.base_url()).await;
    let mut bearers = Vec::new();
    for user in 0..USERS {
        bearers.push(mcpd.user(&format!("user-{user}"), None).await);
    }
    let members: Vec<_> =
        (0..USERS).map(|user| json!({"kind": "User", "name": format!("user-{user}")})).collect();
    mcpd.apply(json!([
        {"kind": "Group", "name": "all", "members": members},
        {"kind": "RoleBinding", "name": "all", "role": "llm-user", "subjects": [{"kind": "Group", "name": "all"}]},
    ]))
    .await;
    let before = resident_bytes(mcpd.pid());
    let begun = Instant::now();
    let ready = Arc::new(Barrier::new(FEEDS + 1));
    let mut feeds = Vec::new();
    for at in 0..FEEDS {
        let mut feed = open(&mcpd, &bearers[at % USERS]).await;
        let ready = Arc::clone(&ready);
        feeds.push(tokio::spawn(async move {
            until(&mut feed, "\"allowed\":true").await;
            ready.wait().await;
            until(&mut feed, "\"allowed\":false").await;
            Instant::now()
        }));
    }
    ready.wait().await;
    let opened = begun.elapsed();
    let grown = resident_bytes(mcpd.pid()).saturating_sub(before) >> 10;
    let cpu = processor_seconds(mcpd.pid());
    tokio::time::sleep(QUIET).await;
    let quiet = (processor_seconds(mcpd.pid()) - cpu) / QUIET.as_secs_f64() * 100.0;
    let cpu = processor_seconds(mcpd.pid());
    let sent = Instant::now();
    let gone = mcpd.delete("/api/v1/rolebindings/all", &mcpd.admin()).await;
    assert_eq!(gone.status(), StatusCode::NO_CONTENT);
    let mut samples = Vec::new();
    for feed in feeds {
        samples.push(feed.await.unwrap().duration_since(sent));
    }
    let spent = processor_seconds(mcpd.pid()) - cpu;
    table.times("a revocation reaches an agent", samples, 1.0, Duration::from_secs(1));
    table.note(&format!(
        "{FEEDS} feeds, opened in {:.1} s: {} MiB, {:.1} KiB each; {quiet:.1} % of a core while nothing changes",
        opened.as_secs_f64(),
        grown >> 10,
        f64::from(u32::try_from(grown).unwrap()) / 5000.0,
    ));
    table.note(&format!("{spent:.2} s of a core for that revocation"));
}

/// Opens a feed on a connection of its own. Without a client library, whose work for 5,000 feeds would be measured too.
async fn open(mcpd: &Mcpd, bearer: &str) -> TcpStream {
    let address = mcpd.url().trim_start_matches("http://");
    let mut feed = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET /api/v1/feed?llms=claude HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {bearer}\r\n\r\n"
    );
    feed.write_all(request.as_bytes()).await.unwrap();
    feed
}

/// Reads until a feed has shown a text.
async fn until(feed: &mut TcpStream, text: &str) {
    let (mut seen, mut bytes) = (String::new(), [0; 4096]);
    while !seen.contains(text) {
        let count = feed.read(&mut bytes).await.unwrap();
        assert!(count > 0, "the feed has ended: {seen}");
        seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
        assert!(!seen.starts_with("HTTP/1.1 4"), "{seen}");
    }
}
