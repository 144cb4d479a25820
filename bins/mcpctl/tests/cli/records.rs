//! What is on record, as people read it: usage and the audit.

use mcpctl_testkit::{central::Central, model_server::Reply};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::shell::Shell;

async fn chat(world: &Central, llm: &str) {
    let body = json!({"model": llm, "messages": [{"role": "user", "content": "hello there"}]});
    let answer = world.mcpd.post("/v1/chat/completions", &world.alice, &body).await;
    assert_eq!(answer.status(), StatusCode::OK);
    answer.bytes().await.unwrap();
}

/// Without what differs from run to run.
fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[tokio::test]
async fn usage_of_a_deleted_llm_is_told_apart_from_one_made_later() {
    let world = Central::start(&["gpt"]).await;
    let shell = Shell::signed_in(&world.mcpd).await;
    chat(&world, "gpt").await;
    shell.run(&["delete", "llm", "gpt", "--yes"]).await.succeeded();
    world.mcpd.llm("gpt", &world.provider.base_url()).await;
    chat(&world, "gpt").await;
    let table = shell.run(&["usage", "--by", "llm"]).await.succeeded();
    let mut rows: Vec<_> =
        lines(&table)[1..3].iter().map(|row| row.split(" 1 ").next().unwrap().to_owned()).collect();
    rows.sort();
    assert_eq!(rows, ["gpt", "gpt (deleted)"], "{table}");
}

#[tokio::test]
async fn usage_is_a_table_with_shares_or_comma_separated_values() {
    let world = Central::start(&["gpt", "claude"]).await;
    let mut shell = Shell::signed_in(&world.mcpd).await;
    let nothing = shell.run(&["usage", "--since", "yesterday"]).await;
    assert!(nothing.stderr.starts_with("no usage from 20"), "{}", nothing.stderr);
    let url = world.provider.base_url();
    world
        .mcpd
        .apply(json!([{"kind": "Llm", "name": "gpt", "type": "openai", "url": url, "model": "m",
            "price": {"input": 10_000, "output": 10_000}, "retries": {"max": 0}, "fallbacks": [{"llm": "claude"}]}]))
        .await;
    for _ in 0..3 {
        chat(&world, "gpt").await;
    }
    world.provider.queue(Reply::error(503, "busy", "busy"));
    chat(&world, "gpt").await;

    let table = shell.run(&["usage"]).await.succeeded();
    let expected = [
        "USER LLM REQUESTS FAILED FALLBACKS INPUT OUTPUT COST",
        "User alice gpt 4 1 6 6 $0.12",
        "User alice claude 0 1 2 2 ?",
        "TOTAL 4 1 1 8 8 $0.12 + ?",
    ];
    assert_eq!(lines(&table), expected, "{table}");
    assert!(table.contains("REQUESTS   FAILED"), "numbers are aligned: {table}");
    let plot = shell.run_on(80, &["usage", "--plot", "--by", "llm"]).await.succeeded();
    assert!(plot.contains("100% ##########") && plot.contains("  0%"), "{plot}");
    let all = shell.run_on(80, &["usage", "--plot", "--by", "user,llm,model,day"]).await.succeeded();
    assert!(all.lines().all(|line| line.chars().count() <= 80), "{all}");

    let csv = shell.run(&["usage", "--by", "llm,day", "-o", "csv"]).await.succeeded();
    let mut rows = csv.lines();
    assert!(
        rows.next().unwrap().starts_with("llm,llm_id,day,requests,failures,fallbacks,input_tokens,"),
        "{csv}"
    );
    let claude = rows.next().unwrap();
    assert!(claude.starts_with("claude,c") && claude.ends_with(",0,0,1,2,2,0,0,0,0,1,0"), "{csv}");
    let page: Value =
        serde_json::from_str(&shell.run(&["usage", "--user", "alice", "-o", "json"]).await.succeeded())
            .unwrap();
    assert_eq!((&page["totals"]["requests"], &page["complete"]), (&json!(4), &json!(true)));
    assert_eq!(page["items"].as_array().unwrap().len(), 2);

    // Days are those of the zone.
    shell.env.push(("TZ", "America/New_York".to_owned()));
    let here = jiff::Timestamp::now().in_tz("America/New_York").unwrap();
    let days = shell.run(&["usage", "--by", "day", "--since", "today"]).await;
    let period = format!("usage from {} 00:00 to ", here.strftime("%F"));
    let is_now = days.stderr.starts_with(&period) && days.stderr.contains(" America/New_York");
    // At midnight the day may change in between.
    assert!(is_now || here.hour() == 23 && here.minute() > 55, "{}", days.stderr);
    assert!(days.stdout.contains(&here.strftime("%F").to_string()) || !is_now, "{}", days.stdout);
    shell.env.pop();

    let may = shell.run(&["auth", "can-i", "view", "usage", "ServiceAccount/ci"]).await.succeeded();
    assert!(may.starts_with("yes: role `admin`"), "{may}");
    let who = shell.run(&["auth", "who-can", "view", "audit/alice"]).await.succeeded();
    assert_eq!(lines(&who)[1], "User admin admin admin", "{who}");

    for (args, error) in [
        (&["auth", "who-can", "view", "usage"][..], "whose usage?"),
        (&["auth", "can-i", "view", "usage", "group/g"], "this takes a User or a ServiceAccount"),
        (&["usage", "--by", "users"], "usage is shown by user, group, llm, model, day or hour"),
        (&["usage", "--since", "soon"], "a time is e.g. `yesterday`"),
        (&["get", "usage"], "usage is not a kind of resource\nhint: `mcpctl usage` shows it"),
    ] {
        let text = shell.run(args).await.failed(2);
        assert!(text.contains(error), "{text}");
    }
    let text = shell.run(&["usage", "--user", "group/x"]).await.failed(1);
    assert!(text.contains("`user/NAME` or `serviceaccount/NAME`"), "{text}");
}

/// The feed goes on after mcpd was killed and started again, with what was decided meanwhile and after.
#[tokio::test]
async fn audit_is_followed_over_a_restart_of_mcpd() {
    use tokio::io::{AsyncBufReadExt as _, BufReader};
    let mut mcpd = mcpctl_testkit::daemons::Mcpd::start().await;
    let bob = mcpd.user("bob", None).await;
    let shell = Shell::signed_in(&mcpd).await;
    let denied = async |mcpd: &mcpctl_testkit::daemons::Mcpd, llm: &str| {
        let answer = mcpd.get(&format!("/api/v1/llms/{llm}"), &bob).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    };
    for old in ["a", "b", "c", "before"] {
        denied(&mcpd, old).await;
    }
    // Older ones are not asked for, and not new.
    let mut command = shell.command(&["audit", "-f", "-n", "1", "--denied", "--user", "bob"]);
    let mut feed = command.kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(feed.stdout.take().unwrap()).lines();
    let mut notes = BufReader::new(feed.stderr.take().unwrap()).lines();
    let first = lines.next_line().await.unwrap().unwrap();
    assert!(first.contains("  denied   User bob view llms/before: `User bob` may not view"), "{first}");
    denied(&mcpd, "while").await;
    assert!(lines.next_line().await.unwrap().unwrap().contains("llms/while"));
    mcpd.kill();
    let note = notes.next_line().await.unwrap().unwrap();
    assert!(note.contains("cannot be reached") && note.ends_with("going on once it answers"), "{note}");
    mcpd.restart().await;
    denied(&mcpd, "after").await;
    assert!(lines.next_line().await.unwrap().unwrap().contains("llms/after"));
    assert_eq!(notes.next_line().await.unwrap().unwrap(), "mcpd answers again");
}

#[tokio::test]
async fn llms_show_how_they_do() {
    let world = Central::start(&["gpt", "claude"]).await;
    let shell = Shell::signed_in(&world.mcpd).await;
    let states = async || {
        let table = shell.run(&["get", "llms"]).await.succeeded();
        let header = table.lines().next().unwrap();
        let (from, to) = (header.find("STATE").unwrap(), header.find("AGE").unwrap());
        table.lines().skip(1).map(|line| line[from..to].trim().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(states().await, ["unused", "unused"]);
    chat(&world, "claude").await;
    assert_eq!(states().await, ["ok", "unused"]);
    world.provider.set_default(Reply::error(503, "busy", "busy"));
    let body = json!({"model": "claude", "messages": []});
    world.mcpd.post("/v1/chat/completions", &world.alice, &body).await.bytes().await.unwrap();
    let failing = states().await;
    assert!(failing[0].starts_with("failing since ") && failing[1] == "unused", "{failing:?}");
    let described = shell.run(&["describe", "llm", "claude"]).await.succeeded();
    assert!(described.contains("# last failure: server_error, status 503, "), "{described}");
    assert!(described.contains("# state: failing since "), "{described}");
    assert!(described.contains("#   User alice (role llm-user)"), "{described}");

    let patch = json!([{"kind": "Secret", "name": "key", "data": {"token": "sk-1"}},
        {"kind": "Llm", "name": "gpt", "type": "openai", "url": world.provider.base_url(), "model": "m",
         "apiKey": {"secret": "key", "key": "token"}}]);
    world.mcpd.apply(patch).await;
    assert!(world.mcpd.delete("/api/v1/secrets/key", &world.mcpd.admin()).await.status().is_success());
    assert_eq!(states().await[1], "no credential");
    // To those who may view them alone.
    let alone = world
        .mcpd
        .user_with_rules("eve", json!([{"kinds": ["llms"], "verbs": ["view"], "names": ["gpt"]}]))
        .await;
    let list: Value = world.mcpd.get("/api/v1/llm-status", &alone).await.json().await.unwrap();
    assert_eq!(
        (list["items"].as_array().unwrap().len(), &list["items"][0]["state"]),
        (1, &json!("noCredential"))
    );
    assert_eq!(list["items"][0]["voidKeys"][0]["reason"], Value::Null, "the secret is another matter");
}
