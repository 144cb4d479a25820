//! Label selectors, with the grammar and the meaning of Kubernetes.

use mcpctl_testkit::daemons::Mcpd;
use reqwest::StatusCode;
use serde_json::{Value, json};

#[tokio::test]
async fn lists_are_selected_as_in_kubernetes() {
    let mcpd = Mcpd::start().await;
    let user = |name: &str, labels: Value| json!({"kind": "User", "name": name, "labels": labels});
    mcpd.apply(json!([
        user("a1", json!({"team": "a", "tier": "prod"})),
        user("a2", json!({"team": "a", "tier": "dev"})),
        user("b1", json!({"team": "b"})),
        user("none", json!({})),
    ]))
    .await;
    let all = "a1 a2 admin b1 none";
    for (selector, expected) in [
        ("", all),
        ("team", "a1 a2 b1"),
        ("!team", "admin none"),
        ("team=a", "a1 a2"),
        ("team==a", "a1 a2"),
        ("team = a", "a1 a2"),
        ("team!=a", "admin b1 none"),
        ("team in (a, b)", "a1 a2 b1"),
        ("team notin (a)", "admin b1 none"),
        ("team notin (a),team", "b1"),
        ("tier,tier!=dev", "a1"),
        ("team in (a),!tier", ""),
    ] {
        let answer = mcpd.request(reqwest::Method::GET, "/api/v1/users", &mcpd.admin());
        let answer = answer.query(&[("labelSelector", selector)]).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{selector}");
        let list: Value = answer.json().await.unwrap();
        let names: Vec<&str> =
            list["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect();
        assert_eq!(names.join(" "), expected, "{selector}");
    }
    for (selector, place) in [("team in (a", 11), ("team>1", 5), ("team=a,", 8), ("!!a", 2), ("te am", 4)] {
        let answer = mcpd.request(reqwest::Method::GET, "/api/v1/users", &mcpd.admin());
        let answer = answer.query(&[("labelSelector", selector)]).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{selector}");
        let error = answer.json::<Value>().await.unwrap()["error"].clone();
        assert_eq!(error["param"], "labelSelector");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(&format!("at character {place}: ")), "{selector}: {message}");
    }
    // What cannot be selected cannot be written.
    for labels in [json!({"a b": "c"}), json!({"a": "b c"}), json!({"-a": "b"}), json!({"a": "b/c"})] {
        let refused =
            mcpd.post("/api/v1/users", &mcpd.admin(), &json!({"name": "x", "labels": labels})).await;
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{labels}");
    }
}
