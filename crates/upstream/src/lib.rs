//! One attempt at one model server: sends the request, classifies a failure, forwards the stream. The classes of failures are
//! those of `docs/reference/contract.md`. Retries, failover and accounting are decided elsewhere; nothing here tries twice.

mod addresses;
mod answer;
mod attempt;
mod body;
pub mod classify;
mod client;
mod connect_error;
mod connection;
mod connector;
mod credential_check;
mod document;
mod failure;
mod head;
pub mod hops;
mod lookup;
mod milestones;
mod patience;
mod peek;
mod pool;
mod prepared;
mod progress;
mod reader;
mod redact;
mod request;
mod screen;
mod target;
mod traced;

pub use self::{
    addresses::{AddressPolicy, RefusedAddress},
    answer::{Answer, StreamAnswer, StreamEvent, StreamEvents, WholeAnswer},
    client::{Client, ClientConfig},
    connector::PeerCheck,
    credential_check::{CredentialCheck, check_credential, shown_message},
    document::{DocumentError, DocumentRequest, FetchedDocument, fetch_document},
    failure::Failure,
    milestones::{Milestones, Reached},
    prepared::Target,
    progress::Progress,
    request::Request,
    target::{Api, AttemptTimeout, AttemptTimeouts, Auth, TargetConfig, TimeoutKind, UpstreamKind},
    traced::send,
};
