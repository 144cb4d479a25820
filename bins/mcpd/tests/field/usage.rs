//! Who used how much, on whole daemons: the sums, who sees them, and that each request counts once.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use mcpctl_api::Id;
use mcpctl_secret::{
    envelope::Keyring,
    master_key_file::{self, IfMissing},
};
use mcpctl_store::{Durability, Location, Recorder, Store, UsageRow};
use mcpctl_testkit::{
    central::Central,
    daemons::{Mcpd, McpdOptions, eventually},
    model_server::Reply,
    postgres::Postgres,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

async fn usage(mcpd: &Mcpd, bearer: &str, query: &str) -> Value {
    let answer = mcpd.get(&format!("/api/v1/usage?{query}"), bearer).await;
    let (status, body) = (answer.status(), answer.text().await.unwrap());
    assert_eq!(status, StatusCode::OK, "{query}: {body}");
    serde_json::from_str(&body).unwrap()
}

async fn chat(mcpd: &Mcpd, bearer: &str, llm: &str) -> StatusCode {
    let body = json!({"model": llm, "messages": [{"role": "user", "content": "hello there"}]});
    let answer = mcpd.post("/v1/chat/completions", bearer, &body).await;
    let status = answer.status();
    answer.bytes().await.unwrap();
    status
}

/// These fields of each item.
fn rows(page: &Value, fields: &[&str]) -> Vec<Vec<Value>> {
    let row = |item: &Value| fields.iter().map(|field| item[field].clone()).collect();
    page["items"].as_array().unwrap().iter().map(row).collect()
}

async fn world() -> (Central, String, String) {
    let world = Central::start(&["gpt", "claude"]).await;
    let mcpd = &world.mcpd;
    let bob = mcpd.user("bob", Some("llm-user")).await;
    let url = world.provider.base_url();
    mcpd.apply(json!([
        {"kind": "Llm", "name": "gpt", "type": "openai", "url": url, "model": "m", "price": {"input": 1, "output": 2},
         "retries": {"max": 0}, "fallbacks": [{"llm": "claude"}]},
        {"kind": "Group", "name": "team-a", "members": [{"kind": "User", "name": "alice"}, {"kind": "User", "name": "bob"}]},
        {"kind": "Group", "name": "team-b", "members": [{"kind": "User", "name": "bob"}]},
    ]))
    .await;
    let rules = json!([{"kinds": ["usage"], "verbs": ["view"], "names": ["*"]}]);
    let auditor = mcpd.user_with_rules("auditor", rules).await;
    // alice: two at gpt, the second one answered by claude; bob: one at claude.
    assert_eq!(chat(mcpd, &world.alice, "gpt").await, StatusCode::OK);
    world.provider.queue(Reply::error(503, "busy", "busy"));
    assert_eq!(chat(mcpd, &world.alice, "gpt").await, StatusCode::OK);
    assert_eq!(chat(mcpd, &bob, "claude").await, StatusCode::OK);
    (world, bob, auditor)
}

#[tokio::test]
async fn sums_show_each_request_once_by_whatever_they_are_kept_apart() {
    let (world, _, auditor) = world().await;
    let mcpd = &world.mcpd;
    let all = usage(mcpd, &auditor, "").await;
    assert_eq!(all["items"], json!([]));
    let totals = &all["totals"];
    assert_eq!(
        [&totals["requests"], &totals["failures"], &totals["fallbacks"], &all["complete"]],
        [&json!(3), &json!(1), &json!(1), &json!(true)]
    );
    // The model server counts words, two in both directions; claude has no price.
    let tokens = [&totals["inputTokens"], &totals["outputTokens"], &totals["unpriced"]];
    assert_eq!(tokens, [&json!(6), &json!(6), &json!(2)]);
    assert!((totals["cost"].as_f64().unwrap() - 6e-6).abs() < 1e-12, "{totals}");

    let by = usage(mcpd, &auditor, "by=user,llm").await;
    let shown = rows(&by, &["principal", "llm", "requests", "failures", "fallbacks"]);
    let expected = json!([
        ["User alice", "claude", 0, 0, 1],
        ["User alice", "gpt", 2, 1, 0],
        ["User bob", "claude", 1, 0, 0],
    ]);
    assert_eq!(json!(shown), expected);
    assert_eq!(by["totals"], *totals);

    // A group is a view of today: bob is in two, and the auditor may view neither.
    let admin = usage(mcpd, &mcpd.admin(), "by=group").await;
    assert_eq!(json!(rows(&admin, &["group", "requests"])), json!([["team-a", 3], ["team-b", 1]]));
    assert_eq!(admin["totals"], *totals, "each request once");
    let hidden = usage(mcpd, &auditor, "by=group").await;
    assert_eq!(json!(rows(&hidden, &["group", "requests"])), json!([[null, 3]]));

    let today = Timestamp::now().strftime("%FT00:00:00Z").to_string();
    let by = usage(mcpd, &auditor, "by=day,model").await;
    let models: Vec<_> = rows(&by, &["from"]).into_iter().flatten().collect();
    assert!(models.iter().all(|from| *from == json!(today)), "{by}");

    // Page by page it is the same.
    let (mut after, mut paged) = (String::new(), Vec::new());
    loop {
        let page = usage(mcpd, &auditor, &format!("by=user,llm&limit=1{after}")).await;
        assert_eq!(page["totals"], *totals);
        paged.extend(rows(&page, &["principal", "llm", "requests", "failures", "fallbacks"]));
        let Some(next) = page["next"].as_str() else { break };
        after =
            format!("&after={}", url::form_urlencoded::byte_serialize(next.as_bytes()).collect::<String>());
    }
    assert_eq!(json!(paged), expected);

    // By the name of now.
    let rename =
        mcpd.request(Method::PATCH, "/api/v1/llms/gpt", &mcpd.admin()).json(&json!({"name": "gpt-5"}));
    assert_eq!(rename.send().await.unwrap().status(), StatusCode::OK);
    let renamed = usage(mcpd, &auditor, "by=llm&llm=gpt-5").await;
    assert_eq!(json!(rows(&renamed, &["llm", "requests"])), json!([["gpt-5", 2]]));
    assert_eq!(
        usage(mcpd, &auditor, "since=2020-01-01T00:00:00Z&until=2021-01-01T00:00:00Z").await["totals"]["requests"],
        0
    );
}

#[tokio::test]
async fn accounts_see_their_own_usage_and_others_with_a_right() {
    let (world, bob, auditor) = world().await;
    let mcpd = &world.mcpd;
    let lead = json!([{"kinds": ["usage"], "verbs": ["view"], "names": ["bo*"]}]);
    let lead = mcpd.user_with_rules("lead", lead).await;
    let requests = async |bearer: &str, query: &str| {
        let answer = mcpd.get(&format!("/api/v1/usage?{query}"), bearer).await;
        match answer.status() {
            StatusCode::OK => {
                Ok(answer.json::<Value>().await.unwrap()["totals"]["requests"].as_u64().unwrap())
            }
            status => Err((status.as_u16(), answer.text().await.unwrap())),
        }
    };
    assert_eq!(requests(&world.alice, "").await, Ok(2));
    assert_eq!(requests(&world.alice, "subject=alice").await, Ok(2));
    assert_eq!(requests(&bob, "by=user,group").await, Ok(1));
    assert_eq!(requests(&lead, "").await, Ok(0), "its own");
    assert_eq!(requests(&lead, "subject=user/bob").await, Ok(1));
    assert_eq!(requests(&auditor, "subject=user/alice").await, Ok(2));
    assert_eq!(requests(&mcpd.admin(), "subject=user/alice&llm=gpt").await, Ok(2));
    for (bearer, subject) in [(&bob, "user/alice"), (&lead, "user/alice"), (&bob, "user/gone")] {
        let (status, body) = requests(bearer, &format!("subject={subject}")).await.unwrap_err();
        assert_eq!(status, 403);
        assert!(body.contains("may not view usage"), "{body}");
    }
    let denied: Value = mcpd.get("/api/v1/audit?decision=denied", &mcpd.admin()).await.json().await.unwrap();
    assert_eq!(denied["items"].as_array().unwrap().iter().filter(|row| row["kind"] == "Usage").count(), 3);

    // A narrowed token shows nothing of its account, unless its rules do.
    for (verbs, expected) in [("run llms *", None), ("view usage *", Some(3))] {
        let [verb, kind, name] = verbs.split(' ').collect::<Vec<_>>()[..] else { unreachable!() };
        let rules = json!([{"verbs": [verb], "kinds": [kind], "names": [name]}]);
        let subject = if expected.is_some() { "auditor" } else { "alice" };
        let document = json!({"name": format!("narrow-{kind}-{}", name.len()), "subject": {"kind": "User", "name": subject}, "rules": rules});
        let made: Value = mcpd.post("/api/v1/tokens", &mcpd.admin(), &document).await.json().await.unwrap();
        let token = made["token"].as_str().unwrap_or_else(|| panic!("{verbs}: {made}"));
        assert_eq!(requests(token, "").await.ok(), expected, "{verbs}");
    }

    // Another account of the same name has used nothing.
    assert!(mcpd.delete("/api/v1/users/bob", &mcpd.admin()).await.status().is_success());
    assert_eq!(requests(&auditor, "subject=user/bob").await, Ok(1), "of the deleted one");
    let bob = mcpd.user("bob", Some("llm-user")).await;
    assert_eq!((requests(&bob, "").await, requests(&auditor, "subject=user/bob").await), (Ok(0), Ok(0)));
    let by = usage(mcpd, &auditor, "by=user").await;
    assert_eq!(json!(rows(&by, &["principal", "requests"])), json!([["User alice", 2], ["User bob", 1]]));

    for (query, field) in [
        ("by=users", "by"),
        ("by=day,hour", "by"),
        ("by=llm,llm", "by"),
        ("limit=0", "limit"),
        ("limit=50001", "limit"),
        ("after=x", "after"),
        ("subject=group/team-a", "subject"),
        ("since=2026-02-01T00:00:00Z&until=2026-01-01T00:00:00Z", "until"),
    ] {
        let answer = mcpd.get(&format!("/api/v1/usage?{query}"), &mcpd.admin()).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{query}");
        assert_eq!(answer.json::<Value>().await.unwrap()["error"]["param"], field, "{query}");
    }
}

/// A user and a service account have the same name. A rule that names one shows nothing of the other, in usage and in the audit.
#[tokio::test]
async fn rules_tell_a_user_and_a_service_account_of_one_name_apart() {
    let world = Central::start(&["gpt"]).await;
    let mcpd = &world.mcpd;
    let user = mcpd.user("ci", Some("llm-user")).await;
    let subject = json!({"kind": "ServiceAccount", "name": "ci"});
    mcpd.apply(json!([subject, {"kind": "RoleBinding", "name": "ci-program", "role": "llm-user", "subjects": [subject]}]))
        .await;
    let made =
        mcpd.post("/api/v1/tokens", &mcpd.admin(), &json!({"name": "ci-program", "subject": subject})).await;
    let made: Value = made.json().await.unwrap();
    let program = made["token"].as_str().unwrap();
    assert_eq!(chat(mcpd, &user, "gpt").await, StatusCode::OK);
    for _ in 0..2 {
        assert_eq!(chat(mcpd, program, "gpt").await, StatusCode::OK);
    }
    let requests = async |bearer: &str, query: &str| {
        let answer = mcpd.get(&format!("/api/v1/usage?{query}"), bearer).await;
        let is_ok = answer.status() == StatusCode::OK;
        assert!(is_ok || answer.status() == StatusCode::FORBIDDEN, "{query}: {}", answer.status());
        let body: Value = answer.json().await.unwrap();
        is_ok.then(|| body["totals"]["requests"].as_u64().unwrap())
    };
    let (of_user, of_program, of_all) = (Some(1), Some(2), Some(3));
    for (at, (names, expected)) in [
        (json!(["ci"]), [of_user, None, None]),
        (json!(["c*"]), [of_user, None, None]),
        (json!(["user/ci"]), [of_user, None, None]),
        (json!(["user/*"]), [of_user, None, None]),
        (json!(["ServiceAccount/ci"]), [None, of_program, None]),
        (json!(["serviceaccount/*"]), [None, of_program, None]),
        (json!(["user/*", "serviceaccount/*"]), [of_user, of_program, None]),
        (json!(["*"]), [of_user, of_program, of_all]),
        (json!(["*i"]), [of_user, None, None]),
    ]
    .into_iter()
    .enumerate()
    {
        let rules = json!([{"kinds": ["usage", "audit"], "verbs": ["view"], "names": names}]);
        let lead = mcpd.user_with_rules(&format!("lead-{at}"), rules).await;
        let found = [
            requests(&lead, "subject=user/ci").await,
            requests(&lead, "subject=serviceaccount/ci").await,
            requests(&lead, "").await.filter(|requests| *requests > 0),
        ];
        assert_eq!(found, expected, "{names}");
        for (subject, may) in [("user/ci", expected[0]), ("serviceaccount/ci", expected[1])] {
            let answer = mcpd.get(&format!("/api/v1/audit?subject={subject}"), &lead).await;
            assert_eq!(answer.status() == StatusCode::OK, may.is_some(), "{names}: the audit of {subject}");
            let question = json!({"verb": "view", "kind": "usage", "name": subject});
            let answer: Value = mcpd.post("/api/v1/auth/can-i", &lead, &question).await.json().await.unwrap();
            assert_eq!(answer["allowed"], may.is_some(), "{names}: {answer}");
        }
    }
    // By name alone a user is meant, in questions too.
    let may = async |account: &str| {
        let path = format!("/api/v1/auth/who-can?verb=view&kind=audit&name={account}");
        let answer: Value = mcpd.get(&path, &mcpd.admin()).await.json().await.unwrap();
        let subjects = answer["subjects"].as_array().unwrap().iter();
        subjects.map(|grantee| grantee["subject"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let leads = |numbers: &[u8]| {
        std::iter::once("admin".to_owned())
            .chain(numbers.iter().map(|at| format!("lead-{at}")))
            .collect::<Vec<_>>()
    };
    assert_eq!(may("ci").await, leads(&[0, 1, 2, 3, 6, 7, 8]));
    assert_eq!(may("serviceaccount/ci").await, leads(&[4, 5, 6, 7]));

    // A narrowed token and a right that is handed on go by the same names.
    let narrow = |names: &str| {
        json!({"name": format!("narrow-{}", names.len()), "subject": {"kind": "User", "name": "lead-7"},
               "rules": [{"kinds": ["usage"], "verbs": ["view"], "names": [names]}]})
    };
    for (names, expected) in [("ci", [of_user, None]), ("serviceaccount/ci", [None, of_program])] {
        let made: Value =
            mcpd.post("/api/v1/tokens", &mcpd.admin(), &narrow(names)).await.json().await.unwrap();
        let token = made["token"].as_str().unwrap();
        let found =
            [requests(token, "subject=user/ci").await, requests(token, "subject=serviceaccount/ci").await];
        assert_eq!(found, expected, "{names}");
    }
    let other = mcpd.user_with_rules(
        "keeper",
        json!([{"kinds": ["usage"], "verbs": ["view"], "names": ["ci"]},
               {"kinds": ["roles"], "verbs": ["create"], "names": ["*"]},
               {"kinds": ["rolebindings"], "verbs": ["create"], "names": ["*"]}]),
    );
    let other = other.await;
    for (names, expected) in [("user/ci", StatusCode::OK), ("serviceaccount/ci", StatusCode::FORBIDDEN)] {
        let role = format!("passed-on-{}", names.len());
        let documents = json!([
            {"kind": "Role", "name": role, "rules": [{"kinds": ["usage"], "verbs": ["view"], "names": [names]}]},
            {"kind": "RoleBinding", "name": role, "role": role, "subjects": [{"kind": "User", "name": "ci"}]}
        ]);
        let answer = mcpd.post("/api/v1/apply", &other, &documents).await;
        assert_eq!(answer.status(), expected, "{}", answer.text().await.unwrap());
    }
    let mixed = json!([{"kind": "Role", "name": "mixed", "rules": [{"kinds": ["users", "usage"], "verbs": ["view"], "names": ["user/ci"]}]}]);
    let answer = mcpd.post("/api/v1/apply", &mcpd.admin(), &mixed).await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    assert!(answer.text().await.unwrap().contains("`user/ci` names an account"));
}

/// Days of a zone, also over the change of its clocks, and by the names that mcpd itself has.
#[tokio::test]
async fn days_are_those_of_the_zone_that_is_asked_for() {
    let config = "limits: {records: {usage: 3650d, usageSums: 3650d}}".to_owned();
    let mut mcpd = Mcpd::start_with(McpdOptions { config: Some(config), ..McpdOptions::default() }).await;
    let store = store(&mcpd, Location::Sqlite(mcpd.data_dir().join("mcpd.sqlite"))).await;
    mcpd.kill();
    let ann = Id::mint();
    let at = |time: &str| UsageRow { at: time.parse().unwrap(), ..row(&ann, SignedDuration::ZERO) };
    // In Berlin the 25th has 25 hours.
    let rows =
        ["2026-10-24T21:59:00Z", "2026-10-24T22:00:00Z", "2026-10-25T22:30:00Z", "2026-10-25T23:00:00Z"];
    Recorder::new(store, Durability::default()).usage(rows.into_iter().map(at).collect()).await.unwrap();
    mcpd.restart().await;
    let days = async |zone: &str| {
        let query = format!("by=day&since=2026-10-20T00:00:00Z&until=2026-10-30T00:00:00Z{zone}");
        json!(rows_of(&usage(&mcpd, &mcpd.admin(), &query).await))
    };
    assert_eq!(
        days("&zone=Europe/Berlin").await,
        json!([["2026-10-23T22:00:00Z", 1], ["2026-10-24T22:00:00Z", 2], ["2026-10-25T23:00:00Z", 1]])
    );
    let utc = json!([["2026-10-24T00:00:00Z", 2], ["2026-10-25T00:00:00Z", 2]]);
    assert_eq!((days("").await, days("&zone=UTC").await), (utc.clone(), utc));
    assert_eq!(days("&zone=-03:00").await, json!([["2026-10-24T03:00:00Z", 2], ["2026-10-25T03:00:00Z", 2]]));
    for wrong in ["Europe/Atlantis", "..%2F..%2Fetc%2Fpasswd", "%2B99:00", ""] {
        let answer = mcpd.get(&format!("/api/v1/usage?by=day&zone={wrong}"), &mcpd.admin()).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{wrong}");
        assert_eq!(answer.json::<Value>().await.unwrap()["error"]["param"], "zone", "{wrong}");
    }
}

fn rows_of(page: &Value) -> Vec<Vec<Value>> {
    rows(page, &["from", "requests"])
}

fn row(account: &Id, age: SignedDuration) -> UsageRow {
    UsageRow {
        id: uuid::Uuid::now_v7(),
        at: Timestamp::now() - age,
        principal: "User ann".to_owned(),
        principal_id: Some(account.clone()),
        token_id: account.clone(),
        llm_id: account.clone(),
        llm_name: "gpt".to_owned(),
        model: "m".to_owned(),
        target: None,
        input_tokens: 3,
        output_tokens: 0,
        cached_input_tokens: 0,
        cache_write_input_tokens: 0,
        reasoning_tokens: 0,
        estimated: false,
        cost_nanos: Some(1),
        stream: false,
        outcome: "ok".to_owned(),
        status: 200,
        attempts: 1,
        begins: true,
        fallback: false,
        duration_ms: 1,
        request_id: String::new(),
    }
}

async fn store(mcpd: &Mcpd, location: Location) -> Store {
    let path = mcpd.data_dir().join("master-key");
    let key = master_key_file::load_or_create(&path, IfMissing::Fail).unwrap();
    Store::open(&location, Arc::new(Keyring::new(key))).await.unwrap()
}

/// Kills the daemon again and again while it counts thousands of rows.
#[tokio::test]
async fn killed_daemon_counts_every_request_once() {
    const ROWS: u64 = 12_000;
    let mut mcpd = Mcpd::start().await;
    let ann = Id::mint();
    let store = store(&mcpd, Location::Sqlite(mcpd.data_dir().join("mcpd.sqlite"))).await;
    mcpd.kill();
    let rows = (0..ROWS).map(|n| row(&ann, SignedDuration::from_mins(i64::try_from(n).unwrap())));
    Recorder::new(store.clone(), Durability::default()).usage(rows.collect()).await.unwrap();
    let counted = async |store: &Store| {
        let mut requests = 0;
        let query = mcpctl_store::UsageQuery { until: i64::MAX, ..Default::default() };
        let add = |part: mcpctl_store::UsagePart| {
            requests += part.sums.requests;
            true
        };
        store.usage_sums(&query, add).await.unwrap();
        requests
    };
    let mut killed_within = 0;
    for kill in 1..=6 {
        mcpd.restart().await;
        eventually("more is counted", async || (counted(&store).await >= kill * ROWS / 8).then_some(()))
            .await;
        mcpd.kill();
        killed_within += u64::from(counted(&store).await < ROWS);
    }
    assert!(killed_within > 0, "no kill came while it counted");
    mcpd.restart().await;
    let page = eventually("all is counted", async || {
        let page = usage(&mcpd, &mcpd.admin(), "by=day").await;
        (page["complete"] == true).then_some(page)
    })
    .await;
    assert_eq!(page["totals"]["requests"], ROWS);
    assert_eq!(page["totals"]["inputTokens"], 3 * ROWS);
}

/// While counting is held up, the fifth question of one account is refused at once, and nothing of another account's.
#[tokio::test]
async fn account_has_few_questions_open_and_leaves_room_for_others() {
    use futures::{StreamExt as _, stream::FuturesUnordered};
    use sqlx::Connection as _;
    /// Replicas take turns to count by this lock.
    const LOCK: i64 = 0x75_7361_6765;
    let postgres = Postgres::start();
    let options = McpdOptions { database_url: Some(postgres.url()), ..McpdOptions::default() };
    let mcpd = Mcpd::start_with(options).await;
    let [alice, bob] = [mcpd.user("alice", None).await, mcpd.user("bob", None).await];
    let mut other = sqlx::PgConnection::connect(&postgres.url()).await.unwrap();
    sqlx::query("SELECT pg_advisory_lock($1)").bind(LOCK).execute(&mut other).await.unwrap();
    let mut asked: FuturesUnordered<_> = (0..5).map(|_| mcpd.get("/api/v1/usage", &alice)).collect();
    let refused = asked.next().await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()["retry-after"], "5");
    let text = refused.text().await.unwrap();
    assert!(text.contains("one is answered at a time for each account"), "{text}");
    // The audit is read in the same turns.
    let refused = mcpd.get("/api/v1/audit", &alice).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    let (of_bob, ()) = tokio::join!(mcpd.get("/api/v1/usage", &bob), async { other.close().await.unwrap() });
    assert_eq!(of_bob.status(), StatusCode::OK);
    while let Some(answer) = asked.next().await {
        assert_eq!(answer.status(), StatusCode::OK);
    }
}

/// Both replicas count at once, and a question to either sees what the other recorded.
#[tokio::test]
async fn replicas_count_every_request_once() {
    let postgres = Postgres::start();
    let options = || McpdOptions { database_url: Some(postgres.url()), ..McpdOptions::default() };
    let one = Mcpd::start_with(options()).await;
    let key = Some(one.data_dir().join("master-key"));
    let two = Mcpd::start_with(McpdOptions { master_key_file: key, ..options() }).await;
    let store = store(&one, Location::Postgres(postgres.url())).await;
    let ann = Id::mint();
    let (admin, mut recorded) = (one.admin(), 0);
    for _ in 0..5 {
        let rows = (0..700).map(|n| row(&ann, SignedDuration::from_hours(n % 48)));
        Recorder::new(store.clone(), Durability::default()).usage(rows.collect()).await.unwrap();
        recorded += 700;
        let (first, second) = tokio::join!(usage(&one, &admin, "by=llm"), usage(&two, &admin, "by=llm"));
        for page in [first, second] {
            assert_eq!((&page["complete"], &page["totals"]["requests"]), (&json!(true), &json!(recorded)));
        }
    }
}
