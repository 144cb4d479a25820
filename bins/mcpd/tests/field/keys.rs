//! A provider reads the same model as mcpd, and the same values of all other keys that decisions depend on.

use mcpctl_testkit::central::Central;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const ROUTES: [&str; 4] =
    ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/api/v1/llms/cheap/infer"];

/// Two Llms, and alice, who may run only `cheap`.
async fn start() -> Central {
    let rules = json!([{"kinds": ["llms"], "verbs": ["view", "run"], "names": ["cheap"]}]);
    Central::start_with_rules(&["cheap", "dear"], rules).await
}

async fn send(central: &Central, route: &str, body: String) -> (StatusCode, Value) {
    let request = central.mcpd.request(Method::POST, route, &central.alice);
    let answer = request.header("content-type", "application/json").body(body).send().await.unwrap();
    (answer.status(), answer.json().await.unwrap_or_default())
}

#[tokio::test]
async fn other_spellings_of_a_key_are_rejected_on_every_route() {
    let central = start().await;
    for route in ROUTES {
        for (written, name) in [
            ("Model", "model"),
            ("MODEL", "model"),
            ("mod\\u0065l", "model"),
            ("model\\u0000", "model"),
            ("\u{17f}tream", "stream"),
            ("streamOptions", "stream_options"),
            ("N", "n"),
            ("max_to\u{212a}ens", "max_tokens"),
            ("me\u{17f}sages", "messages"),
        ] {
            for body in [
                format!(r#"{{"model":"cheap","messages":[],"input":"x","{written}":"dear"}}"#),
                format!(r#"{{"{written}":"dear","model":"cheap","messages":[],"input":"x"}}"#),
                format!(r#"{{"{written}":"dear"}}"#),
            ] {
                let (status, answer) = send(&central, route, body.clone()).await;
                assert_eq!(status, StatusCode::BAD_REQUEST, "{route} {body}: {answer}");
                assert!(answer["error"]["param"].is_string(), "{body}: {answer}");
                let message = answer["error"]["message"].as_str().unwrap();
                assert!(message.contains(&format!("`{name}`")), "{body}: {answer}");
            }
        }
        let twice = r#"{"model":"cheap","model":"dear","messages":[],"input":"x"}"#.to_owned();
        assert_eq!(send(&central, route, twice).await.0, StatusCode::BAD_REQUEST, "{route}");
        let nested = r#"{"model":"cheap","messages":[],"input":"x","stream":true,"stream_options":{"Include_usage":true}}"#;
        assert_eq!(send(&central, route, nested.to_owned()).await.0, StatusCode::BAD_REQUEST, "{route}");
    }
    assert!(central.provider.inferences().is_empty());
}

#[tokio::test]
async fn routing_keys_are_rejected_unless_the_llm_allows_them() {
    let central = start().await;
    let asked =
        |field: &str| format!(r#"{{"model":"cheap","messages":[],"input":"x","{field}":["dear-model"]}}"#);
    for route in ROUTES {
        for field in ["models", "Models", "fallbacks", "route", "provider", "api_base", "extra_body"] {
            let (status, answer) = send(&central, route, asked(field)).await;
            assert_eq!(
                (status, &answer["error"]["param"]),
                (StatusCode::BAD_REQUEST, &json!(field)),
                "{route}"
            );
            assert!(answer["error"]["hint"].as_str().unwrap().contains("allowFields"), "{answer}");
        }
    }
    assert!(central.provider.inferences().is_empty());

    let patch = json!({"allowFields": ["models"]});
    let request = central.mcpd.request(Method::PATCH, "/api/v1/llms/cheap", &central.mcpd.admin());
    let answer = request.json(&patch).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.json::<Value>().await.unwrap()["allowFields"], json!(["models"]));
    assert_eq!(send(&central, ROUTES[0], asked("models")).await.0, StatusCode::OK);
    assert_eq!(central.provider.inferences()[0].json()["models"], json!(["dear-model"]));
    for other in ["Models", "fallbacks"] {
        assert_eq!(send(&central, ROUTES[0], asked(other)).await.0, StatusCode::BAD_REQUEST, "{other}");
    }
    // Whether an Llm allows a field is for those who may run it.
    let dear = r#"{"model":"dear","models":["x"],"messages":[]}"#.to_owned();
    assert_eq!(send(&central, ROUTES[0], dear).await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn allow_fields_accepts_only_routing_keys() {
    let central = start().await;
    for field in ["temperature", "model", "", "modles"] {
        let request = central.mcpd.request(Method::PATCH, "/api/v1/llms/cheap", &central.mcpd.admin());
        let answer = request.json(&json!({"allowFields": ["models", field]})).send().await.unwrap();
        let status = answer.status();
        let body: Value = answer.json().await.unwrap();
        assert_eq!(
            (status, &body["error"]["param"]),
            (StatusCode::BAD_REQUEST, &json!("allowFields[1]")),
            "{body}"
        );
    }
}
