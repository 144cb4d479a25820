//! What passes a proxy in front of one mcpd.

use mcpctl_api::Id;
use mcpctl_testkit::{
    authority::Authority,
    daemons::{Mcpd, McpdOptions, McpdTls, eventually},
    model_server::{Gate, ModelServer, Reply},
};
use reqwest::{Method, Response, StatusCode, Version};
use serde_json::{Value, json};

use super::{
    document::Example,
    proxy::{HOST, Kind, Proxy},
};

/// The longest body of an inference request, bytes.
const MAX_BODY: usize = 32 << 20;

/// An mcpd with the configuration of the document, and alice, who may run `claude`.
pub struct Behind {
    pub mcpd: Mcpd,
    pub provider: ModelServer,
    pub alice: String,
}

impl Behind {
    pub async fn start(options: McpdOptions) -> Self {
        let config = Example::new("yaml", 0).text().to_owned();
        let mcpd = Mcpd::start_with(McpdOptions { config: Some(config), ..options }).await;
        let provider = ModelServer::with_default(Reply::text("one two three")).await;
        mcpd.llm_with_default_timeouts("claude", &provider.base_url()).await;
        let alice = mcpd.user("alice", Some("llm-user")).await;
        Self { mcpd, provider, alice }
    }
}

pub fn chat(stream: bool) -> Value {
    json!({"model": "claude", "stream": stream, "messages": [{"role": "user", "content": "Count."}]})
}

/// Reads a stream until this text, and fails where the stream ends before it.
async fn until(answer: &mut Response, text: &str) -> String {
    let mut read = String::new();
    while !read.contains(text) {
        let piece = answer.chunk().await.unwrap();
        read.push_str(&String::from_utf8_lossy(&piece.unwrap_or_else(|| panic!("no `{text}` in: {read}"))));
    }
    read
}

#[tokio::test]
async fn both_versions_of_http_pass() {
    let behind = Behind::start(McpdOptions::default()).await;
    for kind in Kind::installed() {
        let proxy = Proxy::start(kind, &[&behind.mcpd]).await;
        for (http, version) in [(proxy.client(), Version::HTTP_2), (proxy.first_client(), Version::HTTP_11)] {
            let answer = proxy.chat(&http, &behind.alice, chat(false)).await;
            assert_eq!((answer.status(), answer.version()), (StatusCode::OK, version), "{kind:?}");
            assert_eq!(answer.headers()["mcpctl-served-by"], "claude", "{kind:?}");
            let answer: Value = answer.json().await.unwrap();
            assert_eq!(answer["choices"][0]["message"]["content"], "one two three", "{kind:?}");
        }
    }
}

#[tokio::test]
async fn hop_over_tls_is_verified() {
    let (authority, other) = (Authority::new(), Authority::new());
    // The name alone: mcpd's address is not in the certificate.
    let right = authority.issue("right", &[HOST]);
    let wrong_name = authority.issue("other", &["other.example.com"]);
    let strange = other.issue("strange", &[HOST]);
    let config = Example::new("yaml", 0).text().to_owned();
    for (issued, is_trusted) in [(right, true), (wrong_name, false), (strange, false)] {
        let tls = Some(McpdTls { issued, ..McpdTls::of(&authority) });
        let mcpd =
            Mcpd::start_with(McpdOptions { tls, config: Some(config.clone()), ..McpdOptions::default() })
                .await;
        for kind in Kind::installed() {
            let mut proxy = Proxy::spawn_over_tls(kind, &[&mcpd], &authority);
            let expected = if is_trusted { StatusCode::is_success } else { StatusCode::is_server_error };
            proxy.answers_with(expected).await;
            let whoami = proxy.request(&proxy.client(), Method::GET, "/api/v1/auth/whoami", &mcpd.admin());
            assert!(expected(&whoami.send().await.unwrap().status()), "{kind:?}");
        }
    }
}

#[tokio::test]
async fn streams_pass_as_they_come() {
    let behind = Behind::start(McpdOptions::default()).await;
    for kind in Kind::installed() {
        let proxy = Proxy::start(kind, &[&behind.mcpd]).await;
        for http in [proxy.client(), proxy.first_client()] {
            let gate = Gate::new();
            behind.provider.queue(Reply::text("one two three").gate_after(1, &gate));
            let mut answer = proxy.chat(&http, &behind.alice, chat(true)).await;
            until(&mut answer, "one").await;
            gate.release();
            assert!(until(&mut answer, "[DONE]").await.contains("three"), "{kind:?}");
        }
    }
}

#[tokio::test]
async fn work_ends_with_the_client() {
    let behind = Behind::start(McpdOptions::default()).await;
    let mut gone = 0;
    for kind in Kind::installed() {
        let proxy = Proxy::start(kind, &[&behind.mcpd]).await;
        for http in [proxy.client(), proxy.first_client()] {
            behind.provider.queue(Reply::text("one two three").stall_after(1));
            let mut answer = proxy.chat(&http, &behind.alice, chat(true)).await;
            until(&mut answer, "one").await;
            drop(answer);
            gone += 1;
            behind.provider.wait_for_disconnects(gone).await;

            // Before the first byte of the answer.
            behind.provider.queue(Reply::hang());
            let asked = behind.provider.inferences().len();
            let request = proxy.request(&http, Method::POST, "/v1/chat/completions", &behind.alice);
            let waiting = tokio::spawn(request.json(&chat(false)).send());
            let asks = async || (behind.provider.inferences().len() > asked).then_some(());
            eventually("the provider is asked", asks).await;
            waiting.abort();
            gone += 1;
            behind.provider.wait_for_disconnects(gone).await;
        }
    }
}

#[tokio::test]
async fn feeds_and_watches_pass_as_they_come() {
    let behind = Behind::start(McpdOptions::default()).await;
    for kind in Kind::installed() {
        let proxy = Proxy::start(kind, &[&behind.mcpd]).await;
        let http = proxy.client();
        let bob = behind.mcpd.user(&format!("bob-{kind:?}").to_lowercase(), Some("llm-user")).await;
        let feed = proxy.request(&http, Method::GET, "/api/v1/feed?llms=claude", &bob);
        let mut feed = feed.send().await.unwrap();
        until(&mut feed, "\"allowed\":true").await;
        let admin = behind.mcpd.admin();
        let watch = proxy.request(&http, Method::GET, "/api/v1/watch", &admin);
        let mut watch = watch.send().await.unwrap();
        assert_eq!(watch.status(), StatusCode::OK, "{kind:?}");
        let binding = format!("/api/v1/rolebindings/bob-{kind:?}-llm-user").to_lowercase();
        let gone = proxy.request(&http, Method::DELETE, &binding, &admin).send().await.unwrap();
        assert_eq!(gone.status(), StatusCode::NO_CONTENT, "{kind:?}");
        until(&mut feed, "\"allowed\":false").await;
        until(&mut watch, "-llm-user").await;
    }
}

#[tokio::test]
async fn probes_pass_with_their_proof_and_lease() {
    let behind = Behind::start(McpdOptions::default()).await;
    let url = behind.provider.base_url();
    behind
        .mcpd
        .apply(json!([{"kind": "Llm", "name": "claude", "type": "openai", "url": url, "model": "m",
                       "failover": {"offlineGrace": "60s"}}]))
        .await;
    for kind in Kind::installed() {
        let proxy = Proxy::start(kind, &[&behind.mcpd]).await;
        for http in [proxy.client(), proxy.first_client()] {
            let probe = proxy.request(&http, Method::HEAD, "/api/v1/llms/claude", &behind.alice);
            let agent = Id::mint();
            // The nonce has 22 characters of base64url.
            let probe =
                probe.header("mcpctl-probe-nonce", "A".repeat(22)).header("mcpctl-agent", agent.as_str());
            let answer = probe.send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK, "{kind:?}");
            for header in ["mcpctl-access-proof", "mcpctl-access-lease", "mcpctl-llm-id"] {
                assert!(answer.headers().contains_key(header), "{kind:?} has no {header}");
            }
        }
        let denied = proxy.request(&proxy.client(), Method::HEAD, "/api/v1/llms/other", &behind.alice);
        assert_eq!(denied.send().await.unwrap().status(), StatusCode::NOT_FOUND, "{kind:?}");
    }
}

#[tokio::test]
async fn longest_body_passes_and_a_longer_one_is_explained() {
    let behind = Behind::start(McpdOptions::default()).await;
    let body = |length: usize| {
        let (head, tail) = (r#"{"model":"claude","messages":[{"role":"user","content":""#, r#""}]}"#);
        format!("{head}{}{tail}", "x".repeat(length - head.len() - tail.len()))
    };
    for kind in Kind::installed() {
        let proxy = Proxy::start(kind, &[&behind.mcpd]).await;
        let http = proxy.client();
        let send = async |length: usize| {
            let request = proxy.request(&http, Method::POST, "/v1/chat/completions", &behind.alice);
            request.header("content-type", "application/json").body(body(length)).send().await
        };
        assert_eq!(send(MAX_BODY).await.unwrap().status(), StatusCode::OK, "{kind:?}");
        let answer = send(MAX_BODY + 1).await.unwrap();
        assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE, "{kind:?}");
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["error"]["code"], "body_too_large", "{kind:?}");
    }
}

#[tokio::test]
async fn clients_address_counts_and_not_what_it_claims() {
    let behind = Behind::start(McpdOptions::default()).await;
    for kind in Kind::installed() {
        let proxy = Proxy::start(kind, &[&behind.mcpd]).await;
        let name = format!("{kind:?}").to_lowercase();
        let http = proxy.client_from([127, 0, 0, 9]);
        let login = proxy.request(&http, Method::POST, "/api/v1/auth/login", "");
        let login = login.header("x-forwarded-for", "203.0.113.7");
        let answer = login.json(&json!({"user": name, "password": "wrong"})).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{kind:?}");
        let refused = format!("a login was refused user={name} network=127.0.0.9 ");
        let logged = async || behind.mcpd.log().contains(&refused).then_some(());
        eventually("the log has the client's own address", logged).await;
    }
}

#[tokio::test]
async fn foreign_hosts_are_refused_behind_a_proxy() {
    let behind = Behind::start(McpdOptions::default()).await;
    for kind in Kind::installed() {
        let proxy = Proxy::start(kind, &[&behind.mcpd]).await;
        let request = proxy.request(&proxy.first_client(), Method::GET, "/v1/models", &behind.alice);
        let answer = request.header("host", "evil.example").send().await.unwrap();
        // Caddy serves the names of its file alone.
        assert!(
            kind == Kind::Caddy || answer.status() == StatusCode::FORBIDDEN,
            "{kind:?}: {}",
            answer.status()
        );
        assert!(!answer.text().await.unwrap().contains("claude"), "{kind:?}");
    }
}
