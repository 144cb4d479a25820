//! Agents whose `server` is an agent: a request that comes back ends there.

use mcpctl_secret::token::{self, Prefix};
use mcpctl_testkit::daemons::{Mcplocal, eventually};
use reqwest::{Method, StatusCode};

fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Gives the agent another `server`, and waits until it asks that one.
async fn point_at(agent: &Mcplocal, server: &str) {
    std::fs::write(agent.config_file(), format!("server: {server}\nlisten: 127.0.0.1:0\n")).unwrap();
    eventually("the new configuration", async || {
        let shown = agent.status().await.to_string();
        shown.contains(server).then_some(())
    })
    .await;
}

async fn nowhere() -> Mcplocal {
    Mcplocal::start("server: http://127.0.0.1:9").await
}

#[tokio::test]
async fn an_agent_that_is_its_own_server_refuses_at_once() {
    let agent = nowhere().await;
    point_at(&agent, agent.url()).await;
    let bearer = token::mint(Prefix::Mcpd).unwrap();
    let before = descriptors(agent.pid());
    for stream in [false, true] {
        let answer = agent.chat("claude", bearer.expose(), stream).await;
        assert_eq!(answer.status(), StatusCode::LOOP_DETECTED, "{}", answer.text().await.unwrap());
    }
    let models = agent.request(Method::GET, "/v1/models", bearer.expose()).send().await.unwrap();
    assert_eq!(models.status(), StatusCode::LOOP_DETECTED);
    assert!(descriptors(agent.pid()) < before + 20, "{} of {before}", descriptors(agent.pid()));
    assert!(agent.log().matches("/v1/").count() < 20, "{}", agent.log());
}

#[tokio::test]
async fn two_agents_in_a_circle_refuse_at_once() {
    let (one, two) = (nowhere().await, nowhere().await);
    point_at(&one, two.url()).await;
    point_at(&two, one.url()).await;
    let bearer = token::mint(Prefix::Mcpd).unwrap();
    let answer = one.chat("claude", bearer.expose(), false).await;
    assert_eq!(answer.status(), StatusCode::LOOP_DETECTED);
    assert!(answer.text().await.unwrap().contains("came back"));
    let models = one.request(Method::GET, "/v1/models", bearer.expose()).send().await.unwrap();
    assert_eq!(models.status(), StatusCode::LOOP_DETECTED);
}
