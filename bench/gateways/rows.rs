//! What is measured: requests of a kind, and how they are offered.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::messages::{conversation, image, question};

/// The name that every system knows the model by.
pub const MODEL: &str = "bench";

/// Streams that are held open at most.
const MAX_HELD: usize = 10_000;
/// Open files of a process besides its streams.
const OTHER_DESCRIPTORS: u64 = 1000;

/// A row, as it is chosen on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum RowName {
    /// A chat of 0.2 KB, answered whole
    Small,
    /// A chat of 110 KB, answered whole
    Large,
    /// A chat with an image of 1 MB
    Image,
    /// Events of 64 streams, one every 5 ms in each
    Event,
    /// Events of 1,000 streams, one every 100 ms in each
    Streams,
    /// A request in the dialect of Messages to a model server that speaks chat completions
    Messages,
    /// One caller, whose next request waits for the answer to the last
    One,
    /// 500 requests a second, whatever their answers take
    Paced,
    /// 10,000 streams without events, or as many as the limit of open files allows
    Idle,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Request,
    Event,
    /// Memory of a stream.
    Stream,
}

/// How requests are offered.
#[derive(Debug, Clone, Copy)]
pub enum Offer {
    /// So many callers, each of whom sends the next request after the answer.
    Callers(usize),
    /// So many requests a second.
    PerSecond(u32),
    /// So many streams that stay open.
    Held(usize),
}

/// The most that a system of ours may take.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// Processor time per unit, over that of the pass-through.
    Ratio(f64),
    /// Times beyond those without a system between: the median, and the 99th percentile.
    Added { p50: Option<Duration>, p99: Duration },
    /// Memory per unit, bytes.
    Bytes(u64),
}

/// One row.
pub struct Row {
    pub name: RowName,
    pub unit: Unit,
    pub path: &'static str,
    pub body: Bytes,
    pub offer: Offer,
    pub target: Option<Target>,
}

/// The chosen rows; all where none was chosen. Each end of a stream is one of the `descriptors` that a process may open.
pub fn chosen(names: &[RowName], descriptors: u64) -> Vec<Row> {
    let all = <RowName as clap::ValueEnum>::value_variants();
    let names = if names.is_empty() { all } else { names };
    let held = usize::try_from(descriptors.saturating_sub(OTHER_DESCRIPTORS) / 2).unwrap_or(usize::MAX);
    names.iter().map(|name| row(*name, held.min(MAX_HELD))).collect()
}

fn row(name: RowName, held: usize) -> Row {
    const CHAT: &str = "/v1/chat/completions";
    let added = |p50, p99| Some(Target::Added { p50, p99 });
    let (unit, path, body, offer, target) = match name {
        RowName::Small => {
            (Unit::Request, CHAT, chat(&question(60)), Offer::Callers(32), Some(Target::Ratio(1.6)))
        }
        RowName::Large => (
            Unit::Request,
            CHAT,
            chat(&conversation(110 << 10)),
            Offer::Callers(32),
            Some(Target::Ratio(1.4)),
        ),
        RowName::Image => (Unit::Request, CHAT, chat(&image(1 << 20)), Offer::Callers(8), None),
        RowName::Event => (Unit::Event, CHAT, stream(400, 5), Offer::Callers(64), Some(Target::Ratio(1.25))),
        RowName::Streams => {
            (Unit::Event, CHAT, stream(50, 100), Offer::Callers(1000), Some(Target::Ratio(1.25)))
        }
        RowName::Messages => (Unit::Request, "/v1/messages", messages(), Offer::Callers(32), None),
        RowName::One => (
            Unit::Request,
            CHAT,
            chat(&question(60)),
            Offer::Callers(1),
            added(Some(Duration::from_micros(150)), Duration::from_millis(1)),
        ),
        RowName::Paced => (
            Unit::Request,
            CHAT,
            chat(&question(60)),
            Offer::PerSecond(500),
            added(None, Duration::from_micros(500)),
        ),
        RowName::Idle => {
            // Its second event comes after the measurement.
            (Unit::Stream, CHAT, stream(2, 600_000), Offer::Held(held), Some(Target::Bytes(12 << 10)))
        }
    };
    Row { name, unit, path, body, offer, target }
}

fn chat(messages: &Value) -> Bytes {
    bytes(&json!({"model": MODEL, "messages": messages, "max_tokens": 16, "temperature": 0.7}))
}

/// A stream of so many events, with so many milliseconds between them.
fn stream(events: usize, pace: u64) -> Bytes {
    bytes(&json!({
        "model": MODEL, "messages": question(60), "stream": true, "max_tokens": events, "seed": pace,
        "stream_options": {"include_usage": true},
    }))
}

fn messages() -> Bytes {
    bytes(&json!({"model": MODEL, "messages": question(60), "max_tokens": 16, "system": "Be brief."}))
}

fn bytes(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}
