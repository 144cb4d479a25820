//! Names that look like ids: a path segment would then name two resources.

use reqwest::{Method, StatusCode};
use serde_json::json;

use super::support::World;

#[tokio::test]
async fn names_of_the_shape_of_an_id_are_rejected() {
    let world = World::new().await;
    let (mcpd, admin) = (&world.mcpd, &world.admin);
    let closed: serde_json::Value = mcpd.get("/api/v1/llms/closed", admin).await.json().await.unwrap();
    let before = world.resources().await;
    let id = closed["id"].as_str().unwrap();
    let made_up = format!("c{}", "0a".repeat(12));
    for name in [id, &made_up] {
        for (kind, mut document) in [
            ("llms", json!({"type": "openai", "url": world.provider.base_url(), "model": "m"})),
            ("secrets", json!({"data": {"k": "v"}})),
            ("users", json!({})),
            ("groups", json!({"members": []})),
            ("serviceaccounts", json!({})),
            ("roles", json!({"rules": []})),
            ("rolebindings", json!({"role": "viewer", "subjects": []})),
            ("limits", json!({"per": "all", "requests": {"max": 1, "window": "1h"}})),
            ("tokens", json!({"subject": {"kind": "User", "name": "admin"}})),
        ] {
            document["name"] = json!(name);
            let (list, one) = (format!("/api/v1/{kind}"), format!("/api/v1/{kind}/{name}"));
            let created = mcpd.post(&list, admin, &document).await;
            let (status, body) = (created.status(), created.text().await.unwrap());
            assert_eq!(status, StatusCode::BAD_REQUEST, "{kind}: {body}");
            let put = mcpd.request(Method::PUT, &one, admin).json(&document).send().await.unwrap();
            assert!(put.status().is_client_error(), "{kind}: {}", put.status());
        }
        // A rename, and an apply.
        let rename = mcpd.request(Method::PATCH, "/api/v1/llms/open", admin).json(&json!({"name": name}));
        assert_eq!(rename.send().await.unwrap().status(), StatusCode::BAD_REQUEST);
        let apply = mcpd.post("/api/v1/apply", admin, &json!([{"kind": "User", "name": name}])).await;
        assert_eq!(apply.status(), StatusCode::BAD_REQUEST);
        // Nor does it help a caller to name an Llm by the id of one that it may not run.
        let asked =
            mcpd.post("/v1/chat/completions", &world.alice, &json!({"model": name, "messages": []})).await;
        assert_eq!(asked.status(), StatusCode::FORBIDDEN);
    }
    assert_eq!(world.resources().await, before);
}
