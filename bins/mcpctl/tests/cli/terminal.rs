//! Text from other parties on a terminal: it is shown and has no effect. Programs get every byte of it.

use std::{os::unix::fs::PermissionsExt as _, sync::Arc};

use mcpctl_api::visible::is_hidden;
use mcpctl_testkit::daemons::{Mcpd, Mcplocal, eventually};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::shell::{Shell, beside};

/// Clears the screen, sets the title, the same as C1, reorders, hides.
const EVIL: &str = "\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}txt\u{200b}\u{2066}\rx";

/// Fails unless the evil text is visible, without terminal commands or hidden characters.
fn assert_shown(what: &str, shown: &str) {
    let hidden = shown.chars().find(|c| is_hidden(*c) && !matches!(c, '\n' | '\t'));
    assert_eq!(hidden, None, "{what}: {shown:?}");
    assert!(shown.contains("[2J") && shown.contains("\\u202e"), "{what}: {shown:?}");
}

/// A server in mcpd's place; `answer` returns status, headers and body for a request line.
pub async fn fake_mcpd(answer: impl Fn(&str) -> (u16, String, String) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let answer = Arc::clone(&answer);
            tokio::spawn(async move { serve(connection, &*answer).await });
        }
    });
    url
}

async fn serve(mut connection: TcpStream, answer: &(dyn Fn(&str) -> (u16, String, String) + Send + Sync)) {
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&request).contains("\r\n\r\n") {
        match connection.read(&mut buffer).await {
            Ok(read @ 1..) => request.extend_from_slice(&buffer[..read]),
            _ => return,
        }
    }
    let text = String::from_utf8_lossy(&request).into_owned();
    let (status, headers, body) = answer(text.lines().next().unwrap());
    let head = format!("HTTP/1.1 {status} X\r\n{headers}connection: close\r\n\r\n");
    let _ = connection.write_all(head.as_bytes()).await;
    // In pieces, which split escapes.
    for piece in body.as_bytes().chunks(7) {
        let _ = connection.write_all(piece).await;
        let _ = connection.flush().await;
    }
    let _ = connection.shutdown().await;
}

/// A user as mcpd shows it, with a text that mcpd rejects.
async fn user() -> Value {
    let mcpd = Mcpd::start().await;
    mcpd.apply(json!([{"kind": "User", "name": "mallory", "displayName": "x"}])).await;
    let mut user: Value = mcpd.get("/api/v1/users/mallory", &mcpd.admin()).await.json().await.unwrap();
    user["displayName"] = EVIL.into();
    user
}

fn event(name: &str, data: &Value) -> String {
    format!("event: {name}\nid: 9\ndata: {data}\n\n")
}

async fn evil_mcpd() -> String {
    let user = user().await;
    let json = "content-type: application/json\r\n".to_owned();
    let stream = "content-type: text/event-stream\r\n".to_owned();
    let chunk = |text: &str| {
        let choice = json!({"index": 0, "delta": {"content": text}, "finish_reason": null});
        format!("data: {}\n\n", json!({"id": "x", "model": "m", "choices": [choice]}))
    };
    fake_mcpd(move |request| {
        let words: Vec<&str> = request.split(' ').collect();
        match (words[0], words[1].split('?').next().unwrap()) {
            ("GET", "/api/v1/users") => (200, json.clone(), json!({"revision": 5, "items": [user]}).to_string()),
            ("GET", "/api/v1/users/mallory") => (200, json.clone(), user.to_string()),
            ("GET", "/api/v1/watch") => {
                let gone = json!({"name": format!("{EVIL}\nerror: forged"), "id": user["id"]});
                (200, stream.clone(), event("put", &user) + &event("delete", &gone))
            }
            ("POST", "/api/v1/apply") => {
                let result = json!({"kind": "User", "name": "mallory", "outcome": "configured", "id": user["id"], "revision": 5});
                let report =
                    json!({"revision": 5, "dryRun": true, "results": [result], "warnings": [format!("{EVIL}\nwarning: forged")]});
                (200, json.clone(), report.to_string())
            }
            ("GET", "/openapi.json") => (200, json.clone(), json!({"info": {"version": EVIL}}).to_string()),
            ("POST", "/v1/chat/completions") => {
                let (one, other) = EVIL.split_at(3);
                let end = json!({"id": "x", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
                let body = format!("{}{}data: {end}\n\ndata: [DONE]\n\n", chunk(one), chunk(&format!("{other}\n\tend")));
                (200, stream.clone(), body)
            }
            _ => {
                let hint = format!("{EVIL}\nhint: forged");
                let error = json!({"error": {"message": EVIL, "type": "permission_error", "code": "forbidden", "param": null, "hint": hint}});
                (403, format!("{json}mcpctl-error-source: mcpd\r\n"), error.to_string())
            }
        }
    })
    .await
}

async fn shell_of(server: &str) -> Shell {
    let mut shell = Shell::new();
    shell.env.push(("MCPCTL_SERVER", server.to_owned()));
    shell.env.push(("MCPCTL_TOKEN", "mcpd_token".to_owned()));
    shell.env.push(("NO_COLOR", "1".to_owned()));
    shell.env.push(("TERM", "xterm-256color".to_owned()));
    let document = json!({"kind": "User", "name": "mallory", "displayName": "before"});
    shell.file("f.yaml", &document.to_string());
    shell
}

#[tokio::test]
async fn every_format_hides_terminal_commands() {
    let shell = shell_of(&evil_mcpd().await).await;
    for args in [
        &["get", "users"][..],
        &["get", "users", "-o", "wide"],
        &["get", "users", "-o", "json"],
        &["get", "users", "-o", "yaml"],
        &["get", "users", "-o", "jsonpath={.items[*].displayName}"],
        &["get", "users", "-w"],
        &["get", "users", "-w", "-o", "json"],
        &["get", "user", "mallory", "-o", "jsonpath={.displayName}"],
        &["describe", "user", "mallory"],
        &["diff", "-f", "f.yaml"],
        &["apply", "-f", "f.yaml", "--dry-run"],
        &["version"],
        &["doctor"],
        &["chat", "claude", "-p", "Hi", "--direct"],
    ] {
        let (_, shown) = shell.on_a_terminal(args).await;
        assert_shown(&format!("{args:?}"), &shown);
        assert!(
            !shown.lines().any(|line| line.contains("forged") && !line.contains("[2J")),
            "{args:?}: {shown}"
        );
    }
}

#[tokio::test]
async fn errors_and_hints_hide_terminal_commands() {
    let shell = shell_of(&evil_mcpd().await).await;
    for args in
        [&["get", "llms"][..], &["delete", "llm", "x"], &["whoami"], &["auth", "can-i", "run", "llms"]]
    {
        let (code, shown) = shell.on_a_terminal(args).await;
        assert_eq!(code, 1, "{shown}");
        assert_shown(&format!("{args:?}"), &shown);
        assert_eq!(shown.lines().count(), 2, "{shown}");
        let piped = shell.run(args).await;
        assert!(!piped.stderr.contains(|c| is_hidden(c) && c != '\n'), "{:?}", piped.stderr);
    }
}

#[tokio::test]
async fn json_on_a_terminal_keeps_its_meaning() {
    let shell = shell_of(&evil_mcpd().await).await;
    let (_, shown) = shell.on_a_terminal(&["get", "user", "mallory", "-o", "json"]).await;
    let value: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(value["displayName"], EVIL);
}

#[tokio::test]
async fn programs_get_every_byte() {
    let shell = shell_of(&evil_mcpd().await).await;
    let output = shell.run(&["get", "user", "mallory", "-o", "jsonpath={.displayName}"]).await.succeeded();
    assert_eq!(output, format!("{EVIL}\n"));
    let output = shell.run(&["get", "user", "mallory", "-o", "json"]).await.succeeded();
    assert_eq!(serde_json::from_str::<Value>(&output).unwrap()["displayName"], EVIL);
    let output = shell.run(&["get", "user", "mallory", "-o", "yaml"]).await.succeeded();
    assert_eq!(serde_saphyr::from_str::<Value>(&output).unwrap()["displayName"], EVIL);
    let output = shell.run(&["chat", "claude", "-p", "Hi", "--direct"]).await.succeeded();
    assert_eq!(output, format!("{EVIL}\n\tend\n"));
    // A table is for people, also in a pipe.
    let output = shell.run(&["get", "users"]).await.succeeded();
    assert!(!output.contains(|c| is_hidden(c) && c != '\n'), "{output:?}");
}

#[tokio::test]
async fn own_colours_are_kept() {
    let mut shell = shell_of(&evil_mcpd().await).await;
    shell.env.retain(|(name, _)| *name != "NO_COLOR");
    let (_, shown) = shell.on_a_terminal(&["diff", "-f", "f.yaml"]).await;
    for own in
        ["\u{1b}[33mwarning:", "\u{1b}[1musers/mallory", "\u{1b}[31m- displayName", "\u{1b}[32m+ displayName"]
    {
        assert!(shown.contains(own), "{own:?}: {shown:?}");
    }
    assert!(!shown.contains("\u{1b}[2J") && !shown.contains(['\u{9b}', '\u{202e}', '\u{7}']), "{shown:?}");
    let piped = shell.run(&["diff", "-f", "f.yaml"]).await;
    assert!(!piped.stderr.contains('\u{1b}') && !piped.stdout.contains("\u{1b}[3"), "{:?}", piped.stdout);
}

#[tokio::test]
async fn engine_logs_and_states_hide_terminal_commands() {
    let mcpd = Mcpd::start().await;
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("llama-server");
    std::fs::write(dir.path().join("log"), format!("{EVIL}\nerror: {EVIL}\n")).unwrap();
    std::fs::write(&program, format!("#!/bin/sh\ncat '{}/log' >&2\nexit 3\n", dir.path().display())).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::write(dir.path().join("m.gguf"), "x").unwrap();
    let agent = Mcplocal::start(&format!(
        "server: {}\nproviders:\n  - name: desk\n    type: llama-server-managed\n    command: {}\n    model: {}/m.gguf\n",
        mcpd.url(),
        program.display(),
        dir.path().display()
    ))
    .await;
    let mut shell = beside(&agent);
    shell.env.push(("NO_COLOR", "1".to_owned()));
    let (code, shown) = shell.on_a_terminal(&["local", "start", "desk"]).await;
    assert_eq!(code, 1, "{shown}");
    assert!(!shown.contains(|c| is_hidden(c) && c != '\n'), "{shown:?}");
    eventually("the failure is reported", async || {
        let status = agent.status().await;
        status["providers"][0]["engine"]["lastError"].is_string().then_some(())
    })
    .await;
    for args in [&["local", "logs", "desk"][..], &["local", "status"], &["local", "status", "-o", "json"]] {
        let (_, shown) = shell.on_a_terminal(args).await;
        let hidden = shown.chars().find(|c| is_hidden(*c) && !matches!(c, '\n' | '\t'));
        assert_eq!(hidden, None, "{args:?}: {shown:?}");
    }
    let (_, shown) = shell.on_a_terminal(&["local", "logs", "desk"]).await;
    assert_shown("the log", &shown);
    let log = shell.run(&["local", "logs", "desk"]).await.succeeded();
    // The agent keeps overwritten text as a line of its own.
    assert!(log.contains(&EVIL.replace('\r', "\n")), "{log:?}");
}
