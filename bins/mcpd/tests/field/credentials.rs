//! Keys of providers: a value that no header can carry cannot be written, and a missing key is reported without its secret's name.

use mcpctl_testkit::{daemons::Mcpd, model_server::ModelServer, model_server::Reply};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

struct World {
    mcpd: Mcpd,
    provider: ModelServer,
}

impl World {
    async fn new() -> Self {
        let mcpd = Mcpd::start().await;
        let provider = ModelServer::with_default(Reply::text("hello")).await;
        let llm = json!({"kind": "Llm", "name": "gpt", "type": "openai", "url": provider.base_url(), "model": "m",
                         "apiKey": {"secret": "prod", "key": "token"}});
        mcpd.apply(
            json!([{"kind": "Secret", "name": "prod", "data": {"token": "sk-first", "spare": "x"}}, llm]),
        )
        .await;
        Self { mcpd, provider }
    }

    async fn write(&self, method: Method, path: &str, body: &Value) -> (StatusCode, String, Value) {
        let answer = self.mcpd.request(method, path, &self.mcpd.admin()).json(body).send().await.unwrap();
        let warning = answer.headers().get("mcpctl-warning").map(|text| text.to_str().unwrap().to_owned());
        let status = answer.status();
        (status, warning.unwrap_or_default(), answer.json().await.unwrap_or_default())
    }

    async fn chat(&self, token: &str) -> (StatusCode, String) {
        let body = json!({"model": "gpt", "messages": [{"role": "user", "content": "Hi"}]});
        let answer = self.mcpd.post("/v1/chat/completions", token, &body).await;
        (answer.status(), answer.text().await.unwrap())
    }

    fn last_key(&self) -> String {
        self.provider.inferences().pop().unwrap().header("authorization").unwrap().to_owned()
    }
}

#[tokio::test]
async fn key_that_is_not_a_header_value_cannot_be_written() {
    let world = World::new().await;
    for value in [
        "sk-\nhunter2",
        "sk-hunter2\n\n",
        "\u{feff}sk-hunter2",
        " sk-hunter2",
        "sk-hunter2 ",
        "sk-hunter2\0",
        "sk-h\u{443}nter2",
        "sk-hunter2\u{200b}",
        "Bearer sk-hunter2",
        "",
    ] {
        let data = json!({"data": {"token": value}});
        let document = json!({"kind": "Secret", "name": "prod", "data": {"token": value}});
        for (method, path, body, param) in [
            (Method::POST, "/api/v1/secrets", json!({"name": "new", "data": {"token": value}}), "data.token"),
            (Method::PUT, "/api/v1/secrets/prod", data.clone(), "data.token"),
            (Method::PATCH, "/api/v1/secrets/prod", data, "data.token"),
            (Method::POST, "/api/v1/apply", json!([document]), "[0].data.token"),
            (Method::POST, "/api/v1/apply?dryRun=true", json!([document]), "[0].data.token"),
        ] {
            let (status, _, answer) = world.write(method.clone(), path, &body).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{method} {path} {value:?}");
            assert_eq!(answer["error"]["param"], param, "{answer}");
            assert!(answer["error"]["hint"].is_string(), "{answer}");
            assert!(!answer.to_string().contains("hunter2"), "{answer}");
        }
    }
    assert_eq!(world.chat(&world.mcpd.admin()).await.0, StatusCode::OK);
    assert_eq!(world.last_key(), "Bearer sk-first");
}

#[tokio::test]
async fn line_end_after_a_key_is_removed_with_a_warning() {
    let world = World::new().await;
    for (value, sent) in [("sk-a\n", "sk-a"), ("sk-b\r\n", "sk-b")] {
        let data = json!({"data": {"token": value, "spare": null}});
        let (status, warning, _) = world.write(Method::PUT, "/api/v1/secrets/prod", &data).await;
        assert_eq!(status, StatusCode::OK);
        assert!(
            warning.contains("the line end after `data.token` of Secret `prod` is left out"),
            "{warning}"
        );
        assert_eq!(world.chat(&world.mcpd.admin()).await.0, StatusCode::OK);
        assert_eq!(world.last_key(), format!("Bearer {sent}"));
    }
}

#[tokio::test]
async fn only_editors_read_the_name_of_a_missing_secret() {
    let world = World::new().await;
    let alice = world.mcpd.user("alice", Some("llm-user")).await;
    let removed = json!({"data": {"spare": null}});
    let (status, warning, _) = world.write(Method::PUT, "/api/v1/secrets/prod", &removed).await;
    assert_eq!(status, StatusCode::OK);
    assert!(
        warning.contains("Llm `gpt` has no key any more: it referred to `token` of Secret `prod`"),
        "{warning}"
    );
    let keyless = async |how: &str| {
        let (status, text) = world.chat(&alice).await;
        assert_eq!(status, StatusCode::BAD_GATEWAY, "{how}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer["error"]["code"], "misconfigured", "{text}");
        assert_eq!(answer["error"]["message"], "the Llm `gpt` has no credential that can be used", "{text}");
        assert!(!text.contains("prod") && !text.contains("token"), "{text}");
        let (_, text) = world.chat(&world.mcpd.admin()).await;
        assert!(text.contains("key `token` of secret `prod` is gone"), "{text}");
    };
    keyless("a key removed").await;

    let unchecked = "/api/v1/secrets/prod?skipCheck=true";
    world.write(Method::PUT, unchecked, &json!({"data": {"token": "sk-again"}})).await;
    assert_eq!(
        world.chat(&alice).await.0,
        StatusCode::OK,
        "the reference is to the secret, which is the same"
    );
    let deleted = world.mcpd.delete("/api/v1/secrets/prod", &world.mcpd.admin()).await;
    let warning = deleted.headers()["mcpctl-warning"].to_str().unwrap();
    assert!(warning.contains("Llm `gpt` has no key any more"), "{warning}");
    keyless("the secret deleted").await;
    assert!(world.provider.inferences().len() == 1, "nothing is sent without a key");
}
