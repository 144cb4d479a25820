//! Credentials: where they count, when they end, and where they never go.

use mcpctl_testkit::{daemons::eventually, model_server::Reply};
use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::{Value, json};

use super::support::{World, bearer, for_each};

const WHOAMI: &str = "/api/v1/auth/whoami";

#[tokio::test]
async fn credentials_in_other_places_do_not_count() {
    let world = World::new().await;
    let admin = &world.admin;
    let basic = "Basic YWRtaW46YWRtaW4=";
    let headers = [
        format!("X-Api-Key: {admin}"),
        format!("Api-Key: {admin}"),
        format!("X-Auth-Token: {admin}"),
        format!("X-Access-Token: {admin}"),
        format!("X-Authorization: Bearer {admin}"),
        format!("X-Forwarded-Authorization: Bearer {admin}"),
        format!("Proxy-Authorization: Bearer {admin}"),
        format!("Authentication: Bearer {admin}"),
        format!("WWW-Authenticate: Bearer {admin}"),
        format!("Sec-WebSocket-Protocol: bearer, {admin}"),
        format!("Cookie: token={admin}; Authorization=Bearer {admin}; session={admin}"),
        format!("Authorization_: Bearer {admin}"),
        format!("mcpctl-authorization: Bearer {admin}"),
        "X-Forwarded-User: admin".to_owned(),
        "X-Remote-User: admin".to_owned(),
        "Remote-User: admin".to_owned(),
        "X-Forwarded-For: 127.0.0.1".to_owned(),
        "X-User: admin\r\nX-Roles: admin".to_owned(),
        "From: admin".to_owned(),
        format!("Authorization: {admin}"),
        format!("Authorization: Basic {admin}"),
        format!("Authorization: {basic}"),
        format!("Authorization: Token {admin}"),
        format!("Authorization: Digest {admin}"),
        format!("Authorization: Bearer: {admin}"),
        format!("Authorization: Bearer={admin}"),
        format!("Authorization: Bearer\t{admin}"),
        format!("Authorization: Bearer{admin}"),
        format!("Authorization: Bearer \"{admin}\""),
        format!("Authorization: Bearer token={admin}"),
        format!("Authorization: Bearer {admin},"),
        format!("Authorization: Bearer {admin}, Bearer {admin}"),
        format!("Authorization: Bearer {admin} {admin}"),
        format!("Authorization: Bearer {admin}; q=1"),
        format!("Authorization: Basic x, Bearer {admin}"),
        format!("Authorization: Bearer Bearer {admin}"),
        format!("Authorization: Bearer {admin}\r\nAuthorization: Bearer {admin}"),
        format!("Authorization: Bearer {}\r\nauthorization: Bearer {admin}", world.bob),
        format!("Authorization: {basic}\r\nAuthorization: Bearer {admin}"),
        format!("Authorization:\r\nAuthorization: Bearer {admin}"),
        "Authorization:".to_owned(),
        "Authorization: Bearer".to_owned(),
        "Authorization: Bearer  ".to_owned(),
    ];
    for_each(&headers, async |header| {
        let answer =
            world.send(world.request(&format!("GET {WHOAMI} HTTP/1.1"), &format!("{header}\r\n"), "")).await;
        assert!(!answer.succeeded(), "{header:?}: {}", answer.text());
    })
    .await;
    let queries = [
        "token=",
        "access_token=",
        "api_key=",
        "apikey=",
        "key=",
        "bearer=",
        "authorization=Bearer%20",
        "%74oken=",
        "TOKEN=",
        "t=",
    ];
    for_each(queries, async |query| {
        let line = format!("GET {WHOAMI}?{query}{admin} HTTP/1.1");
        let answer = world.send(world.request(&line, "", "")).await;
        assert!(!answer.succeeded(), "{query}: {}", answer.text());
    })
    .await;
    let bodies = [
        format!("{{\"token\":\"{admin}\",\"verb\":\"view\",\"kind\":\"llms\"}}"),
        format!("token={admin}&access_token={admin}"),
    ];
    for body in bodies {
        let length = format!("Content-Length: {}\r\n", body.len());
        let answer = world.send(world.request("POST /api/v1/auth/can-i HTTP/1.1", &length, &body)).await;
        assert!(!answer.succeeded(), "{body}: {}", answer.text());
    }
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let header = format!("Authorization: {scheme} {admin}\r\n");
        let answer = world.send(world.request(&format!("GET {WHOAMI} HTTP/1.1"), &header, "")).await;
        assert!(answer.succeeded(), "schemes ignore case, RFC 9110, section 11.1: {scheme}");
    }
    assert!(!world.mcpd.log().contains(admin.as_str()), "a credential is in the log");
}

#[tokio::test]
async fn credentials_that_are_not_exact_do_not_count() {
    let world = World::new().await;
    let admin = world.admin.as_str();
    let (prefix, rest) = admin.split_at(5);
    assert_eq!(prefix, "mcpd_");
    let swapped: String = rest
        .chars()
        .map(|c| if c.is_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() })
        .collect();
    let tokens = [
        format!("mcpl_{rest}"),
        format!("MCPD_{rest}"),
        format!("mcpd-{rest}"),
        rest.to_owned(),
        format!("{prefix}{swapped}"),
        format!("{prefix}{}", &rest[..rest.len() - 6]),
        admin[..admin.len() - 1].to_owned(),
        format!("{admin}A"),
        format!("{admin}="),
        format!("A{admin}"),
        admin.replace('_', "%5F"),
        format!("{prefix}{}", "A".repeat(rest.len())),
        format!("{prefix}{}", "a".repeat(100_000)),
        prefix.to_owned(),
        "null".to_owned(),
        "admin".to_owned(),
        "' OR 1=1 --".to_owned(),
        "*".to_owned(),
    ];
    for_each(&tokens, async |token| {
        let answer = world.send(world.request(&format!("GET {WHOAMI} HTTP/1.1"), &bearer(token), "")).await;
        assert!(!answer.succeeded(), "{token:.80}: {}", answer.text());
    })
    .await;
    assert_eq!(world.mcpd.get(WHOAMI, admin).await.status(), StatusCode::OK);
}

/// Every way in which the credential of an authorized account ends.
#[tokio::test]
async fn ended_credentials_are_refused_on_every_route() {
    let world = World::new().await;
    let mcpd = &world.mcpd;
    let names = ["expired", "deleted", "disabled", "removed", "namesake", "logged-out"];
    let mut tokens = Vec::new();
    for name in names {
        let password = format!("password-of-{name}");
        mcpd.apply(json!([
            {"kind": "User", "name": name, "password": password},
            {"kind": "RoleBinding", "name": name, "role": "admin", "subjects": [{"kind": "User", "name": name}]},
        ]))
        .await;
        let issued = if name == "logged-out" {
            let login = json!({"user": name, "password": password});
            mcpd.post("/api/v1/auth/login", "", &login).await
        } else {
            let expires_in = if name == "expired" { "1500ms" } else { "1h" };
            let wanted =
                json!({"name": name, "subject": {"kind": "User", "name": name}, "expiresIn": expires_in});
            mcpd.post("/api/v1/tokens", &world.admin, &wanted).await
        };
        assert_eq!(issued.status(), StatusCode::CREATED, "{name}");
        let issued: Value = issued.json().await.unwrap();
        let token = issued["token"].as_str().unwrap().to_owned();
        assert_eq!(mcpd.get(WHOAMI, &token).await.status(), StatusCode::OK, "{name}");
        tokens.push((name, token));
    }
    let done = |answer: reqwest::Response| assert!(answer.status().is_success(), "{}", answer.status());
    done(mcpd.delete("/api/v1/tokens/deleted", &world.admin).await);
    let disabled =
        mcpd.request(Method::PATCH, "/api/v1/users/disabled", &world.admin).json(&json!({"disabled": true}));
    done(disabled.send().await.unwrap());
    done(mcpd.delete("/api/v1/users/removed", &world.admin).await);
    done(mcpd.delete("/api/v1/users/namesake", &world.admin).await);
    mcpd.apply(json!([{"kind": "User", "name": "namesake"}])).await;
    done(mcpd.post("/api/v1/auth/logout", &tokens[5].1, &Value::Null).await);
    eventually("the token expires", async || {
        (mcpd.get(WHOAMI, &tokens[0].1).await.status() == StatusCode::UNAUTHORIZED).then_some(())
    })
    .await;

    let chat = json!({"model": "open", "messages": []});
    let routes = [
        (Method::GET, WHOAMI, None),
        (Method::GET, "/api/v1/llms", None),
        (Method::GET, "/api/v1/llms/open", None),
        (Method::HEAD, "/api/v1/llms/open", None),
        (Method::DELETE, "/api/v1/llms/open", None),
        (Method::POST, "/api/v1/users", Some(json!({"name": "made-by-a-ghost"}))),
        (Method::POST, "/api/v1/apply", Some(json!([{"kind": "User", "name": "made-by-a-ghost"}]))),
        (Method::GET, "/api/v1/watch", None),
        (Method::POST, "/api/v1/auth/can-i", Some(json!({"verb": "run", "kind": "llms"}))),
        (Method::POST, "/api/v1/auth/logout", None),
        (Method::GET, "/metrics", None),
        (Method::GET, "/v1/models", None),
        (Method::POST, "/v1/chat/completions", Some(chat.clone())),
        (Method::POST, "/v1/embeddings", Some(json!({"model": "open", "input": "x"}))),
        (Method::POST, "/api/v1/llms/open/infer", Some(chat)),
    ];
    for (name, token) in &tokens {
        for (method, path, body) in &routes {
            let request = mcpd.request(method.clone(), path, token);
            let request = match body {
                Some(body) => request.json(body),
                None => request,
            };
            let status = request.send().await.unwrap().status();
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{method} {path} with the token `{name}`");
        }
    }
    assert!(world.provider.requests().is_empty());
    assert_eq!(mcpd.get("/api/v1/llms/open", &world.admin).await.status(), StatusCode::OK);
    assert_eq!(mcpd.get("/api/v1/users/made-by-a-ghost", &world.admin).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn callers_credentials_never_reach_a_provider() {
    let world = World::new().await;
    let (mcpd, alice) = (&world.mcpd, &world.alice);
    let url = world.provider.base_url();
    mcpd.apply(json!([
        {"kind": "Secret", "name": "provider", "data": {"token": "the-providers-own-key"}},
        {"kind": "Llm", "name": "open", "type": "openai", "url": url, "model": "open-model",
         "apiKey": {"secret": "provider", "key": "token"}},
        {"kind": "Llm", "name": "keyless", "type": "openai", "url": url, "model": "keyless-model"},
        {"kind": "RoleBinding", "name": "alice-runs", "role": "llm-user", "subjects": [{"kind": "User", "name": "alice"}]},
    ]))
    .await;
    let places = [
        "x-api-key",
        "api-key",
        "cookie",
        "proxy-authorization",
        "x-forwarded-authorization",
        "x-auth-token",
        "openai-organization",
        "openai-project",
        "mcpctl-authorization",
        "referer",
        "forwarded",
        "user-agent",
        "x-request-id",
        "set-cookie",
        "x-goog-api-key",
        "x-amz-security-token",
        "host-authorization",
        "te",
        "trailer",
        "from",
    ];
    let bodies = [
        ("/v1/chat/completions", json!({"messages": []})),
        ("/v1/chat/completions", json!({"messages": [], "stream": true})),
        ("/v1/completions", json!({"prompt": "x"})),
        ("/v1/embeddings", json!({"input": "x"})),
        ("/api/v1/llms/{llm}/infer", json!({"messages": []})),
    ];
    for llm in ["open", "keyless"] {
        // A retry is built anew, so one is looked at too.
        world.provider.queue(Reply::error(503, "busy", "busy"));
        for (path, body) in &bodies {
            let mut body = body.clone();
            body["model"] = json!(llm);
            let mut request = mcpd.request(Method::POST, &path.replace("{llm}", llm), alice).json(&body);
            for place in places {
                request = request.header(place, format!("x={alice}"));
            }
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK, "{path} of `{llm}`");
            let headers = format!("{:?}", answer.headers());
            let shown = headers + &answer.text().await.unwrap();
            assert!(!shown.contains(alice.as_str()), "{path} sends the credential back: {shown}");
        }
    }
    let seen = world.provider.requests();
    assert_eq!(seen.len(), 2 * (bodies.len() + 1), "one request of each Llm took two attempts");
    for request in &seen {
        let text = format!("{request:?}{}", String::from_utf8_lossy(&request.body));
        for token in [alice, &world.admin] {
            assert!(!text.contains(token.as_str()), "{text}");
        }
        let sent: Vec<_> = sent_credentials(&request.headers);
        let keyless = String::from_utf8_lossy(&request.body).contains("keyless-model");
        let expected: &[&str] = if keyless { &[] } else { &["Bearer the-providers-own-key"] };
        assert_eq!(sent, expected, "{text}");
    }
    assert!(!mcpd.log().contains(alice.as_str()), "a credential is in the log");
    assert!(!mcpd.log().contains("the-providers-own-key"), "a provider's key is in the log");
}

fn sent_credentials(headers: &HeaderMap) -> Vec<&str> {
    headers.get_all("authorization").iter().map(|value| value.to_str().unwrap()).collect()
}
