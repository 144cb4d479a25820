//! An mcpd that is silent: one that is gone is given up long before its timeouts, one that is only slow is waited for.

use mcpctl_testkit::{
    daemons::eventually,
    deployment::Deployment,
    model_server::{Gate, Pause, Reply},
    response::{content, header},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use reqwest::StatusCode;
use tokio::{io::AsyncReadExt as _, net::TcpListener};

/// Accepts connections and never answers, as a machine does whose mcpd hangs.
async fn black_hole() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = [0; 4096];
                while connection.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
            });
        }
    });
    url
}

/// The usual rules hold: the probe, which goes to mcpd's other address, allows the fallback.
#[tokio::test]
async fn mcpd_without_a_sign_of_life_fails_over() {
    let url = black_hole().await;
    let deployment = Deployment::builder().inference_at(&url).start().await;
    let ask = |streamed| deployment.agent.chat("claude", &deployment.alice, streamed);
    let (whole, streamed) = tokio::join!(ask(false), ask(true));
    for answer in [whole, streamed] {
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(header(&answer, "mcpctl-failover"), Some("no_response"));
        assert_eq!(header(&answer, "mcpctl-served-by"), Some("desk"));
    }
    eventually("both probes are logged", async || (deployment.probes() >= 2).then_some(())).await;
}

/// Gives `claude` the default timeouts, which survive a model that thinks.
async fn with_default_timeouts(deployment: &Deployment) {
    deployment.mcpd.llm_with_default_timeouts("claude", &deployment.provider.base_url()).await;
}

/// The probe gets no answer either.
#[tokio::test]
async fn inv_01_mcpd_that_stops_is_given_up_and_nothing_runs_locally() {
    let deployment = Deployment::start().await;
    with_default_timeouts(&deployment).await;
    deployment.provider.queue(Reply::hang());
    let mcpd = Pid::from_raw(deployment.mcpd.pid().try_into().unwrap());
    let (answer, ()) = tokio::join!(deployment.chat(), async {
        eventually("the provider has the request", async || {
            (!deployment.provider.inferences().is_empty()).then_some(())
        })
        .await;
        kill(mcpd, Signal::SIGSTOP).unwrap();
    });
    kill(mcpd, Signal::SIGCONT).unwrap();
    assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(header(&answer, "mcpctl-failure"), Some("no_response"));
    let text = answer.text().await.unwrap();
    assert!(text.contains("`/healthz` did not answer"), "{text}");
    assert!(deployment.desk.inferences().is_empty());
}

#[tokio::test]
async fn slow_answer_of_a_healthy_mcpd_is_waited_for() {
    let deployment = Deployment::builder().separate_inference().start().await;
    with_default_timeouts(&deployment).await;
    let gate = Gate::new();
    deployment.provider.queue(Reply::text("after a long thought").before_head(Pause::Gate(gate.clone())));
    let (answer, ()) = tokio::join!(deployment.chat(), async {
        let questions = || deployment.mcpd.log().matches("route=\"/healthz\"").count();
        eventually("mcpd was questioned again", async || (questions() >= 2).then_some(())).await;
        gate.release();
    });
    assert_eq!(content(answer).await, "after a long thought");
    assert_eq!(deployment.probes(), 0);
    assert!(deployment.desk.inferences().is_empty());
}

#[tokio::test]
async fn slow_answer_of_a_draining_mcpd_is_waited_for() {
    let deployment = Deployment::start().await;
    with_default_timeouts(&deployment).await;
    let gate = Gate::new();
    deployment.provider.queue(Reply::text("the last answer").before_head(Pause::Gate(gate.clone())));
    let mcpd = Pid::from_raw(deployment.mcpd.pid().try_into().unwrap());
    let (answer, ()) = tokio::join!(deployment.chat(), async {
        eventually("the provider has the request", async || {
            (!deployment.provider.inferences().is_empty()).then_some(())
        })
        .await;
        kill(mcpd, Signal::SIGTERM).unwrap();
        let log = || deployment.agent.log().contains("mcpd refuses connections");
        eventually("mcpd was questioned", async || log().then_some(())).await;
        gate.release();
    });
    assert_eq!(content(answer).await, "the last answer");
}
