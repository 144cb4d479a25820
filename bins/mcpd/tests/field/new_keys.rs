//! A key that is written is tried at its provider: a wrong one is refused before anything is stored.

use mcpctl_testkit::{
    daemons::{Mcpd, closed_address},
    model_server::ModelServer,
    model_server::Reply,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const UNREACHABLE: &str = "the provider of Llm `gpt` is unreachable, so that its key could not be checked";

struct World {
    mcpd: Mcpd,
    provider: ModelServer,
}

impl World {
    /// A provider that wants `sk-right`, and a secret with that key and a wrong one.
    async fn new() -> Self {
        let mcpd = Mcpd::start().await;
        let provider = ModelServer::with_default(Reply::text("hello")).await;
        provider.require_key("sk-right-key");
        let data = json!({"right": "sk-right-key", "wrong": "sk-wrong-key"});
        mcpd.apply(json!([{"kind": "Secret", "name": "prod", "data": data}])).await;
        Self { mcpd, provider }
    }

    fn llm(&self, key: &str) -> Value {
        json!({"kind": "Llm", "name": "gpt", "type": "openai", "url": self.provider.base_url(), "model": "m",
               "apiKey": {"secret": "prod", "key": key}})
    }

    async fn write(&self, method: Method, path: &str, body: &Value) -> (StatusCode, String, Value) {
        let answer = self.mcpd.request(method, path, &self.mcpd.admin()).json(body).send().await.unwrap();
        let warning = answer.headers().get("mcpctl-warning").map(|text| text.to_str().unwrap().to_owned());
        let status = answer.status();
        (status, warning.unwrap_or_default(), answer.json().await.unwrap_or_default())
    }

    async fn exists(&self, path: &str) -> bool {
        self.mcpd.get(path, &self.mcpd.admin()).await.status() == StatusCode::OK
    }
}

fn assert_refused(status: StatusCode, answer: &Value) {
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    let error = &answer["error"];
    assert_eq!(error["code"], "credential_refused");
    assert_eq!(error["message"], "the provider of the Llm `gpt` refuses its key: Unauthorized");
    assert!(error["hint"].as_str().unwrap().contains("--skip-check") && !answer.to_string().contains("sk-"));
}

#[tokio::test]
async fn wrong_key_is_refused_and_nothing_is_stored() {
    let world = World::new().await;
    let (status, _, answer) = world.write(Method::POST, "/api/v1/llms", &world.llm("wrong")).await;
    assert_refused(status, &answer);
    assert_eq!(answer["error"]["param"], "apiKey");
    let other = json!({"kind": "Secret", "name": "other", "data": {"a": "b"}});
    let (status, _, answer) =
        world.write(Method::POST, "/api/v1/apply", &json!([other, world.llm("wrong")])).await;
    assert_refused(status, &answer);
    assert_eq!(answer["error"]["param"], "[1].apiKey");
    assert!(!world.exists("/api/v1/llms/gpt").await && !world.exists("/api/v1/secrets/other").await);
    assert!(world.provider.inferences().is_empty(), "the list of models is enough");

    let (status, warning, answer) = world.write(Method::POST, "/api/v1/llms", &world.llm("right")).await;
    assert_eq!((status, warning.as_str()), (StatusCode::CREATED, ""), "{answer}");
    let asked = world.provider.requests().len();
    let (status, ..) = world.write(Method::PATCH, "/api/v1/llms/gpt", &json!({"description": "d"})).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        world.provider.requests().len(),
        asked,
        "no provider is asked about a key that it has already"
    );

    // A new value of the secret is a new key of each Llm that sends it.
    let wrong = json!({"data": {"right": "sk-old-key", "wrong": null}});
    let (status, _, answer) = world.write(Method::PATCH, "/api/v1/secrets/prod", &wrong).await;
    assert_refused(status, &answer);
    let (status, _, answer) =
        world.write(Method::PUT, "/api/v1/llms/gpt?skipCheck=true", &world.llm("wrong")).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
}

#[tokio::test]
async fn list_for_everyone_shows_nothing_about_a_key() {
    let world = World::new().await;
    world.provider.list_openly();
    let (status, _, answer) = world.write(Method::POST, "/api/v1/llms", &world.llm("wrong")).await;
    assert_refused(status, &answer);
    let message = world.provider.inferences().pop().unwrap().json();
    assert_eq!((&message["max_tokens"], &message["model"]), (&json!(1), &json!("m")));
    let (status, warning, _) = world.write(Method::POST, "/api/v1/llms", &world.llm("right")).await;
    assert_eq!((status, warning.as_str()), (StatusCode::CREATED, ""));
}

#[tokio::test]
async fn what_is_not_a_provider_gives_one_warning_whatever_it_is() {
    let world = World::new().await;
    for url in
        [format!("http://{}/v1", closed_address()), format!("http://{}/elsewhere", world.provider.address())]
    {
        let mut llm = world.llm("wrong");
        llm["url"] = json!(url);
        let (status, warning, answer) = world.write(Method::POST, "/api/v1/llms", &llm).await;
        assert_eq!((status, warning.as_str()), (StatusCode::CREATED, UNREACHABLE), "{url}: {answer}");
        let (status, ..) = world.write(Method::DELETE, "/api/v1/llms/gpt", &json!({})).await;
        assert_eq!(status, StatusCode::NO_CONTENT);
        let answer = world.mcpd.post("/api/v1/apply", &world.mcpd.admin(), &json!([llm])).await;
        let report: Value = answer.json().await.unwrap();
        assert_eq!(report["warnings"], json!([UNREACHABLE]));
        world.write(Method::DELETE, "/api/v1/llms/gpt", &json!({})).await;
    }
}

#[tokio::test]
async fn providers_are_not_asked_for_dry_runs_and_denied_writes() {
    let world = World::new().await;
    let mallory = world
        .mcpd
        .user_with_rules(
            "mallory",
            json!([{"kinds": ["llms"], "verbs": ["view", "create", "edit"], "names": ["*"]}]),
        )
        .await;
    let (status, ..) =
        world.write(Method::POST, "/api/v1/apply?dryRun=true", &json!([world.llm("wrong")])).await;
    assert_eq!(status, StatusCode::OK);
    let answer = world.mcpd.post("/api/v1/llms", &mallory, &world.llm("right")).await;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN, "she may not use the secret");
    let (status, ..) = world.write(Method::POST, "/api/v1/llms?skipCheck=true", &world.llm("wrong")).await;
    assert_eq!(status, StatusCode::CREATED);
    let (status, _, answer) = world.write(Method::POST, "/api/v1/llms?skip=true", &world.llm("wrong")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    assert!(world.provider.requests().is_empty());
}

/// Each type of provider is asked in its own way, and answers in its own words.
#[tokio::test]
async fn keys_of_every_type_of_provider_are_checked() {
    let anthropic =
        json!({"type": "error", "error": {"type": "authentication_error", "message": "invalid x-api-key"}});
    let azure =
        json!({"error": {"code": "401", "message": "Access denied due to invalid subscription key."}});
    for (kind, version, list, message, (status, body, words)) in [
        ("anthropic", None, "/v1/models", "/v1/messages", (401, &anthropic, "invalid x-api-key")),
        ("anthropic", None, "/v1/models", "/v1/messages", (403, &anthropic, "invalid x-api-key")),
        (
            "azure-openai",
            None,
            "/openai/v1/models",
            "/openai/v1/chat/completions",
            (401, &azure, "Access denied due to invalid subscription key."),
        ),
        (
            "azure-openai",
            Some("2024-10-21"),
            "/openai/models?api-version=2024-10-21",
            "/openai/deployments/m/chat/completions?api-version=2024-10-21",
            (401, &azure, "Access denied due to invalid subscription key."),
        ),
    ] {
        let world = World::new().await;
        world.provider.reject_keys_with(status, body);
        let llm = |key: &str, address: String| {
            json!({"kind": "Llm", "name": "gpt", "type": kind, "apiVersion": version, "model": "m",
                   "url": format!("http://{address}"), "apiKey": {"secret": "prod", "key": key}})
        };
        let here = || world.provider.address().to_string();
        let refused = format!("the provider of the Llm `gpt` refuses its key: {words}");
        let cell = format!("{kind} {version:?} {status}");

        let (status, _, answer) = world.write(Method::POST, "/api/v1/llms", &llm("wrong", here())).await;
        assert_eq!(
            (status, &answer["error"]["message"]),
            (StatusCode::BAD_REQUEST, &json!(refused)),
            "{cell}"
        );
        assert_eq!(world.provider.requests()[0].path, list, "{cell}");
        // A list for everyone shows nothing, so a message of one token is asked for.
        world.provider.list_openly();
        let (status, _, answer) = world.write(Method::POST, "/api/v1/llms", &llm("wrong", here())).await;
        assert_eq!(
            (status, &answer["error"]["message"]),
            (StatusCode::BAD_REQUEST, &json!(refused)),
            "{cell}"
        );
        assert_eq!(world.provider.inferences().pop().unwrap().path, message, "{cell}");
        assert!(!world.exists("/api/v1/llms/gpt").await, "{cell}");

        let asked = world.provider.requests().len();
        let path = "/api/v1/llms?skipCheck=true";
        let (status, warning, answer) = world.write(Method::POST, path, &llm("wrong", here())).await;
        assert_eq!((status, warning.as_str()), (StatusCode::CREATED, ""), "{cell}: {answer}");
        assert_eq!(world.provider.requests().len(), asked, "{cell}");
        world.write(Method::DELETE, "/api/v1/llms/gpt", &json!({})).await;
        for (key, address, expected) in
            [("wrong", closed_address().to_string(), UNREACHABLE), ("right", here(), "")]
        {
            let (status, warning, answer) =
                world.write(Method::POST, "/api/v1/llms", &llm(key, address)).await;
            assert_eq!((status, warning.as_str()), (StatusCode::CREATED, expected), "{cell}: {answer}");
            world.write(Method::DELETE, "/api/v1/llms/gpt", &json!({})).await;
        }
        // The provider's own header holds the key, and no other one.
        let last = world.provider.requests().pop().unwrap();
        let header = if kind == "anthropic" { "x-api-key" } else { "api-key" };
        assert_eq!(
            (last.header(header), last.header("authorization")),
            (Some("sk-right-key"), None),
            "{cell}"
        );
        assert_eq!(last.header("anthropic-version").is_some(), kind == "anthropic", "{cell}");
    }
}
