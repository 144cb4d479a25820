//! Everything that travels between the programs: resources, ids, names, errors, headers and the agent's status.
//!
//! Nothing here decides, stores or sends. Every type reads and writes the JSON of the HTTP API and the YAML
//! that people keep in files; a reader for both that keeps line and column is in [`document`].

pub mod activity;
pub mod address;
pub mod agent;
pub mod audit;
pub mod base_url;
pub mod breaker_status;
mod common_keys;
pub mod credential;
mod diagnosis;
pub mod discovery;
pub mod document;
pub mod duration;
pub mod encoding;
pub mod error;
pub mod feed;
pub mod header;
pub mod hint;
pub mod id;
pub mod installation;
pub mod kind;
pub mod labels;
pub mod limit_status;
pub mod llm_test;
pub mod models;
pub mod money;
pub mod name;
pub mod oidc;
pub mod question;
pub mod resource;
pub mod schema;
pub mod selector;
pub mod signing_keys;
pub mod similar;
pub mod spec;
pub mod text;
pub mod throttle;
pub mod token_status;
pub mod usage;
pub mod visible;
pub mod vocabulary;
pub mod yaml;

pub use document::{Document, DocumentError};
pub use duration::HumanDuration;
pub use error::{ApiError, ErrorKind};
pub use hint::{HintedError, MAX_PRINTED_BYTES};
pub use id::Id;
pub use kind::{Kind, Verb};
pub use money::Usd;
pub use name::Name;
pub use resource::{Resource, Revision};
pub use spec::Spec;
