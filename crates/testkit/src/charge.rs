//! What a request is charged for under the Limits on its Llm: what its provider counted, or an estimate of what was delivered.

use serde_json::{Value, json};

use crate::{
    caller::{Got, Tokens},
    daemons::{Mcpd, eventually},
    faults::{End, EndKind},
};

/// US dollars per million tokens of every Llm in the tables.
pub const PRICE: Tokens = Tokens { input: 3, output: 5 };

/// How far an estimate of the input may be from a quarter of the request's bytes.
const ESTIMATE_SLACK: u64 = 5;

/// What the Llm that a request names is charged for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charge {
    /// What the provider counted; nothing for an error.
    Counted(Tokens),
    /// An answer that broke off, or may have been begun: about this input, and just this output.
    Estimated(Tokens),
}

impl Charge {
    /// What the contract promises for a request of so many bytes that ends so.
    pub fn of(end: End, got: &Got, request_bytes: usize) -> Self {
        let estimated = |output: usize| {
            let count = |count: usize| u64::try_from(count).expect("a small number");
            Self::Estimated(Tokens { input: count(request_bytes / 4), output: count(output) })
        };
        match (end.kind, got) {
            (EndKind::Answer, Got::Answer { tokens, .. }) => Self::Counted(*tokens),
            // An event with content is about a token, and each word is one.
            (EndKind::Broken, Got::Broken { text }) => estimated(text.split_whitespace().count()),
            (EndKind::Error(_, "no_response" | "no_first_token"), _) => estimated(0),
            _ => Self::Counted(Tokens::default()),
        }
    }

    /// Whether these are the tokens.
    pub fn is(self, tokens: Tokens) -> bool {
        match self {
            Self::Counted(counted) => tokens == counted,
            Self::Estimated(about) => {
                tokens.output == about.output && tokens.input.abs_diff(about.input) <= ESTIMATE_SLACK
            }
        }
    }

    /// Waits until the Limit of [`limit`] has settled this and one request.
    pub async fn settled(self, mcpd: &Mcpd, limit: &str) {
        let path = format!("/api/v1/limits/{limit}/status");
        let output = match self {
            Self::Counted(tokens) | Self::Estimated(tokens) => tokens.output,
        };
        eventually(&format!("the Limit `{limit}` has settled {self:?}"), async || {
            let status: Value = mcpd.get(&path, &mcpd.admin()).await.json().await.ok()?;
            let used = |measure| {
                let counter =
                    status["counters"].as_array()?.iter().find(|counter| counter["measure"] == measure);
                counter?["used"].as_f64()
            };
            let input = used("tokens")? as u64;
            let tokens = Tokens { input: input.checked_sub(output)?, output };
            // The counter has whole nano-dollars, the document a decimal fraction.
            let cost_nanos = (used("cost")? * 1e9).round() as u64;
            let settled = used("requests")? == 1.0 && self.is(tokens) && cost_nanos == cost(tokens);
            settled.then_some(())
        })
        .await;
    }
}

/// The cost of tokens in nano-dollars.
pub const fn cost(tokens: Tokens) -> u64 {
    (tokens.input * PRICE.input + tokens.output * PRICE.output) * 1000
}

/// A Limit on one Llm that no test exceeds, of the same name.
pub fn limit(llm: &str) -> Value {
    json!({"kind": "Limit", "name": llm, "per": "all", "llms": [llm], "requests": {"max": 1000, "window": "1d"},
        "tokens": {"max": 1_000_000, "window": "1d"}, "cost": {"max": 1000, "currency": "USD", "window": "1d"}})
}

/// An Llm with [`PRICE`] and one retry.
pub fn llm(name: &str, url: &str) -> Value {
    json!({"kind": "Llm", "name": name, "type": "openai", "url": url, "model": "m", "retries": {"max": 1},
        "price": {"input": PRICE.input, "output": PRICE.output}})
}
