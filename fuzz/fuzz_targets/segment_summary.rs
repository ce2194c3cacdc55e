//! Runs `stele_storage_node::drive::fuzz_summary`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stele_storage_node::drive::fuzz_summary(data));
