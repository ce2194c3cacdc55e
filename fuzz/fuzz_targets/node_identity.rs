//! Runs `stele_rpc::fuzzing::fuzz_identity`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stele_rpc::fuzzing::fuzz_identity(data));
