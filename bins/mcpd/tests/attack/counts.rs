//! Token counts of a provider that no model reaches: estimated, and marked as an estimate.

use bytes::Bytes;
use mcpctl_testkit::{daemons::eventually, model_server::Reply};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::support::World;

const ABSURD: [&str; 5] = ["4294967296", "9223372036854775808", "18446744073709551615", "1e30", "-5"];

#[tokio::test]
async fn absurd_counts_of_a_provider_are_not_charged() {
    let world = World::new().await;
    let (mcpd, alice, admin) = (&world.mcpd, &world.alice, &world.admin);
    mcpd.apply(json!([{"kind": "Limit", "name": "l", "per": "all", "llms": ["open"],
                       "tokens": {"max": 1_000_000, "window": "1h"}}]))
        .await;
    let used = async || {
        let status: Value = mcpd.get("/api/v1/limits/l/status", admin).await.json().await.unwrap();
        status["counters"][0]["used"].as_u64().unwrap_or_default()
    };
    let mut requests = 0;
    for count in ABSURD {
        for place in ["prompt_tokens", "completion_tokens"] {
            let [input, output] = [("prompt_tokens", "3"), ("completion_tokens", "2")]
                .map(|(name, honest)| if name == place { count } else { honest });
            let usage = format!("{{\"prompt_tokens\":{input},\"completion_tokens\":{output}}}");
            let answer = format!(
                r#"{{"id":"a","object":"chat.completion","model":"m","choices":[{{"index":0,"finish_reason":"stop","message":{{"role":"assistant","content":"hello there"}}}}],"usage":{usage}}}"#
            );
            let events = [
                r#"data: {"id":"a","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"hello"}}]}"#.to_owned(),
                r#"data: {"id":"a","object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#.to_owned(),
                format!(r#"data: {{"id":"a","object":"chat.completion.chunk","choices":[],"usage":{usage}}}"#),
                "data: [DONE]".to_owned(),
            ];
            let stream = events.map(|event| Bytes::from(format!("{event}\n\n"))).to_vec();
            for streamed in [false, true] {
                world.provider.queue(if streamed {
                    Reply::stream_of(stream.clone())
                } else {
                    Reply::status(200, answer.clone()).header("content-type", "application/json")
                });
                let body = json!({"model": "open", "stream": streamed, "max_tokens": 20,
                                  "messages": [{"role": "user", "content": "Hi"}]});
                let got = mcpd.post("/v1/chat/completions", alice, &body).await;
                assert_eq!(got.status(), StatusCode::OK, "{count} {place} {streamed}");
                got.text().await.unwrap();
                requests += 1;
                eventually("the request is settled", async || {
                    let now = used().await;
                    // An estimate of about 25 tokens of input and 2 to 60 of output.
                    (now <= requests * 120).then_some(())
                })
                .await;
            }
        }
    }
    let log = mcpd.log();
    assert!(
        !log.contains("input_tokens=9223372036854775808") && !log.contains("input_tokens=4294967296"),
        "{log}"
    );
    let metrics = mcpd.request(Method::GET, "/metrics", admin).send().await.unwrap().text().await.unwrap();
    let sums = metrics.lines().filter(|line| line.starts_with("gen_ai_client_token_usage_sum"));
    for line in sums {
        let value: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        assert!(value < 10_000.0, "{line}");
    }
}
