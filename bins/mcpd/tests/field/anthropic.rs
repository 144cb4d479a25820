//! What clients of Anthropic's API send and read: the key's header, the shape of errors, the list of models.

use mcpctl_testkit::{central::Central, daemons::Mcpd, response::header};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

/// A request of such a client, without a credential.
fn request(mcpd: &Mcpd, method: Method, path: &str) -> RequestBuilder {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    http.request(method, format!("{}{path}", mcpd.url())).header("anthropic-version", "2023-06-01")
}

/// The error of a response, whose every part is Anthropic's.
async fn error_of(response: Response, kind: &str) -> String {
    let id = header(&response, "mcpctl-request-id").unwrap().to_owned();
    assert_eq!(header(&response, "request-id"), Some(id.as_str()));
    assert_eq!(header(&response, "mcpctl-error-source"), Some("mcpd"));
    assert_eq!(header(&response, "content-type"), Some("application/json"));
    let body: Value = response.json().await.expect("an error is JSON");
    let message = body["error"]["message"].as_str().unwrap_or_default().to_owned();
    let code = &body["error"]["code"];
    assert!(code.is_string(), "{body}");
    let error = json!({"type": kind, "message": message, "code": code});
    let shape = json!({"type": "error", "error": error, "request_id": id});
    assert_eq!(body, shape);
    message
}

#[tokio::test]
async fn inv_10_api_key_is_a_bearer_on_anthropics_routes_alone() {
    let central = Central::start(&["gpt"]).await;
    let (mcpd, alice, admin) = (&central.mcpd, &central.alice, central.mcpd.admin());
    let models = |key: &str| request(mcpd, Method::GET, "/v1/models").header("x-api-key", key);
    for accepted in [
        models(alice),
        models(alice).bearer_auth(alice),
        models("").bearer_auth(alice),
        models(alice).header("authorization", "Bearer "),
        request(mcpd, Method::GET, "/v1/models").bearer_auth(alice),
    ] {
        assert_eq!(accepted.send().await.unwrap().status(), StatusCode::OK);
    }
    for (refused, reason) in [
        (models(alice).bearer_auth(&admin), "`Authorization` and `x-api-key` hold different credentials"),
        (models(alice).header("x-api-key", alice), "more than one credential"),
        (models(alice).header("authorization", "Basic YTpi"), "not a bearer token"),
        (models("sk-ant-of-somebody"), "the credential is not valid"),
        (models(""), "no credential was sent"),
        (request(mcpd, Method::POST, "/v1/messages"), "no credential was sent"),
        (request(mcpd, Method::POST, "/v1/messages/count_tokens?beta=true"), "no credential was sent"),
    ] {
        let response = refused.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{reason}");
        let message = error_of(response, "authentication_error").await;
        assert!(message.contains(reason) && message.contains("(send a valid token as "), "{message}");
    }
    for path in ["/api/v1/llms", "/v1/chat/completions", "/metrics", "/api/v1/auth/whoami"] {
        let response = request(mcpd, Method::GET, path).header("x-api-key", alice).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{path}");
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["error"]["code"], "unauthenticated", "{path}: OpenAI's shape");
    }
    assert!(!mcpd.log().contains(alice.as_str()) && !mcpd.log().contains("sk-ant-of"));
}

#[tokio::test]
async fn every_error_has_anthropics_shape() {
    let central =
        Central::start_with_rules(&["gpt"], json!([{"kinds": ["llms"], "verbs": ["run"], "names": ["gpt"]}]))
            .await;
    let (mcpd, alice, admin) = (&central.mcpd, central.alice.as_str(), central.mcpd.admin());
    for (method, path, bearer, status, kind, part) in [
        (Method::GET, "/v1/models/%ff", alice, 400, "invalid_request_error", "UTF-8"),
        (Method::GET, "/v1/models?limit=0", alice, 400, "invalid_request_error", "`limit` is from 1 to 1000"),
        (Method::GET, "/v1/models?page=2", alice, 400, "invalid_request_error", "page"),
        (Method::GET, "/v1/models?after_id=x", alice, 400, "invalid_request_error", "`after_id`"),
        (
            Method::GET,
            "/v1/models?token=x",
            alice,
            400,
            "invalid_request_error",
            "does not belong into the address",
        ),
        (Method::GET, "/v1/models/other", alice, 403, "permission_error", "other"),
        (Method::GET, "/v1/models/other", admin.as_str(), 404, "not_found_error", "other"),
        (Method::POST, "/v1/messages/batches", alice, 404, "not_found_error", "nothing at this address"),
        (Method::PUT, "/v1/models", alice, 405, "invalid_request_error", "GET and HEAD"),
    ] {
        let response = request(mcpd, method, path).bearer_auth(bearer).send().await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        let message = error_of(response, kind).await;
        assert!(message.contains(part), "{path}: {message}");
    }
    let foreign = request(mcpd, Method::GET, "/v1/models").header("host", "evil.example");
    let response = foreign.bearer_auth(alice).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert!(error_of(response, "permission_error").await.contains("host name"));
}

#[tokio::test]
async fn models_are_listed_in_pages() {
    let central = Central::start(&["a", "b", "c"]).await;
    let get = async |path: &str| {
        let response =
            request(&central.mcpd, Method::GET, path).bearer_auth(&central.alice).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response.json::<Value>().await.unwrap()
    };
    let first = get("/v1/models?limit=2&beta=true").await;
    assert_eq!(
        (&first["first_id"], &first["last_id"], &first["has_more"]),
        (&json!("a"), &json!("b"), &json!(true))
    );
    let rest = get("/v1/models?limit=2&after_id=b").await;
    assert_eq!((&rest["data"][0]["id"], &rest["has_more"]), (&json!("c"), &json!(false)));
    let one = get("/v1/models/c").await;
    assert_eq!(one, rest["data"][0]);
    assert_eq!((&one["type"], &one["display_name"]), (&json!("model"), &json!("c")));
    assert!(one["created_at"].as_str().unwrap().ends_with('Z'), "{one}");
    // The list of OpenAI's clients is as before.
    let openai: Value = central.mcpd.get("/v1/models", &central.alice).await.json().await.unwrap();
    assert_eq!((&openai["object"], &openai["data"][0]["object"]), (&json!("list"), &json!("model")));
}
