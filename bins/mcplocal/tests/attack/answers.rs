//! What answers in the centre's place, and what of it reaches the client.

use mcpctl_testkit::model_server::ModelServer;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::centre::{Centre, World, agent_of, header, made_up, question};

/// What no answer of the centre's address may do to a client.
const DANGEROUS: &str = "location: http://evil.example/v1/chat/completions\r\nset-cookie: a=b\r\n\
     refresh: 0; url=http://evil.example\r\nclear-site-data: \"*\"\r\naccess-control-allow-origin: *\r\n\
     access-control-allow-credentials: true\r\nstrict-transport-security: max-age=63072000\r\n\
     alt-svc: h3=\":443\"\r\nwww-authenticate: Basic realm=x\r\nlink: <x>; rel=preload\r\n\
     content-disposition: attachment\r\nserver: evil\r\nx-powered-by: evil\r\n";
/// What OpenAI's clients use.
const USEFUL: &str = "content-type: application/json; v=1\r\ncache-control: no-store\r\nretry-after: 7\r\n\
     x-request-id: r\r\nx-ratelimit-limit-tokens: 9\r\nopenai-version: 2020\r\nmcpctl-failure: rejected\r\n";

fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split("\r\n").filter_map(|line| line.split_once(": ")).map(|(name, _)| name)
}

#[tokio::test]
async fn redirects_of_the_centres_address_become_errors() {
    let desk = ModelServer::start().await;
    for status in [300, 301, 302, 303, 304, 305, 307, 308] {
        let answer = format!("HTTP/1.1 {status} Elsewhere\r\n{DANGEROUS}content-length: 0\r\n\r\n");
        let centre = Centre::answering(&answer, &answer).await;
        let agent = agent_of(&centre, &desk).await;
        for stream in [false, true] {
            let answer = agent.chat("claude", &made_up(), stream).await;
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
async fn only_known_headers_of_answers_reach_the_client() {
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
        let centre = Centre::answering("", &answer).await;
        let agent = agent_of(&centre, &desk).await;
        let answer = agent.chat("claude", &made_up(), streams).await;
        assert_eq!(answer.status().as_str(), &status[..3]);
        for name in names(DANGEROUS) {
            assert_eq!(header(&answer, name), None, "{status}");
        }
        for (name, value) in useful.split("\r\n").filter_map(|line| line.split_once(": ")) {
            assert_eq!(header(&answer, name), Some(value), "{status} {name}");
        }
        // INVARIANT 3: the words are the primary's own.
        assert_eq!(answer.text().await.unwrap(), body);
    }
}

#[tokio::test]
async fn credentials_in_addresses_are_refused() {
    let world = World::cut("").await;
    world.agent.sign_in(&world.mcpd, "alice", &world.alice);
    let key = world.agent.local_key();
    let bearer = &world.alice;
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
            let request = world.agent.request(method, &format!("{path}?{query}"), &key).json(&question());
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{path}?{query}");
            let said = answer.text().await.unwrap();
            assert!(
                said.contains("does not belong into the address") && !said.contains(bearer.as_str()),
                "{said}"
            );
        }
        let central = world.mcpd.get(&format!("/api/v1/llms?{query}"), bearer).await;
        assert_eq!(central.status(), StatusCode::BAD_REQUEST, "mcpd ?{query}");
    }
    assert!(world.desk.inferences().is_empty());
    let fine = world.agent.request(Method::GET, "/v1/models?limit=20&order=asc", &key).send().await.unwrap();
    assert_eq!(fine.status(), StatusCode::OK);
    assert!(!world.agent.log().contains(bearer.as_str()) && !world.mcpd.log().contains(bearer.as_str()));
}

#[tokio::test]
async fn a_huge_model_name_is_not_repeated() {
    let world = World::cut("").await;
    for prefix in ["", "local/"] {
        let model = format!("{prefix}{}", "\u{1b}".repeat(1 << 20));
        let body = json!({"model": model, "messages": []});
        let request = world.agent.request(Method::POST, "/v1/chat/completions", &made_up()).json(&body);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        assert!(answer.bytes().await.unwrap().len() < 1000);
    }
    assert!(world.agent.log().len() < 100_000);
}
