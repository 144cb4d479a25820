//! `--dry-run` and `-o` of the commands that change something, and files in every form that `get` prints.

use std::time::Duration;

use mcpctl_testkit::daemons::Mcpd;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::shell::Shell;

/// A resource of every kind but Token.
const WORLD: &str = "\
kind: Secret
name: openai
data: {token: sk-1}
hosts: [api.openai.com]
---
kind: Llm
name: gpt
labels: {team: red}
annotations: {example.com/ticket: \"OPS-1\\nsecond line\"}
type: openai
url: https://api.openai.com/v1
model: gpt-5
apiKey: {secret: openai, key: token}
breaker: {failures: 3, open: 10s}
---
kind: User
name: alice
displayName: Alice
password: a long password
---
kind: ServiceAccount
name: ci
---
kind: Group
name: team
members: [{kind: User, name: alice}]
---
kind: Role
name: reader
rules: [{kinds: [llms], verbs: [view], names: ['*']}]
---
kind: RoleBinding
name: b
role: reader
subjects: [{kind: Group, name: team}]
---
kind: Limit
name: few
per: all
requests: {max: 60, window: 1m}
";

const KINDS: [&str; 9] =
    ["secrets", "llms", "users", "serviceaccounts", "groups", "roles", "rolebindings", "limits", "tokens"];

async fn world(mcpd: &Mcpd) -> Shell {
    let shell = Shell::signed_in(mcpd).await;
    shell.run_with(&["apply", "-f", "-", "--skip-check"], WORLD).await.succeeded();
    shell
}

#[tokio::test]
async fn what_get_prints_of_everything_changes_nothing_when_it_is_applied() {
    let mcpd = Mcpd::start().await;
    let shell = world(&mcpd).await;
    let revision = async || shell.run(&["get", "llm", "gpt", "-o", "jsonpath={.revision}"]).await.succeeded();
    let before = revision().await;
    for format in ["yaml", "json"] {
        let mut texts = Vec::new();
        for kind in KINDS {
            texts.push(shell.run(&["get", kind, "-o", format]).await.succeeded());
        }
        // YAML documents and JSON lists alike are parts of one stream.
        let everything = texts.join("---\n");
        let applied = shell.run_with(&["apply", "-f", "-"], &everything).await;
        assert_eq!(applied.code, 0, "{}", applied.stderr);
        let lines: Vec<&str> = applied.stdout.lines().collect();
        assert!(lines.len() > 8 && lines.iter().all(|line| line.ends_with(" unchanged")), "{lines:?}");
        assert!(lines.contains(&"roles/admin unchanged"), "{lines:?}");
        assert!(applied.stderr.contains("skipped: a token is made anew"), "{}", applied.stderr);
        let diff = shell.run_with(&["diff", "-f", "-"], &everything).await;
        assert_eq!((diff.code, diff.stdout.as_str()), (0, ""), "{}", diff.stderr);
    }
    let everything = shell.run(&["get", "all", "-o", "yaml"]).await.succeeded();
    let applied = shell.run_with(&["apply", "-f", "-"], &everything).await.succeeded();
    assert!(
        applied.lines().count() > 12 && applied.lines().all(|line| line.ends_with(" unchanged")),
        "{applied}"
    );
    assert_eq!(revision().await, before);
    // A built-in role is what it is.
    let role = shell.run(&["get", "role", "llm-user", "-o", "yaml"]).await.succeeded();
    let changed = role.replace("description: ", "description: not ");
    let error = shell.run_with(&["apply", "-f", "-"], &changed).await.failed(1);
    assert!(error.contains("stdin:") && error.contains("is built in and cannot be changed"), "{error}");
    // A token that was not shown by `get` is refused.
    let written = shell.run(&["get", "tokens", "-o", "yaml"]).await.succeeded();
    let written: String =
        written.lines().filter(|line| !line.starts_with("id:")).map(|line| format!("{line}\n")).collect();
    let error = shell.run_with(&["apply", "-f", "-"], &written).await.failed(1);
    assert!(error.contains("stdin:1: ") && error.contains("tokens cannot be written"), "{error}");
}

#[tokio::test]
async fn dry_runs_store_nothing_and_show_what_would_be() {
    let mcpd = Mcpd::start().await;
    let shell = world(&mcpd).await;
    let names = async |kind: &str| shell.run(&["get", kind, "-o", "name"]).await.succeeded();
    let kinds_before = (names("llms").await, names("users").await, names("tokens").await);
    let url = ["--url", "http://127.0.0.1:1/v1", "--model", "m"];
    let llm = |more: &[&'static str]| [&["create", "llm", "new"], &url[..], more].concat();
    assert_eq!(shell.run(&llm(&["--dry-run"])).await.succeeded(), "llms/new created (dry run)\n");
    assert_eq!(shell.run(&llm(&["--dry-run=client"])).await.succeeded(), "llms/new created (dry run)\n");
    assert_eq!(shell.run(&llm(&["--dry-run=server", "-o", "name"])).await.succeeded(), "llms/new\n");
    let judged = shell.run(&llm(&["--dry-run=server", "-o", "yaml"])).await.succeeded();
    assert!(judged.contains("\nid: ") && judged.contains("\nmodel: m\n"), "{judged}");
    // What is not sent is a document that apply takes.
    let unsent = shell.run(&llm(&["--dry-run=client", "-o", "yaml"])).await.succeeded();
    assert!(unsent.starts_with("kind: Llm\nname: new\n") && !unsent.contains("id: "), "{unsent}");
    let of = shell.run_with(&["apply", "-f", "-", "--dry-run"], &unsent).await.succeeded();
    assert_eq!(of, "llms/new created (dry run)\n");

    for args in [
        &["create", "user", "carol", "--dry-run=client", "-o", "json"][..],
        &["create", "group", "g", "--dry-run=client", "-o", "json"],
        &["create", "sa", "s", "--dry-run=client", "-o", "json"],
        &["create", "secret", "s", "--from-literal", "k=v", "--dry-run=client", "-o", "json"],
        &[
            "create",
            "role",
            "r",
            "--verb",
            "view",
            "--kind",
            "llms",
            "--name",
            "*",
            "--dry-run=client",
            "-o",
            "json",
        ],
        &[
            "create",
            "rolebinding",
            "x",
            "--role",
            "reader",
            "--user",
            "alice",
            "--dry-run=client",
            "-o",
            "json",
        ],
        &["create", "limit", "l", "--per", "all", "--requests", "1/day", "--dry-run=client", "-o", "json"],
    ] {
        let json = shell.run(args).await.succeeded();
        let applied = shell.run_with(&["apply", "-f", "-", "--dry-run"], &json).await.succeeded();
        assert!(applied.ends_with(" created (dry run)\n"), "{json}{applied}");
    }
    let error =
        shell.run(&["create", "token", "t", "--for", "User/alice", "--dry-run=client"]).await.failed(2);
    assert!(error.contains("a token has no document"), "{error}");
    let tried = shell.run(&["create", "token", "t", "--for", "User/alice", "--dry-run"]).await.succeeded();
    assert_eq!(tried, "tokens/t created (dry run)\n");
    let error = shell.run(&["create", "token", "t", "--for", "User/nope", "--dry-run"]).await.failed(1);
    assert!(error.contains("nope"), "{error}");

    let patched =
        shell.run(&["patch", "llm", "gpt", "-p", "model: x", "--dry-run=server", "-o", "yaml"]).await;
    assert!(patched.stdout.contains("\nmodel: x\n"), "{}{}", patched.stdout, patched.stderr);
    let patched =
        shell.run(&["patch", "llm", "gpt", "-p", "model: x", "--dry-run=client", "-o", "yaml"]).await;
    assert!(patched.stdout.contains("\nmodel: x\n"), "{}{}", patched.stdout, patched.stderr);
    let refused = shell.run(&["patch", "llm", "gpt", "-p", "modle: x", "--dry-run=client"]).await.failed(1);
    assert!(refused.contains("modle") && refused.contains("did you mean `model`?"), "{refused}");
    let deleted = shell.run(&["delete", "user", "alice", "--dry-run"]).await.succeeded();
    assert_eq!(deleted, "users/alice deleted (dry run)\n");
    shell.run(&["group", "add", "team", "ServiceAccount/ci", "--dry-run"]).await.succeeded();
    shell.run_with(&["set", "secret", "openai", "other", "--stdin", "--dry-run"], "x").await.succeeded();
    for command in [
        "set secret openai other --stdin --dry-run=client",
        "group add team ServiceAccount/ci --dry-run=client",
        "group remove team alice --dry-run=server",
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        let line = shell.run_with(&words, "x").await.succeeded();
        assert!(line.ends_with(" (dry run)\n"), "{line}");
    }
    let applied = shell.run_with(&["apply", "-f", "-", "--dry-run=server", "-o", "yaml"], &unsent).await;
    assert!(applied.stdout.contains("\nid: "), "{}{}", applied.stdout, applied.stderr);

    assert_eq!((names("llms").await, names("users").await, names("tokens").await), kinds_before);
    let model = shell.run(&["get", "llm", "gpt", "-o", "jsonpath={.model}"]).await.succeeded();
    assert_eq!(model, "gpt-5\n");
    let members = shell.run(&["get", "group", "team", "-o", "json"]).await.succeeded();
    assert!(!members.contains("\"ci\""), "{members}");
    assert!(!shell.run(&["get", "secrets"]).await.succeeded().contains("other"));
}

#[tokio::test]
async fn token_is_tried_before_it_is_rotated_and_the_audit_names_the_rotation() {
    let mcpd = Mcpd::start().await;
    let shell = world(&mcpd).await;
    let made = shell.run(&["create", "token", "t", "--for", "User/alice", "-o", "json"]).await.succeeded();
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    assert_eq!(made["name"], "t");
    let secret = made["token"].as_str().unwrap();
    let mut alice = Shell::new();
    alice.env.extend([("MCPCTL_SERVER", mcpd.url().to_owned()), ("MCPCTL_TOKEN", secret.to_owned())]);
    assert_eq!(
        shell.run(&["rotate", "token", "t", "--dry-run"]).await.succeeded(),
        "tokens/t rotated (dry run)\n"
    );
    alice.run(&["whoami"]).await.succeeded();
    shell.run(&["rotate", "token", "t"]).await.succeeded();
    alice.run(&["whoami"]).await.failed(1);
    let audit = shell.run(&["audit", "-o", "json"]).await.succeeded();
    let rows: serde_json::Value = serde_json::from_str(&audit).unwrap();
    let actions: Vec<&str> = rows["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["resourceName"] == "t")
        .map(|row| row["action"].as_str().unwrap())
        .collect();
    assert_eq!(actions, ["rotate", "create"], "{audit}");
}

#[tokio::test]
async fn json_patches_change_one_item_and_miss_no_other_change() {
    let mcpd = Mcpd::start().await;
    let shell = world(&mcpd).await;
    let add = r#"[{"op": "test", "path": "/name", "value": "team"}, {"op": "add", "path": "/members/-", "value": {"kind": "ServiceAccount", "name": "ci"}}]"#;
    shell.file("add.json", add);
    let done = shell.run(&["patch", "group", "team", "--type", "json", "--patch-file", "add.json"]).await;
    assert_eq!(done.stdout, "groups/team patched\n", "{}", done.stderr);
    let yaml = shell.run(&["get", "group", "team", "-o", "yaml"]).await.succeeded();
    assert!(yaml.contains("name: alice") && yaml.contains("name: ci"), "{yaml}");
    // Another name of a secret takes along nothing that mcpd wrote about the old one.
    shell.run(&["create", "secret", "other", "--from-literal", "token=sk-2"]).await.succeeded();
    let replace = r#"[{"op": "replace", "path": "/apiKey/secret", "value": "other"}]"#;
    shell.run(&["patch", "llm", "gpt", "--type", "json", "-p", replace, "--skip-check"]).await.succeeded();
    let key = shell.run(&["get", "llm", "gpt", "-o", "jsonpath={.apiKey.secret}"]).await.succeeded();
    assert_eq!(key, "other\n");

    for (args, expected) in [
        (
            &["--type", "json", "-p", r#"[{"op": "remove", "path": "/nope"}]"#][..],
            "operation 1 of the patch: ",
        ),
        (
            &["--type", "json", "-p", r#"[{"op": "test", "path": "/model", "value": "no"}]"#],
            "operation 1 of the patch: ",
        ),
        (&["--type", "json", "-p", "{}"], "the patch is not a list of operations"),
        (&["-p", "[]"], "hint: a list of operations takes --type json"),
        (&["--type", "strategic", "-p", "{}"], "--type merge replaces a list as a whole"),
        (&["--patch-file", "none"], "`none` cannot be read: there is no such file"),
        (&[], "--patch"),
    ] {
        let refused = shell.run(&[&["patch", "llm", "gpt"], args].concat()).await;
        assert_ne!(refused.code, 0);
        assert!(refused.stderr.contains(expected), "{}", refused.stderr);
    }
}

/// Serves one file at every path but `/redirect` and its kind, and counts what it was sent.
async fn file_server(file: &'static str) -> (String, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        let mut heads = Vec::new();
        loop {
            let Ok(Ok((mut stream, _))) =
                tokio::time::timeout(Duration::from_secs(60), listener.accept()).await
            else {
                return heads;
            };
            let mut head = vec![0; 8192];
            let length = stream.read(&mut head).await.unwrap();
            let head = String::from_utf8_lossy(&head[..length]).into_owned();
            let answer = if head.starts_with("GET /stop") {
                heads.push(head);
                let _ = stream
                    .write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                    .await;
                return heads;
            } else if head.starts_with("GET /redirect") {
                "HTTP/1.1 302 Found\r\nlocation: /file.yaml\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                    .to_owned()
            } else if head.starts_with("GET /away") {
                "HTTP/1.1 302 Found\r\nlocation: http://192.0.2.1/file.yaml\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned()
            } else if head.starts_with("GET /loop") {
                "HTTP/1.1 302 Found\r\nlocation: /loop\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                    .to_owned()
            } else {
                format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{file}",
                    file.len()
                )
            };
            heads.push(head);
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (url, serving)
}

#[tokio::test]
async fn files_come_from_the_web_without_a_credential_and_from_directories_below() {
    let mcpd = Mcpd::start().await;
    let shell = Shell::signed_in(&mcpd).await;
    let (url, serving) = file_server("kind: Group\nname: web\n---\nkind: Group\nnaem: x\n").await;
    let error = shell.run(&["apply", "-f", &format!("{url}/file.yaml")]).await.failed(1);
    assert!(error.starts_with(&format!("error: {url}/file.yaml:5:1: unknown field `naem`")), "{error}");
    assert!(error.contains("hint: did you mean `name`?"), "{error}");
    let error = shell.run(&["apply", "-f", &format!("{url}/redirect?token=x")]).await.failed(1);
    assert!(error.contains("unknown field `naem`") && !error.contains("token=x"), "{error}");
    let error = shell.run(&["diff", "-f", &format!("{url}/file.yaml")]).await.failed(2);
    assert!(error.contains("unknown field `naem`"), "1 is for differences: {error}");
    for (path, expected) in [("/away", "redirect"), ("/loop", "redirect")] {
        let error = shell.run(&["apply", "-f", &format!("{url}{path}")]).await.failed(1);
        assert!(error.contains("cannot be fetched") && error.contains(expected), "{error}");
    }
    let error = shell.run(&["apply", "-f", "http://192.0.2.1/x.yaml"]).await.failed(1);
    assert!(error.contains("only https is read, and http from this machine"), "{error}");
    let error = shell.run(&["apply", "-f", &format!("{url}/stop")]).await.failed(1);
    assert!(error.contains("status 404"), "{error}");
    let heads = serving.await.unwrap();
    assert!(
        heads.len() > 5 && heads.iter().all(|head| !head.to_lowercase().contains("authorization")),
        "{heads:?}"
    );

    std::fs::create_dir_all(shell.path("team/below/deeper")).unwrap();
    let group = |name: &str| format!("kind: Group\nname: {name}\n");
    shell.file("team/a.yaml", &group("a"));
    shell.file("team/below/deeper/b.yml", &group("b"));
    shell.file("c.json", r#"{"kind": "List", "items": [{"kind": "Group", "name": "c"}]}"#);
    // A link back to the directory is not followed.
    std::os::unix::fs::symlink(shell.path("team"), shell.path("team/below/again")).unwrap();
    let own = shell.run(&["apply", "-f", "team", "--dry-run=client"]).await.succeeded();
    assert_eq!(own, "groups/a checked (dry run)\n");
    let all = shell.run(&["apply", "-R", "-f", "team", "-f", "c.json"]).await.succeeded();
    assert_eq!(all, "groups/a created\ngroups/b created\ngroups/c created\n");
}
