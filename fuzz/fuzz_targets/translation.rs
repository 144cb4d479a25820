//! libFuzzer's entry; the target is `mcpctl_fuzz::translation`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mcpctl_fuzz::translation::run(data));
