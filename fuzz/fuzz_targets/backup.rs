//! Runs `stele_metadata::fuzzing::fuzz_backup`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stele_metadata::fuzzing::fuzz_backup(data));
