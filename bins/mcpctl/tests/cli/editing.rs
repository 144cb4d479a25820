//! `edit` and `patch`: the text from the editor is stored, or kept in a file that the error names.

use std::path::PathBuf;

use mcpctl_testkit::daemons::{Mcpd, eventually, program};
use nix::unistd::Pid;

use crate::shell::Shell;

async fn with_llm(mcpd: &Mcpd) -> Shell {
    let shell = Shell::signed_in(mcpd).await;
    shell.run(&["create", "secret", "s", "--from-literal", "k=v"]).await.succeeded();
    let url = ["--url", "http://127.0.0.1:1/v1", "--model", "before"];
    shell
        .run(&[&["create", "llm", "claude", "--secret", "s", "--key", "k"], &url[..]].concat())
        .await
        .succeeded();
    shell
}

fn set_editor(shell: &mut Shell, script: &str) {
    let path = shell.file("editor.sh", script);
    shell.env.push(("EDITOR", format!("sh {}", path.display())));
}

/// The path in `what you wrote is kept in …`, and the text there; removes the file.
fn kept(error: &str) -> (PathBuf, String) {
    let path = error.lines().find_map(|line| line.strip_prefix("what you wrote is kept in ")).expect(error);
    let text = std::fs::read_to_string(path).unwrap();
    std::fs::remove_file(path).unwrap();
    (path.into(), text)
}

#[tokio::test]
async fn edited_text_is_stored() {
    let mcpd = Mcpd::start().await;
    let mut shell = with_llm(&mcpd).await;
    set_editor(&mut shell, "sed -i 's/model: before/model: after/' \"$1\"");
    assert_eq!(shell.run(&["edit", "llm", "claude"]).await.succeeded(), "llms/claude edited\n");
    assert_eq!(shell.run(&["get", "llm/claude", "-o", "jsonpath={.model}"]).await.succeeded(), "after\n");
    let again = shell.run(&["edit", "llm/claude"]).await;
    assert_eq!((again.code, again.stdout.as_str(), again.stderr.as_str()), (0, "", "nothing changed\n"));
    set_editor(&mut shell, ": > \"$1\"");
    assert_eq!(
        shell.run(&["edit", "llm/claude"]).await.stderr,
        "nothing changed\n",
        "an empty file cancels the edit"
    );
}

/// Several addresses become targets, each with the key; `diff` shows no ids that the server adds to them.
#[tokio::test]
async fn several_urls_make_an_llm_with_targets() {
    let mcpd = Mcpd::start().await;
    let shell = with_llm(&mcpd).await;
    let args = ["create", "llm", "many", "--model", "m", "--secret", "s", "--key", "k"];
    let urls = ["--url", "http://127.0.0.1:1/v1", "--url", "http://127.0.0.1:2/v1"];
    shell.run(&[&args[..], &urls[..]].concat()).await.succeeded();
    let yaml = shell.run(&["get", "llm/many", "-o", "yaml"]).await.succeeded();
    assert_eq!(yaml.matches("secret: s").count(), 2, "{yaml}");
    let table = shell.run(&["get", "llms"]).await.succeeded();
    assert!(table.contains("http://127.0.0.1:1/v1 (+1)"), "{table}");
    let described = shell.run(&["describe", "llm", "many"]).await.succeeded();
    assert!(described.contains("# breaker of http://127.0.0.1:2/v1: closed"), "{described}");
    let target = |port| format!("{{url: \"http://127.0.0.1:{port}/v1\", apiKey: {{secret: s, key: k}}}}");
    let document =
        format!("kind: Llm\nname: many\ntype: openai\nmodel: m\ntargets: [{}, {}]\n", target(1), target(2));
    let file = shell.file("many.yaml", &document);
    let file = file.to_str().unwrap();
    assert_eq!(shell.run(&["diff", "-f", file]).await.code, 0);
    let both = shell.file("both.yaml", &document.replace("targets:", "url: http://127.0.0.1:1\ntargets:"));
    let refused = shell.run(&["apply", "-f", both.to_str().unwrap()]).await;
    assert!(refused.stderr.contains("either `url` or `targets`"), "{}", refused.stderr);
}

#[tokio::test]
async fn concurrent_change_is_not_overwritten() {
    let mcpd = Mcpd::start().await;
    let mut shell = with_llm(&mcpd).await;
    let mcpctl = program("mcpctl");
    let patch =
        |model: &str| format!("{} patch llm claude -p '{{\"model\": \"{model}\"}}' >&2", mcpctl.display());
    // Also where the editor removes the line with the revision.
    for (theirs, sed) in
        [("theirs", "s/^model: .*/model: mine/"), ("again", "s/^model: .*/model: mine/; /^revision:/d")]
    {
        set_editor(&mut shell, &format!("{}\nsed -i '{sed}' \"$1\"\n", patch(theirs)));
        let error = shell.run(&["edit", "llm", "claude"]).await.failed(1);
        assert!(error.contains("hint: read it again and repeat the change"), "{error}");
        let (_, text) = kept(&error);
        assert!(text.contains("model: mine"), "{text}");
        let model = shell.run(&["get", "llm/claude", "-o", "jsonpath={.model}"]).await.succeeded();
        assert_eq!(model.trim(), theirs);
    }
}

#[tokio::test]
async fn interrupt_in_the_editor_leaves_nothing_behind() {
    let mcpd = Mcpd::start().await;
    let mut shell = with_llm(&mcpd).await;
    let started = shell.path("started");
    let files = shell.path("files");
    std::fs::create_dir(&files).unwrap();
    shell.env.push(("TMPDIR", files.display().to_string()));
    set_editor(
        &mut shell,
        &format!("sed -i 's/before/after/' \"$1\"\n: > {}\nexec sleep 600", started.display()),
    );
    let before = shell.run(&["get", "llm/claude", "-o", "yaml"]).await.succeeded();
    let mut command = shell.command(&["edit", "llm", "claude"]);
    let child = command.process_group(0).spawn().unwrap();
    eventually("the editor runs", async || started.exists().then_some(())).await;
    assert_eq!(std::fs::read_dir(&files).unwrap().count(), 1, "the file that is edited");
    // As a terminal does with Ctrl-C.
    let group = Pid::from_raw(child.id().unwrap().cast_signed());
    nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGINT).unwrap();
    let output = child.wait_with_output().await.unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("error: the editor was interrupted, and nothing was changed"), "{errors}");
    assert_eq!(std::fs::read_dir(&files).unwrap().count(), 0, "{errors}");
    assert_eq!(shell.run(&["get", "llm/claude", "-o", "yaml"]).await.succeeded(), before);
}

#[tokio::test]
async fn unreadable_text_is_reported_with_its_place_and_kept() {
    let mcpd = Mcpd::start().await;
    let mut shell = with_llm(&mcpd).await;
    set_editor(&mut shell, "sed -i 's/model: before/modle: after/' \"$1\"");
    let error = shell.run(&["edit", "llm", "claude"]).await.failed(1);
    let (path, text) = kept(&error);
    assert!(text.contains("modle: after"));
    let line = text.lines().position(|line| line.starts_with("modle")).unwrap() + 1;
    assert!(error.contains(&format!("error: {}:{line}:1: unknown field `modle`", path.display())), "{error}");
    shell.env.push(("EDITOR", "false".to_owned()));
    let error = shell.run(&["edit", "llm", "claude"]).await.failed(1);
    assert!(error.contains("the editor `false` ended with 1, and nothing was changed\nhint: "), "{error}");
}

#[tokio::test]
async fn inv_11_detached_credential_is_reported() {
    let mcpd = Mcpd::start().await;
    let admin = with_llm(&mcpd).await;
    // `eve` may change Llms and may not use the secret.
    admin
        .run(&["create", "role", "llm-editor", "--verb", "view,edit", "--kind", "llms", "--name", "*"])
        .await
        .succeeded();
    let token = mcpd.user("eve", Some("llm-editor")).await;
    let mut eve = Shell::new();
    eve.env.extend([("MCPCTL_SERVER", mcpd.url().to_owned()), ("MCPCTL_TOKEN", token)]);
    let restore = r#"{"apiKey": {"secret": "s", "key": "k"}}"#;
    let elsewhere = |port: u16| format!(r#"{{"url": "http://127.0.0.1:{port}/v1"}}"#);

    let patched = eve.run(&["patch", "llm", "claude", "-p", &elsewhere(2)]).await;
    assert_eq!(patched.code, 0, "{}", patched.stderr);
    assert!(patched.stderr.starts_with("warning: "), "{}", patched.stderr);
    admin.run(&["patch", "llm", "claude", "-p", restore]).await.succeeded();
    set_editor(&mut eve, "sed -i 's/127.0.0.1:2/127.0.0.1:3/' \"$1\"");
    let edited = eve.run(&["edit", "llm", "claude"]).await;
    assert_eq!(edited.code, 0, "{}", edited.stderr);
    assert!(edited.stderr.starts_with("warning: "), "{}", edited.stderr);
    let key = admin.run(&["get", "llm/claude", "-o", "jsonpath={.apiKey.key}"]).await.succeeded();
    assert_eq!(key, "\n", "the credential is still attached");
}

#[tokio::test]
async fn refused_and_overtaken_texts_are_opened_again() {
    let mcpd = Mcpd::start().await;
    let mut shell = with_llm(&mcpd).await;
    let model =
        async |shell: &Shell| shell.run(&["get", "llm/claude", "-o", "jsonpath={.model}"]).await.succeeded();
    // The first text is wrong, the second one is right.
    let script = "cp \"$1\" seen.$(ls seen.* 2>/dev/null | wc -l)\n\
                  if grep -q modle \"$1\"; then sed -i 's/modle: after/model: after/' \"$1\"; \
                  else sed -i 's/model: before/modle: after/' \"$1\"; fi";
    set_editor(&mut shell, script);
    assert_eq!(shell.run(&["edit", "llm", "claude"]).await.succeeded(), "llms/claude edited\n");
    let seen = std::fs::read_to_string(shell.path("seen.1")).unwrap();
    let first = seen.lines().next().unwrap();
    let line = seen.lines().position(|line| line.starts_with("modle")).unwrap() + 1;
    assert!(first.starts_with(&format!("#! not stored: {line}:1: unknown field `modle`")), "{seen}");
    assert!(seen.contains("#! hint: did you mean `model`?\n"), "{seen}");
    assert_eq!(model(&shell).await, "after\n");

    // Another writer is first; the text is stored once the lines about that are removed.
    let mcpctl = program("mcpctl").display().to_string();
    let script = format!(
        "if grep -q 'changed meanwhile' \"$1\"; then cp \"$1\" conflict; sed -i '/^#!/d' \"$1\"; \
         else sed -i 's/model: after/model: mine/' \"$1\"; \
         {mcpctl} patch llm claude -p 'description: theirs' >&2; fi"
    );
    set_editor(&mut shell, &script);
    assert_eq!(shell.run(&["edit", "llm", "claude"]).await.succeeded(), "llms/claude edited\n");
    let conflict = std::fs::read_to_string(shell.path("conflict")).unwrap();
    assert!(
        conflict.contains("#!   + description: theirs\n") && conflict.contains("\nmodel: mine\n"),
        "{conflict}"
    );
    assert_eq!(model(&shell).await, "mine\n");

    // What no other text would change ends the edit.
    let token = mcpd.user("viewer", None).await;
    shell
        .run(&["create", "role", "sees", "--verb", "view", "--kind", "llms", "--name", "*"])
        .await
        .succeeded();
    shell.run(&["create", "rolebinding", "sees", "--role", "sees", "--user", "viewer"]).await.succeeded();
    shell.env.extend([("MCPCTL_SERVER", mcpd.url().to_owned()), ("MCPCTL_TOKEN", token)]);
    set_editor(&mut shell, "sed -i 's/model: mine/model: theirs/' \"$1\"");
    let error = shell.run(&["edit", "llm", "claude"]).await.failed(1);
    assert!(kept(&error).1.contains("model: theirs") && error.contains("may not edit"), "{error}");
}

#[tokio::test]
async fn interrupted_editor_is_no_fault_of_the_editor() {
    let mcpd = Mcpd::start().await;
    let mut shell = with_llm(&mcpd).await;
    // As Ctrl-C does, with and without a shell around the editor.
    for editor in ["sh -c 'kill -INT $$'", "sh -c 'exit 130'"] {
        shell.env.push(("EDITOR", editor.to_owned()));
        let error = shell.run(&["edit", "llm", "claude"]).await.failed(1);
        assert_eq!(error, "error: the editor was interrupted, and nothing was changed\n");
    }
    shell.env.push(("VISUAL", "sh -c 'exit 3'".to_owned()));
    let error = shell.run(&["edit", "llm", "claude"]).await.failed(1);
    assert!(error.contains("ended with 3") && error.contains("set VISUAL to another one"), "{error}");
}

#[tokio::test]
async fn editor_that_cannot_run_is_named() {
    let mcpd = Mcpd::start().await;
    let mut shell = with_llm(&mcpd).await;
    for (editor, expected) in [
        (
            "no-such-editor --wait",
            "error: the editor `no-such-editor --wait` cannot be run\nhint: set EDITOR",
        ),
        ("/usr/bin/vi", "error: the editor `/usr/bin/vi` needs a terminal, and there is none\nhint: "),
        ("nano -w", "error: the editor `nano -w` needs a terminal"),
        ("", "error: the editor `vi` needs a terminal"),
    ] {
        shell.env.push(("EDITOR", editor.to_owned()));
        let error = shell.run(&["edit", "llm", "claude"]).await.failed(1);
        assert!(error.contains(expected), "{error}");
    }
}
