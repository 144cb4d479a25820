//! Why no local model answered: in the header, the log, the history and in chat; and what another caller learns of it.

use mcpctl_testkit::{
    daemons::eventually,
    deployment::{Builder, Deployment},
    response::header,
};
use reqwest::Method;
use serde_json::json;

use crate::shell::{Shell, beside};

/// The deployment, and the shell of alice, who is signed in beside the agent.
async fn started(builder: Builder) -> (Deployment, Shell) {
    let deployment = builder.start().await;
    let shell = beside(&deployment.agent);
    shell.run_with(&["login", deployment.mcpd.url(), "--token-stdin"], &deployment.alice).await.succeeded();
    (deployment, shell)
}

/// The words of the header for this machine's user, and for alice with her own bearer.
async fn words(deployment: &Deployment) -> [Option<String>; 2] {
    let own = deployment.agent.chat("claude", &deployment.agent.local_key(), false).await;
    let other = deployment.chat().await;
    [own, other].map(|answer| {
        assert!(!answer.status().is_success());
        header(&answer, "mcpctl-no-failover").map(str::to_owned)
    })
}

/// Asserts what is found of it in chat, in the history, and in the agent's log.
async fn is_explained(deployment: &Deployment, shell: &Shell, chat: &str, history: Option<&str>, log: &str) {
    let error = shell.run(&["chat", "claude", "-p", "Hi"]).await.failed(1);
    assert!(error.contains(chat), "{chat} is not in {error}");
    let shown = shell.run(&["local", "history", "-n", "1", "-o", "csv"]).await.succeeded();
    let line = shown.lines().nth(1);
    assert_eq!(line.is_some(), history.is_some(), "{shown}");
    let table = shell.run(&["local", "history", "-n", "1"]).await.succeeded();
    assert!(history.is_none_or(|history| table.contains(history)), "{history:?} is not in {table}");
    eventually(&format!("`{log}` is logged"), async || deployment.agent.log().contains(log).then_some(()))
        .await;
}

#[tokio::test]
async fn llm_without_a_provider_is_named_to_this_machines_user_alone() {
    let (deployment, shell) = started(Deployment::builder().desk(&["failoverFor: other"])).await;
    deployment.overload_provider();
    assert_eq!(words(&deployment).await, [Some("no_provider".to_owned()), None]);
    let chat = "[no fallback: no local provider is for `claude`: none has it in `failoverFor`]";
    is_explained(&deployment, &shell, chat, None, "no failover: no local provider has this Llm").await;

    // A request that the caller got wrong would not have fallen back.
    let error = shell.run(&["chat", "missing", "-p", "Hi"]).await.failed(1);
    assert!(!error.contains("no fallback"), "{error}");
}

#[tokio::test]
async fn denied_probe_is_explained_and_leaks_nothing() {
    let (deployment, shell) = started(Deployment::builder().unreachable_inference()).await;
    deployment.revoke().await;
    assert_eq!(words(&deployment).await, [None, None]);
    let chat = "does not allow you `claude`, so the local provider `desk` may not be used";
    is_explained(&deployment, &shell, chat, Some("connect; mcpd does not allow it"), "outcome=\"refused\"")
        .await;
    let history = shell.run(&["local", "history", "-n", "1"]).await.succeeded();
    assert!(history.contains("denied"), "{history}");
}

#[tokio::test]
async fn mcpd_that_cannot_be_asked_is_explained() {
    let (mut deployment, shell) = started(Deployment::builder()).await;
    deployment.mcpd.kill();
    assert_eq!(words(&deployment).await, [Some("unreachable".to_owned()), None]);
    let chat = "cannot be asked (";
    is_explained(&deployment, &shell, chat, Some("unreachable"), "outcome=\"refused\"").await;
}

#[tokio::test]
async fn provider_that_cannot_answer_is_explained() {
    let props = r#"props {"default_generation_settings":{"n_ctx":2048},"chat_template_caps":{"supports_tools":false}}"#;
    let (deployment, shell) =
        started(Deployment::builder().engine("desk", props, &["failoverFor: claude"])).await;
    deployment.overload_provider();
    let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {}}}]);
    let body = json!({"model": "claude", "messages": [{"role": "user", "content": "Hi"}], "tools": tools});
    let agent = &deployment.agent;
    let asked = agent.request(Method::POST, "/v1/chat/completions", &agent.local_key()).json(&body);
    assert_eq!(header(&asked.send().await.unwrap(), "mcpctl-no-failover"), Some("lacks_tools"));
    let history = shell.run(&["local", "history", "-n", "1", "-o", "csv"]).await.succeeded();
    assert!(history.contains("its model lacks what the request needs: tools"), "{history}");

    // It ends at each start, and rests after some of them.
    shell.run(&["local", "stop", "desk"]).await.succeeded();
    deployment.set_script("desk", "exit 3 out of luck");
    assert_eq!(words(&deployment).await, [Some("local_failed".to_owned()), Some("local_failed".to_owned())]);
    let chat = "[no fallback: the local provider `desk` could not be used: engine `desk` ";
    is_explained(&deployment, &shell, chat, Some("desk: engine `desk`"), "outcome=\"failed\"").await;
    let history = shell.run(&["local", "history", "-o", "csv"]).await.succeeded();
    assert!(history.contains("rests for") && history.contains("out of luck"), "{history}");
}
