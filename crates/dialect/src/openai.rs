//! OpenAI's chat completions, completions and embeddings, as OpenAI itself and the servers that call
//! themselves compatible speak them (vLLM, llama.cpp, Ollama, LM Studio).

pub mod chunk;
pub mod error;
pub mod keys;
pub mod meaning;
pub mod request;

mod presence;
