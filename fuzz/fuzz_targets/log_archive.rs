//! Runs `stele_evidence::fuzzing::fuzz_log_archive`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stele_evidence::fuzzing::fuzz_log_archive(data));
