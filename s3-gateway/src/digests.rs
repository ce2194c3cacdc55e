//! Digests of a body besides BLAKE3: MD5 for the ETag, and the checksums a request needs.

use bytes::Bytes;
use crc_fast::CrcAlgorithm;
use md5::{Digest as _, Md5};
use sha1::Sha1;
use sha2::{Sha256, Sha512};
use stele_types::object::{Checksum, ChecksumAlgorithm, ChecksumType};

use crate::api::ExpectedDigests;
use crate::error::{DigestKind, GatewayError};
use xxhash_rust::xxh3::Xxh3;
use xxhash_rust::xxh64::Xxh64;

enum Running {
    Crc(crc_fast::Digest),
    Sha1(Sha1),
    Sha256(Sha256),
    Sha512(Sha512),
    Md5(Md5),
    XxHash64(Xxh64),
    XxHash3(Box<Xxh3>),
    XxHash128(Box<Xxh3>),
}

/// Digests of the bytes seen so far, in order.
pub(crate) struct Digests {
    md5: Md5,
    /// MD5 is wanted as a checksum too.
    md5_too: bool,
    checksums: Vec<(ChecksumAlgorithm, Running)>,
}

/// Digests of a whole body.
#[derive(Clone, Debug)]
pub(crate) struct DigestValues {
    /// MD5.
    pub(crate) md5: [u8; 16],
    checksums: Vec<(ChecksumAlgorithm, Bytes)>,
}

/// How S3 encodes an algorithm's digest: big-endian, of its natural width.
fn crc_bytes(algorithm: ChecksumAlgorithm, value: u64) -> Bytes {
    let wide = value.to_be_bytes();
    match algorithm {
        ChecksumAlgorithm::Crc64Nvme => Bytes::copy_from_slice(&wide),
        _ => Bytes::copy_from_slice(&wide[4..]),
    }
}

const fn crc_algorithm(algorithm: ChecksumAlgorithm) -> Option<CrcAlgorithm> {
    match algorithm {
        ChecksumAlgorithm::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
        ChecksumAlgorithm::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
        ChecksumAlgorithm::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
        _ => None,
    }
}

fn start(algorithm: ChecksumAlgorithm) -> Running {
    match algorithm {
        ChecksumAlgorithm::Crc32 => Running::Crc(crc_fast::Digest::new(CrcAlgorithm::Crc32IsoHdlc)),
        ChecksumAlgorithm::Crc32c => Running::Crc(crc_fast::Digest::new(CrcAlgorithm::Crc32Iscsi)),
        ChecksumAlgorithm::Crc64Nvme => Running::Crc(crc_fast::Digest::new(CrcAlgorithm::Crc64Nvme)),
        ChecksumAlgorithm::Sha1 => Running::Sha1(Sha1::new()),
        ChecksumAlgorithm::Sha256 => Running::Sha256(Sha256::new()),
        ChecksumAlgorithm::Sha512 => Running::Sha512(Sha512::new()),
        ChecksumAlgorithm::Md5 => Running::Md5(Md5::new()),
        ChecksumAlgorithm::XxHash64 => Running::XxHash64(Xxh64::new(0)),
        ChecksumAlgorithm::XxHash3 => Running::XxHash3(Box::new(Xxh3::new())),
        ChecksumAlgorithm::XxHash128 => Running::XxHash128(Box::new(Xxh3::new())),
    }
}

/// Digest of `bytes`, as S3 encodes it.
pub(crate) fn checksum_of(algorithm: ChecksumAlgorithm, bytes: &[u8]) -> Bytes {
    let mut running = start(algorithm);
    update(&mut running, bytes);
    finish(algorithm, running)
}

fn update(running: &mut Running, bytes: &[u8]) {
    match running {
        Running::Crc(crc) => crc.update(bytes),
        Running::Sha1(sha) => sha.update(bytes),
        Running::Sha256(sha) => sha.update(bytes),
        Running::Sha512(sha) => sha.update(bytes),
        Running::Md5(md5) => md5.update(bytes),
        Running::XxHash64(hash) => hash.update(bytes),
        Running::XxHash3(hash) | Running::XxHash128(hash) => hash.update(bytes),
    }
}

fn finish(algorithm: ChecksumAlgorithm, running: Running) -> Bytes {
    match running {
        Running::Crc(crc) => crc_bytes(algorithm, crc.finalize()),
        Running::Sha1(sha) => Bytes::copy_from_slice(&sha.finalize()),
        Running::Sha256(sha) => Bytes::copy_from_slice(&sha.finalize()),
        Running::Sha512(sha) => Bytes::copy_from_slice(&sha.finalize()),
        Running::Md5(md5) => Bytes::copy_from_slice(&md5.finalize()),
        Running::XxHash64(hash) => Bytes::copy_from_slice(&hash.digest().to_be_bytes()),
        Running::XxHash3(hash) => Bytes::copy_from_slice(&hash.digest().to_be_bytes()),
        Running::XxHash128(hash) => Bytes::copy_from_slice(&hash.digest128().to_be_bytes()),
    }
}

impl Digests {
    /// MD5 and the listed checksums.
    pub(crate) fn new(wanted: &[ChecksumAlgorithm]) -> Self {
        let mut algorithms = wanted.to_vec();
        algorithms.sort_unstable();
        algorithms.dedup();
        let md5_too = algorithms.contains(&ChecksumAlgorithm::Md5);
        algorithms.retain(|algorithm| *algorithm != ChecksumAlgorithm::Md5);
        Self { md5: Md5::new(), md5_too, checksums: algorithms.into_iter().map(|a| (a, start(a))).collect() }
    }

    /// Appends bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        for (_, running) in &mut self.checksums {
            update(running, bytes);
        }
    }

    /// The digests.
    pub(crate) fn finish(self) -> DigestValues {
        let md5: [u8; 16] = self.md5.finalize().into();
        let mut checksums: Vec<_> = self.checksums.into_iter().map(|(a, running)| (a, finish(a, running))).collect();
        if self.md5_too {
            checksums.push((ChecksumAlgorithm::Md5, Bytes::copy_from_slice(&md5)));
        }
        DigestValues { md5, checksums }
    }
}

/// What a request needs computed: what it expects, announces as a trailer, or asks for.
pub(crate) fn wanted(expected: &ExpectedDigests, compute: &[ChecksumAlgorithm]) -> Vec<ChecksumAlgorithm> {
    let mut wanted = compute.to_vec();
    wanted.extend(expected.checksums.iter().map(|c| c.algorithm));
    wanted.extend(expected.trailer.iter().map(|t| t.algorithm));
    if expected.sha256.is_some() {
        wanted.push(ChecksumAlgorithm::Sha256);
    }
    wanted.sort_unstable();
    wanted.dedup();
    wanted
}

impl DigestValues {
    fn get(&self, algorithm: ChecksumAlgorithm) -> Option<&Bytes> {
        self.checksums.iter().find(|(a, _)| *a == algorithm).map(|(_, value)| value)
    }

    /// P7: compares every expected digest. Returns the checksums to store.
    ///
    /// # Errors
    /// `DigestMismatch`, `TrailerMissing`.
    pub(crate) fn check(
        &self,
        expected: ExpectedDigests,
        compute: &[ChecksumAlgorithm],
    ) -> Result<Vec<Checksum>, GatewayError> {
        let mut store: Vec<ChecksumAlgorithm> = compute.to_vec();
        if expected.md5.is_some_and(|md5| md5 != self.md5) {
            return Err(GatewayError::DigestMismatch { which: DigestKind::Md5 });
        }
        if let Some(sha256) = expected.sha256
            && self.get(ChecksumAlgorithm::Sha256).is_none_or(|ours| ours.as_ref() != sha256)
        {
            return Err(GatewayError::DigestMismatch { which: DigestKind::PayloadSha256 });
        }
        for checksum in &expected.checksums {
            self.compare(checksum.algorithm, &checksum.value)?;
            store.push(checksum.algorithm);
        }
        if let Some(trailer) = expected.trailer {
            let value = (trailer.value)().ok_or(GatewayError::TrailerMissing)?;
            self.compare(trailer.algorithm, &value)?;
            store.push(trailer.algorithm);
        }
        store.sort_unstable();
        store.dedup();
        let full = |algorithm| {
            let value = self.get(algorithm)?.clone();
            Some(Checksum { algorithm, kind: ChecksumType::FullObject, value })
        };
        Ok(store.into_iter().filter_map(full).collect())
    }

    fn compare(&self, algorithm: ChecksumAlgorithm, theirs: &[u8]) -> Result<(), GatewayError> {
        if self.get(algorithm).is_some_and(|ours| ours.as_ref() == theirs) {
            return Ok(());
        }
        Err(GatewayError::DigestMismatch { which: DigestKind::Checksum(algorithm) })
    }
}

/// Checksum of the concatenation of two pieces, from theirs. `None` if the algorithm can't do that
/// or a value has the wrong width.
pub(crate) fn combine(algorithm: ChecksumAlgorithm, first: &[u8], second: &[u8], second_len: u64) -> Option<Bytes> {
    let crc = crc_algorithm(algorithm)?;
    let number = |bytes: &[u8]| {
        let width = if algorithm == ChecksumAlgorithm::Crc64Nvme { 8 } else { 4 };
        let mut wide = [0u8; 8];
        wide.get_mut(8 - width..)?.copy_from_slice(bytes.get(..width)?);
        (bytes.len() == width).then(|| u64::from_be_bytes(wide))
    };
    let combined = crc_fast::checksum_combine(crc, number(first)?, number(second)?, second_len);
    Some(crc_bytes(algorithm, combined))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ChecksumAlgorithm::{Crc32, Crc32c, Crc64Nvme};

    const ALL: [ChecksumAlgorithm; 10] = ChecksumAlgorithm::ALL;

    #[test]
    fn known_answers_of_the_check_string() {
        let mut digests = Digests::new(&ALL);
        digests.update(b"12345");
        digests.update(b"6789");
        let values = digests.finish();
        assert_eq!(hex::encode(values.md5), "25f9e794323b453885f5181f1b624d0b");
        let known = [
            "cbf43926",
            "e3069283",
            "ae8b14860a799888",
            "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
            "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
            "d9e6762dd1c8eaf6d61b3c6192fc408d4d6d5f1176d0c29169bc24e71c3f274ad27fcd5811b313d681f7e55ec02d73d499c9\
             5455b6b5bb503acf574fba8ffe85",
            "25f9e794323b453885f5181f1b624d0b",
            "8cb841db40e6ae83",
            "72dcb18b67a17dff",
            "33119477ede5dcd5e9716427681d5860",
        ];
        for (algorithm, text) in ALL.into_iter().zip(known) {
            assert_eq!(hex::encode(values.get(algorithm).unwrap()), text, "{algorithm:?}");
            assert_eq!(hex::encode(checksum_of(algorithm, b"123456789")), text);
        }
    }

    #[test]
    fn combined_crcs_equal_those_of_the_whole() {
        let bytes: Vec<u8> = (0..100_000u32).map(|n| (n * 7 + n / 251) as u8).collect();
        for algorithm in [Crc32, Crc32c, Crc64Nvme] {
            for cut in [0, 1, 77, 65_536, 100_000] {
                let (a, b) = bytes.split_at(cut);
                let both = combine(algorithm, &checksum_of(algorithm, a), &checksum_of(algorithm, b), b.len() as u64);
                assert_eq!(both.unwrap(), checksum_of(algorithm, &bytes), "{algorithm:?} {cut}");
            }
        }
        assert!(combine(ChecksumAlgorithm::Sha1, &[0; 20], &[0; 20], 1).is_none());
        assert!(combine(Crc32, &[0; 3], &[0; 4], 1).is_none());
    }

    #[test]
    fn a_wrong_digest_of_any_kind_is_refused() {
        let mut digests = Digests::new(&ALL);
        digests.update(b"body");
        let values = digests.finish();
        for algorithm in ALL {
            let mut value = values.get(algorithm).unwrap().to_vec();
            let checksum = |value: &[u8]| ExpectedDigests {
                checksums: vec![Checksum {
                    algorithm,
                    kind: ChecksumType::FullObject,
                    value: Bytes::copy_from_slice(value),
                }],
                ..Default::default()
            };
            assert_eq!(values.check(checksum(&value), &[]).unwrap().len(), 1);
            value[0] ^= 1;
            assert!(values.check(checksum(&value), &[]).is_err());
        }
        let md5 = ExpectedDigests { md5: Some([0; 16]), ..Default::default() };
        assert!(matches!(values.check(md5, &[]), Err(GatewayError::DigestMismatch { which: DigestKind::Md5 })));
    }
}
