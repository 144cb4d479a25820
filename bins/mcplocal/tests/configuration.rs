//! Wrong configurations: each gets one line with the place and the next step, and changes nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::process::Command;

use insta::assert_snapshot;
use mcpctl_testkit::daemons::program;

/// A configuration, followed by the exit code and the errors of `mcplocal` with it.
fn rejection(config: &str) -> String {
    outcome(config, &[])
}

fn outcome(config: &str, arguments: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mcplocal.yaml");
    std::fs::write(&path, config).unwrap();
    let state = dir.path().join("state");
    let output = Command::new(program("mcplocal"))
        .args(arguments)
        .arg("--config")
        .arg(&path)
        .env("XDG_STATE_HOME", &state)
        .env("XDG_CONFIG_HOME", dir.path())
        .env("PATH", "/usr/bin")
        .env("HOME", dir.path())
        .env_remove("VIRTUAL_ENV")
        .output()
        .unwrap();
    assert!(!state.exists(), "something was created");
    let errors = String::from_utf8(output.stderr).unwrap().replace(&format!("{}/", dir.path().display()), "");
    let found = String::from_utf8(output.stdout).unwrap();
    format!("{config}\n=> exit {}\n{errors}{found}", output.status.code().unwrap())
}

#[test]
fn mistakes_are_reported_with_their_place() {
    let server = "server: https://mcpd.example.com\n";
    let two = "providers:\n  - {name: a, type: openai, url: 'http://127.0.0.1:1/v1', model: m, failoverFor: claude}\n";
    let cases = [
        "server: [\n".to_owned(),
        "providers: []\n".to_owned(),
        format!("{server}servre: x\n"),
        "server: http://mcpd.example.com\n".to_owned(),
        "server: mcpd.example.com\n".to_owned(),
        "server: https://mcpd.example.com\ninference: 127.0.0.1:3101\n".to_owned(),
        "listen: 127.0.0.1:3200\n server: https://mcpd.example.com\n".to_owned(),
        format!("{server}listen: 0.0.0.0:3200\n"),
        format!(
            "{server}{two}  - name: b\n    type: openai\n    url: http://127.0.0.1:2/v1\n    model: m\n    failoverFor: [gpt, claude]\n"
        ),
        format!("{server}{two}  - {{name: a, type: openai, url: 'http://127.0.0.1:2/v1', model: m}}\n"),
        format!(
            "{server}providers:\n  - {{name: a, type: openai, url: 'https://elsewhere.example/v1', model: m}}\n"
        ),
        format!("{server}providers:\n  - {{name: a, type: openai, model: m}}\n"),
        format!(
            "{server}providers:\n  - name: a\n    type: openai\n    url: http://127.0.0.1:1\n    model: m\n    venv: /x\n"
        ),
        format!("{server}providers:\n  - {{name: a, type: ollama, model: m}}\n"),
        format!("{server}failover: {{on: [denied]}}\n"),
        format!("{server}primary: {{timeouts: {{idle: 0s}}}}\n"),
        format!("{server}primary: {{breaker: {{failures: 0}}}}\n"),
        format!("{server}{}", two.replace("m, ", "m, primary: {timeouts: {answer: 0s}}, ")),
        format!("{server}{}", two.replace("m, ", "m, failover: {on: [rejected]}, ")),
        format!("{server}{}", two.replace("failoverFor: claude", "primary: {breaker: {failures: 2}}")),
        format!("{server}{}", two.replace("failoverFor: claude", "failover: {on: []}")),
    ];
    assert_snapshot!(cases.map(|case| rejection(&case)).join("\n"));
}

#[test]
fn mistakes_in_an_engine_are_reported_with_their_place() {
    let vllm = |keys: &str| {
        format!(
            "server: https://mcpd.example.com\nproviders:\n  - name: a\n    type: vllm-managed\n    model: org/model\n    {keys}\n"
        )
    };
    let llama = |keys: &str| vllm(keys).replace("vllm-managed", "llama-server-managed");
    let cases = [
        llama("swap: standby"),
        llama("tensorParallelSize: 2"),
        vllm("tensorParallelSize: 0"),
        vllm("dtype: --host=0.0.0.0"),
        vllm("concurrency: 0"),
        vllm("abandonAfter: sometimes"),
        vllm("startTimeout: 0s"),
        vllm("prewarm: perhaps"),
        vllm("prewarm: always\n    idleTimeout: 5m"),
        vllm("standbyTimeout: 1h"),
        vllm("swap: standby\n    standbyTimeout: 0s"),
        vllm("failoverFor: [gpt, gpt]"),
        vllm("memory: 18"),
        vllm("memory: 30GiB\n    group: gpu0\ngroups:\n  gpu0: {memory: 24GiB}"),
        vllm("group: gpu0\ngroups:\n  gpu1: {memory: 24GiB}"),
        vllm("extraArgs: [--api-key, mine]"),
        vllm("command: /bin/sh\n    extraArgs: [--host, 0.0.0.0]"),
        vllm("command: /bin/sh\n    venv: /opt/vllm"),
    ];
    assert_snapshot!(cases.map(|case| rejection(&case)).join("\n"));
}

#[test]
fn missing_files_are_warnings_with_their_place() {
    let provider =
        |keys: &str| format!("server: https://mcpd.example.com\nproviders:\n  - {{name: a, {keys}}}\n");
    let cases = [
        provider("type: vllm-managed, venv: /no/such/venv, model: org/model"),
        provider("type: llama-server-managed, command: /bin/sh, model: /no/such.gguf"),
        provider("type: llama-server-managed, model: /no/such.gguf"),
    ];
    assert_snapshot!(cases.map(|case| outcome(&case, &["--check"])).join("\n"));
}

#[test]
fn check_reports_what_the_agent_would_do() {
    let server = "server: https://mcpd.example.com\n";
    let two = "providers:\n  - {name: a, type: openai, url: 'http://127.0.0.1:1/v1', model: m, failoverFor: [gpt, claude]}\n  \
               - {name: b, type: openai, url: 'http://127.0.0.1:1/v1', model: m}\n";
    let cases = [server.to_owned(), format!("{server}{two}")];
    assert_snapshot!(cases.map(|case| outcome(&case, &["--check"])).join("\n"));
}

#[test]
fn log_filter_that_writes_nothing_is_refused() {
    for (arguments, variable) in
        [(vec!["--log", "verbose"], None), (vec![], Some("verbose")), (vec![], Some("mcplocl=debug"))]
    {
        let mut agent = Command::new(program("mcplocal"));
        agent.args(arguments).args(["--config", "/no/such/file.yaml"]);
        if let Some(filter) = variable {
            agent.env("MCPLOCAL_LOG", filter);
        }
        let output = agent.output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.contains("for '--log <FILTER>'") && errors.contains("\nhint: "), "{errors}");
    }
}

#[test]
fn missing_configuration_has_a_hint() {
    let output = Command::new(program("mcplocal")).args(["--config", "/no/such/file.yaml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_snapshot!(String::from_utf8(output.stderr).unwrap());
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let output = Command::new(program("mcplocal")).arg("--no-such-flag").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
