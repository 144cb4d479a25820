//! `mcpctl chat` as a conversation on a terminal, and as one question of a script.

use std::{fs, os::unix::fs::PermissionsExt as _};

use mcpctl_testkit::{
    daemons::{Mcpd, eventually},
    deployment::Deployment,
    link::Link,
    model_server::{Gate, ModelServer, Reply},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::{
    pty::Terminal,
    shell::{Shell, beside},
};

async fn world() -> (Mcpd, ModelServer, Shell) {
    let (mcpd, provider) = (Mcpd::start().await, ModelServer::start().await);
    mcpd.llm("claude", &provider.base_url()).await;
    mcpd.llm("gpt", &provider.base_url()).await;
    let shell = Shell::signed_in(&mcpd).await;
    (mcpd, provider, shell)
}

/// The messages of the last request.
fn messages(provider: &ModelServer) -> Value {
    provider.inferences().last().unwrap().json()["messages"].clone()
}

#[tokio::test]
async fn turn_after_a_pause_uses_no_broken_connection() {
    let (mcpd, provider) = (Mcpd::start().await, ModelServer::start().await);
    mcpd.llm("claude", &provider.base_url()).await;
    let link = Link::to(mcpd.url()).await;
    let shell = Shell::new();
    let url = link.url();
    shell.run_with(&["login", &url, "--token-stdin", "--context", "c"], &mcpd.admin()).await.succeeded();

    let mut terminal = Terminal::start(&shell, &["chat", "claude"]);
    for turn in ["first", "second", "third"] {
        provider.queue(Reply::text(&format!("the {turn} answer")));
        terminal.shows("claude> ").await;
        terminal.keys(&format!("{turn}\r"));
        terminal.shows(&format!("the {turn} answer")).await;
        // A long pause has this effect: every connection is broken, which shows when it is used.
        link.reset_all();
    }
    let rest = terminal.ends("\x04").await;
    assert!(!rest.contains("error"), "{rest}");
}

#[tokio::test]
async fn text_of_several_lines_is_one_message() {
    let (_mcpd, provider, shell) = world().await;
    let mut terminal = Terminal::start(&shell, &["chat", "claude", "--system", "be brief"]);
    for (keys, expected) in [
        // Pasted, continued by a backslash, by Alt-Enter, and inside a fence.
        ("\x1b[200~one\rtwo\x1b[201~\r", "one\ntwo"),
        ("one\\\rtwo\r", "one\ntwo"),
        ("one\x1b\rtwo\r", "one\ntwo"),
        ("```\rone\r```\r", "```\none\n```"),
    ] {
        provider.queue(Reply::text("the answer"));
        terminal.shows("claude> ").await;
        terminal.keys(keys);
        terminal.shows("the answer").await;
        let messages = messages(&provider);
        assert_eq!(messages[0], json!({"role": "system", "content": "be brief"}));
        assert_eq!(messages.as_array().unwrap().last().unwrap()["content"], expected, "{keys:?}");
    }
    terminal.ends("\x04").await;
}

#[tokio::test]
async fn commands_of_a_conversation() {
    let (_mcpd, provider, shell) = world().await;
    provider.set_default(Reply::text("**the** answer"));
    let mut terminal = Terminal::start(&shell, &["chat", "claude"]);
    terminal.shows("claude> ").await;
    // Tab completes commands and names.
    terminal.keys("/mo\tg\t\r");
    terminal.shows("gpt> ").await;
    for (keys, expected) in [
        ("/system be kind\r", "with these instructions"),
        ("/stats\r", "shown after each answer"),
        ("first question\r", "\r"),
    ] {
        terminal.keys(keys);
        terminal.shows(expected).await;
        if expected != "\r" {
            terminal.shows("gpt> ").await;
        }
    }
    // Emphasis is bold, and its marks are not shown.
    terminal.shows("\u{1b}[0;1mthe\u{1b}[0m answer").await;
    terminal.shows("tokens/s]").await;
    let first = provider.inferences().last().unwrap().json();
    assert_eq!(first["messages"][0]["content"], "be kind");
    terminal.shows("gpt> ").await;
    terminal.keys("/retry\r");
    terminal.shows("answer").await;
    assert_eq!(messages(&provider), first["messages"], "the first answer is not part of the question again");
    terminal.shows("gpt> ").await;
    terminal.keys("/sav x\r");
    terminal.shows("did you mean `/save`?").await;
    terminal.shows("gpt> ").await;
    terminal.keys("/save c.json\r");
    terminal.shows("saved in `c.json`").await;
    terminal.shows("gpt> ").await;
    terminal.keys("/save c.md\r");
    terminal.shows("saved in `c.md`").await;
    terminal.shows("gpt> ").await;
    terminal.keys("/save c.md\r");
    terminal.shows("is there; replace it?").await;
    terminal.keys("/system be brief\r");
    terminal.shows("nothing was saved").await;
    terminal.shows("gpt> ").await;
    terminal.keys("/clear\r");
    terminal.shows("begins anew").await;
    terminal.shows("gpt> ").await;
    terminal.keys("/etc/hosts is what?\r");
    terminal.shows("answer").await;
    assert_eq!(messages(&provider).as_array().unwrap().len(), 2, "instructions and question");
    terminal.shows("gpt> ").await;
    terminal.ends("/quit\r").await;

    let mode = |name: &str| fs::metadata(shell.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("c.json"), mode("c.md")), (0o600, 0o600));
    let saved: Value = serde_json::from_slice(&fs::read(shell.path("c.json")).unwrap()).unwrap();
    assert_eq!(saved["messages"][1], json!({"role": "user", "content": "first question"}));
    let answer = &saved["messages"][2];
    assert_eq!(
        (&answer["role"], &answer["servedBy"], &answer["local"]),
        (&"assistant".into(), &"gpt".into(), &false.into())
    );
    let markdown = fs::read_to_string(shell.path("c.md")).unwrap();
    assert_eq!(
        markdown,
        "## Instructions\n\nbe kind\n\n## You\n\nfirst question\n\n## gpt\n\n**the** answer\n\n"
    );
}

#[tokio::test]
async fn history_has_what_was_typed_and_nothing_else() {
    let (_mcpd, provider, shell) = world().await;
    provider.set_default(Reply::text("my secret answer"));
    let mut terminal = Terminal::start(&shell, &["chat", "claude"]);
    terminal.shows("claude> ").await;
    terminal.keys("what is\\\rthis?\r");
    terminal.shows("secret answer").await;
    terminal.ends("\x04").await;
    let file = shell.path("state/mcpctl/chat-history.jsonl");
    assert_eq!(fs::read_to_string(&file).unwrap(), "\"what is\\nthis?\"\n");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    // The next conversation offers it.
    let mut terminal = Terminal::start(&shell, &["chat", "claude"]);
    terminal.shows("claude> ").await;
    terminal.keys("\x1b[A\r");
    terminal.shows("secret answer").await;
    terminal.ends("\x04").await;
    assert_eq!(messages(&provider)[0]["content"], "what is\nthis?");

    fs::remove_file(&file).unwrap();
    let mut terminal = Terminal::start(&shell, &["chat", "claude", "--no-history"]);
    terminal.shows("claude> ").await;
    terminal.keys("this is private\r");
    terminal.shows("secret answer").await;
    terminal.ends("\x04").await;
    assert!(!file.exists());
}

#[tokio::test]
async fn interrupt_ends_the_answer_and_twice_the_conversation() {
    let (_mcpd, provider, shell) = world().await;
    let gate = Gate::new();
    provider.queue(Reply::pieces(&["begun ", "and ", "never ", "ended"]).gate_after(3, &gate));
    let mut terminal = Terminal::start(&shell, &["chat", "claude"]);
    terminal.shows("claude> ").await;
    terminal.keys("question\r");
    terminal.shows("begun").await;
    // The terminal is not the one of the command's session, so that it sends no signal itself.
    kill(Pid::from_raw(terminal.child.id().unwrap().try_into().unwrap()), Signal::SIGINT).unwrap();
    terminal.shows("[stopped").await;
    provider.wait_for_disconnects(1).await;
    terminal.shows("claude> ").await;
    provider.queue(Reply::text("the next answer"));
    terminal.keys("next\r");
    terminal.shows("the next answer").await;
    assert_eq!(messages(&provider).as_array().unwrap().len(), 1, "the stopped question is not part of it");
    terminal.shows("claude> ").await;
    terminal.keys("half a line\x03");
    terminal.shows("Ctrl-C again").await;
    terminal.ends("\x03").await;
}

#[tokio::test]
async fn local_answer_is_marked_until_the_primary_is_back() {
    let deployment = Deployment::start().await;
    let shell = beside(&deployment.agent);
    shell.run_with(&["login", deployment.mcpd.url(), "--token-stdin"], &deployment.alice).await.succeeded();
    deployment.overload_provider();
    let mut terminal = Terminal::start(&shell, &["chat", "claude"]);
    terminal.shows("claude> ").await;
    terminal.keys("question\r");
    terminal
        .shows("[LOCAL MODEL: answered by the fallback `desk` on this machine, in place of `claude`: ")
        .await;
    terminal.shows("claude (local: desk)> ").await;
    terminal.keys("/model nope\r");
    terminal.shows("there is no Llm `nope` that you may run; still asking").await;
    terminal.keys("/model\r");
    terminal.shows("the fallback `desk` on this machine gave the last answer, in place of `claude`").await;
    deployment.provider.set_default(Reply::text("from the primary"));
    eventually("the primary answers again", async || {
        let status = deployment.agent.status().await;
        status["breakers"].as_array().unwrap().is_empty().then_some(())
    })
    .await;
    terminal.shows("> ").await;
    terminal.keys("question\r");
    terminal.shows("[back at `claude`: it answers itself again]").await;
    terminal.shows("claude> ").await;
    terminal.ends("\x04").await;
}

#[tokio::test]
async fn reasoning_is_dimmed_on_a_terminal_and_not_in_a_pipe() {
    let (_mcpd, provider, shell) = world().await;
    provider.set_default(Reply::text("# Yes\n\nindeed").reasoning("let me think"));
    let terminal = Terminal::start(&shell, &["chat", "claude", "is it?", "--no-history"]);
    terminal.shows("\u{1b}[2mlet").await;
    terminal.shows("\u{1b}[0;1;4mYes\u{1b}[0m").await;
    terminal.shows("indeed").await;
    let raw = Terminal::start(&shell, &["chat", "claude", "is it?", "--raw"]);
    raw.shows("# Yes").await;
    let output = shell.run(&["chat", "claude", "-p", "is it?"]).await;
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("# Yes\n\nindeed\n", ""));
    let answer = shell.run(&["chat", "claude", "-p", "is it?", "-o", "json"]).await.succeeded();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(
        (&answer["content"], &answer["reasoning"]),
        (&"# Yes\n\nindeed".into(), &"let me think".into())
    );
}

#[tokio::test]
async fn question_takes_files_and_what_is_piped_in() {
    let (_mcpd, provider, shell) = world().await;
    let last =
        || messages(&provider).as_array().unwrap().last().unwrap()["content"].as_str().unwrap().to_owned();
    shell.run_with(&["chat", "claude", "sum up"], "a long text\n").await.succeeded();
    assert_eq!(last(), "sum up\n\na long text");
    shell.run_with(&["chat", "claude"], "only this\n").await.succeeded();
    assert_eq!(last(), "only this");
    // With -p standard input is not read.
    shell.run_with(&["chat", "claude", "-p", "hi"], "not this").await.succeeded();
    assert_eq!(last(), "hi");
    shell.file("a.rs", "fn a() {}\n");
    shell.file("b.md", "```\nx\n```\n");
    shell.run(&["chat", "claude", "explain", "-f", "a.rs", "-f", "b.md"]).await.succeeded();
    assert_eq!(last(), "explain\n\na.rs:\n\n```\nfn a() {}\n```\n\nb.md:\n\n````\n```\nx\n```\n````");

    let before = provider.inferences().len();
    fs::write(shell.path("x.png"), b"\x89PNG\r\n\0\xff").unwrap();
    fs::write(shell.path("long.txt"), vec![b'x'; (4 << 20) + 1]).unwrap();
    for (args, code, expected) in [
        (&["chat", "claude", "what?", "-f", "x.png"][..], 1, "`x.png` is not text\nhint: "),
        (&["chat", "claude", "what?", "-f", "long.txt"], 1, "`long.txt` is too long"),
        (&["chat", "claude", "what?", "-f", "gone"], 1, "`gone` cannot be read"),
        (&["chat", "claude", "what?", "--temperature", "3"], 2, "a number from 0 to 2"),
        (&["chat", "claude", "what?", "--max-tokens", "0"], 2, "0"),
        (
            &["chat", "sum this up", "-p", "x"],
            2,
            "is not the name of an Llm\nhint: name it before the question",
        ),
        (&["chat", "claude", " "], 2, "the prompt is empty"),
    ] {
        let error = shell.run(args).await.failed(code);
        assert!(error.contains(expected), "{args:?}: {error}");
    }
    assert_eq!(provider.inferences().len(), before);
}

#[tokio::test]
async fn object_of_an_answer_has_who_gave_it_and_of_an_error_its_next_step() {
    let deployment = Deployment::start().await;
    let shell = beside(&deployment.agent);
    shell.run_with(&["login", deployment.mcpd.url(), "--token-stdin"], &deployment.alice).await.succeeded();
    let ask = async |args: &[&str], code: i32| {
        let args = [&["chat", "claude", "-p", "Hi", "-o", "json"][..], args].concat();
        let output = shell.run(&args).await;
        assert_eq!(
            (output.code, output.stdout.lines().count()),
            (code, 1),
            "{}{}",
            output.stdout,
            output.stderr
        );
        serde_json::from_str::<Value>(&output.stdout).unwrap()
    };
    let answer = ask(&["--temperature", "0.5", "--max-tokens", "7", "--system", "be brief"], 0).await;
    assert_eq!(
        (&answer["model"], &answer["servedBy"], &answer["local"], &answer["failover"], &answer["content"]),
        (&"claude".into(), &"claude".into(), &false.into(), &Value::Null, &"from the primary".into())
    );
    assert!(
        answer["usage"]["outputTokens"].as_u64().unwrap() > 0 && answer["time"]["totalMs"].is_u64(),
        "{answer}"
    );
    let request = deployment.provider.inferences().last().unwrap().json();
    assert_eq!((&request["temperature"], &request["max_tokens"]), (&0.5.into(), &7.into()));
    assert_eq!(request["messages"][0], json!({"role": "system", "content": "be brief"}));

    deployment.overload_provider();
    let answer = ask(&[], 0).await;
    assert_eq!((&answer["servedBy"], &answer["local"]), (&"desk".into(), &true.into()));
    assert_eq!(answer["failover"]["class"], "server_error");

    // Both ways are down.
    deployment.desk.set_default(Reply::error(500, "broken too", "x"));
    let answer = ask(&[], 1).await;
    assert!(answer["error"]["message"].is_string() && answer["error"]["hint"].is_string(), "{answer}");
    let error = shell.run(&["chat", "claude", "-p", "Hi"]).await.failed(1);
    assert!(error.contains("hint: what is wrong on the way: mcpctl doctor --llm claude"), "{error}");
}

#[tokio::test]
async fn wait_for_a_busy_model_is_shown_on_a_terminal_alone() {
    let engine = Deployment::builder().engine("desk", "busy", &["concurrency: 1", "failoverFor: claude"]);
    let deployment = engine.start().await;
    let shell = beside(&deployment.agent);
    shell.run_with(&["login", deployment.mcpd.url(), "--token-stdin"], &deployment.alice).await.succeeded();
    deployment.start_engine("desk").await;
    deployment.hold_engine("desk", "busy");
    let first = shell.command(&["chat", "local/desk", "-p", "Hi"]).spawn().unwrap();
    deployment.engine_shows("desk", "inFlight", 1).await;
    let piped = shell.command(&["chat", "local/desk", "-p", "Hi"]).spawn().unwrap();
    deployment.engine_shows("desk", "queued", 1).await;
    let terminal = Terminal::start(&shell, &["chat", "local/desk", "-p", "Hi"]);
    terminal.shows("local model `desk` is busy: 1 run, ").await;
    deployment.release_engine("desk", "busy");
    for child in [first, piped] {
        let output = child.wait_with_output().await.unwrap();
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "from the engine\n");
    }
    terminal.shows("from the engine").await;

    // The Llm itself may take its time too.
    deployment.mcpd.llm_with_default_timeouts("claude", &deployment.provider.base_url()).await;
    let gate = Gate::new();
    deployment.provider.queue(Reply::pieces(&["at last"]).gate_after(0, &gate));
    let terminal = Terminal::start(&shell, &["chat", "claude", "-p", "Hi"]);
    let before = terminal.shows("waiting for `claude`… 3 s").await;
    gate.release();
    let after = terminal.shows("at last").await;
    assert!(
        !before.contains("desk") && !(before + &after).contains('\n'),
        "one row, and not another's model"
    );
}

#[tokio::test]
async fn answer_without_an_end_is_bounded() {
    let (_mcpd, provider, shell) = world().await;
    let piece = "x".repeat(900 << 10);
    provider.queue(Reply::pieces(&[piece.as_str(); 24]));
    let error = shell.run(&["chat", "claude", "-p", "Hi", "-o", "json"]).await;
    let shown: Value = serde_json::from_str(&error.stdout).unwrap();
    assert_eq!(shown["error"]["message"], "the answer is not complete: it is longer than 16 MiB");
    assert_eq!(shown["error"]["hint"], "bound it with --max-tokens");
}
