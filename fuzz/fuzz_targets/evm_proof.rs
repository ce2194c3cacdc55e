//! Runs `stele_evidence::fuzzing::fuzz_evm_proof`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stele_evidence::fuzzing::fuzz_evm_proof(data));
