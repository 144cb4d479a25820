//! The breaker of a primary that fails again and again.

use mcpctl_testkit::{
    daemons::eventually,
    deployment::{Builder, Deployment},
    response::content,
};

fn with_breaker(open: &str) -> Builder {
    let config = format!("primary: {{breaker: {{failures: 2, open: {open}}}}}");
    Deployment::builder().separate_inference().config(&config)
}

async fn fail_twice(deployment: &mut Deployment) {
    deployment.provider.refuse().await;
    for _ in 0..2 {
        assert_eq!(content(deployment.chat().await).await, "from the desk");
    }
}

#[tokio::test]
async fn open_breaker_skips_the_primary_and_not_the_probe() {
    let mut deployment = with_breaker("1h").start().await;
    fail_twice(&mut deployment).await;
    let requests = || deployment.mcpd.log().matches("route=\"/v1/chat/completions\"").count();
    // mcpd logs each request and a warning of its provider.
    eventually("mcpd has logged both requests", async || (requests() == 4).then_some(())).await;
    assert_eq!(content(deployment.chat().await).await, "from the desk");
    eventually("mcpd is probed each time", async || (deployment.probes() == 3).then_some(())).await;
    assert_eq!(requests(), 4, "the breaker is open");
    let status = deployment.agent.status().await;
    assert_eq!(status["breakers"][0]["llm"], "claude");
    assert_eq!(format!("http://{}", status["listen"].as_str().unwrap()), deployment.agent.url());
}

#[tokio::test]
async fn breaker_closes_when_the_primary_serves_again() {
    let mut deployment = with_breaker("200ms").start().await;
    fail_twice(&mut deployment).await;
    deployment.provider.listen();
    eventually("the primary serves again", async || {
        (content(deployment.chat().await).await == "from the primary").then_some(())
    })
    .await;
}
