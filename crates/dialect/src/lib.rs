//! Parses the wire formats of model servers: requests, answers, stream events, and the framing of those events.
//! It reads only the fields that decisions depend on and leaves every other byte unchanged. It opens no connection
//! and makes no decision.

pub mod anthropic;
pub mod error;
pub mod keys;
pub mod lenient;
pub mod meaning;
mod openai;
pub mod sse;
mod text_tokens;
mod texts;
pub mod translate;
pub mod usage;

mod event;
mod fields;
mod form;
mod members;
mod object;
mod operation;
mod presence;
mod read;
mod request;
mod request_error;
mod scanner;
mod wants;

pub use event::{AnswerBody, Event, EventMeaning};
pub use form::Form;
pub use operation::{Dialect, ExtraOperations, Operation};
pub use read::{EventReader, data_only};
pub use request::Request;
pub use request_error::RequestError;
pub use wants::Wants;
