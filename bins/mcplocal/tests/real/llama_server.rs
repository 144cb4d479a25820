//! llama.cpp's `llama-server`.

use std::{net::TcpListener, os::unix::fs::PermissionsExt as _, process::Stdio, time::Duration};

use mcpctl_testkit::{daemons::within, deployment::Deployment};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    setup::{Real, Setup, path},
    stories,
};

fn real() -> Real {
    Real {
        kind: "llama-server-managed",
        program: path("MCPCTL_LLAMA_SERVER"),
        program_key: "command",
        model: path("MCPCTL_GGUF"),
        keys: "contextLength: 2048\n    extraArgs: [--metrics, --threads, \"1\"]".to_owned(),
        gauge: "llamacpp:requests_processing ",
        start_timeout: Duration::from_secs(60),
    }
}

#[tokio::test]
async fn starts_streams_cancels_and_stops_when_idle() {
    stories::starts_serves_and_idles(&real()).await;
}

#[tokio::test]
async fn inv_16_ends_with_a_killed_agent() {
    stories::the_agent_is_killed(&real()).await;
}

#[tokio::test]
async fn finishes_its_stream_when_the_agent_stops() {
    stories::the_agent_stops(&real()).await;
}

#[tokio::test]
async fn socket_is_for_this_user_alone() {
    stories::other_users_do_not_reach_it(&real()).await;
}

/// Counts tokens exactly: what the count has more of the longer prompt is what the server charges more for it.
#[tokio::test]
async fn its_own_counter_counts_tokens() {
    let real = real();
    let setup = Setup::new(&real, "").await;
    let ask = async |path: &str, words: usize| {
        let prompt = "word ".repeat(words);
        let body = json!({"model": "local/desk", "max_tokens": 1, "messages": [{"role": "user", "content": prompt}]});
        let agent = &setup.deployment.agent;
        let answer = agent.request(Method::POST, path, &agent.local_key()).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(!answer.headers().contains_key("mcpctl-estimated"), "an estimate");
        answer.json::<Value>().await.unwrap()
    };
    let (mut counts, mut charges) = (Vec::new(), Vec::new());
    for words in [1, 400] {
        counts.push(ask("/v1/messages/count_tokens", words).await["input_tokens"].as_i64().unwrap());
        let usage = ask("/v1/messages", words).await["usage"].clone();
        charges.push(
            ["input_tokens", "cache_read_input_tokens"]
                .iter()
                .filter_map(|key| usage[key].as_i64())
                .sum::<i64>(),
        );
    }
    assert!(
        counts[1] - counts[0] >= 390 && counts[1] - counts[0] == charges[1] - charges[0],
        "{counts:?} {charges:?}"
    );
}

/// A server that the user started with a key.
#[tokio::test]
async fn running_server_gets_the_key_of_its_file() {
    let (real, dir) = (real(), tempfile::tempdir().unwrap());
    let key_file = dir.path().join("key");
    std::fs::write(&key_file, "sk-real-5b1c90d2\n").unwrap();
    std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut server = tokio::process::Command::new(&real.program);
    server.arg("-m").arg(&real.model).args(["--host", "127.0.0.1", "--port", &port.to_string()]);
    server.args(["-c", "512", "--threads", "1", "--api-key-file"]).arg(&key_file);
    let _server = server.kill_on_drop(true).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let provider = format!(
        "  - name: desk\n    type: openai\n    url: http://127.0.0.1:{port}/v1\n    apiKeyFile: {}\n    failoverFor: claude\n",
        key_file.display()
    );
    let mut deployment = Deployment::builder().providers(&provider).signed_in().start().await;
    deployment.provider.refuse().await;
    let served = async || {
        let body =
            json!({"model": "claude", "max_tokens": 4, "messages": [{"role": "user", "content": "Hi"}]});
        (deployment.send(&body).await.status() == StatusCode::OK).then_some(())
    };
    within(real.start_timeout, "the server answers in failover", served).await;
    std::fs::write(&key_file, "sk-another\n").unwrap();
    let answer = deployment.chat_locally("desk").await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["error"]["code"], "local_provider_unavailable", "{body}");
    assert!(!body.to_string().contains("sk-"), "{body}");
}

#[tokio::test]
async fn file_that_is_no_model_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("broken.gguf");
    std::fs::write(&model, "no model").unwrap();
    stories::the_model_is_broken(&real(), &model, "invalid magic characters").await;
}
