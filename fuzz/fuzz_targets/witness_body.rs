//! Runs `stele_evidence::fuzzing::fuzz_witness_body`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stele_evidence::fuzzing::fuzz_witness_body(data));
