//! The faults that model providers produce, as the Failover Bench lists them: for each, whole or streamed,
//! what the caller gets and how many requests each provider received. The table is printed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs
)]

use mcpctl_testkit::{
    daemons::Mcpd,
    model_server::{ModelServer, Reply},
    response::header,
};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

const ANSWER: &str = "one two three four five six";

/// What the caller gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Got {
    /// The whole answer, and which Llm gave its end.
    Answer(&'static str),
    /// An error instead of an answer: its status and class.
    Error(u16, &'static str),
    /// The beginning of an answer, then an error event, and nothing that looks like an end.
    Broken,
}

use Got::{Answer, Broken, Error};

/// A fault of the first provider.
struct Case {
    name: &'static str,
    /// The replies of the first provider, in order; the last one repeats.
    first: Vec<Reply>,
    /// The timeout that the fault runs into.
    timeout: Option<&'static str>,
    /// What the caller gets of a whole answer, and how many requests each provider receives.
    whole: (Got, [usize; 2]),
    /// The same of a stream.
    streamed: (Got, [usize; 2]),
}

/// A fault with the same end for both forms of answers.
fn same(name: &'static str, first: Vec<Reply>, got: (Got, [usize; 2])) -> Case {
    Case { name, first, timeout: None, whole: got, streamed: got }
}

/// A fault in the middle of the answer, which is too late for a stream to fall back.
fn late(name: &'static str, first: Reply, whole: (Got, [usize; 2]), streamed: (Got, [usize; 2])) -> Case {
    Case { name, first: vec![first], timeout: None, whole, streamed }
}

impl Case {
    fn timeout(self, timeout: &'static str) -> Self {
        Self { timeout: Some(timeout), ..self }
    }
}

fn cases() -> Vec<Case> {
    let answer = || Reply::text(ANSWER);
    let overloaded = || Reply::error(503, "overloaded", "overloaded");
    let (fallback, kept, broken) = (Answer("second"), Answer("first"), (Broken, [1, 0]));
    vec![
        // First, while no connection can be reused: a reset of a reused one costs an attempt more.
        same("reset", vec![Reply::reset()], (fallback, [2, 1])),
        // `Retry-After` of a second is waited for; a longer one is not.
        same("429 with Retry-After", vec![Reply::rate_limited("1"), answer()], (kept, [2, 0])),
        same("429 with a long Retry-After", vec![Reply::rate_limited("60")], (fallback, [1, 1])),
        same(
            "429 without Retry-After",
            vec![Reply::error(429, "rate limit reached", "rate_limit_exceeded"), answer()],
            (kept, [2, 0]),
        ),
        same("500 once", vec![Reply::error(500, "internal", "internal"), answer()], (kept, [2, 0])),
        same("503 for ever", vec![overloaded()], (fallback, [2, 1])),
        same("no response", vec![Reply::hang()], (fallback, [1, 1])).timeout("response"),
        same("slow first token", vec![answer().stall_after(0)], (fallback, [1, 1])).timeout("firstToken"),
        late("cut", answer().cut_after(3), (fallback, [2, 1]), broken),
        late("stall", answer().stall_after(3), (fallback, [1, 1]), broken).timeout("idle"),
        late("malformed event, then on", answer().garbage_after(3), (fallback, [2, 1]), (kept, [1, 0])),
        late("malformed event, then cut", answer().garbage_after(3).cut_after(4), (fallback, [2, 1]), broken),
        late("error in the stream", answer().error_after(3, "boom"), (fallback, [2, 1]), broken),
        late("no [DONE]", answer().without_done(), (kept, [1, 0]), (kept, [1, 0])),
        same("context length", vec![Reply::context_length()], (Error(400, "context_length"), [1, 0])),
        same(
            "content filter",
            vec![Reply::error(400, "flagged by the content policy", "content_filter")],
            (Error(400, "rejected"), [1, 0]),
        ),
        same("flapping", vec![overloaded(), answer()], (kept, [2, 0])),
    ]
}

/// One mcpd, whose Llms `first` and `second` each have a provider.
struct World {
    mcpd: Mcpd,
    first: ModelServer,
    second: ModelServer,
}

impl World {
    async fn start() -> Self {
        let (first, second) =
            (ModelServer::start().await, ModelServer::with_default(Reply::text(ANSWER)).await);
        let mcpd = Mcpd::start().await;
        mcpd.llm_with_default_timeouts("second", &second.base_url()).await;
        Self { mcpd, first, second }
    }

    /// Sends one request, and returns what the caller got and how many requests each provider received.
    async fn run(&self, case: &Case, stream: bool, llm: &str) -> (Got, [usize; 2]) {
        // An Llm of its own, because each has a budget of retries. Only what the case is about times out, and a whole answer has one timeout for everything.
        let timeout = case.timeout.map(|timeout| if stream { timeout } else { "answer" });
        let timeouts = timeout.map_or(json!({}), |timeout| json!({ timeout: "1s" }));
        let first = json!({
            "kind": "Llm", "name": llm, "type": "openai", "url": self.first.base_url(), "model": "m",
            "timeouts": timeouts, "retries": {"max": 1}, "breaker": {"failures": 1000},
            "fallbacks": [{"llm": "second"}],
        });
        self.mcpd.apply(json!([first])).await;
        let before = [self.first.inferences().len(), self.second.inferences().len()];
        let mut replies = case.first.clone();
        self.first.set_default(replies.pop().unwrap());
        replies.into_iter().for_each(|reply| self.first.queue(reply));
        let body =
            json!({"model": llm, "stream": stream, "messages": [{"role": "user", "content": "Count."}]});
        let answer = self.mcpd.post("/v1/chat/completions", &self.mcpd.admin(), &body).await;
        let got = got(answer, stream).await;
        (got, [self.first.inferences().len() - before[0], self.second.inferences().len() - before[1]])
    }
}

async fn got(answer: Response, stream: bool) -> Got {
    let status = answer.status();
    if status != StatusCode::OK {
        let class = header(&answer, "mcpctl-failure").expect("a class").to_owned();
        return Error(status.as_u16(), class.leak());
    }
    let by = header(&answer, "mcpctl-served-by").map(str::to_owned);
    let text = answer.text().await.unwrap();
    if !stream {
        let body: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(body["choices"][0]["finish_reason"], "stop", "{body}");
        return Answer(named(by.as_deref()));
    }
    read_stream(&text, named(by.as_deref()))
}

fn named(model: Option<&str>) -> &'static str {
    if model == Some("second") { "second" } else { "first" }
}

/// Reads a stream as a client does: it must be one chat completion, or end with an error and nothing that looks like an end.
fn read_stream(text: &str, by: &'static str) -> Got {
    let events: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let mut content = String::new();
    let (mut finished, mut error) = (0, false);
    for event in events.iter().filter(|event| **event != "[DONE]") {
        let event: Value = serde_json::from_str(event).expect("every event is JSON");
        error |= event.get("error").is_some();
        let choice = &event["choices"][0];
        content.push_str(choice["delta"]["content"].as_str().unwrap_or_default());
        finished += usize::from(choice["finish_reason"].is_string());
    }
    let done = events.last() == Some(&"[DONE]");
    if error {
        assert!(finished == 0 && !done && ANSWER.starts_with(&content), "inv 13: {text}");
        return Broken;
    }
    assert_eq!((finished, content.is_empty()), (1, false), "{text}");
    assert!(content == ANSWER, "each piece exactly once: {text}");
    Answer(by)
}

#[tokio::test]
async fn every_fault_ends_as_the_contract_has_it() {
    let world = World::start().await;
    let mut wrong = Vec::new();
    for (at, case) in cases().into_iter().enumerate() {
        for (form, stream, expected) in [("whole", false, case.whole), ("streamed", true, case.streamed)] {
            let seen = world.run(&case, stream, &format!("first-{at}-{form}")).await;
            println!("{:<28} {form:<9} {:?} {:?}", case.name, seen.0, seen.1);
            if seen != expected {
                wrong.push(format!("{}, {form}: {seen:?} instead of {expected:?}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
