//! `-l` of every command that has it.

use mcpctl_testkit::daemons::Mcpd;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::shell::Shell;

const USERS: &str = "kind: User\nname: a1\nlabels: {team: a}\n---\nkind: User\nname: b1\nlabels: {team: b}\n---\n\
                     kind: User\nname: none\n";

async fn shell_with_users(mcpd: &Mcpd) -> Shell {
    let shell = Shell::signed_in(mcpd).await;
    shell.file("f.yaml", USERS);
    shell.run(&["apply", "-f", "f.yaml"]).await.succeeded();
    shell
}

#[tokio::test]
async fn selectors_select_in_get_describe_and_delete() {
    let mcpd = Mcpd::start().await;
    let shell = shell_with_users(&mcpd).await;
    for (selector, expected) in [
        ("!team", "users/admin\nusers/none\n"),
        ("team in (a,b),team!=b", "users/a1\n"),
        ("team notin (a)", "users/admin\nusers/b1\nusers/none\n"),
    ] {
        assert_eq!(shell.run(&["get", "users", "-o", "name", "-l", selector]).await.succeeded(), expected);
    }
    let described = shell.run(&["describe", "users", "-l", "team"]).await.succeeded();
    assert!(described.contains("name: a1\n") && described.contains("name: b1\n"), "{described}");
    assert!(!described.contains("name: none\n"), "{described}");

    for wrong in ["team in (a", "team>1", "'!team'"] {
        for command in ["get", "describe", "delete"] {
            let error = shell.run(&[command, "users", "-l", wrong]).await.failed(2);
            assert!(error.contains("is not understood at character"), "{error}");
            assert!(error.contains("\nhint: ") && error.contains("'!team'"), "{error}");
        }
    }
    let error = shell.run(&["delete", "users", "-l", ""]).await.failed(2);
    assert!(error.starts_with("error: an empty selector means all users\nhint: "), "{error}");
    let error = shell.run(&["delete", "user", "a1", "-l", "team=a"]).await.failed(2);
    assert!(error.contains("either names or a selector"), "{error}");

    let gone = shell.run(&["delete", "users", "-l", "team in (a)", "--dry-run"]).await.succeeded();
    assert_eq!(gone, "users/a1 deleted (dry run)\n");
    assert_eq!(shell.run(&["delete", "users", "-l", "team in (a)"]).await.succeeded(), "users/a1 deleted\n");
    let left = shell.run(&["get", "users", "-o", "name"]).await.succeeded();
    assert_eq!(left, "users/admin\nusers/b1\nusers/none\n");
}

#[tokio::test]
async fn files_name_what_commands_are_for() {
    let mcpd = Mcpd::start().await;
    let shell = shell_with_users(&mcpd).await;
    for (args, expected) in [
        (&["get", "-f", "f.yaml", "-o", "name"][..], "users/a1\nusers/b1\nusers/none\n"),
        (&["label", "-f", "f.yaml", "x=y"], "users/a1 labeled\nusers/b1 labeled\nusers/none labeled\n"),
        (&["annotate", "-f", "f.yaml", "x=y", "-o", "name"], "users/a1\nusers/b1\nusers/none\n"),
        (
            &["wait", "-f", "f.yaml", "--for=create"],
            "users/a1 condition met\nusers/b1 condition met\nusers/none condition met\n",
        ),
        (&["delete", "-f", "f.yaml"], "users/none deleted\nusers/b1 deleted\nusers/a1 deleted\n"),
        (&["get", "-f", "f.yaml", "--ignore-not-found"], ""),
    ] {
        assert_eq!(shell.run(args).await.succeeded(), expected, "{args:?}");
    }
    shell.run(&["apply", "-f", "f.yaml"]).await.succeeded();
    let described = shell.run(&["describe", "-f", "f.yaml"]).await.succeeded();
    assert_eq!(described.matches("kind: User").count(), 3, "{described}");
    for args in [&["get", "users", "-f", "f.yaml"][..], &["label", "user/a1", "-f", "f.yaml", "x=y"]] {
        let error = shell.run(args).await.failed(2);
        assert!(
            error.contains("either names or files, not both\nhint: write `KIND NAME` or `-f FILE`"),
            "{error}"
        );
    }
    let error = shell.run(&["label", "-f", "f.yaml", "-l", "team=a", "x=y"]).await.failed(2);
    assert!(
        error.contains("either files or a selector, not both\nhint: write `-f FILE` or `KIND -l SELECTOR`"),
        "{error}"
    );
}

#[tokio::test]
async fn get_shows_more_than_a_page() {
    let mcpd = Mcpd::start().await;
    let shell = Shell::signed_in(&mcpd).await;
    let user = |at: usize| serde_json::json!({"kind": "User", "name": format!("u{at:04}")});
    mcpd.apply((0..1000).map(user).collect()).await;
    mcpd.apply((1000..1100).map(user).collect()).await;
    let expected: String = (0..1100).map(|at| format!("users/u{at:04}\n")).collect();
    let shown = shell.run(&["get", "users", "-o", "name"]).await.succeeded();
    assert_eq!(shown, format!("users/admin\n{expected}"));
}

#[tokio::test]
async fn watch_shows_selected_resources_only() {
    let mcpd = Mcpd::start().await;
    let shell = shell_with_users(&mcpd).await;
    let mut watch = shell.command(&["get", "users", "-w", "-l", "team=a", "-o", "name"]).spawn().unwrap();
    let mut out = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut err = BufReader::new(watch.stderr.take().unwrap()).lines();
    assert_eq!(out.next_line().await.unwrap().unwrap(), "users/a1");
    shell.file(
        "g.yaml",
        "kind: User\nname: b2\nlabels: {team: b}\n---\nkind: User\nname: a2\nlabels: {team: a}\n",
    );
    shell.run(&["apply", "-f", "g.yaml"]).await.succeeded();
    assert_eq!(out.next_line().await.unwrap().unwrap(), "users/a2");
    shell.run(&["patch", "user", "a1", "-p", r#"{"labels": {"team": "b"}}"#]).await.succeeded();
    assert_eq!(err.next_line().await.unwrap().unwrap(), "users/a1 is no longer selected");
    shell.run(&["delete", "user", "b2"]).await.succeeded();
    shell.run(&["delete", "user", "a2"]).await.succeeded();
    assert_eq!(err.next_line().await.unwrap().unwrap(), "users/a2 deleted");
}
