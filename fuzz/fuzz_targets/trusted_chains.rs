//! Runs `stele_evidence::fuzzing::fuzz_trusted_chains`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stele_evidence::fuzzing::fuzz_trusted_chains(data));
