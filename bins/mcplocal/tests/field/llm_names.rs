//! Names in `failoverFor` that no Llm has: the agent reports them before the primary fails.

use std::process::Command;

use mcpctl_testkit::daemons::{Mcpd, Mcplocal, eventually, program};
use serde_json::{Value, json};

fn config(mcpd: &Mcpd, names: &str) -> String {
    format!(
        "server: {}\nproviders:\n  - name: desk\n    type: openai\n    url: http://127.0.0.1:9/v1\n    model: m\n    failoverFor: {names}\n",
        mcpd.url()
    )
}

/// The output of the agent's program with a flag, in the directories of a running agent.
fn outcome(agent: &Mcplocal, flag: &str) -> (String, String) {
    let mut command = Command::new(program("mcplocal"));
    command.arg(flag).arg("--config").arg(agent.config_file()).envs(agent.homes());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

async fn unknown(agent: &Mcplocal, count: usize) -> Value {
    eventually("the agent compares the names", async || {
        let unknown = agent.status().await["unknownLlms"].clone();
        (unknown.as_array().unwrap().len() == count).then_some(unknown)
    })
    .await
}

#[tokio::test]
async fn misspelt_llm_is_reported_with_a_similar_name() {
    let mcpd = Mcpd::start().await;
    mcpd.llm("gpt", "http://127.0.0.1:9/v1").await;
    mcpd.llm("hidden", "http://127.0.0.1:9/v1").await;
    // The probe asks for `view`, and an Llm that the user may not view is not named.
    let rules = json!([
        {"kinds": ["llms"], "verbs": ["view", "run"], "names": ["gpt"]},
        {"kinds": ["llms"], "verbs": ["run"], "names": ["hidden"]},
    ]);
    let alice = mcpd.user_with_rules("alice", rules).await;
    let mut agent = Mcplocal::start(&config(&mcpd, "[gtp, hiden]")).await;
    assert_eq!(agent.status().await["unknownLlms"], json!([]), "no user is signed in");
    assert!(!outcome(&agent, "--check").1.contains("there is no Llm"));
    agent.sign_in(&mcpd, "alice", &alice);

    agent.kill();
    agent.restart().await;
    let unknown_llms = unknown(&agent, 2).await;
    let meant = "there is no Llm `gtp` that you may see; did you mean `gpt`?";
    assert_eq!(unknown_llms[0]["reason"], meant, "{unknown_llms}");
    assert_eq!(unknown_llms[0]["provider"], "desk");
    assert_eq!(unknown_llms[1]["reason"], "there is no Llm `hiden` that you may see", "{unknown_llms}");

    let (_, warnings) = outcome(&agent, "--check");
    let expected = format!("mcplocal.yaml:3:1: provider `desk`: {meant}\nhint: ");
    assert!(warnings.contains(&expected), "{warnings}");
    let findings: Value = serde_json::from_str(&outcome(&agent, "--doctor").0).unwrap();
    let finding = findings.as_array().unwrap().iter().find(|finding| finding["message"] == meant).unwrap();
    assert_eq!((&finding["what"], &finding["state"]), (&json!("provider desk"), &json!("warning")));

    // A corrected name is compared again.
    std::fs::write(agent.config_file(), config(&mcpd, "gpt")).unwrap();
    unknown(&agent, 0).await;
}

#[tokio::test]
async fn unreachable_mcpd_reports_no_names() {
    let mut mcpd = Mcpd::start().await;
    let alice = mcpd.user("alice", Some("llm-user")).await;
    let agent = Mcplocal::start(&config(&mcpd, "gtp")).await;
    agent.sign_in(&mcpd, "alice", &alice);
    mcpd.kill();
    let (_, warnings) = outcome(&agent, "--check");
    assert!(!warnings.contains("there is no Llm"), "{warnings}");
    assert_eq!(agent.status().await["unknownLlms"], json!([]));
}
