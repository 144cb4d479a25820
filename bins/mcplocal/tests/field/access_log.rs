//! The access logs of both daemons: one line per request, however it ends, and nothing of what is said in it.

use mcpctl_testkit::{
    daemons::eventually,
    deployment::Deployment,
    model_server::{Gate, Reply},
};
use reqwest::{Method, RequestBuilder};
use serde_json::json;

const PROMPT: &str = "what-nobody-logs";

/// A chat in the trace of this number.
fn chat(deployment: &Deployment, llm: &str, trace: u128, stream: bool) -> RequestBuilder {
    let body = json!({
        "model": llm, "stream": stream, "messages": [{"role": "user", "content": PROMPT}],
        "stream_options": stream.then(|| json!({"include_usage": true})),
    });
    let request = deployment.agent.request(Method::POST, "/v1/chat/completions", &deployment.alice);
    request.header("traceparent", format!("00-{trace:032x}-00f067aa0ba902b7-00")).json(&body)
}

/// The access log's lines about a trace's chats.
fn lines(log: &str, trace: u128) -> Vec<&str> {
    let trace = format!(" trace_id={trace:032x} ");
    let of_trace = log.lines().filter(|line| line.contains(&trace) && line.contains("method=POST"));
    of_trace.filter(|line| line.contains(" answered status=") || line.contains(" cancelled ")).collect()
}

/// Asserts that a trace has one line, with these fields and without those of `absent`.
#[track_caller]
fn has(log: &str, trace: u128, fields: &[&str], absent: &[&str]) {
    let lines = lines(log, trace);
    assert_eq!(lines.len(), 1, "{log}");
    for field in fields.iter().chain(&["operation=\"chat\"", "route=\"/v1/chat/completions\"", "took_ms="]) {
        assert!(lines[0].contains(&format!(" {field}")), "`{field}` is not in {}", lines[0]);
    }
    for field in absent {
        assert!(!lines[0].contains(&format!(" {field}=")), "`{field}` is in {}", lines[0]);
    }
}

/// Gives `claude` the default timeouts, so that a caller who leaves is noticed before a stalled stream.
async fn default_timeouts(deployment: &Deployment) {
    deployment.mcpd.llm_with_default_timeouts("claude", &deployment.provider.base_url()).await;
}

#[tokio::test]
async fn each_request_has_one_line_at_both_daemons() {
    let deployment = Deployment::start().await;
    default_timeouts(&deployment).await;
    let whole = chat(&deployment, "claude", 1, false).send().await.unwrap();
    assert!(whole.status().is_success());
    let bytes = whole.bytes().await.unwrap().len().to_string();
    let streamed = chat(&deployment, "claude", 2, true).send().await.unwrap();
    assert!(streamed.text().await.unwrap().contains("[DONE]"));

    let gate = Gate::new();
    deployment.provider.queue(Reply::text("one two three").gate_after(1, &gate));
    let mut cancelled = chat(&deployment, "claude", 3, true).send().await.unwrap();
    assert!(cancelled.chunk().await.unwrap().is_some());
    drop(cancelled);
    deployment.provider.wait_for_disconnects(1).await;

    deployment.provider.queue(Reply::text("one two three").cut_after(1));
    let broken = chat(&deployment, "claude", 4, true).send().await.unwrap();
    assert!(!broken.text().await.unwrap().contains("[DONE]"));

    assert_eq!(chat(&deployment, "absent\nclass=ok", 5, false).send().await.unwrap().status(), 404);

    deployment.provider.set_default(Reply::error(503, "overloaded", "overloaded"));
    let fallen_back = chat(&deployment, "claude", 6, false).send().await.unwrap();
    assert_eq!(fallen_back.headers()["mcpctl-served-by"], "desk");

    let logs = || [deployment.agent.log(), deployment.mcpd.log()];
    eventually("both daemons have written all lines", async || {
        logs().iter().all(|log| (1..=6).all(|trace| !lines(log, trace).is_empty())).then_some(())
    })
    .await;
    for log in logs() {
        let ok = ["status=200", "llm=\"claude\"", "served_by=\"claude\"", "attempts=1", "first_byte_ms="];
        let usage = ["input_tokens=1", "output_tokens=3", "cached_tokens=0", "reasoning_tokens=0"];
        let bytes = format!("bytes_out={bytes}");
        has(&log, 1, &[&ok[..], &usage, &[&bytes]].concat(), &["class", "failover"]);
        has(&log, 2, &[&ok[..], &usage].concat(), &["class", "failover"]);
        has(&log, 3, &["status=200", "class=\"cancelled\""], &["input_tokens"]);
        has(&log, 4, &["status=200", "class=\"broken_stream\""], &["input_tokens"]);
        has(&log, 5, &["status=404", "class=\"denied\"", "llm=\"absent class=ok\""], &["served_by"]);
        for secret in [PROMPT, &*deployment.alice] {
            assert!(!log.contains(secret), "{secret}");
        }
    }
    let [agent, mcpd] = logs();
    has(&agent, 1, &["principal=\"bearer:"], &[]);
    has(&mcpd, 1, &["principal=\"User alice\""], &[]);
    has(
        &agent,
        6,
        &["status=200", "served_by=\"desk\"", "failover=\"server_error\"", "attempts=2"],
        &["class"],
    );
    for (request, provider) in [
        (deployment.agent.request(Method::GET, "/metrics", &deployment.agent.local_key()), "mcpctl"),
        (deployment.mcpd.request(Method::GET, "/metrics", &deployment.mcpd.admin()), "openai"),
    ] {
        let metrics = request.send().await.unwrap().text().await.unwrap();
        let of_claude = format!(
            "{{gen_ai_operation_name=\"chat\",gen_ai_provider_name=\"{provider}\",gen_ai_request_model=\"claude\"}} "
        );
        for name in ["time_to_first_token", "time_per_output_token"] {
            let series = format!("gen_ai_server_{name}_seconds_count{of_claude}");
            assert!(metrics.contains(&series), "{series}\n{metrics}");
        }
        assert!(!metrics.contains("absent"), "a caller's text is no label: {metrics}");
    }
    has(&mcpd, 6, &["status=503", "class=\"server_error\"", "attempts=3"], &["input_tokens"]);
}

#[tokio::test]
async fn caller_who_leaves_before_the_answer_has_a_line() {
    let deployment = Deployment::builder().providers("").start().await;
    default_timeouts(&deployment).await;
    deployment.provider.set_default(Reply::hang());
    let request = tokio::spawn(chat(&deployment, "claude", 7, false).send());
    deployment.provider.wait_for_requests(1).await;
    request.abort();
    eventually("both daemons have written the line", async || {
        let logs = [deployment.agent.log(), deployment.mcpd.log()];
        logs.iter().all(|log| !lines(log, 7).is_empty()).then_some(())
    })
    .await;
    for log in [deployment.agent.log(), deployment.mcpd.log()] {
        has(&log, 7, &["class=\"cancelled\"", "llm=\"claude\""], &["status", "first_byte_ms"]);
    }
}
