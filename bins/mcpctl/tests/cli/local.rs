//! What one sees of the agent's model servers: status, a chat through a cold start, and what the doctor finds.

use std::os::unix::fs::PermissionsExt as _;

use mcpctl_testkit::{
    daemons::{Mcpd, Mcplocal, program},
    model_server::{ModelServer, Reply},
};
use serde_json::Value;

use crate::shell::{Shell, beside};

/// An agent with a fake engine that stands in for `claude`.
async fn agent_with_engine(mcpd: &Mcpd, model: &std::path::Path) -> Mcplocal {
    Mcplocal::start(&format!(
        "server: {}\nproviders:\n  - name: desk\n    type: llama-server-managed\n    command: {}\n    model: {}\n    failoverFor: claude\n",
        mcpd.url(),
        program("examples/fake_engine").display(),
        model.display(),
    ))
    .await
}

#[tokio::test]
async fn a_chat_goes_on_through_a_cold_start_and_the_status_tells_of_it() {
    let mcpd = Mcpd::start().await;
    let provider = ModelServer::with_default(Reply::error(503, "overloaded", "overloaded")).await;
    mcpd.llm("claude", &provider.base_url()).await;
    let alice = mcpd.user("alice", Some("llm-user")).await;
    let models = tempfile::tempdir().unwrap();
    let model = models.path().join("small.gguf");
    std::fs::write(&model, "load 6000").unwrap();
    let agent = agent_with_engine(&mcpd, &model).await;
    let shell = beside(&agent);
    shell.run_with(&["login", mcpd.url(), "--token-stdin"], &alice).await.good();

    let status = shell.run(&["local", "status"]).await.good();
    let row = status.lines().find(|line| line.starts_with("desk")).unwrap();
    for column in ["llama-server-managed", "small.gguf", "claude", "stopped"] {
        assert!(row.contains(column), "{row}");
    }
    // Its comments keep the client waiting, and are not part of what it prints.
    let said = shell.run(&["chat", "claude", "-p", "Hi"]).await;
    assert_eq!((said.code, said.out.as_str()), (0, "from the engine\n"), "{}", said.err);
    assert!(said.err.contains("answered by the local provider `desk`"), "{}", said.err);

    let status = shell.run(&["local", "status", "-o", "json"]).await.good();
    let status: Value = serde_json::from_str(&status).unwrap();
    let desk = &status["providers"][0];
    assert_eq!((&desk["engine"]["state"], &desk["engine"]["queued"]), (&"ready".into(), &0.into()));
    assert!(desk["tokensPerSecond"].as_f64().unwrap() > 0.0, "{desk}");

    // One that fails after comments says why, and not that an answer broke off.
    shell.run(&["local", "stop", "desk"]).await.good();
    std::fs::write(&model, "load 6000\nunready").unwrap();
    let said = shell.run(&["chat", "claude", "-p", "Hi"]).await.failed(1);
    assert!(said.contains("overloaded") && !said.contains("not complete"), "the primary's own error: {said}");
    assert!(
        said.contains("[the local provider `desk` could not be used: engine `desk` is healthy but refuses"),
        "{said}"
    );
    let status = shell.run(&["local", "status"]).await.good();
    assert!(
        status.contains("\nlast error: engine `desk` is healthy but refuses its first request"),
        "{status}"
    );
}

#[tokio::test]
async fn model_servers_are_started_and_stopped_by_name_the_only_one_and_all() {
    let mcpd = Mcpd::start().await;
    let models = tempfile::tempdir().unwrap();
    let mut config = format!("server: {}\nproviders:\n", mcpd.url());
    let providers = ["one", "two"].map(|name| {
        let model = models.path().join(name);
        std::fs::write(&model, "").unwrap();
        let command = program("examples/fake_engine");
        format!(
            "  - {{name: {name}, type: llama-server-managed, group: {name}, command: '{}', model: '{}'}}\n",
            command.display(),
            model.display()
        )
    });
    config += &providers[0];
    let agent = Mcplocal::start(&config).await;
    let shell = beside(&agent);
    assert_eq!(shell.run(&["local", "start"]).await.good(), "one is ready\n");
    let stopped = shell.run(&["local", "stop", "--all"]).await;
    assert_eq!((stopped.out.as_str(), stopped.err.as_str()), ("one is stopped\n", "stopping `one`…\n"));

    let agent = Mcplocal::start(&(config + &providers[1])).await;
    let shell = beside(&agent);
    let said = shell.run(&["local", "start"]).await.failed(2);
    assert!(said.contains("error: which model server?\nhint: mcpctl local start one | two"), "{said}");
    assert_eq!(shell.run(&["local", "start", "two"]).await.good(), "two is ready\n");
    assert_eq!(shell.run(&["local", "stop", "--all"]).await.good(), "one is stopped\ntwo is stopped\n");
    let said = shell.run(&["local", "stop", "three"]).await.failed(1);
    assert!(said.contains("there is no local provider `three`"), "{said}");
}

#[tokio::test]
async fn the_doctor_says_what_is_missing_and_where_it_was_looked_for() {
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
    shell.more.push(("HOME", home.path().display().to_string()));
    shell.more.push(("XDG_STATE_HOME", home.path().join("state").display().to_string()));
    // A machine with a GPU is none here.
    let bin = home.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::fs::write(bin.join("nvidia-smi"), "#!/bin/sh\nexit 1\n").unwrap();
    std::fs::set_permissions(bin.join("nvidia-smi"), std::fs::Permissions::from_mode(0o755)).unwrap();
    shell.more.push(("PATH", format!("{}:/usr/bin:/bin", bin.display())));
    let said = shell.run(&["local", "doctor", "--config", config.to_str().unwrap()]).await;
    assert_eq!(said.code, 1, "{}", said.err);
    for line in [
        "warn mcplocal: ",
        "ok   configuration: ",
        "FAIL centre: http://127.0.0.1:9 cannot be reached",
        "warn probe: as trustworthy as the program that listens at http://127.0.0.1:9: ",
        "FAIL provider vllm: `vllm` is not there or cannot be run; looked for it in ",
        "/bin, /usr/bin, /bin, ",
        "     hint: install it, e.g. with `uv tool install vllm`",
        "ok   provider llama: /bin/sh",
        "FAIL provider dozy: without a GPU vLLM does not sleep",
        "warn provider dozy: without a GPU vLLM takes a share of the machine's own memory",
        "     hint: say how many GiB its cache may have: `env: {VLLM_CPU_KVCACHE_SPACE: \"4\"}`",
        "FAIL provider gone: http://127.0.0.1:9/v1: it cannot be reached",
        "FAIL provider which: ",
        "     hint: name one in `model`",
        "ok   provider one: ",
    ] {
        assert!(said.out.contains(line), "`{line}` is not in\n{}", said.out);
    }
    assert!(said.out.contains(&format!("{}/vllm/bin", home.path().display())), "{}", said.out);
    assert!(!home.path().join("state").exists(), "looking makes nothing");

    // A configuration that is wrong is the first thing that one wants to know.
    std::fs::write(&config, "server: [\n").unwrap();
    let said = shell.run(&["local", "doctor", "--config", config.to_str().unwrap(), "-o", "json"]).await;
    let findings: Value = serde_json::from_str(&said.out).unwrap();
    let wrong =
        findings.as_array().unwrap().iter().find(|finding| finding["what"] == "configuration").unwrap();
    assert_eq!(wrong["state"], "failed");
    assert!(wrong["said"].as_str().unwrap().contains("mcplocal.yaml:"), "{wrong}");
}
