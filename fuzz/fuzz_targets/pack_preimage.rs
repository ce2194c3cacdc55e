//! Runs `stele_types::fuzzing::fuzz_pack_preimage`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stele_types::fuzzing::fuzz_pack_preimage(data));
