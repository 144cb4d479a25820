//! Narrowed tokens: on every way they do what their rules and their owner's rights both allow, and nothing that they make
//! does more.

use mcpctl_testkit::{
    daemons::{Mcpd, McpdOptions, UNBOUNDED_WRITES},
    model_server::{ModelServer, Reply},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// `ci` runs every Llm and writes its own tokens; `a` falls back to `b`.
async fn start() -> (Mcpd, ModelServer, ModelServer, String) {
    let (broken, works) = (ModelServer::start().await, ModelServer::with_default(Reply::text("b")).await);
    let mcpd = Mcpd::start().await;
    let rules = json!([
        {"kinds": ["llms"], "verbs": ["view", "run", "edit"], "names": ["*"]},
        {"kinds": ["tokens"], "verbs": ["*"], "names": ["*"]},
        {"kinds": ["users"], "verbs": ["view", "edit"], "names": ["ci"]},
    ]);
    let owner = mcpd.user_with_rules("ci", rules).await;
    let llm = |name: &str, server: &ModelServer| json!({"kind": "Llm", "name": name, "type": "openai", "url": server.base_url(), "model": "m", "retries": {"max": 0}});
    let mut first = llm("a", &broken);
    first["fallbacks"] = json!([{"llm": "b"}]);
    mcpd.apply(json!([first, llm("b", &works)])).await;
    (mcpd, broken, works, owner)
}

async fn issue(mcpd: &Mcpd, maker: &str, name: &str, rules: Value) -> Result<String, Value> {
    let wanted = json!({"name": name, "subject": {"kind": "User", "name": "ci"}, "rules": rules});
    let answer = mcpd.post("/api/v1/tokens", maker, &wanted).await;
    let status = answer.status();
    let body: Value = answer.json().await.unwrap();
    if status == StatusCode::CREATED { Ok(body["token"].as_str().unwrap().to_owned()) } else { Err(body) }
}

fn run_a() -> Value {
    json!([{"kinds": ["llms"], "verbs": ["view", "run"], "names": ["a"]}])
}

async fn chat(mcpd: &Mcpd, token: &str, llm: &str) -> StatusCode {
    let body = json!({"model": llm, "messages": [{"role": "user", "content": "Hi"}]});
    mcpd.post("/v1/chat/completions", token, &body).await.status()
}

#[tokio::test]
async fn inv_09_narrowed_token_is_narrow_on_every_route() {
    let (mcpd, broken, works, owner) = start().await;
    let token = issue(&mcpd, &owner, "narrow", run_a()).await.unwrap();
    let id = |llm: Value| llm["id"].as_str().unwrap().to_owned();
    let b = id(mcpd.get("/api/v1/llms/b", &owner).await.json().await.unwrap());
    for (target, expected) in
        [("a", StatusCode::OK), ("b", StatusCode::FORBIDDEN), (&b, StatusCode::FORBIDDEN)]
    {
        for path in [format!("/api/v1/llms/{target}"), format!("/v1/models/{target}")] {
            assert_eq!(mcpd.get(&path, &token).await.status(), expected, "GET {path}");
            assert_eq!(mcpd.head(&path, &token).await.status(), expected, "HEAD {path}");
        }
    }
    for (list, items, name) in [("/api/v1/llms", "items", "name"), ("/v1/models", "data", "id")] {
        let list: Value = mcpd.get(list, &token).await.json().await.unwrap();
        let names: Vec<&Value> = list[items].as_array().unwrap().iter().map(|item| &item[name]).collect();
        assert_eq!(names, [&json!("a")]);
    }
    assert_eq!(chat(&mcpd, &token, "b").await, StatusCode::FORBIDDEN);
    assert_eq!(works.inferences().len(), 0);
    // The owner falls back to `b`, the narrowed token does not.
    broken.set_default(Reply::status(503, ""));
    assert_eq!(chat(&mcpd, &owner, "a").await, StatusCode::OK);
    let before = works.inferences().len();
    assert_ne!(chat(&mcpd, &token, "a").await, StatusCode::OK);
    assert_eq!(works.inferences().len(), before, "a fallback is authorized with the narrowed token");

    // Its holder sees what it is narrowed to, and no other right of the owner.
    let me: Value = mcpd.get("/api/v1/auth/whoami", &token).await.json().await.unwrap();
    assert_eq!((&me["token"], &me["rules"]), (&json!("narrow"), &run_a()));
    for verb in ["edit", "delete"] {
        let question = json!({"verb": verb, "kind": "llms", "name": "a"});
        let answer: Value = mcpd.post("/api/v1/auth/can-i", &token, &question).await.json().await.unwrap();
        assert_eq!(answer["reason"], "this token is narrowed, and none of its rules allows it", "{verb}");
    }
    let denied: Value = mcpd.get("/api/v1/llms/b", &token).await.json().await.unwrap();
    assert_eq!(
        denied["error"]["message"],
        "`User ci` may not view llms `b` with this token, which is narrowed"
    );

    // What the owner loses, the token loses.
    assert_eq!(
        mcpd.delete("/api/v1/rolebindings/ci-binding", &mcpd.admin()).await.status(),
        StatusCode::NO_CONTENT
    );
    assert_eq!(mcpd.head("/api/v1/llms/a", &token).await.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn inv_12_narrowed_token_makes_nothing_that_does_more() {
    let (mcpd, _broken, _works, owner) = start().await;
    let more = json!([
        {"kinds": ["llms"], "verbs": ["run"], "names": ["a"]},
        {"kinds": ["llms"], "verbs": ["run", "delete"], "names": ["a"]},
    ]);
    let refused = issue(&mcpd, &owner, "more", more).await.unwrap_err();
    assert_eq!(
        refused["error"]["message"],
        "rule 2 of the token is more than User ci may do: delete llms `a`"
    );
    for (rules, why) in [
        (json!([]), "a token without rules allows nothing"),
        (json!([{"kinds": ["llms"], "verbs": ["run"], "names": []}]), "an empty list allows nothing"),
    ] {
        let refused = issue(&mcpd, &owner, "empty", rules).await.unwrap_err();
        assert_eq!(refused["error"]["message"], why);
    }

    let makes_tokens = json!([
        {"kinds": ["llms"], "verbs": ["run"], "names": ["a"]},
        {"kinds": ["tokens"], "verbs": ["create", "delete", "view"], "names": ["*"]},
        {"kinds": ["users"], "verbs": ["view", "edit"], "names": ["ci"]},
    ]);
    let token = issue(&mcpd, &owner, "maker", makes_tokens.clone()).await.unwrap();
    assert!(issue(&mcpd, &token, "wider", run_a()).await.is_err(), "`view` is not in its rules");
    // Without rules the new one has those of its maker.
    let answer = mcpd
        .post("/api/v1/tokens", &token, &json!({"name": "same", "subject": {"kind": "User", "name": "ci"}}))
        .await;
    let same: Value = answer.json().await.unwrap();
    assert_eq!(same["rules"], makes_tokens);
    assert_eq!(
        mcpd.get("/api/v1/llms/a", same["token"].as_str().unwrap()).await.status(),
        StatusCode::FORBIDDEN
    );

    // A password would begin sessions that are not narrowed; and the account may not lose what the token has not.
    for (body, code) in [
        (json!({"password": "correct horse battery"}), "escalation"),
        (json!({"disabled": true}), "escalation"),
    ] {
        let changed =
            mcpd.request(Method::PATCH, "/api/v1/users/ci", &token).json(&body).send().await.unwrap();
        assert_eq!(changed.status(), StatusCode::FORBIDDEN, "{body}");
        assert_eq!(changed.json::<Value>().await.unwrap()["error"]["code"], code, "{body}");
    }
    assert_eq!(mcpd.delete("/api/v1/tokens/ci-token", &token).await.status(), StatusCode::FORBIDDEN);
    assert_eq!(mcpd.delete("/api/v1/tokens/same", &token).await.status(), StatusCode::NO_CONTENT);
    // The owner itself may do all of it.
    assert_eq!(mcpd.delete("/api/v1/tokens/maker", &owner).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(mcpd.get("/api/v1/auth/whoami", &token).await.status(), StatusCode::UNAUTHORIZED);
}

/// What each kind of right opens on the routes of each kind, with the other rights of its owner, who may do everything.
#[tokio::test]
async fn inv_09_each_right_opens_its_own_routes_alone() {
    // It asks for more changes than one account may make in that time.
    let options = McpdOptions { config: Some(UNBOUNDED_WRITES.to_owned()), ..McpdOptions::default() };
    let mcpd = Mcpd::start_with(options).await;
    let admin = mcpd.admin();
    let user = json!({"kind": "User", "name": "a"});
    let documents = json!([
        {"kind": "Llm", "name": "a", "type": "openai", "url": "http://127.0.0.1:9", "model": "m"},
        {"kind": "Secret", "name": "a", "data": {"k": "v"}},
        user,
        {"kind": "Group", "name": "a"},
        {"kind": "ServiceAccount", "name": "a"},
        {"kind": "Role", "name": "a", "rules": [{"kinds": ["llms"], "verbs": ["view"], "names": ["a"]}]},
        {"kind": "RoleBinding", "name": "a", "role": "a", "subjects": [user]},
        {"kind": "Limit", "name": "a", "per": "all", "requests": {"max": 9, "window": "1h"}},
    ]);
    mcpd.apply(documents).await;
    let kinds = ["llms", "secrets", "users", "groups", "serviceaccounts", "roles", "rolebindings", "limits"];
    for kind in kinds {
        for verb in ["view", "edit", "delete"] {
            let name = format!("{kind}-{verb}");
            let rules = json!([{"kinds": [kind], "verbs": [verb], "names": ["a"]}]);
            let wanted = json!({"name": name, "subject": {"kind": "User", "name": "admin"}, "rules": rules});
            let made: Value = mcpd.post("/api/v1/tokens", &admin, &wanted).await.json().await.unwrap();
            let token = made["token"].as_str().unwrap();
            for other in kinds {
                let path = format!("/api/v1/{other}/a");
                let read = mcpd.get(&path, token).await.status();
                let patch = json!({"labels": {"by": name}});
                let edit =
                    mcpd.request(Method::PATCH, &path, token).json(&patch).send().await.unwrap().status();
                let expected = |opens: bool| if opens { StatusCode::OK } else { StatusCode::FORBIDDEN };
                assert_eq!(read, expected(other == kind && verb == "view"), "{name}: GET {path}");
                if (other, verb) == ("rolebindings", "edit") && other == kind {
                    // A binding names only roles that its writer may view.
                    assert!(!edit.is_success(), "{name}: PATCH {path}");
                } else {
                    assert_eq!(edit, expected(other == kind && verb == "edit"), "{name}: PATCH {path}");
                }
                if (other, verb) != (kind, "delete") {
                    assert_eq!(
                        mcpd.delete(&path, token).await.status(),
                        StatusCode::FORBIDDEN,
                        "{name}: DELETE {path}"
                    );
                }
            }
        }
    }
}
