//! Runs `stele_chunker::fuzzing::fuzz_coder`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stele_chunker::fuzzing::fuzz_coder(data));
