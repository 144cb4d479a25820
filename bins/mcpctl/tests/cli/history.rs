//! The requests that fell back to this machine, as people read them: beside a running agent, and from its files alone.

use mcpctl_testkit::{daemons::eventually, deployment::Deployment, response::content};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::shell::{Shell, beside};

/// The words of each row below the header.
fn rows(table: &str) -> Vec<Vec<String>> {
    table.lines().skip(1).map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

async fn history(shell: &Shell, args: &[&str]) -> Vec<Value> {
    let output = shell.run(&[&["local", "history", "-o", "json"], args].concat()).await.succeeded();
    serde_json::from_str(&output).unwrap()
}

/// One fallback that was answered, one that mcpd denied, and one while mcpd could not be asked.
#[tokio::test]
async fn history_shows_what_came_of_each_fallback_and_whether_mcpd_has_it() {
    let mut deployment = Deployment::start().await;
    let shell = beside(&deployment.agent);
    let nothing = shell.run(&["local", "history"]).await;
    assert!(nothing.stderr.starts_with("no fallback is on record: the agent's journal has no lines\n"));
    shell.run_with(&["login", deployment.mcpd.url(), "--token-stdin"], &deployment.alice).await.succeeded();
    deployment.overload_provider();
    let key = deployment.agent.local_key();
    let ask = async |deployment: &Deployment| deployment.agent.chat("claude", &key, false).await;
    assert_eq!(content(ask(&deployment).await).await, "from the desk");
    let patch = json!([{"kind": "Llm", "name": "claude", "type": "openai", "url": deployment.provider.base_url(),
        "model": "m", "failover": {"allowed": false}}]);
    deployment.mcpd.apply(patch).await;
    assert!(ask(&deployment).await.status().is_server_error());
    eventually("mcpd has both", async || {
        let all = history(&shell, &[]).await;
        all.iter().all(|fallback| fallback["handedOver"] == "yes").then_some(())
    })
    .await;
    deployment.mcpd.kill();
    assert!(ask(&deployment).await.status().is_server_error());

    let all = history(&shell, &[]).await;
    let shown: Vec<_> =
        all.iter().map(|f| [&f["outcome"], &f["llm"], &f["class"], &f["handedOver"]]).collect();
    let words = |words: [&str; 4]| words.map(|word| json!(word));
    assert_eq!(shown[0], words(["answered", "claude", "server_error", "yes"]).each_ref());
    assert_eq!(shown[1], words(["denied", "claude", "server_error", "yes"]).each_ref());
    assert_eq!(shown[2], words(["unreachable", "claude", "connect", "no"]).each_ref());
    assert_eq!((&all[0]["provider"], &all[0]["who"]), (&json!("desk"), &json!("alice")));
    assert!(all[0]["outputTokens"].as_u64().unwrap() > 0 && all[0]["tookMs"].is_u64(), "{}", all[0]);
    let reason = all[1]["reason"].as_str().unwrap();
    assert!(reason.contains("does not let agents answer in its place"), "{reason}");

    let table = shell.run_on(80, &["local", "history"]).await;
    assert!(table.stdout.lines().all(|line| line.chars().count() <= 80), "{}", table.stdout);
    assert!(table.stdout.starts_with("TIME "), "{}", table.stdout);
    assert_eq!(table.stderr, "answered 1, denied 1, unreachable 1; not sent to mcpd yet: 1\n");
    let table = shell.run(&["local", "history", "--denied", "-n", "1"]).await;
    let row = &rows(&table.stdout)[0];
    assert_eq!(&row[2..5], ["claude", "unreachable", "desk"], "{}", table.stdout);
    assert!(table.stderr.starts_with("the newest 1 of 2 (-n): unreachable 1"), "{}", table.stderr);

    // The agent's files are enough.
    deployment.agent.kill();
    assert_eq!(history(&shell, &["--outcome", "answered,failed"]).await.len(), 1);
    assert_eq!(history(&shell, &["--llm", "gpt"]).await.len(), 0);
    assert_eq!(history(&shell, &["--since", "now"]).await.len(), 0);
    let csv = shell.run(&["local", "history", "-o", "csv"]).await.succeeded();
    assert_eq!(csv.lines().count(), 4, "{csv}");
    assert!(csv.starts_with("time,llm,llm_id,outcome,provider,class,reason,"), "{csv}");
    let error = shell.run(&["local", "history", "--outcome", "refused"]).await.failed(2);
    assert!(error.contains("'refused'") && error.lines().count() <= 2, "{error}");
    let error = shell.run(&["local", "history", "-f", "-o", "csv"]).await.failed(2);
    assert_eq!(error, "error: -f prints a table or JSON\nhint: mcpctl local history -f -o json\n");
}

/// An answer that runs is shown when it begins and when it ends; one of an agent that was killed is not running for ever.
#[tokio::test]
async fn history_is_followed_over_a_restart_of_the_agent() {
    let mut deployment = Deployment::builder().signed_in().start().await;
    deployment.overload_provider();
    let shell = beside(&deployment.agent);
    let mut command = shell.command(&["local", "history", "-f", "-o", "json"]);
    let mut feed = command.kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(feed.stdout.take().unwrap()).lines();
    let mut next =
        async || -> Value { serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap() };
    assert_eq!(content(deployment.chat().await).await, "from the desk");
    let mut first = next().await;
    if first["outcome"] == "running" {
        first = next().await;
    }
    assert_eq!(first["outcome"], "answered", "{first}");

    // The desk does not answer.
    deployment.desk.set_default(mcpctl_testkit::model_server::Reply::hang());
    let asking = deployment.agent.request(reqwest::Method::POST, "/v1/chat/completions", &deployment.alice);
    let body = json!({"model": "claude", "messages": [{"role": "user", "content": "hello"}]});
    let asking = tokio::spawn(asking.json(&body).send());
    assert_eq!(next().await["outcome"], "running");
    let running = history(&shell, &["--outcome", "running"]).await;
    assert_eq!(running.len(), 1);
    deployment.agent.kill();
    drop(asking.await);
    assert_eq!(history(&shell, &["--outcome", "unfinished"]).await.len(), 1, "the agent is gone");
    deployment.agent.restart().await;
    assert_eq!(history(&shell, &["--outcome", "unfinished"]).await.len(), 1, "another one runs");
    deployment.desk.set_default(mcpctl_testkit::model_server::Reply::text("again"));
    assert_eq!(content(deployment.chat().await).await, "again");
    let mut last = next().await;
    if last["outcome"] == "running" {
        last = next().await;
    }
    assert_eq!(last["outcome"], "answered", "{last}");
}

/// What mcpd allowed counts once among the fallbacks of the Llm, for the account that mcpd signed for.
#[tokio::test]
async fn failovers_on_workstations_count_in_usage() {
    let deployment = Deployment::start().await;
    let shell = beside(&deployment.agent);
    // Pins mcpd's keys, so that the journal has what mcpd signed.
    shell.run_with(&["login", deployment.mcpd.url(), "--token-stdin"], &deployment.alice).await.succeeded();
    let bob = deployment.mcpd.user("bob", Some("llm-user")).await;
    deployment.overload_provider();
    let admin = Shell::signed_in(&deployment.mcpd).await;
    let key = deployment.agent.local_key();
    for bearer in [&key, &key, &bob] {
        assert_eq!(content(deployment.agent.chat("claude", bearer, false).await).await, "from the desk");
    }
    let usage = async || -> Vec<[Value; 5]> {
        let text = admin.run(&["usage", "--by", "user,llm,model", "-o", "json"]).await.succeeded();
        let page: Value = serde_json::from_str(&text).unwrap();
        let items = page["items"].as_array().unwrap().iter();
        items
            .map(|item| ["principal", "llm", "model", "requests", "fallbacks"].map(|key| item[key].clone()))
            .collect()
    };
    let expected = vec![
        ["User alice".into(), "claude".into(), "".into(), json!(2), json!(0)],
        ["User alice".into(), "claude".into(), "(local)".into(), json!(0), json!(2)],
        ["User bob".into(), "claude".into(), "".into(), json!(1), json!(0)],
        ["User bob".into(), "claude".into(), "(local)".into(), json!(0), json!(1)],
    ];
    eventually("mcpd counts the failovers", async || (usage().await == expected).then_some(())).await;
    let all_handed_over = async || {
        let all = history(&shell, &[]).await;
        all.iter().all(|fallback| fallback["handedOver"] == "yes").then_some(())
    };
    eventually("all lines are handed over", all_handed_over).await;
    let shown = admin.run(&["usage", "--by", "llm"]).await;
    assert!(shown.stderr.contains("fallbacks to local models have no tokens here"), "{}", shown.stderr);
    let ends = admin.run(&["audit", "--action", "failover-end"]).await.succeeded();
    assert!(ends.contains("tokens"), "{ends}");
    // Handed over once more, they are not counted again.
    let head = deployment.agent.state_dir().join("journal.head");
    let handed: Value = serde_json::from_slice(&std::fs::read(&head).unwrap()).unwrap();
    let mut deployment = deployment;
    deployment.agent.kill();
    let mut before = handed.clone();
    before["handedOver"] = json!(0);
    assert_ne!(handed, before);
    std::fs::write(&head, before.to_string()).unwrap();
    deployment.agent.restart().await;
    eventually("all lines are handed over again", all_handed_over).await;
    assert_eq!(usage().await, expected);
}
