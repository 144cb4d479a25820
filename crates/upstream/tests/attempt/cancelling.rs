//! Dropping the attempt or its answer cancels the request, and the upstream notices.

use mcpctl_testkit::model_server::{Gate, Pause, Reply};

use super::*;

#[tokio::test]
async fn dropped_attempt_is_cancelled_before_the_head() {
    for streamed in [false, true] {
        let server = ModelServer::with_default(Reply::hang()).await;
        let target = target(&server);
        let attempt =
            tokio::spawn(async move { send(&Client::default(), &target, &request(streamed)).await });
        server.wait_for_requests(1).await;
        assert_eq!(server.disconnects(), 0);
        attempt.abort();
        server.wait_for_disconnects(1).await;
    }
}

#[tokio::test]
async fn dropped_attempt_is_cancelled_after_the_head() {
    for streamed in [false, true] {
        let server = ModelServer::with_default(Reply::default().stall_after(0)).await;
        let target = target(&server);
        let attempt =
            tokio::spawn(async move { send(&Client::default(), &target, &request(streamed)).await });
        server.wait_for_requests(1).await;
        attempt.abort();
        server.wait_for_disconnects(1).await;
    }
}

#[tokio::test]
async fn dropped_stream_is_cancelled_whether_read_or_not() {
    let server = ModelServer::with_default(Reply::text("a b c").stall_after(2)).await;
    let client = Client::default();
    let answer = send(&client, &target(&server), &request(true)).await.unwrap();
    drop(answer);
    server.wait_for_disconnects(1).await;

    let Answer::Stream(mut answer) = send(&client, &target(&server), &request(true)).await.unwrap() else {
        panic!("not a stream")
    };
    answer.rest.next().await.unwrap().unwrap();
    assert_eq!(server.disconnects(), 1);
    drop(answer);
    server.wait_for_disconnects(2).await;
    assert_eq!(server.completed(), 0);
}

#[tokio::test]
async fn attempt_that_times_out_is_cancelled() {
    let server = ModelServer::with_default(Reply::hang()).await;
    let hurried = target(&server).with(|target| {
        target.timeouts.response = SHORT;
        target.timeouts.first_token = SHORT;
        target.timeouts.idle = SHORT;
    });
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
async fn cancellation_leaves_other_requests_alone() {
    let server = ModelServer::start().await;
    let (client, gate) = (Client::default(), Gate::new());
    server.queue(Reply::default().before_head(Pause::Gate(gate.clone())));
    server.queue(Reply::hang());
    let target = target(&server);
    let kept = tokio::spawn({
        let (client, target) = (client.clone(), target.clone());
        async move { send(&client, &target, &request(false)).await }
    });
    server.wait_for_requests(1).await;
    let dropped = tokio::spawn(async move { send(&client, &target, &request(false)).await });
    server.wait_for_requests(2).await;
    dropped.abort();
    server.wait_for_disconnects(1).await;
    gate.release();
    kept.await.unwrap().unwrap();
}
