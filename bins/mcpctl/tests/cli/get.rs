//! `get`: several kinds, formats, order, labels, suggestions, and a watch that survives a restart.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use mcpctl_testkit::daemons::{Mcpd, eventually};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};

use crate::{shell::Shell, terminal::fake_mcpd};

async fn world() -> (Mcpd, Shell) {
    let mcpd = Mcpd::start().await;
    let shell = Shell::signed_in(&mcpd).await;
    mcpd.apply(json!([
        {"kind": "Llm", "name": "gpt", "type": "openai", "url": "http://127.0.0.1:1/v1", "model": "m2",
         "labels": {"team": "red", "example.com/tier": "gold"}},
        {"kind": "Llm", "name": "claude", "type": "anthropic", "url": "http://127.0.0.1:1", "model": "m1"},
        {"kind": "User", "name": "alice", "displayName": "Alice", "labels": {"team": "red"}},
        {"kind": "Group", "name": "team", "members": [{"kind": "User", "name": "alice"}]},
    ]))
    .await;
    (mcpd, shell)
}

#[tokio::test]
async fn several_kinds_are_shown_with_their_kind() {
    let (mcpd, shell) = world().await;
    let names = shell.run(&["get", "llms,gr", "-o", "name"]).await.succeeded();
    assert_eq!(names, "llms/claude\nllms/gpt\ngroups/team\n");
    let table = shell.run(&["get", "lm,us", "--no-headers"]).await.succeeded();
    assert!(table.starts_with("llms/claude   ") && table.contains("\nusers/alice   "), "{table}");
    assert!(!table.contains("NAME"), "{table}");
    let all = shell.run(&["get", "all", "-o", "name"]).await.succeeded();
    for expected in ["llms/gpt\n", "users/alice\n", "groups/team\n", "roles/admin\n"] {
        assert!(all.contains(expected), "{all}");
    }
    // Kinds that the caller may not view are named, and are no failure.
    let token =
        mcpd.user_with_rules("bob", json!([{"kinds": ["llms"], "verbs": ["view"], "names": ["gpt"]}])).await;
    let bob = Shell::new();
    bob.run_with(&["login", mcpd.url(), "--stdin"], &token).await.succeeded();
    let output = bob.run(&["get", "all", "-o", "name"]).await;
    assert!(output.code == 0 && output.stdout.contains("llms/gpt\n"), "{}{}", output.stdout, output.stderr);
    assert!(!output.stdout.contains("claude") && !output.stdout.contains("groups/"), "{}", output.stdout);
    assert!(output.stderr.contains("left out, because you may not view them: secrets"), "{}", output.stderr);
}

#[tokio::test]
async fn templates_columns_order_and_labels() {
    let (_mcpd, shell) = world().await;
    for (args, expected) in [
        (&["-o", "jsonpath={range .items[*]}{.name}={.model}{\"\\n\"}{end}"][..], "claude=m1\ngpt=m2\n"),
        (&["-o", "jsonpath={.items[?(@.type==\"openai\")].name}"], "gpt\n"),
        (&["-o", "jsonpath={.items[-1].name} {..model}"], "gpt m1 m2\n"),
        (&["-o", "jsonpath-as-json={.items[*].name}"], "[\n  \"claude\",\n  \"gpt\"\n]\n"),
        (
            &["-o", "custom-columns=NAME:.name,T:.labels.team", "--sort-by", ".model"],
            "NAME     T\nclaude   <none>\ngpt      red\n",
        ),
        (&["-o", "custom-columns=N:.name", "--no-headers", "--sort-by={.type}"], "claude\ngpt\n"),
        (&["-o", "name", "--sort-by", "name"], "llms/claude\nllms/gpt\n"),
    ] {
        let args = [&["get", "llms"], args].concat();
        assert_eq!(shell.run(&args).await.succeeded(), expected, "{args:?}");
    }
    shell.file("columns", "NAME   MODEL\n.name  .model\n");
    shell.file("template", "{.items[0].name}");
    let columns = shell.run(&["get", "llms", "-o", "custom-columns-file=columns"]).await.succeeded();
    assert_eq!(columns, "NAME     MODEL\nclaude   m1\ngpt      m2\n");
    assert_eq!(shell.run(&["get", "llms", "-o", "jsonpath-file=template"]).await.succeeded(), "claude\n");

    let labels =
        shell.run(&["get", "llms", "-L", "team,example.com/tier", "--show-labels"]).await.succeeded();
    let rows: Vec<Vec<&str>> = labels.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0][5..], ["AGE", "TEAM", "TIER", "LABELS"]);
    assert!(labels.contains("   red    gold   example.com/tier=gold, team=red\n"), "{labels}");
    let error = shell.run(&["get", "llms", "--sort-by", ".modle"]).await.failed(2);
    assert_eq!(error, "error: llms: no field `.modle`\nhint: did you mean `.model`?\n");
    for (args, meant) in [
        (&["-o", "jsonpath={.items[*].metadata.name}"][..], ".items[*].name"),
        (&["-o", "jsonpath-as-json={.metadata.name}"], ".items[*].name"),
        (&["-o", "jsonpath={.items[?(@.metadata.name=='gpt')].model}"], "@.name"),
        (&["-o", "custom-columns=N:.metadata.name,M:.model"], ".name"),
    ] {
        let output = shell.run(&[&["get", "llms"], args].concat()).await;
        assert!(
            output.code == 0 && output.stderr.starts_with("warning: llms: no field `"),
            "{}",
            output.stderr
        );
        assert!(output.stderr.ends_with(&format!("\nhint: did you mean `{meant}`?\n")), "{}", output.stderr);
    }
    let one = shell.run(&["get", "llm", "gpt", "-o", "jsonpath={.items[*].name}"]).await;
    assert!(one.code == 0 && one.stderr.ends_with("did you mean `.name`?\n"), "{}", one.stderr);
    // A field that only some have is no mistake.
    let optional =
        shell.run(&["get", "llms", "-o", "custom-columns=N:.name,K:.apiKey.secret,T:.labels.x"]).await;
    assert_eq!(optional.stderr, "");
    let error = shell.run(&["wait", "llm/gpt", "--for=jsonpath={.spec.model}=m2"]).await.failed(2);
    assert_eq!(error, "error: llms: no field `.spec.model`\nhint: did you mean `.model`?\n");
    let error = shell.run(&["get", "llms", "-o", "jsonpath={.items[?(@.name=~'g')].name}"]).await.failed(2);
    assert!(error.contains("`=~` is not supported"), "{error}");
    // Users have no model.
    let both = shell.run(&["get", "users,llms", "--sort-by", ".model", "-o", "name"]).await.succeeded();
    assert!(both.ends_with("users/alice\nllms/claude\nllms/gpt\n"), "{both}");
}

#[tokio::test]
async fn unknown_kinds_and_names_get_a_suggestion() {
    let (mcpd, shell) = world().await;
    for (args, message, hint) in [
        (&["get", "lmls"][..], "`lmls` is not a kind", "did you mean `llms`?"),
        (&["get", "llm", "gtp"], "there is no Llm `gtp`", "did you mean `gpt`?"),
        (&["describe", "llm/cluade"], "there is no Llm `cluade`", "did you mean `claude`?"),
        (&["llm", "test", "gtp"], "there is no Llm `gtp`", "did you mean `gpt`?"),
        (&["chat", "gtp", "-p", "hi"], "`gtp`", "did you mean `gpt`?"),
        (&["chat", "nope", "-p", "hi"], "`nope`", "you may run: claude, gpt"),
        (&["usage", "--llm", "gtp"], "no usage from", "did you mean `gpt`?"),
        (&["audit", "--action", "fallover"], "nothing found", "did you mean `failover`?"),
        (&["audit", "--user", "alcie"], "nothing found", "did you mean `alice`?"),
        (&["get", "usage"], "usage is not a kind of resource", "`mcpctl usage` shows it"),
        (&["gte", "llms"], "unrecognized subcommand 'gte'", "did you mean `get`?"),
        (&["get", "llms", "--selectr", "a"], "unexpected argument '--selectr'", "'--selector'"),
    ] {
        assert!(shell.run(args).await.stderr.contains(hint), "{args:?}, in a pipe too");
        let (_, shown) = shell.on_a_terminal(args).await;
        let (error, next) = shown.split_once('\n').unwrap();
        assert!(error.contains(message) && next.contains(hint), "{args:?}: {shown}");
    }
    assert_eq!(shell.run(&["get", "llm", "gtp", "--ignore-not-found"]).await.succeeded(), "");
    // A caller learns no name that a list does not show.
    let token = mcpd
        .user_with_rules("bob", json!([{"kinds": ["llms"], "verbs": ["view"], "names": ["gtp", "claude"]}]))
        .await;
    let bob = Shell::new();
    bob.run_with(&["login", mcpd.url(), "--stdin"], &token).await.succeeded();
    let (code, error) = bob.on_a_terminal(&["get", "llm", "gtp"]).await;
    assert!(code == 1 && !error.contains("gpt"), "{error}");
}

async fn next(lines: &mut Lines<BufReader<impl tokio::io::AsyncRead + Unpin>>) -> String {
    let line = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await.expect("in time");
    line.unwrap().expect("the watch continues")
}

#[tokio::test]
async fn watch_goes_on_after_a_restart_and_stays_aligned() {
    let (mut mcpd, shell) = world().await;
    let mut child = shell.command(&["get", "groups", "-w"]).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut err = BufReader::new(child.stderr.take().unwrap()).lines();
    let header = next(&mut out).await;
    assert!(next(&mut out).await.starts_with("team "), "{header}");
    let mut only = shell.command(&["get", "groups", "--watch-only", "-o", "name"]).spawn().unwrap();
    let mut only_out = BufReader::new(only.stdout.take().unwrap()).lines();
    let mut only_err = BufReader::new(only.stderr.take().unwrap()).lines();

    // What is there already is not shown, so changes are made until it follows.
    let mut shown = None;
    while shown.is_none() {
        shell.run(&["patch", "group", "team", "-p", "description: x"]).await.succeeded();
        shell.run(&["patch", "group", "team", "-p", "description: null"]).await.succeeded();
        assert!(next(&mut out).await.starts_with("team ") && next(&mut out).await.starts_with("team "));
        shown = tokio::time::timeout(Duration::from_millis(200), only_out.next_line()).await.ok();
    }
    assert_eq!(next(&mut only_out).await, "groups/team");

    mcpd.kill();
    mcpd.restart().await;
    for err in [&mut err, &mut only_err] {
        let lines = [next(err).await, next(err).await];
        assert!(lines[0].ends_with(" was lost; trying again"), "{lines:?}");
        assert!(lines[1].starts_with("connected again; the watch goes on from revision "), "{lines:?}");
    }
    shell.run(&["create", "group", "a-group-with-a-longer-name"]).await.succeeded();
    assert_eq!(next(&mut only_out).await, "groups/a-group-with-a-longer-name");
    assert!(next(&mut out).await.starts_with("a-group-with-a-longer-name   "));
    // Columns grow with the texts, and do not shrink again.
    shell.run(&["create", "group", "short", "--member", "User/alice"]).await.succeeded();
    let row = next(&mut out).await;
    assert_eq!(row.find("User alice"), Some("a-group-with-a-longer-name   ".len()), "{row}");
    shell.run(&["delete", "group", "short"]).await.succeeded();
    assert_eq!(next(&mut err).await, "groups/short deleted");
    assert_eq!(next(&mut only_out).await, "groups/short");
    assert_eq!(next(&mut only_err).await, "groups/short deleted");
}

#[tokio::test]
async fn watch_of_a_revoked_session_ends_with_the_reason() {
    let (mcpd, shell) = world().await;
    let token =
        mcpd.user_with_rules("bob", json!([{"kinds": ["llms"], "verbs": ["view"], "names": ["*"]}])).await;
    let bob = Shell::new();
    bob.run_with(&["login", mcpd.url(), "--stdin"], &token).await.succeeded();
    let mut child = bob.command(&["get", "llms", "-w", "-o", "json"]).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(next(&mut out).await, "{");
    shell.run(&["patch", "user", "bob", "-p", "disabled: true"]).await.succeeded();
    let output =
        tokio::time::timeout(Duration::from_secs(60), child.wait_with_output()).await.unwrap().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    let last = errors.lines().find(|line| line.starts_with("error: ")).unwrap();
    assert!(
        last.contains("disabled") || last.contains("not accepted") || last.contains("credential"),
        "{errors}"
    );
}

/// A server in mcpd's place without resources, whose watches are answered so, and when each path was requested.
async fn counting(watch: (u16, &'static str)) -> (Shell, Requests) {
    let requests = Requests::default();
    let seen = Arc::clone(&requests);
    let server = fake_mcpd(move |request| {
        let path = request.split([' ', '?']).nth(1).unwrap().to_owned();
        let is_watch = path == "/api/v1/watch";
        let is_one = path.starts_with("/api/v1/llms/");
        seen.lock().unwrap().entry(path).or_default().push(Instant::now());
        let json = "content-type: application/json\r\n".to_owned();
        let source = format!("{json}mcpctl-error-source: mcpd\r\n");
        let error = |code: &str| {
            let error =
                json!({"message": "no", "type": "invalid_request_error", "code": code, "param": null});
            json!({"error": error}).to_string()
        };
        match (is_watch, is_one) {
            (true, _) if watch.0 == 200 => {
                (200, "content-type: text/event-stream\r\n".to_owned(), String::new())
            }
            (true, _) => (watch.0, source, error(watch.1)),
            (_, true) => (404, source, error("not_found")),
            _ => (200, json, json!({"revision": 5, "items": []}).to_string()),
        }
    })
    .await;
    let mut shell = Shell::new();
    shell.env.push(("MCPCTL_SERVER", server));
    shell.env.push(("MCPCTL_TOKEN", "mcpd_token".to_owned()));
    (shell, requests)
}

/// When each path was requested.
type Requests = Arc<Mutex<HashMap<String, Vec<Instant>>>>;

#[tokio::test]
async fn watch_that_ends_at_once_is_tried_less_and_less_often() {
    for (status, line) in [(200, "was lost; trying again"), (410, "no longer keeps the changes")] {
        let (shell, requests) = counting((status, "compacted")).await;
        let mut child = shell.command(&["get", "groups", "-w"]).spawn().unwrap();
        let times = eventually("four requests", async || {
            let times = requests.lock().unwrap().get("/api/v1/watch").cloned()?;
            (times.len() >= 4).then_some(times)
        })
        .await;
        // The waits are 250, 500 and 1000 ms at least.
        assert!(times[3] - times[0] >= Duration::from_millis(1_700), "{status}: {times:?}");
        child.start_kill().unwrap();
        let errors = String::from_utf8(child.wait_with_output().await.unwrap().stderr).unwrap();
        assert!(errors.contains(line) && !errors.contains("connected again"), "{errors}");
        assert!(status == 410 || errors.lines().count() == 1, "{errors}");
    }
}

#[tokio::test]
async fn names_are_read_once_for_all_that_are_missing() {
    let (shell, requests) = counting((200, "")).await;
    let lists = || requests.lock().unwrap().get("/api/v1/llms").map_or(0, Vec::len);
    shell.run(&["get", "llm", "a", "b", "c"]).await.failed(1);
    assert_eq!(lists(), 1);
}

#[tokio::test]
async fn watch_shows_events_where_they_are_asked_for() {
    let (_mcpd, shell) = world().await;
    let watch = |format: &str| {
        let args = ["get", "groups", "-w", "--output-watch-events", "-o", format];
        let mut child = shell.command(&args).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap()).lines();
        (child, out)
    };
    let (_json_child, mut json) = watch("json");
    let (_table_child, mut table) = watch("table");
    let (_columns_child, mut columns) = watch("custom-columns=NAME:.name,WHAT:.description");
    let (_path_child, mut path) = watch("jsonpath={.type} {.object.name}");
    let (_yaml_child, mut yaml) = watch("yaml");
    let event = |line: &str| {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        (event["type"].as_str().unwrap().to_owned(), event["object"].clone())
    };
    let (what, object) = event(&next(&mut json).await);
    assert_eq!((what.as_str(), &object["name"]), ("ADDED", &json!("team")));
    assert!(next(&mut table).await.starts_with("EVENT   NAME "));
    assert!(next(&mut table).await.starts_with("ADDED   team "));
    assert_eq!(next(&mut columns).await, "EVENT   NAME   WHAT");
    assert_eq!(next(&mut columns).await, "ADDED   team   <none>");
    assert_eq!(next(&mut path).await, "ADDED team");
    assert_eq!(next(&mut yaml).await, "type: ADDED");

    shell.run(&["patch", "group", "team", "-p", "description: x"]).await.succeeded();
    let (what, object) = event(&next(&mut json).await);
    assert_eq!((what.as_str(), &object["description"]), ("MODIFIED", &json!("x")));
    assert!(next(&mut table).await.starts_with("MODIFIED   team "));
    assert_eq!(next(&mut columns).await, "MODIFIED   team   x");
    assert_eq!(next(&mut path).await, "MODIFIED team");

    shell.run(&["delete", "group", "team"]).await.succeeded();
    let (what, object) = event(&next(&mut json).await);
    assert_eq!((what.as_str(), &object["description"]), ("DELETED", &json!("x")));
    assert!(next(&mut table).await.starts_with("DELETED    team "));
    assert_eq!(next(&mut columns).await, "DELETED    team   x");
    assert_eq!(next(&mut path).await, "DELETED team");
    // Until the last of three documents.
    let mut documents = vec![String::new()];
    while documents.len() < 3 || !documents[2].contains("description: x") {
        match next(&mut yaml).await.as_str() {
            "---" => documents.push(String::new()),
            line => documents.last_mut().unwrap().push_str(&format!("{line}\n")),
        }
    }
    assert!(documents[2].starts_with("type: DELETED\nobject:\n"), "{documents:?}");
    let error = shell.run(&["get", "groups", "--output-watch-events"]).await.failed(2);
    assert!(error.contains("is for a watch"), "{error}");
}

/// mcpd has forgotten the revision that was seen last: what differs is shown, and nothing else.
#[tokio::test]
async fn watch_lists_anew_what_it_missed() {
    let (mcpd, _) = world().await;
    mcpd.apply(json!([{"kind": "Group", "name": "gone"}, {"kind": "Group", "name": "same"}])).await;
    let before: serde_json::Value = mcpd.get("/api/v1/groups", &mcpd.admin()).await.json().await.unwrap();
    let admin = Shell::signed_in(&mcpd).await;
    admin.run(&["delete", "group", "gone"]).await.succeeded();
    admin.run(&["patch", "group", "team", "-p", "description: changed"]).await.succeeded();
    admin.run(&["create", "group", "new"]).await.succeeded();
    let after: serde_json::Value = mcpd.get("/api/v1/groups", &mcpd.admin()).await.json().await.unwrap();
    for (args, shown, notes) in [
        (
            &["--watch-only"][..],
            &["groups/new", "groups/team"][..],
            &["mcpd no longer keeps the changes since revision ", "groups/gone deleted"][..],
        ),
        (
            &["--watch-only", "--output-watch-events"],
            &["groups/new", "groups/team"],
            &["mcpd no longer keeps the changes since revision ", "groups/gone deleted"],
        ),
    ] {
        let lists = Arc::new(Mutex::new(vec![after.to_string(), before.to_string()]));
        let present = format!("since={}", after["revision"]);
        let server = fake_mcpd(move |request| {
            let json = "content-type: application/json\r\n".to_owned();
            if request.contains("/api/v1/watch") {
                let error = json!({"message": "no", "type": "invalid_request_error", "code": "compacted", "param": null});
                return match request.contains(&present) {
                    true => (200, "content-type: text/event-stream\r\n".to_owned(), ": ok\n\n".to_owned()),
                    false => (
                        410,
                        format!("{json}mcpctl-error-source: mcpd\r\n"),
                        json!({"error": error}).to_string(),
                    ),
                };
            }
            let mut lists = lists.lock().unwrap();
            let list = if lists.len() > 1 { lists.pop().unwrap() } else { lists[0].clone() };
            (200, json, list)
        })
        .await;
        let mut shell = Shell::new();
        shell.env.push(("MCPCTL_SERVER", server));
        shell.env.push(("MCPCTL_TOKEN", "mcpd_token".to_owned()));
        let mut child = shell.command(&[&["get", "groups", "-o", "name"], args].concat()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut err = BufReader::new(child.stderr.take().unwrap()).lines();
        for expected in notes {
            let line = next(&mut err).await;
            assert!(line.starts_with(expected), "{line}");
        }
        for expected in shown {
            assert_eq!(next(&mut out).await, *expected);
        }
        // The stream of the new revision ends, and is asked for again: nothing is shown twice.
        assert!(next(&mut err).await.ends_with("was lost; trying again"));
    }
}

#[tokio::test]
async fn kinds_that_may_not_be_viewed_are_refused_and_not_empty() {
    let (mcpd, shell) = world().await;
    let bob = Shell::new();
    let rules = json!([{"kinds": ["llms"], "verbs": ["view"], "names": ["nope"]}]);
    let token = mcpd.user_with_rules("bob", rules).await;
    bob.run_with(&["login", mcpd.url(), "--stdin"], &token).await.succeeded();
    let hint = "hint: `mcpctl auth can-i --list` shows what you may do\n";
    for (args, refused) in [
        (&["get", "users"][..], true),
        (&["get", "users", "-o", "name"], true),
        (&["describe", "groups"], true),
        (&["delete", "limits", "--all"], true),
        (&["get", "llms"], false),
        (&["get", "tokens"], false),
        (&["get", "users,llms"], false),
    ] {
        let output = bob.run(args).await;
        assert_eq!(output.code, i32::from(refused), "{args:?}: {}", output.stderr);
        let denied = output.stderr.contains("error: you may not view ") && output.stderr.ends_with(hint);
        assert_eq!(denied, refused, "{args:?}: {}", output.stderr);
    }
    assert_eq!(shell.run(&["get", "limits"]).await.code, 0, "there is none");
    for sort in ["AGE", ".age"] {
        let error = shell.run(&["get", "llms", "--sort-by", sort]).await.failed(2);
        assert!(error.ends_with("hint: did you mean `.createdAt`?\n"), "{error}");
    }
}
