//! Reads OpenAI's Responses API: of a request the fields that decisions depend on, of a stream what each event means, of a
//! whole answer which model gave it and at what cost. It keeps no text; `translate/responses` is what reads all of it.

pub mod answer;
pub mod event;

pub(crate) mod request;
