//! `mcpctl local env --for CLIENT`: the files of clients, with a running agent.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use mcpctl_testkit::{
    daemons::{Mcpd, Mcplocal},
    model_server::ModelServer,
};
use serde_json::Value;

use crate::shell::{Shell, beside};

async fn with_agent(mcpd: &Mcpd) -> (Mcplocal, Shell) {
    let agent = Mcplocal::start(&format!("server: {}\n", mcpd.url())).await;
    let mut shell = beside(&agent);
    let home = shell.home.path().display().to_string();
    shell.env.push(("HOME", home));
    shell.run_with(&["login", mcpd.url(), "--token-stdin"], &mcpd.admin()).await.succeeded();
    (agent, shell)
}

#[tokio::test]
async fn settings_of_claude_code_have_a_command_that_prints_the_key() {
    let (mcpd, provider) = (Mcpd::start().await, ModelServer::start().await);
    mcpd.llm("gpt", &provider.base_url()).await;
    let (agent, shell) = with_agent(&mcpd).await;
    fs::create_dir(shell.path(".claude")).unwrap();
    let file = shell.file(".claude/settings.json", "{\"theme\": \"dark\"}");
    let printed = shell.run(&["local", "env", "--for", "claude-code"]).await.succeeded();
    assert_eq!(fs::read_to_string(&file).unwrap(), "{\"theme\": \"dark\"}");
    shell.run(&["local", "env", "--for", "claude-code", "--write"]).await.succeeded();
    let settings: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let fragment: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(settings["theme"], "dark");
    assert_eq!((&settings["env"], &settings["apiKeyHelper"]), (&fragment["env"], &fragment["apiKeyHelper"]));
    assert_eq!(
        (&settings["env"]["ANTHROPIC_MODEL"], &settings["env"]["ANTHROPIC_BASE_URL"]),
        (&"gpt".into(), &agent.url().into())
    );

    // As Claude Code runs it.
    let run_helper = || {
        let helper = settings["apiKeyHelper"].as_str().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", helper]).envs(shell.env.iter().map(|(name, value)| (name, value)));
        command.output().unwrap()
    };
    let key = String::from_utf8(run_helper().stdout).unwrap();
    let models = reqwest::Client::builder()
        .no_proxy()
        .build()
        .unwrap()
        .get(format!("{}/v1/models", agent.url()))
        .bearer_auth(key.trim());
    assert_eq!(models.send().await.unwrap().status(), 200);

    let unchanged = shell.run(&["local", "env", "--for", "claude-code", "--write"]).await.succeeded();
    assert!(unchanged.ends_with("settings.json unchanged\n"), "{unchanged}");
    shell.run(&["local", "env", "--for", "claude-code", "--remove"]).await.succeeded();
    let settings_left: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(settings_left, serde_json::json!({"theme": "dark"}));

    // The address of the file may be another program's once the agent has left it.
    drop(agent);
    let output = run_helper();
    assert!(!output.status.success() && output.stdout.is_empty());
}

#[tokio::test]
async fn key_is_printed_for_the_agents_own_address_only() {
    let mcpd = Mcpd::start().await;
    let (agent, shell) = with_agent(&mcpd).await;
    let key = shell.run(&["local", "key", "--at", &format!("{}/v1", agent.url())]).await.succeeded();
    assert_eq!(key, shell.run(&["local", "key"]).await.succeeded());
    let output = shell.run(&["local", "key", "--at", "http://127.0.0.1:1"]).await;
    assert_eq!((output.code, output.stdout.as_str()), (1, ""));
    assert!(output.stderr.contains("so no key is given\nhint: set the client up again"), "{}", output.stderr);
}

#[tokio::test]
async fn files_that_hold_the_key_are_private() {
    let (mcpd, provider) = (Mcpd::start().await, ModelServer::start().await);
    mcpd.llm("gpt", &provider.base_url()).await;
    mcpd.llm("claude", &provider.base_url()).await;
    let (_agent, shell) = with_agent(&mcpd).await;
    let error = shell.run(&["local", "env", "--for", "aider", "--write"]).await.failed(2);
    assert!(error.contains("which Llm?\nhint: mcpctl local env --for CLIENT --llm claude | gpt"), "{error}");
    let key = shell.run(&["local", "key"]).await.succeeded();
    shell.run(&["local", "env", "--for", "aider", "--write", "--llm", "gpt"]).await.succeeded();
    shell.run(&["local", "env", "--for", "continue", "--write", "--llm", "gpt"]).await.succeeded();
    for name in [".aider.conf.yml", ".continue/.env"] {
        let path = shell.path(name);
        assert!(fs::read_to_string(&path).unwrap().contains(key.trim()), "{name}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    let config = fs::read_to_string(shell.path(".continue/config.yaml")).unwrap();
    assert!(!config.contains(key.trim()) && config.contains("${{ secrets.MCPCTL_LOCAL_KEY }}"), "{config}");
    let removed = shell.run(&["local", "env", "--for", "aider", "--remove"]).await.succeeded();
    assert!(
        removed.ends_with(".aider.conf.yml removed\n") && !shell.path(".aider.conf.yml").exists(),
        "{removed}"
    );

    let env = shell.run(&["local", "env", "--for", "langchain"]).await.succeeded();
    assert!(
        env.contains(&format!("export ANTHROPIC_API_KEY={}", key.trim())) && !env.contains("AUTH_TOKEN"),
        "{env}"
    );
}

#[tokio::test]
async fn settings_that_were_replaced_come_back_and_half_an_edit_is_none() {
    let (mcpd, provider) = (Mcpd::start().await, ModelServer::start().await);
    mcpd.llm("gpt", &provider.base_url()).await;
    mcpd.llm("claude", &provider.base_url()).await;
    let (_agent, shell) = with_agent(&mcpd).await;
    let before = "# mine\nmodel = \"o3\"\nmodel_provider = \"corp\"\n";
    fs::create_dir(shell.path(".codex")).unwrap();
    let file = shell.file(".codex/config.toml", before);
    for llm in ["gpt", "claude"] {
        shell.run(&["local", "env", "--for", "codex", "--write", "--llm", llm]).await.succeeded();
    }
    assert!(fs::read_to_string(&file).unwrap().contains("model = \"claude\""));
    shell.run(&["local", "env", "--for", "codex", "--remove"]).await.succeeded();
    assert_eq!(fs::read_to_string(&file).unwrap(), before);
    assert!(!shell.path(".codex/config.toml.before-mcpctl").exists());

    // Its second file cannot be edited, so the first one is not written.
    fs::create_dir(shell.path(".continue")).unwrap();
    fs::write(shell.path(".continue/.env"), b"A=\xff\n").unwrap();
    let args = ["local", "env", "--for", "continue", "--write", "--llm", "gpt"];
    let error = shell.run(&args).await.failed(1);
    assert!(error.contains("it is not UTF-8\nhint: nothing was changed"), "{error}");
    assert!(!shell.path(".continue/config.yaml").exists());

    // A link can lead into a work tree of git.
    let elsewhere = shell.file("dotfiles-aider.yml", "dark-mode: true\n");
    std::os::unix::fs::symlink(&elsewhere, shell.path(".aider.conf.yml")).unwrap();
    let output = shell.run(&["local", "env", "--for", "aider", "--write", "--llm", "gpt"]).await;
    assert!(output.stderr.contains("this machine's key goes into `"), "{}", output.stderr);
}

#[tokio::test]
async fn llm_that_is_not_there_sets_no_client_up() {
    let (mcpd, provider) = (Mcpd::start().await, ModelServer::start().await);
    mcpd.llm("gpt-large", &provider.base_url()).await;
    mcpd.llm("claude", &provider.base_url()).await;
    let (_agent, shell) = with_agent(&mcpd).await;
    let bob = mcpd.user("bob", None).await;
    let args = ["local", "env", "--for", "aider", "--llm"];
    for more in [&["gpt-lrge"][..], &["gpt-lrge", "--write"]] {
        let output = shell.run(&[&args[..], more].concat()).await;
        assert_eq!((output.code, output.stdout.as_str()), (1, ""), "{}", output.stderr);
        let expected =
            "error: there is no Llm `gpt-lrge` that you may run\nhint: did you mean `gpt-large`?\n";
        assert_eq!(output.stderr, expected);
    }
    assert!(!shell.path(".aider.conf.yml").exists());
    let other = shell.run(&[&args[..], &["local/gone"]].concat()).await.failed(1);
    assert!(other.contains("you may run: claude, gpt-large; --force takes another name"), "{other}");
    let forced = shell.run(&[&args[..], &["later", "--force"]].concat()).await.succeeded();
    assert!(forced.contains("openai/later"), "{forced}");

    // Whether it is there or not visible reads the same.
    shell.run_with(&["login", mcpd.url(), "--token-stdin"], &bob).await.succeeded();
    let [hidden, missing] = ["claude", "missing"].map(|llm| [&args[..], &[llm]].concat());
    let hidden = shell.run(&hidden).await.failed(1);
    assert_eq!(hidden.replace("claude", "missing"), shell.run(&missing).await.failed(1));

    // Offline it is set up with a warning.
    drop(mcpd);
    let output = shell.run(&[&args[..], &["claude"]].concat()).await;
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(
        output.stderr.contains("warning: whether you may run `claude` is not known: "),
        "{}",
        output.stderr
    );
    let error = shell.run(&["local", "env", "--for", "aider"]).await.failed(1);
    assert!(
        error.starts_with("error: which Llms you may run is not known: ") && error.contains("refused"),
        "{error}"
    );
    assert!(error.ends_with("hint: name one: mcpctl local env --for CLIENT --llm LLM\n"), "{error}");
    let error = shell.run(&["chat", "-p", "Hi"]).await.failed(1);
    assert!(error.ends_with("hint: name one: mcpctl chat LLM\n"), "{error}");
}

#[tokio::test]
async fn client_files_name_the_link_that_the_program_is_installed_by() {
    let (mcpd, provider) = (Mcpd::start().await, ModelServer::start().await);
    mcpd.llm("gpt", &provider.base_url()).await;
    let (_agent, mut shell) = with_agent(&mcpd).await;
    fs::create_dir(shell.path("bin")).unwrap();
    let link = shell.path("bin/mcpctl");
    std::os::unix::fs::symlink(mcpctl_testkit::daemons::program("mcpctl"), &link).unwrap();
    shell.env.push(("PATH", format!("{}:/usr/bin:/bin", shell.path("bin").display())));
    let printed = shell.run(&["local", "env", "--for", "codex"]).await.succeeded();
    assert!(printed.contains(&format!("command = \"{}\"", link.display())), "{printed}");
}
