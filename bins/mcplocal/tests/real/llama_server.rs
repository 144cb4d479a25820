//! llama.cpp's `llama-server`.

use std::time::Duration;

use crate::{
    setup::{Real, path},
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

#[tokio::test]
async fn file_that_is_no_model_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("broken.gguf");
    std::fs::write(&model, "no model").unwrap();
    stories::the_model_is_broken(&real(), &model, "invalid magic characters").await;
}
