//! Trace contexts through the daemon: what the provider gets, and what the log shows.

use mcpctl_testkit::{
    daemons::{Mcpd, eventually},
    model_server::ModelServer,
};
use reqwest::{Method, StatusCode};
use serde_json::json;

const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT_ID: &str = "00f067aa0ba902b7";

/// Sends a chat with these headers; returns the `traceparent` and the `tracestate` that the provider got.
async fn sent(mcpd: &Mcpd, provider: &ModelServer, headers: &[(&str, &str)]) -> (String, Option<String>) {
    let body = json!({"model": "claude", "messages": []});
    let mut request = mcpd.request(Method::POST, "/v1/chat/completions", &mcpd.admin()).json(&body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
    let requests = provider.inferences();
    let last = requests.last().unwrap();
    assert_eq!(last.headers.get_all("traceparent").iter().count(), 1);
    (last.header("traceparent").unwrap().to_owned(), last.header("tracestate").map(str::to_owned))
}

fn parts(traceparent: &str) -> [&str; 4] {
    traceparent.split('-').collect::<Vec<_>>().try_into().unwrap()
}

#[tokio::test]
async fn trace_of_the_caller_is_continued_and_logged() {
    let (mcpd, provider) = (Mcpd::start().await, ModelServer::start().await);
    mcpd.llm("claude", &provider.base_url()).await;
    let valid = format!("00-{TRACE_ID}-{PARENT_ID}-01");
    let (traceparent, tracestate) =
        sent(&mcpd, &provider, &[("traceparent", &valid), ("tracestate", "vendor=1")]).await;
    let [version, trace_id, parent_id, flags] = parts(&traceparent);
    assert_eq!((version, trace_id, flags), ("00", TRACE_ID, "01"));
    assert_ne!(parent_id, PARENT_ID, "the daemon is a hop of its own");
    assert_eq!(tracestate.as_deref(), Some("vendor=1"));
    eventually("the request is logged with its trace", async || {
        let log = mcpd.log();
        let mut lines = log.lines().filter(|line| line.contains("/v1/chat/completions"));
        lines
            .any(|line| line.contains("answered") && line.contains(&format!("trace_id={TRACE_ID}")))
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn missing_or_malformed_trace_is_replaced() {
    let (mcpd, provider) = (Mcpd::start().await, ModelServer::start().await);
    mcpd.llm("claude", &provider.base_url()).await;
    let valid = format!("00-{TRACE_ID}-{PARENT_ID}-01");
    let upper_case = valid.to_uppercase();
    for headers in [
        vec![("tracestate", "vendor=1")],
        vec![("traceparent", "broken"), ("tracestate", "vendor=1")],
        vec![("traceparent", &*upper_case)],
        vec![("traceparent", &*valid), ("traceparent", &*valid)],
    ] {
        let (traceparent, tracestate) = sent(&mcpd, &provider, &headers).await;
        let [version, trace_id, parent_id, flags] = parts(&traceparent);
        assert_eq!((version, trace_id.len(), parent_id.len(), flags), ("00", 32, 16, "00"), "{headers:?}");
        assert_ne!(trace_id, TRACE_ID, "{headers:?}");
        assert_eq!(tracestate, None, "{headers:?}");
        let logged = format!("trace_id={trace_id}");
        eventually("the request is logged", async || mcpd.log().contains(&logged).then_some(())).await;
    }
}
