//! libFuzzer's entry; the target is `mcpctl_fuzz::token`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mcpctl_fuzz::token::run(data));
