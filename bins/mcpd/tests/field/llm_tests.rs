//! `POST /api/v1/llms/:idOrName/test` on whole daemons and real sockets: each fault on the way to a model is found at its step, with
//! its cause and the next step; and a test takes no more rights, and no fewer Limits, than a request.

use std::{net::Ipv4Addr, time::Duration};

use mcpctl_testkit::{
    authority::Authority,
    daemons::{Mcpd, McpdOptions, McpdTls, eventually},
    model_server::{Gate, ModelServer, Pause, Reply},
};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

const KEY: &str = "sk-the-key-of-this-test";

async fn send(mcpd: &Mcpd, bearer: &str, llm: &str) -> Response {
    mcpd.post(&format!("/api/v1/llms/{llm}/test"), bearer, &json!({})).await
}

/// What a test of an Llm finds.
async fn test(mcpd: &Mcpd, bearer: &str, llm: &str) -> Value {
    let answer = send(mcpd, bearer, llm).await;
    let (status, body) = (answer.status(), answer.text().await.unwrap());
    assert_eq!(status, StatusCode::OK, "{body}");
    assert!(!body.contains(KEY), "{body}");
    serde_json::from_str(&body).unwrap()
}

/// The states of all steps of a target, e.g. `name - connect ok`, and the problem.
fn steps(target: &Value) -> String {
    let word = |state: &Value| match state.as_str().unwrap() {
        "skipped" => "-".to_owned(),
        other => other.to_owned(),
    };
    let steps = target["steps"].as_array().unwrap().iter();
    steps
        .map(|step| format!("{} {}", step["step"].as_str().unwrap(), word(&step["state"])))
        .collect::<Vec<_>>()
        .join(" ")
}

/// The step that failed, its reason and its hint.
fn problem(test: &Value) -> [String; 3] {
    let target = &test["targets"][0];
    assert_eq!((&test["ok"], &target["ok"]), (&json!(false), &json!(false)), "{test}");
    let mut failed = target["steps"].as_array().unwrap().iter().filter(|step| step["state"] == "failed");
    let step = failed.next().unwrap_or_else(|| panic!("no step has failed: {test}"));
    assert!(failed.next().is_none(), "{test}");
    [&step["step"], &target["problem"]["reason"], &target["problem"]["hint"]]
        .map(|text| text.as_str().unwrap_or_default().to_owned())
}

fn llm(url: &str) -> Value {
    json!({
        "kind": "Llm", "name": "gpt", "type": "openai", "url": url, "model": "m-1",
        "apiKey": {"secret": "openai", "key": "token"},
        "timeouts": {"connect": "1s", "response": "1s", "answer": "5s", "firstToken": "1s", "idle": "1s"},
    })
}

async fn with_secret() -> Mcpd {
    let mcpd = Mcpd::start().await;
    mcpd.apply(json!([{"kind": "Secret", "name": "openai", "data": {"token": KEY}}])).await;
    mcpd
}

/// Applies an Llm at this address, and tests it.
async fn found(mcpd: &Mcpd, url: &str) -> [String; 3] {
    mcpd.apply(json!([llm(url)])).await;
    problem(&test(mcpd, &mcpd.admin(), "gpt").await)
}

#[tokio::test]
async fn model_that_answers_is_shown_step_by_step_and_counts_as_usage() {
    let (mcpd, provider) = (with_secret().await, ModelServer::start().await);
    provider.require_key(KEY);
    mcpd.apply(json!([llm(&provider.base_url())])).await;
    let alice = mcpd.user("alice", Some("llm-user")).await;
    let found = test(&mcpd, &mcpd.admin(), "gpt").await;
    let target = &found["targets"][0];
    assert_eq!(
        steps(target),
        "name - connect ok tls - api ok credential ok model ok firstToken ok answer ok"
    );
    assert_eq!((&found["ok"], &target["url"]), (&json!(true), &json!(provider.base_url())), "{found}");
    assert!(target["problem"].is_null(), "{found}");

    // One small streamed request, with the model's name at the provider.
    let sent = provider.inferences();
    let body = sent[0].json();
    assert_eq!((sent.len(), &body["model"], &body["max_tokens"]), (1, &json!("m-1"), &json!(16)), "{body}");
    assert_eq!((&body["stream"], body["messages"].as_array().unwrap().len()), (&json!(true), 1), "{body}");
    // Each test has a connection of its own.
    test(&mcpd, &alice, "gpt").await;
    assert_eq!(provider.connections(), 2);

    let usage = async || {
        let page = mcpd.get("/api/v1/usage?by=user", &mcpd.admin()).await.json::<Value>().await.unwrap();
        let items = page["items"].as_array().unwrap().clone();
        (items.len() == 2).then_some(items)
    };
    let usage = eventually("both tests are usage", usage).await;
    assert!(
        usage.iter().all(|sum| sum["requests"] == 1 && sum["outputTokens"].as_u64() > Some(0)),
        "{usage:?}"
    );
    let audit = mcpd.get("/api/v1/audit?subject=user/alice&action=run", &mcpd.admin()).await;
    let audit: Value = audit.json().await.unwrap();
    assert_eq!(
        (&audit["items"][0]["decision"], &audit["items"][0]["resourceName"]),
        (&json!("allowed"), &json!("gpt")),
        "{audit}"
    );
    let status: Value = mcpd.get("/api/v1/llms/gpt/status", &mcpd.admin()).await.json().await.unwrap();
    assert_eq!(status["state"], "ok", "{status}");
}

#[tokio::test]
async fn answer_that_ignores_the_number_of_tokens_is_left() {
    let (mcpd, provider) = (with_secret().await, ModelServer::start().await);
    provider.set_default(Reply::text(&"word ".repeat(5_000)));
    mcpd.apply(json!([llm(&provider.base_url())])).await;
    test(&mcpd, &mcpd.admin(), "gpt").await;
    let usage = async || {
        let page = mcpd.get("/api/v1/usage", &mcpd.admin()).await.json::<Value>().await.unwrap();
        (page["totals"]["requests"] == 1).then(|| page["totals"]["outputTokens"].as_u64().unwrap())
    };
    let tokens = eventually("the test is usage", usage).await;
    assert!(tokens > 0 && tokens < 2_500, "{tokens}");
}

#[tokio::test]
async fn servers_that_cannot_be_reached_are_named_with_the_way_out() {
    let mcpd = with_secret().await;
    let [step, reason, hint] = found(&mcpd, "http://no-such-host.invalid/v1").await;
    assert_eq!(
        (step.as_str(), reason.as_str()),
        ("name", "the name `no-such-host.invalid` cannot be resolved")
    );
    assert!(hint.contains("`url`") && hint.contains("DNS"), "{hint}");

    let mut provider = ModelServer::start().await;
    provider.refuse().await;
    let [step, reason, hint] = found(&mcpd, &provider.base_url()).await;
    assert_eq!(step, "connect");
    assert!(
        reason.contains(&provider.address().to_string()) && reason.contains("connection refused"),
        "{reason}"
    );
    assert!(hint.contains("start the server"), "{hint}");

    // A machine that drops packets: a queue of connections that is full.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let full = socket.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(400), TcpStream::connect(address)).await
    {
        waiting.push(stream);
    }
    let [step, reason, hint] = found(&mcpd, &format!("http://{address}")).await;
    assert_eq!(
        (step, reason),
        ("connect".to_owned(), format!("no connection to `{address}` within 1s (connect)"))
    );
    assert!(hint.contains("firewall") && hint.contains("`timeouts.connect`"), "{hint}");

    // Accepts and is silent, without and with TLS.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = silent.local_addr().unwrap();
    let [step, reason, hint] = found(&mcpd, &format!("http://{address}")).await;
    assert_eq!((step.as_str(), reason.as_str()), ("api", "no response head within 1s (response)"));
    assert!(hint.contains("`timeouts.response`"), "{hint}");
    let [step, reason, _] = found(&mcpd, &format!("https://{address}")).await;
    assert_eq!(
        (step, reason),
        ("tls".to_owned(), format!("the TLS handshake with `{address}` does not end within 1s"))
    );

    // What the policy refuses looks as it does to callers, and is in the log.
    let closed = Mcpd::start_with(McpdOptions {
        config: Some("upstreamAddresses: {loopback: false}\n".to_owned()),
        ..McpdOptions::default()
    })
    .await;
    closed.apply(json!([{"kind": "Secret", "name": "openai", "data": {"token": KEY}}])).await;
    let [step, reason, hint] = found(&closed, "http://127.0.0.1:9").await;
    assert_eq!((step.as_str(), reason.as_str()), ("connect", "the provider cannot be reached"));
    assert!(hint.contains("`upstreamAddresses`"), "{hint}");
}

#[tokio::test]
async fn faults_of_tls_are_named_with_the_way_out() {
    let authority = Authority::new();
    let trusting = |ca: &Authority| {
        let env = vec![("SSL_CERT_FILE", ca.ca_file().display().to_string())];
        McpdOptions { env, ..McpdOptions::default() }
    };
    let mcpd = Mcpd::start_with(trusting(&Authority::new())).await;
    mcpd.apply(json!([{"kind": "Secret", "name": "openai", "data": {"token": KEY}}])).await;
    // Servers with TLS: other mcpd, which have the API.
    let served = async |issued| {
        let tls = McpdTls { issued, ..McpdTls::of(&authority) };
        Mcpd::start_with(McpdOptions { tls: Some(tls), ..McpdOptions::default() }).await
    };
    let good = served(authority.issue("good", &["127.0.0.1"])).await;
    let [step, reason, hint] = found(&mcpd, good.url()).await;
    assert_eq!(step, "tls");
    assert!(reason.contains("of an authority that is not trusted here"), "{reason}");
    assert!(hint.contains("update-ca-certificates"), "{hint}");

    let plain = ModelServer::start().await;
    let [step, reason, hint] = found(&mcpd, &plain.base_url().replace("http://", "https://")).await;
    assert_eq!(step, "tls");
    assert!(
        reason.ends_with("it does not speak TLS") && hint.contains("begin `url` with http://"),
        "{reason} {hint}"
    );

    let [step, reason, hint] = found(&mcpd, &good.url().replace("https://", "http://")).await;
    assert_eq!(step, "api");
    assert!(reason.contains("status 400") && hint.contains("begin `url` with https://"), "{reason} {hint}");

    // The authority is trusted.
    let mcpd = Mcpd::start_with(trusting(&authority)).await;
    mcpd.apply(json!([{"kind": "Secret", "name": "openai", "data": {"token": KEY}}])).await;
    let other = served(authority.issue("other", &["models.example.com"])).await;
    let [step, reason, hint] = found(&mcpd, other.url()).await;
    assert_eq!(step, "tls");
    assert!(
        reason.contains("not for `127.0.0.1`, only for: ") && hint.contains("a name of the certificate"),
        "{reason} {hint}"
    );
    let old = served(authority.issue_expired("old", &["127.0.0.1"])).await;
    let [step, reason, hint] = found(&mcpd, old.url()).await;
    assert!(
        step == "tls" && reason.contains("expired 2021-01-01") && hint.contains("renew it"),
        "{reason} {hint}"
    );
    // Trusted, and the key is not one of that mcpd.
    mcpd.apply(json!([llm(good.url())])).await;
    let found = test(&mcpd, &mcpd.admin(), "gpt").await;
    assert_eq!(
        steps(&found["targets"][0]),
        "name - connect ok tls ok api ok credential failed model - firstToken - answer -"
    );
}

#[tokio::test]
async fn answers_of_providers_are_read_for_their_cause() {
    let (mcpd, provider) = (with_secret().await, ModelServer::start().await);
    let page =
        || Reply::status(200, "<html><title>Sign in</title></html>").header("content-type", "text/html");
    let at = provider.address().to_string();
    for (reply, step, reason, hint) in [
        (
            Reply::error(401, "invalid key sk-the**test", "invalid_api_key"),
            "credential",
            "refuses the key: status 401: invalid key [redacted]",
            "mcpctl set secret openai token",
        ),
        (
            Reply::error(429, "You exceeded your current quota", "insufficient_quota"),
            "credential",
            "no credit left",
            "pay for more",
        ),
        (
            Reply::error(404, "The model `m-1` does not exist", "model_not_found"),
            "model",
            "does not have the model `m-1`",
            "in `model`",
        ),
        (
            Reply::rate_limited("20"),
            "firstToken",
            "limits requests: status 429: rate limit reached; it can be asked again in 20s",
            "wait",
        ),
        (page(), "api", "with status 200 and a web page", "a sign-in or a console"),
        (
            Reply::status(302, "").header("location", "https://sso.example.com/login?x=1"),
            "api",
            "redirects to `https://sso.example.com/login`",
            "write it as `url`",
        ),
        (
            Reply::status(502, "<html>nginx</html>").header("content-type", "text/html"),
            "api",
            "status 502",
            "gateway",
        ),
        (
            Reply::status(200, "{}").header("content-type", "application/json"),
            "api",
            "not as a model server",
            "base of the API",
        ),
        (
            Reply::error(500, "out of memory", "oom"),
            "firstToken",
            "fails: status 500: out of memory",
            "log of the model server",
        ),
        (
            Reply::error(400, "no chat template", "bad"),
            "firstToken",
            "rejects the request: status 400: no chat template",
            "model for chats",
        ),
        (Reply::text("a b").stall_after(0), "firstToken", "within 1s (firstToken)", "`timeouts.firstToken`"),
        (
            Reply::text("a b").error_after(0, "CUDA error"),
            "firstToken",
            "CUDA error",
            "log of the model server",
        ),
        (Reply::text("a b c").cut_after(1), "answer", "broke off after its first content", "proxy"),
    ] {
        provider.set_default(reply);
        let [failed, why, next] = found(&mcpd, &provider.base_url()).await;
        assert!(
            failed == step && why.contains(reason) && next.contains(hint),
            "{step} {reason}: {failed} {why} {next}"
        );
        assert!(step == "answer" || why.contains(&at) || why.contains("within"), "{why}");
    }
    provider.set_default(Reply::default());
    let [step, reason, hint] = found(&mcpd, &format!("http://{at}/v1/v1")).await;
    assert_eq!(
        (step, reason),
        (
            "api".to_owned(),
            format!("there is no `/v1/v1/chat/completions` at `{at}`: status 404: no such route")
        )
    );
    assert!(hint.contains("with or without `/v1`"), "{hint}");

    provider.require_key("another");
    let mut without = llm(&provider.base_url());
    without.as_object_mut().unwrap().remove("apiKey");
    mcpd.apply(json!([without])).await;
    let [step, reason, hint] = problem(&test(&mcpd, &mcpd.admin(), "gpt").await);
    assert_eq!(step, "credential");
    assert!(
        reason.contains("asks for a key, and the Llm has none")
            && hint.contains("`apiKey: {secret: NAME, key: KEY}`"),
        "{reason} {hint}"
    );

    // A secret that is gone: nothing is sent.
    let sent = provider.requests().len();
    mcpd.apply(json!([llm(&provider.base_url())])).await;
    assert_eq!(mcpd.delete("/api/v1/secrets/openai", &mcpd.admin()).await.status(), StatusCode::NO_CONTENT);
    let [step, reason, hint] = problem(&test(&mcpd, &mcpd.admin(), "gpt").await);
    assert!(
        step == "credential" && reason.contains("`openai` is gone") && hint.contains("apiKey"),
        "{reason} {hint}"
    );
    assert_eq!(provider.requests().len(), sent);
}

/// OpenAI's reasoning models reject `max_tokens`, Anthropic's API is translated for, and a server may not stream.
#[tokio::test]
async fn every_kind_of_provider_is_asked_in_its_own_way() {
    let (mcpd, provider) = (with_secret().await, ModelServer::start().await);
    provider.answer_with(|request| match request.json().get("max_tokens") {
        Some(_) => Reply::error(
            400,
            "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
            "unsupported_parameter",
        ),
        None => Reply::text("ok"),
    });
    mcpd.apply(json!([llm(&provider.base_url())])).await;
    let found = test(&mcpd, &mcpd.admin(), "gpt").await;
    assert_eq!(found["ok"], true, "{found}");
    assert_eq!(provider.inferences().last().unwrap().json()["max_completion_tokens"], 16);

    let provider = ModelServer::start().await;
    let mut anthropic = llm(&provider.base_url());
    anthropic["type"] = json!("anthropic");
    mcpd.apply(json!([anthropic])).await;
    let found = test(&mcpd, &mcpd.admin(), "gpt").await;
    assert_eq!(found["ok"], true, "{found}");
    assert_eq!(provider.inferences()[0].path, "/v1/messages");

    let whole = json!({
        "id": "x", "object": "chat.completion", "model": "m-1",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "ok"}}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6},
    });
    let reply = Reply::status(200, whole.to_string()).header("content-type", "application/json");
    let provider = ModelServer::with_default(reply).await;
    mcpd.apply(json!([llm(&provider.base_url())])).await;
    let found = test(&mcpd, &mcpd.admin(), "gpt").await;
    assert!(found["ok"] == true && found.to_string().contains("does not stream"), "{found}");
}

#[tokio::test]
async fn callers_learn_the_step_and_only_editors_the_rest() {
    let (mcpd, provider) = (with_secret().await, ModelServer::start().await);
    let alice = mcpd.user("alice", Some("llm-user")).await;
    let outsider = mcpd.user("outsider", None).await;
    for (reply, step) in [
        (Reply::error(401, "words of the provider", "invalid_api_key"), "credential"),
        (Reply::status(302, "").header("location", "https://words.example.com"), "api"),
        (Reply::error(500, "words of the provider", "x"), "firstToken"),
    ] {
        provider.set_default(reply);
        mcpd.apply(json!([llm(&provider.base_url())])).await;
        let found = test(&mcpd, &alice, "gpt").await;
        let [failed, _, hint] = problem(&found);
        assert_eq!(failed, step);
        let expected = "an account that may edit the Llm sees more: ask an administrator";
        assert_eq!(hint, expected, "not the command that was just run");
        let text = found.to_string();
        for hidden in [provider.address().to_string().as_str(), "words", "openai", "m-1", "note"] {
            assert!(!text.contains(hidden), "{hidden}: {text}");
        }
    }
    // Who may not run it learns nothing, whether or not there is one.
    let sent = provider.requests().len();
    for name in ["gpt", "none"] {
        assert_eq!(send(&mcpd, &outsider, name).await.status(), StatusCode::FORBIDDEN);
    }
    assert_eq!(send(&mcpd, &mcpd.admin(), "none").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(provider.requests().len(), sent);
    let audit = mcpd.get("/api/v1/audit?subject=user/outsider&decision=denied", &mcpd.admin()).await;
    let audit: Value = audit.json().await.unwrap();
    assert_eq!(audit["items"].as_array().unwrap().len(), 2, "{audit}");
    // It goes where the Llm points, whatever the body holds.
    let elsewhere = ModelServer::start().await;
    let answer =
        mcpd.post("/api/v1/llms/gpt/test", &mcpd.admin(), &json!({"url": elsewhere.base_url()})).await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn limits_count_tests_as_requests() {
    let (mcpd, provider) = (with_secret().await, ModelServer::start().await);
    let alice = mcpd.user("alice", Some("llm-user")).await;
    mcpd.apply(json!([
        {"kind": "Llm", "name": "gpt", "type": "openai", "model": "m", "targets": [{"url": provider.base_url()}, {"url": provider.base_url().replace("127.0.0.1", "localhost")}]},
        {"kind": "Limit", "name": "few", "per": "all", "requests": {"max": 3, "window": "1h"}},
    ]))
    .await;
    let found = test(&mcpd, &alice, "gpt").await;
    assert_eq!(found["targets"].as_array().unwrap().len(), 2, "{found}");
    // One more request would fit, and the test takes two: nothing of it is sent.
    let answer = send(&mcpd, &alice, "gpt").await;
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["error"]["code"], "rate_limit_exceeded", "{body}");
    assert_eq!(provider.inferences().len(), 2);
    eventually("the reservation at the second Limit is released", async || {
        let status: Value = mcpd.get("/api/v1/limits/few/status", &mcpd.admin()).await.json().await.unwrap();
        (status["counters"][0]["used"] == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn targets_are_tested_each_and_one_that_answers_keeps_the_llm_well() {
    let (mcpd, provider) = (Mcpd::start().await, ModelServer::start().await);
    let mut dead = ModelServer::start().await;
    dead.refuse().await;
    mcpd.apply(json!([{"kind": "Llm", "name": "gpt", "type": "openai", "model": "m",
                       "targets": [{"url": dead.base_url()}, {"url": provider.base_url(), "model": "m-2"}]}]))
        .await;
    let found = test(&mcpd, &mcpd.admin(), "gpt").await;
    assert_eq!(found["ok"], false);
    assert_eq!(
        (&found["targets"][0]["ok"], &found["targets"][1]["ok"]),
        (&json!(false), &json!(true)),
        "{found}"
    );
    assert!(found["targets"][0]["problem"]["hint"].as_str().unwrap().contains("`targets[0].url`"), "{found}");
    assert_eq!(provider.inferences()[0].json()["model"], "m-2");
    let status: Value = mcpd.get("/api/v1/llms/gpt/status", &mcpd.admin()).await.json().await.unwrap();
    assert_eq!(status["state"], "ok", "{status}");
}

#[tokio::test]
async fn inv_06_test_that_runs_ends_with_the_access_and_is_the_only_one() {
    let (mcpd, gate) = (with_secret().await, Gate::new());
    let held = Reply::text("a b").before_head(Pause::Gate(gate.clone()));
    let provider = ModelServer::with_default(held).await;
    let mut slow = llm(&provider.base_url());
    slow.as_object_mut().unwrap().remove("timeouts");
    mcpd.apply(json!([slow])).await;
    let alice = mcpd.user("alice", Some("llm-user")).await;
    let bob = mcpd.user("bob", Some("llm-user")).await;
    let (first, others) = tokio::join!(send(&mcpd, &alice, "gpt"), async {
        provider.wait_for_requests(1).await;
        let second = send(&mcpd, &alice, "gpt").await;
        let code = second.status();
        let body: Value = second.json().await.unwrap();
        let others = tokio::join!(send(&mcpd, &bob, "gpt"), async {
            provider.wait_for_requests(2).await;
            let gone = mcpd.delete("/api/v1/rolebindings/alice-llm-user", &mcpd.admin()).await;
            assert_eq!(gone.status(), StatusCode::NO_CONTENT);
            provider.wait_for_disconnects(1).await;
            gate.release();
        });
        (code, body, others.0.status())
    });
    assert_eq!(others.0, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(others.1["error"]["code"], "test_running", "{}", others.1);
    assert_eq!(others.2, StatusCode::OK, "another account's");
    assert_eq!(first.status(), StatusCode::FORBIDDEN);
    assert_eq!(first.json::<Value>().await.unwrap()["error"]["code"], "access_revoked");
    // The place is free again.
    test(&mcpd, &bob, "gpt").await;
}
