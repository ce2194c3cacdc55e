//! Runs `stele_rpc::fuzzing::fuzz_rpc_frame`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stele_rpc::fuzzing::fuzz_rpc_frame(data));
