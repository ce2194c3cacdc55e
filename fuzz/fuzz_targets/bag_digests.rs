//! Runs `stele_evidence::fuzzing::fuzz_bag_digests`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stele_evidence::fuzzing::fuzz_bag_digests(data));
