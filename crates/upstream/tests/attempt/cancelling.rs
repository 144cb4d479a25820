//! Whoever drops the attempt or its answer cancels the request, and the upstream notices.

use mcpctl_testkit::model_server::{Gate, Pause, Reply};

use super::*;

#[tokio::test]
async fn dropping_the_attempt_before_the_head_cancels_it() {
    for streamed in [false, true] {
        let server = ModelServer::with_default(Reply::hang()).await;
        let target = target(&server);
        let attempt = tokio::spawn(async move { send(&Client::default(), &target, request(streamed)).await });
        server.wait_for_requests(1).await;
        assert_eq!(server.disconnects(), 0);
        attempt.abort();
        server.wait_for_disconnects(1).await;
    }
}

#[tokio::test]
async fn dropping_the_attempt_before_the_first_token_or_in_a_whole_body_cancels_it() {
    for streamed in [false, true] {
        let server = ModelServer::with_default(Reply::default().stall_after(0)).await;
        let target = target(&server);
        let attempt = tokio::spawn(async move { send(&Client::default(), &target, request(streamed)).await });
        server.wait_for_requests(1).await;
        attempt.abort();
        server.wait_for_disconnects(1).await;
    }
}

#[tokio::test]
async fn dropping_a_stream_cancels_it_whether_or_not_it_was_read() {
    let server = ModelServer::with_default(Reply::text("a b c").stall_after(2)).await;
    let client = Client::default();
    let answer = send(&client, &target(&server), request(true)).await.unwrap();
    drop(answer);
    server.wait_for_disconnects(1).await;

    let Answer::Stream(mut answer) = send(&client, &target(&server), request(true)).await.unwrap() else {
        panic!("not a stream")
    };
    answer.rest.next().await.unwrap().unwrap();
    assert_eq!(server.disconnects(), 1);
    drop(answer);
    server.wait_for_disconnects(2).await;
    assert_eq!(server.completed(), 0);
}

#[tokio::test]
async fn an_attempt_that_runs_out_of_time_lets_go_of_the_upstream() {
    let server = ModelServer::with_default(Reply::hang()).await;
    let mut hurried = target(&server);
    hurried.timeouts.response = SHORT;
    hurried.timeouts.first_token = SHORT;
    hurried.timeouts.idle = SHORT;
    stream(&hurried).await.unwrap_err();
    server.wait_for_disconnects(1).await;

    server.set_default(Reply::default().stall_after(0));
    stream(&hurried).await.unwrap_err();
    server.wait_for_disconnects(2).await;

    server.set_default(Reply::text("a b").stall_after(1));
    let (_, end) = drain(stream(&hurried).await.unwrap()).await;
    end.unwrap_err();
    server.wait_for_disconnects(3).await;
}

#[tokio::test]
async fn other_requests_of_the_same_client_go_on() {
    let server = ModelServer::start().await;
    let (client, gate) = (Client::default(), Gate::new());
    server.queue(Reply::default().before_head(Pause::Gate(gate.clone())));
    server.queue(Reply::hang());
    let target = target(&server);
    let kept = tokio::spawn({
        let (client, target) = (client.clone(), target.clone());
        async move { send(&client, &target, request(false)).await }
    });
    server.wait_for_requests(1).await;
    let dropped = tokio::spawn(async move { send(&client, &target, request(false)).await });
    server.wait_for_requests(2).await;
    dropped.abort();
    server.wait_for_disconnects(1).await;
    gate.release();
    kept.await.unwrap().unwrap();
}
