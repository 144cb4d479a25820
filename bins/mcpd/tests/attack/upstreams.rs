//! Addresses of providers: what may not be reached through an Llm, what may not be read of it, and requests in a circle.

use mcpctl_testkit::{
    daemons::{Mcpd, McpdOptions, eventually},
    model_server::{Fault, ModelServer, Reply},
};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

const KEY: &str = "sk-0123456789-abcdefghijklmnop";

async fn with_config(config: &str) -> Mcpd {
    Mcpd::start_with(McpdOptions { config: Some(config.to_owned()), ..McpdOptions::default() }).await
}

/// Points an Llm `probe` at an address; no attempt is repeated.
async fn point_at(mcpd: &Mcpd, url: &str) -> Response {
    let llm = json!({"kind": "Llm", "name": "probe", "type": "openai", "url": url, "model": "m",
                     "retries": {"max": 0}, "timeouts": {"connect": "2s", "answer": "5s", "response": "5s"}});
    mcpd.post("/api/v1/apply", &mcpd.admin(), &json!([llm])).await
}

async fn chat(mcpd: &Mcpd, stream: bool) -> Response {
    let body = json!({"model": "probe", "stream": stream, "messages": [{"role": "user", "content": "Hi"}]});
    mcpd.post("/v1/chat/completions", &mcpd.admin(), &body).await
}

/// What a caller sees of a failure.
async fn seen(answer: Response) -> (StatusCode, String, String) {
    let class = answer.headers()["mcpctl-failure"].to_str().unwrap().to_owned();
    (answer.status(), class, answer.text().await.unwrap())
}

#[tokio::test]
async fn forbidden_addresses_cannot_be_written_in_any_form() {
    let mcpd = Mcpd::start().await;
    for url in [
        "http://169.254.169.254/latest/meta-data",
        "http://2852039166/",
        "http://0xa9.0xfe.0xa9.0xfe/",
        "http://[::ffff:169.254.169.254]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://[2002:a9fe:a9fe::1]/",
        "http://[fe80::1]/",
        "http://[fd00:ec2::254]/",
        "http://100.100.100.200/",
        "http://metadata.google.internal/computeMetadata/v1",
        "http://Metadata.Google.Internal./",
        "http://0.0.0.0:8000/",
        "http://[::]:8000/",
        "http://224.0.0.1/",
        "http://255.255.255.255/",
    ] {
        let answer = point_at(&mcpd, url).await;
        let status = answer.status();
        let body: Value = answer.json().await.unwrap();
        assert_eq!(status, StatusCode::BAD_REQUEST, "{url}: {body}");
        assert!(body["error"]["param"].as_str().unwrap().ends_with("url"), "{url}: {body}");
    }
}

#[tokio::test]
async fn refused_addresses_are_not_connected_to() {
    let provider = ModelServer::start().await;
    let mcpd = with_config("upstreamAddresses:\n  loopback: false\n").await;
    let port = provider.address().port();
    for host in ["127.0.0.1", "localhost", "127.1", "[::ffff:127.0.0.1]"] {
        assert_eq!(point_at(&mcpd, &format!("http://{host}:{port}/v1")).await.status(), StatusCode::OK);
        for stream in [false, true] {
            let (status, class, body) = seen(chat(&mcpd, stream).await).await;
            assert_eq!((status, class.as_str()), (StatusCode::BAD_GATEWAY, "connect"), "{host}: {body}");
            assert!(!body.contains("upstreamAddresses") && !body.contains("127.0.0.1"), "{body}");
        }
    }
    assert_eq!(provider.connections(), 0);
    assert!(mcpd.log().contains("`upstreamAddresses.loopback` is false"), "{}", mcpd.log());
    assert!(mcpd.log().contains("where Llms may point, besides public addresses loopback=false"));

    let mcpd = with_config("upstreamAddresses:\n  loopback: false\n  networks: [127.0.0.0/8]\n").await;
    point_at(&mcpd, &provider.base_url()).await;
    assert_eq!(chat(&mcpd, false).await.status(), StatusCode::OK, "a network on the list");
    assert_eq!(provider.connections(), 1);
}

#[tokio::test]
async fn private_addresses_are_refused_where_configured() {
    let mcpd = with_config("upstreamAddresses:\n  private: false\n").await;
    for host in ["10.255.255.1", "192.168.255.1", "[fd12:3456::1]", "[::ffff:10.255.255.1]"] {
        point_at(&mcpd, &format!("http://{host}:9/v1")).await;
        assert_eq!(seen(chat(&mcpd, false).await).await.1, "connect", "{host}");
    }
    assert_eq!(mcpd.log().matches("`upstreamAddresses.private` is false").count(), 4, "{}", mcpd.log());
}

#[tokio::test]
async fn own_listeners_are_refused_like_closed_ports() {
    let options = McpdOptions { inference_listener: true, ..McpdOptions::default() };
    let mcpd = Mcpd::start_with(options).await;
    // Those who may edit an Llm learn of a closed port that it is closed, and of a refused address nothing.
    let alice = mcpd.user("alice", Some("llm-user")).await;
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    point_at(&mcpd, &closed).await;
    let ask = async || {
        let body = json!({"model": "probe", "messages": []});
        let url = format!("{}/v1/chat/completions", mcpd.inference_url());
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        seen(http.post(url).bearer_auth(&alice).json(&body).send().await.unwrap()).await
    };
    let refused_by_nobody = ask().await;
    for url in [mcpd.url(), mcpd.inference_url()] {
        for url in [
            url.to_owned(),
            url.replace("127.0.0.1", "localhost"),
            url.replace("127.0.0.1", "[::ffff:127.0.0.1]"),
        ] {
            point_at(&mcpd, &url).await;
            assert_eq!(ask().await, refused_by_nobody, "{url}");
        }
    }
    assert!(mcpd.log().contains("this process itself listens on 127.0.0.1:"), "{}", mcpd.log());
}

#[tokio::test]
async fn other_services_cannot_be_read_through_an_llm() {
    let mcpd = Mcpd::start().await;
    let service = ModelServer::start().await;
    point_at(&mcpd, &format!("{}/latest/meta-data", service.base_url().trim_end_matches("/v1"))).await;
    point_at(&mcpd, &service.base_url()).await;
    for (status, body) in [
        (404, "internal service: user=root db=postgres://u:PASSWORD@db/"),
        (500, "<html>PASSWORD</html>"),
        (400, r#"{"status":"bad","secret":"PASSWORD"}"#),
        (400, r#"{"message":"bad","secret":"PASSWORD"}"#),
        (302, "PASSWORD"),
        (200, r#"{"AccessKeyId":"AKIA","SecretAccessKey":"PASSWORD"}"#),
        (200, r#"{"object":"list","data":[{"id":"PASSWORD"}]}"#),
        (200, "PASSWORD"),
        (204, "PASSWORD"),
    ] {
        for stream in [false, true] {
            service.queue(Reply::status(status, body).header("x-request-id", "r"));
            let answer = chat(&mcpd, stream).await;
            let (shown, status_shown) = (answer.status(), StatusCode::from_u16(status).unwrap());
            assert!(shown == status_shown || shown == StatusCode::BAD_GATEWAY, "{status} {shown}");
            let text = answer.text().await.unwrap();
            assert!(!text.contains("PASSWORD") && text.contains("\"error\""), "{status}: {text}");
        }
    }
    let events = "id: PASSWORD\n: PASSWORD\ndata: {\"token\":\"PASSWORD\"}\n\n";
    service.queue(Reply::status(200, events).header("content-type", "text/event-stream"));
    let text = chat(&mcpd, true).await.text().await.unwrap();
    assert!(!text.contains("PASSWORD"), "{text}");
    service.queue(Reply::text("one two").after(1, Fault::Bytes(": PASSWORD\nid: PASSWORD\n\n".into())));
    let text = chat(&mcpd, true).await.text().await.unwrap();
    assert!(!text.contains("PASSWORD") && text.contains("[DONE]"), "{text}");
}

#[tokio::test]
async fn echoed_key_reaches_no_caller_log_or_record() {
    let mcpd = Mcpd::start().await;
    let provider = ModelServer::start().await;
    let escaped: String = KEY.bytes().map(|b| format!("\\u{:04x}", u32::from(b))).collect();
    mcpd.apply(json!([
        {"kind": "Secret", "name": "provider", "data": {"key": format!("{KEY}\n")}},
        {"kind": "Llm", "name": "probe", "type": "openai", "url": provider.base_url(), "model": "m",
         "apiKey": {"secret": "provider", "key": "key"}, "retries": {"max": 0}},
    ]))
    .await;
    for reply in [
        Reply::error(400, &format!("you sent Bearer {KEY}"), KEY),
        Reply::error(500, &format!("…{}", &KEY[8..]), "x"),
        Reply::error(429, "x", "x").header("x-request-id", KEY),
        Reply::status(400, format!(r#"{{"error":{{"message":"{escaped}"}}}}"#)),
        Reply::status(400, format!("Authorization: Bearer {KEY}")),
        Reply::text(&format!("your key is {KEY} now")).model(KEY),
        Reply::text(&KEY.chars().map(|c| format!("{c} ")).collect::<String>().replace(' ', "")),
    ] {
        for stream in [false, true] {
            provider.queue(reply.clone());
            let answer = chat(&mcpd, stream).await;
            let headers = format!("{:?}", answer.headers());
            let shown = format!("{headers} {}", answer.text().await.unwrap());
            for piece in [KEY, &KEY[8..], &escaped] {
                assert!(!shown.contains(piece), "{shown}");
            }
        }
    }
    assert_eq!(provider.inferences()[0].header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    assert!(!mcpd.log().contains(&KEY[..16]), "{}", mcpd.log());
    for file in ["mcpd.sqlite", "mcpd.sqlite-wal"] {
        let database = std::fs::read(mcpd.data_dir().join(file)).unwrap_or_default();
        assert!(!database.windows(16).any(|bytes| bytes == &KEY.as_bytes()[..16]), "{file}");
    }
}

#[tokio::test]
async fn looping_requests_end_at_the_second_pass() {
    let (one, two) = (Mcpd::start().await, Mcpd::start().await);
    for (from, to) in [(&one, &two), (&two, &one)] {
        from.apply(json!([
            {"kind": "Secret", "name": "other", "data": {"key": to.admin()}},
            {"kind": "Llm", "name": "probe", "type": "openai", "url": to.url(), "model": "probe",
             "apiKey": {"secret": "other", "key": "key"}, "retries": {"max": 0},
             "timeouts": {"connect": "1s", "response": "5s", "answer": "5s", "firstToken": "5s", "idle": "5s"}},
        ]))
        .await;
    }
    for stream in [false, true] {
        let (status, class, body) = seen(chat(&one, stream).await).await;
        assert_eq!((status, class.as_str()), (StatusCode::LOOP_DETECTED, "rejected"), "{body}");
        assert!(body.contains("came back"), "{body}");
    }
    // Each was asked once for each request, and the first once more when it came back.
    let answered = |mcpd: &Mcpd| mcpd.log().matches("answered status=508").count();
    eventually("the access lines", async || ((answered(&one), answered(&two)) == (4, 2)).then_some(())).await;
}

#[tokio::test]
async fn hops_header_can_only_reject_its_own_request() {
    let mcpd = Mcpd::start().await;
    let provider = ModelServer::start().await;
    point_at(&mcpd, &provider.base_url()).await;
    let with = async |hops: &str| {
        let request = mcpd.request(reqwest::Method::POST, "/v1/chat/completions", &mcpd.admin());
        let request = request.header("mcpctl-hops", hops).json(&json!({"model": "probe", "messages": []}));
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(with("0123456789abcdef").await, 200);
    let own = provider.inferences()[0].header("mcpctl-hops").unwrap().to_owned();
    assert!(own.starts_with("0123456789abcdef,"), "{own}");
    assert_eq!(with(&own).await, 508, "it was here before");
    assert_eq!(with(&["0123456789abcdef"; 8].join(",")).await, 508);
    assert_eq!(with(&["0123456789abcdef"; 400].join(",")).await, 508);
    for text in ["x", "0123456789abcdef,", &"0".repeat(4000)] {
        assert_eq!(with(text).await, 400, "{text}");
    }
    assert_eq!(with("fedcba9876543210").await, 200, "others are served as before");
    assert_eq!(provider.inferences().len(), 2);
}
