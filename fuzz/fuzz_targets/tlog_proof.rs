//! Runs `stele_evidence::fuzzing::fuzz_tlog_proof`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stele_evidence::fuzzing::fuzz_tlog_proof(data));
