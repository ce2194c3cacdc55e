//! Runs `stele_s3_gateway::fuzzing::fuzz_form`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stele_s3_gateway::fuzzing::fuzz_form(data));
