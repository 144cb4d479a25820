//! Two replicas behind a proxy, of which one is stopped or does not answer. Caddy goes by its health check, and the others by refused
//! connections too.

use std::time::Duration;

use futures::future::join_all;
use mcpctl_testkit::{
    daemons::eventually,
    model_server::{Gate, ModelServer, Reply},
    process::Paused,
    replicas::Replicas,
};
use reqwest::StatusCode;

use super::{
    document::Example,
    proxy::{Kind, Proxy},
    requests::chat,
};

/// Enough for both replicas to have some of them.
const STREAMS: usize = 4;
/// Enough for a replica that gets any to get one of them.
const CHATS: usize = 12;

#[tokio::test]
async fn stopped_replica_ends_its_requests_and_refuses_none() {
    let each = async |kind: Kind| {
        let delay = if kind == Kind::Caddy { "drainDelay: 10s\n" } else { "" };
        let mut replicas = Replicas::start_with(&format!("{}{delay}", Example::new("yaml", 0).text())).await;
        let gate = Gate::new();
        let provider = ModelServer::with_default(Reply::text("one two three")).await;
        replicas.one.llm_with_default_timeouts("claude", &provider.base_url()).await;
        let alice = replicas.one.user("alice", Some("llm-user")).await;
        let proxy = Proxy::start(kind, &[&replicas.one, &replicas.two]).await;
        let http = proxy.client();
        provider.replace_queue(vec![Reply::text("one two three").gate_after(1, &gate); STREAMS]);
        let streams = join_all((0..STREAMS).map(|_| proxy.chat(&http, &alice, chat(true)))).await;

        replicas.one.terminate();
        let chats = async || {
            for _ in 0..CHATS {
                let answer = proxy.chat(&http, &alice, chat(false)).await;
                assert_eq!(answer.status(), StatusCode::OK, "{kind:?}: {}", answer.text().await.unwrap());
            }
        };
        let draining = async || {
            // While load balancers notice that it goes.
            if !delay.is_empty() {
                chats().await;
            }
            replicas.one.log().contains("accepting no new connections").then_some(())
        };
        eventually("the replica drains", draining).await;
        chats().await;
        gate.release();
        for stream in streams {
            let text = stream.text().await.unwrap();
            assert!(text.contains("three") && text.ends_with("data: [DONE]\n\n"), "{kind:?}: {text}");
        }
        // Before the wait, which blocks the other ends of its connections.
        let ended = async || replicas.one.log().contains("mcpd ended").then_some(());
        eventually("the replica ends", ended).await;
        assert!(replicas.one.wait().success(), "{kind:?}");
        for replica in [&replicas.one, &replicas.two] {
            assert!(replica.log().contains("operation=\"chat\""), "{kind:?}: one replica had all requests");
        }

        // It comes back.
        replicas.one.restart().await;
        let before = replicas.one.log().matches("operation=\"chat\"").count();
        eventually("the replica has requests again", async || {
            let answer = proxy.chat(&http, &alice, chat(false)).await;
            assert_eq!(answer.status(), StatusCode::OK, "{kind:?}");
            (replicas.one.log().matches("operation=\"chat\"").count() > before).then_some(())
        })
        .await;
        // At once, and not after another delay.
        replicas.one.kill();
        replicas.two.kill();
    };
    join_all(Kind::installed().into_iter().map(each)).await;
}

/// nginx has no such checks.
#[tokio::test]
async fn replica_that_is_not_ready_gets_no_requests() {
    let each = async |kind: Kind| {
        let replicas = Replicas::start_with(Example::new("yaml", 0).text()).await;
        let provider = ModelServer::with_default(Reply::text("one two three")).await;
        replicas.one.llm_with_default_timeouts("claude", &provider.base_url()).await;
        let alice = replicas.one.user("alice", Some("llm-user")).await;
        let proxy = Proxy::start(kind, &[&replicas.one, &replicas.two]).await;
        // Its connections are accepted by the kernel, and nothing answers.
        let silent = Paused::process(replicas.two.pid());
        eventually("all requests are answered", async || {
            let http = proxy.client();
            let chats = (0..CHATS).map(|_| {
                let limit = Duration::from_secs(2);
                tokio::time::timeout(limit, proxy.chat(&http, &alice, chat(false)))
            });
            let all = join_all(chats).await;
            all.iter()
                .all(|answer| answer.as_ref().is_ok_and(|answer| answer.status() == StatusCode::OK))
                .then_some(())
        })
        .await;
        drop(silent);
    };
    join_all(Kind::installed().into_iter().filter(|kind| *kind != Kind::Nginx).map(each)).await;
}
