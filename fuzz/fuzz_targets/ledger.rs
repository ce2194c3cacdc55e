//! Runs `stele_evidence::fuzzing::fuzz_ledger`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stele_evidence::fuzzing::fuzz_ledger(data));
