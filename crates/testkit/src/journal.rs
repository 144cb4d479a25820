//! The journal of an agent that is not there: its lines, and how they are handed over to an mcpd.

use mcpctl_api::{Id, agent::FailoverOutcome};
use mcpctl_journal::{CallerKind, ChainHead, JournalEntry, Line, Served};
use reqwest::{Method, StatusCode};

use crate::daemons::Mcpd;

/// A failover of a request for this Llm, served by the provider `desk`.
pub fn failover(request: &str, llm: &str) -> JournalEntry {
    let served = Served {
        request: request.to_owned(),
        who: "alice".to_owned(),
        caller: CallerKind::User,
        llm: Some(llm.to_owned()),
        llm_id: None,
        provider: "desk".to_owned(),
    };
    JournalEntry::Failover {
        at: jiff::Timestamp::now(),
        served,
        class: Some("connect".to_owned()),
        access: vec!["allowed".to_owned()],
        outcome: FailoverOutcome::Served,
        reason: None,
        proof: None,
    }
}

/// Hands the whole journal of an agent over as the holder of this token; fails the test where mcpd rejects it.
pub async fn hand_over(mcpd: &Mcpd, bearer: &str, agent: &Id, entries: &[JournalEntry]) {
    let (mut head, mut lines) = (ChainHead::genesis(agent), Vec::new());
    for entry in entries {
        let (line, next) = Line::after(head, entry).expect("a line");
        head = next;
        lines.push(String::from_utf8(line).expect("a line of JSON"));
    }
    let path = format!("/api/v1/agents/{agent}/journal");
    let request = mcpd.request(Method::POST, &path, bearer).header("content-type", "application/x-ndjson");
    let answer = request.body(lines.join("\n")).send().await.expect("a response");
    assert_eq!(answer.status(), StatusCode::OK);
}
