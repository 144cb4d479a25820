//! The key of a model server that the user started: it reaches that server, and no other place.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use mcpctl_testkit::{daemons::program, deployment::Deployment, response::content};
use reqwest::StatusCode;
use serde_json::Value;

const FIRST: &str = "sk-desk-4d1f9c2a77e0";
const SECOND: &str = "sk-desk-88b03e5c1a9d";

fn write(file: &Path, key: &str, mode: u32) {
    fs::write(file, format!("{key}\n")).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
}

/// What the doctor reports of the provider. It runs beside the model server, which is in this process.
async fn doctor(deployment: &Deployment) -> Value {
    let mut command = Command::new(program("mcplocal"));
    command.arg("--doctor").arg("--config").arg(deployment.agent.config_file());
    command.envs(deployment.agent.homes());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let findings: Value = serde_json::from_slice(&output.stdout).unwrap();
    let finding = findings.as_array().unwrap().iter().find(|finding| finding["what"] == "provider desk");
    finding.unwrap_or_else(|| panic!("{findings}")).clone()
}

#[tokio::test]
async fn key_of_a_running_server_is_read_when_it_is_used() {
    let deployment = Deployment::builder().signed_in().start().await;
    let (agent, desk) = (&deployment.agent, &deployment.desk);
    desk.require_key(FIRST);
    desk.list_openly();
    desk.set_models(&["m"]);
    assert_eq!(deployment.chat_locally("desk").await.status(), StatusCode::BAD_GATEWAY);
    let finding = doctor(&deployment).await;
    assert!(finding["message"].as_str().unwrap().ends_with(": it wants a key"), "{finding}");
    assert!(finding["hint"].as_str().unwrap().contains("`apiKeyFile`"), "{finding}");

    let file = agent.state_dir().join("desk-key");
    let line = format!("model: m\n    apiKeyFile: {}", file.display());
    agent.reload(|config| config.replace("model: m", &line)).await;
    let unavailable = async |expected: &str, next: &str| {
        let answer = deployment.chat_locally("desk").await;
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["error"]["code"], "local_provider_unavailable", "{body}");
        assert!(body["error"]["message"].as_str().unwrap().contains(expected), "{body}");
        let shown = agent.status().await["providers"][0]["unavailable"].clone();
        let finding = doctor(&deployment).await;
        for (reason, hint) in [(&shown["reason"], &shown["hint"]), (&finding["message"], &finding["hint"])] {
            assert!(reason.as_str().unwrap().contains(expected), "{reason}");
            assert!(hint.as_str().unwrap().contains(next), "{hint}");
        }
    };
    unavailable("no such file", "`apiKeyFile`").await;
    write(&file, FIRST, 0o644);
    unavailable("can be read by other users", "chmod 600").await;

    write(&file, FIRST, 0o600);
    assert_eq!(content(deployment.chat_locally("desk").await).await, "from the desk");
    assert_eq!(doctor(&deployment).await["state"], "ok");
    // The server was restarted with another key: the agent reads that without a reload.
    desk.require_key(SECOND);
    assert_eq!(deployment.chat_locally("desk").await.status(), StatusCode::BAD_GATEWAY);
    assert!(doctor(&deployment).await["message"].as_str().unwrap().contains("rejects the key"));
    write(&file, SECOND, 0o600);
    deployment.overload_provider();
    assert_eq!(content(deployment.chat().await).await, "from the desk");

    agent.reload(|config| config.replace("type: openai", "type: anthropic")).await;
    assert_eq!(content(deployment.chat().await).await, "from the desk");
    let seen = desk.inferences().pop().unwrap();
    assert_eq!((seen.header("x-api-key"), seen.header("authorization")), (Some(SECOND), None));

    let (log, journal) = (agent.log(), format!("{:?}", agent.journal()));
    let elsewhere = format!("{}{:?}", agent.status().await, deployment.provider.requests());
    for text in [log, journal, elsewhere, deployment.mcpd.log()] {
        assert!(!text.contains(FIRST) && !text.contains(SECOND), "inv 10: {text}");
    }
}
