//! Every example of the help, run as it is printed, in a world that has what the examples name.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    process::Stdio,
};

use mcpctl_testkit::{
    daemons::{Mcpd, program},
    model_server::ModelServer,
};

use crate::shell::Shell;

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
    ("mcpctl local", "`local.rs`, `background.rs`, `service.rs` and `history.rs`, beside an agent"),
    ("eval \"$(mcpctl local env)\"", "`agent.rs`, beside an agent"),
    ("eval \"$(mcpctl completion zsh)", "a script of zsh"),
    ("mcpctl top", "goes on; `top.rs`"),
];

/// Examples that go on until they are ended.
const GO_ON: &[&str] = &["mcpctl get llms -w", "mcpctl audit -f"];

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
        let bin = shell.path("bin");
        std::fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(program("mcpctl"), bin.join("mcpctl")).unwrap();
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

    pub fn command(&self, line: &str) -> tokio::process::Command {
        let mut command = self.shell.command(&[]);
        let mut shell = tokio::process::Command::new("bash");
        for (name, value) in command.as_std_mut().get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        let path = format!("{}:{}", self.bin.display(), std::env::var("PATH").unwrap());
        shell
            .args(["-c", line])
            .current_dir(self.shell.home.path())
            .env("PATH", path)
            .env("HOME", self.shell.home.path())
            .env("SERVER", self.mcpd.url())
            .env("TOKEN", self.mcpd.data_dir().join("bootstrap-token"))
            .env("OPENAI_API_KEY", "a-key")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        shell
    }

    pub async fn run(&self, line: &str) -> (i32, String) {
        let output = self.command(line).output().await.unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8_lossy(&text).into_owned())
    }
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
            let mut child = world.command(line).spawn().unwrap();
            let mut out = child.stdout.take().unwrap();
            let mut byte = [0];
            let read = tokio::io::AsyncReadExt::read(&mut out, &mut byte).await.unwrap();
            assert_eq!(read, 1, "`{line}` of `{help}` printed nothing");
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
