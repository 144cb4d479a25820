//! Responses from mcpd's address, and what of them reaches the client.

use mcpctl_testkit::{deployment::Deployment, model_server::ModelServer, response::header};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::fake_mcpd::{FakeMcpd, agent_of, question, unknown_bearer};

/// Headers that no response from mcpd's address may pass to a client.
const DANGEROUS: &str = "location: http://evil.example/v1/chat/completions\r\nset-cookie: a=b\r\n\
     refresh: 0; url=http://evil.example\r\nclear-site-data: \"*\"\r\naccess-control-allow-origin: *\r\n\
     access-control-allow-credentials: true\r\nstrict-transport-security: max-age=63072000\r\n\
     alt-svc: h3=\":443\"\r\nwww-authenticate: Basic realm=x\r\nlink: <x>; rel=preload\r\n\
     content-disposition: attachment\r\nserver: evil\r\nx-powered-by: evil\r\n";
/// Headers that OpenAI's clients use.
const USEFUL: &str = "content-type: application/json; v=1\r\ncache-control: no-store\r\nretry-after: 7\r\n\
     x-request-id: r\r\nx-ratelimit-limit-tokens: 9\r\nopenai-version: 2020\r\nmcpctl-failure: rejected\r\n";

fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split("\r\n").filter_map(|line| line.split_once(": ")).map(|(name, _)| name)
}

#[tokio::test]
async fn redirects_from_mcpds_address_become_errors() {
    let desk = ModelServer::start().await;
    for status in [300, 301, 302, 303, 304, 305, 307, 308] {
        let answer = format!("HTTP/1.1 {status} Elsewhere\r\n{DANGEROUS}content-length: 0\r\n\r\n");
        let mcpd = FakeMcpd::responding(&answer, &answer).await;
        let agent = agent_of(&mcpd, &desk).await;
        for stream in [false, true] {
            let answer = agent.chat("claude", &unknown_bearer(), stream).await;
            assert_eq!(answer.status(), StatusCode::BAD_GATEWAY, "{status}");
            for name in names(DANGEROUS) {
                assert_eq!(header(&answer, name), None, "{status}");
            }
            assert_eq!(header(&answer, "mcpctl-error-source"), Some("mcplocal"));
            let body: Value = answer.json().await.unwrap();
            assert_eq!(body["error"]["code"], "not_mcpd");
            assert!(!body.to_string().contains("evil.example"), "{body}");
        }
    }
    assert!(desk.inferences().is_empty());
}

#[tokio::test]
async fn only_known_headers_reach_the_client() {
    let desk = ModelServer::start().await;
    let whole = r#"{"choices":[{"message":{"content":"x"}}]}"#;
    let error = r#"{"error":{"message":"no","code":"x"}}"#;
    let stream = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    for (status, body, streams) in
        [("200 OK", whole, false), ("422 No", error, false), ("200 OK", stream, true)]
    {
        let useful = match streams {
            true => USEFUL.replace("application/json; v=1", "text/event-stream"),
            false => USEFUL.to_owned(),
        };
        let length = body.len();
        let answer =
            format!("HTTP/1.1 {status}\r\n{DANGEROUS}{useful}content-length: {length}\r\n\r\n{body}");
        let mcpd = FakeMcpd::responding("", &answer).await;
        let agent = agent_of(&mcpd, &desk).await;
        let answer = agent.chat("claude", &unknown_bearer(), streams).await;
        assert_eq!(answer.status().as_str(), &status[..3]);
        for name in names(DANGEROUS) {
            assert_eq!(header(&answer, name), None, "{status}");
        }
        for (name, value) in useful.split("\r\n").filter_map(|line| line.split_once(": ")) {
            assert_eq!(header(&answer, name), Some(value), "{status} {name}");
        }
        // INVARIANT 3: the body is the primary's own.
        assert_eq!(answer.text().await.unwrap(), body);
    }
}

#[tokio::test]
async fn credentials_in_urls_are_rejected() {
    let deployment = Deployment::builder().unreachable_inference().signed_in().start().await;
    let key = deployment.agent.local_key();
    let bearer = &deployment.alice;
    let encoded: String = bearer.bytes().map(|byte| format!("%{byte:02X}")).collect();
    for query in [
        format!("token={bearer}"),
        format!("access_token={bearer}"),
        format!("a=1&api-key={key}"),
        format!("t%6Fken={bearer}"),
        format!("q={bearer}"),
        format!("q={encoded}"),
        format!("q={}", encoded.replace('%', "%25")),
        format!("q=Bearer%20{key}"),
        "key=x".to_owned(),
    ] {
        for (method, path) in [
            (Method::POST, "/v1/chat/completions"),
            (Method::GET, "/v1/models"),
            (Method::GET, "/status"),
            (Method::GET, "/healthz"),
            (Method::GET, "/no/such/route"),
        ] {
            let request =
                deployment.agent.request(method, &format!("{path}?{query}"), &key).json(&question());
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{path}?{query}");
            let error = answer.text().await.unwrap();
            assert!(
                error.contains("does not belong into the address") && !error.contains(bearer.as_str()),
                "{error}"
            );
        }
        let direct = deployment.mcpd.get(&format!("/api/v1/llms?{query}"), bearer).await;
        assert_eq!(direct.status(), StatusCode::BAD_REQUEST, "mcpd ?{query}");
    }
    assert!(deployment.desk.inferences().is_empty());
    let fine = deployment
        .agent
        .request(Method::GET, "/v1/models?limit=20&client_version=1", &key)
        .send()
        .await
        .unwrap();
    assert_eq!(fine.status(), StatusCode::OK);
    assert!(
        !deployment.agent.log().contains(bearer.as_str()) && !deployment.mcpd.log().contains(bearer.as_str())
    );
}

#[tokio::test]
async fn huge_model_name_is_not_repeated() {
    let deployment = Deployment::builder().unreachable_inference().start().await;
    for prefix in ["", "local/"] {
        let model = format!("{prefix}{}", "\u{1b}".repeat(1 << 20));
        let body = json!({"model": model, "messages": []});
        let request =
            deployment.agent.request(Method::POST, "/v1/chat/completions", &unknown_bearer()).json(&body);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        assert!(answer.bytes().await.unwrap().len() < 1000);
    }
    assert!(deployment.agent.log().len() < 100_000);
}
