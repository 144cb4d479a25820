//! Who can have a secret's value sent where.

use mcpctl_testkit::{
    daemons::Mcpd,
    model_server::{ModelServer, Reply},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

struct World {
    mcpd: Mcpd,
    /// Where the key belongs.
    provider: ModelServer,
    /// Where it does not.
    evil: ModelServer,
}

impl World {
    async fn new() -> Self {
        let mcpd = Mcpd::start().await;
        let provider = ModelServer::with_default(Reply::text("hello")).await;
        let evil = ModelServer::with_default(Reply::text("hello")).await;
        mcpd.apply(json!([
            {"kind": "Secret", "name": "prod", "data": {"key": "sk-prod"}},
            llm("gpt", &provider, Some("prod")),
        ]))
        .await;
        Self { mcpd, provider, evil }
    }

    async fn chat(&self, llm: &str) -> StatusCode {
        let body = json!({"model": llm, "messages": [{"role": "user", "content": "Hi"}]});
        self.mcpd.post("/v1/chat/completions", &self.mcpd.admin(), &body).await.status()
    }

    async fn write(&self, token: &str, method: Method, path: &str, body: &Value) -> (StatusCode, String) {
        let request = self.mcpd.request(method, path, token);
        let request = if body.is_null() { request } else { request.json(body) };
        let answer = request.send().await.unwrap();
        let warning = answer.headers().get("mcpctl-warning").map(|w| w.to_str().unwrap().to_owned());
        (answer.status(), warning.unwrap_or_default())
    }

    /// The keys that a server was sent.
    fn keys(server: &ModelServer) -> Vec<String> {
        let requests = server.requests();
        requests.iter().filter_map(|r| r.header("authorization").map(str::to_owned)).collect()
    }
}

fn llm(name: &str, at: &ModelServer, secret: Option<&str>) -> Value {
    let mut llm = json!({"kind": "Llm", "name": name, "type": "openai", "url": at.base_url(), "model": "m"});
    if let Some(secret) = secret {
        llm["apiKey"] = json!({"secret": secret, "key": "key"});
    }
    llm
}

#[tokio::test]
async fn a_secret_is_referred_to_only_with_use() {
    let world = World::new().await;
    let rules = json!([
        {"kinds": ["llms"], "verbs": ["view", "create", "edit", "delete", "run"], "names": ["*"]},
        {"kinds": ["secrets"], "verbs": ["view", "create", "edit", "delete"], "names": ["*"]},
    ]);
    let mallory = world.mcpd.user_with_rules("mallory", rules).await;
    let evil = llm("mine", &world.evil, Some("prod"));
    let ways = [
        (Method::POST, "/api/v1/llms", evil.clone()),
        (Method::PUT, "/api/v1/llms/mine", evil.clone()),
        (Method::POST, "/api/v1/apply", json!([evil])),
        (
            Method::POST,
            "/api/v1/apply",
            json!([
                {"kind": "Secret", "name": "fresh", "data": {"key": "x"}},
                llm("mine", &world.evil, Some("fresh")),
            ]),
        ),
        // Under the name of an Llm that has the key already.
        (Method::PATCH, "/api/v1/llms/gpt", json!({"name": "mine"})),
        // Under a name of one's own.
        (Method::PATCH, "/api/v1/secrets/prod", json!({"name": "mine"})),
    ];
    for (method, path, body) in ways {
        let (status, _) = world.write(&mallory, method.clone(), path, &body).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path} {body}");
    }
    // Moving the address is allowed, and detaches the key.
    let moved = json!({"url": world.evil.base_url()});
    let (status, warning) = world.write(&mallory, Method::PATCH, "/api/v1/llms/gpt", &moved).await;
    assert_eq!((status, warning.contains("detached")), (StatusCode::OK, true), "{warning}");
    world.chat("gpt").await;
    assert_eq!(World::keys(&world.evil), Vec::<String>::new());
}

#[tokio::test]
async fn reference_is_to_the_secret_and_not_to_its_name() {
    let world = World::new().await;
    let admin = world.mcpd.admin();
    assert_eq!(world.chat("gpt").await, StatusCode::OK);
    assert_eq!(World::keys(&world.provider), ["Bearer sk-prod"]);

    // Deleted, and made again under the name.
    let (status, warning) = world.write(&admin, Method::DELETE, "/api/v1/secrets/prod", &Value::Null).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert!(warning.contains("Llm `gpt` has no key any more"), "{warning}");
    let again = json!({"name": "prod", "data": {"key": "sk-again"}});
    world.write(&admin, Method::POST, "/api/v1/secrets", &again).await;
    assert_eq!(world.chat("gpt").await, StatusCode::BAD_GATEWAY);

    // Written again by an account that may use it, it refers to the new one.
    world.mcpd.apply(json!([llm("gpt", &world.provider, Some("prod"))])).await;
    assert_eq!(world.chat("gpt").await, StatusCode::OK);

    // Renamed away, and another one renamed to the name.
    let (_, warning) =
        world.write(&admin, Method::PATCH, "/api/v1/secrets/prod", &json!({"name": "old"})).await;
    assert!(warning.contains("Llm `gpt` has no key any more"), "{warning}");
    assert_eq!(world.chat("gpt").await, StatusCode::BAD_GATEWAY);
    let other = json!({"name": "other", "data": {"key": "sk-other"}});
    world.write(&admin, Method::POST, "/api/v1/secrets", &other).await;
    world.write(&admin, Method::PATCH, "/api/v1/secrets/other", &json!({"name": "prod"})).await;
    assert_eq!(world.chat("gpt").await, StatusCode::BAD_GATEWAY);
    assert_eq!(World::keys(&world.provider), ["Bearer sk-prod", "Bearer sk-again"]);
}

#[tokio::test]
async fn use_is_needed_when_the_key_is_sent() {
    let world = World::new().await;
    let rules = json!([
        {"kinds": ["llms"], "verbs": ["create", "edit"], "names": ["mine"]},
        {"kinds": ["secrets"], "verbs": ["use"], "names": ["prod"]},
    ]);
    let mallory = world.mcpd.user_with_rules("mallory", rules).await;
    let mine = llm("mine", &world.evil, Some("prod"));
    let unchecked = "/api/v1/llms?skipCheck=true";
    assert_eq!(world.write(&mallory, Method::POST, unchecked, &mine).await.0, StatusCode::CREATED);
    assert_eq!(world.chat("mine").await, StatusCode::OK);
    // The writer of a value learns where it goes.
    let admin = world.mcpd.admin();
    let value = json!({"data": {"key": "sk-next"}});
    let (_, warning) = world.write(&admin, Method::PUT, "/api/v1/secrets/prod", &value).await;
    assert!(warning.contains("`gpt`") && warning.contains("`mine`"), "{warning}");
    assert!(warning.contains(&world.evil.address().to_string()), "{warning}");

    let revoked = world.mcpd.delete("/api/v1/rolebindings/mallory-binding", &admin).await;
    assert_eq!(revoked.status(), StatusCode::NO_CONTENT);
    assert_eq!(world.chat("mine").await, StatusCode::BAD_GATEWAY);
    assert_eq!(World::keys(&world.evil), ["Bearer sk-prod"]);
    assert_eq!(world.chat("gpt").await, StatusCode::OK, "others keep theirs");
}

#[tokio::test]
async fn void_reference_is_not_restored_by_another_write() {
    let world = World::new().await;
    let admin = world.mcpd.admin();
    let rules = json!([
        {"kinds": ["llms"], "verbs": ["create"], "names": ["mine"]},
        {"kinds": ["secrets"], "verbs": ["use"], "names": ["prod"]},
    ]);
    let mallory = world.mcpd.user_with_rules("mallory", rules).await;
    let mine = llm("mine", &world.evil, Some("prod"));
    let unchecked = "/api/v1/llms?skipCheck=true";
    assert_eq!(world.write(&mallory, Method::POST, unchecked, &mine).await.0, StatusCode::CREATED);
    let stored = world.mcpd.get("/api/v1/llms/mine", &admin).await.json::<Value>().await.unwrap();
    world.mcpd.delete("/api/v1/rolebindings/mallory-binding", &admin).await;
    // Edits of other fields by an account that may use the secret, and what a backup brings back.
    let labelled = json!({"labels": {"team": "x"}});
    let (status, warning) = world.write(&admin, Method::PATCH, "/api/v1/llms/mine", &labelled).await;
    assert_eq!((status, warning.contains("still sends no key")), (StatusCode::OK, true), "{warning}");
    let mut backup = stored;
    backup.as_object_mut().unwrap().remove("revision");
    world.mcpd.apply(json!([backup])).await;
    assert_eq!(world.chat("mine").await, StatusCode::BAD_GATEWAY);
    assert_eq!(World::keys(&world.evil), Vec::<String>::new());
    // Written out by a person, it is attached again, with a word on where it goes.
    let (status, warning) = world.write(&admin, Method::PUT, "/api/v1/llms/mine", &mine).await;
    assert_eq!(status, StatusCode::OK);
    assert!(warning.contains("you answer for it now"), "{warning}");
}

#[tokio::test]
async fn a_secret_goes_to_its_hosts_only() {
    let world = World::new().await;
    let admin = world.mcpd.admin();
    let hosts = json!({"data": {"key": null}, "hosts": [world.provider.address().to_string()]});
    assert_eq!(world.write(&admin, Method::PUT, "/api/v1/secrets/prod", &hosts).await.0, StatusCode::OK);
    assert_eq!(world.chat("gpt").await, StatusCode::OK);
    let evil = llm("mine", &world.evil, Some("prod"));
    let refused = world.mcpd.post("/api/v1/llms", &admin, &evil).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    let text = refused.text().await.unwrap();
    assert!(text.contains("may not be sent to") && text.contains("hosts"), "{text}");

    // A list that is written later holds for references that are there.
    let elsewhere = json!({"data": {"key": null}, "hosts": ["api.example.com"]});
    let (status, warning) = world.write(&admin, Method::PUT, "/api/v1/secrets/prod", &elsewhere).await;
    assert_eq!(
        (status, warning.contains("Llm `gpt` sends no key any more")),
        (StatusCode::OK, true),
        "{warning}"
    );
    assert_eq!(world.chat("gpt").await, StatusCode::BAD_GATEWAY);
    assert_eq!(World::keys(&world.provider).len(), 1);
}

#[tokio::test]
async fn what_get_prints_applies_unchanged() {
    let world = World::new().await;
    let admin = world.mcpd.admin();
    let shown = world.mcpd.get("/api/v1/llms/gpt", &admin).await.json::<Value>().await.unwrap();
    assert!(shown["apiKey"]["secretId"].is_string(), "{shown}");
    let report = world.mcpd.post("/api/v1/apply", &admin, &json!([shown])).await;
    let report = report.json::<Value>().await.unwrap();
    assert_eq!(report["results"][0]["outcome"], "unchanged", "{report}");
    // As a person wrote it, without what the server adds.
    let report =
        world.mcpd.post("/api/v1/apply", &admin, &json!([llm("gpt", &world.provider, Some("prod"))])).await;
    assert_eq!(report.json::<Value>().await.unwrap()["results"][0]["outcome"], "unchanged");
}

/// What the server wrote beside the name of a secret belongs to that secret, and is no obstacle to another one.
#[tokio::test]
async fn patch_with_another_secret_needs_no_ids() {
    let world = World::new().await;
    let admin = world.mcpd.admin();
    world.mcpd.apply(json!([{"kind": "Secret", "name": "next", "data": {"key": "sk-next"}}])).await;
    let change = json!({"apiKey": {"secret": "next"}});
    let path = "/api/v1/llms/gpt?skipCheck=true";
    assert_eq!(world.write(&admin, Method::PATCH, path, &change).await.0, StatusCode::OK);
    assert_eq!(world.chat("gpt").await, StatusCode::OK);
    assert_eq!(World::keys(&world.provider), ["Bearer sk-next"]);
    let editor = json!([{"kinds": ["llms"], "verbs": ["view", "edit"], "names": ["*"]}]);
    let mallory = world.mcpd.user_with_rules("mallory", editor).await;
    let back = json!({"apiKey": {"secret": "prod"}});
    assert_eq!(world.write(&mallory, Method::PATCH, path, &back).await.0, StatusCode::FORBIDDEN);
    // Another spelling of the same address keeps the key, another address does not.
    let spelt = format!("{}/", world.provider.base_url());
    let (status, warning) = world.write(&mallory, Method::PATCH, path, &json!({"url": spelt})).await;
    assert_eq!((status, warning.as_str()), (StatusCode::OK, ""));
    let moved = json!({"url": world.evil.base_url()});
    let (status, warning) = world.write(&mallory, Method::PATCH, path, &moved).await;
    assert!(status == StatusCode::OK && warning.contains("was detached"), "{status} {warning}");
    assert_eq!(world.chat("gpt").await, StatusCode::OK);
    assert_eq!(World::keys(&world.evil), [""; 0]);
}
