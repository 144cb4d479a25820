//! Journals that agents hand over: each line is recorded once, by any sender and after any number of repetitions; and what a
//! malicious agent can do.

use mcpctl_api::Id;
use mcpctl_journal::{CallerKind, ChainHead, JournalEntry, Line, Served};
use mcpctl_testkit::daemons::Mcpd;
use reqwest::{Response, StatusCode};
use serde_json::Value;

/// The lines of an agent that asked for something so many times.
fn lines(agent: &Id, count: u64) -> Vec<String> {
    let mut head = ChainHead::genesis(agent);
    let entry = |number: u64| JournalEntry::Own {
        at: jiff::Timestamp::now(),
        served: Served {
            request: format!("r{number}"),
            who: "alice".to_owned(),
            caller: CallerKind::User,
            llm: None,
            llm_id: None,
            provider: "desk".to_owned(),
        },
    };
    let line = |number: u64| {
        let (line, next) = Line::after(head, &entry(number)).unwrap();
        head = next;
        String::from_utf8(line).unwrap()
    };
    (1..=count).map(line).collect()
}

async fn send(mcpd: &Mcpd, bearer: &str, agent: &str, body: String, gap: bool) -> Response {
    let path = format!("/api/v1/agents/{agent}/journal{}", if gap { "?gap=true" } else { "" });
    let request = mcpd.request(reqwest::Method::POST, &path, bearer);
    request.header("content-type", "application/x-ndjson").body(body).send().await.unwrap()
}

/// The receipt: the last line's number, and how many lines were new.
async fn accepted(mcpd: &Mcpd, bearer: &str, agent: &Id, lines: &[String], gap: bool) -> (u64, u64) {
    let answer = send(mcpd, bearer, agent.as_str(), lines.join("\n"), gap).await;
    let (status, receipt) = (answer.status(), answer.json::<Value>().await.unwrap());
    assert_eq!(status, StatusCode::OK, "{receipt}");
    (receipt["seq"].as_u64().unwrap(), receipt["recorded"].as_u64().unwrap())
}

async fn refused(answer: Response) -> (u16, String) {
    let status = answer.status().as_u16();
    let error: Value = answer.json().await.unwrap();
    (status, error["error"]["code"].as_str().unwrap_or_default().to_owned())
}

/// The actions in the audit that this agent reported, the oldest first, as `bearer` may see them.
async fn reported(mcpd: &Mcpd, bearer: &str, agent: &Id) -> Vec<Value> {
    let page: Value =
        mcpd.get(&format!("/api/v1/audit?limit=1000&agent={agent}"), bearer).await.json().await.unwrap();
    let mut rows = page["items"].as_array().unwrap().clone();
    rows.sort_by_key(|row| row["id"].as_str().unwrap().to_owned());
    rows
}

fn actions(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["action"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn inv_14_each_line_of_a_journal_is_recorded_once() {
    let mcpd = Mcpd::start().await;
    let (admin, alice, bob) = (mcpd.admin(), mcpd.user("alice", None).await, mcpd.user("bob", None).await);
    let agent = Id::mint();
    let lines = lines(&agent, 20);
    assert_eq!(accepted(&mcpd, &alice, &agent, &lines[..10], false).await, (10, 10));
    // The answer was lost; or batches overlap.
    assert_eq!(accepted(&mcpd, &alice, &agent, &lines[..10], false).await, (10, 0));
    assert_eq!(accepted(&mcpd, &alice, &agent, &lines[5..15], false).await, (15, 5));
    // Two at once.
    let both = futures::future::join(
        accepted(&mcpd, &alice, &agent, &lines[12..18], false),
        accepted(&mcpd, &alice, &agent, &lines[14..18], false),
    );
    let ((_, one), (_, other)) = both.await;
    assert_eq!(one + other, 3);
    // Another user repeats them, and goes on with them.
    assert_eq!(accepted(&mcpd, &bob, &agent, &lines[..18], false).await, (18, 0));
    assert_eq!(accepted(&mcpd, &bob, &agent, &lines[18..], false).await, (20, 2));

    let rows = reported(&mcpd, &admin, &agent).await;
    assert_eq!(actions(&rows), vec!["run-local"; 20]);
    let seqs: Vec<_> = rows.iter().map(|row| row["report"]["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=20).collect::<Vec<_>>());
    assert_eq!(rows[0]["report"]["line"], lines[0].as_str());
    // The reporter, and what it reports about itself and about others.
    assert_eq!(
        (&rows[0]["report"]["reportedBy"], &rows[0]["principal"]),
        (&"User alice".into(), &"User alice".into())
    );
    assert_eq!(
        (&rows[19]["report"]["reportedBy"], &rows[19]["principal"], &rows[19]["principalId"]),
        (&"User bob".into(), &"(reported) alice".into(), &Value::Null)
    );
    let head: Value = mcpd.get(&format!("/api/v1/agents/{agent}/journal"), &bob).await.json().await.unwrap();
    assert_eq!(head["seq"], 20);
    // To others than administrators, only what is about themselves.
    assert_eq!(reported(&mcpd, &alice, &agent).await.len(), 18);
    assert_eq!(reported(&mcpd, &bob, &agent).await.len(), 0);
    let others = mcpd.get("/api/v1/audit?subject=user/alice", &bob).await;
    assert_eq!(others.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn gaps_and_forks_of_a_chain_are_rows_of_their_own() {
    let mcpd = Mcpd::start().await;
    let (admin, alice, bob) = (mcpd.admin(), mcpd.user("alice", None).await, mcpd.user("bob", None).await);
    let (agent, lines) = {
        let agent = Id::mint();
        let lines = lines(&agent, 12);
        (agent, lines)
    };
    assert_eq!(accepted(&mcpd, &alice, &agent, &lines[..3], false).await, (3, 3));
    // Lines are missing: the agent has to send them, or admit that it has not got them.
    let missing = send(&mcpd, &alice, agent.as_str(), lines[5..].join("\n"), false).await;
    assert_eq!(refused(missing).await, (409, "journal_gap".to_owned()));
    assert_eq!(accepted(&mcpd, &alice, &agent, &lines[5..7], true).await, (7, 2));
    // A chain that was written anew, and lines that were changed or moved within a batch.
    let forged = self::lines(&agent, 2);
    let anew = send(&mcpd, &alice, agent.as_str(), forged.join("\n"), false).await;
    assert_eq!(refused(anew).await, (409, "journal_gap".to_owned()));
    let changed = lines[7].replace("desk", "disk");
    let batch = [changed, lines[8].clone(), lines[10].clone(), lines[9].clone(), "no line".to_owned()];
    assert_eq!(accepted(&mcpd, &alice, &agent, &batch, false).await.1, 5);
    // Another user's lines do not disturb hers.
    assert_eq!(accepted(&mcpd, &bob, &agent, &forged, false).await, (2, 2));
    let rows = reported(&mcpd, &admin, &agent).await;
    let marks: Vec<_> = rows.iter().filter(|row| row["report"]["seq"].is_null()).collect();
    let of: Vec<_> = marks
        .iter()
        .map(|row| (row["action"].as_str().unwrap(), row["principal"].as_str().unwrap()))
        .collect();
    let alices = "User alice";
    assert_eq!(
        of,
        [
            ("journal-gap", alices),
            ("journal-fork", alices),
            ("journal-gap", alices),
            ("journal-fork", alices),
            ("journal-fork", alices)
        ],
        "{marks:?}"
    );
    assert!(marks.iter().all(|row| row["decision"] == "denied"));
    assert!(marks[0]["reason"].as_str().unwrap().contains("4 to 5"), "{}", marks[0]);
}

#[tokio::test]
async fn malicious_agent_is_bounded_and_cannot_write_as_another() {
    let config = "limits: {journal: {lines: {burst: 2000, every: 1h}, agents: 3}}\n";
    let mcpd = Mcpd::start_with(mcpctl_testkit::daemons::McpdOptions {
        config: Some(config.to_owned()),
        ..Default::default()
    })
    .await;
    let (admin, mallory, alice) =
        (mcpd.admin(), mcpd.user("mallory", None).await, mcpd.user("alice", None).await);
    let agent = Id::mint();
    for (agent, body, expected) in [
        ("no-id", "{}".to_owned(), 400),
        (agent.as_str(), String::new(), 400),
        (agent.as_str(), "{}\n".repeat(501), 400),
        (agent.as_str(), "x".repeat((16 << 10) + 1), 400),
        (agent.as_str(), "x".repeat((2 << 20) + 1), 413),
    ] {
        assert_eq!(send(&mcpd, &mallory, agent, body, true).await.status().as_u16(), expected);
    }
    let untyped = mcpd.request(reqwest::Method::POST, &format!("/api/v1/agents/{agent}/journal"), &mallory);
    assert_eq!(untyped.body("{}").send().await.unwrap().status(), StatusCode::BAD_REQUEST);

    // Control characters, huge texts, absurd numbers and times.
    let evil = "\u{202e}\u{7f}".to_owned() + &"m".repeat(9000);
    let served = Served {
        request: evil.clone(),
        who: evil.clone(),
        caller: CallerKind::User,
        llm: Some(evil.clone()),
        llm_id: Some("../../admin".to_owned()),
        provider: evil,
    };
    let entry = JournalEntry::Ended {
        at: "9999-01-01T00:00:00Z".parse().unwrap(),
        served: Served { who: "alice".to_owned(), llm: Some("claude".to_owned()), ..served },
        outcome: "ok".to_owned(),
        model: None,
        input_tokens: u64::MAX,
        output_tokens: u64::MAX,
        cost: u64::MAX,
    };
    let mut text = serde_json::to_value(&entry).unwrap();
    text["seq"] = 1.into();
    text["prev"] = ChainHead::genesis(&agent).hash.to_string().into();
    for field in ["request", "provider"] {
        text[field] = Value::String(text[field].as_str().unwrap().chars().take(3000).collect());
    }
    let raw = format!("\u{1b}[2J\u{202e}\u{0}{}", "x".repeat(1000));
    assert_eq!(accepted(&mcpd, &mallory, &agent, &[text.to_string(), raw], true).await.1, 2);
    let rows = reported(&mcpd, &admin, &agent).await;
    let shown = serde_json::to_string(&rows).unwrap();
    assert!(!shown.contains(['\u{1b}', '\u{202e}', '\u{7f}', '\0']), "{shown}");
    let end = rows.iter().find(|row| row["action"] == "failover-end").unwrap();
    assert_eq!((&end["principal"], &end["principalId"]), (&"(reported) alice".into(), &Value::Null));
    assert!(end["at"].as_str().unwrap() < "9000", "{end}");
    let hers: Value = mcpd.get("/api/v1/audit?action=failover-end", &alice).await.json().await.unwrap();
    assert_eq!(hers["items"].as_array().unwrap().len(), 0);

    // A million lines: no more than the rate allows, and agents without end neither.
    for _ in 0..2 {
        accepted(&mcpd, &mallory, &Id::mint(), &["{}".to_owned()], true).await;
    }
    let more = send(&mcpd, &mallory, Id::mint().as_str(), "{}".to_owned(), true).await;
    assert_eq!(more.status(), StatusCode::TOO_MANY_REQUESTS, "a fourth agent");
    let lines = lines(&agent, 4000);
    let mut recorded = 0;
    for batch in lines.chunks(500) {
        let answer = send(&mcpd, &mallory, agent.as_str(), batch.join("\n"), true).await;
        if answer.status() != StatusCode::OK {
            assert!(answer.headers().contains_key("retry-after"));
            assert_eq!(refused(answer).await, (429, "too_much_journal".to_owned()));
            break;
        }
        recorded += batch.len();
    }
    assert_eq!(recorded, 1500);
    // Others are not affected.
    let other = Id::mint();
    assert_eq!(accepted(&mcpd, &alice, &other, &self::lines(&other, 3), false).await, (3, 3));
}
