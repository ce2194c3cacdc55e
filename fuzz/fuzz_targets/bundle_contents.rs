//! Runs `stele_evidence::fuzzing::fuzz_bundle_contents`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stele_evidence::fuzzing::fuzz_bundle_contents(data));
