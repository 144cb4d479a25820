//! `mcpctl local init`: from a machine with model servers to an agent that runs.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use mcpctl_testkit::{daemons::Mcpd, model_server::ModelServer};
use serde_json::json;

use crate::shell::Shell;

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
