//! One attempt at one model server: send the request, tell an answer from a failure, hand on the stream. The
//! failure has a class from `CONTRACT.md`, "What fails over". Retries, failing over and accounting are decided
//! elsewhere; nothing here tries twice.

mod addresses;
mod answer;
mod attempt;
pub mod classify;
mod client;
mod connect_error;
mod failure;
mod head;
pub mod hops;
mod lookup;
mod peek;
mod reader;
mod redact;
mod request;
mod reuse;
mod screen;
mod target;
mod tls;

pub use self::{
    addresses::{AddressPolicy, RefusedAddress},
    answer::{Answer, Held, StreamAnswer, StreamEvent, StreamEvents, WholeAnswer},
    attempt::send,
    client::{Client, ClientConfig, PrepareConnector},
    failure::Failure,
    request::{Operation, Request},
    target::{AttemptTimeout, AttemptTimeouts, Target, TimeoutKind, UpstreamKind},
};
