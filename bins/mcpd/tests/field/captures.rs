//! Bodies that an Llm keeps: who may let it, what is kept, and that callers see it.

use std::os::unix::fs::PermissionsExt as _;

use mcpctl_testkit::{central::Central, daemons::eventually};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

async fn chat(central: &Central, prompt: &str, stream: bool) -> Response {
    let body =
        json!({"model": "claude", "stream": stream, "messages": [{"role": "user", "content": prompt}]});
    let request = central.mcpd.request(Method::POST, "/v1/chat/completions", &central.alice).json(&body);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    response
}

fn llm(central: &Central, name: &str, capture: bool, description: &str) -> Value {
    let url = central.provider.base_url();
    json!([{
        "kind": "Llm", "name": name, "type": "openai", "url": url, "model": "m", "description": description,
        "capture": {"bodies": capture},
    }])
}

#[tokio::test]
async fn bodies_are_kept_by_a_right_of_its_own_and_callers_see_it() {
    let central = Central::start(&["claude"]).await;
    let editor = central.mcpd.user("eve", Some("editor")).await;
    let apply = async |who: &str, documents: Value| {
        central.mcpd.post("/api/v1/apply", who, &documents).await.status()
    };
    let file = central.mcpd.data_dir().join("captures.jsonl");

    // An editor may neither let an Llm keep bodies, nor make one that does.
    assert_eq!(apply(&editor, llm(&central, "claude", true, "")).await, StatusCode::FORBIDDEN);
    assert_eq!(apply(&editor, llm(&central, "other", true, "")).await, StatusCode::FORBIDDEN);
    let response = chat(&central, "not kept", false).await;
    assert!(!response.headers().contains_key("mcpctl-captured") && !file.exists());

    let rules = json!([{"kinds": ["llms"], "verbs": ["view", "edit", "capture"], "names": ["claude"]}]);
    let auditor = central.mcpd.user_with_rules("ann", rules).await;
    assert_eq!(apply(&auditor, llm(&central, "claude", true, "")).await, StatusCode::OK);
    // What is on already, an editor may leave on.
    assert_eq!(apply(&editor, llm(&central, "claude", true, "changed")).await, StatusCode::OK);
    for (prompt, stream) in [("kept whole", false), ("kept stream", true)] {
        let response = chat(&central, prompt, stream).await;
        assert_eq!(response.headers()["mcpctl-captured"], "true");
        response.text().await.unwrap();
    }
    let lines = eventually("both requests are kept", async || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        (lines.len() >= 2).then_some(lines)
    })
    .await;
    assert_eq!(lines.len(), 2);
    for (line, prompt) in lines.iter().zip(["kept whole", "kept stream"]) {
        assert_eq!(
            (&line["principal"], &line["llm"], &line["status"]),
            (&json!("User alice"), &json!("claude"), &json!(200))
        );
        assert!(line["request"].as_str().unwrap().contains(prompt), "{line}");
        assert!(line["response"].as_str().unwrap().contains("there"), "{line}");
        assert!(!line.to_string().contains(&central.alice), "no credential is kept: {line}");
    }
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!central.mcpd.log().contains("kept whole"), "the log has no prompts");
    eventually("the log has that it was kept", async || {
        central.mcpd.log().contains("captured=true").then_some(())
    })
    .await;

    // An editor may end it.
    assert_eq!(apply(&editor, llm(&central, "claude", false, "")).await, StatusCode::OK);
    assert!(!chat(&central, "not kept", true).await.headers().contains_key("mcpctl-captured"));
}
