//! What the tasks of this repository share with its demo: cargo as a child process, the blocks of
//! documents, output for people, and real model servers.

pub mod cargo;
pub mod document;
pub mod engines;
pub mod printer;
