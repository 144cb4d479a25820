//! llama.cpp's `llama-server`.

use std::time::Duration;

use crate::{
    stories,
    world::{Real, path},
};

fn real() -> Real {
    Real {
        kind: "llama-server-managed",
        program: path("MCPCTL_LLAMA_SERVER"),
        named_by: "command",
        model: path("MCPCTL_GGUF"),
        keys: "contextLength: 2048\n    extraArgs: [--metrics, --threads, \"1\"]".to_owned(),
        gauge: "llamacpp:requests_processing ",
        patience: Duration::from_secs(60),
    }
}

#[tokio::test]
async fn it_starts_streams_is_freed_and_rests() {
    stories::a_day(&real()).await;
}

#[tokio::test]
async fn inv_16_it_goes_with_an_agent_that_is_killed() {
    stories::the_agent_is_killed(&real()).await;
}

#[tokio::test]
async fn it_ends_its_stream_when_the_agent_ends() {
    stories::the_agent_ends_in_good_order(&real()).await;
}

#[tokio::test]
async fn its_socket_is_for_this_user_alone() {
    stories::other_users_do_not_reach_it(&real()).await;
}

#[tokio::test]
async fn a_file_that_is_no_model_is_said_to_be_none() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("broken.gguf");
    std::fs::write(&model, "no model").unwrap();
    stories::the_model_is_none(&real(), &model, "invalid magic characters").await;
}
