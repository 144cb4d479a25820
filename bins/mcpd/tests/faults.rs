//! The faults that model providers produce, at whole daemons: what a caller of each dialect gets, streamed and not, with and without
//! a fallback; how many requests each provider receives; and what is accounted for. `cargo xtask figures inference` prints the table.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::sync::Arc;

use futures::{StreamExt as _, stream};
use mcpctl_secret::{
    envelope::Keyring,
    master_key_file::{self, IfMissing},
};
use mcpctl_store::{Location, Store, UsageFilter, UsageRow};
use mcpctl_testkit::{
    caller::{Caller, Got, Tokens},
    daemons::{Mcpd, McpdOptions, closed_address, eventually},
    fault_table::{Cells, Key},
    faults::{self, ANSWER, EndKind, Fault},
    model_server::{ModelServer, Reply},
};
use serde_json::{Value, json};

/// Cells of the table that run at the same time. Most of them wait for a retry or a timeout.
const CONCURRENT_CELLS: usize = 12;
/// US dollars per million tokens of every Llm.
const PRICE: Tokens = Tokens { input: 3, output: 5 };

/// One mcpd, and the provider of the Llm `second`.
struct World {
    mcpd: Mcpd,
    store: Store,
    second: ModelServer,
}

/// One request to an Llm of its own, because each Llm has a budget of retries and a breaker.
struct Cell<'a> {
    fault: &'a Fault,
    caller: Caller,
    stream: bool,
    fallback: bool,
    llm: String,
}

/// What came of it.
struct Seen {
    got: Got,
    /// Requests that the Llm's own provider received, and that its fallback's did.
    requests: [usize; 2],
    /// Bytes of the request.
    length: usize,
}

impl World {
    async fn start() -> Self {
        let second = ModelServer::with_default(Reply::text(ANSWER)).await;
        let options =
            McpdOptions { env: vec![("MCPD_LOG", "info,access=off".to_owned())], ..McpdOptions::default() };
        let mcpd = Mcpd::start_with(options).await;
        mcpd.apply(json!([llm("second", &second.base_url())])).await;
        let dir = mcpd.data_dir();
        let key = master_key_file::load_or_create(&dir.join("master-key"), IfMissing::Fail).unwrap();
        let location = Location::Sqlite(dir.join("mcpd.sqlite"));
        let store = Store::open(&location, Arc::new(Keyring::new(key))).await.unwrap();
        Self { mcpd, store, second }
    }

    async fn run(&self, cell: &Cell<'_>) -> Seen {
        let Cell { fault, caller, stream, fallback, llm: name } = cell;
        let provider = ModelServer::start().await;
        let mut replies = fault.replies.clone();
        let url = match replies.pop() {
            Some(last) => {
                provider.set_default(last);
                provider.base_url()
            }
            None => format!("http://{}", closed_address()),
        };
        replies.into_iter().for_each(|reply| provider.queue(reply));
        let mut first = llm(name, &url);
        first["retries"] = json!({"max": 1});
        if let Some(timeout) = fault.timeout(*stream) {
            first["timeouts"] = json!({ timeout: "1s" });
        }
        if *fallback {
            first["fallbacks"] = json!([{"llm": "second"}]);
        }
        let limits = json!({"kind": "Limit", "name": name, "per": "all", "llms": [name],
            "requests": {"max": 1000, "window": "1d"}, "tokens": {"max": 1_000_000, "window": "1d"},
            "cost": {"max": 1000, "currency": "USD", "window": "1d"}});
        self.mcpd.apply(json!([first, limits])).await;
        // The prompt names the cell, so that its requests are found at the provider that all cells share.
        let prompt = format!("Count for {name}.");
        let body = caller.body(name, *stream, &prompt);
        let answer = self.mcpd.post(caller.path(), &self.mcpd.admin(), &body).await;
        let got = caller.read(answer, *stream).await;
        let of_this = |request: &&mcpctl_testkit::model_server::RecordedRequest| {
            String::from_utf8_lossy(&request.body).contains(&prompt)
        };
        let requests =
            [&provider, &self.second].map(|server| server.inferences().iter().filter(of_this).count());
        Seen { got, requests, length: body.to_string().len() }
    }

    /// The Llm's row of usage, and its fallback's for the same request.
    async fn usage(&self, cell: &Cell<'_>, seen: &Seen) -> Result<(), String> {
        let rows = eventually("the rows of usage", async || {
            let all =
                self.store.usage(&UsageFilter { limit: 10_000, ..UsageFilter::default() }).await.unwrap();
            let first = all.iter().find(|row| row.llm_name == cell.llm)?.clone();
            let is_fallback = |row: &&UsageRow| row.request_id == first.request_id && row.id != first.id;
            let rows: Vec<UsageRow> =
                [&first].into_iter().chain(all.iter().filter(is_fallback)).cloned().collect();
            (rows.len() == 1 + seen.requests[1]).then_some(rows)
        })
        .await;
        let own = charge(&rows[0], cell, seen)?;
        if let Some(row) = rows.get(1) {
            let Got::Answer { tokens, .. } = &seen.got else {
                return Err("a fallback without an answer".into());
            };
            let row = (row.llm_name.as_str(), row.outcome.as_str(), row.attempts, tokens_of(row));
            equal("the fallback's row", &row, &("second", "ok", 1, *tokens))?;
        }
        // What the Limit on the Llm has settled.
        let cost = own.input * PRICE.input + own.output * PRICE.output;
        equal("the cost", &rows[0].cost_nanos, &Some(cost * 1000))?;
        let path = format!("/api/v1/limits/{}/status", cell.llm);
        let expected = [1.0, (own.input + own.output) as f64, cost as f64 / 1e6];
        eventually(&format!("the Limit `{}` has settled {expected:?}", cell.llm), async || {
            let status: Value = self.mcpd.get(&path, &self.mcpd.admin()).await.json().await.unwrap();
            let counters = status["counters"].as_array().unwrap();
            let used = ["requests", "tokens", "cost"].map(|measure| {
                let counter = counters.iter().find(|counter| counter["measure"] == measure).unwrap();
                counter["used"].as_f64().unwrap()
            });
            (used == expected).then_some(())
        })
        .await;
        Ok(())
    }
}

fn llm(name: &str, url: &str) -> Value {
    json!({"kind": "Llm", "name": name, "type": "openai", "url": url, "model": "m",
        "price": {"input": PRICE.input, "output": PRICE.output}})
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, seen: &T, expected: &T) -> Result<(), String> {
    if seen == expected { Ok(()) } else { Err(format!("{what}: {seen:?} instead of {expected:?}")) }
}

fn tokens_of(row: &UsageRow) -> Tokens {
    Tokens { input: row.input_tokens, output: row.output_tokens }
}

/// Compares the row of usage of the Llm with what its provider and the caller saw, and returns what is charged: an answer by its
/// count, a broken one or one that may have been begun by an estimate, an error nothing.
fn charge(row: &UsageRow, cell: &Cell, seen: &Seen) -> Result<Tokens, String> {
    let end = cell.fault.end(cell.stream);
    let outcome = match end.kind {
        EndKind::Answer => "ok",
        EndKind::Broken => "broken_stream",
        EndKind::Error(_, class) => class,
    };
    equal("outcome", &row.outcome.as_str(), &outcome)?;
    equal("attempts", &row.attempts, &end.attempts)?;
    equal("stream", &row.stream, &cell.stream)?;
    let tokens = tokens_of(row);
    let estimated = |output: u64| {
        let input = u64::try_from(seen.length).unwrap() / 4;
        let near = input - 5..=input + 5;
        if row.estimated && tokens.output == output && near.contains(&tokens.input) {
            Ok(tokens)
        } else {
            Err(format!("estimated: {row:?} instead of {near:?} and {output}"))
        }
    };
    match (&seen.got, outcome) {
        (Got::Answer { tokens: reported, .. }, "ok") => {
            equal("tokens", &(tokens, row.estimated), &(*reported, false))?;
            Ok(tokens)
        }
        // One event with content is about a token, and each word is an event.
        (Got::Broken { text }, _) => estimated(text.split_whitespace().count() as u64),
        (_, "no_response" | "no_first_token") => estimated(0),
        _ => {
            equal("tokens", &(tokens, row.estimated), &(Tokens::default(), false))?;
            Ok(tokens)
        }
    }
}

/// Compares what the caller got and the providers received with what the contract promises.
fn compare(cell: &Cell, seen: &Seen) -> Result<(), String> {
    let end = cell.fault.end(cell.stream);
    let falls_back = cell.fallback && end.kind.fails_over();
    let answered = |by: &str| {
        let words = ANSWER.split_whitespace().count() as u64;
        matches!(&seen.got, Got::Answer { by: seen_by, text, tokens }
            if seen_by == by && text == ANSWER && tokens.output == words && tokens.input > 0)
    };
    let as_promised = match end.kind {
        _ if falls_back => answered("second"),
        EndKind::Answer => answered(&cell.llm),
        EndKind::Error(status, class) => seen.got == Got::Error { status, class: class.to_owned() },
        EndKind::Broken => {
            matches!(&seen.got, Got::Broken { text } if ANSWER.starts_with(text) && !text.is_empty())
        }
    };
    // Nothing receives requests where nothing listens.
    let own = if cell.fault.replies.is_empty() { 0 } else { end.attempts as usize };
    equal("requests", &seen.requests, &[own, usize::from(falls_back)])?;
    if as_promised { Ok(()) } else { Err(format!("got {:?}", seen.got)) }
}

#[tokio::test]
async fn every_fault_ends_as_the_contract_has_it() {
    let (world, faults) = (World::start().await, faults::all());
    let mut cells = Vec::new();
    for (at, fault) in faults.iter().enumerate() {
        for caller in Caller::ALL {
            for (stream, form) in [(false, "whole"), (true, "streamed")] {
                for (fallback, mode) in [(true, "fallback"), (false, "alone")] {
                    let llm = format!("f{at}-{}-{form}-{mode}", caller.name());
                    cells.push(Cell { fault, caller, stream, fallback, llm });
                }
            }
        }
    }
    let seen: Vec<_> = stream::iter(&cells)
        .map(async |cell| {
            let seen = world.run(cell).await;
            let compared = compare(cell, &seen);
            let accounted = if compared.is_ok() { world.usage(cell, &seen).await } else { Ok(()) };
            (cell, seen.got, compared.and(accounted))
        })
        .buffered(CONCURRENT_CELLS)
        .collect()
        .await;
    let mut table = Cells::new("mcpd");
    for (cell, got, checked) in seen {
        let Cell { fault, caller, stream, fallback, .. } = *cell;
        let mode = if fallback { "fallback" } else { "alone" };
        table.add(Key { fault: fault.name, mode, caller, stream }, &got, checked);
    }
    table.finish();
}
