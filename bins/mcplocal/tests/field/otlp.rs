//! Traces as OTLP: what a collector gets from both daemons, and that requests need none.

use mcpctl_testkit::{
    collector::{Collector, RecordedSpan},
    daemons::{McpdOptions, McplocalOptions, closed_address, eventually},
    deployment::Deployment,
    model_server::Reply,
};
use reqwest::{Method, Response};
use serde_json::json;

const CALLERS_SPAN: &str = "00f067aa0ba902b7";

/// A deployment that exports to the collector at `url`.
async fn exporting(url: &str) -> Deployment {
    let mcpd = McpdOptions {
        config: Some(format!("telemetry: {{otlp: \"{url}\"}}\n")),
        env: vec![
            ("OTEL_BSP_SCHEDULE_DELAY", "50".to_owned()),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-team=a".to_owned()),
        ],
        ..McpdOptions::default()
    };
    let options = McplocalOptions {
        env: vec![("OTEL_EXPORTER_OTLP_ENDPOINT", url.into()), ("OTEL_BSP_SCHEDULE_DELAY", "50".into())],
        ..McplocalOptions::default()
    };
    Deployment::builder().mcpd(mcpd).options(options).start().await
}

async fn chat(deployment: &Deployment, trace_id: &str, stream: bool) -> Response {
    let body =
        json!({"model": "claude", "stream": stream, "messages": [{"role": "user", "content": "secret"}]});
    let request = deployment.agent.request(Method::POST, "/v1/chat/completions", &deployment.alice);
    let request = request.header("traceparent", format!("00-{trace_id}-{CALLERS_SPAN}-00")).json(&body);
    request.send().await.unwrap()
}

/// The only span of a service, a kind (2 for server, 3 for client) and a parent.
#[track_caller]
fn child<'a>(spans: &'a [RecordedSpan], service: &str, kind: i32, parent: &str) -> &'a RecordedSpan {
    let found = spans.iter().filter(|s| s.service == service && s.kind == kind && s.parent_id == parent);
    let found: Vec<_> = found.collect();
    assert_eq!(found.len(), 1, "below {parent} at {service}: {spans:#?}");
    found[0]
}

fn parent_id(traceparent: &str) -> &str {
    traceparent.split('-').nth(2).unwrap()
}

/// Gives `claude` the default timeouts, so that a caller who leaves is noticed before a stalled stream.
async fn default_timeouts(deployment: &Deployment) {
    deployment.mcpd.llm_with_default_timeouts("claude", &deployment.provider.base_url()).await;
}

#[tokio::test]
async fn one_trace_spans_all_hops_with_their_parents() {
    let collector = Collector::start().await;
    let deployment = exporting(&collector.url()).await;
    for (trace_id, stream) in
        [("4bf92f3577b34da6a3ce929d0e0e4736", false), ("5bf92f3577b34da6a3ce929d0e0e4736", true)]
    {
        let response = chat(&deployment, trace_id, stream).await;
        assert!(response.status().is_success());
        response.text().await.unwrap();
        let spans = collector.trace(trace_id, 4).await;
        let agent = child(&spans, "mcplocal", 2, CALLERS_SPAN);
        let to_mcpd = child(&spans, "mcplocal", 3, &agent.span_id);
        let mcpd = child(&spans, "mcpd", 2, &to_mcpd.span_id);
        let attempt = child(&spans, "mcpd", 3, &mcpd.span_id);
        assert_eq!(spans.len(), 4, "{spans:#?}");
        // What the provider was told is the span of the attempt.
        let last = deployment.provider.inferences().pop().unwrap();
        assert_eq!(parent_id(last.header("traceparent").unwrap()), attempt.span_id);

        assert_eq!(mcpd.name, "POST /v1/chat/completions");
        for (key, value) in [
            ("http.route", "/v1/chat/completions"),
            ("http.response.status_code", "200"),
            ("enduser.id", "User alice"),
            ("gen_ai.request.model", "claude"),
            ("mcpctl.served_by", "claude"),
            ("gen_ai.usage.output_tokens", "3"),
        ] {
            assert_eq!(mcpd.get(key), value, "{key}: {mcpd:#?}");
        }
        assert_eq!(attempt.name, "chat upstream-model");
        for (key, value) in [
            ("gen_ai.operation.name", "chat"),
            ("gen_ai.provider.name", "openai"),
            ("gen_ai.request.model", "upstream-model"),
            ("gen_ai.usage.input_tokens", "1"),
            ("gen_ai.usage.output_tokens", "3"),
            ("server.address", "127.0.0.1"),
            ("error.type", ""),
            ("gen_ai.request.stream", if stream { "true" } else { "" }),
        ] {
            assert_eq!(attempt.get(key), value, "{key}: {attempt:#?}");
        }
        assert_ne!(attempt.get("gen_ai.response.model"), "");
        assert!(mcpd.took_ns >= attempt.took_ns, "the request contains its attempt");
        assert!(!format!("{spans:?}").contains("secret"), "{spans:#?}");
    }
    let of_mcpd = collector.heads().iter().filter(|head| head.contains_key("x-team")).count();
    assert!(of_mcpd > 0, "the operator's headers are sent");
}

#[tokio::test]
async fn retries_probe_and_local_attempt_have_spans() {
    let collector = Collector::start().await;
    let deployment = exporting(&collector.url()).await;
    default_timeouts(&deployment).await;
    deployment.overload_provider();
    let trace_id = "6bf92f3577b34da6a3ce929d0e0e4736";
    assert_eq!(chat(&deployment, trace_id, false).await.headers()["mcpctl-served-by"], "desk");
    // At the agent: the request, mcpd, the probe, the desk. At mcpd: the request, three attempts, the probe.
    let spans = collector.trace(trace_id, 9).await;
    let agent = child(&spans, "mcplocal", 2, CALLERS_SPAN);
    assert_eq!((agent.get("mcpctl.served_by"), agent.get("mcpctl.failover")), ("desk", "server_error"));
    assert!(!agent.failed);
    let below = |parent: &str| spans.iter().filter(|span| span.parent_id == parent).collect::<Vec<_>>();
    let sent = below(&agent.span_id);
    assert_eq!(sent.len(), 3, "{spans:#?}");
    let probe = sent.iter().find(|span| span.name.starts_with("HEAD ")).unwrap();
    assert_eq!((probe.get("mcpctl.access"), probe.failed), ("allowed", false));
    assert_eq!(below(&probe.span_id)[0].service, "mcpd");
    let to_mcpd = sent.iter().find(|span| span.failed).unwrap();
    assert_eq!(to_mcpd.get("error.type"), "server_error");
    let at_mcpd = below(&to_mcpd.span_id)[0];
    let attempts = below(&at_mcpd.span_id);
    assert_eq!(attempts.len(), 3);
    assert!(attempts.iter().all(|span| span.failed && span.get("http.response.status_code") == "503"));
    let local = deployment.desk.inferences().pop().unwrap();
    let local = parent_id(local.header("traceparent").unwrap());
    assert!(sent.iter().any(|span| span.span_id == local && !span.failed), "{spans:#?}");
}

#[tokio::test]
async fn caller_who_leaves_ends_the_spans_as_cancelled() {
    let collector = Collector::start().await;
    let deployment = exporting(&collector.url()).await;
    default_timeouts(&deployment).await;
    deployment.provider.queue(Reply::text("one two").stall_after(1));
    let trace_id = "7bf92f3577b34da6a3ce929d0e0e4736";
    let mut response = chat(&deployment, trace_id, true).await;
    assert!(response.chunk().await.unwrap().is_some());
    drop(response);
    let spans = collector.trace(trace_id, 4).await;
    assert!(spans.iter().all(|span| span.get("error.type") == "cancelled"), "{spans:#?}");
}

#[tokio::test]
async fn dead_collector_costs_nothing_but_spans() {
    let mut deployment = exporting(&format!("http://{}", closed_address())).await;
    eventually("the failed export is logged", async || {
        assert!(deployment.chat().await.status().is_success());
        let reported = |log: String| log.matches("traces cannot be exported").count();
        (reported(deployment.agent.log()) > 0 && reported(deployment.mcpd.log()) > 0).then_some(())
    })
    .await;
    for _ in 0..20 {
        assert!(deployment.chat().await.status().is_success());
    }
    assert!(deployment.agent.stop().success());
    assert_eq!(deployment.agent.log().matches("traces cannot be exported").count(), 1, "once, not per batch");
}

#[tokio::test]
async fn nothing_is_exported_unless_asked_for() {
    let collector = Collector::start().await;
    let mcpd = McpdOptions {
        env: vec![
            ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url()),
            ("OTEL_SDK_DISABLED", "true".to_owned()),
            ("OTEL_BSP_SCHEDULE_DELAY", "10".to_owned()),
        ],
        ..McpdOptions::default()
    };
    let mut deployment = Deployment::builder().mcpd(mcpd).start().await;
    assert!(deployment.chat().await.status().is_success());
    // A queue that there is would be drained at the end.
    deployment.mcpd.terminate();
    assert!(deployment.agent.stop().success() && deployment.mcpd.wait().success());
    assert!(collector.heads().is_empty(), "{:?}", collector.spans());
}

/// A caller may make methods up, of any length and number, and a span's name is kept in many places.
#[tokio::test]
async fn made_up_methods_have_one_name_in_traces() {
    let collector = Collector::start().await;
    let deployment = exporting(&collector.url()).await;
    let trace_id = "6bf92f3577b34da6a3ce929d0e0e4736";
    let made_up = Method::from_bytes("M".repeat(500).as_bytes()).unwrap();
    for daemon in ["mcplocal", "mcpd"] {
        let request = match daemon {
            "mcpd" => deployment.mcpd.request(made_up.clone(), "/v1/models", &deployment.alice),
            _ => deployment.agent.request(made_up.clone(), "/v1/models", &deployment.alice),
        };
        let request = request.header("traceparent", format!("00-{trace_id}-{CALLERS_SPAN}-00"));
        assert!(request.send().await.unwrap().status().is_client_error());
    }
    for span in collector.trace(trace_id, 2).await {
        assert_eq!(span.name, "_OTHER /v1/models", "{}", span.service);
        assert_eq!(span.get("http.request.method"), "_OTHER", "{}", span.service);
    }
}
