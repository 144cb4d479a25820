//! Every example of the help, run as it is printed, in a world that has what the examples name.

use std::{
    collections::{HashMap, HashSet},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use mcpctl_testkit::{
    daemons::{Mcpd, program},
    deployment::Deployment,
    model_server::ModelServer,
};
use tokio::process::Command;

use crate::shell::{Shell, beside};

/// Examples that another test runs, or that cannot run here, by how they begin, and why.
const NOT_RUN: &[(&str, &str)] = &[
    (
        "mcpctl login https://mcpd.example.com",
        "in `sso.rs`, `people.rs` and `story.rs`, against servers of their own",
    ),
    ("mcpctl passwd", "asks on a terminal; `people.rs` has both forms"),
    ("mcpctl token rotate", "replaces the token in use; `credentials.rs`"),
    ("mcpctl logout", "ends the session of the examples; `story.rs`"),
    ("mcpctl edit", "`editing.rs`"),
    ("mcpctl chat gpt", "reads a terminal; `conversation.rs`"),
    ("mcpctl local", "below, beside an agent"),
    ("eval \"$(mcpctl local env)\"", "below, beside an agent"),
    ("eval \"$(mcpctl completion zsh)", "a script of zsh"),
    ("mcpctl top", "goes on; `top.rs`"),
];

/// Examples of the agent that cannot run here, and why.
const NOT_RUN_BESIDE_AN_AGENT: &[(&str, &str)] = &[
    ("mcpctl local init", "asks on a terminal; `init.rs` has what it does with the answers"),
    ("mcpctl local install", "needs a service manager; `service.rs` has a scripted one"),
    ("mcpctl local uninstall", "needs a service manager; `service.rs` has a scripted one"),
];

/// Examples of the agent for a machine that has none yet, or whose agent `mcpctl` has started.
const FROM_THE_BEGINNING: &[&str] = &[
    "mcpctl local init --dry-run",
    "mcpctl local init --yes --model ~/models/qwen.gguf --failover-for gpt,claude",
    "mcpctl local up",
    "mcpctl local down",
];

/// Examples that go on until they are ended.
const GO_ON: &[&str] =
    &["mcpctl get llms -w", "mcpctl audit -f", "mcpctl local status -w", "mcpctl local logs desk -f"];

/// Exit codes other than 0, of commands that answer with them.
const CODES: &[(&str, i32)] = &[
    ("mcpctl diff", 1),
    // No agent runs beside the test.
    ("mcpctl doctor", 1),
];

pub struct World {
    pub mcpd: Mcpd,
    pub shell: Shell,
    bin: PathBuf,
    _provider: ModelServer,
}

impl World {
    pub async fn start() -> Self {
        let (mcpd, provider) = (Mcpd::start().await, ModelServer::start().await);
        let shell = Shell::signed_in(&mcpd).await;
        let bin = programs(&shell);
        let url = provider.base_url();
        let llm = |name: &str| {
            format!(
                "---\nkind: Llm\nname: {name}\ntype: openai\nurl: {url}\nmodel: m\ndescription: for the examples\nlabels: {{team: red}}\n"
            )
        };
        let people = "kind: User\nname: alice\nlabels: {team: red}\n---\nkind: User\nname: bob\n---\n\
                      kind: Group\nname: team\nmembers: [{kind: User, name: alice}]\n---\n\
                      kind: ServiceAccount\nname: ci\n---\n\
                      kind: Secret\nname: openai\ndata: {token: stored}\n---\n\
                      kind: RoleBinding\nname: alice-uses-llms\nrole: llm-user\nsubjects: [{kind: User, name: alice}]\n---\n\
                      kind: RoleBinding\nname: ci-uses-llms\nrole: llm-user\nsubjects: [{kind: ServiceAccount, name: ci}]\n";
        shell.file("world.yaml", &format!("{people}{}{}", llm("gpt"), llm("claude")));
        shell.file("llms.yaml", &format!("{}{}", llm("file-gpt"), llm("file-claude")));
        shell.file("new.yaml", "kind: Group\nname: from-a-file\n");
        std::fs::create_dir_all(shell.path("crew/below")).unwrap();
        shell.file("crew/below/new.yaml", "kind: Group\nname: from-a-directory\nlabels: {team: blue}\n");
        shell.file("key.txt", "a-key\n");
        shell.file("password.txt", "a password of some length\n");
        shell.file("question.txt", "What is a lease?\n");
        std::fs::create_dir_all(shell.path(".config/fish/completions")).unwrap();
        let world = Self { mcpd, shell, bin, _provider: provider };
        world.run("mcpctl apply -f world.yaml").await;
        world.run("mcpctl token create phone; mcpctl create token alice-phone --for User/alice").await;
        world
            .run("mcpctl login $SERVER --token-file $TOKEN --context spare; mcpctl config use-context c")
            .await;
        world
    }

    pub fn command(&self, line: &str) -> Command {
        let mut command = in_bash(&self.shell, &self.bin, line);
        command
            .env("SERVER", self.mcpd.url())
            .env("TOKEN", self.mcpd.data_dir().join("bootstrap-token"))
            .env("OPENAI_API_KEY", "a-key");
        command
    }

    pub async fn run(&self, line: &str) -> (i32, String) {
        ended(self.command(line)).await
    }
}

/// A line as its user types it, with the programs of `bin`.
fn in_bash(shell: &Shell, bin: &Path, line: &str) -> Command {
    let mut command = shell.command(&[]);
    let mut bash = Command::new("bash");
    for (name, value) in command.as_std_mut().get_envs() {
        match value {
            Some(value) => bash.env(name, value),
            None => bash.env_remove(name),
        };
    }
    bash.args(["-c", line])
        .current_dir(shell.home.path())
        .env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()))
        .env("HOME", shell.home.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    bash
}

/// The exit code of a command, and what it printed.
async fn ended(mut command: Command) -> (i32, String) {
    let output = command.output().await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8_lossy(&text).into_owned())
}

/// Waits until a command that goes on prints something, and ends it.
async fn prints(mut command: Command, line: &str) {
    let mut child = command.spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let read = tokio::io::AsyncReadExt::read(&mut out, &mut [0]).await.unwrap();
    assert_eq!(read, 1, "`{line}` printed nothing");
}

/// A directory with `mcpctl` and `mcplocal`.
fn programs(shell: &Shell) -> PathBuf {
    let bin = shell.path("bin");
    std::fs::create_dir(&bin).unwrap();
    for name in ["mcpctl", "mcplocal"] {
        std::os::unix::fs::symlink(program(name), bin.join(name)).unwrap();
    }
    bin
}

/// The examples of a text that has them, by the titles before them.
fn examples(reference: &str) -> Vec<(String, String)> {
    let (mut found, mut title, mut fenced) = (Vec::new(), String::new(), false);
    for line in reference.lines() {
        match line {
            "```sh" => fenced = true,
            "```" => fenced = false,
            _ if fenced && !line.starts_with("# ") => found.push((title.clone(), line.to_owned())),
            _ => {
                if let Some(of) = line.strip_prefix("## ") {
                    title = of.to_owned();
                }
            }
        }
    }
    found
}

#[tokio::test]
async fn every_example_of_the_help_does_what_it_shows() {
    let world = World::start().await;
    let reference = world.shell.run(&["reference"]).await.succeeded();
    let examples = examples(&reference);
    assert!(examples.len() > 100, "{}", examples.len());
    let mut unused: HashMap<&str, &str> = NOT_RUN.iter().copied().collect();
    let mut failures = Vec::new();
    let mut seen = HashSet::new();
    for (title, line) in examples.iter().filter(|(_, line)| seen.insert(line)) {
        let help = format!("{title} --help");
        if let Some((begin, _)) = NOT_RUN.iter().find(|(begin, _)| line.starts_with(begin)) {
            unused.remove(begin);
            continue;
        }
        if GO_ON.iter().any(|begin| line.starts_with(begin)) {
            prints(world.command(line), line).await;
            continue;
        }
        // What an example before it has removed is there again; what one has made is gone.
        let reset = "mcpctl apply -f world.yaml";
        if title.contains("mcpctl create") || title.contains("delete") || title.contains("group") {
            world.run(reset).await;
            world.run("mcpctl delete user carol; mcpctl delete secret key").await;
        }
        let (code, text) = world.run(line).await;
        let expected = CODES.iter().find(|(begin, _)| line.starts_with(begin)).map_or(0, |(_, code)| *code);
        if code != expected {
            failures.push(format!("`{line}` of `{help}` ended with {code}:\n{text}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(unused.is_empty(), "of no example: {unused:?}");
}

/// The examples of the agent, each once, in the order of the help.
async fn examples_of_the_agent() -> Vec<String> {
    let reference = Shell::new().run(&["reference"]).await.succeeded();
    let of_agent = |(_, line): &(String, String)| line.contains("mcpctl local");
    let mut lines: Vec<String> = Vec::new();
    for (_, line) in examples(&reference).into_iter().filter(of_agent) {
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

#[tokio::test]
async fn every_example_of_the_agent_does_what_it_shows() {
    let deployment = Deployment::builder().engine("desk", "", &["failoverFor: claude"]).start().await;
    deployment.mcpd.llm("gpt", &deployment.provider.base_url()).await;
    let shell = beside(&deployment.agent);
    let bin = programs(&shell);
    shell.run_with(&["login", deployment.mcpd.url(), "--token-stdin"], &deployment.alice).await.succeeded();
    let [(_, config), _] = deployment.agent.homes();
    std::fs::copy(deployment.agent.config_file(), config.join("mcpctl/mcplocal.yaml")).unwrap();
    // A failover, so that the journal, the history and the log have something to show.
    deployment.overload_provider();
    assert_eq!(shell.run(&["chat", "claude", "-p", "Hi"]).await.succeeded(), "from the engine\n");

    let mut unused: HashMap<&str, &str> = NOT_RUN_BESIDE_AN_AGENT.iter().copied().collect();
    let mut failures = Vec::new();
    let lines = examples_of_the_agent().await;
    assert!(lines.len() > 20, "{}", lines.len());
    for line in lines.iter().filter(|line| !FROM_THE_BEGINNING.contains(&line.as_str())) {
        if unused.remove(line.as_str()).is_some() {
            continue;
        }
        // The agent of a test listens at a port of its own.
        let line = line.replace("http://127.0.0.1:3200", deployment.agent.url());
        let command = in_bash(&shell, &bin, &line);
        if GO_ON.contains(&line.as_str()) {
            prints(command, &line).await;
            continue;
        }
        let (code, text) = ended(command).await;
        if code != 0 {
            failures.push(format!("`{line}` ended with {code}:\n{text}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(unused.is_empty(), "of no example: {unused:?}");
}

#[tokio::test]
async fn examples_of_a_first_run_of_the_agent_do_what_they_show() {
    let (mcpd, provider) = (Mcpd::start().await, ModelServer::start().await);
    mcpd.llm("gpt", &provider.base_url()).await;
    mcpd.llm("claude", &provider.base_url()).await;
    let mut shell = Shell::signed_in(&mcpd).await;
    shell.env.clear();
    // Nothing listens there.
    shell.env.push(("OLLAMA_HOST", "127.0.0.1:9".to_owned()));
    let bin = programs(&shell);
    std::fs::write(bin.join("llama-server"), "#!/bin/sh\nexit 1\n").unwrap();
    std::fs::set_permissions(bin.join("llama-server"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir(shell.path("models")).unwrap();
    shell.file("models/qwen.gguf", "GGUF");
    let lines = examples_of_the_agent().await;
    for line in FROM_THE_BEGINNING {
        assert!(lines.iter().any(|known| known == line), "`{line}` is an example");
        let (code, text) = ended(in_bash(&shell, &bin, line)).await;
        assert_eq!(code, 0, "`{line}`: {text}");
        if line.contains("--yes") {
            let file = shell.path("config/mcpctl/mcplocal.yaml");
            let written = std::fs::read_to_string(&file).unwrap();
            assert!(written.contains("qwen.gguf") && written.contains("[gpt, claude]"), "{written}");
            // Another agent may listen at the usual port.
            std::fs::write(&file, written.replace("# listen: 127.0.0.1:3200", "listen: 127.0.0.1:0"))
                .unwrap();
        }
    }
}

#[tokio::test]
async fn short_help_is_short_and_the_long_one_has_everything() {
    let shell = Shell::new();
    let short = shell.run(&["get", "-h"]).await.succeeded();
    let long = shell.run(&["get", "--help"]).await.succeeded();
    assert!(short.contains("Examples:\n  # ") && long.contains("Examples:\n  # "), "{short}{long}");
    assert!(!short.contains("--client-key") && long.contains("--client-key"), "{short}{long}");
    assert!(short.contains("mcpctl options"), "{short}");
    let options = shell.run(&["options"]).await.succeeded();
    assert!(options.contains("--client-key") && options.contains("MCPCTL_TOKEN"), "{options}");
    assert!(shell.run(&["--help"]).await.succeeded().contains("MCPCTL_TOKEN"));
    let page = shell.run(&["man", "create", "token"]).await.succeeded();
    assert!(page.contains(".SH EXAMPLES") && page.contains("mcpctl\\-create\\-token"), "{page}");
    shell.run(&["man", "--dir", "pages"]).await.succeeded();
    assert!(
        shell.path("pages/mcpctl.1").exists() && shell.path("pages/mcpctl-local-journal-verify.1").exists()
    );
    let error = shell.run(&["man", "frobnicate"]).await.failed(2);
    assert!(error.contains("`frobnicate` is not a command"), "{error}");
}
