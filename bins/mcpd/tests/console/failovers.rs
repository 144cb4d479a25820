//! The failover ledger, from lines that an agent hands over.

use mcpctl_api::{Id, agent::FailoverOutcome};
use mcpctl_journal::{CallerKind, ChainHead, JournalEntry, Line, Served};
use mcpctl_testkit::daemons::Mcpd;
use reqwest::{Method, StatusCode};

use crate::browser::Browser;

/// An agent that answers in place of `gpt`, on the machine of alice.
struct Agent {
    id: Id,
    head: ChainHead,
    lines: Vec<String>,
}

impl Agent {
    fn new() -> Self {
        let id = Id::mint();
        Self { head: ChainHead::genesis(&id), id, lines: Vec::new() }
    }

    fn write(&mut self, entry: &JournalEntry) {
        let (line, next) = Line::after(self.head, entry).unwrap();
        self.head = next;
        self.lines.push(String::from_utf8(line).unwrap());
    }

    fn failover(&mut self, request: &str, outcome: FailoverOutcome) {
        let (class, access) = (Some("connect".to_owned()), vec!["allowed".to_owned()]);
        let (served, at) = (served(request), jiff::Timestamp::now());
        self.write(&JournalEntry::Failover { at, served, class, access, outcome, reason: None, proof: None });
    }

    fn end(&mut self, request: &str, outcome: &str) {
        let (served, at, outcome) = (served(request), jiff::Timestamp::now(), outcome.to_owned());
        self.write(&JournalEntry::Ended { at, served, outcome, model: None, tokens: None, cost: 0 });
    }

    async fn report(&mut self, mcpd: &Mcpd, bearer: &str) {
        let path = format!("/api/v1/agents/{}/journal", self.id);
        let request =
            mcpd.request(Method::POST, &path, bearer).header("content-type", "application/x-ndjson");
        let answer = request.body(std::mem::take(&mut self.lines).join("\n")).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
    }
}

fn served(request: &str) -> Served {
    Served {
        request: request.to_owned(),
        who: "alice".to_owned(),
        caller: CallerKind::User,
        llm: Some("gpt".to_owned()),
        llm_id: None,
        provider: "desk".to_owned(),
    }
}

#[tokio::test]
async fn each_row_shows_how_its_answer_ended() {
    let mcpd = Mcpd::start().await;
    let (alice, bob) = (mcpd.user("alice", None).await, mcpd.user("bob", None).await);
    let (mut agent, mut other) = (Agent::new(), Agent::new());
    agent.failover("whole", FailoverOutcome::Served);
    agent.end("whole", "ok");
    agent.failover("revoked", FailoverOutcome::Served);
    agent.end("revoked", "access_revoked");
    agent.failover("broken", FailoverOutcome::Served);
    agent.end("broken", "stream");
    agent.failover("running", FailoverOutcome::Served);
    agent.failover("failed", FailoverOutcome::Failed);
    agent.failover("refused", FailoverOutcome::Refused);
    agent.report(&mcpd, &alice).await;
    // What another agent states about the same request is no end of it.
    other.end("running", "ok");
    other.report(&mcpd, &bob).await;
    for token in [mcpd.admin(), alice] {
        let browser = Browser::signed_in(&mcpd, &token).await;
        let page = browser.get("/console/failovers").await;
        let ends = page.is(StatusCode::OK).between("data-label=\"Result\"><span class=\"state ", "</span>");
        assert_eq!(
            ends,
            [
                "bad\">not allowed",
                "bad\">no answer",
                "plain\">answered, no end is known",
                "bad\">broke off: stream",
                "bad\">cut off: access revoked",
                "good\">answered",
            ]
        );
    }
    let browser = Browser::signed_in(&mcpd, &mcpd.admin()).await;
    let page = browser.get("/console/failovers?show=ends&subject=alice").await;
    let ends = page.between("data-label=\"Result\"><span class=\"state ", "</span>");
    assert_eq!(ends, ["bad\">broke off: stream", "bad\">cut off: access revoked", "good\">answered"]);
}
