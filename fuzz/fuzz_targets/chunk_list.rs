//! Runs `stele_types::fuzzing::fuzz_chunk_list`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stele_types::fuzzing::fuzz_chunk_list(data));
