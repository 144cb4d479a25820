//! The faults of `bins/mcpd/tests/faults.rs` at the agent: those of a provider behind mcpd, those between the agent and mcpd, and mcpd's
//! own end, each for a caller who may fall back to a local model and for one who may not. `cargo xtask figures inference` prints
//! the table.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex},
};

use futures::{StreamExt as _, stream};
use mcpctl_testkit::{
    caller::{Caller, Got},
    charge::{self, Charge},
    daemons::{McpdOptions, McplocalOptions, closed_address, eventually},
    deployment::{Deployment, openai_item},
    fault_table::{Cells, Key},
    faults::{
        self, ANSWER, End,
        EndKind::{self, Answer, Broken, Error},
        Fault,
    },
    model_server::{Gate, ModelServer, Reply},
};
use reqwest::Method;
use serde_json::{Value, json};

/// Cells of a table that run at the same time. Most of them wait for a retry or a timeout.
const CONCURRENT_CELLS: usize = 12;

/// Where a fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// At the provider of mcpd.
    Provider,
    /// At the address where the agent expects mcpd's inference: a proxy, or another service.
    Mcpd,
    /// As `Mcpd`, where nothing listens.
    Nothing,
}

/// One request to an Llm of its own, because each Llm has a breaker.
struct Cell<'a> {
    fault: &'a Fault,
    caller: Caller,
    stream: bool,
    /// Whether the caller may view the Llm, and so fall back.
    allowed: bool,
    llm: String,
}

impl Cell<'_> {
    const fn mode(&self) -> &'static str {
        if self.allowed { "allowed" } else { "forbidden" }
    }
}

/// What came of it.
struct Seen {
    got: Got,
    /// Requests that the place of the fault received, and that the local model did.
    requests: [usize; 2],
    /// Bytes of the request.
    length: usize,
}

struct World {
    place: Place,
    deployment: Deployment,
    /// What has the faults in place of mcpd.
    faulty: ModelServer,
    /// Its replies by Llm, in order; the last one repeats.
    replies: Arc<Mutex<HashMap<String, VecDeque<Reply>>>>,
    /// The local model.
    desk: ModelServer,
    /// Who may run every Llm, and view none.
    bob: String,
}

impl World {
    async fn start(place: Place, cells: &[Cell<'_>]) -> Self {
        let (faulty, replies) =
            (ModelServer::start().await, Arc::<Mutex<HashMap<_, VecDeque<Reply>>>>::default());
        let scripted = Arc::clone(&replies);
        faulty.answer_with(move |request| {
            let mut scripted = scripted.lock().unwrap();
            let replies = scripted.get_mut(request.json()["model"].as_str().unwrap()).unwrap();
            if replies.len() > 1 { replies.pop_front().unwrap() } else { replies[0].clone() }
        });
        let desk = ModelServer::with_default(Reply::text(ANSWER)).await;
        let quiet = "info,access=off";
        let mut builder = Deployment::builder()
            .mcpd(McpdOptions { env: vec![("MCPD_LOG", quiet.to_owned())], ..McpdOptions::default() })
            .options(McplocalOptions { env: vec![("MCPLOCAL_LOG", quiet.into())], ..Default::default() })
            .providers(&local_providers(place, cells, &desk));
        builder = match place {
            Place::Provider => builder,
            Place::Mcpd => builder.inference_at(&format!("http://{}", faulty.address())),
            Place::Nothing => builder.unreachable_inference(),
        };
        let deployment = builder.start().await;
        let rules = json!([{"kinds": ["llms"], "verbs": ["run"], "names": ["*"]}]);
        let bob = deployment.mcpd.user_with_rules("bob", rules).await;
        Self { place, deployment, faulty, replies, desk, bob }
    }

    async fn run(&self, cell: &Cell<'_>) -> Seen {
        let Cell { fault, caller, stream, allowed, llm } = cell;
        let Self { place, deployment: Deployment { mcpd, agent, alice, .. }, desk, .. } = self;
        // A provider of its own: a reset of a connection that mcpd reuses costs an attempt more.
        let provider = ModelServer::start().await;
        let faulty = if *place == Place::Provider { &provider } else { &self.faulty };
        let mut document = charge::llm(llm, &faulty.base_url());
        if let Some((last, earlier)) = fault.replies.split_last() {
            earlier.iter().cloned().for_each(|reply| provider.queue(reply));
            provider.set_default(last.clone());
        } else {
            document["url"] = json!(format!("http://{}", closed_address()));
        }
        self.replies.lock().unwrap().insert(llm.clone(), fault.replies.clone().into());
        if let Some(timeout) = fault.timeout(*stream) {
            document["timeouts"] = json!({ timeout: "1s" });
        }
        mcpd.apply(json!([document, charge::limit(llm)])).await;
        // The prompt names the cell, so that its requests are found at the servers that all cells share.
        let prompt = format!("Count for {llm}.");
        let body = caller.body(llm, *stream, &prompt);
        let bearer = if *allowed { alice } else { &self.bob };
        let request = agent.request(Method::POST, caller.path(), bearer).json(&body);
        let got = caller.read(request.send().await.unwrap(), *stream).await;
        let requests = [faulty, desk].map(|server| {
            let all = server.inferences();
            all.iter().filter(|request| String::from_utf8_lossy(&request.body).contains(&prompt)).count()
        });
        Seen { got, requests, length: body.to_string().len() }
    }

    /// Compares what came of a cell with what the contract promises.
    async fn check(&self, cell: &Cell<'_>, seen: &Seen) -> Result<(), String> {
        let end = cell.fault.end(cell.stream);
        let falls_back = cell.allowed && end.kind.fails_over();
        // Only mcpd names who answers, and the class of an error.
        let (llm, kind) = match (self.place, end.kind) {
            (Place::Mcpd, Error(status, _)) if !falls_back && is_of_the_place(status) => {
                ("", Error(status, ""))
            }
            (Place::Mcpd, kind) => ("", kind),
            (_, kind) => (cell.llm.as_str(), kind),
        };
        kind.check(&seen.got, llm, falls_back.then(|| desk(timeout(self.place, cell))).as_deref())?;
        let own = if cell.fault.replies.is_empty() { 0 } else { end.attempts as usize };
        let requests = [own, usize::from(falls_back)];
        if seen.requests != requests {
            return Err(format!("requests: {:?} instead of {requests:?}", seen.requests));
        }
        if self.place == Place::Provider {
            Charge::of(end, &seen.got, seen.length).settled(&self.deployment.mcpd, &cell.llm).await;
        }
        self.check_journal(cell, &seen.got, falls_back).await
    }

    /// A local answer has one line when it begins and one when it ends, with the model's own count; nothing else has either.
    async fn check_journal(&self, cell: &Cell<'_>, got: &Got, falls_back: bool) -> Result<(), String> {
        let served = |lines: &[Value]| -> Vec<Value> {
            let is = |line: &&Value| line["llm"] == cell.llm.as_str() && line["outcome"] == "served";
            lines.iter().filter(is).cloned().collect()
        };
        let Got::Answer { tokens, .. } = got else {
            let lines = served(&self.deployment.agent.journal());
            return if lines.is_empty() { Ok(()) } else { Err(format!("served, by its journal: {lines:?}")) };
        };
        if !falls_back {
            return Ok(());
        }
        let (lines, ended) = eventually("the end is in the journal", async || {
            let all = self.deployment.agent.journal();
            let lines = served(&all);
            let request = &lines.first()?["request"];
            let ended =
                all.iter().find(|line| line["event"] == "ended" && line["request"] == *request)?.clone();
            Some((lines, ended))
        })
        .await;
        let count = |key: &str| ended[key].as_u64().unwrap_or_default();
        let expected = json!(["ok", tokens.input, tokens.output, 0]);
        let ended = json!([ended["outcome"], count("inputTokens"), count("outputTokens"), ended["cost"]]);
        if lines.len() == 1 && ended == expected {
            Ok(())
        } else {
            Err(format!("{lines:?} and {ended} instead of one and {expected}"))
        }
    }
}

/// Whether an error of this status came from the place of the fault; the agent's own are 502 and 504.
const fn is_of_the_place(status: u16) -> bool {
    !matches!(status, 502 | 504)
}

/// The agent's own timeout that a cell's fault runs into.
fn timeout(place: Place, cell: &Cell) -> Option<&'static str> {
    cell.fault.timeout(cell.stream).filter(|_| place == Place::Mcpd)
}

/// The name of the local provider with such a timeout for mcpd.
fn desk(timeout: Option<&str>) -> String {
    timeout.map_or("desk".to_owned(), |timeout| format!("desk-{}", timeout.to_lowercase()))
}

/// The local model under one name for each timeout that a cell's fault runs into at the agent.
fn local_providers(place: Place, cells: &[Cell], server: &ModelServer) -> String {
    let mut llms = BTreeMap::<Option<&str>, Vec<&str>>::new();
    for cell in cells {
        llms.entry(timeout(place, cell)).or_default().push(&cell.llm);
    }
    let item = |(timeout, llms): (Option<&str>, Vec<&str>)| {
        let failover_for = format!("failoverFor: [{}]", llms.join(", "));
        let primary = timeout.map(|timeout| format!("primary: {{timeouts: {{{timeout}: 1s}}}}"));
        let keys: Vec<&str> =
            [Some(failover_for.as_str()), primary.as_deref()].into_iter().flatten().collect();
        openai_item(&desk(timeout), &server.base_url(), &keys)
    };
    llms.into_iter().map(item).collect()
}

fn cells<'a>(faults: &'a [Fault], runs: impl Fn(&Fault, Caller) -> bool) -> Vec<Cell<'a>> {
    let mut cells = Vec::new();
    for (at, fault) in faults.iter().enumerate() {
        for caller in Caller::ALL.into_iter().filter(|caller| runs(fault, *caller)) {
            for (stream, form) in [(false, "whole"), (true, "streamed")] {
                for (allowed, mode) in [(true, "allowed"), (false, "forbidden")] {
                    let llm = format!("f{at}-{}-{form}-{mode}", caller.name());
                    cells.push(Cell { fault, caller, stream, allowed, llm });
                }
            }
        }
    }
    cells
}

async fn run_table(part: &'static str, place: Place, cells: Vec<Cell<'_>>) {
    let world = World::start(place, &cells).await;
    let seen: Vec<_> = stream::iter(&cells)
        .map(async |cell| {
            let seen = world.run(cell).await;
            let checked = world.check(cell, &seen).await;
            (cell, seen.got, checked)
        })
        .buffered(CONCURRENT_CELLS)
        .collect()
        .await;
    let mut table = Cells::new(if place == Place::Provider { "mcplocal" } else { "mcplocal, no mcpd" }, part);
    for (cell, got, checked) in seen {
        let Cell { fault, caller, stream, .. } = *cell;
        table.add(Key { fault: fault.name, mode: cell.mode(), caller, stream }, &got, checked);
    }
    table.finish();
}

#[tokio::test]
async fn every_fault_behind_mcpd_falls_back_where_allowed() {
    let faults = faults::all();
    run_table("behind-mcpd", Place::Provider, cells(&faults, |_, _| true)).await;
}

/// A fault in place of mcpd: the agent repeats a request only where no byte of it was answered, and takes a refusal for mcpd's own.
fn in_place_of_mcpd(fault: Fault) -> Fault {
    let of_status = |status, class| (1, Error(status, class), Error(status, class));
    let silent = Error(504, "no_response");
    let unreadable = Error(502, "server_error");
    let (attempts, whole, streamed) = match fault.name {
        "reset" => (2, Error(502, "connect"), Error(502, "connect")),
        "429 with Retry-After" | "429 with a long Retry-After" | "429 without Retry-After" => {
            of_status(429, "quota")
        }
        "500 once" => of_status(500, "server_error"),
        "503 for ever" | "flapping" => of_status(503, "server_error"),
        "no response" => (1, silent, silent),
        "slow first token" => (1, silent, Error(504, "no_first_token")),
        "stall" => (1, silent, Broken),
        "cut" | "malformed event, then cut" | "error in the stream" => (1, unreadable, Broken),
        "malformed event, then on" => (1, unreadable, Answer),
        "no [DONE]" => (1, Answer, Answer),
        "refused credential" => of_status(401, "denied"),
        "unknown model" => of_status(404, "denied"),
        "context length" => of_status(400, "context_length"),
        "content filter" => of_status(400, "rejected"),
        other => panic!("no end for the fault `{other}`"),
    };
    let end = |kind| End { attempts, kind };
    Fault { whole: end(whole), streamed: end(streamed), ..fault }
}

/// Scripted errors, and those in a stream, are in OpenAI's shape.
fn is_in_shape(fault: &Fault, caller: Caller) -> bool {
    let in_shape = |kind: EndKind| !matches!(kind, Error(status, _) if is_of_the_place(status));
    let of_openai = ["error in the stream", "no [DONE]"].contains(&fault.name);
    caller == Caller::Chat || in_shape(fault.whole.kind) && !of_openai
}

#[tokio::test]
async fn every_fault_in_place_of_mcpd_falls_back_where_allowed() {
    let page = Reply::status(200, "<html>Log in</html>").header("content-type", "text/html");
    let unreadable = End { attempts: 1, kind: Error(502, "server_error") };
    let page = Fault {
        name: "page of a proxy",
        replies: vec![page],
        timeout: None,
        whole: unreadable,
        streamed: unreadable,
    };
    let faults = faults::all().into_iter().filter(|fault| !fault.replies.is_empty()).map(in_place_of_mcpd);
    let faults: Vec<Fault> = faults.chain([page]).collect();
    run_table("in-place-of-mcpd", Place::Mcpd, cells(&faults, is_in_shape)).await;
}

#[tokio::test]
async fn mcpd_that_is_gone_falls_back_where_allowed() {
    let faults: Vec<Fault> = faults::all().into_iter().filter(|fault| fault.replies.is_empty()).collect();
    run_table("without-mcpd", Place::Nothing, cells(&faults, |_, _| true)).await;
}

/// The kill comes after the first words have arrived, which is too late for a local model.
#[tokio::test]
async fn inv_13_killed_mcpd_breaks_streams_in_every_dialect() {
    let mut deployment = Deployment::start().await;
    deployment.mcpd.llm_with_default_timeouts("claude", &deployment.provider.base_url()).await;
    deployment.provider.set_default(Reply::text(ANSWER).gate_after(3, &Gate::new()));
    let mut streams = Vec::new();
    for caller in Caller::ALL {
        let body = caller.body("claude", true, "Count.");
        let request = deployment.agent.request(Method::POST, caller.path(), &deployment.alice).json(&body);
        let mut answer = request.send().await.unwrap();
        let mut begun = String::new();
        while !begun.contains("three") {
            begun.push_str(std::str::from_utf8(&answer.chunk().await.unwrap().unwrap()).unwrap());
        }
        streams.push((caller, begun, answer));
    }
    deployment.mcpd.kill();
    for (caller, begun, answer) in streams {
        let rest = answer.text().await.unwrap();
        let got = caller.read_stream(&format!("{begun}{rest}"));
        assert!(matches!(&got, Got::Broken { text } if text == "one two three "), "{caller:?}: {got:?}");
    }
    assert!(deployment.desk.inferences().is_empty());
}
