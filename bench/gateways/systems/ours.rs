//! Our daemons, as they are installed: SQLite on disk, access log, metrics, usage, decisions on record.

use std::{net::SocketAddr, time::Instant};

use http::{HeaderValue, header::AUTHORIZATION};
use mcpctl_testkit::daemons::{Mcpd, McpdOptions, Mcplocal};
use serde_json::json;

use super::{System, SystemName};
use crate::{load::Destination, placement, rows::MODEL};

/// Room for every stream that a row holds open, of mcpd.
const MCPD_LIMITS: &str = "limits: {http: {connections: 20000, connectionsPerPeer: 20000}, \
                           inference: {perPrincipal: 20000, total: 20000}}\n";
/// The same of mcplocal.
const MCPLOCAL_LIMITS: &str = "limits: {http: {connections: 20000, connectionsPerPeer: 20000}}\n";

pub async fn mcpd(upstream: SocketAddr) -> System {
    let began = Instant::now();
    let mcpd = placement::on_core(placement::SYSTEM, start()).await;
    let started_in = Some(began.elapsed());
    let bearer = prepare(&mcpd, upstream).await;
    System {
        name: SystemName::Mcpd,
        destination: destination(mcpd.url(), &bearer),
        pid: Some(mcpd.pid()),
        started_in,
        _parts: Box::new(mcpd),
    }
}

pub async fn mcplocal(upstream: SocketAddr) -> System {
    let mcpd = start().await;
    let bearer = prepare(&mcpd, upstream).await;
    let config = format!("server: {}\nproviders: []\n{MCPLOCAL_LIMITS}", mcpd.url());
    let began = Instant::now();
    let agent = placement::on_core(placement::SYSTEM, Mcplocal::start(&config)).await;
    let started_in = Some(began.elapsed());
    System {
        name: SystemName::Mcplocal,
        destination: destination(agent.url(), &bearer),
        pid: Some(agent.pid()),
        started_in,
        _parts: Box::new((agent, mcpd)),
    }
}

async fn start() -> Mcpd {
    Mcpd::start_with(McpdOptions { config: Some(MCPD_LIMITS.to_owned()), ..McpdOptions::default() }).await
}

/// An Llm at the model server, and a user who may run it; returns the user's bearer.
async fn prepare(mcpd: &Mcpd, upstream: SocketAddr) -> String {
    let llm = json!({
        "kind": "Llm", "name": MODEL, "type": "openai", "url": format!("http://{upstream}/v1"), "model": MODEL,
        "timeouts": {"idle": "10m"},
    });
    mcpd.apply(json!([llm])).await;
    mcpd.user("bench", Some("llm-user")).await
}

fn destination(url: &str, bearer: &str) -> Destination {
    let address = url.trim_start_matches("http://").parse().unwrap();
    let bearer = HeaderValue::from_str(&format!("Bearer {bearer}")).unwrap();
    Destination { address, headers: vec![(AUTHORIZATION, bearer)] }
}
