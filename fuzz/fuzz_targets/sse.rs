//! libFuzzer's entry; the target is `mcpctl_fuzz::sse`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mcpctl_fuzz::sse::run(data));
