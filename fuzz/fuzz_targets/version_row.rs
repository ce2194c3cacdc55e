//! Runs `stele_types::fuzzing::fuzz_version_row`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stele_types::fuzzing::fuzz_version_row(data));
