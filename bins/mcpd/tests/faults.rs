//! The faults that model providers produce, at whole daemons: what a caller of each dialect gets, streamed and not, with and without
//! a fallback; how many requests each provider receives; and what is accounted for. `cargo xtask figures inference` prints the table.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::{collections::BTreeMap, sync::Arc};

use futures::{StreamExt as _, stream};
use mcpctl_secret::{
    envelope::Keyring,
    master_key_file::{self, IfMissing},
};
use mcpctl_store::{Location, Store, UsageFilter, UsageRow};
use mcpctl_testkit::{
    caller::{Caller, Got, Tokens},
    charge::{self, Charge, llm},
    daemons::{Mcpd, McpdOptions, closed_address, eventually},
    fault_table::{Cells, Key},
    faults::{self, ANSWER, EndKind, Fault},
    model_server::{ModelServer, Reply},
};
use serde_json::{Value, json};

/// Cells of the table that run at the same time. Most of them wait for a retry or a timeout.
const CONCURRENT_CELLS: usize = 12;
/// One mcpd, and the providers of the fallbacks.
struct World {
    mcpd: Mcpd,
    store: Store,
    /// By the names of the Llms.
    fallbacks: BTreeMap<&'static str, ModelServer>,
}

/// One request to an Llm of its own, because each Llm has a budget of retries and a breaker.
struct Cell<'a> {
    fault: &'a Fault,
    caller: Caller,
    stream: bool,
    mode: Mode,
    llm: String,
}

/// What there is besides the Llm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Alone,
    Fallback,
    /// `midStream: restart`, and a fallback that answers the same.
    Restart,
    /// `midStream: restart`, and a fallback that answers otherwise.
    Differs,
    /// `midStream: continue`, and a fallback that goes on with the beginning of an answer.
    Continue,
    /// `midStream: continue`, and a fallback that refuses it.
    Refused,
}

impl Mode {
    const ALL: [Self; 6] =
        [Self::Alone, Self::Fallback, Self::Restart, Self::Differs, Self::Continue, Self::Refused];

    const fn name(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::Fallback => "fallback",
            Self::Restart => "restart",
            Self::Differs => "differs",
            Self::Continue => "continue",
            Self::Refused => "refused",
        }
    }

    /// The fallback, and `midStream`.
    const fn fields(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Alone => None,
            Self::Fallback => Some(("second", "error")),
            Self::Restart => Some(("second", "restart")),
            Self::Differs => Some(("different", "restart")),
            Self::Continue => Some(("continuing", "continue")),
            Self::Refused => Some(("refusing", "continue")),
        }
    }

    /// Whether it is about what comes after the first content.
    const fn is_mid_stream(self) -> bool {
        !matches!(self, Self::Alone | Self::Fallback)
    }

    /// Whether the answer goes on after it broke, and after how many requests to the fallback.
    const fn after_a_break(self) -> (bool, usize) {
        match self {
            Self::Alone | Self::Fallback => (false, 0),
            Self::Restart | Self::Continue => (true, 1),
            Self::Differs => (false, 1),
            Self::Refused => (true, 2),
        }
    }
}

/// The server of a fallback, by what it makes of the beginning of an answer.
async fn fallback(name: &str) -> ModelServer {
    let server = ModelServer::with_default(Reply::text(ANSWER)).await;
    match name {
        "different" => server.set_default(Reply::text("one two 3 four five six")),
        "continuing" => server.answer_with(|request| {
            let begun = begun(&request.json());
            Reply::text(
                begun
                    .and_then(|begun| ANSWER.strip_prefix(begun.as_str()).map(str::to_owned))
                    .as_deref()
                    .unwrap_or(ANSWER),
            )
        }),
        "refusing" => server.answer_with(|request| match begun(&request.json()) {
            Some(_) => Reply::error(400, "the last message must be the user's", "invalid_request_error"),
            None => Reply::text(ANSWER),
        }),
        _ => {}
    }
    server
}

/// The beginning of an answer that a request ends with.
fn begun(request: &Value) -> Option<String> {
    let last = request["messages"].as_array()?.last()?;
    (last["role"] == "assistant").then(|| last["content"].as_str().unwrap().to_owned())
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
        let options =
            McpdOptions { env: vec![("MCPD_LOG", "info,access=off".to_owned())], ..McpdOptions::default() };
        let mcpd = Mcpd::start_with(options).await;
        let mut fallbacks = BTreeMap::new();
        for name in ["second", "different", "continuing", "refusing"] {
            let server = fallback(name).await;
            let mut document = llm(name, &server.base_url());
            document["capabilities"] = json!(["prefill"]);
            mcpd.apply(json!([document])).await;
            fallbacks.insert(name, server);
        }
        let dir = mcpd.data_dir();
        let key = master_key_file::load_or_create(&dir.join("master-key"), IfMissing::Fail).unwrap();
        let location = Location::Sqlite(dir.join("mcpd.sqlite"));
        let store = Store::open(&location, Arc::new(Keyring::new(key))).await.unwrap();
        Self { mcpd, store, fallbacks }
    }

    async fn run(&self, cell: &Cell<'_>) -> Seen {
        let Cell { fault, caller, stream, mode, llm: name } = cell;
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
        if let Some(timeout) = fault.timeout(*stream) {
            first["timeouts"] = json!({ timeout: "1s" });
        }
        if let Some((fallback, mid_stream)) = mode.fields() {
            first["fallbacks"] = json!([{"llm": fallback}]);
            first["midStream"] = json!(mid_stream);
        }
        self.mcpd.apply(json!([first, charge::limit(name)])).await;
        // The prompt names the cell, so that its requests are found at the provider that all cells share.
        let prompt = format!("Count for {name}.");
        let body = caller.body(name, *stream, &prompt);
        let answer = self.mcpd.post(caller.path(), &self.mcpd.admin(), &body).await;
        let got = caller.read(answer, *stream).await;
        let of_this = |request: &&mcpctl_testkit::model_server::RecordedRequest| {
            String::from_utf8_lossy(&request.body).contains(&prompt)
        };
        let count = |server: &ModelServer| server.inferences().iter().filter(of_this).count();
        let fallback = mode.fields().map(|(name, _)| &self.fallbacks[name]);
        let requests = [count(&provider), fallback.map_or(0, count)];
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
        let end = cell.fault.end(cell.stream);
        let outcome = match end.kind {
            EndKind::Answer => "ok",
            EndKind::Broken => "broken_stream",
            EndKind::Error(_, class) => class,
        };
        let (row, own) = (&rows[0], tokens_of(&rows[0]));
        let seen_row = (row.outcome.as_str(), row.attempts, row.stream, row.cost_nanos);
        equal("the row", &seen_row, &(outcome, end.attempts, cell.stream, Some(charge::cost(own))))?;
        let mut charge = Charge::of(end, &seen.got, seen.length);
        if end.kind == EndKind::Broken && cell.mode.is_mid_stream() {
            // What was delivered before the break: three words, or four.
            let (input, output) = (u64::try_from(seen.length).unwrap() / 4, own.output.clamp(1, 4));
            charge = Charge::Estimated(Tokens { input, output });
        }
        if !charge.is(own) || row.estimated != matches!(charge, Charge::Estimated(_)) {
            return Err(format!("{charge:?} promised, {row:?}"));
        }
        if let (Some(row), false) = (rows.get(1), end.kind == EndKind::Broken) {
            let Got::Answer { tokens, .. } = &seen.got else {
                return Err("a fallback without an answer".into());
            };
            let row = (row.llm_name.as_str(), row.outcome.as_str(), row.attempts, tokens_of(row));
            equal("the fallback's row", &row, &("second", "ok", 1, *tokens))?;
        }
        charge.settled(&self.mcpd, &cell.llm).await;
        Ok(())
    }
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, seen: &T, expected: &T) -> Result<(), String> {
    if seen == expected { Ok(()) } else { Err(format!("{what}: {seen:?} instead of {expected:?}")) }
}

fn tokens_of(row: &UsageRow) -> Tokens {
    Tokens { input: row.input_tokens, output: row.output_tokens }
}

/// Compares what the caller got and the providers received with what the contract promises.
fn compare(cell: &Cell, seen: &Seen) -> Result<(), String> {
    let end = cell.fault.end(cell.stream);
    let (goes_on, after_a_break) = cell.mode.after_a_break();
    let broken = end.kind == EndKind::Broken;
    let falls_back = cell.mode == Mode::Fallback && end.kind.fails_over();
    match &seen.got {
        Got::Answer { text, .. } if broken && goes_on && text == ANSWER => {}
        got if broken && goes_on => return Err(format!("got {got:?} instead of the whole answer")),
        got => end.kind.check(got, &cell.llm, falls_back.then_some("second"))?,
    }
    // Nothing receives requests where nothing listens.
    let own = if cell.fault.replies.is_empty() { 0 } else { end.attempts as usize };
    let fallback = if broken { after_a_break } else { usize::from(falls_back) };
    equal("requests", &seen.requests, &[own, fallback])
}

#[tokio::test]
async fn every_fault_ends_as_the_contract_has_it() {
    let (world, faults) = (World::start().await, faults::all());
    let mut cells = Vec::new();
    for (at, fault) in faults.iter().enumerate() {
        for caller in Caller::ALL {
            for (stream, form) in [(false, "whole"), (true, "streamed")] {
                // What `midStream` decides comes after the first content of a stream.
                let is_late = fault.is_late() && stream;
                for mode in Mode::ALL.into_iter().filter(|mode| is_late || !mode.is_mid_stream()) {
                    let llm = format!("f{at}-{}-{form}-{}", caller.name(), mode.name());
                    cells.push(Cell { fault, caller, stream, mode, llm });
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
    let mut table = Cells::new("mcpd", "fallbacks");
    for (cell, got, checked) in seen {
        let Cell { fault, caller, stream, mode, .. } = *cell;
        table.add(Key { fault: fault.name, mode: mode.name(), caller, stream }, &got, checked);
    }
    table.finish();
}
