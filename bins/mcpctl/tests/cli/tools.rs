//! Whether requests with tools fall back to a local model: shown before one needs it.

use std::{fs, path::Path};

use mcpctl_testkit::deployment::Deployment;
use serde_json::Value;

use crate::shell::{Shell, beside};

const PROPS: &str =
    r#"{"default_generation_settings":{"n_ctx":2048},"chat_template_caps":{"supports_tools":false}}"#;

/// A shell beside the agent, whose configuration is where the agent looks for it by default.
fn at_home(deployment: &Deployment) -> Shell {
    let shell = beside(&deployment.agent);
    let (_, home) = shell.env.iter().find(|(name, _)| *name == "XDG_CONFIG_HOME").unwrap();
    let folder = Path::new(home).join("mcpctl");
    fs::create_dir_all(&folder).unwrap();
    fs::copy(deployment.agent.config_file(), folder.join("mcplocal.yaml")).unwrap();
    shell
}

#[tokio::test]
async fn status_and_doctor_show_whether_a_model_calls_tools() {
    let deployment = Deployment::builder()
        .engine("probed", &format!("props {PROPS}"), &["failoverFor: claude"])
        .engine("declared", "", &["capabilities: [tools]", "failoverFor: gpt"])
        .engine("listed", "", &["capabilities: [vision]", "failoverFor: other"])
        .engine("own", "", &[])
        .start()
        .await;
    let shell = at_home(&deployment);
    let tools = async || {
        let status = shell.run(&["local", "status"]).await.succeeded();
        let header = status.lines().find(|line| line.starts_with("PROVIDER")).unwrap().to_owned();
        let at = header.find("TOOLS").unwrap();
        let word = |name: &str| {
            let row = status.lines().find(|line| line.starts_with(name)).unwrap();
            row[at..].split_whitespace().next().unwrap().to_owned()
        };
        (["probed", "declared", "listed", "own"].map(word), status)
    };
    let (before, status) = tools().await;
    assert_eq!(before, ["unknown", "yes", "no", "unknown"], "{status}");
    let why = "`listed`: requests with tools do not fall back to it: its `capabilities` do not list `tools`";
    assert!(status.contains(why) && status.contains("add `tools` to `capabilities`"), "{status}");
    let doctor = shell.run(&["local", "doctor"]).await.stdout;
    for line in [
        "\nwarn tools of probed: whether its model calls tools is not known before its first start",
        "\nok   tools of declared: requests with tools may fall back to it",
        "\nwarn tools of listed: requests with tools do not fall back to it",
    ] {
        assert!(doctor.contains(line), "{line} is not in {doctor}");
    }
    assert!(!doctor.contains("tools of own"), "it is for no Llm: {doctor}");

    // Starting it is enough, without a request.
    shell.run(&["local", "start", "probed"]).await.succeeded();
    let (after, status) = tools().await;
    assert_eq!(after, ["no", "yes", "no", "unknown"], "{status}");
    let why = "its server reports that the model does not call them";
    assert!(
        status.contains(why) && status.contains("declare it: `capabilities: [tools, prefill]`"),
        "{status}"
    );
    let doctor = shell.run(&["local", "doctor", "-o", "json"]).await.stdout;
    let findings: Vec<Value> = serde_json::from_str(&doctor).unwrap();
    let of_probed: Vec<&Value> =
        findings.iter().filter(|finding| finding["what"] == "tools of probed").collect();
    assert_eq!(of_probed.len(), 1, "{findings:?}");
    assert!(of_probed[0]["message"].as_str().unwrap().contains(why), "{findings:?}");
    let narrow = shell.run_on(72, &["local", "status"]).await.stdout;
    assert!(narrow.contains("tools: no"), "{narrow}");
}

#[tokio::test]
async fn doctor_asks_a_server_that_runs() {
    let deployment = Deployment::start().await;
    let shell = at_home(&deployment);
    let found = shell.run(&["local", "doctor"]).await.stdout;
    assert!(found.contains("\nok   tools of desk: its server does not report whether"), "{found}");
    let keys = ["failoverFor: claude", "capabilities: [vision]"];
    let deployment = Deployment::builder().desk(&keys).start().await;
    let found = at_home(&deployment).run(&["local", "doctor"]).await.stdout;
    assert!(
        found.contains("warn tools of desk: ") && found.contains("add `tools` to `capabilities`"),
        "{found}"
    );
}

#[tokio::test]
async fn client_that_sends_tools_is_set_up_with_a_warning() {
    let keys = ["failoverFor: claude", "capabilities: [vision]"];
    let deployment = Deployment::builder().desk(&keys).start().await;
    let shell = beside(&deployment.agent);
    shell.run_with(&["login", deployment.mcpd.url(), "--token-stdin"], &deployment.alice).await.succeeded();
    for (client, warns) in [("codex", true), ("claude-code", true), ("continue", true), ("aider", false)] {
        let output = shell.run(&["local", "env", "--for", client, "--llm", "claude"]).await;
        assert_eq!(output.code, 0, "{}", output.stderr);
        let warned = output
            .stderr
            .contains("warning: this client sends tools, and the local model `desk` for `claude`")
            && output.stderr.contains("hint: if its model calls tools, add `tools` to `capabilities`");
        assert_eq!(warned, warns, "{client}: {}", output.stderr);
        assert!(!output.stdout.contains("warning:"), "{}", output.stdout);
    }
}
