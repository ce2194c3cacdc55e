//! Runs `stele_types::segment::fuzz_record`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stele_types::segment::fuzz_record(data));
