//! What a refusal shows about resources that the caller may not view.

use mcpctl_testkit::daemons::Mcpd;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// Status and text of an answer, with the name that was asked for replaced.
async fn answer(
    mcpd: &Mcpd,
    token: &str,
    method: &Method,
    path: &str,
    body: &Value,
    name: &str,
) -> (StatusCode, String) {
    let request = mcpd.request(method.clone(), &path.replace("NAME", name), token);
    let text = body.to_string().replace("NAME", name);
    let request =
        if body.is_null() { request } else { request.header("content-type", "application/json").body(text) };
    let answer = request.send().await.unwrap();
    let status = answer.status();
    (status, answer.text().await.unwrap().replace(name, "NAME"))
}

#[tokio::test]
async fn refusals_do_not_show_what_exists() {
    let mcpd = Mcpd::start().await;
    mcpd.apply(json!([
        {"kind": "Secret", "name": "prod-there", "data": {"k": "v"}},
        {"kind": "Llm", "name": "prod-there", "type": "openai", "url": "http://127.0.0.1:1", "model": "m"},
        {"kind": "User", "name": "prod-there"},
        {"kind": "ServiceAccount", "name": "prod-there"},
        {"kind": "Group", "name": "prod-there", "members": []},
        {"kind": "Role", "name": "prod-there", "rules": [{"kinds": ["llms"], "verbs": ["view"], "names": ["zzz"]}]},
        {"kind": "RoleBinding", "name": "prod-there", "role": "prod-there", "subjects": [{"kind": "User", "name": "x"}]},
    ]))
    .await;
    // Rights that allow the requests themselves, on other names.
    let every_verb = json!(["view", "run", "use", "create", "edit", "delete"]);
    let rules = json!([
        {"kinds": ["*"], "verbs": every_verb, "names": ["mine-*"]},
        {"kinds": ["rolebindings", "llms", "tokens"], "verbs": ["create"], "names": ["mine"]},
    ]);
    let mallory = mcpd.user_with_rules("mallory", rules).await;
    let llm =
        json!({"kind": "Llm", "name": "NAME", "type": "openai", "url": "http://127.0.0.1:1", "model": "m"});
    let documents = [
        llm.clone(),
        json!({"kind": "Secret", "name": "NAME", "data": {"k": "v"}}),
        json!({"kind": "Secret", "name": "NAME", "data": {"k": null}}),
        json!({"kind": "User", "name": "NAME"}),
        json!({"kind": "ServiceAccount", "name": "NAME"}),
        json!({"kind": "Group", "name": "NAME", "members": []}),
        json!({"kind": "Role", "name": "NAME", "rules": []}),
        json!({"kind": "RoleBinding", "name": "NAME", "role": "viewer", "subjects": [{"kind": "User", "name": "x"}]}),
    ];
    let mut requests = Vec::new();
    for document in &documents {
        let plural = format!("/api/v1/{}s", document["kind"].as_str().unwrap().to_lowercase());
        requests.push((Method::POST, "/api/v1/apply".to_owned(), json!([document])));
        requests.push((Method::POST, "/api/v1/apply?dryRun=true".to_owned(), json!([document])));
        requests.push((Method::POST, plural.clone(), document.clone()));
        requests.push((Method::PUT, format!("{plural}/NAME"), document.clone()));
        let mut renamed = document.clone();
        renamed["name"] = json!("mine-2");
        requests.push((Method::PUT, format!("{plural}/NAME"), renamed));
        requests.push((Method::PATCH, format!("{plural}/NAME"), json!({"labels": {"a": "b"}})));
        requests.push((Method::PATCH, format!("{plural}/NAME"), json!({"name": "mine-1", "revision": 1})));
        requests.push((Method::DELETE, format!("{plural}/NAME"), Value::Null));
        requests.push((Method::GET, format!("{plural}/NAME"), Value::Null));
    }
    let mut keyed = llm.clone();
    keyed["name"] = json!("mine-3");
    keyed["apiKey"] = json!({"secret": "NAME", "key": "k"});
    requests.push((Method::POST, "/api/v1/llms".to_owned(), keyed));
    requests.push((
        Method::POST,
        "/api/v1/rolebindings".to_owned(),
        json!({"name": "mine-4", "role": "NAME", "subjects": [{"kind": "User", "name": "x"}]}),
    ));
    requests.push((
        Method::POST,
        "/api/v1/tokens".to_owned(),
        json!({"name": "mine-5", "subject": {"kind": "User", "name": "NAME"}}),
    ));
    requests.push((
        Method::POST,
        "/v1/chat/completions".to_owned(),
        json!({"model": "NAME", "messages": []}),
    ));
    requests.push((Method::POST, "/api/v1/llms/NAME/infer".to_owned(), json!({"messages": []})));
    for (method, path, body) in &requests {
        let there = answer(&mcpd, &mallory, method, path, body, "prod-there").await;
        let gone = answer(&mcpd, &mallory, method, path, body, "prod-gone").await;
        assert_eq!(there, gone, "{method} {path} {body}");
        assert!(there.0.is_client_error(), "{method} {path} {body}: {there:?}");
    }
    // Warnings show nothing either.
    let mine = |name: &str| json!([{"kind": "Group", "name": format!("mine-{name}"), "members": [{"kind": "User", "name": name}]}]);
    let mut shown = Vec::new();
    for name in ["prod-there", "prod-gone"] {
        let applied = mcpd.post("/api/v1/apply", &mallory, &mine(name)).await;
        assert_eq!(applied.status(), StatusCode::OK);
        let report = applied.json::<Value>().await.unwrap();
        shown.push(report["warnings"].to_string().replace(name, "NAME"));
    }
    assert_eq!(shown[0], shown[1]);
}

#[tokio::test]
async fn a_write_shows_only_what_its_writer_may_view() {
    let mcpd = Mcpd::start().await;
    mcpd.apply(json!([{
        "kind": "Llm", "name": "hidden", "type": "openai", "url": "http://internal-host.example/v1", "model": "m",
        "description": "internal words",
    }]))
    .await;
    let edits = json!([{"kinds": ["llms"], "verbs": ["edit"], "names": ["*"]}]);
    let mallory = mcpd.user_with_rules("mallory", edits).await;
    for (method, body) in [
        (Method::PATCH, json!({"labels": {"a": "b"}})),
        (Method::PATCH, json!({})),
        (Method::PATCH, json!({"model": 5})),
        (Method::PATCH, json!({"timeouts": {"idle": "0s"}})),
    ] {
        let path = "/api/v1/llms/hidden";
        let answer = mcpd.request(method.clone(), path, &mallory).json(&body).send().await.unwrap();
        let text = answer.text().await.unwrap();
        assert!(!text.contains("internal"), "{method} {body}: {text}");
    }
    assert_eq!(mcpd.get("/api/v1/llms/hidden", &mallory).await.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn refused_steps_do_not_show_members_or_rights() {
    let mcpd = Mcpd::start().await;
    mcpd.user("carol", Some("editor")).await;
    let carol = json!({"kind": "User", "name": "carol"});
    mcpd.apply(json!([
        {"kind": "Group", "name": "ops", "members": [carol]},
        {"kind": "RoleBinding", "name": "ops", "role": "viewer", "subjects": [{"kind": "Group", "name": "ops"}]},
    ]))
    .await;
    let deletes = json!([{"kinds": ["groups", "rolebindings"], "verbs": ["delete"], "names": ["ops"]}]);
    let mallory = mcpd.user_with_rules("mallory", deletes).await;
    let resets = json!([{"kinds": ["users"], "verbs": ["edit", "grant"], "names": ["carol"]}]);
    let hr = mcpd.user_with_rules("hr", resets).await;
    let password = json!({"password": "correct horse battery"});
    for (token, method, path, body, hidden) in [
        (&mallory, Method::DELETE, "/api/v1/groups/ops", Value::Null, "carol"),
        (&mallory, Method::DELETE, "/api/v1/rolebindings/ops", Value::Null, "carol"),
        (&hr, Method::PATCH, "/api/v1/users/carol", password, "secrets"),
    ] {
        let request = mcpd.request(method.clone(), path, token);
        let request = if body.is_null() { request } else { request.json(&body) };
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path}: {text}");
        assert!(!text.contains(hidden), "{method} {path}: {text}");
    }
}

#[tokio::test]
async fn patch_never_overwrites_a_newer_revision() {
    let mcpd = Mcpd::start().await;
    let admin = mcpd.admin();
    mcpd.llm("shared", "http://127.0.0.1:1").await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..12 {
        // A patch that removes the revision would hide which state it was merged into.
        let request = mcpd
            .request(Method::PATCH, "/api/v1/llms/shared", &admin)
            .json(&json!({"revision": null, "labels": {format!("k{n}"): "v"}}));
        tasks.spawn(async move { (n, request.send().await.unwrap().status()) });
    }
    let mut stored = Vec::new();
    while let Some(done) = tasks.join_next().await {
        let (n, status) = done.unwrap();
        assert!(matches!(status, StatusCode::OK | StatusCode::PRECONDITION_FAILED), "{status}");
        if status == StatusCode::OK {
            stored.push(n);
        }
    }
    let now = mcpd.get("/api/v1/llms/shared", &admin).await.json::<Value>().await.unwrap();
    assert_eq!(now["labels"].as_object().unwrap().len(), stored.len(), "{now} {stored:?}");
}
