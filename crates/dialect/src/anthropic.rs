//! Anthropic's messages and their token counts, as Anthropic and compatible servers (vLLM, llama.cpp) write them.

pub mod answer;
pub mod error;
pub mod event;
pub mod request;

pub(crate) mod count;
