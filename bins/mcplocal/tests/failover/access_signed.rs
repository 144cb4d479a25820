//! Local answers of an agent with pinned keys: the feed, which nothing signs, is a hint, and a lease lasts only as long as the agent
//! holds it.

use std::{fs, time::Duration};

use mcpctl_testkit::{
    daemons::{Mcplocal, closed_address, eventually},
    deployment::openai_item,
    model_server::{ModelServer, Reply},
    replicas::Replicas,
};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use super::probe_proxy::{FeedRoute, Guarded, ServerKeys, Tamper, llm_document};

const REVOKED: &str = "access_revoked";
const UNCONFIRMED: &str = "access_unconfirmed";

/// Reads the rest of a stream, which ends with this error.
async fn ends_with(stream: Response, code: &str) {
    let rest = stream.text().await.unwrap();
    assert!(rest.contains(code) && !rest.contains("[DONE]"), "{rest}");
}

fn denial() -> Value {
    json!({"revision": u64::MAX, "asOf": 1, "expiresAt": "2100-01-01T00:00:00Z",
           "llms": {"claude": {"allowed": false}}})
}

fn has_ended(guarded: &Guarded) -> bool {
    guarded.agent.journal().iter().any(|entry| entry["event"] == "ended")
}

#[tokio::test]
async fn inv_04_forged_events_end_neither_streams_nor_leases() {
    let guarded = Guarded::start(&json!({"offlineGrace": "300s"})).await;
    guarded.proxy.route_feeds(FeedRoute::Forged);
    guarded.leased().await;
    let stream = guarded.stream().await;
    for (kind, event) in [("state", denial()), ("ended", json!({"reason": "revoked"}))] {
        let probes = guarded.proxy.probes();
        guarded.proxy.send_event(kind, &event).await;
        eventually("the agent probes", async || (guarded.proxy.probes() > probes).then_some(())).await;
    }
    // After a further probe, so that the answer to the one before has been judged.
    let probes = guarded.proxy.probes();
    eventually("it goes on", async || (guarded.proxy.probes() > probes).then_some(())).await;
    assert!(!has_ended(&guarded));
    assert_eq!(guarded.agent.status().await["leases"], 1);
    // What mcpd signs ends both, at the next hint.
    guarded.revoke().await;
    guarded.proxy.send_event("state", &denial()).await;
    ends_with(stream, REVOKED).await;
    assert_eq!(guarded.agent.status().await["leases"], 0);
}

#[tokio::test]
async fn inv_06_forged_heartbeats_keep_no_stream() {
    let guarded = Guarded::start(&json!({})).await;
    guarded.proxy.route_feeds(FeedRoute::Forged);
    eventually("the keys are pinned", async || {
        (guarded.agent.status().await["proof"]["state"] == "pinned").then_some(())
    })
    .await;
    let stream = guarded.stream().await;
    let llm = json!({"id": guarded.llm_id("claude").await, "allowed": true});
    let state =
        json!({"revision": 9, "asOf": 1, "expiresAt": "2100-01-01T00:00:00Z", "llms": {"claude": llm}});
    guarded.proxy.send_event("state", &state).await;
    guarded.proxy.set(Tamper::Close);
    let forging = async {
        loop {
            let heartbeat = json!({"revision": 9, "asOf": u32::MAX});
            guarded.proxy.send_event("heartbeat", &heartbeat).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::select! {
        () = ends_with(stream, UNCONFIRMED) => {}
        () = forging => {}
    }
}

#[tokio::test]
async fn inv_08_denial_by_the_feed_without_a_verdict_ends_the_stream() {
    let guarded = Guarded::start(&json!({"offlineGrace": "300s"})).await;
    guarded.proxy.route_feeds(FeedRoute::Forged);
    guarded.leased().await;
    let stream = guarded.stream().await;
    guarded.proxy.set(Tamper::Close);
    guarded.proxy.send_event("state", &denial()).await;
    ends_with(stream, UNCONFIRMED).await;
    assert_eq!(guarded.agent.status().await["leases"], 1, "the lease stays");
    ends_with_logout(&guarded).await;
}

/// A stream that only a lease covers ends when another user signs in.
async fn ends_with_logout(guarded: &Guarded) {
    guarded.proxy.route_feeds(FeedRoute::Held);
    let stream = guarded.stream().await;
    let journal = guarded.agent.journal();
    let last = journal.iter().rfind(|entry| entry["event"] == "failover").unwrap();
    assert_eq!(last["access"], json!(["lease"]));
    let bob = guarded.mcpd.user("bob", None).await;
    guarded.sign_in("bob", &bob);
    ends_with(stream, UNCONFIRMED).await;
    assert_eq!(guarded.agent.status().await["leases"], 0);
}

#[tokio::test]
async fn inv_06_feed_of_mcpd_ends_a_stream_and_the_lease() {
    let guarded = Guarded::start(&json!({"offlineGrace": "300s"})).await;
    guarded.proxy.route_feeds(FeedRoute::Passed);
    guarded.leased().await;
    let stream = guarded.stream().await;
    guarded.revoke().await;
    ends_with(stream, REVOKED).await;
    // Without a stream the feed has the lease looked at, too.
    let role = json!({"kind": "RoleBinding", "name": "alice-llm-user", "role": "llm-user",
                      "subjects": [{"kind": "User", "name": "alice"}]});
    guarded.mcpd.apply(json!([role])).await;
    eventually("Alice may again", async || {
        let answer = guarded.agent.chat("claude", &guarded.agent.local_key(), false).await;
        (answer.status() == StatusCode::OK).then_some(())
    })
    .await;
    guarded.leased().await;
    guarded.revoke().await;
    eventually("the lease is destroyed", async || {
        (guarded.agent.status().await["leases"] == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn inv_06_stream_ends_with_the_lease_that_covers_it() {
    let mut guarded = Guarded::start(&json!({"offlineGrace": "20s"})).await;
    guarded.leased().await;
    let stream = guarded.stream().await;
    guarded.mcpd.kill();
    ends_with(stream, UNCONFIRMED).await;
    assert_eq!(guarded.agent.status().await["leases"], 0, "not before the lease has ended");
}

#[tokio::test]
async fn keys_of_the_configuration_go_before_pinned_ones() {
    let guarded = Guarded::start(&json!({})).await;
    // Pinned are those of another mcpd.
    let foreign = mcpctl_access::proof::SigningKey::generate().unwrap();
    guarded.write_contexts(&[foreign.public().to_string()]);
    let file = guarded.agent.config_file();
    let config = fs::read_to_string(&file).unwrap();
    let becomes = async |keys: &[String], shown: Value| {
        fs::write(&file, format!("proofKeys: [{}]\n{config}", keys.join(", "))).unwrap();
        eventually("the keys count", async || {
            (guarded.agent.status().await["proof"]["fingerprints"] == shown).then_some(())
        })
        .await;
    };
    let ask = async || guarded.agent.chat("claude", &guarded.agent.local_key(), false).await.status();
    assert_eq!(ask().await, StatusCode::BAD_GATEWAY, "the control");
    becomes(&guarded.keys.public, json!(guarded.keys.fingerprints)).await;
    assert_eq!(ask().await, StatusCode::OK);
    guarded.proxy.set(Tamper::StripProof);
    assert_eq!(ask().await, StatusCode::BAD_GATEWAY);
    guarded.proxy.set(Tamper::None);
    // Other keys: what runs by the former ones ends.
    let stream = guarded.stream().await;
    let other = [foreign.public().to_string()];
    becomes(&other, json!([foreign.public().fingerprint().to_string()])).await;
    ends_with(stream, UNCONFIRMED).await;
    assert_eq!(ask().await, StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn inv_06_revocation_at_one_replica_ends_a_stream_at_an_agent_of_the_other() {
    let replicas = Replicas::start().await;
    let Replicas { one, two, .. } = &replicas;
    one.apply(json!([llm_document("claude", &json!({}))])).await;
    let alice = one.user("alice", Some("llm-user")).await;
    let desk = ModelServer::with_default(Reply::text("one two three").stall_after(1)).await;
    let agent = Mcplocal::start(&format!(
        "server: {}\ninference: http://{}\nproofKeys: [{}]\nproviders:\n{}",
        two.url(),
        closed_address(),
        ServerKeys::of(one).await.public.join(", "),
        openai_item("desk", &desk.base_url(), &["failoverFor: claude"])
    ))
    .await;
    let mut stream = agent.chat("claude", &alice, true).await;
    assert!(stream.chunk().await.unwrap().is_some());
    let gone = one.delete("/api/v1/rolebindings/alice-llm-user", &one.admin()).await;
    assert!(gone.status().is_success());
    ends_with(stream, REVOKED).await;
    desk.wait_for_disconnects(1).await;
}
