//! Journals that agents hand over: each line is recorded once, by any sender and after any number of repetitions; and what a
//! malicious agent can do.

use mcpctl_api::{Id, agent::FailoverOutcome};
use mcpctl_journal::{CallerKind, ChainHead, JournalEntry, Line, Served, TokenCount};
use mcpctl_testkit::daemons::{Mcpd, eventually};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

/// The journal of an agent, or a copy of it from some line on.
#[derive(Clone)]
struct Journal {
    head: ChainHead,
    provider: &'static str,
}

impl Journal {
    fn of(agent: &Id) -> Self {
        Self { head: ChainHead::genesis(agent), provider: "desk" }
    }

    fn write(&mut self, entry: &JournalEntry) -> String {
        let (line, next) = Line::after(self.head, entry).unwrap();
        self.head = next;
        String::from_utf8(line).unwrap()
    }

    /// So many requests of Alice's for her own provider.
    fn lines(&mut self, count: u64) -> Vec<String> {
        let line = |number: u64| {
            let served = Served {
                request: format!("r{number}"),
                who: "alice".to_owned(),
                caller: CallerKind::User,
                llm: None,
                llm_id: None,
                provider: self.provider.to_owned(),
            };
            self.write(&JournalEntry::Own { at: jiff::Timestamp::now(), served })
        };
        (1..=count).map(line).collect()
    }
}

/// The lines of an agent that asked for something so many times.
fn lines(agent: &Id, count: u64) -> Vec<String> {
    Journal::of(agent).lines(count)
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
    // Two at once: one of them may be asked to wait.
    let at_once = [&lines[12..18], &lines[14..18]].map(|lines| async {
        let answer = send(&mcpd, &alice, agent.as_str(), lines.join("\n"), true).await;
        answer.status() == StatusCode::OK || refused(answer).await == (429, "journal_busy".to_owned())
    });
    assert_eq!(futures::future::join_all(at_once).await, [true, true]);
    accepted(&mcpd, &alice, &agent, &lines[14..18], false).await;
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
    let (agent, alice) = (Id::mint(), mcpd.user("alice", None).await);
    let lines = lines(&agent, 12);
    assert_eq!(accepted(&mcpd, &alice, &agent, &lines[..3], false).await, (3, 3));
    // Lines are missing: the agent has to send them, or admit that it has not got them.
    let missing = send(&mcpd, &alice, agent.as_str(), lines[5..].join("\n"), false).await;
    assert_eq!(refused(missing).await, (409, "journal_gap".to_owned()));
    assert_eq!(accepted(&mcpd, &alice, &agent, &lines[5..7], true).await, (7, 2));
    // Lines that were changed or moved within a batch.
    let changed = lines[7].replace("desk", "disk");
    let batch = [changed, lines[8].clone(), lines[10].clone(), lines[9].clone(), "no line".to_owned()];
    assert_eq!(accepted(&mcpd, &alice, &agent, &batch, false).await.1, 5);
    let marks = marks(&mcpd, &agent).await;
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
            ("journal-fork", alices)
        ],
        "{marks:?}"
    );
    assert!(marks.iter().all(|row| row["decision"] == "denied"));
    assert!(marks[0]["reason"].as_str().unwrap().contains("4 to 5"), "{}", marks[0]);
}

/// The rows about places where the journals of an agent do not fit together.
async fn marks(mcpd: &Mcpd, agent: &Id) -> Vec<Value> {
    let rows = reported(mcpd, &mcpd.admin(), agent).await;
    rows.into_iter().filter(|row| row["report"]["seq"].is_null()).collect()
}

#[tokio::test]
async fn copies_of_a_journal_show_and_repetitions_do_not() {
    let mcpd = Mcpd::start().await;
    let (alice, bob) = (mcpd.user("alice", None).await, mcpd.user("bob", None).await);
    let agent = Id::mint();
    let mut journal = Journal::of(&agent);
    let mut lines = journal.lines(6);
    let mut copy = Journal { provider: "copy", ..journal.clone() };
    lines.extend(journal.lines(8));
    assert_eq!(accepted(&mcpd, &alice, &agent, &lines[..10], false).await, (10, 10));
    // An older batch, alone and with lines that follow the newest one: nothing is missing.
    assert_eq!(accepted(&mcpd, &alice, &agent, &lines[3..6], false).await, (6, 0));
    let repeated = [&lines[2..4], &lines[10..12]].concat();
    assert_eq!(accepted(&mcpd, &alice, &agent, &repeated, false).await, (12, 2));
    assert_eq!(marks(&mcpd, &agent).await.len(), 0);
    let head: Value =
        mcpd.get(&format!("/api/v1/agents/{agent}/journal"), &alice).await.json().await.unwrap();
    assert_eq!(head["seq"], 12);

    // A copy of the state directory goes on from line 6, whichever lines it sends with its own; and so does the original.
    let copied = [&lines[4..6], &copy.lines(2)[..]].concat();
    assert_eq!(accepted(&mcpd, &alice, &agent, &copied, false).await, (8, 2));
    assert_eq!(accepted(&mcpd, &alice, &agent, &copy.lines(3), false).await, (11, 3));
    assert_eq!(accepted(&mcpd, &alice, &agent, &lines[12..13], false).await, (13, 1));
    // Another account with the agent's id and a journal of its own; and one that goes on with the agent's.
    assert_eq!(accepted(&mcpd, &bob, &agent, &self::lines(&agent, 2), false).await, (2, 2));
    assert_eq!(accepted(&mcpd, &bob, &agent, &lines[13..], false).await, (14, 1));
    // The journal was written anew.
    assert_eq!(accepted(&mcpd, &alice, &agent, &self::lines(&agent, 3), false).await, (3, 3));
    let found: Vec<_> = marks(&mcpd, &agent)
        .await
        .iter()
        .map(|row| {
            let text = |key: &str| row[key].as_str().unwrap().to_owned();
            (text("action"), text("principal"), text("reason").split(": ").nth(1).unwrap().to_owned())
        })
        .collect();
    let fork = |principal: &str, line: u64| {
        let reason = format!("a second line follows line {line}");
        ("journal-fork".to_owned(), principal.to_owned(), reason)
    };
    assert_eq!(found, [fork("User alice", 6), fork("User bob", 0), fork("User alice", 0)]);
}

/// What mcpd signs for a caller's probe of an Llm at an agent.
async fn probed(mcpd: &Mcpd, bearer: &str, agent: &Id, llm: &str, lease: bool) -> String {
    let nonce = mcpctl_access::proof::ProbeNonce::from(*uuid::Uuid::now_v7().as_bytes());
    let request = mcpd.request(reqwest::Method::HEAD, &format!("/api/v1/llms/{llm}"), bearer);
    let request =
        request.header("mcpctl-probe-nonce", nonce.to_string()).header("mcpctl-agent", agent.as_str());
    let answer = request.send().await.unwrap();
    let name = if lease { "mcpctl-access-lease" } else { "mcpctl-access-proof" };
    answer.headers()[name].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn proof_confirms_one_line_of_what_it_is_about() {
    let mcpd = Mcpd::start().await;
    let llm = |name: &str| {
        json!({"kind": "Llm", "name": name, "type": "openai", "url": "http://127.0.0.1:1", "model": "m",
               "failover": {"offlineGrace": "60s"}})
    };
    mcpd.apply(json!([llm("claude"), llm("other")])).await;
    let alice = mcpd.user("alice", Some("llm-user")).await;
    let bob = mcpd.user("bob", Some("llm-user")).await;
    let shown: Value = mcpd.get("/api/v1/llms/claude", &mcpd.admin()).await.json().await.unwrap();
    let llm_id = shown["id"].as_str().unwrap().to_owned();
    let (agent, other) = (Id::mint(), Id::mint());
    let (now, hour) = (jiff::Timestamp::now(), jiff::SignedDuration::from_hours(1));
    let digest =
        |bearer: &str| mcpctl_journal::bearer_name(mcpctl_access::proof::BearerHash::of(bearer).as_bytes());

    let alices = probed(&mcpd, &alice, &agent, "claude", false).await;
    let bobs = probed(&mcpd, &bob, &agent, "claude", false).await;
    let elsewhere = probed(&mcpd, &alice, &other, "claude", false).await;
    let of_other = probed(&mcpd, &alice, &agent, "other", false).await;
    let unused = probed(&mcpd, &alice, &agent, &llm_id, false).await;
    let by_bearer = probed(&mcpd, &alice, &agent, "claude", false).await;
    let lease = probed(&mcpd, &alice, &agent, "claude", true).await;
    let mut bent = unused.clone();
    bent.replace_range(60..61, if &unused[60..61] == "A" { "B" } else { "A" });
    let user = (CallerKind::User, "alice".to_owned());
    let bearer = (CallerKind::Bearer, digest(&alice));
    let (allowed, leased) = ("allowed", "lease");
    let cases = [
        ("its own", &alices, allowed, user.clone(), now, "confirmed"),
        ("again", &alices, allowed, user.clone(), now, "its proof was used by another line"),
        ("another caller's", &bobs, allowed, user.clone(), now, "its proof is about another caller"),
        ("another agent's", &elsewhere, allowed, user.clone(), now, "its proof is about another agent"),
        ("another Llm's", &of_other, allowed, user.clone(), now, "its proof is about another Llm"),
        ("altered", &bent, allowed, user.clone(), now, "no key of mcpd's signed its proof"),
        ("later", &unused, allowed, user.clone(), now + hour, "its proof is about another time"),
        ("earlier", &unused, allowed, user.clone(), now - hour, "its proof is about another time"),
        ("not a lease", &unused, leased, user.clone(), now, "no key of mcpd's signed its proof"),
        ("by id", &unused, allowed, user.clone(), now, "confirmed"),
        ("of a bearer", &by_bearer, allowed, bearer.clone(), now, "confirmed"),
        ("lease", &lease, leased, user.clone(), now, "confirmed"),
        ("lease again", &lease, leased, bearer, now, "confirmed"),
        ("lease later", &lease, leased, user, now + hour, "its proof is about another time"),
    ];
    let mut journal = Journal::of(&agent);
    let lines: Vec<_> = cases
        .iter()
        .map(|(what, proof, access, (caller, who), at, _)| {
            journal.write(&JournalEntry::Failover {
                at: *at,
                served: Served {
                    request: (*what).to_owned(),
                    who: who.clone(),
                    caller: *caller,
                    llm: Some("claude".to_owned()),
                    llm_id: Some(llm_id.clone()),
                    provider: "desk".to_owned(),
                },
                class: Some("connect".to_owned()),
                access: vec![(*access).to_owned()],
                outcome: FailoverOutcome::Served,
                reason: None,
                proof: Some((*proof).clone()),
            })
        })
        .collect();
    // Bob hands them over, and repeats them: he is confirmed nowhere, Alice wherever mcpd signed for her.
    for recorded in [cases.len() as u64, 0] {
        assert_eq!(accepted(&mcpd, &bob, &agent, &lines, false).await, (cases.len() as u64, recorded));
    }
    let mut rows = reported(&mcpd, &mcpd.admin(), &agent).await;
    rows.sort_by_key(|row| row["report"]["seq"].as_u64());
    for ((what, .., expected), row) in cases.iter().zip(&rows) {
        let confirmed = *expected == "confirmed";
        let principal = row["principal"].as_str().unwrap();
        assert_eq!(row["report"]["confirmed"], confirmed, "{what}: {row}");
        assert_eq!(confirmed, principal == "User alice", "{what}: {row}");
        let reason = row["reason"].as_str().unwrap();
        let begin =
            if confirmed { "primary: connect".to_owned() } else { format!("not confirmed, {expected}; ") };
        assert!(reason.starts_with(&begin), "{what}: {reason}");
    }
    // Each proof counts in Alice's usage, and no lease that Bob hands over.
    let counted = async || {
        let usage: Value = mcpd.get("/api/v1/usage?by=user", &mcpd.admin()).await.json().await.unwrap();
        let of_alice =
            usage["items"].as_array().unwrap().iter().find(|item| item["principal"] == "User alice");
        of_alice.filter(|_| usage["complete"] == true).map(|item| item["fallbacks"].clone())
    };
    assert_eq!(eventually("all rows are counted", counted).await, 3);
}

#[tokio::test]
async fn narrowed_token_makes_no_statements_of_its_account() {
    let mcpd = Mcpd::start().await;
    let alice = mcpd.user("alice", Some("llm-user")).await;
    let rules = json!([{"verbs": ["view"], "kinds": ["llms"], "names": ["claude"]}]);
    let document = json!({"name": "narrow", "subject": {"kind": "User", "name": "alice"}, "rules": rules});
    let made: Value = mcpd.post("/api/v1/tokens", &mcpd.admin(), &document).await.json().await.unwrap();
    let narrowed = made["token"].as_str().unwrap();
    let agent = Id::mint();
    let head = mcpd.get(&format!("/api/v1/agents/{agent}/journal"), narrowed).await;
    let sent = send(&mcpd, narrowed, agent.as_str(), lines(&agent, 2).join("\n"), false).await;
    let audit = mcpd.get("/api/v1/audit", narrowed).await;
    for answer in [head, sent, audit] {
        assert_eq!(refused(answer).await.0, 403);
    }
    assert_eq!(reported(&mcpd, &mcpd.admin(), &agent).await.len(), 0);
    assert_eq!(accepted(&mcpd, &alice, &agent, &lines(&agent, 2), false).await, (2, 2));
}

#[tokio::test]
async fn journals_do_not_keep_revocations_waiting() {
    let mcpd = Mcpd::start().await;
    let mut floods = Vec::new();
    for number in 0..6 {
        let bearer = mcpd.user(&format!("mallory-{number}"), None).await;
        let (url, agent) =
            (format!("{}/api/v1/agents/{}/journal?gap=true", mcpd.url(), Id::mint()), Id::mint());
        let lines = lines(&agent, 500).join("\n");
        floods.push(tokio::spawn(async move {
            let http = reqwest::Client::builder().no_proxy().build().unwrap();
            for round in 0.. {
                let body = format!("{round}\n{lines}").replace("\"desk\"", &format!("\"desk-{round}\""));
                let request =
                    http.post(&url).bearer_auth(&bearer).header("content-type", "application/x-ndjson");
                let body = body.lines().take(500).collect::<Vec<_>>().join("\n");
                if request.body(body).send().await.is_err() {
                    return;
                }
            }
        }));
    }
    let user = |number: usize| format!("alice-{number}");
    for number in 0..10 {
        mcpd.user(&user(number), None).await;
        let deleted = mcpd.delete(&format!("/api/v1/users/{}", user(number)), &mcpd.admin()).await;
        assert!(deleted.status().is_success(), "{number}: {}", deleted.status());
    }
    floods.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn journals_of_an_account_have_a_bound_in_bytes() {
    let mcpd = Mcpd::start_with(mcpctl_testkit::daemons::McpdOptions {
        config: Some("limits: {journal: {perDay: 16MiB, lines: {burst: 1000000, every: 10ms}}}\n".to_owned()),
        ..Default::default()
    })
    .await;
    let alice = mcpd.user("alice", None).await;
    // Each of these bytes is stored as six; each of the others is a line that gets a row of its own about the break.
    let hidden = |round: usize| {
        let line = |number: usize| {
            format!(
                "{{\"seq\":1,\"prev\":\"{:064x}\",\"event\":\"omitted\",\"at\":\"2026-01-01T00:00:00Z\",\"refusals\":{round},\"x\":\"{}\"}}",
                number,
                "\u{7f}".repeat(15_000)
            )
        };
        (0..120).map(line).collect::<Vec<_>>()
    };
    let broken = |round: usize| (0..500).map(|number| format!("{round} {number}")).collect::<Vec<_>>();
    type Batch<'a> = &'a dyn Fn(usize) -> Vec<String>;
    let batches: [(&str, Batch<'_>); 2] = [("mallory", &hidden), ("eve", &broken)];
    for (user, batch) in batches {
        let bearer = mcpd.user(user, None).await;
        let agent = Id::mint();
        let (mut recorded, mut refused) = (0, None);
        for round in 0..12 {
            let answer = send(&mcpd, &bearer, agent.as_str(), batch(round).join("\n"), true).await;
            match answer.status() {
                StatusCode::OK => recorded += 1,
                _ => refused = Some(answer),
            }
        }
        let answer = refused.expect(user);
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS, "{user}");
        assert!(answer.headers().contains_key("retry-after"), "{user}");
        assert_eq!(self::refused(answer).await.1, "too_much_journal", "{user}");
        assert!((1..9).contains(&recorded), "{user}: {recorded}");
    }
    let agent = Id::mint();
    assert_eq!(accepted(&mcpd, &alice, &agent, &lines(&agent, 3), false).await, (3, 3));
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
        tokens: Some(TokenCount { input_tokens: u64::MAX, output_tokens: u64::MAX }),
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
    assert_eq!(end["report"]["at"], "9999-01-01T00:00:00Z");
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
