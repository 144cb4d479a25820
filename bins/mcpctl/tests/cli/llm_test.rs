//! `mcpctl llm test`: a line for each step, with the reason and the next step at the one that failed.

use mcpctl_testkit::{
    daemons::Mcpd,
    model_server::{ModelServer, Reply},
};
use serde_json::{Value, json};

use crate::shell::Shell;

#[tokio::test]
async fn every_step_is_a_line_and_the_failed_one_has_reason_and_hint() {
    let (mcpd, provider) = (Mcpd::start().await, ModelServer::start().await);
    let shell = Shell::signed_in(&mcpd).await;
    mcpd.llm_with_default_timeouts("gpt", &provider.base_url()).await;
    let shown = shell.run(&["llm", "test", "gpt"]).await.succeeded();
    let words: Vec<_> = shown.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(words, ["gpt", "-", "ok", "-", "ok", "-", "ok", "ok", "ok"], "{shown}");
    assert!(shown.contains(&format!("gpt at {}\n", provider.base_url())), "{shown}");
    assert!(shown.contains("ok   connect ") && shown.contains(" ms\n"), "{shown}");

    provider.set_default(Reply::error(404, "no such model", "model_not_found"));
    let failed = shell.run_on(80, &["llm", "test", "gpt"]).await;
    assert_eq!((failed.code, failed.stderr.as_str()), (1, ""), "{}", failed.stdout);
    let reason = format!("FAIL model\n     `{}` does not have the model", provider.address());
    assert!(failed.stdout.contains(&reason), "{}", failed.stdout);
    assert!(
        failed.stdout.contains("\n     hint: write the name that it has there in `model`"),
        "{}",
        failed.stdout
    );
    assert!(failed.stdout.contains("\n-    answer                 not made\n"), "{}", failed.stdout);
    assert!(failed.stdout.lines().all(|line| line.chars().count() <= 80), "{}", failed.stdout);

    let failed = shell.run(&["llm", "test", "gpt", "-o", "json"]).await;
    assert_eq!(failed.code, 1);
    let test: Value = serde_json::from_str(&failed.stdout).unwrap();
    assert_eq!(
        (&test["ok"], &test["targets"][0]["problem"]["class"]),
        (&json!(false), &json!("model_unavailable"))
    );
    let error = shell.run(&["llm", "test", "none"]).await.failed(1);
    assert!(error.contains("there is no Llm `none`"), "{error}");
}

#[tokio::test]
async fn targets_are_shown_each_and_without_addresses_to_callers() {
    let (mcpd, provider) = (Mcpd::start().await, ModelServer::start().await);
    let mut dead = ModelServer::start().await;
    dead.refuse().await;
    mcpd.apply(json!([{"kind": "Llm", "name": "gpt", "type": "openai", "model": "m",
                       "targets": [{"url": provider.base_url()}, {"url": dead.base_url()}]}]))
        .await;
    let alice = mcpd.user("alice", Some("llm-user")).await;
    let shell = Shell::new();
    shell.run_with(&["login", mcpd.url(), "--token-stdin"], &alice).await.succeeded();
    let shown = shell.run(&["llm", "test", "gpt"]).await;
    assert_eq!(shown.code, 1);
    assert!(
        shown.stdout.contains("gpt, target 1\n") && shown.stdout.contains("\n\ngpt, target 2\n"),
        "{}",
        shown.stdout
    );
    assert!(shown.stdout.contains("     the provider cannot be reached\n"), "{}", shown.stdout);
    assert!(!shown.stdout.contains("127.0.0.1"), "{}", shown.stdout);
    let report = shell.run(&["doctor", "--llm", "gpt"]).await;
    assert_eq!(report.code, 1);
    let found = "FAIL llm gpt target 2, connect: the provider cannot be reached (an account that may edit";
    assert!(
        report.stdout.contains("ok   llm gpt target 1, answer: ") && report.stdout.contains(found),
        "{}",
        report.stdout
    );
}
