//! The faults that model providers produce, as the Failover Bench lists them: for each, whole or streamed and by `midStream`,
//! what the caller gets and what each provider received. With `MCPCTL_FAULT_TABLE` set, the table is printed.
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
    model_server::{Fault, ModelServer, Pause, Reply},
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
    /// The replies of the fallback's provider.
    second: Reply,
    /// What the caller gets of a whole answer, and how many requests each provider receives.
    whole: (Got, [usize; 2]),
    /// The same of a stream with `midStream: error`, `restart` and `continue`.
    streamed: [(Got, [usize; 2]); 3],
}

/// A fault that comes before the first content: `midStream` makes no difference.
fn early(
    name: &'static str,
    first: Vec<Reply>,
    whole: (Got, [usize; 2]),
    streamed: (Got, [usize; 2]),
) -> Case {
    Case { name, first, second: Reply::text(ANSWER), whole, streamed: [streamed; 3] }
}

fn same(name: &'static str, first: Vec<Reply>, got: (Got, [usize; 2])) -> Case {
    early(name, first, got, got)
}

/// A fault in the middle of the answer.
fn late(
    name: &'static str,
    first: Reply,
    whole: (Got, [usize; 2]),
    streamed: [(Got, [usize; 2]); 3],
) -> Case {
    Case { name, first: vec![first], second: Reply::text(ANSWER), whole, streamed }
}

fn cases() -> Vec<Case> {
    let answer = || Reply::text(ANSWER);
    let overloaded = || Reply::error(503, "overloaded", "overloaded");
    let (fallback, kept) = (Answer("second"), Answer("first"));
    // Broken off in the middle: by default an error, else the fallback gives the rest.
    let recovered = [(Broken, [1, 0]), (fallback, [1, 1]), (fallback, [1, 1])];
    vec![
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
        same("reset", vec![Reply::reset()], (fallback, [2, 1])),
        same("no response", vec![Reply::hang()], (fallback, [1, 1])),
        early(
            "slow first token",
            vec![answer().after(0, Fault::Pause(Pause::Forever))],
            (fallback, [1, 1]),
            (fallback, [1, 1]),
        ),
        late("cut", answer().cut_after(3), (fallback, [2, 1]), recovered),
        late("stall", answer().stall_after(3), (fallback, [1, 1]), recovered),
        late("malformed event, then on", answer().garbage_after(3), (fallback, [2, 1]), [(kept, [1, 0]); 3]),
        late(
            "malformed event, then cut",
            answer().garbage_after(3).cut_after(4),
            (fallback, [2, 1]),
            recovered,
        ),
        late("error in the stream", answer().error_after(3, "boom"), (fallback, [2, 1]), recovered),
        late("no [DONE]", answer().without_done(), (kept, [1, 0]), [(kept, [1, 0]); 3]),
        same("context length", vec![Reply::context_length()], (Error(400, "context_length"), [1, 0])),
        same(
            "content filter",
            vec![Reply::error(400, "flagged by the content policy", "content_filter")],
            (Error(400, "rejected"), [1, 0]),
        ),
        Case {
            second: Reply::text("another answer"),
            ..late(
                "fallback differs",
                answer().cut_after(3),
                (fallback, [2, 1]),
                [(Broken, [1, 0]), (Broken, [1, 1]), (Broken, [1, 2])],
            )
        },
        same("flapping", vec![overloaded(), answer(), overloaded(), answer()], (kept, [2, 0])),
    ]
}

/// One mcpd, whose Llms `first` and `second` each have a provider.
struct World {
    mcpd: Mcpd,
    first: ModelServer,
    second: ModelServer,
}

impl World {
    async fn start(mid_stream: &str) -> Self {
        let (first, second) = (ModelServer::start().await, ModelServer::start().await);
        let mcpd = Mcpd::start().await;
        let document = |name: &str, server: &ModelServer| {
            json!({
                "kind": "Llm", "name": name, "type": "openai", "url": server.base_url(), "model": name,
                "timeouts": {"connect": "1s", "response": "1s", "firstToken": "1s", "idle": "1s", "answer": "8s"},
                "retries": {"max": 1}, "breaker": {"failures": 1000},
            })
        };
        let mut failing = document("first", &first);
        failing["fallbacks"] = json!([{"llm": "second"}]);
        failing["midStream"] = json!(mid_stream);
        let mut other = document("second", &second);
        if mid_stream == "continue" {
            other["capabilities"] = json!(["prefill"]);
        }
        mcpd.apply(json!([failing, other])).await;
        Self { mcpd, first, second }
    }

    /// Sends one request, and returns what the caller got and how many requests each provider received.
    async fn run(&self, case: &Case, stream: bool) -> (Got, [usize; 2]) {
        let before = [self.first.inferences().len(), self.second.inferences().len()];
        let mut replies = case.first.clone();
        self.first.set_default(replies.pop().unwrap());
        replies.into_iter().for_each(|reply| self.first.queue(reply));
        self.second.set_default(case.second.clone());
        let body =
            json!({"model": "first", "stream": stream, "messages": [{"role": "user", "content": "Count."}]});
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
        return Answer(named(body["model"].as_str().or(by.as_deref())));
    }
    read_stream(&text)
}

fn named(model: Option<&str>) -> &'static str {
    if model == Some("second") { "second" } else { "first" }
}

/// Reads a stream as a client does: it must be one chat completion, or end with an error and nothing that looks like an end.
fn read_stream(text: &str) -> Got {
    let events: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let mut content = String::new();
    let (mut finished, mut model, mut error) = (0, None, false);
    for event in events.iter().filter(|event| **event != "[DONE]") {
        let event: Value = serde_json::from_str(event).expect("every event is JSON");
        error |= event.get("error").is_some();
        model = event["model"].as_str().map(str::to_owned).or(model);
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
    assert!(content == ANSWER || content == "another answer", "each piece exactly once: {text}");
    Answer(named(model.as_deref()))
}

#[tokio::test]
async fn every_fault_ends_as_the_contract_has_it() {
    let mut table = Vec::new();
    for (mode, mid_stream) in ["error", "restart", "continue"].into_iter().enumerate() {
        let world = World::start(mid_stream).await;
        for case in cases() {
            if mode == 0 {
                let seen = world.run(&case, false).await;
                table.push((case.name, "whole", seen));
                assert_eq!(seen, case.whole, "{}, whole", case.name);
            }
            let seen = world.run(&case, true).await;
            table.push((case.name, mid_stream, seen));
            assert_eq!(seen, case.streamed[mode], "{}, streamed, midStream: {mid_stream}", case.name);
        }
    }
    if std::env::var_os("MCPCTL_FAULT_TABLE").is_some() {
        for (fault, form, (got, requests)) in table {
            println!("{fault:<28} {form:<9} {got:?} {requests:?}");
        }
    }
}
