//! What models cost: the Llm's own `price`, else an entry of the operator's table, else one of the built-in table, which has
//! prices that providers publish, each with its date and source. A built-in price holds at the provider's own address only.

use std::collections::HashMap;

use anyhow::Context as _;
use mcpctl_api::{
    Usd,
    spec::{LlmSpec, Price, Upstream},
};
use mcpctl_dialect::usage::Usage;
use serde::Deserialize;

/// The built-in table.
const BUILT_IN: &str = include_str!("prices/built_in.json");
/// Tokens that a price is for.
const TOKENS_OF_A_PRICE: u128 = 1_000_000;

/// The price tables.
#[derive(Debug, Clone, Default)]
pub struct Prices {
    /// By model; earlier entries first.
    entries: HashMap<String, Vec<Entry>>,
}

/// An entry of a table.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    /// The provider's names of the model.
    models: Vec<String>,
    /// Hosts at which the price holds; any if left out.
    #[serde(default)]
    hosts: Option<Vec<String>>,
    /// The price.
    price: Price,
    /// The price of requests with long prompts, where that is another one.
    #[serde(default)]
    long_prompt: Option<LongPrompt>,
    /// When the price was read.
    date: jiff::civil::Date,
    /// Where the price is published.
    source: String,
}

/// What a model's tokens cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pricing {
    price: Price,
    long_prompt: Option<LongPrompt>,
}

/// The price of all tokens of a request whose input is longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LongPrompt {
    /// Input tokens, cached ones included, up to which the ordinary price holds.
    above: u64,
    /// The price.
    price: Price,
}

impl From<Price> for Pricing {
    fn from(price: Price) -> Self {
        Self { price, long_prompt: None }
    }
}

impl Pricing {
    /// The price of a request with so many input tokens.
    fn of_input(&self, tokens: u64) -> &Price {
        self.long_prompt.as_ref().filter(|long| tokens > long.above).map_or(&self.price, |long| &long.price)
    }
}

impl Pricing {
    /// At least as dear as either, for each request.
    fn or_dearer(&self, other: &Self) -> Self {
        let above = self.long_prompt.iter().chain(&other.long_prompt).map(|long| long.above).min();
        let of_long = |pricing: &Self| pricing.long_prompt.map_or(pricing.price, |long| long.price);
        let long = dearer(&dearer(&of_long(self), &of_long(other)), &dearer(&self.price, &other.price));
        Self {
            price: dearer(&self.price, &other.price),
            long_prompt: above.map(|above| LongPrompt { above, price: long }),
        }
    }
}

/// The higher price of each part.
fn dearer(one: &Price, other: &Price) -> Price {
    let part = |of: fn(&Price) -> Usd| of(one).max(of(other));
    Price {
        input: part(|price| price.input),
        output: part(|price| price.output),
        cached_input: Some(part(|price| price.cached_input.unwrap_or(price.input))),
        cache_write: Some(part(|price| price.cache_write.unwrap_or(price.input))),
        reasoning: Some(part(|price| price.reasoning.unwrap_or(price.output))),
    }
}

impl Prices {
    /// The built-in table, with the operator's entries before its own.
    ///
    /// # Errors
    /// When a table cannot be read, with the line and column.
    pub fn load(own: Option<&str>) -> anyhow::Result<Self> {
        let mut prices = Self::default();
        if let Some(own) = own {
            prices.add(read(own)?);
        }
        prices.add(read(BUILT_IN).context("the built-in price table")?);
        Ok(prices)
    }

    fn add(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            for model in &entry.models {
                self.entries.entry(model.clone()).or_default().push(entry.clone());
            }
        }
    }

    /// What the tokens of an Llm cost at most; `None` where that is unknown of one of its upstreams.
    pub fn of(&self, llm: &LlmSpec) -> Option<Pricing> {
        let mut prices = llm.upstreams().map(|upstream| self.at(llm, &upstream));
        let first = prices.next()??;
        prices.try_fold(first, |dearest, price| Some(dearest.or_dearer(&price?)))
    }

    /// What the tokens of an Llm cost at one of its upstreams; `None` where that is unknown.
    pub fn at(&self, llm: &LlmSpec, upstream: &Upstream<'_>) -> Option<Pricing> {
        if let Some(price) = llm.price {
            return Some(price.into());
        }
        let host = upstream.url.host_str().unwrap_or_default();
        let holds = |entry: &&Entry| {
            entry
                .hosts
                .as_ref()
                .is_none_or(|hosts| hosts.iter().any(|known| known.eq_ignore_ascii_case(host)))
        };
        self.entries.get(upstream.model)?.iter().find(holds).map(|entry| {
            let Entry { price, long_prompt, .. } = *entry;
            Pricing { price, long_prompt }
        })
    }
}

fn read(json: &str) -> anyhow::Result<Vec<Entry>> {
    let entries: Vec<Entry> = serde_json::from_str(json)?;
    for (at, entry) in entries.iter().enumerate() {
        entry.price.validate(&format!("[{at}].price"))?;
        if let Some(long) = &entry.long_prompt {
            long.price.validate(&format!("[{at}].longPrompt.price"))?;
        }
        anyhow::ensure!(!entry.models.is_empty(), "[{at}].models: an entry names at least one model");
        let source = &entry.source;
        anyhow::ensure!(!source.is_empty(), "[{at}].source: where the price of {} is from", entry.date);
    }
    Ok(entries)
}

/// The cost of tokens, rounded up to a nano-dollar.
pub fn cost(pricing: &Pricing, usage: &Usage) -> Usd {
    let Usage {
        input_tokens,
        output_tokens,
        cached_input_tokens,
        cache_write_input_tokens,
        reasoning_tokens,
    } = *usage;
    let price = pricing.of_input(input_tokens);
    // Parts of a whole, whatever a server reports.
    let cached = cached_input_tokens.min(input_tokens);
    let written = cache_write_input_tokens.min(input_tokens - cached);
    let reasoning = reasoning_tokens.min(output_tokens);
    let parts = [
        (input_tokens - cached - written, price.input),
        (cached, price.cached_input.unwrap_or(price.input)),
        (written, price.cache_write.unwrap_or(price.input)),
        (output_tokens - reasoning, price.output),
        (reasoning, price.reasoning.unwrap_or(price.output)),
    ];
    let sum: u128 = parts.iter().map(|(tokens, price)| u128::from(*tokens) * u128::from(price.nanos())).sum();
    Usd::from_nanos(u64::try_from(sum.div_ceil(TOKENS_OF_A_PRICE)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd(text: &str) -> Usd {
        text.parse().unwrap()
    }

    fn llm(url: &str, model: &str, price: Option<Price>) -> LlmSpec {
        let document = serde_json::json!({"type": "openai", "url": url, "model": model});
        LlmSpec { price, ..serde_json::from_value(document).unwrap() }
    }

    #[test]
    fn every_part_has_its_price() {
        let price = Price {
            input: usd("3"),
            output: usd("15"),
            cached_input: Some(usd("0.3")),
            cache_write: Some(usd("3.75")),
            reasoning: Some(usd("20")),
        };
        let usage = Usage {
            input_tokens: 10_000,
            output_tokens: 1_000,
            cached_input_tokens: 6_000,
            cache_write_input_tokens: 1_000,
            reasoning_tokens: 400,
        };
        // 3000 × 3 + 6000 × 0.3 + 1000 × 3.75 + 600 × 15 + 400 × 20, per million.
        let cost = |price: Price, usage: &Usage| cost(&price.into(), usage);
        assert_eq!(cost(price, &usage), usd("0.03155"));
        let flat = Price { cached_input: None, cache_write: None, reasoning: None, ..price };
        assert_eq!(cost(flat, &usage), usd("0.045"));
        let absurd = Usage { cached_input_tokens: u64::MAX, reasoning_tokens: u64::MAX, ..usage };
        assert_eq!(cost(flat, &absurd), usd("0.045"), "parts are never more than the whole");
        let tiny = Usage { input_tokens: 1, ..Usage::default() };
        assert_eq!(cost(Price { input: usd("0.000000001"), ..flat }, &tiny).nanos(), 1, "rounded up");
    }

    #[test]
    fn the_nearest_price_counts() {
        let own = r#"[{"models": ["claude-opus-4-8"], "price": {"input": 1, "output": 2}, "date": "2026-11-26",
                       "source": "our contract"}]"#;
        let (own, built_in) = (Prices::load(Some(own)).unwrap(), Prices::load(None).unwrap());
        let provider = llm("https://api.anthropic.com", "claude-opus-4-8", None);
        assert_eq!(built_in.of(&provider).unwrap().price.input, usd("5"));
        assert_eq!(own.of(&provider).unwrap().price.input, usd("1"));
        let elsewhere = llm("http://127.0.0.1:1", "claude-opus-4-8", None);
        assert_eq!(built_in.of(&elsewhere), None, "a namesake at another server has another price");
        let free = Price {
            input: Usd::ZERO,
            output: Usd::ZERO,
            cached_input: None,
            cache_write: None,
            reasoning: None,
        };
        assert_eq!(own.of(&LlmSpec { price: Some(free), ..provider }), Some(free.into()));
    }

    #[test]
    fn long_prompts_have_their_own_price() {
        let pricing = Prices::load(None).unwrap();
        let pricing = pricing.of(&llm("https://api.openai.com/v1", "gpt-5.5", None)).unwrap();
        let usage = |input_tokens| Usage { input_tokens, output_tokens: 1_000, ..Usage::default() };
        assert_eq!(cost(&pricing, &usage(272_000)), usd("1.39"));
        // All tokens of the request, and not only those beyond.
        assert_eq!(cost(&pricing, &usage(272_001)), usd("2.76501"));
    }

    /// What the table must have, so that a Limit on cost works with every provider that the documents name.
    #[test]
    fn built_in_prices_are_plausible_and_name_each_model_once() {
        let entries = read(BUILT_IN).unwrap();
        let mut named = std::collections::HashSet::new();
        for Entry { models, hosts, price, long_prompt, source, .. } in &entries {
            let hosts = hosts.as_ref().unwrap();
            for model in models {
                assert!(named.insert((model, hosts)), "{model} twice");
            }
            assert!(source.starts_with("https://"), "{models:?}");
            assert!(price.cached_input.is_none_or(|cached| cached < price.input), "{models:?}");
            assert!(price.cache_write.is_none_or(|written| written > price.input), "{models:?}");
            assert!(long_prompt.is_none_or(|long| long.price.input > price.input), "{models:?}");
        }
        for host in [
            "api.openai.com",
            "api.anthropic.com",
            "api.mistral.ai",
            "api.deepseek.com",
            "generativelanguage.googleapis.com",
            "api.groq.com",
        ] {
            assert!(named.iter().any(|(_, hosts)| hosts.iter().any(|known| known == host)), "{host}");
        }
    }

    #[test]
    fn targets_cost_what_the_dearest_costs_at_most() {
        let own = r#"[{"models": ["a"], "price": {"input": 1, "output": 9}, "date": "2026-11-26", "source": "s"},
                      {"models": ["b"], "price": {"input": 2, "output": 3}, "date": "2026-11-26", "source": "s"}]"#;
        let prices = Prices::load(Some(own)).unwrap();
        let llm = |last: &str| -> LlmSpec {
            let targets =
                serde_json::json!([{"url": "http://a.example"}, {"url": "http://b.example", "model": last}]);
            serde_json::from_value(serde_json::json!({"type": "openai", "model": "a", "targets": targets}))
                .unwrap()
        };
        let known = llm("b");
        let most = prices.of(&known).unwrap();
        assert_eq!((most.price.input, most.price.output), (usd("2"), usd("9")));
        let each: Vec<_> = known.upstreams().map(|of| prices.at(&known, &of).unwrap().price.output).collect();
        assert_eq!(each, [usd("9"), usd("3")]);
        assert_eq!(prices.of(&llm("c")), None, "one of them is unknown");
    }

    #[test]
    fn a_wrong_table_is_refused_with_its_place() {
        for (json, expected) in [
            ("{}", "line 1 column 0"),
            (
                r#"[{"models": ["m"], "price": {"input": 1}, "date": "2026-11-26", "source": "s"}]"#,
                "`output`",
            ),
            (
                r#"[{"models": ["m"], "price": {"input": 1, "output": 20000}, "date": "2026-11-26", "source": "s"}]"#,
                "[0].price.output",
            ),
            (
                r#"[{"models": [], "price": {"input": 1, "output": 2}, "date": "2026-11-26", "source": "s"}]"#,
                "[0].models",
            ),
        ] {
            let error = format!("{:#}", Prices::load(Some(json)).unwrap_err());
            assert!(error.contains(expected), "{json}: {error}");
        }
    }
}
