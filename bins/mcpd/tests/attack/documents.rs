//! Documents that deceive their readers, or cost more than they weigh.

use mcpctl_testkit::daemons::Mcpd;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::support::Work;

fn llm() -> Value {
    json!({"kind": "Llm", "name": "claude", "type": "openai", "url": "http://127.0.0.1:9", "model": "m"})
}

#[tokio::test]
async fn long_keys_get_short_answers() {
    let mcpd = Mcpd::start().await;
    let (admin, key) = (mcpd.admin(), "k".repeat(100_000));
    let mut document = llm();
    document[key.as_str()] = json!(1);
    let put = mcpd.request(Method::PUT, "/api/v1/llms/claude", &admin).json(&document);
    for answer in [
        mcpd.post("/api/v1/llms", &admin, &document).await,
        mcpd.post("/api/v1/apply", &admin, &json!([document])).await,
        put.send().await.unwrap(),
        mcpd.get(&format!("/api/v1/llms?{}=1", &key[..4_000]), &admin).await,
    ] {
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        let text = answer.text().await.unwrap();
        assert!(text.contains("kkkk") && text.len() < 3_000, "{}", text.len());
    }
}

#[tokio::test]
async fn unseen_characters_are_refused_everywhere() {
    let mcpd = Mcpd::start().await;
    mcpd.apply(json!([llm()])).await;
    let with = |mut document: Value, field: &str, value: Value| {
        document[field] = value;
        document
    };
    let other = |kind: &str| json!({"kind": kind, "name": "other"});
    let role = with(other("Role"), "rules", json!([{"kinds": ["*"], "verbs": ["view"], "names": ["*"]}]));
    for (document, path, character) in [
        (with(llm(), "description", json!("a\u{1b}]0;title\u{7}")), "llms", "U+001B"),
        (with(llm(), "model", json!("gpt\u{202e}4")), "llms", "U+202E"),
        (with(llm(), "model", json!("gpt\n4")), "llms", "U+000A"),
        (with(llm(), "labels", json!({"team": "a\u{9b}2J"})), "llms", "U+009B"),
        (with(llm(), "labels", json!({"te\u{200b}am": "a"})), "llms", "U+200B"),
        (with(llm(), "apiKey", json!({"secret": "s", "key": "k\r"})), "llms", "U+000D"),
        (with(other("User"), "displayName", json!("root\u{2066}")), "users", "U+2066"),
        (with(other("User"), "email", json!("a@b\u{ad}.example")), "users", "U+00AD"),
        (with(other("Group"), "description", json!("\u{feff}")), "groups", "U+FEFF"),
        (with(other("ServiceAccount"), "description", json!("\u{e0041}")), "serviceaccounts", "U+E0041"),
        (with(role, "description", json!("\u{0}")), "roles", "U+0000"),
        (
            with(with(other("Secret"), "data", json!({"k": "v"})), "description", json!("\u{85}")),
            "secrets",
            "U+0085",
        ),
    ] {
        let name = document["name"].as_str().unwrap().to_owned();
        let admin = mcpd.admin();
        let put = mcpd.request(Method::PUT, &format!("/api/v1/{path}/{name}"), &admin).json(&document);
        let answers = [
            mcpd.post(&format!("/api/v1/{path}"), &admin, &document).await,
            mcpd.post("/api/v1/apply", &admin, &json!([document])).await,
            put.send().await.unwrap(),
        ];
        for answer in answers {
            let status = answer.status();
            let text = answer.text().await.unwrap();
            assert_eq!(status, StatusCode::BAD_REQUEST, "{document}: {text}");
            assert!(text.contains(character), "{document}: {text}");
        }
    }
    let admin = mcpd.admin();
    let patch = mcpd.request(Method::PATCH, "/api/v1/llms/claude", &admin);
    let patched = patch.json(&json!({"description": "\u{1b}c"})).send().await.unwrap();
    assert_eq!(patched.status(), StatusCode::BAD_REQUEST);
    let fine = with(llm(), "description", json!("zwei\n\tZeilen 👩‍💻"));
    assert_eq!(mcpd.post("/api/v1/apply", &admin, &json!([fine])).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn absurd_timeouts_are_refused() {
    let mcpd = Mcpd::start().await;
    for (field, value) in [
        ("answer", "200000000000s"),
        ("answer", "99999999999999999999d"),
        ("connect", "25h"),
        ("idle", "3651d"),
        ("firstToken", "0s"),
    ] {
        let mut llm = llm();
        llm["timeouts"] = json!({ field: value });
        let answer = mcpd.post("/api/v1/apply", &mcpd.admin(), &json!([llm])).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{field} {value}");
        let body: Value = answer.json().await.unwrap();
        assert!(body["error"]["param"].as_str().unwrap().contains("timeouts"), "{body}");
    }
}

#[tokio::test]
async fn nesting_and_long_texts_cost_nothing() {
    let mcpd = Mcpd::start().await;
    let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(200_000), close.repeat(200_000));
    let plain = async || {
        let document = format!(r#"{{"kind":"Llm","description":7,"model":"{}"}}"#, "m".repeat(400_000));
        let request = mcpd.request(Method::POST, "/api/v1/llms", &mcpd.admin());
        let request = request.header("content-type", "application/json").body(document);
        assert_eq!(request.send().await.unwrap().status(), StatusCode::BAD_REQUEST);
    };
    let work = Work::of_plain(&mcpd, plain).await;
    for field in ["description", "unknown", "labels", "timeouts", "createdAt"] {
        for value in [deep("[", "]"), deep("{\"a\":", "}")] {
            let body = format!(
                r#"{{"kind":"Llm","name":"a","type":"openai","url":"http://x","model":"m","{field}":{value}}}"#
            );
            for (path, body) in [("/api/v1/llms", body.clone()), ("/api/v1/apply", format!("[{body}]"))] {
                let request = mcpd.request(Method::POST, path, &mcpd.admin());
                let request = request.header("content-type", "application/json").body(body);
                let status = work.bounded(field, request.send()).await.unwrap().status();
                // The server's own stamps are passed over, whatever they hold.
                assert!(status == StatusCode::BAD_REQUEST || field == "createdAt", "{field}: {status}");
                assert!(status.as_u16() < 500, "{field}: {status}");
            }
        }
    }
    let labels: serde_json::Map<String, Value> = (0..65).map(|n| (format!("l{n}"), json!("x"))).collect();
    for (field, value) in [
        ("description", json!("x".repeat(65 * 1024))),
        ("model", json!("x".repeat(5 * 1024))),
        ("labels", json!({"a": "x".repeat(300)})),
        ("labels", Value::Object(labels)),
    ] {
        let mut llm = llm();
        llm[field] = value;
        let answer = mcpd.post("/api/v1/apply", &mcpd.admin(), &json!([llm])).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{field}");
    }
    assert_eq!(mcpd.get("/healthz", &mcpd.admin()).await.status(), StatusCode::OK);
}
