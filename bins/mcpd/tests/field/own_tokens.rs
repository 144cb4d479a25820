//! What people do for themselves: their own tokens and their own password, without a rule and without an administrator.

use mcpctl_testkit::daemons::{Mcpd, McpdOptions};
use reqwest::StatusCode;
use serde_json::{Value, json};

const DAY: i64 = 86_400;

struct Answer {
    status: StatusCode,
    body: Value,
}

impl Answer {
    async fn of(response: reqwest::Response) -> Self {
        let status = response.status();
        Self { status, body: response.json().await.unwrap_or(Value::Null) }
    }

    fn secret(&self) -> String {
        assert_eq!(self.status, StatusCode::CREATED, "{}", self.body);
        self.body["token"].as_str().unwrap().to_owned()
    }

    /// Days that the new token is good for.
    fn days(&self) -> i64 {
        let end: jiff::Timestamp = self.body["expiresAt"].as_str().unwrap().parse().unwrap();
        (end.duration_since(jiff::Timestamp::now()).as_secs() + 60) / DAY
    }

    fn refused(&self, status: StatusCode, begin: &str) {
        let message = self.body["error"]["message"].as_str().unwrap_or_default();
        assert!(self.status == status && message.starts_with(begin), "{} {}", self.status, self.body);
    }
}

async fn make(mcpd: &Mcpd, who: &str, owner: &str, name: &str, more: Value) -> Answer {
    let mut body = json!({"name": name, "subject": {"kind": "User", "name": owner}});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Answer::of(mcpd.post("/api/v1/tokens", who, &body).await).await
}

async fn rotate(mcpd: &Mcpd, who: &str, name: &str, body: Value) -> Answer {
    Answer::of(mcpd.post(&format!("/api/v1/tokens/{name}/rotate"), who, &body).await).await
}

async fn revoke(mcpd: &Mcpd, who: &str, name: &str) -> StatusCode {
    mcpd.delete(&format!("/api/v1/tokens/{name}"), who).await.status()
}

async fn good(mcpd: &Mcpd, token: &str) -> bool {
    mcpd.get("/api/v1/auth/whoami", token).await.status() == StatusCode::OK
}

/// The session of a password.
async fn login(mcpd: &Mcpd, user: &str, password: &str) -> Answer {
    let body = json!({"user": user, "password": password});
    Answer::of(mcpd.post("/api/v1/auth/login", "", &body).await).await
}

async fn with_password(mcpd: &Mcpd, user: &str, password: &str) {
    mcpd.apply(json!([{"kind": "User", "name": user, "password": password}])).await;
}

#[tokio::test]
async fn person_makes_renews_lists_and_revokes_own_tokens() {
    let mcpd = Mcpd::start().await;
    let alice = mcpd.user("alice", None).await;
    let other = mcpd.user("bob", None).await;
    let laptop = make(&mcpd, &alice, "alice", "alice-laptop", json!({})).await;
    assert_eq!(laptop.days(), 30);
    let renewed = rotate(&mcpd, &laptop.secret(), "alice-laptop", json!({})).await;
    assert!(good(&mcpd, &renewed.secret()).await && !good(&mcpd, &laptop.secret()).await);

    // What each sees of it.
    let path = "/api/v1/auth/token-status?subject=user/alice";
    let own = Answer::of(mcpd.get(path, &alice).await).await.body;
    let listed = own["items"].as_array().unwrap();
    let found = listed.iter().find(|token| token["token"] == "alice-laptop").unwrap();
    let begins = found["prefix"].as_str().unwrap();
    assert!(renewed.secret().starts_with(begins) && begins.len() == 11, "{found}");
    assert!(found["createdAt"].is_string() && found["lastUsedAt"].is_string(), "{found}");
    let all = Answer::of(mcpd.get("/api/v1/auth/token-status", &alice).await).await.body;
    let names = |list: &Value| {
        let tokens = list["items"].as_array().unwrap();
        tokens.iter().map(|token| token["token"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&all), ["alice-laptop", "alice-token"], "one's own are all that one may view");
    assert_eq!(Answer::of(mcpd.get(path, &other).await).await.body, json!({"items": []}));

    // No other account's token, existing or not, by name or id; all look alike.
    let id = renewed.body["id"].as_str().unwrap();
    for target in ["alice-laptop", id, "bob-none", "cabcdefghijklmnopqrstuvwx"] {
        assert_eq!(rotate(&mcpd, &other, target, json!({})).await.status, StatusCode::FORBIDDEN, "{target}");
        assert_eq!(revoke(&mcpd, &other, target).await, StatusCode::FORBIDDEN, "{target}");
    }
    assert_eq!(revoke(&mcpd, &alice, "alice-laptop").await, StatusCode::NO_CONTENT);
    assert!(!good(&mcpd, &renewed.secret()).await);
}

#[tokio::test]
async fn own_tokens_are_bounded_in_name_time_and_number() {
    let mcpd = Mcpd::start().await;
    with_password(&mcpd, "alice", "a long password").await;
    let session = login(&mcpd, "alice", "a long password").await.secret();
    make(&mcpd, &session, "alice", "ci", json!({}))
        .await
        .refused(StatusCode::FORBIDDEN, "your own tokens have names that begin with `alice-`");
    // Nor those that begin with a longer name, whether or not there is such a token.
    mcpd.user("alice-b", None).await;
    for name in ["alice-b-x", "alice-b-token"] {
        make(&mcpd, &session, "alice", name, json!({}))
            .await
            .refused(StatusCode::FORBIDDEN, "your own tokens have names that begin with `alice-`");
    }
    make(&mcpd, &session, "bob", "alice-x", json!({}))
        .await
        .refused(StatusCode::FORBIDDEN, "`User alice` may not");
    let longest = make(&mcpd, &session, "alice", "alice-long", json!({"expiresIn": "90d"})).await;
    assert_eq!(longest.days(), 90);
    make(&mcpd, &session, "alice", "alice-longer", json!({"expiresIn": "91d"}))
        .await
        .refused(StatusCode::BAD_REQUEST, "a token is good for more than nothing and at most 90d");

    // A token of another account's making is no way to one that lasts longer.
    let admin = mcpd.admin();
    let lent = make(&mcpd, &admin, "alice", "lent", json!({"expiresIn": "2d"})).await.secret();
    assert_eq!(make(&mcpd, &lent, "alice", "alice-2", json!({})).await.days(), 2);
    make(&mcpd, &lent, "alice", "alice-3", json!({"expiresIn": "3d"}))
        .await
        .refused(StatusCode::BAD_REQUEST, "a token is good for more than nothing and at most 2d");
    let renewed = rotate(&mcpd, &lent, "lent", json!({})).await;
    assert_eq!(renewed.days(), 2);
    rotate(&mcpd, &renewed.secret(), "lent", json!({"expiresIn": "3d"}))
        .await
        .refused(StatusCode::BAD_REQUEST, "a token is good for more than nothing and at most 2d");
    let sibling = rotate(&mcpd, &renewed.secret(), "alice-long", json!({"expiresIn": "3d"})).await;
    sibling.refused(StatusCode::BAD_REQUEST, "a token is good for more than nothing and at most 2d");
    let sibling = rotate(&mcpd, &renewed.secret(), "alice-long", json!({})).await;
    sibling.refused(StatusCode::BAD_REQUEST, "a token is good for more than nothing and at most 2d");
    assert!(good(&mcpd, &longest.secret()).await, "a refused rotation changes nothing");
    // Nor does one that lasts for longer lend its own lifetime.
    let year = make(&mcpd, &admin, "alice", "year", json!({"expiresIn": "365d"})).await.secret();
    rotate(&mcpd, &year, "alice-2", json!({"expiresIn": "91d"}))
        .await
        .refused(StatusCode::BAD_REQUEST, "a token is good for more than nothing and at most 90d");
    // And it stays within what its maker holds.
    let status = Answer::of(mcpd.get("/api/v1/tokens/lent", &admin).await).await.body;
    assert_eq!(status["issuedBy"].as_array().unwrap().len(), 1, "{status}");

    // The old secret of a rotation is good until its end, and makes and renews nothing.
    let old = make(&mcpd, &session, "alice", "alice-old", json!({})).await.secret();
    rotate(&mcpd, &session, "alice-old", json!({"grace": "1h"})).await.secret();
    assert!(good(&mcpd, &old).await);
    let replaced = "this secret was replaced by a rotation";
    rotate(&mcpd, &old, "alice-old", json!({})).await.refused(StatusCode::BAD_REQUEST, replaced);
    make(&mcpd, &old, "alice", "alice-new", json!({})).await.refused(StatusCode::BAD_REQUEST, replaced);

    // Nor does that of an administrator, which takes no rule of one's own.
    mcpd.user("root", Some("admin")).await;
    let old = make(&mcpd, &admin, "root", "root-old", json!({})).await.secret();
    rotate(&mcpd, &admin, "root-old", json!({"grace": "1h"})).await.secret();
    rotate(&mcpd, &old, "root-old", json!({})).await.refused(StatusCode::BAD_REQUEST, replaced);
    make(&mcpd, &old, "alice", "alice-x", json!({})).await.refused(StatusCode::BAD_REQUEST, replaced);

    // Tokens that expire at once count too.
    let mut refused = None;
    for number in 0..64 {
        let answer =
            make(&mcpd, &session, "alice", &format!("alice-n{number}"), json!({"expiresIn": "1s"})).await;
        if answer.status != StatusCode::CREATED {
            refused = Some(answer);
            break;
        }
    }
    refused.unwrap().refused(StatusCode::BAD_REQUEST, "User alice has 64 tokens, with those");
}

#[tokio::test]
async fn narrowed_token_and_service_account_need_a_rule() {
    let mcpd = Mcpd::start().await;
    let alice = mcpd.user("alice", Some("llm-user")).await;
    let rules = json!([{"kinds": ["llms"], "verbs": ["run"], "names": ["*"]}]);
    let narrowed = make(&mcpd, &alice, "alice", "alice-n", json!({"rules": rules})).await.secret();
    make(&mcpd, &narrowed, "alice", "alice-m", json!({}))
        .await
        .refused(StatusCode::FORBIDDEN, "`User alice` may not");
    for name in ["alice-n", "alice-token"] {
        let answer = rotate(&mcpd, &narrowed, name, json!({})).await;
        answer.refused(StatusCode::FORBIDDEN, "`User alice` may not create tokens");
        assert_eq!(revoke(&mcpd, &narrowed, name).await, StatusCode::FORBIDDEN);
    }
    let seen = Answer::of(mcpd.get("/api/v1/auth/token-status", &narrowed).await).await.body;
    assert_eq!(seen, json!({"items": []}));
    let answer = mcpd
        .post("/api/v1/auth/password", &narrowed, &json!({"current": "x", "new": "a long password"}))
        .await;
    Answer::of(answer).await.refused(StatusCode::FORBIDDEN, "this token is narrowed");

    mcpd.apply(json!([{"kind": "ServiceAccount", "name": "ci"}])).await;
    let body = json!({"name": "ci", "subject": {"kind": "ServiceAccount", "name": "ci"}});
    let ci = Answer::of(mcpd.post("/api/v1/tokens", &mcpd.admin(), &body).await).await.secret();
    let body = json!({"name": "ci-2", "subject": {"kind": "ServiceAccount", "name": "ci"}});
    Answer::of(mcpd.post("/api/v1/tokens", &ci, &body).await)
        .await
        .refused(StatusCode::FORBIDDEN, "`ServiceAccount ci` may not");
    assert_eq!(rotate(&mcpd, &ci, "ci", json!({})).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn own_password_takes_the_present_one_and_ends_other_sessions() {
    let config = Some("limits: {logins: {perName: {burst: 3, every: 60s}}}\n".to_owned());
    let mcpd = Mcpd::start_with(McpdOptions { config, ..McpdOptions::default() }).await;
    with_password(&mcpd, "alice", "the first password").await;
    let session = login(&mcpd, "alice", "the first password").await.secret();
    let other = login(&mcpd, "alice", "the first password").await.secret();
    let change = async |current: &str, new: &str| {
        let body = json!({"current": current, "new": new});
        Answer::of(mcpd.post("/api/v1/auth/password", &session, &body).await).await
    };
    change("a wrong password", "the second password")
        .await
        .refused(StatusCode::FORBIDDEN, "the present password is wrong");
    change("the first password", "short").await.refused(StatusCode::BAD_REQUEST, "a password has 12 to 256");
    change("the first password", "the first password")
        .await
        .refused(StatusCode::BAD_REQUEST, "the new password is the present one");
    assert!(good(&mcpd, &other).await);
    assert_eq!(change("the first password", "the second password").await.status, StatusCode::NO_CONTENT);
    assert!(good(&mcpd, &session).await && !good(&mcpd, &other).await);
    assert_eq!(login(&mcpd, "alice", "the first password").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(login(&mcpd, "alice", "the second password").await.status, StatusCode::CREATED);
    // The administrator who set the first one caps the second one too.
    let user = Answer::of(mcpd.get("/api/v1/users/alice", &mcpd.admin()).await).await.body;
    assert_eq!(user["passwordSetBy"].as_array().unwrap().len(), 1, "{user}");

    // Guesses are counted as at a login, and the denial has the time to wait.
    let mut last = StatusCode::OK;
    for number in 0..4 {
        last = change(&format!("guess number {number}"), "the third password").await.status;
        if last == StatusCode::TOO_MANY_REQUESTS {
            break;
        }
    }
    assert_eq!(last, StatusCode::TOO_MANY_REQUESTS);

    let token = mcpd.user("bob", None).await;
    let body = json!({"current": "whatever it is", "new": "the first password"});
    Answer::of(mcpd.post("/api/v1/auth/password", &token, &body).await)
        .await
        .refused(StatusCode::CONFLICT, "User bob has no password");
}

#[tokio::test]
async fn rights_are_listed_for_oneself_and_for_those_who_may_view_them() {
    let mcpd = Mcpd::start().await;
    let alice = mcpd.user("alice", None).await;
    mcpd.apply(json!([
        {"kind": "Group", "name": "team", "members": [{"kind": "User", "name": "alice"}]},
        {"kind": "RoleBinding", "name": "team", "role": "llm-user", "subjects": [{"kind": "Group", "name": "team"}]},
    ]))
    .await;
    let own = Answer::of(mcpd.get("/api/v1/auth/rights", &alice).await).await.body;
    assert_eq!(own["groups"], json!(["team"]));
    assert_eq!(
        own["rules"],
        json!([{
            "rule": {"kinds": ["llms"], "verbs": ["view", "run"], "names": ["*"]},
            "role": "llm-user", "binding": "team", "viaGroup": "team",
        }])
    );
    let admin = mcpd.admin();
    let asked = Answer::of(mcpd.get("/api/v1/auth/rights?subject=alice", &admin).await).await.body;
    assert_eq!((&asked["rules"], &asked["groups"]), (&own["rules"], &own["groups"]));
    let can_i = async |who: &str, account: &str| {
        let body =
            json!({"verb": "run", "kind": "llms", "name": "x", "as": {"kind": "User", "name": account}});
        Answer::of(mcpd.post("/api/v1/auth/can-i", who, &body).await).await
    };
    let yes = can_i(&admin, "alice").await.body;
    assert_eq!(
        (&yes["allowed"], yes["reason"].as_str().unwrap()),
        (&json!(true), "role `llm-user`, given to group `team` by rolebinding `team`")
    );
    can_i(&admin, "nobody").await.refused(StatusCode::BAD_REQUEST, "there is no User nobody");
    mcpd.apply(json!([{"kind": "User", "name": "alice", "disabled": true}])).await;
    assert_eq!(can_i(&admin, "alice").await.body["reason"], "User alice is disabled");
    // One's own tokens take no rule; what the routes allow is what the answer is.
    let own = async |who: &str, verb: &str, name: &str| {
        let body = json!({"verb": verb, "kind": "tokens", "name": name});
        Answer::of(mcpd.post("/api/v1/auth/can-i", who, &body).await).await.body["allowed"].clone()
    };
    let carol = mcpd.user("carol", None).await;
    for (verb, name, expected) in [
        ("create", "carol-new", true),
        ("create", "new", false),
        ("create", "carol-token", true),
        ("delete", "carol-token", true),
        ("delete", "carol-none", false),
        ("view", "alice-token", false),
        ("edit", "carol-token", false),
        ("grant", "carol-token", false),
    ] {
        assert_eq!(own(&carol, verb, name).await, expected, "{verb} {name}");
    }
    // Others are asked for by those alone who may view accounts and their rights.
    let bob = mcpd.user("bob", None).await;
    for name in ["alice", "nobody"] {
        assert_eq!(can_i(&bob, name).await.status, StatusCode::FORBIDDEN);
        let path = format!("/api/v1/auth/rights?subject={name}");
        assert_eq!(mcpd.get(&path, &bob).await.status(), StatusCode::FORBIDDEN);
    }
}
