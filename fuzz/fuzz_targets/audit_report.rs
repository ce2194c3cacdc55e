//! Runs `stele_evidence::fuzzing::fuzz_audit_report`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stele_evidence::fuzzing::fuzz_audit_report(data));
