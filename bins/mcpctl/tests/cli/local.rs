//! The agent's model servers: status, a chat during a cold start, and the findings of the doctor.

use std::os::unix::fs::PermissionsExt as _;

use mcpctl_testkit::{daemons::eventually, deployment::Deployment, model_server::ModelServer};
use serde_json::Value;

use crate::shell::{Shell, beside};

#[tokio::test]
async fn chat_waits_for_a_cold_start_and_status_reports_it() {
    let deployment =
        Deployment::builder().engine("desk", "load 6000", &["failoverFor: claude"]).start().await;
    deployment.overload_provider();
    let shell = beside(&deployment.agent);
    shell.run_with(&["login", deployment.mcpd.url(), "--token-stdin"], &deployment.alice).await.succeeded();

    let status = shell.run(&["local", "status"]).await.succeeded();
    let row = status.lines().find(|line| line.starts_with("desk")).unwrap();
    for column in ["llama-server-managed", "claude", "stopped"] {
        assert!(row.contains(column), "{row}");
    }
    assert_eq!(row.matches("desk").count(), 2, "the provider and its model: {row}");
    // The client does not print the comments that keep the stream open.
    let output = shell.run(&["chat", "claude", "-p", "Hi"]).await;
    assert_eq!((output.code, output.stdout.as_str()), (0, "from the engine\n"), "{}", output.stderr);
    assert!(output.stderr.contains("answered by the fallback `desk`"), "{}", output.stderr);

    let status = shell.run(&["local", "status", "-o", "json"]).await.succeeded();
    let status: Value = serde_json::from_str(&status).unwrap();
    let desk = &status["providers"][0];
    assert_eq!((&desk["engine"]["state"], &desk["engine"]["queued"]), (&"ready".into(), &0.into()));
    assert!(desk["tokensPerSecond"].as_f64().unwrap() > 0.0, "{desk}");

    // A failure after comments is reported with its reason, and not as an incomplete answer.
    shell.run(&["local", "stop", "desk"]).await.succeeded();
    deployment.set_script("desk", "load 6000\nunready");
    let error = shell.run(&["chat", "claude", "-p", "Hi"]).await.failed(1);
    assert!(
        error.contains("overloaded") && !error.contains("not complete"),
        "the primary's own error: {error}"
    );
    assert!(
        error.contains(
            "[no fallback: the local provider `desk` could not be used: engine `desk` is healthy but refuses"
        ),
        "{error}"
    );
    let status = shell.run(&["local", "status"]).await.succeeded();
    assert!(
        status.contains("\nlast error: engine `desk` is healthy but refuses its first request"),
        "{status}"
    );
}

/// What the agent is in trouble with shows in its status, each with its reason and its next step.
#[tokio::test]
async fn status_shows_the_feed_and_why_something_does_not_work() {
    let mut deployment = Deployment::builder().start().await;
    deployment.overload_provider();
    deployment.desk.refuse().await;
    let (agent, mcpd) = (&deployment.agent, &deployment.mcpd);
    let shell = beside(agent);
    let shows = async |command: &[&str], text: &str| {
        eventually(&format!("`{text}` is shown"), async || {
            shell.run(command).await.stdout.contains(text).then_some(())
        })
        .await;
    };
    shows(&["local", "status"], "\nfeed:      off: no user is signed in\n").await;
    shell.run_with(&["login", mcpd.url(), "--token-stdin"], &deployment.alice).await.succeeded();
    shows(&["local", "status"], "\nfeed:      following for ").await;
    shows(&["local", "doctor"], "\nok   feed: following for ").await;
    shows(&["doctor"], "\nok   feed: following for ").await;

    assert!(deployment.chat().await.status().is_server_error());
    let status = shell.run(&["local", "status"]).await.succeeded();
    let reason = status.lines().skip_while(|line| !line.starts_with("last failover: ")).nth(1);
    assert!(reason.is_some_and(|line| line.starts_with("reason: ") && line.contains("refused")), "{status}");

    let config = std::fs::read_to_string(agent.config_file()).unwrap();
    agent.change_config(|config| format!("{config}\nunknownKey: 1\n"));
    let ignored = "\nconfiguration: broken for ";
    shows(&["local", "status"], ignored).await;
    shows(&["local", "status"], "unknown field `unknownKey`").await;
    agent.change_config(|_| config);
    eventually("the repaired file is in force", async || {
        (!shell.run(&["local", "status"]).await.succeeded().contains(ignored)).then_some(())
    })
    .await;

    let gone = mcpd.delete("/api/v1/users/alice", &mcpd.admin()).await;
    assert!(gone.status().is_success());
    shows(&["local", "status"], "\nfeed:      denied for ").await;
    shows(&["local", "status"], &format!("\nhint: mcpctl login {}\n", mcpd.url())).await;
    let report = shell.run(&["local", "doctor"]).await;
    assert!(report.code == 1 && report.stdout.contains("\nFAIL feed: denied for "), "{}", report.stdout);
}

#[tokio::test]
async fn model_servers_start_and_stop_by_name_or_all() {
    let deployment = Deployment::builder()
        .engine("one", "", &["group: one"])
        .engine("two", "", &["group: two"])
        .start()
        .await;
    let shell = beside(&deployment.agent);
    let error = shell.run(&["local", "start"]).await.failed(2);
    assert!(error.contains("error: which model server?\nhint: mcpctl local start one | two"), "{error}");
    assert_eq!(shell.run(&["local", "start", "two"]).await.succeeded(), "two is ready\n");
    assert_eq!(shell.run(&["local", "stop", "--all"]).await.succeeded(), "one is stopped\ntwo is stopped\n");
    let error = shell.run(&["local", "stop", "three"]).await.failed(1);
    assert!(error.contains("there is no local provider `three`"), "{error}");

    let deployment = Deployment::builder().engine("one", "", &[]).start().await;
    let shell = beside(&deployment.agent);
    assert_eq!(shell.run(&["local", "start"]).await.succeeded(), "one is ready\n");
    let stopped = shell.run(&["local", "stop", "--all"]).await;
    assert_eq!((stopped.stdout.as_str(), stopped.stderr.as_str()), ("one is stopped\n", "stopping `one`…\n"));
}

#[tokio::test]
async fn doctor_reports_what_is_missing_and_where_it_looked() {
    let home = tempfile::tempdir().unwrap();
    let desk = ModelServer::start().await;
    desk.set_models(&["one", "two"]);
    let model = home.path().join("model.gguf");
    std::fs::write(&model, "x").unwrap();
    let config = home.path().join("mcplocal.yaml");
    let providers = format!(
        "  - {{name: vllm, type: vllm-managed, model: org/model}}\n  - {{name: llama, type: llama-server-managed, command: /bin/sh, model: {}}}\n  - {{name: dozy, type: vllm-managed, command: /bin/sh, model: org/model, swap: standby}}\n  - {{name: gone, type: openai, url: 'http://127.0.0.1:9/v1', model: m}}\n  - {{name: which, type: openai, url: '{}'}}\n  - {{name: one, type: openai, url: '{}', model: one}}\n",
        model.display(),
        desk.base_url(),
        desk.base_url(),
    );
    std::fs::write(&config, format!("server: http://127.0.0.1:9\nproviders:\n{providers}")).unwrap();
    let mut shell = Shell::new();
    shell.env.push(("HOME", home.path().display().to_string()));
    shell.env.push(("XDG_STATE_HOME", home.path().join("state").display().to_string()));
    // Hides a GPU of the machine.
    let bin = home.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::fs::write(bin.join("nvidia-smi"), "#!/bin/sh\nexit 1\n").unwrap();
    std::fs::set_permissions(bin.join("nvidia-smi"), std::fs::Permissions::from_mode(0o755)).unwrap();
    shell.env.push(("PATH", format!("{}:/usr/bin:/bin", bin.display())));
    let output = shell.run(&["local", "doctor", "--config", config.to_str().unwrap()]).await;
    assert_eq!(output.code, 1, "{}", output.stderr);
    for line in [
        "warn mcplocal: ",
        "ok   configuration: ",
        "FAIL mcpd: http://127.0.0.1:9 cannot be reached",
        "warn probe: as trustworthy as the program that listens at http://127.0.0.1:9: ",
        "FAIL provider vllm: `vllm` is not there or cannot be run; looked for it in ",
        "/bin, /usr/bin, /bin, ",
        "     hint: install it, e.g. with `uv tool install vllm`",
        "ok   provider llama: /bin/sh",
        "FAIL provider dozy: without a GPU vLLM cannot sleep",
        "warn provider dozy: without a GPU vLLM takes a share of main memory",
        "     hint: set the GiB of its cache: `env: {VLLM_CPU_KVCACHE_SPACE: \"4\"}`",
        "FAIL provider gone: http://127.0.0.1:9/v1: it cannot be reached",
        "FAIL provider which: ",
        "     hint: name one in `model`",
        "ok   provider one: ",
    ] {
        assert!(output.stdout.contains(line), "`{line}` is not in\n{}", output.stdout);
    }
    assert!(output.stdout.contains(&format!("{}/vllm/bin", home.path().display())), "{}", output.stdout);
    assert!(!home.path().join("state").exists(), "the doctor created something");

    // A wrong configuration is a finding too.
    std::fs::write(&config, "server: [\n").unwrap();
    let output = shell.run(&["local", "doctor", "--config", config.to_str().unwrap(), "-o", "json"]).await;
    let findings: Value = serde_json::from_str(&output.stdout).unwrap();
    let wrong =
        findings.as_array().unwrap().iter().find(|finding| finding["what"] == "configuration").unwrap();
    assert_eq!(wrong["state"], "failed");
    assert!(wrong["message"].as_str().unwrap().contains("mcplocal.yaml:"), "{wrong}");
}
