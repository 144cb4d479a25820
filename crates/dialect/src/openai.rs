//! OpenAI's chat completions, completions, embeddings and responses, as OpenAI and compatible servers (vLLM, llama.cpp, Ollama,
//! LM Studio) write them.

pub mod error;
pub mod responses;

pub(crate) mod event;
pub(crate) mod request;
pub(crate) mod usage;

mod chunk;
mod messages;
