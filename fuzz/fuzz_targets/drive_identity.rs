//! Runs `stele_storage_node::identity::fuzz_identity`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stele_storage_node::identity::fuzz_identity(data));
