//! Runs `stele_s3_gateway::fuzzing::fuzz_document`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stele_s3_gateway::fuzzing::fuzz_document(data));
