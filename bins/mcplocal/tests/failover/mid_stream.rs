//! Streams of the primary that break after their first content, and go on at the local provider.

use mcpctl_testkit::{
    daemons::eventually,
    deployment::Deployment,
    model_server::{Gate, ModelServer, Reply},
};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

const ANSWER: &str = "one two three four five six";
const ERROR: &str = "broke off before its end";
const CHAT: (&str, &str) = ("/v1/chat/completions", "data: [DONE]");
const MESSAGES: (&str, &str) = ("/v1/messages", "\"type\":\"message_stop\"");

/// A deployment whose provider `desk` continues answers, with `midStream` as given.
async fn deployment(mid_stream: &str) -> Deployment {
    let failover = format!("failover: {{midStream: {mid_stream}}}");
    let keys = ["failoverFor: claude", &failover, "capabilities: [prefill]"];
    Deployment::builder().desk(&keys).start().await
}

async fn ask(deployment: &Deployment, path: &str) -> Response {
    let turns = json!([{"role": "user", "content": "Hi"}]);
    let mut body = json!({"model": "claude", "stream": true});
    match path {
        "/v1/responses" => body["input"] = turns,
        "/v1/messages" => {
            body["messages"] = turns;
            body["max_tokens"] = json!(100);
        }
        _ => body["messages"] = turns,
    }
    let response = deployment.agent.request(Method::POST, path, &deployment.alice).json(&body).send().await;
    let response = response.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    response
}

/// The text that a client reads.
fn text(stream: &str) -> String {
    let data = stream.lines().filter_map(|line| line.strip_prefix("data: "));
    let events = data.filter_map(|data| serde_json::from_str::<Value>(data).ok());
    let piece = |event: Value| {
        let texts = [&event["choices"][0]["delta"]["content"], &event["delta"]["text"], &event["delta"]];
        texts.iter().find_map(|text| text.as_str()).unwrap_or_default().to_owned()
    };
    events.map(piece).collect()
}

/// The journal's entries without what differs from run to run.
fn journal(deployment: &Deployment) -> Vec<String> {
    let entry = |entry: &Value| {
        let fields = ["event", "class", "access", "outcome"].map(|field| entry[field].to_string());
        fields.join(" ").replace('"', "")
    };
    deployment.agent.journal().iter().map(entry).collect()
}

#[tokio::test]
async fn broken_stream_goes_on_at_the_local_provider() {
    for mid_stream in ["restart", "continue"] {
        let deployment = deployment(mid_stream).await;
        for (at, (path, end)) in [CHAT, MESSAGES].into_iter().enumerate() {
            deployment.provider.queue(Reply::text(ANSWER).cut_after(3));
            deployment.desk.queue(match mid_stream {
                "restart" => Reply::pieces(&["on", "e two thr", "ee fo", "ur five six"]),
                _ => Reply::pieces(&["four five ", "six"]),
            });
            let stream = ask(&deployment, path).await.text().await.unwrap();
            assert_eq!(text(&stream), ANSWER, "{path} {mid_stream}: {stream}");
            assert_eq!((stream.matches(end).count(), stream.contains(ERROR)), (1, false), "{stream}");
            let sent = deployment.desk.inferences().pop().unwrap().json();
            let last = sent["messages"].as_array().unwrap().last().unwrap().clone();
            assert_eq!(last["role"] == "assistant", mid_stream == "continue", "{sent}");
            let expected = ["failover broken_stream [allowed] served", "ended null null ok"];
            eventually("the end is in the journal", async || {
                (journal(&deployment).len() == 2 * (at + 1)).then_some(())
            })
            .await;
            assert_eq!(journal(&deployment)[2 * at..], expected, "inv 14");
        }
        // Responses are forwarded without being read, so there is nothing to compare.
        deployment.provider.queue(Reply::text(ANSWER).cut_after(3));
        let stream = ask(&deployment, "/v1/responses").await.text().await.unwrap();
        assert!(stream.contains(ERROR) && !stream.contains("response.completed"), "{stream}");
        assert_eq!(deployment.desk.inferences().len(), 2);
    }
}

/// Whatever the local provider does, the caller gets the error of the stream that broke.
#[tokio::test]
async fn inv_03_what_cannot_go_on_ends_with_the_primarys_error() {
    let deployment = deployment("continue").await;
    let refused = || Reply::error(400, "no prefill", "bad");
    for (desk, complete, asked) in [
        (vec![refused(), Reply::text(ANSWER)], true, 2),
        (vec![refused(), Reply::text("eins zwei")], false, 2),
        (vec![Reply::error(503, "overloaded", "overloaded")], false, 1),
        (vec![Reply::text("four five six").cut_after(1)], false, 1),
    ] {
        for (path, end) in [CHAT, MESSAGES] {
            let before = deployment.desk.inferences().len();
            deployment.provider.queue(Reply::text(ANSWER).cut_after(3));
            desk.iter().for_each(|reply| deployment.desk.queue(reply.clone()));
            let stream = ask(&deployment, path).await.text().await.unwrap();
            assert_eq!(
                (stream.contains(end), stream.contains(ERROR)),
                (complete, !complete),
                "{desk:?}: {stream}"
            );
            assert_eq!(deployment.desk.inferences().len(), before + asked, "{desk:?}: {stream}");
        }
    }
}

/// mcpd is asked at the moment of the break, with the caller's own bearer, and only *allowed* leads on.
#[tokio::test]
async fn inv_01_nothing_goes_on_without_mcpds_permission() {
    let primary = ModelServer::start().await;
    let keys = ["failoverFor: claude", "failover: {midStream: restart}"];
    let builder = Deployment::builder().desk(&keys).inference_at(&format!("http://{}", primary.address()));
    let mut deployment = builder.start().await;
    deployment.desk.set_default(Reply::text(ANSWER));
    for (step, access) in [("nothing", "allowed"), ("revoked", "forbidden"), ("killed", "unreachable")] {
        let gate = Gate::new();
        primary.queue(Reply::text(ANSWER).gate_after(3, &gate).cut_after(3));
        let mut answer = ask(&deployment, CHAT.0).await;
        let mut stream = String::new();
        while !stream.contains("three") {
            stream += std::str::from_utf8(&answer.chunk().await.unwrap().unwrap()).unwrap();
        }
        let (before, probes) = (deployment.desk.inferences().len(), deployment.probes());
        match step {
            "revoked" => deployment.revoke().await,
            "killed" => deployment.mcpd.kill(),
            _ => {}
        }
        gate.release();
        stream += &answer.text().await.unwrap();
        let allowed = access == "allowed";
        assert_eq!(
            (stream.contains(CHAT.1), stream.contains(ERROR)),
            (allowed, !allowed),
            "{step}: {stream}"
        );
        assert_eq!(deployment.desk.inferences().len(), before + usize::from(allowed), "{step}: {stream}");
        if step != "killed" {
            eventually("mcpd is probed", async || (deployment.probes() > probes).then_some(())).await;
        }
        let outcome = if allowed { "served" } else { "refused" };
        let expected = format!("failover broken_stream [{access}] {outcome}");
        eventually("the journal has it", async || journal(&deployment).contains(&expected).then_some(()))
            .await;
    }
}

#[tokio::test]
async fn caller_who_leaves_cancels_the_local_attempt() {
    let deployment = deployment("restart").await;
    deployment.provider.queue(Reply::text(ANSWER).cut_after(3));
    deployment.desk.queue(Reply::text(ANSWER).stall_after(4));
    let mut answer = ask(&deployment, CHAT.0).await;
    let mut stream = String::new();
    while !stream.contains("four") {
        stream += std::str::from_utf8(&answer.chunk().await.unwrap().unwrap()).unwrap();
    }
    drop(answer);
    deployment.desk.wait_for_disconnects(1).await;
    eventually("the end is in the journal", async || {
        journal(&deployment).contains(&"ended null null cancelled".to_owned()).then_some(())
    })
    .await;
}
