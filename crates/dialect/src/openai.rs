//! OpenAI's chat completions, completions, embeddings and responses, as OpenAI and compatible servers (vLLM, llama.cpp, Ollama,
//! LM Studio) write them.

pub mod chunk;
pub mod error;
pub mod meaning;
pub mod request;
pub mod responses;

pub(crate) mod presence;
