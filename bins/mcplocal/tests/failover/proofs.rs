//! An agent with mcpd's pinned keys lets a local provider run on nothing but mcpd's signed answer to its own probe, or on a lease.

use mcpctl_testkit::{daemons::eventually, response::content};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::probe_proxy::{Guarded, Tamper, llm_document};

/// Sends a chat; `Ok` with the local answer, or `Err` with what the journal has of the probes.
async fn ask(guarded: &Guarded, llm: &str) -> Result<Value, Value> {
    let answer = guarded.agent.chat(llm, &guarded.agent.local_key(), false).await;
    let status = answer.status();
    let served = status == StatusCode::OK;
    if served {
        assert_eq!(content(answer).await, "from the desk");
    }
    let journal = guarded.agent.journal();
    let last = journal.iter().rfind(|entry| entry["event"] == "failover").cloned().unwrap_or_default();
    let access = last["access"].clone();
    if served { Ok(access) } else { Err(access) }
}

fn allowed() -> Result<Value, Value> {
    Ok(json!(["allowed"]))
}

fn refused(word: &str) -> Result<Value, Value> {
    Err(json!([word]))
}

#[tokio::test]
async fn inv_04_only_mcpds_answer_to_this_probe_counts() {
    let guarded = Guarded::start(&json!({})).await;
    guarded.mcpd.apply(json!([llm_document("other", &json!({}))])).await;
    let bob = guarded.mcpd.user("bob", Some("llm-user")).await;
    assert_eq!(ask(&guarded, "claude").await, allowed(), "the control");
    let recorded = guarded.proxy.last_answer();

    for (what, tamper) in [
        ("for another Llm", Tamper::Path("/api/v1/llms/other".to_owned())),
        ("replayed", Tamper::Answer(recorded.clone())),
        ("for another agent", Tamper::Header("mcpctl-agent", format!("c{:0>24}", "another"))),
        ("for another nonce", Tamper::Header("mcpctl-probe-nonce", "A".repeat(22))),
        ("for another subject", Tamper::Header("authorization", format!("Bearer {bob}"))),
        ("without a proof", Tamper::StripProof),
        ("of a portal", Tamper::Answer(portal("200 OK"))),
        ("a redirect of a portal", Tamper::Answer(portal("302 Found"))),
        ("a denial of a portal", Tamper::Answer(portal("403 Forbidden"))),
        ("of a fake mcpd with keys of its own", Tamper::Forge),
        ("with an altered proof", Tamper::BendProof),
        ("of a proof under another status", Tamper::Status("403 Forbidden")),
    ] {
        guarded.proxy.set(tamper);
        assert_eq!(ask(&guarded, "claude").await, refused("unreachable"), "an answer {what}");
    }
    guarded.proxy.set(Tamper::None);
    assert_eq!(ask(&guarded, "claude").await, allowed());

    // Revoked, and the allow of another caller in its place.
    guarded.revoke().await;
    assert_eq!(ask(&guarded, "claude").await, refused("forbidden"));
    guarded.proxy.set(Tamper::Answer(recorded));
    assert_eq!(ask(&guarded, "claude").await, refused("unreachable"));
}

fn portal(status: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\netag: \"7\"\r\nmcpctl-request-id: 0197\r\n\
         location: http://127.0.0.1:9/\r\ncontent-length: 300\r\nconnection: close\r\n\r\n"
    )
    .into_bytes()
}

#[tokio::test]
async fn pin_that_disappears_does_not_weaken_a_running_agent() {
    let mut guarded = Guarded::start(&json!({})).await;
    assert_eq!(ask(&guarded, "claude").await, allowed());
    guarded.write_contexts(&[]);
    guarded.proxy.set(Tamper::StripProof);
    assert_eq!(ask(&guarded, "claude").await, refused("unreachable"));
    guarded.proxy.set(Tamper::None);
    assert_eq!(ask(&guarded, "claude").await, allowed());
    assert!(guarded.agent.log().contains("the pinned keys of mcpd are gone"));

    // The next start reports that none is pinned, and the status is what counts; an unverified denial counts too.
    guarded.agent.kill();
    guarded.agent.restart().await;
    eventually("the agent reports it", async || {
        guarded.agent.log().contains("no key of mcpd is pinned").then_some(())
    })
    .await;
    assert_eq!(guarded.agent.status().await["proof"]["state"], "unpinned");
    guarded.proxy.set(Tamper::StripProof);
    assert_eq!(ask(&guarded, "claude").await, allowed());
    guarded.proxy.set(Tamper::None);
    guarded.mcpd.apply(json!([llm_document("claude", &json!({"allowed": false}))])).await;
    assert_eq!(ask(&guarded, "claude").await, refused("forbidden"));
}

/// A caller who may view the Llm learns which of its rules denied, with pinned keys and without.
#[tokio::test]
async fn rule_of_the_llm_that_denied_reaches_the_caller() {
    let guarded = Guarded::start(&json!({})).await;
    let viewer = guarded.mcpd.user("viewer", Some("viewer")).await;
    for pinned in [&guarded.keys.public[..], &[]] {
        for (rules, word, reason) in [
            (
                json!({"allowed": false}),
                "failover_off",
                "the Llm `claude` does not let agents answer in its place",
            ),
            (json!({"require": "run"}), "run_required", "falling back needs the right to run `claude`"),
        ] {
            guarded.write_contexts(pinned);
            guarded.mcpd.apply(json!([llm_document("claude", &rules)])).await;
            let answer = guarded.agent.chat("claude", &viewer, false).await;
            assert_eq!(answer.headers()["mcpctl-no-failover"], word);
            let journal = guarded.agent.journal();
            let last = journal.iter().rfind(|entry| entry["event"] == "failover").unwrap();
            assert!(last["reason"].as_str().unwrap().starts_with(reason), "{last}");
            let status = guarded.agent.status().await;
            assert_eq!(status["lastFailover"]["reason"], last["reason"]);
        }
    }
    let admin = guarded.mcpd.admin();
    let rows = guarded.mcpd.get("/api/v1/audit?decision=denied&action=failover", &admin).await;
    let rows: Value = rows.json().await.unwrap();
    let of_viewer = rows["items"].as_array().unwrap().iter().filter(|row| row["principal"] == "User viewer");
    assert_eq!(of_viewer.count(), 4, "{rows}");
    // Who may not view it learns nothing.
    let stranger = guarded.mcpd.user("stranger", None).await;
    let answer = guarded.agent.chat("claude", &stranger, false).await;
    assert!(!answer.headers().contains_key("mcpctl-no-failover"));
}

#[tokio::test]
async fn rotations_are_followed_and_foreign_key_lists_are_not() {
    let guarded = Guarded::start(&json!({})).await;
    let pinned = guarded.keys.clone();
    // At first the agent is shown the list of another mcpd.
    guarded.proxy.set(Tamper::Forge);
    assert_eq!(ask(&guarded, "claude").await, refused("unreachable"));
    eventually("the agent looks for new keys", async || {
        guarded.agent.log().contains("mcpd shows keys that no pinned key signed").then_some(())
    })
    .await;
    let proof = guarded.agent.status().await["proof"].clone();
    assert_eq!(proof["fingerprints"], json!(pinned.fingerprints));
    assert!(proof["unverified"]["reason"].as_str().unwrap().ends_with(", which is not pinned"), "{proof}");
    assert!(proof["hint"].as_str().unwrap().ends_with(" --accept-new-keys"), "{proof}");
    let journal = guarded.agent.journal();
    let refused_for = journal.last().unwrap()["reason"].as_str().unwrap();
    assert!(refused_for.starts_with("mcpd signs with a key that is not pinned: compare it"), "{refused_for}");

    guarded.proxy.set(Tamper::None);
    for _ in 0..2 {
        let before = guarded.agent.status().await["proof"]["fingerprints"].clone();
        let admin = guarded.mcpd.admin();
        let rotated = guarded.mcpd.post("/api/v1/admin/rotate-keys", &admin, &json!({"again": true})).await;
        assert_eq!(rotated.status(), StatusCode::OK);
        assert_eq!(ask(&guarded, "claude").await, allowed(), "the next key is pinned");
        let now = eventually("the agent follows", async || {
            let now = guarded.agent.status().await["proof"]["fingerprints"].clone();
            (now != before).then_some(now)
        })
        .await;
        assert_eq!(now[0], before[1]);
    }
    assert_eq!(guarded.agent.status().await["proof"]["unverified"], Value::Null);
}

#[tokio::test]
async fn lease_covers_a_caller_only_while_no_verdict_can_be_had() {
    let mut guarded = Guarded::start(&json!({"offlineGrace": "300s"})).await;
    guarded.leased().await;
    let by_id = guarded.llm_id("claude").await;
    for (what, tamper) in [
        ("closed", Tamper::Close),
        ("a portal that allows", Tamper::Answer(portal("200 OK"))),
        ("a portal that denies", Tamper::Answer(portal("403 Forbidden"))),
        ("a fake mcpd", Tamper::Forge),
    ] {
        guarded.proxy.set(tamper);
        assert_eq!(ask(&guarded, "claude").await, Ok(json!(["lease"])), "{what}");
        assert_eq!(ask(&guarded, &by_id).await, Ok(json!(["lease"])), "{what}, by id");
    }
    // Another caller has none, and neither has the agent after a restart.
    let bob = guarded.mcpd.user("bob", Some("llm-user")).await;
    assert_eq!(guarded.agent.chat("claude", &bob, false).await.status(), StatusCode::BAD_GATEWAY);
    guarded.agent.kill();
    guarded.agent.restart().await;
    assert_eq!(ask(&guarded, "claude").await, refused("unreachable"));
    assert_eq!(guarded.agent.status().await["leases"], 0);

    // A signed denial destroys it.
    guarded.proxy.set(Tamper::None);
    guarded.leased().await;
    guarded.revoke().await;
    assert_eq!(ask(&guarded, "claude").await, refused("forbidden"));
    guarded.proxy.set(Tamper::Close);
    assert_eq!(ask(&guarded, "claude").await, refused("unreachable"));
    assert_eq!(ask(&guarded, &by_id).await, refused("unreachable"));
}

#[tokio::test]
async fn lease_ends_with_its_grace_and_with_its_user() {
    let guarded = Guarded::start(&json!({"offlineGrace": "2s"})).await;
    guarded.leased().await;
    guarded.proxy.set(Tamper::Close);
    eventually("the grace is over", async || (guarded.agent.status().await["leases"] == 0).then_some(()))
        .await;
    assert_eq!(ask(&guarded, "claude").await, refused("unreachable"));

    guarded.proxy.set(Tamper::None);
    guarded.mcpd.apply(json!([llm_document("claude", &json!({"offlineGrace": "300s"}))])).await;
    assert_eq!(ask(&guarded, "claude").await, allowed(), "and brings a lease");
    guarded.leased().await;
    let bob = guarded.mcpd.user("bob", None).await;
    guarded.sign_in("bob", &bob);
    guarded.proxy.set(Tamper::Close);
    eventually("Alice's lease is dropped", async || {
        (guarded.agent.status().await["leases"] == 0).then_some(())
    })
    .await;
    assert_eq!(ask(&guarded, "claude").await, refused("unreachable"));
}

#[tokio::test]
async fn llm_named_by_its_id_falls_back_as_by_its_name() {
    let guarded = Guarded::start(&json!({})).await;
    let id = guarded.llm_id("claude").await;
    assert_eq!(ask(&guarded, &id).await, allowed());
    let last = guarded.agent.journal().into_iter().rfind(|entry| entry["event"] == "failover").unwrap();
    assert_eq!((&last["llm"], &last["llmId"]), (&json!("claude"), &json!(id)));
    for llm in [&id, "claude", &id] {
        assert_eq!(ask(&guarded, llm).await, allowed());
    }
    let status = guarded.agent.status().await;
    let breakers: Vec<_> = status["breakers"].as_array().unwrap().iter().map(|one| &one["llm"]).collect();
    assert_eq!(breakers, ["claude"], "one breaker for both");

    // Made again under its name, it is another Llm.
    let admin = guarded.mcpd.admin();
    assert!(guarded.mcpd.delete("/api/v1/llms/claude", &admin).await.status().is_success());
    guarded.mcpd.apply(json!([llm_document("claude", &json!({}))])).await;
    assert_eq!(ask(&guarded, &id).await, refused("forbidden"));
    let new = guarded.llm_id("claude").await;
    assert_eq!(ask(&guarded, "claude").await, allowed());
    assert_eq!(ask(&guarded, &new).await, allowed());
}
