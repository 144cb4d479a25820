//! libFuzzer's entry; the target is `mcpctl_fuzz::document`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mcpctl_fuzz::document::run(data));
