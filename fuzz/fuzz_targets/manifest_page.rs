//! Manifest pages: the codec, then checking and walking what decodes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    stele_types::fuzzing::fuzz_manifest_page(data);
    stele_chunker::fuzzing::fuzz_manifest_walk(data);
});
