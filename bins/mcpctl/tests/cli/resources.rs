//! Making, showing, comparing and watching resources.

use std::time::Duration;

use mcpctl_testkit::daemons::Mcpd;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::shell::Shell;

const LLM: &str = "kind: Llm\nname: claude\ntype: openai\nurl: http://127.0.0.1:1/v1\nmodel: m\n";

#[tokio::test]
async fn a_diff_shows_what_would_change_and_never_a_secret() {
    let mcpd = Mcpd::start().await;
    let shell = Shell::signed_in(&mcpd).await;
    let secret = |values: &str| format!("kind: Secret\nname: s\ndata: {{{values}}}\n");
    shell.file("f.yaml", &format!("{LLM}---\n{}", secret("token: hunter2")));
    let diff = ["diff", "-f", "f.yaml"];
    let said = shell.run(&diff).await;
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.out.contains("+ model: m\n") && said.out.contains("+ name: s\n"), "{}", said.out);
    assert!(!said.out.contains("hunter2"), "{}", said.out);
    assert_eq!(shell.run(&["get", "llms", "-o", "name"]).await.good(), "", "a diff stores nothing");

    shell.run(&["apply", "-f", "f.yaml"]).await.good();
    assert_eq!(shell.run(&diff).await.good(), "", "the server knows that the value is the same");

    shell.file(
        "f.yaml",
        &format!("{}---\n{}", LLM.replace("model: m", "model: new"), secret("token: hunter3")),
    );
    let said = shell.run(&diff).await;
    assert_eq!(said.code, 1);
    assert!(!said.out.contains("hunter"), "{}", said.out);
    let changed: Vec<&str> = said.out.lines().filter(|line| line.starts_with(['-', '+'])).collect();
    let hidden = ["-   token: \"*** (as stored)\"", "+   token: \"*** (as given)\""];
    assert_eq!(changed, ["- model: m", "+ model: new", hidden[0], hidden[1]]);

    shell.file("f.yaml", "kind: User\nname: alice\npassword: hunter2 hunter2\n");
    let said = shell.run(&diff).await;
    assert!(said.code == 1 && !said.out.contains("hunter2"), "{}", said.out);
}

#[tokio::test]
async fn what_is_there_is_shown_and_what_is_not_is_said() {
    let mcpd = Mcpd::start().await;
    let shell = Shell::signed_in(&mcpd).await;
    shell.file("f.yaml", &format!("{LLM}labels: {{team: a}}\n"));
    shell.run(&["apply", "-f", "f.yaml"]).await.good();
    let said = shell.run(&["get", "llms/claude", "llms/nope", "users/admin", "-o", "name"]).await;
    assert_eq!((said.code, said.out.as_str()), (1, "llms/claude\nusers/admin\n"));
    assert_eq!(said.err, "error: there is no Llm `nope`\n");

    let wide = shell.run(&["get", "llms", "-o", "wide"]).await.good();
    let rows: Vec<Vec<&str>> = wide.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "TYPE", "MODEL", "URL", "AGE", "ID", "REVISION", "LABELS"]);
    assert_eq!((rows[1][0], rows[1][2], rows[1][7]), ("claude", "m", "team=a"));
    let id = rows[1][5];
    assert_eq!(shell.run(&["get", "llm", id, "-o", "jsonpath={.name}"]).await.good(), "claude\n", "by id");
    for (selector, expected) in [("team=a", "llms/claude\n"), ("team!=a", ""), ("team", "llms/claude\n")] {
        assert_eq!(
            shell.run(&["get", "llms", "-l", selector, "-o", "name"]).await.good(),
            expected,
            "{selector}"
        );
    }
    let json: serde_json::Value =
        serde_json::from_str(&shell.run(&["get", "llms", "-o", "json"]).await.good()).unwrap();
    assert_eq!(json["items"][0]["labels"]["team"], "a");
    let described = shell.run(&["describe", "llm/claude"]).await.good();
    assert!(described.contains("# may be run by:\n#   User admin (role admin)\n"), "{described}");
    let empty = shell.run(&["get", "groups"]).await;
    assert_eq!((empty.code, empty.out.as_str(), empty.err.as_str()), (0, "", "nothing found\n"));
}

#[tokio::test]
async fn text_that_commands_a_terminal_is_refused() {
    let mcpd = Mcpd::start().await;
    let shell = Shell::signed_in(&mcpd).await;
    let refused =
        shell.run(&["create", "user", "mallory", "--display-name", "\x1b[2J\x07gone"]).await.failed(1);
    assert!(refused.contains("displayName: U+001B") && !refused.contains('\x1b'), "{refused:?}");
    // What a text may hold takes one line of a table.
    shell.run(&["create", "user", "mallory", "--display-name", "gone\nroot"]).await.good();
    let table = shell.run(&["get", "users"]).await.good();
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(table.contains("gone root"), "{table:?}");
}

#[tokio::test]
async fn secrets_come_from_files_variables_and_the_command_line_and_do_not_come_back() {
    let mcpd = Mcpd::start().await;
    let mut shell = Shell::signed_in(&mcpd).await;
    shell.file("key.txt", "hunter-file\n");
    shell.more.push(("PROVIDER_KEY", "hunter-env".to_owned()));
    let args = [
        "create",
        "secret",
        "s",
        "--from-file",
        "f=key.txt",
        "--from-env",
        "e=PROVIDER_KEY",
        "--from-literal",
        "l=hunter-l=it",
    ];
    let said = shell.run(&args).await;
    assert_eq!((said.code, said.out.as_str()), (0, "secrets/s created\n"), "{}", said.err);
    assert!(
        said.err.starts_with("note: a value on the command line stays in the shell's history"),
        "{}",
        said.err
    );
    for format in ["table", "wide", "json", "yaml"] {
        let shown = shell.run(&["get", "secret", "s", "-o", format]).await.good();
        assert!(!shown.contains("hunter"), "{shown}");
    }
    assert!(shell.run(&["get", "secrets"]).await.good().contains("s      e, f, l"));
    for (args, expected) in [
        (["--from-env", "k=NOT_SET"], "error: the variable `NOT_SET` is not set"),
        (["--from-file", "k=none"], "error: `none` cannot be read: there is no such file"),
    ] {
        let said = shell.run(&["create", "secret", "t", args[0], args[1]]).await.failed(1);
        assert!(said.starts_with(expected), "{said}");
    }
}

#[tokio::test]
async fn what_is_made_from_files_names_the_place_of_what_is_refused() {
    let mcpd = Mcpd::start().await;
    let shell = Shell::signed_in(&mcpd).await;
    shell.file("f.yaml", &format!("kind: Group\nname: g\n---\n{LLM}apiKey: {{secret: nope, key: k}}\n"));
    let said = shell.run(&["create", "-f", "f.yaml"]).await;
    assert_eq!((said.code, said.out.as_str()), (1, "groups/g created\n"));
    assert!(said.err.starts_with("error: f.yaml:9: apiKey.secret: "), "{}", said.err);
    let said = shell.run(&["create", "-f", "f.yaml"]).await.failed(1);
    assert!(said.starts_with("error: f.yaml:1: ") && said.contains("already"), "{said}");
    // An apply is all or nothing, and says it of the same place.
    shell.file("g.yaml", &format!("kind: Group\nname: h\n---\n{LLM}apiKey: {{secret: nope, key: k}}\n"));
    let said = shell.run(&["apply", "-f", "g.yaml"]).await.failed(1);
    assert!(said.starts_with("error: g.yaml:9: apiKey.secret: "), "{said}");
    assert_eq!(shell.run(&["get", "groups", "-o", "name"]).await.good(), "groups/g\n");
}

#[tokio::test]
async fn files_are_applied_by_directory_and_deleted_last_first() {
    let mcpd = Mcpd::start().await;
    let shell = Shell::signed_in(&mcpd).await;
    std::fs::create_dir(shell.path("team")).unwrap();
    shell.file(
        "team/1-people.yaml",
        "kind: User\nname: alice\n---\nkind: Group\nname: team\nmembers: [{kind: User, name: alice}]\n",
    );
    shell.file(
        "team/2-rights.json",
        r#"{"kind":"RoleBinding","name":"b","role":"llm-user","subjects":[{"kind":"Group","name":"team"}]}"#,
    );
    shell.file("team/readme.txt", "not a document");
    let made = shell.run(&["apply", "-f", "team", "--dry-run"]).await.good();
    assert_eq!(
        made,
        "users/alice created (dry run)\ngroups/team created (dry run)\nrolebindings/b created (dry run)\n"
    );
    shell.run(&["apply", "-f", "team"]).await.good();
    let who = shell.run(&["auth", "who-can", "run", "llms/any"]).await.good();
    assert!(who.contains("User alice   llm-user   b         team"), "{who}");
    let gone = shell.run(&["delete", "-f", "team"]).await.good();
    assert_eq!(gone, "rolebindings/b deleted\ngroups/team deleted\nusers/alice deleted\n");
}

#[tokio::test]
async fn a_watch_shows_what_there_is_and_then_every_change_under_one_header() {
    let mcpd = Mcpd::start().await;
    let shell = Shell::signed_in(&mcpd).await;
    shell.run(&["create", "group", "first"]).await.good();
    let mut child = shell.command(&["get", "groups", "-w"]).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut err = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut next = async || {
        let line = tokio::time::timeout(Duration::from_secs(20), out.next_line()).await.expect("in time");
        let line = line.unwrap().expect("the watch goes on");
        line.split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!((next().await, next().await), ("NAME".to_owned(), "first".to_owned()));
    shell.run(&["create", "group", "second"]).await.good();
    assert_eq!(next().await, "second");
    shell.run(&["patch", "group", "first", "-p", r#"{"description": "x"}"#]).await.good();
    assert_eq!(next().await, "first");
    shell.run(&["delete", "groups/second"]).await.good();
    let gone = tokio::time::timeout(Duration::from_secs(20), err.next_line()).await.expect("in time");
    assert_eq!(gone.unwrap().as_deref(), Some("groups/second deleted"));
    child.kill().await.unwrap();
}
