//! The behaviours that started the project, on whole daemons over HTTP: real `mcpd`, real `mcplocal`, scripted models.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod access;
mod access_ends;
mod access_signed;
mod breaker;
mod confirmed;
mod dialects;
mod hand_over;
mod mid_stream;
mod primary;
mod probe_proxy;
mod proofs;
mod reload;
mod requests;
mod silence;
mod streams;
mod tls;
