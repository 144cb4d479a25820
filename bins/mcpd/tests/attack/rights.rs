//! Rights by way of groups, bindings, future accounts and the last administrator.

use mcpctl_testkit::daemons::{Mcpd, program};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// Whether the owner of this token may do everything.
async fn is_administrator(mcpd: &Mcpd, token: &str) -> bool {
    let question = json!({"verb": "delete", "kind": "users", "name": "admin"});
    let answer = mcpd.post("/api/v1/auth/can-i", token, &question).await;
    answer.status() == StatusCode::OK && answer.json::<Value>().await.unwrap()["allowed"] == true
}

async fn token_for(mcpd: &Mcpd, name: &str) -> String {
    let wanted = json!({"name": format!("{name}-later"), "subject": {"kind": "User", "name": name}});
    let answer = mcpd.post("/api/v1/tokens", &mcpd.admin(), &wanted).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    answer.json::<Value>().await.unwrap()["token"].as_str().unwrap().to_owned()
}

fn user(name: &str) -> Value {
    json!({"kind": "User", "name": name})
}

#[tokio::test]
async fn membership_cannot_be_planted_for_later_accounts() {
    let mcpd = Mcpd::start().await;
    let admin = mcpd.admin();
    mcpd.apply(json!([
        {"kind": "User", "name": "leaver", "disabled": true},
        {"kind": "ServiceAccount", "name": "bot", "disabled": true},
        {"kind": "Group", "name": "ops", "members": [user("admin")]},
        {"kind": "RoleBinding", "name": "ops", "role": "admin", "subjects": [{"kind": "Group", "name": "ops"}]},
    ]))
    .await;
    let rules = json!([
        {"kinds": ["groups", "rolebindings"], "verbs": ["view", "edit", "create"], "names": ["*"]},
        {"kinds": ["users", "serviceaccounts"], "verbs": ["edit"], "names": ["leaver", "bot"]},
    ]);
    let mallory = mcpd.user_with_rules("mallory", rules).await;
    let future = [
        user("contractor"),
        user("leaver"),
        json!({"kind": "ServiceAccount", "name": "bot"}),
        json!({"kind": "ServiceAccount", "name": "later"}),
    ];
    for subject in &future {
        let members = json!({"members": [user("admin"), subject]});
        for (method, path, body) in [
            (Method::PUT, "/api/v1/groups/ops", members.clone()),
            (Method::PATCH, "/api/v1/groups/ops", members.clone()),
            (
                Method::POST,
                "/api/v1/rolebindings",
                json!({"name": "planted", "role": "admin", "subjects": [subject]}),
            ),
            (
                Method::POST,
                "/api/v1/apply",
                json!([{"kind": "Group", "name": "ops", "members": [user("admin"), subject]}]),
            ),
        ] {
            let answer = mcpd.request(method.clone(), path, &mallory).json(&body).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{method} {path} {body}");
        }
    }
    // A disabled account is not woken by one who holds less than it would.
    mcpd.apply(json!([{"kind": "Group", "name": "ops", "members": [user("admin"), user("leaver")]}])).await;
    let wake =
        mcpd.request(Method::PATCH, "/api/v1/users/leaver", &mallory).json(&json!({"disabled": false}));
    assert_eq!(wake.send().await.unwrap().status(), StatusCode::FORBIDDEN);
    // Nor unbound by one, though it is disabled.
    let unbound = json!({"members": [user("admin")]});
    let unbind =
        mcpd.request(Method::PUT, "/api/v1/groups/ops", &mallory).json(&unbound).send().await.unwrap();
    assert_eq!(unbind.status(), StatusCode::FORBIDDEN);
    mcpd.apply(json!([{"kind": "Group", "name": "ops", "members": [user("admin")]}])).await;

    assert_eq!(mcpd.post("/api/v1/users", &admin, &user("contractor")).await.status(), StatusCode::CREATED);
    let contractor = token_for(&mcpd, "contractor").await;
    assert!(!is_administrator(&mcpd, &contractor).await);
}

#[tokio::test]
async fn rights_are_not_taken_from_stronger_accounts() {
    let mcpd = Mcpd::start().await;
    let admin = mcpd.admin();
    mcpd.user("boss", Some("admin")).await;
    mcpd.apply(json!([
        {"kind": "Group", "name": "ops", "members": [user("boss")]},
        {"kind": "RoleBinding", "name": "ops", "role": "viewer", "subjects": [{"kind": "Group", "name": "ops"}]},
        {"kind": "Role", "name": "runs", "rules": [{"kinds": ["llms"], "verbs": ["run"], "names": ["*"]}]},
        {"kind": "RoleBinding", "name": "runs", "role": "runs", "subjects": [user("eve")]},
        user("eve"),
    ]))
    .await;
    let all = json!([{
        "kinds": ["users", "groups", "roles", "rolebindings"],
        "verbs": ["view", "edit", "create", "delete"], "names": ["*"],
    }]);
    let hr = mcpd.user_with_rules("hr", all).await;
    let take_away = [
        (Method::DELETE, "/api/v1/users/boss", Value::Null),
        (Method::PATCH, "/api/v1/users/boss", json!({"disabled": true})),
        (Method::PATCH, "/api/v1/users/boss", json!({"name": "boss-2"})),
        (Method::DELETE, "/api/v1/rolebindings/boss-admin", Value::Null),
        (Method::PATCH, "/api/v1/rolebindings/boss-admin", json!({"role": "viewer"})),
        (Method::PATCH, "/api/v1/rolebindings/boss-admin", json!({"subjects": [user("nobody")]})),
        (Method::DELETE, "/api/v1/roles/runs", Value::Null),
        (Method::DELETE, "/api/v1/users/eve", Value::Null),
    ];
    for (method, path, body) in &take_away {
        let request = mcpd.request(method.clone(), path, &hr);
        let request = if body.is_null() { request } else { request.json(body) };
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{method} {path} {body}");
    }
    // A rename takes nothing away: bindings follow it.
    for (from, to) in [("runs", "walks"), ("walks", "runs")] {
        let rename = mcpd.request(Method::PATCH, &format!("/api/v1/roles/{from}"), &hr);
        let answer = rename.json(&json!({"name": to})).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let binding = mcpd.get("/api/v1/rolebindings/runs", &admin).await.json::<Value>().await.unwrap();
        assert_eq!(binding["role"], to);
    }
    // Changes that take no rights away are allowed, and with `grant` on an account the others are too.
    assert_eq!(mcpd.delete("/api/v1/groups/ops", &hr).await.status(), StatusCode::NO_CONTENT);
    let grant = json!({"rules": [{
        "kinds": ["users", "rolebindings"], "verbs": ["view", "edit", "delete", "grant"], "names": ["eve", "runs"],
    }]});
    let given =
        mcpd.request(Method::PATCH, "/api/v1/roles/hr-role", &admin).json(&grant).send().await.unwrap();
    assert_eq!(given.status(), StatusCode::OK);
    assert_eq!(mcpd.delete("/api/v1/users/eve", &hr).await.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn the_last_administrator_stays() {
    let mcpd = Mcpd::start().await;
    let admin = mcpd.admin();
    let tokens = mcpd.get("/api/v1/tokens", &admin).await.json::<Value>().await.unwrap();
    let bootstrap = tokens["items"][0]["name"].as_str().unwrap().to_owned();
    let last = async |method: Method, path: &str, body: Value| {
        let request = mcpd.request(method.clone(), path, &admin);
        let request = if body.is_null() { request } else { request.json(&body) };
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert_eq!(status, StatusCode::CONFLICT, "{method} {path}: {text}");
        assert!(text.contains("last_administrator"), "{text}");
    };
    // A second one who cannot sign in is none.
    mcpd.apply(json!([
        user("second"),
        {"kind": "RoleBinding", "name": "second", "role": "admin", "subjects": [user("second")]},
    ]))
    .await;
    last(Method::DELETE, "/api/v1/users/admin", Value::Null).await;
    last(Method::PATCH, "/api/v1/users/admin", json!({"disabled": true})).await;
    last(Method::DELETE, "/api/v1/rolebindings/admin", Value::Null).await;
    last(Method::PATCH, "/api/v1/rolebindings/admin", json!({"role": "viewer"})).await;
    last(Method::DELETE, &format!("/api/v1/tokens/{bootstrap}"), Value::Null).await;
    // Under another name it is an administrator still.
    for (from, to) in [("admin", "someone"), ("someone", "admin")] {
        let rename = mcpd.request(Method::PATCH, &format!("/api/v1/users/{from}"), &admin);
        assert_eq!(rename.json(&json!({"name": to})).send().await.unwrap().status(), StatusCode::OK);
        assert!(is_administrator(&mcpd, &admin).await, "{to}");
    }
    // One whose credential is capped by the one that would go is none either; one that deletes its maker keeps its own.
    let second = token_for(&mcpd, "second").await;
    last(Method::DELETE, "/api/v1/users/admin", Value::Null).await;
    assert_eq!(mcpd.delete("/api/v1/users/admin", &second).await.status(), StatusCode::NO_CONTENT);
    assert!(is_administrator(&mcpd, &second).await);
    let gone = mcpd.delete("/api/v1/users/second", &second).await;
    assert_eq!(gone.status(), StatusCode::CONFLICT);
}

#[tokio::test]
async fn tokens_of_mightier_accounts_are_not_deleted() {
    let mcpd = Mcpd::start().await;
    let admin = mcpd.admin();
    let janitor = mcpd
        .user_with_rules(
            "janitor",
            json!([{"kinds": ["tokens"], "verbs": ["view", "delete"], "names": ["*"]}]),
        )
        .await;
    mcpd.user("eve", None).await;
    let list = mcpd.get("/api/v1/tokens", &admin).await.json::<Value>().await.unwrap();
    let tokens = list["items"].as_array().unwrap();
    let of_admin = tokens.iter().find(|token| token["subject"]["name"] == "admin").unwrap()["name"].clone();
    let path = format!("/api/v1/tokens/{}", of_admin.as_str().unwrap());
    let refused = mcpd.delete(&path, &janitor).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert!(!refused.text().await.unwrap().contains("User admin"), "users are not theirs to view");
    assert_eq!(mcpd.delete("/api/v1/tokens/eve-token", &janitor).await.status(), StatusCode::NO_CONTENT);
    // A credential that is about to end does not make another one dispensable.
    let brief = json!({"name": "brief", "subject": user("admin"), "expiresIn": "5m"});
    let brief = mcpd.post("/api/v1/tokens", &admin, &brief).await.json::<Value>().await.unwrap();
    let brief = brief["token"].as_str().unwrap();
    assert_eq!(mcpd.delete(&path, brief).await.status(), StatusCode::CONFLICT);
}

#[tokio::test]
async fn service_accounts_alone_can_administer() {
    let mut mcpd = Mcpd::start().await;
    let admin = mcpd.admin();
    let gitops = json!({"kind": "ServiceAccount", "name": "gitops"});
    mcpd.apply(json!([
        gitops,
        {"kind": "RoleBinding", "name": "gitops", "role": "admin", "subjects": [gitops]},
    ]))
    .await;
    let wanted = json!({"name": "g", "subject": gitops});
    let issued = mcpd.post("/api/v1/tokens", &admin, &wanted).await.json::<Value>().await.unwrap();
    let token = issued["token"].as_str().unwrap().to_owned();
    assert_eq!(mcpd.delete("/api/v1/users/admin", &token).await.status(), StatusCode::NO_CONTENT);
    mcpd.terminate();
    mcpd.wait();
    mcpd.restart().await;
    assert!(is_administrator(&mcpd, &token).await);
    assert_eq!(mcpd.get("/api/v1/users/admin", &token).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn bootstrap_token_restores_the_administrator() {
    let mcpd = Mcpd::start().await;
    let boss = mcpd.user("boss", Some("admin")).await;
    assert_eq!(mcpd.delete("/api/v1/users/admin", &boss).await.status(), StatusCode::NO_CONTENT);
    // An account of that name that is no administrator, and a token of it that its maker kept.
    mcpd_apply(&mcpd, &boss, json!([user("admin")])).await;
    let wanted = json!({"name": "kept", "subject": user("admin")});
    let issued = mcpd.post("/api/v1/tokens", &boss, &wanted).await.json::<Value>().await.unwrap();
    let kept = issued["token"].as_str().unwrap().to_owned();
    let disabled = mcpd.request(Method::PATCH, "/api/v1/users/admin", &boss).json(&json!({"disabled": true}));
    assert_eq!(disabled.send().await.unwrap().status(), StatusCode::OK);
    let binding = mcpd.get("/api/v1/rolebindings/admin", &boss).await;
    assert_eq!(binding.status(), StatusCode::NOT_FOUND, "it went with the account");

    let empty = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(program("mcpd"));
    let wrong =
        command.args(["bootstrap-token", "--data-dir"]).arg(empty.path().join("typo")).output().unwrap();
    assert!(
        !wrong.status.success() && !empty.path().join("typo").exists(),
        "nothing is made where nothing is"
    );
    let mut command = std::process::Command::new(program("mcpd"));
    let done = command.args(["bootstrap-token", "--data-dir"]).arg(mcpd.data_dir()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(is_administrator(&mcpd, &mcpd.admin()).await, "user, binding and enabled state are restored");
    let old = mcpd.get("/api/v1/auth/whoami", &kept).await;
    assert_eq!(old.status(), StatusCode::UNAUTHORIZED, "an earlier credential is not raised with the user");
}

async fn mcpd_apply(mcpd: &Mcpd, token: &str, documents: Value) {
    assert_eq!(mcpd.post("/api/v1/apply", token, &documents).await.status(), StatusCode::OK);
}
