//! Query parameters that a route does not have, on every route of the OpenAPI document.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::support::World;

#[tokio::test]
async fn unknown_parameters_are_rejected_on_every_route() {
    let world = World::new().await;
    let (mcpd, admin) = (&world.mcpd, &world.admin);
    let document: Value = mcpd.get("/openapi.json", "").await.json().await.unwrap();
    let mut seen = 0;
    for (template, methods) in document["paths"].as_object().unwrap() {
        let mut path = template.replace("{kind}", "llms");
        while let Some((before, rest)) = path.split_once('{') {
            path = format!("{before}open{}", rest.split_once('}').unwrap().1);
        }
        for name in methods.as_object().unwrap().keys() {
            let method: Method = name.to_uppercase().parse().unwrap();
            // HEAD is the probe.
            let more = (method == Method::GET).then_some(Method::HEAD);
            for method in [Some(method), more].into_iter().flatten() {
                for query in ["x=1", "%78=1", "since=1&x=", "X"] {
                    let request = mcpd.request(method.clone(), &format!("{path}?{query}"), admin);
                    let answer = request.json(&json!({})).send().await.unwrap();
                    let (status, body) = (answer.status(), answer.text().await.unwrap());
                    assert_eq!(status, StatusCode::BAD_REQUEST, "{method} {path}?{query}: {body}");
                    let named = body.contains("is not a query parameter of this address");
                    assert!(named || method == Method::HEAD, "{method} {path}?{query}: {body}");
                    seen += 1;
                }
            }
        }
    }
    assert!(seen >= 4 * 30, "{seen}");
    assert_eq!(mcpd.get("/api/v1/llms/open", admin).await.status(), StatusCode::OK, "nothing was deleted");
    // Parameters that clients of the APIs add, and those of mcpctl.
    for path in
        ["/v1/models?client_version=0.140.0", "/v1/models/open?beta=true", "/api/v1/llms?labelSelector=a"]
    {
        let answer = mcpd.get(path, admin).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let list = answer.text().await.unwrap();
        assert_eq!(list.contains(r#""models":[]"#), path.contains("client_version"), "{path}: {list}");
    }
    let none = mcpd.get("/api/v1/llms/open/status?x=1", "").await;
    assert_eq!(none.status(), StatusCode::UNAUTHORIZED, "a stranger learns nothing of a route");
}
