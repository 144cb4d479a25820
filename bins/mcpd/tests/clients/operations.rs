//! What clients do, what the scripted server answers to it, and what has to come of it.

use mcpctl_testkit::{
    client_table::Outcome,
    model_server::{RecordedRequest, Reply},
};
use serde_json::{Value, json};

use crate::stage::Upstream;

const TEXT: &str = "The sky is blue.";
const CAT: &str = r#"{"name": "Tom", "age": 3}"#;
const CALLED: &str = "Cold in Oslo, warm in Rome.";
const REASONING: &str = "Let me see.";
const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk";
const EDIT: &str = "Here it is.\n\nhello.py\n```\n<<<<<<< SEARCH\nprint(\"hi\")\n=======\nprint(\"hello\")\n>>>>>>> REPLACE\n```\n";

/// One operation over one upstream.
pub struct Operation {
    what: &'static str,
    upstream: Upstream,
}

impl Operation {
    /// `None` where it is not tried: the small real model has no tools, by which clients of messages ask for a
    /// structure too, and no eyes.
    pub fn named(name: &'static str, upstream: Upstream) -> Option<Self> {
        let (api, what) = name.split_once(' ').unwrap_or(("", name));
        let real = ["plain", "streamed", "count", "models", "unknown model"].contains(&what)
            || (what.starts_with("structured") && api != "messages" && !what.contains("tool"));
        (real || upstream != Upstream::LlamaServer).then_some(Self { what, upstream })
    }

    /// What the scripted server answers, in order.
    pub fn replies(&self) -> Vec<Reply> {
        match self.what.trim_end_matches(", streamed") {
            "tools" => vec![
                Reply::tool_calls(&[("weather", r#"{"city": "Oslo"}"#), ("weather", r#"{"city": "Rome"}"#)]),
                Reply::text(CALLED),
            ],
            "structured" | "structured by a tool" => vec![Reply::text(CAT).forced_arguments(CAT)],
            "reasoning" => vec![Reply::text(TEXT).reasoning(REASONING)],
            "edit" => vec![Reply::text(EDIT), Reply::text("Greet politely")],
            "unknown model" | "models" => vec![],
            _ => vec![Reply::text(TEXT)],
        }
    }

    fn expected(&self) -> Value {
        match self.what.trim_end_matches(", streamed") {
            "tools" => {
                json!({ "calls": [["weather", {"city": "Oslo"}], ["weather", {"city": "Rome"}]], "text": CALLED })
            }
            "structured" | "structured by a tool" => json!({ "name": "Tom", "age": 3 }),
            "reasoning" => json!({ "reasoning": REASONING, "text": TEXT }),
            "edit" => json!({ "file": "print(\"hello\")\n", "commit": "Greet politely" }),
            // The third number differs where a client asks for base64.
            "embeddings" => json!([[0.25, -0.5], [0.25, -0.5]]),
            "models" => json!(["claude"]),
            _ => json!({ "text": TEXT, "counted": true }),
        }
    }

    /// What the scripted server has to have seen.
    fn carried(&self) -> &'static [&'static str] {
        match self.what.trim_end_matches(", streamed") {
            "plain" => &["Be brief.", "What is it like?"],
            "tools" => &["4 degrees in Oslo", "21 degrees in Rome"],
            "image" => &[PIXEL],
            _ => &[],
        }
    }

    /// Judges what the client got, and what the scripted server saw meanwhile.
    pub fn judge(&self, answer: &Value, requests: &[RecordedRequest]) -> Outcome {
        let Some(got) = answer.get("got") else { return self.judge_error(answer) };
        if self.upstream == Upstream::LlamaServer {
            return if self.has_shape(got) { Outcome::Pass } else { Outcome::Fail(format!("got {got}")) };
        }
        if self.what == "count" {
            return if got.as_u64() > Some(0) { Outcome::Pass } else { Outcome::Fail(format!("got {got}")) };
        }
        let mut got = got.clone();
        if self.what == "embeddings" {
            let vectors = got.as_array_mut().into_iter().flatten().filter_map(Value::as_array_mut);
            vectors.for_each(|vector| vector.truncate(2));
        }
        if !same(&got, &self.expected()) {
            return Outcome::Fail(format!("got {got}, not {}", self.expected()));
        }
        if requests.len() != self.replies().len() {
            return Outcome::Fail(format!(
                "{} requests for {} answers",
                requests.len(),
                self.replies().len()
            ));
        }
        let sent: String = requests.iter().map(|request| String::from_utf8_lossy(&request.body)).collect();
        match self.carried().iter().find(|text| !sent.contains(*text)) {
            Some(lost) => Outcome::Fail(format!("`{lost}` did not arrive in {sent}")),
            None => Outcome::Pass,
        }
    }

    fn judge_error(&self, answer: &Value) -> Outcome {
        let error = answer["error"].as_str().unwrap_or("the script has no such scenario");
        let refused = |words: &[&str], outcome| match words.iter().find(|word| !error.contains(**word)) {
            None => outcome,
            Some(word) => Outcome::Fail(format!("no `{word}` in {error}")),
        };
        match (self.what, self.upstream) {
            ("unknown model", _) => refused(&["nothing"], Outcome::Pass),
            ("embeddings", Upstream::Anthropic) => refused(&["embeddings"], Outcome::Refused),
            _ => Outcome::Fail(error.to_owned()),
        }
    }

    /// A real model's words vary.
    fn has_shape(&self, got: &Value) -> bool {
        match self.what.trim_end_matches(", streamed") {
            "structured" => got["name"].is_string() && got["age"].is_i64(),
            "count" => got.as_u64() > Some(0),
            "models" => *got == self.expected(),
            _ => got["text"].as_str().is_some_and(|text| !text.trim().is_empty()) && got["counted"] == true,
        }
    }
}

/// Whether two values are the same, whether a number was written with a fraction or not.
fn same(got: &Value, expected: &Value) -> bool {
    match (got, expected) {
        (Value::Number(got), Value::Number(expected)) => got.as_f64() == expected.as_f64(),
        (Value::Array(got), Value::Array(expected)) => {
            got.len() == expected.len() && got.iter().zip(expected).all(|(got, expected)| same(got, expected))
        }
        (Value::Object(got), Value::Object(expected)) => {
            got.len() == expected.len()
                && got
                    .iter()
                    .all(|(key, value)| expected.get(key).is_some_and(|expected| same(value, expected)))
        }
        _ => got == expected,
    }
}
