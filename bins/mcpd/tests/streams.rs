//! However a provider writes a stream, callers of every dialect get the same answer: line ends, a byte order mark, comments, other
//! fields, data of several lines, events that are no JSON, very long ones, and bytes that arrive in any pieces.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use bytes::Bytes;
use mcpctl_testkit::{
    caller::{Caller, Got, Tokens},
    central::Central,
    model_server::Reply,
};
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};

/// How many streams are tried, each with every dialect.
const STREAMS: usize = 64;

/// How a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Done,
    /// Without `[DONE]`.
    Finish,
    /// Without a finish reason.
    Cut,
}

/// What comes before an event with content.
#[derive(Debug, Clone, Copy)]
enum Noise {
    Comment,
    Fields,
    /// No JSON, which is skipped once the stream has shown itself to be an answer.
    NoJson(&'static [u8]),
}

#[derive(Debug, Clone)]
struct Written {
    words: Vec<(Option<Noise>, String)>,
    line_end: &'static str,
    byte_order_mark: bool,
    /// Whether JSON is written over several lines.
    pretty: bool,
    end: End,
    cuts: Vec<prop::sample::Index>,
}

fn written() -> impl Strategy<Value = Written> {
    let noise = prop_oneof![
        Just(Noise::Comment),
        Just(Noise::Fields),
        Just(Noise::NoJson(b"{\"choices\":[{\"del")),
        Just(Noise::NoJson(b"\xFF\xFE")),
        Just(Noise::NoJson(b"")),
    ];
    let word = prop_oneof![
        8 => "[a-zäß\u{1f980}\"\\\\\n:{} ]{1,12}",
        1 => Just("long ".repeat(20_000)),
    ];
    let words = prop::collection::vec((prop::option::of(noise), word), 1..6);
    let line_end = prop_oneof![Just("\n"), Just("\r\n"), Just("\r")];
    let end = prop_oneof![Just(End::Done), Just(End::Finish), Just(End::Cut)];
    let cuts = prop::collection::vec(any::<prop::sample::Index>(), 0..12);
    (words, line_end, any::<bool>(), any::<bool>(), end, cuts).prop_map(
        |(words, line_end, byte_order_mark, pretty, end, cuts)| {
            // A carriage return may be half of a line end, so an event that ends in one is complete with the next byte.
            let line_end = if end == End::Cut && line_end == "\r" { "\n" } else { line_end };
            Written { words, line_end, byte_order_mark, pretty, end, cuts }
        },
    )
}

impl Written {
    fn text(&self) -> String {
        self.words.iter().map(|(_, word)| word.as_str()).collect()
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = if self.byte_order_mark { b"\xEF\xBB\xBF".to_vec() } else { Vec::new() };
        for (at, (noise, word)) in self.words.iter().enumerate() {
            match noise {
                Some(Noise::Comment) => self.lines(&mut out, &[b": ping", b""]),
                Some(Noise::Fields) => self.lines(&mut out, &[b"id: 7", b"retry: 100", b"unknown"]),
                Some(Noise::NoJson(bytes)) if at > 0 => {
                    self.lines(&mut out, &[&[b"data: ".as_slice(), *bytes].concat(), b""]);
                }
                _ => {}
            }
            self.event(
                &mut out,
                &chunk(json!([{"index": 0, "delta": {"content": word}, "finish_reason": null}])),
            );
        }
        if self.end != End::Cut {
            self.event(&mut out, &chunk(json!([{"index": 0, "delta": {}, "finish_reason": "stop"}])));
            let mut usage = chunk(json!([]));
            usage["usage"] = json!({"prompt_tokens": 3, "completion_tokens": 7, "total_tokens": 10});
            self.event(&mut out, &usage);
        }
        if self.end == End::Done {
            self.lines(&mut out, &[b"data: [DONE]", b""]);
        }
        out
    }

    fn lines(&self, out: &mut Vec<u8>, lines: &[&[u8]]) {
        for line in lines {
            out.extend_from_slice(line);
            out.extend_from_slice(self.line_end.as_bytes());
        }
    }

    fn event(&self, out: &mut Vec<u8>, data: &Value) {
        let text = if self.pretty { format!("{data:#}") } else { data.to_string() };
        let lines: Vec<Vec<u8>> = text.lines().map(|line| format!("data: {line}").into_bytes()).collect();
        let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).chain([b"".as_slice()]).collect();
        self.lines(out, &lines);
    }

    fn reply(&self) -> Reply {
        let bytes = Bytes::from(self.bytes());
        let mut cuts: Vec<usize> = self.cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.sort_unstable();
        cuts.push(bytes.len());
        let mut start = 0;
        let mut pieces = Vec::new();
        for cut in cuts {
            pieces.push(bytes.slice(start..cut));
            start = cut;
        }
        pieces.retain(|piece| !piece.is_empty());
        let reply = Reply::stream_of(pieces);
        if self.end == End::Cut { reply.cut_after(0) } else { reply }
    }

    fn is_what(&self, got: &Got) -> bool {
        match got {
            Got::Answer { text, tokens, .. } => {
                self.end != End::Cut && *text == self.text() && *tokens == Tokens { input: 3, output: 7 }
            }
            Got::Broken { text } => self.end == End::Cut && *text == self.text(),
            Got::Error { .. } | Got::Wrong(_) => false,
        }
    }
}

fn chunk(choices: Value) -> Value {
    json!({"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "m", "choices": choices})
}

#[tokio::test]
async fn any_spelling_of_a_stream_gives_the_same_answer() {
    let world = Central::start(&[]).await;
    world.mcpd.llm_with_default_timeouts("gpt", &world.provider.base_url()).await;
    let (mut runner, strategy) = (TestRunner::new(Config::default()), written());
    for _ in 0..STREAMS {
        let written = strategy.new_tree(&mut runner).unwrap().current();
        for caller in Caller::ALL {
            world.provider.set_default(written.reply());
            let body = caller.body("gpt", true, "Count.");
            let answer = world.mcpd.post(caller.path(), &world.alice, &body).await;
            let got = caller.read(answer, true).await;
            assert!(written.is_what(&got), "{caller:?} got {got:?} of {written:?}");
        }
    }
}
