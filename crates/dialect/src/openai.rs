//! OpenAI's chat completions, completions and embeddings, as OpenAI and compatible servers (vLLM, llama.cpp, Ollama,
//! LM Studio) write them.

pub mod chunk;
pub mod error;
pub mod meaning;
pub mod request;

mod presence;
