//! The faults that model providers produce, as the public Failover Bench lists them, and how a request ends with each at an Llm that
//! has one retry and no fallback. The tables of both daemons start from this one list.

use crate::{caller::Got, model_server::Reply};

/// The answer of every provider in these tables.
pub const ANSWER: &str = "one two three four five six";

/// What a provider does.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Its name in tables.
    pub name: &'static str,
    /// The replies, in order; the last one repeats. Nothing listens where there is none.
    pub replies: Vec<Reply>,
    /// The timeout that a stream runs into; what is not streamed runs into `answer` then.
    pub timeout: Option<&'static str>,
    /// How a request ends that is not streamed.
    pub whole: End,
    /// How a stream ends.
    pub streamed: End,
}

/// How a request ends at an Llm, and after how many attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// The attempts.
    pub attempts: u32,
    /// The end.
    pub kind: EndKind,
}

/// How a request ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndKind {
    /// The provider answers after all.
    Answer,
    /// An error of this status and class.
    Error(u16, &'static str),
    /// A stream that breaks after its first content.
    Broken,
}

use EndKind::{Answer, Broken, Error};

/// Classes that lead to a fallback, as `docs/reference/contract.md` lists them.
const FAILS_OVER: [&str; 7] = [
    "connect",
    "no_response",
    "no_first_token",
    "server_error",
    "rate_limited",
    "upstream_credentials",
    "model_unavailable",
];

impl EndKind {
    /// Whether a fallback may answer instead.
    pub fn fails_over(self) -> bool {
        matches!(self, Error(_, class) if FAILS_OVER.contains(&class))
    }

    /// Checks that a caller got what follows from this end of a request to `llm`, which `fallback` answers instead where it is given.
    ///
    /// # Errors
    /// What the caller got.
    pub fn check(self, got: &Got, llm: &str, fallback: Option<&str>) -> Result<(), String> {
        let expected = match (self, fallback) {
            (Error(_, class), Some(fallback)) => (fallback, class),
            _ => (llm, ""),
        };
        let words = u64::try_from(ANSWER.split_whitespace().count()).unwrap_or_default();
        let holds = match (self, got) {
            (Error(status, class), Got::Error { status: seen, class: seen_class }) if fallback.is_none() => {
                (status, class) == (*seen, seen_class)
            }
            (Answer | Error(..), Got::Answer { by, failover, text, tokens }) => {
                let answers = self == Answer || fallback.is_some();
                answers
                    && (by.as_str(), failover.as_str()) == expected
                    && text == ANSWER
                    && tokens.output == words
            }
            (Broken, Got::Broken { text }) => !text.is_empty() && ANSWER.starts_with(text.as_str()),
            _ => false,
        };
        if holds { Ok(()) } else { Err(format!("got {got:?} instead of {self:?} by {expected:?}")) }
    }
}

impl Fault {
    /// How a request ends, streamed or not.
    pub const fn end(&self, stream: bool) -> End {
        if stream { self.streamed } else { self.whole }
    }

    /// The name of the Llm's timeout that the fault runs into.
    pub fn timeout(&self, stream: bool) -> Option<&'static str> {
        // What is not streamed has one timeout for everything.
        self.timeout.map(|timeout| if stream { timeout } else { "answer" })
    }

    fn timing_out(self, timeout: &'static str) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    /// Whether it comes after the first content of a stream.
    pub fn is_late(&self) -> bool {
        self.streamed.kind == Broken
    }
}

const fn end(attempts: u32, kind: EndKind) -> End {
    End { attempts, kind }
}

/// A fault with the same end whether the request is streamed or not.
fn same(name: &'static str, replies: Vec<Reply>, attempts: u32, kind: EndKind) -> Fault {
    Fault { name, replies, timeout: None, whole: end(attempts, kind), streamed: end(attempts, kind) }
}

/// A fault with another end for a stream, such as one in the middle of the answer, too late to fall back.
fn differing(name: &'static str, reply: Reply, whole: End, streamed: End) -> Fault {
    Fault { name, replies: vec![reply], timeout: None, whole, streamed }
}

/// All faults.
pub fn all() -> Vec<Fault> {
    let answer = || Reply::text(ANSWER);
    let overloaded = || Reply::error(503, "overloaded", "overloaded");
    let once = end(1, Answer);
    let (broken, unreadable) = (end(1, Broken), end(2, Error(502, "server_error")));
    vec![
        same("refused connection", Vec::new(), 2, Error(502, "connect")),
        same("reset", vec![Reply::reset()], 2, Error(502, "connect")),
        // `Retry-After` of a second is waited for; a longer one is not.
        same("429 with Retry-After", vec![Reply::rate_limited("1"), answer()], 2, Answer),
        same("429 with a long Retry-After", vec![Reply::rate_limited("60")], 1, Error(429, "rate_limited")),
        same(
            "429 without Retry-After",
            vec![Reply::error(429, "rate limit reached", "rate_limit_exceeded"), answer()],
            2,
            Answer,
        ),
        same("500 once", vec![Reply::error(500, "internal", "internal"), answer()], 2, Answer),
        same("503 for ever", vec![overloaded()], 2, Error(503, "server_error")),
        same("no response", vec![Reply::hang()], 1, Error(504, "no_response")).timing_out("response"),
        differing(
            "slow first token",
            answer().stall_after(0),
            end(1, Error(504, "no_response")),
            end(1, Error(504, "no_first_token")),
        )
        .timing_out("firstToken"),
        differing("cut", answer().cut_after(3), unreadable, broken),
        differing("stall", answer().stall_after(3), end(1, Error(504, "no_response")), broken)
            .timing_out("idle"),
        differing("malformed event, then on", answer().garbage_after(3), unreadable, once),
        differing("malformed event, then cut", answer().garbage_after(3).cut_after(4), unreadable, broken),
        differing("error in the stream", answer().error_after(3, "boom"), unreadable, broken),
        differing("no [DONE]", answer().without_done(), once, once),
        same(
            "refused credential",
            vec![Reply::error(401, "incorrect API key", "invalid_api_key")],
            1,
            Error(502, "upstream_credentials"),
        ),
        same(
            "unknown model",
            vec![Reply::error(404, "the model `m` does not exist", "model_not_found")],
            1,
            Error(502, "model_unavailable"),
        ),
        same("context length", vec![Reply::context_length()], 1, Error(400, "context_length")),
        same(
            "content filter",
            vec![Reply::error(400, "flagged by the content policy", "content_filter")],
            1,
            Error(400, "rejected"),
        ),
        same("flapping", vec![overloaded(), answer()], 2, Answer),
    ]
}
