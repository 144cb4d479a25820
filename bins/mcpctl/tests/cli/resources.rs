//! Creating, showing, comparing and watching resources.

use std::time::Duration;

use mcpctl_testkit::daemons::Mcpd;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::shell::Shell;

const LLM: &str = "kind: Llm\nname: claude\ntype: openai\nurl: http://127.0.0.1:1/v1\nmodel: m\n";

#[tokio::test]
async fn diff_shows_changes_and_never_a_secret() {
    let mcpd = Mcpd::start().await;
    let shell = Shell::signed_in(&mcpd).await;
    let secret = |values: &str| format!("kind: Secret\nname: s\ndata: {{{values}}}\n");
    shell.file("f.yaml", &format!("{LLM}---\n{}", secret("token: hunter2")));
    let diff = ["diff", "-f", "f.yaml"];
    let output = shell.run(&diff).await;
    assert_eq!(output.code, 1, "{}", output.stderr);
    assert!(
        output.stdout.contains("+ model: m\n") && output.stdout.contains("+ name: s\n"),
        "{}",
        output.stdout
    );
    assert!(!output.stdout.contains("hunter2"), "{}", output.stdout);
    assert_eq!(shell.run(&["get", "llms", "-o", "name"]).await.succeeded(), "", "a diff stores nothing");

    shell.run(&["apply", "-f", "f.yaml"]).await.succeeded();
    assert_eq!(shell.run(&diff).await.succeeded(), "", "the server compares the values");

    shell.file(
        "f.yaml",
        &format!("{}---\n{}", LLM.replace("model: m", "model: new"), secret("token: hunter3")),
    );
    let output = shell.run(&diff).await;
    assert_eq!(output.code, 1);
    assert!(!output.stdout.contains("hunter"), "{}", output.stdout);
    let changed: Vec<&str> = output.stdout.lines().filter(|line| line.starts_with(['-', '+'])).collect();
    let hidden = ["-   token: \"*** (as stored)\"", "+   token: \"*** (as given)\""];
    assert_eq!(changed, ["- model: m", "+ model: new", hidden[0], hidden[1]]);

    shell.file("f.yaml", "kind: User\nname: alice\npassword: hunter2 hunter2\n");
    let output = shell.run(&diff).await;
    assert!(output.code == 1 && !output.stdout.contains("hunter2"), "{}", output.stdout);
}

#[tokio::test]
async fn existing_resources_are_shown_and_missing_ones_reported() {
    let mcpd = Mcpd::start().await;
    let shell = Shell::signed_in(&mcpd).await;
    let llm = LLM.replace("type: openai", "type: anthropic");
    shell.file("f.yaml", &format!("{llm}labels: {{team: a}}\n"));
    shell.run(&["apply", "-f", "f.yaml"]).await.succeeded();
    let output = shell.run(&["get", "llms/claude", "llms/nope", "users/admin", "-o", "name"]).await;
    assert_eq!((output.code, output.stdout.as_str()), (1, "llms/claude\nusers/admin\n"));
    assert_eq!(output.stderr, "error: there is no Llm `nope`\n");

    let wide = shell.run(&["get", "llms", "-o", "wide"]).await.succeeded();
    let rows: Vec<Vec<&str>> = wide.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "TYPE", "MODEL", "URL", "STATE", "AGE", "ID", "REVISION", "LABELS"]);
    assert_eq!((rows[1][0], rows[1][1], rows[1][2], rows[1][8]), ("claude", "anthropic", "m", "team=a"));
    let id = rows[1][6];
    assert_eq!(
        shell.run(&["get", "llm", id, "-o", "jsonpath={.name}"]).await.succeeded(),
        "claude\n",
        "by id"
    );
    for (selector, expected) in [("team=a", "llms/claude\n"), ("team!=a", ""), ("team", "llms/claude\n")] {
        assert_eq!(
            shell.run(&["get", "llms", "-l", selector, "-o", "name"]).await.succeeded(),
            expected,
            "{selector}"
        );
    }
    let json: serde_json::Value =
        serde_json::from_str(&shell.run(&["get", "llms", "-o", "json"]).await.succeeded()).unwrap();
    assert_eq!(json["items"][0]["labels"]["team"], "a");
    let described = shell.run(&["describe", "llm/claude"]).await.succeeded();
    assert!(described.contains("# may be run by:\n#   User admin (role admin)\n"), "{described}");
    assert!(described.contains("# breaker: closed\n"), "{described}");
    let empty = shell.run(&["get", "groups"]).await;
    assert_eq!((empty.code, empty.stdout.as_str(), empty.stderr.as_str()), (0, "", "nothing found\n"));
}

#[tokio::test]
async fn text_with_terminal_commands_is_rejected() {
    let mcpd = Mcpd::start().await;
    let shell = Shell::signed_in(&mcpd).await;
    let error =
        shell.run(&["create", "user", "mallory", "--display-name", "\x1b[2J\x07gone"]).await.failed(2);
    assert!(error.contains("displayName: U+001B") && !error.contains('\x1b'), "{error:?}");
    // A text with a line end takes one line of a table.
    shell.run(&["create", "user", "mallory", "--display-name", "gone\nroot"]).await.succeeded();
    let table = shell.run(&["get", "users"]).await.succeeded();
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(table.contains("gone root"), "{table:?}");
}

#[tokio::test]
async fn secrets_are_read_from_every_source_and_never_shown() {
    let mcpd = Mcpd::start().await;
    let mut shell = Shell::signed_in(&mcpd).await;
    shell.file("key.txt", "hunter-file\n");
    shell.env.push(("PROVIDER_KEY", "hunter-env".to_owned()));
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
    let output = shell.run(&args).await;
    assert_eq!((output.code, output.stdout.as_str()), (0, "secrets/s created\n"), "{}", output.stderr);
    assert!(
        output.stderr.starts_with("note: a value on the command line stays in the shell's history"),
        "{}",
        output.stderr
    );
    for format in ["table", "wide", "json", "yaml"] {
        let shown = shell.run(&["get", "secret", "s", "-o", format]).await.succeeded();
        assert!(!shown.contains("hunter"), "{shown}");
    }
    assert!(shell.run(&["get", "secrets"]).await.succeeded().contains("s      e, f, l"));
    for (args, expected) in [
        (["--from-env", "k=NOT_SET"], "error: the variable `NOT_SET` is not set"),
        (["--from-file", "k=none"], "error: `none` cannot be read: there is no such file"),
    ] {
        let error = shell.run(&["create", "secret", "t", args[0], args[1]]).await.failed(1);
        assert!(error.starts_with(expected), "{error}");
    }
}

#[tokio::test]
async fn rejected_document_is_reported_with_its_place() {
    let mcpd = Mcpd::start().await;
    let shell = Shell::signed_in(&mcpd).await;
    shell.file("f.yaml", &format!("kind: Group\nname: g\n---\n{LLM}apiKey: {{secret: nope, key: k}}\n"));
    let output = shell.run(&["create", "-f", "f.yaml"]).await;
    assert_eq!((output.code, output.stdout.as_str()), (1, "groups/g created\n"));
    assert!(output.stderr.starts_with("error: f.yaml:9: apiKey.secret: "), "{}", output.stderr);
    let error = shell.run(&["create", "-f", "f.yaml"]).await.failed(1);
    assert!(error.starts_with("error: f.yaml:1: ") && error.contains("already"), "{error}");
    // An apply is all or nothing, and its error has the same place.
    shell.file("g.yaml", &format!("kind: Group\nname: h\n---\n{LLM}apiKey: {{secret: nope, key: k}}\n"));
    let error = shell.run(&["apply", "-f", "g.yaml"]).await.failed(1);
    assert!(error.starts_with("error: g.yaml:9: apiKey.secret: "), "{error}");
    assert_eq!(shell.run(&["get", "groups", "-o", "name"]).await.succeeded(), "groups/g\n");
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
    let made = shell.run(&["apply", "-f", "team", "--dry-run"]).await.succeeded();
    assert_eq!(
        made,
        "users/alice created (dry run)\ngroups/team created (dry run)\nrolebindings/b created (dry run)\n"
    );
    shell.run(&["apply", "-f", "team"]).await.succeeded();
    let who = shell.run(&["auth", "who-can", "run", "llms/any"]).await.succeeded();
    assert!(who.contains("User alice   llm-user   b         team"), "{who}");
    let gone = shell.run(&["delete", "-f", "team"]).await.succeeded();
    assert_eq!(gone, "rolebindings/b deleted\ngroups/team deleted\nusers/alice deleted\n");
}

#[tokio::test]
async fn watch_shows_resources_and_changes_under_one_header() {
    let mcpd = Mcpd::start().await;
    let shell = Shell::signed_in(&mcpd).await;
    shell.run(&["create", "group", "first"]).await.succeeded();
    let mut child = shell.command(&["get", "groups", "-w"]).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut err = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut next = async || {
        let line = tokio::time::timeout(Duration::from_secs(60), out.next_line()).await.expect("in time");
        let line = line.unwrap().expect("the watch continues");
        line.split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!((next().await, next().await), ("NAME".to_owned(), "first".to_owned()));
    shell.run(&["create", "group", "second"]).await.succeeded();
    assert_eq!(next().await, "second");
    shell.run(&["patch", "group", "first", "-p", r#"{"description": "x"}"#]).await.succeeded();
    assert_eq!(next().await, "first");
    shell.run(&["delete", "groups/second"]).await.succeeded();
    let gone = tokio::time::timeout(Duration::from_secs(60), err.next_line()).await.expect("in time");
    assert_eq!(gone.unwrap().as_deref(), Some("groups/second deleted"));
    child.kill().await.unwrap();
}

#[tokio::test]
async fn limits_are_listed_and_described_with_their_use() {
    let mcpd = Mcpd::start().await;
    let shell = Shell::signed_in(&mcpd).await;
    let limit = "kind: Limit\nname: few\nper: all\nllms: [\"team-*\"]\nrequests: {max: 60, window: 1m}\ncost: {max: 0.5, period: month}\n";
    shell.file("limit.yaml", limit);
    shell.run(&["apply", "-f", "limit.yaml"]).await.succeeded();
    let table = shell.run(&["get", "limits"]).await.succeeded();
    let columns: Vec<&str> = table.lines().nth(1).unwrap().split("   ").map(str::trim).collect();
    assert_eq!(&columns[..5], ["few", "everyone", "team-*", "all", "60 requests per 1m, 0.5 USD per month"]);
    let described = shell.run(&["describe", "limit", "few"]).await.succeeded();
    let uses: Vec<&str> = described.lines().filter(|line| line.starts_with("#   ")).collect();
    assert_eq!(uses, ["#   0 of 60 requests per 1m", "#   0 of 0.5 USD per month"]);
    assert!(
        shell.run(&["diff", "-f", "limit.yaml"]).await.succeeded().is_empty(),
        "it reads as it was written"
    );
}

#[tokio::test]
async fn limit_is_created_from_options() {
    let mcpd = Mcpd::start().await;
    let shell = Shell::signed_in(&mcpd).await;
    shell.run(&["create", "user", "alice"]).await.succeeded();
    let options =
        "create limit own --user alice --llm claude,team-* --per subject --requests 60/1m --cost 50/month";
    let created = shell.run(&options.split(' ').collect::<Vec<_>>()).await.succeeded();
    assert_eq!(created, "limits/own created\n");
    shell.file(
        "same.yaml",
        "kind: Limit\nname: own\nsubjects: [{kind: User, name: alice}]\nllms: [claude, \"team-*\"]\nper: subject\n\
         requests: {max: 60, window: 1m}\ncost: {max: 50, currency: USD, period: month}\n",
    );
    assert_eq!(shell.run(&["diff", "-f", "same.yaml"]).await.succeeded(), "");
    let open = ["create", "limit", "open", "--per", "all", "--tokens", "1000/day"];
    shell.run(&open).await.succeeded();
    let table = shell.run(&["get", "limits"]).await.succeeded();
    assert!(table.contains("everyone") && table.contains("1000 tokens per day"), "{table}");
    // Nothing is sent to mcpd for a mistake.
    for (options, expected) in [
        (&["--per", "all"][..], "requests"),
        (&["--per", "all", "--requests", "60"], "60/1m"),
        (&["--per", "each", "--requests", "1/day"], "each"),
        (&["--requests", "1/day"], "--per"),
        (&["--per", "all", "--requests", "0/day"], "requests.max"),
        (&["--per", "all", "--tokens", "1/32d"], "tokens.window"),
    ] {
        let error = shell.run(&[&["create", "limit", "x"], options].concat()).await.failed(2);
        assert!(error.contains(expected), "{error}");
    }
}
