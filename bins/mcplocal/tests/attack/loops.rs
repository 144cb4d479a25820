//! Agents whose `server` is an agent: a request that returns to its agent ends there.

use mcpctl_secret::token::{self, Prefix};
use mcpctl_testkit::{
    daemons::{Mcplocal, eventually},
    process,
};
use reqwest::{Method, StatusCode};

fn descriptors(agent: &Mcplocal) -> usize {
    process::descriptors(agent.pid()).len()
}

/// Changes the agent's `server`, and waits until the agent uses it.
async fn point_at(agent: &Mcplocal, server: &str) {
    agent.change_config(|_| format!("server: {server}\nlisten: 127.0.0.1:0\n"));
    eventually("the new configuration", async || {
        let shown = agent.status().await.to_string();
        shown.contains(server).then_some(())
    })
    .await;
}

async fn agent() -> Mcplocal {
    Mcplocal::start("server: http://127.0.0.1:9").await
}

#[tokio::test]
async fn agent_that_is_its_own_server_rejects_at_once() {
    let agent = agent().await;
    point_at(&agent, agent.url()).await;
    let bearer = token::mint(Prefix::Mcpd).unwrap();
    let before = descriptors(&agent);
    for stream in [false, true] {
        let answer = agent.chat("claude", bearer.expose(), stream).await;
        assert_eq!(answer.status(), StatusCode::LOOP_DETECTED, "{}", answer.text().await.unwrap());
    }
    let models = agent.request(Method::GET, "/v1/models", bearer.expose()).send().await.unwrap();
    assert_eq!(models.status(), StatusCode::LOOP_DETECTED);
    assert!(descriptors(&agent) < before + 20, "{} of {before}", descriptors(&agent));
    assert!(agent.log().matches("/v1/").count() < 20, "{}", agent.log());
}

#[tokio::test]
async fn two_agents_in_a_circle_reject_at_once() {
    let (one, two) = (agent().await, agent().await);
    point_at(&one, two.url()).await;
    point_at(&two, one.url()).await;
    let bearer = token::mint(Prefix::Mcpd).unwrap();
    let answer = one.chat("claude", bearer.expose(), false).await;
    assert_eq!(answer.status(), StatusCode::LOOP_DETECTED);
    assert!(answer.text().await.unwrap().contains("came back"));
    let models = one.request(Method::GET, "/v1/models", bearer.expose()).send().await.unwrap();
    assert_eq!(models.status(), StatusCode::LOOP_DETECTED);
}
