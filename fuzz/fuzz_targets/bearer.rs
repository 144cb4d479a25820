//! libFuzzer's entry; the target is `mcpctl_fuzz::bearer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mcpctl_fuzz::bearer::run(data));
