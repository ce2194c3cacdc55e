//! Runs `stele_chunker::fuzzing::fuzz_range_proof`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stele_chunker::fuzzing::fuzz_range_proof(data));
