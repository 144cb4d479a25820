//! OpenAI's Responses API, as callers speak it: reads their requests, and writes answers, streams and errors for them. No
//! provider is asked in it by translation, so nothing here writes requests or reads answers.
//!
//! It keeps no state. A request that refers to what a server keeps (`previous_response_id`, `conversation`, `prompt`, `store`,
//! `background`) is refused by name. `store` is true where a request leaves it out, but official clients never send it and do
//! not depend on it, so an absent `store` is accepted, and the answer shows `store: false`.

mod content;
mod hosted;
mod input;
mod items;
mod reasoning;
mod reply;
mod request;
mod response;
mod settings;
mod state;
mod stream;
mod tools;

pub use self::{
    reply::{error_body, error_event, write_reply},
    request::read_request,
    stream::StreamWriter,
};
