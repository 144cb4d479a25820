//! The wire languages of model servers: what a request asks for, what an answer and each event of a
//! stream carry, and the framing of those events. It reads the few fields the product decides by and
//! leaves every other byte as it came; it opens no connection and decides nothing.

pub mod lenient;
pub mod openai;
pub mod sse;

mod members;
