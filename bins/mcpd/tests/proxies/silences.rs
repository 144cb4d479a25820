//! Silences that are longer than what proxies allow where they are not configured, which is a minute.

use std::time::Duration;

use futures::future::join_all;
use mcpctl_testkit::{
    daemons::McpdOptions,
    model_server::{Pause, Reply},
};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{
    proxy::{Kind, Proxy},
    requests::{Behind, chat},
};

const SILENCE: Duration = Duration::from_secs(75);

#[tokio::test]
#[ignore = "takes more than a minute: `cargo xtask test proxies` runs it"]
async fn answers_pass_after_a_long_silence() {
    let behind = Behind::start(McpdOptions::default()).await;
    let url = behind.provider.base_url();
    let timeouts = json!({"response": "9m", "firstToken": "9m", "idle": "9m"});
    let llm = json!({"kind": "Llm", "name": "claude", "type": "openai", "url": url, "model": "m", "timeouts": timeouts});
    behind.mcpd.apply(json!([llm])).await;
    behind.provider.answer_with(|request| {
        let reply = Reply::text("one two three");
        if request.json()["stream"] == true {
            reply.after(1, mcpctl_testkit::model_server::Fault::Pause(Pause::For(SILENCE)))
        } else {
            reply.before_head(Pause::For(SILENCE))
        }
    });
    // All at once: each of them is silent for the same time.
    let each = async |kind: Kind| {
        let proxy = Proxy::start(kind, &[&behind.mcpd]).await;
        for http in [proxy.client(), proxy.first_client()] {
            let (whole, stream) = tokio::join!(
                proxy.chat(&http, &behind.alice, chat(false)),
                proxy.chat(&http, &behind.alice, chat(true))
            );
            assert_eq!(whole.status(), StatusCode::OK, "{kind:?}");
            let whole: Value = whole.json().await.unwrap();
            assert_eq!(whole["choices"][0]["message"]["content"], "one two three", "{kind:?}");
            assert!(stream.text().await.unwrap().ends_with("data: [DONE]\n\n"), "{kind:?}");
        }
    };
    join_all(Kind::installed().into_iter().map(each)).await;
}
