//! `POST /api/v1/apply` with removals, resources in its answer, and dry runs of single writes.

use mcpctl_testkit::daemons::Mcpd;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

async fn send(mcpd: &Mcpd, method: Method, path: &str, body: &Value) -> (StatusCode, Value) {
    let answer = mcpd.request(method, path, &mcpd.admin()).json(body).send().await.unwrap();
    let status = answer.status();
    (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or(Value::Null))
}

async fn exists(mcpd: &Mcpd, path: &str) -> bool {
    mcpd.get(&format!("/api/v1/{path}"), &mcpd.admin()).await.status() == StatusCode::OK
}

#[tokio::test]
async fn removals_and_documents_are_one_commit() {
    let mcpd = Mcpd::start().await;
    let binding = json!({"kind": "RoleBinding", "name": "b", "role": "llm-user", "subjects": [{"kind": "User", "name": "alice"}]});
    mcpd.apply(json!([{"kind": "User", "name": "alice"}, {"kind": "Group", "name": "g"}, binding])).await;
    let alice: Value = mcpd.get("/api/v1/users/alice", &mcpd.admin()).await.json().await.unwrap();
    let apply = async |query: &str, body: Value| {
        send(&mcpd, Method::POST, &format!("/api/v1/apply{query}"), &body).await
    };

    // Nothing of it where a document is refused, a removal is, or its revision is another one.
    let wrong = json!({"kind": "RoleBinding", "name": "w", "role": "nope", "subjects": [{"kind": "User", "name": "alice"}]});
    let group = json!({"kind": "Group", "idOrName": "g"});
    for (body, status, param) in [
        (json!({"documents": [wrong], "delete": [group]}), 400, "[0].role"),
        (
            json!({"documents": [{"kind": "Group", "name": "new"}], "delete": [{"kind": "User", "idOrName": "nope"}]}),
            404,
            "[1]",
        ),
        (json!({"documents": [], "delete": [{"kind": "Group", "idOrName": "g", "revision": 1}]}), 412, "[0]"),
        (json!({"documents": [], "delete": [{"kind": "Usage", "idOrName": "g"}]}), 400, "delete"),
        (json!({"documents": [], "delete": [{"kind": "Group", "idOrName": "g", "x": 1}]}), 400, ""),
        (json!({"delete": [group]}), 400, ""),
        (json!("text"), 400, ""),
        (json!({"documents": [], "delete": vec![group.clone(); 1001]}), 400, ""),
    ] {
        let (answered, error) = apply("", body).await;
        assert_eq!(answered.as_u16(), status, "{error}");
        assert_eq!(error["error"]["param"].as_str().unwrap_or_default(), param, "{error}");
    }
    assert!(exists(&mcpd, "groups/g").await && !exists(&mcpd, "groups/new").await);

    // A dry run shows what would be, and stores nothing.
    let both = json!({"documents": [{"kind": "User", "name": "alice"}, binding], "delete": [{"kind": "User", "idOrName": "alice", "revision": alice["revision"]}]});
    let (status, report) = apply("?dryRun=true&resources=true", both.clone()).await;
    assert_eq!(status, StatusCode::OK, "{report}");
    assert_eq!(report["results"][0]["outcome"], "created", "{report}");
    assert_ne!(report["results"][0]["resource"]["id"], alice["id"], "{report}");
    let same: Value = mcpd.get("/api/v1/users/alice", &mcpd.admin()).await.json().await.unwrap();
    assert_eq!(same, alice);

    // The removal comes first: the account is made anew, and the binding is the document's.
    let (status, report) = apply("", both).await;
    assert_eq!(status, StatusCode::OK, "{report}");
    assert!(report["results"][0].get("resource").is_none(), "only where it is asked for: {report}");
    let anew: Value = mcpd.get("/api/v1/users/alice", &mcpd.admin()).await.json().await.unwrap();
    assert_ne!(anew["id"], alice["id"]);
    assert!(exists(&mcpd, "rolebindings/b").await);
}

#[tokio::test]
async fn dry_runs_of_single_writes_store_nothing() {
    let mcpd = Mcpd::start().await;
    mcpd.apply(json!([{"kind": "Group", "name": "g"}])).await;
    let before: Value = mcpd.get("/api/v1/groups/g", &mcpd.admin()).await.json().await.unwrap();
    let changed = json!({"kind": "Group", "name": "g", "description": "new"});
    for (method, path, body, status) in [
        (Method::POST, "/api/v1/groups?dryRun=true", json!({"name": "other"}), 201),
        (Method::PUT, "/api/v1/groups/g?dryRun=true", changed.clone(), 200),
        (Method::PATCH, "/api/v1/groups/g?dryRun=true", json!({"description": "new"}), 200),
        (Method::DELETE, "/api/v1/groups/g?dryRun=true", Value::Null, 204),
        (Method::POST, "/api/v1/groups?dryRun=true", changed, 409),
    ] {
        let (answered, body) = send(&mcpd, method, path, &body).await;
        assert_eq!(answered.as_u16(), status, "{path} {body}");
    }
    let (status, token) = send(
        &mcpd,
        Method::POST,
        "/api/v1/tokens?dryRun=true",
        &json!({"name": "t", "subject": {"kind": "User", "name": "admin"}}),
    )
    .await;
    assert_eq!((status.as_u16(), token.get("token")), (200, None), "{token}");
    assert!(!exists(&mcpd, "tokens/t").await && !exists(&mcpd, "groups/other").await);
    let after: Value = mcpd.get("/api/v1/groups/g", &mcpd.admin()).await.json().await.unwrap();
    assert_eq!(after, before);
}

#[tokio::test]
async fn dry_runs_state_what_accounts_would_lose_to_those_who_may_view_it() {
    let mcpd = Mcpd::start().await;
    let user = |name: &str| json!({"kind": "User", "name": name});
    let binding = |subjects: Value| json!({"kind": "RoleBinding", "name": "runs", "role": "llm-user", "subjects": subjects});
    mcpd.llm("gpt", "http://127.0.0.1:1").await;
    mcpd.llm("claude", "http://127.0.0.1:1").await;
    mcpd.apply(json!([user("alice"), user("bob"), binding(json!([user("alice"), user("bob")]))])).await;
    // Who holds the rights may take them away, without the right to view whose they are.
    let rules = json!([
        {"kinds": ["RoleBinding"], "verbs": ["view", "edit", "delete"], "names": ["*"]},
        {"kinds": ["Llm"], "verbs": ["view", "run"], "names": ["*"]},
    ]);
    let clerk = mcpd.user_with_rules("clerk", rules).await;
    let admin = mcpd.admin();
    let warnings = async |method: Method, path: &str, bearer: &str, body: &Value| {
        let answer = mcpd.request(method, path, bearer).json(body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        let header = answer.headers().get("mcpctl-warning").map(|value| value.to_str().unwrap().to_owned());
        format!("{}{}", header.unwrap_or_default(), answer.text().await.unwrap())
    };

    let path = "/api/v1/rolebindings/runs";
    let of_alice = "User `alice` may no longer run claude, gpt";
    let of_bob = "User `bob` may no longer run claude, gpt";
    let dry = format!("{path}?dryRun=true");
    let deleted = warnings(Method::DELETE, &dry, &admin, &Value::Null).await;
    assert!(deleted.contains(of_alice) && deleted.contains(of_bob), "{deleted}");
    for (method, path, body) in [
        (Method::PUT, dry.as_str(), binding(json!([user("bob")]))),
        (Method::PATCH, dry.as_str(), json!({"subjects": [user("bob")]})),
        (Method::POST, "/api/v1/apply?dryRun=true", json!([binding(json!([user("bob")]))])),
    ] {
        let shown = warnings(method.clone(), path, &admin, &body).await;
        assert!(shown.contains(of_alice) && !shown.contains(of_bob), "{method} {path}: {shown}");
    }
    let gone = warnings(Method::DELETE, "/api/v1/users/alice?dryRun=true", &admin, &Value::Null).await;
    assert!(!gone.contains("no longer run"), "its deletion is stated: {gone}");
    let unseen = warnings(Method::DELETE, &dry, &clerk, &Value::Null).await;
    assert!(!unseen.contains("alice"), "{unseen}");
    // A rule that comes by another binding, or wider, is not lost.
    let reader = |kinds: &[&str]| json!({"kind": "Role", "name": "reader", "rules": [{"kinds": kinds, "verbs": ["view"], "names": ["*"]}]});
    let reads = |name: &str| json!({"kind": "RoleBinding", "name": name, "role": "reader", "subjects": [user("bob")]});
    mcpd.apply(json!([reader(&["User"]), reads("reads"), reads("reads-too")])).await;
    let one = "/api/v1/rolebindings/reads?dryRun=true";
    assert!(!warnings(Method::DELETE, one, &admin, &Value::Null).await.contains("bob"));
    mcpd.delete("/api/v1/rolebindings/reads-too", &admin).await;
    let lost = warnings(Method::DELETE, one, &admin, &Value::Null).await;
    assert!(lost.contains("User `bob` loses the rule view users *"), "{lost}");
    let off = json!({"disabled": true});
    let disabled = warnings(Method::PATCH, "/api/v1/users/bob?dryRun=true", &admin, &off).await;
    assert!(disabled.contains("User `bob` loses the rule view users *"), "{disabled}");
    let wider =
        warnings(Method::POST, "/api/v1/apply?dryRun=true", &admin, &json!([reader(&["User", "Group"])]))
            .await;
    assert!(!wider.contains("bob"), "{wider}");

    let made = warnings(Method::DELETE, path, &admin, &Value::Null).await;
    assert!(!made.contains("alice"), "a write states what it does, and no more: {made}");
}
