//! `delete`, `replace`, and `apply --prune`: what goes, what stays, and what is asked before.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    process::Stdio,
};

use mcpctl_testkit::daemons::Mcpd;

use crate::shell::Shell;

const WORLD: &str = "\
kind: Llm
name: gpt
type: openai
url: http://127.0.0.1:9/v1
model: m
---
kind: User
name: alice
labels: {team: red}
---
kind: User
name: bob
labels: {team: red}
---
kind: Group
name: crew
members: [{kind: User, name: alice}]
---
kind: RoleBinding
name: alice-runs
role: llm-user
subjects: [{kind: User, name: alice}]
---
kind: RoleBinding
name: crew-runs
role: llm-user
subjects: [{kind: Group, name: crew}]
---
kind: Limit
name: few
per: all
requests: {max: 60, window: 1m}
";

async fn world(mcpd: &Mcpd) -> Shell {
    let shell = Shell::signed_in(mcpd).await;
    shell.run_with(&["apply", "-f", "-"], WORLD).await.succeeded();
    shell
}

/// Runs a command whose input, output and errors are a terminal, on which this is typed.
async fn typed(shell: &Shell, args: &[&str], keys: &str) -> (i32, String) {
    let pty = nix::pty::openpty(None, None).unwrap();
    let end = || Stdio::from(pty.slave.try_clone().unwrap());
    let mut command = shell.command(args);
    command.stdin(end()).stdout(end()).stderr(end());
    let mut child = command.spawn().unwrap();
    drop(command);
    drop(pty.slave);
    let (mut terminal, keys) = (File::from(pty.master), keys.to_owned());
    let mut writer = terminal.try_clone().unwrap();
    let reading = tokio::task::spawn_blocking(move || {
        let (mut shown, mut buffer, mut is_typed) = (Vec::new(), [0; 4096], false);
        while let Ok(read @ 1..) = terminal.read(&mut buffer) {
            shown.extend_from_slice(&buffer[..read]);
            if !is_typed && String::from_utf8_lossy(&shown).contains("[y/N]") {
                is_typed = true;
                writer.write_all(keys.as_bytes()).unwrap();
            }
        }
        shown
    });
    let code = child.wait().await.unwrap().code().unwrap();
    (code, String::from_utf8_lossy(&reading.await.unwrap()).replace("\r\n", "\n"))
}

#[tokio::test]
async fn deletion_that_is_hard_to_undo_is_asked_for_on_a_terminal() {
    let mcpd = Mcpd::start().await;
    let shell = world(&mcpd).await;
    let users = async || shell.run(&["get", "users", "-o", "name"]).await.succeeded();
    let (code, shown) = typed(&shell, &["delete", "user", "alice"], "yes, why not\r").await;
    assert_eq!(code, 1, "{shown}");
    assert!(shown.contains("users/alice, and its password, sessions and tokens"), "{shown}");
    assert!(shown.contains("RoleBinding `alice-runs` is deleted too"), "{shown}");
    assert!(shown.contains("Group `crew` no longer names User alice"), "{shown}");
    assert!(shown.contains("nothing was removed"), "{shown}");
    assert!(users().await.contains("users/alice"));
    // What a file brings back is removed at once, and so is what `-y` agrees to.
    let (code, shown) = typed(&shell, &["delete", "limit", "few"], "").await;
    assert_eq!((code, shown.as_str()), (0, "limits/few deleted\n"));
    let (code, shown) = typed(&shell, &["delete", "users", "-l", "team=red", "-y"], "").await;
    assert_eq!(code, 0, "{shown}");
    assert_eq!(users().await, "users/admin\n");
    // A name that is missing hides nothing of what goes with the others.
    let (code, shown) = typed(&shell, &["delete", "group", "nope", "crew"], "\r").await;
    assert_eq!(code, 1, "{shown}");
    assert!(shown.contains("RoleBinding `crew-runs` is deleted too"), "{shown}");
    // A group takes a binding along.
    let (code, shown) = typed(&shell, &["delete", "group", "crew"], "y\r").await;
    assert_eq!(code, 0, "{shown}");
    assert!(
        shown.contains("RoleBinding `crew-runs` is deleted too") && shown.contains("groups/crew deleted"),
        "{shown}"
    );
}

#[tokio::test]
async fn context_of_another_account_is_replaced_after_a_question() {
    let mcpd = Mcpd::start().await;
    let shell = Shell::signed_in(&mcpd).await;
    shell.file("token", &mcpd.user("alice", None).await);
    let login = ["login", mcpd.url(), "--token-file", "token", "--context", "c"];
    let (code, shown) = typed(&shell, &login, "yeah\r").await;
    assert_eq!(code, 1, "{shown}");
    assert!(
        shown.contains("has the token of User admin at ") && shown.contains("by that of User alice? [y/N]")
    );
    assert!(shell.run(&["whoami"]).await.succeeded().starts_with("User admin "));
    let (code, shown) = typed(&shell, &login, "yes\r").await;
    assert_eq!(code, 0, "{shown}");
    assert!(shell.run(&["whoami"]).await.succeeded().starts_with("User alice "));
}

#[tokio::test]
async fn question_that_cannot_be_seen_is_a_no() {
    let mcpd = Mcpd::start().await;
    let shell = world(&mcpd).await;
    let pty = nix::pty::openpty(None, None).unwrap();
    let run = async |args: &[&str]| {
        let mut command = shell.command(args);
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let output = command.stdin(end()).stdout(end()).output().await.unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, errors) = run(&["delete", "user", "alice"]).await;
    assert_eq!(code, 1, "{errors}");
    assert!(
        errors
            .ends_with("error: nothing was changed: there is no terminal to ask on\nhint: -y agrees to it\n"),
        "{errors}"
    );
    assert!(shell.run(&["get", "users", "-o", "name"]).await.succeeded().contains("users/alice"));
    let (code, errors) = run(&["delete", "user", "alice", "-y"]).await;
    assert_eq!(code, 0, "{errors}");
    assert!(!shell.run(&["get", "users", "-o", "name"]).await.succeeded().contains("users/alice"));
}

#[tokio::test]
async fn warnings_of_many_are_one_line() {
    let mcpd = Mcpd::start().await;
    let shell = Shell::signed_in(&mcpd).await;
    let llm = |name: &str| {
        format!("---\nkind: Llm\nname: {name}\ntype: openai\nurl: http://127.0.0.1:1/v1\nmodel: m\n")
    };
    let limit = "kind: Limit\nname: budget\nper: all\ncost: {max: 50, period: month}\n";
    let text = format!("{limit}{}{}{}", llm("a"), llm("b"), llm("c"));
    let warning =
        "warning: Limit `budget` bounds cost, so it denies Llm `a`, `b`, `c`, whose price is not known";
    let applied = shell.run_with(&["apply", "-f", "-"], &text).await;
    assert_eq!(applied.code, 0, "{}", applied.stderr);
    let of_the_llms = applied.stderr.lines().filter(|line| line.starts_with(warning)).count();
    assert_eq!(of_the_llms, 1, "{}", applied.stderr);
    shell.run(&["delete", "llms", "--all"]).await.succeeded();
    let created = shell.run_with(&["create", "-f", "-"], &text.replacen(limit, "", 1)).await;
    assert_eq!(
        created.stderr.lines().filter(|line| line.starts_with(warning)).count(),
        1,
        "{}",
        created.stderr
    );
}

#[tokio::test]
async fn deletion_goes_on_after_what_cannot_be_removed() {
    let mcpd = Mcpd::start().await;
    let shell = world(&mcpd).await;
    let output = shell.run(&["delete", "users", "nope", "bob", "neither"]).await;
    assert_eq!((output.code, output.stdout.as_str()), (1, "users/bob deleted\n"));
    assert_eq!(output.stderr.matches("error: there is no User").count(), 2, "{}", output.stderr);
    let ignored = shell.run(&["delete", "users", "nope", "--ignore-not-found"]).await;
    assert_eq!((ignored.code, ignored.stdout.as_str(), ignored.stderr.as_str()), (0, "", ""));
    let both = shell.run(&["delete", "limits,groups", "--all", "--dry-run"]).await.succeeded();
    assert_eq!(both, "limits/few deleted (dry run)\ngroups/crew deleted (dry run)\n");
    let error = shell.run(&["delete", "limits"]).await.failed(2);
    assert!(error.contains("which of the limits?") && error.contains("--all"), "{error}");
    assert_eq!(shell.run(&["delete", "limits", "--all", "-o", "name"]).await.succeeded(), "limits/few\n");
    // Built-in roles stay.
    let roles = shell.run(&["delete", "roles", "--all"]).await;
    assert_eq!((roles.code, roles.stderr.as_str()), (0, "nothing found\n"));
    let dry = shell.run(&["delete", "user", "alice", "--dry-run=server"]).await;
    assert_eq!(dry.stdout, "users/alice deleted (dry run)\n");
    assert!(dry.stderr.contains("RoleBinding `alice-runs` is deleted too"), "{}", dry.stderr);
    let runs = ["delete", "rolebinding", "alice-runs", "--dry-run"];
    assert_eq!(shell.run(&runs).await.stderr, "", "she may run it as a member of the group");
    shell.run(&["delete", "rolebinding", "crew-runs"]).await.succeeded();
    let dry = shell.run(&runs).await;
    assert!(dry.stderr.contains("User `alice` may no longer run gpt"), "{}", dry.stderr);
}

#[tokio::test]
async fn pruning_removes_what_is_selected_and_in_no_file_together_with_the_apply() {
    let mcpd = Mcpd::start().await;
    let shell = Shell::signed_in(&mcpd).await;
    let group =
        |name: &str, label: &str| format!("kind: Group\nname: {name}\nlabels: {{app: {label}}}\n---\n");
    let all = [group("a", "x"), group("b", "x"), group("other", "y")].concat();
    shell.run_with(&["apply", "-f", "-"], &all).await.succeeded();
    shell.run(&["create", "user", "stays"]).await.succeeded();
    shell.run(&["label", "user", "stays", "app=x"]).await.succeeded();
    let groups = async || shell.run(&["get", "groups", "-o", "name"]).await.succeeded();
    let prune = ["apply", "-f", "f.yaml", "--prune", "-l", "app=x"];
    let with = |more: &[&'static str]| [&prune[..], more].concat();

    shell.file("f.yaml", &group("a", "x"));
    for (args, expected) in [
        (vec!["apply", "-f", "f.yaml", "--prune"], "--selector"),
        (vec!["apply", "-f", "f.yaml", "--prune", "-l", ""], "an empty selector would prune everything"),
        (with(&["--prune-allowlist", "tokens"]), "tokens are not in files"),
    ] {
        let error = shell.run(&args).await.failed(2);
        assert!(error.contains(expected), "{error}");
    }
    let error = shell.run(&prune).await.failed(1);
    assert!(error.contains("  groups/b\n") && error.contains("hint: -y removes it"), "{error}");
    let dry = shell.run(&with(&["--dry-run"])).await.succeeded();
    assert_eq!(dry, "groups/a unchanged (dry run)\ngroups/b pruned (dry run)\n");
    assert_eq!(groups().await, "groups/a\ngroups/b\ngroups/other\n");

    // A document that is refused keeps what would be pruned.
    let wrong = format!(
        "{}kind: RoleBinding\nname: r\nlabels: {{app: x}}\nrole: nope\nsubjects: [{{kind: User, name: stays}}]\n",
        group("a", "x")
    );
    shell.file("f.yaml", &wrong);
    let error = shell.run(&with(&["-y"])).await.failed(1);
    assert!(error.contains("there is no Role `nope`"), "{error}");
    assert_eq!(groups().await, "groups/a\ngroups/b\ngroups/other\n");

    // A document that has lost its label keeps its resource.
    shell.file("f.yaml", &[group("a", "x"), group("b", "gone")].concat());
    assert_eq!(shell.run(&with(&["-y"])).await.succeeded(), "groups/a unchanged\n");
    shell.file("f.yaml", &group("a", "x"));
    assert_eq!(shell.run(&with(&["-y"])).await.succeeded(), "groups/a unchanged\ngroups/b pruned\n");
    let others = shell.run(&with(&["-y", "--prune-allowlist", "users,groups"])).await.succeeded();
    assert_eq!(others, "groups/a unchanged\nusers/stays pruned\n");
    assert_eq!(groups().await, "groups/a\ngroups/other\n");
    assert_eq!(shell.run(&prune).await.succeeded(), "groups/a unchanged\n");
}

#[tokio::test]
async fn pruning_shows_what_is_lost_as_a_deletion_does() {
    let mcpd = Mcpd::start().await;
    let shell = Shell::signed_in(&mcpd).await;
    shell.run(&["create", "secret", "key", "--from-env", "k=HOME"]).await.succeeded();
    shell.run(&["label", "secret", "key", "app=x"]).await.succeeded();
    for llm in ["one", "two", "three"] {
        let url = ["--url", "http://127.0.0.1:1/v1", "--model", "m", "--secret", "key", "--key", "k"];
        shell.run(&[&["create", "llm", llm], &url[..]].concat()).await.succeeded();
    }
    shell.file("f.yaml", "kind: Group\nname: a\n");
    let prune = ["apply", "-f", "f.yaml", "--prune", "-l", "app=x", "--prune-allowlist", "secrets"];
    let error = shell.run(&prune).await.failed(1);
    assert!(error.contains("  secrets/key, and its values\n"), "{error}");
    // One line of each kind of warning, however many resources it is about.
    let warned: Vec<&str> = error.lines().filter(|line| line.contains("`one`")).collect();
    assert!(warned.len() == 1 && ["`two`", "`three`"].iter().all(|llm| warned[0].contains(llm)), "{error}");
}

#[tokio::test]
async fn replace_is_for_what_exists_and_with_force_makes_it_anew() {
    let mcpd = Mcpd::start().await;
    let shell = world(&mcpd).await;
    let id = async |name: &str| shell.run(&["get", name, "-o", "jsonpath={.id}"]).await.succeeded();
    let (alice, crew) = (id("users/alice").await, id("groups/crew").await);
    shell.file("f.yaml", "kind: User\nname: alice\ndisplayName: Alice\n---\nkind: User\nname: nope\n");
    let error = shell.run(&["replace", "-f", "f.yaml"]).await.failed(1);
    assert!(
        error.starts_with("error: f.yaml:5: there is no User `nope`\nhint: `mcpctl create` or"),
        "{error}"
    );
    let name = shell.run(&["get", "user", "alice", "-o", "jsonpath={.displayName}"]).await.succeeded();
    assert_eq!(name, "\n", "nothing is half done");

    shell.file("f.yaml", "kind: User\nname: alice\ndisplayName: Alice\n");
    assert_eq!(shell.run(&["replace", "-f", "f.yaml"]).await.succeeded(), "users/alice replaced\n");
    assert_eq!(id("users/alice").await, alice);
    let table = shell.run(&["get", "users", "alice"]).await.succeeded();
    assert!(table.contains("Alice"), "{table}");

    // The new account inherits nothing of the old one.
    let forced = shell.run(&["replace", "-f", "f.yaml", "--force"]).await;
    assert_eq!(forced.stdout, "users/alice replaced\n", "{}", forced.stderr);
    assert!(forced.stderr.contains("RoleBinding `alice-runs` is deleted too"), "{}", forced.stderr);
    assert_ne!(id("users/alice").await, alice);
    shell.file(
        "g.yaml",
        "kind: Group\nname: crew\nmembers: [{kind: User, name: bob}]\n---\nkind: Group\nname: new\n",
    );
    let forced = shell.run(&["replace", "-f", "g.yaml", "--force", "-o", "name"]).await.succeeded();
    assert_eq!(forced, "groups/crew\ngroups/new\n");
    assert_ne!(id("groups/crew").await, crew);
    // What was read before another change is not written over it.
    let yaml = shell.run(&["get", "group", "crew", "-o", "yaml"]).await.succeeded();
    shell.run(&["label", "group", "crew", "a=b"]).await.succeeded();
    let error = shell.run_with(&["replace", "-f", "-"], &yaml).await.failed(1);
    assert!(error.contains("is at revision"), "{error}");
}
