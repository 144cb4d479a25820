//! `edit` and `patch`: what an editor leaves is stored, or kept where it can be found.

use std::path::PathBuf;

use mcpctl_testkit::daemons::{Mcpd, program};

use crate::shell::Shell;

async fn with_llm(mcpd: &Mcpd) -> Shell {
    let shell = Shell::signed_in(mcpd).await;
    shell.run(&["create", "secret", "s", "--from-literal", "k=v"]).await.good();
    let url = ["--url", "http://127.0.0.1:1/v1", "--model", "before"];
    shell.run(&[&["create", "llm", "claude", "--secret", "s", "--key", "k"], &url[..]].concat()).await.good();
    shell
}

fn edits(shell: &mut Shell, script: &str) {
    let path = shell.file("editor.sh", script);
    shell.more.push(("EDITOR", format!("sh {}", path.display())));
}

/// The path in `what you wrote is kept in …`, which is removed.
fn kept(said: &str) -> (PathBuf, String) {
    let path = said.lines().find_map(|line| line.strip_prefix("what you wrote is kept in ")).expect(said);
    let text = std::fs::read_to_string(path).unwrap();
    std::fs::remove_file(path).unwrap();
    (path.into(), text)
}

#[tokio::test]
async fn what_the_editor_leaves_is_stored() {
    let mcpd = Mcpd::start().await;
    let mut shell = with_llm(&mcpd).await;
    edits(&mut shell, "sed -i 's/model: before/model: after/' \"$1\"");
    assert_eq!(shell.run(&["edit", "llm", "claude"]).await.good(), "llms/claude edited\n");
    assert_eq!(shell.run(&["get", "llm/claude", "-o", "jsonpath={.model}"]).await.good(), "after\n");
    let again = shell.run(&["edit", "llm/claude"]).await;
    assert_eq!((again.code, again.out.as_str(), again.err.as_str()), (0, "", "nothing changed\n"));
    edits(&mut shell, ": > \"$1\"");
    assert_eq!(
        shell.run(&["edit", "llm/claude"]).await.err,
        "nothing changed\n",
        "an emptied file means never mind"
    );
}

#[tokio::test]
async fn what_somebody_else_changed_meanwhile_is_not_overwritten() {
    let mcpd = Mcpd::start().await;
    let mut shell = with_llm(&mcpd).await;
    let mcpctl = program("mcpctl");
    let patch =
        |model: &str| format!("{} patch llm claude -p '{{\"model\": \"{model}\"}}' >&2", mcpctl.display());
    // Also where the line that says the revision did not survive the editor.
    for (theirs, sed) in
        [("theirs", "s/^model: .*/model: mine/"), ("again", "s/^model: .*/model: mine/; /^revision:/d")]
    {
        edits(&mut shell, &format!("{}\nsed -i '{sed}' \"$1\"\n", patch(theirs)));
        let said = shell.run(&["edit", "llm", "claude"]).await.failed(1);
        assert!(said.contains("hint: read it again and repeat the change"), "{said}");
        let (_, text) = kept(&said);
        assert!(text.contains("model: mine"), "{text}");
        let model = shell.run(&["get", "llm/claude", "-o", "jsonpath={.model}"]).await.good();
        assert_eq!(model.trim(), theirs);
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_told_with_its_place_and_kept() {
    let mcpd = Mcpd::start().await;
    let mut shell = with_llm(&mcpd).await;
    edits(&mut shell, "sed -i 's/model: before/modle: after/' \"$1\"");
    let said = shell.run(&["edit", "llm", "claude"]).await.failed(1);
    let (path, text) = kept(&said);
    assert!(text.contains("modle: after"));
    let line = text.lines().position(|line| line.starts_with("modle")).unwrap() + 1;
    assert!(said.contains(&format!("error: {}:{line}:1: unknown field `modle`", path.display())), "{said}");
    shell.more.push(("EDITOR", "false".to_owned()));
    let said = shell.run(&["edit", "llm", "claude"]).await.failed(1);
    assert!(said.contains("the editor `false` failed, and nothing was changed"), "{said}");
}

#[tokio::test]
async fn inv_11_a_credential_that_is_detached_is_said_whichever_way_the_address_changes() {
    let mcpd = Mcpd::start().await;
    let admin = with_llm(&mcpd).await;
    // An editor may change Llms, and may not set this secret.
    admin
        .run(&["create", "role", "llm-editor", "--verb", "view,edit", "--kind", "llms", "--name", "*"])
        .await
        .good();
    let token = mcpd.user("eve", Some("llm-editor")).await;
    let mut eve = Shell::new();
    eve.more.extend([("MCPCTL_SERVER", mcpd.url().to_owned()), ("MCPCTL_TOKEN", token)]);
    let restore = r#"{"apiKey": {"secret": "s", "key": "k"}}"#;
    let elsewhere = |port: u16| format!(r#"{{"url": "http://127.0.0.1:{port}/v1"}}"#);

    let patched = eve.run(&["patch", "llm", "claude", "-p", &elsewhere(2)]).await;
    assert_eq!(patched.code, 0, "{}", patched.err);
    assert!(patched.err.starts_with("warning: "), "{}", patched.err);
    admin.run(&["patch", "llm", "claude", "-p", restore]).await.good();
    edits(&mut eve, "sed -i 's/127.0.0.1:2/127.0.0.1:3/' \"$1\"");
    let edited = eve.run(&["edit", "llm", "claude"]).await;
    assert_eq!(edited.code, 0, "{}", edited.err);
    assert!(edited.err.starts_with("warning: "), "{}", edited.err);
    let key = admin.run(&["get", "llm/claude", "-o", "jsonpath={.apiKey.key}"]).await.good();
    assert_eq!(key, "\n", "it is detached");
}
