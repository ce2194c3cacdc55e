//! Content for this crate's tests: the same bytes for the same seed, everywhere.

/// `len` bytes that no compressor would shorten.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0u8; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut out);
    out
}

/// `len` bytes with long runs and repetitions, as tables and logs have.
pub(crate) fn lumpy(seed: u64, len: usize) -> Vec<u8> {
    let dice = noise(seed, 4096);
    let mut out = Vec::with_capacity(len + 70_000);
    let mut at = 0usize;
    while out.len() < len {
        let pick = |n: usize| usize::from(dice[(at + n) % dice.len()]);
        match pick(0) % 3 {
            0 => out.extend(std::iter::repeat_n(dice[at % dice.len()], pick(1) * 256)),
            1 => out.extend_from_slice(&dice[..pick(1) * 16]),
            _ => out.extend(noise(at as u64, pick(1) * 128)),
        }
        at += 2;
    }
    out.truncate(len);
    out
}
