//! Who may fall back to a local provider: only a caller whom mcpd allows at that moment.

use mcpctl_testkit::{
    deployment::Deployment,
    model_server::Reply,
    response::{content, header},
    routes::InferenceRoute,
};
use reqwest::StatusCode;
use serde_json::{Value, json};

#[tokio::test]
async fn inv_02_denial_by_mcpd_never_fails_over() {
    let deployment = Deployment::start().await;
    deployment.revoke().await;
    let answer = deployment.chat().await;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert_eq!(header(&answer, "mcpctl-error-source"), Some("mcpd"));
    let unknown = deployment.agent.chat("claude", "mcpd_not-a-token", false).await;
    assert_eq!(unknown.status(), StatusCode::UNAUTHORIZED);
    assert!(deployment.desk.inferences().is_empty());
    assert_eq!(deployment.probes(), 0);
}

/// The agent serves every inference route of mcpd, and on none of them a caller without a right learns anything from a
/// local provider.
#[tokio::test]
async fn inv_01_every_inference_route_needs_an_allowed_caller() {
    let deployment = Deployment::builder().unreachable_inference().start().await;
    deployment.revoke().await;
    let (agent, desk) = (&deployment.agent, &deployment.desk);
    let routes = InferenceRoute::all(&deployment.mcpd).await;
    for route in &routes {
        let send = async |model: &str, bearer: &str| {
            let request = agent.request(route.method.clone(), &route.path(model), bearer);
            let answer = route.with_body(request, model).send().await.unwrap();
            (answer.status(), answer.text().await.unwrap())
        };
        for bearer in [&deployment.alice, "mcpd_not-a-token"] {
            for model in ["claude", "local/desk"] {
                let (status, body) = send(model, bearer).await;
                let place = format!("{} {}: {status} {body}", route.method, route.path(model));
                assert!(status.is_client_error() || status.is_server_error(), "{place}");
                assert!(status != StatusCode::NOT_FOUND || !body.contains("no_such_route"), "{place}");
                assert!(!body.contains("from the desk"), "{place}");
            }
        }
        let (status, _) = send("claude", "").await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{} {}", route.method, route.path("claude"));
    }
    assert!(desk.inferences().is_empty(), "{:?}", desk.inferences());
    let outcomes: Vec<Value> = agent.journal().iter().map(|entry| entry["outcome"].clone()).collect();
    assert!(!outcomes.is_empty() && outcomes.iter().all(|outcome| outcome == "refused"), "{outcomes:?}");
}

#[tokio::test]
async fn inv_03_forbidden_probe_returns_the_primarys_error() {
    let deployment = Deployment::builder().unreachable_inference().start().await;
    assert_eq!(content(deployment.chat().await).await, "from the desk");
    let before = deployment.desk.inferences().len();
    deployment.revoke().await;
    let answer = deployment.chat().await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(header(&answer, "mcpctl-failure"), Some("connect"));
    assert_eq!(header(&answer, "mcpctl-failover"), None);
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["error"]["code"], "connect");
    assert_eq!(deployment.desk.inferences().len(), before, "the local model was called");
    let last = deployment.agent.journal().pop().unwrap();
    assert_eq!((&last["outcome"], &last["access"]), (&json!("refused"), &json!(["forbidden"])));
}

#[tokio::test]
async fn inv_03_unreachable_mcpd_returns_the_primarys_error() {
    let mut deployment = Deployment::builder().separate_inference().start().await;
    deployment.mcpd.kill();
    let answer = deployment.chat().await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert!(deployment.desk.inferences().is_empty());
    let last = deployment.agent.journal().pop().unwrap();
    assert_eq!((&last["outcome"], &last["access"]), (&json!("refused"), &json!(["unreachable"])));
}

/// Who lost the right to run the Llm and kept the one to view it would be allowed by the probe.
#[tokio::test]
async fn inv_06_what_was_revoked_while_it_ran_goes_on_nowhere() {
    let deployment = Deployment::builder().config("failover: {on: [context_length]}\n").start().await;
    let Deployment { mcpd, provider, desk, alice, .. } = &deployment;
    let viewer = json!({"kind": "RoleBinding", "name": "viewer", "role": "viewer",
        "subjects": [{"kind": "User", "name": "alice"}]});
    mcpd.apply(json!([viewer])).await;
    mcpd.llm_with_default_timeouts("claude", &provider.base_url()).await;
    for reply in [Reply::text("one two").stall_after(1), Reply::hang()] {
        provider.queue(reply);
    }
    let mut streamed = deployment.chat_streamed().await;
    let mut text = String::new();
    while !text.contains("one") {
        text.push_str(&String::from_utf8_lossy(&streamed.chunk().await.unwrap().unwrap()));
    }
    let (whole, ()) = tokio::join!(deployment.chat(), async {
        provider.wait_for_requests(2).await;
        deployment.revoke().await;
    });
    let rest = streamed.text().await.unwrap();
    assert!(rest.contains("access_revoked") && !rest.contains("[DONE]"), "{rest}");
    assert_eq!(whole.status(), StatusCode::FORBIDDEN);
    assert_eq!(header(&whole, "mcpctl-failure"), Some("denied"));
    assert!(whole.text().await.unwrap().contains("access_revoked"));
    provider.wait_for_disconnects(2).await;
    assert_eq!(mcpd.head("/api/v1/llms/claude", alice).await.status(), StatusCode::OK, "she may view it");
    assert!(desk.inferences().is_empty());
}

#[tokio::test]
async fn inv_10_callers_bearer_reaches_only_mcpd() {
    let mut deployment = Deployment::builder().separate_inference().start().await;
    deployment.chat().await;
    deployment.provider.refuse().await;
    deployment.chat().await;
    let Deployment { mcpd, provider, desk, agent, alice, .. } = &deployment;
    for request in provider.requests().iter().chain(&desk.requests()) {
        assert!(!format!("{request:?}").contains(alice));
    }
    assert!(!agent.log().contains(alice));
    assert!(!mcpd.log().contains(alice));
    assert!(!agent.journal().iter().any(|line| line.to_string().contains(alice)));
}

#[tokio::test]
async fn local_provider_needs_the_local_key_and_not_mcpd() {
    let mut deployment = Deployment::start().await;
    let denied = deployment.agent.chat("local/desk", &deployment.alice, false).await;
    assert_eq!(denied.status(), StatusCode::FORBIDDEN);
    deployment.mcpd.kill();
    // The key stands for the user who is signed in.
    deployment.agent.sign_in(&deployment.mcpd, "alice", &deployment.alice);
    assert_eq!(content(deployment.chat_locally("desk").await).await, "from the desk");
    let agent = &deployment.agent;
    let models = agent.request(reqwest::Method::GET, "/v1/models", &agent.local_key()).send().await.unwrap();
    let models: Value = models.json().await.unwrap();
    assert_eq!(models["data"][0]["id"], "local/desk");
}
