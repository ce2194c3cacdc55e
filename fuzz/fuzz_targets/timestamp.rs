//! Runs `stele_evidence::fuzzing::fuzz_timestamp`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stele_evidence::fuzzing::fuzz_timestamp(data));
