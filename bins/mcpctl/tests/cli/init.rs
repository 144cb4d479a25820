//! `mcpctl local init`: from a machine with model servers to an agent that runs.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use mcpctl_testkit::{
    daemons::Mcpd,
    model_server::ModelServer,
    other_user::{Squatter, may_act_as_other_user},
};
use serde_json::json;

use crate::{pty::Terminal, shell::Shell, terminal::fake_mcpd};

/// A shell with an empty home, where only what the test puts there is found.
async fn at_home(mcpd: &Mcpd) -> Shell {
    let mut shell = Shell::signed_in(mcpd).await;
    shell.env.clear();
    let home = shell.home.path().display().to_string();
    shell.env.push(("HOME", home.clone()));
    shell.env.push(("PATH", format!("{home}/bin:/usr/bin:/bin")));
    // Nothing listens there.
    shell.env.push(("OLLAMA_HOST", "127.0.0.1:9".to_owned()));
    for name in ["VIRTUAL_ENV", "XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE", "LLAMA_CACHE"] {
        shell.env.push((name, String::new()));
    }
    shell
}

fn put(path: &Path, bytes: &[u8], mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn init_writes_what_is_found_and_the_agent_takes_it() {
    let (mcpd, provider) = (Mcpd::start().await, ModelServer::start().await);
    mcpd.llm("gpt", &provider.base_url()).await;
    mcpd.llm("claude", &provider.base_url()).await;
    let ollama = ModelServer::start().await;
    ollama.set_models(&["qwen:7b", "nomic-embed-text"]);
    let mut shell = at_home(&mcpd).await;
    shell.env.push(("OLLAMA_HOST", ollama.base_url().replace("http://", "").replace("/v1", "")));
    put(&shell.path("bin/llama-server"), b"#!/bin/sh\nexit 1\n", 0o755);
    put(&shell.path("models/tiny.gguf"), b"GGUF", 0o644);
    put(&shell.path("models/mmproj-tiny.gguf"), b"GGUF", 0o644);

    // Without a terminal and without --yes nothing is decided for the user.
    let error = shell.run(&["local", "init"]).await.failed(2);
    assert!(error.contains("hint: take the proposal with --yes"), "{error}");

    let shown = shell.run(&["local", "init", "--dry-run"]).await.succeeded();
    let file = shell.path("config/mcpctl/mcplocal.yaml");
    assert!(!file.exists());
    let written = shell.run(&["local", "init", "--yes"]).await;
    assert_eq!(written.code, 0, "{}", written.stderr);
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text, shown);
    for line in [
        &format!("# server: {}\n", mcpd.url()),
        "    type: llama-server-managed\n    model: ~/models/tiny.gguf    # 1 MiB\n",
        "    failoverFor: [claude, gpt]\n",
        "  # - name: ollama\n  #   type: openai\n",
        "  #   model: qwen:7b\n",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }

    // The agent uses the server of the current context.
    fs::write(&file, text.replace("# listen: 127.0.0.1:3200", "listen: 127.0.0.1:0")).unwrap();
    shell.run(&["local", "up"]).await.succeeded();
    let status = shell.run(&["local", "status"]).await.succeeded();
    assert!(status.contains(&format!("server:    {}", mcpd.url())) && status.contains("llama"), "{status}");
    shell.run(&["local", "down"]).await.succeeded();

    let error = shell.run(&["local", "init", "--yes"]).await.failed(1);
    assert!(error.contains("is there already\nhint: replace it with --force"), "{error}");
    fs::write(&file, "# mine\n").unwrap();
    let args = ["local", "init", "--yes", "--force", "--model", "qwen:7b", "--failover-for", "gpt"];
    shell.run(&args).await.succeeded();
    assert_eq!(fs::read_to_string(file.with_extension("yaml.backup")).unwrap(), "# mine\n");
    // The agent reads another file only where it is named.
    let output = shell.run(&[&args[..], &["--output", "my agent.yaml"]].concat()).await;
    let started = "start the agent: mcpctl local up --config 'my agent.yaml'\n";
    assert!(output.code == 0 && output.stderr.ends_with(started), "{}", output.stderr);
    // A dotfile manager's link stays one, and no backup replaces another.
    let real = shell.file("dotfiles-mcplocal.yaml", "# linked\n");
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(&real, &file).unwrap();
    for args in [&args[..], &args[..]] {
        shell.run(args).await.succeeded();
    }
    assert!(file.is_symlink());
    assert_eq!(fs::read_to_string(real.with_extension("yaml.backup")).unwrap(), "# linked\n");
    assert!(real.with_extension("yaml.backup.2").exists());
    let text = fs::read_to_string(&file).unwrap();
    assert!(
        text.contains("  - name: ollama\n    type: openai\n") && text.contains("failoverFor: [gpt]"),
        "{text}"
    );

    let error = shell.run(&["local", "init", "--dry-run", "--model", "gone"]).await.failed(1);
    assert!(error.contains("hint: found: tiny.gguf, qwen:7b, nomic-embed-text"), "{error}");
    let output = shell.run(&["local", "init", "--dry-run", "--failover-for", "gtp"]).await;
    assert!(
        output.stderr.contains("warning: mcpd does not list `gtp` for you, only claude, gpt"),
        "{}",
        output.stderr
    );
}

#[tokio::test]
async fn init_names_the_places_where_it_found_nothing() {
    let mcpd = Mcpd::start().await;
    let shell = at_home(&mcpd).await;
    let error = shell.run(&["local", "init", "--yes"]).await.failed(1);
    for part in [
        "looked for programs in ~/bin, /usr/bin, ".to_owned(),
        "looked for servers at http://127.0.0.1:9 (Ollama), http://127.0.0.1:1234 (LM Studio)".to_owned(),
        "looked for models in ~/models, ~/.lmstudio/models, ".to_owned(),
        "hint: install Ollama, or llama.cpp".to_owned(),
    ] {
        assert!(error.contains(&part), "{part}\n{error}");
    }
    let text = shell.run(&["local", "init", "--dry-run", "--without-model"]).await.succeeded();
    assert!(text.contains("the agent forwards, and never falls back"), "{text}");
}

#[tokio::test]
async fn running_agent_is_not_redirected_by_another_context() {
    let (mcpd, other) = (Mcpd::start().await, Mcpd::start().await);
    let shell = at_home(&mcpd).await;
    shell.run(&["local", "init", "--yes", "--without-model"]).await.succeeded();
    shell.file("config/mcpctl/mcplocal.yaml", "listen: 127.0.0.1:0\n");
    shell.run(&["local", "up"]).await.succeeded();
    let args = ["login", other.url(), "--token-stdin", "--context", "other"];
    shell.run_with(&args, &other.admin()).await.succeeded();
    // A changed file is read again, and must not take the new context over.
    shell.file("config/mcpctl/mcplocal.yaml", "listen: 127.0.0.1:0\nfailover: {on: [connect]}\n");
    let status = shell.run(&["local", "status"]).await.succeeded();
    assert!(status.contains(&format!("server:    {}", mcpd.url())), "{status}");
    assert!(status.contains("signed in: no account"), "{status}");
    shell.run(&["local", "down"]).await.succeeded();
    shell.run(&["local", "up"]).await.succeeded();
    let status: serde_json::Value =
        serde_json::from_str(&shell.run(&["local", "status", "-o", "json"]).await.succeeded()).unwrap();
    assert_eq!(status["server"], json!(format!("{}/", other.url())));
    shell.run(&["local", "down"]).await.succeeded();
}

#[tokio::test]
async fn questions_are_asked_again_until_their_answer_is_one() {
    let (mcpd, provider) = (Mcpd::start().await, ModelServer::start().await);
    mcpd.llm("gpt", &provider.base_url()).await;
    mcpd.llm("claude", &provider.base_url()).await;
    let ollama = ModelServer::start().await;
    ollama.set_models(&["qwen:7b"]);
    let mut shell = at_home(&mcpd).await;
    shell.env.push(("OLLAMA_HOST", ollama.base_url().replace("http://", "").replace("/v1", "")));
    put(&shell.path("bin/llama-server"), b"#!/bin/sh\nexit 1\n", 0o755);
    put(&shell.path("models/tiny.gguf"), b"GGUF", 0o644);
    let file = shell.path("config/mcpctl/mcplocal.yaml");

    let mut terminal = Terminal::start(&shell, &["local", "init"]);
    terminal.shows("  1  tiny.gguf, 1 MiB, started by the agent").await;
    terminal.shows("  2  qwen:7b, of Ollama, which runs at ").await;
    for (question, answer) in [
        ("which local model? [1]", "3\r"),
        ("a number from 1 to 2", "2\r"),
        ("central Llms that you may run: claude, gpt", ""),
        ("names, `all` or `none` [all]", "gpt, gtp\r"),
        ("`gtp` is not one of them", "gpt\r"),
        ("failoverFor: [gpt]", ""),
        ("mcplocal.yaml`? [Y/n]", "n\r"),
        ("nothing was written", ""),
    ] {
        terminal.shows(question).await;
        terminal.keys(answer);
    }
    assert_eq!(terminal.child.wait().await.unwrap().code(), Some(1));
    assert!(!file.exists());

    // All defaults: Enter at each question.
    let mut terminal = Terminal::start(&shell, &["local", "init"]);
    for question in ["which local model? [1]", "`none` [all]", "mcplocal.yaml`? [Y/n]"] {
        terminal.shows(question).await;
        terminal.keys("\r");
    }
    terminal.shows("start the agent: mcpctl local up").await;
    assert!(terminal.child.wait().await.unwrap().success());
    let text = fs::read_to_string(&file).unwrap();
    assert!(
        text.contains("model: ~/models/tiny.gguf") && text.contains("failoverFor: [claude, gpt]"),
        "{text}"
    );
    assert!(text.contains("    # capabilities: [tools]\n"), "{text}");

    // A file that is there is replaced after a question only.
    let mut terminal = Terminal::start(&shell, &["local", "init"]);
    terminal.shows("replace it? [y/N]").await;
    terminal.keys("maybe\r");
    terminal.shows("nothing was written").await;
    assert_eq!(terminal.child.wait().await.unwrap().code(), Some(1));
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
}

#[tokio::test]
async fn other_users_server_is_taken_by_its_name_and_after_a_question_alone() {
    if !may_act_as_other_user() {
        return;
    }
    let (mcpd, provider) = (Mcpd::start().await, ModelServer::start().await);
    mcpd.llm("gpt", &provider.base_url()).await;
    let squatter = Squatter::start("127.0.0.1:0", r#"{"data":[{"id":"qwen:7b","owned_by":"library"}]}"#);
    let mut shell = at_home(&mcpd).await;
    shell.env.push(("OLLAMA_HOST", squatter.url()));
    let file = shell.path("config/mcpctl/mcplocal.yaml");

    let error = shell.run(&["local", "init", "--yes"]).await.failed(1);
    assert!(error.contains(", run by `nobody` (uid 65534)"), "{error}");
    assert!(error.contains("is never proposed; if you trust it: mcpctl local init --model MODEL"), "{error}");
    for args in [
        &["local", "init", "--yes", "--model", "qwen:7b"][..],
        &["local", "init", "--dry-run", "--model", "qwen:7b"],
    ] {
        let error = shell.run(args).await.failed(1);
        assert!(error.contains("is run by `nobody` (uid 65534), who could read every prompt"), "{error}");
        assert!(
            error.contains("run this at a terminal without --yes and --dry-run, where it asks"),
            "{error}"
        );
    }
    let ask = async |answer: &str| {
        let mut terminal = Terminal::start(&shell, &["local", "init", "--model", "qwen:7b"]);
        terminal.shows("who can read what is sent to").await;
        terminal.keys(answer);
        terminal
    };
    let mut terminal = ask("you may not\r").await;
    terminal.shows("nothing was written").await;
    assert_eq!(terminal.child.wait().await.unwrap().code(), Some(1));
    assert!(!file.exists());
    let mut terminal = ask("Yes\r").await;
    for question in ["`none` [all]", "mcplocal.yaml`? [Y/n]"] {
        terminal.shows(question).await;
        terminal.keys("\r");
    }
    assert!(terminal.child.wait().await.unwrap().success());
    assert!(fs::read_to_string(&file).unwrap().contains("model: qwen:7b"));
}

#[tokio::test]
async fn server_is_asked_whether_its_model_calls_tools() {
    let (mcpd, provider) = (Mcpd::start().await, ModelServer::start().await);
    mcpd.llm("gpt", &provider.base_url()).await;
    for (capabilities, warns, comment) in [
        (r#"["completion"]"#, true, "reports that the model calls no tools"),
        (r#"["completion", "tools"]"#, false, "reports that the model calls tools"),
    ] {
        let show = format!(r#"{{"capabilities": {capabilities}}}"#);
        let ollama = fake_mcpd(move |line| {
            let (status, body) = match line.split(' ').nth(1) {
                Some("/v1/models") => (200, r#"{"data":[{"id":"qwen:7b","owned_by":"library"}]}"#.to_owned()),
                Some("/api/show") => (200, show.clone()),
                _ => (404, "{}".to_owned()),
            };
            (status, String::new(), body)
        });
        let mut shell = at_home(&mcpd).await;
        shell.env.push(("OLLAMA_HOST", ollama.await));
        let output = shell.run(&["local", "init", "--dry-run"]).await;
        let warned = output.stderr.contains("warning: Ollama reports that `qwen:7b` calls no tools");
        assert_eq!((output.code, warned), (0, warns), "{}", output.stderr);
        assert!(output.stdout.contains(comment), "{}", output.stdout);
        assert_eq!(output.stdout.contains("# capabilities: [tools]"), warns, "{}", output.stdout);
    }
}
