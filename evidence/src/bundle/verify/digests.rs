//! The digests that a record carries besides the object root, computed over whole bytes as they pass.

use crc_fast::CrcAlgorithm;
use sha2::Digest as Hasher;
use stele_types::object::{ChecksumAlgorithm, ChecksumType};
use xxhash_rust::xxh3::Xxh3;
use xxhash_rust::xxh64::Xxh64;

use crate::bundle::claims::{Claim, Question, Text};
use crate::record::{Digest, Record};

/// A digest of the bytes seen so far.
trait Running {
    fn update(&mut self, bytes: &[u8]);
    fn finish(self: Box<Self>) -> Vec<u8>;
}

/// MD5 and the SHA family.
struct Hash<D>(D);

impl<D: Hasher> Running for Hash<D> {
    fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(self: Box<Self>) -> Vec<u8> {
        self.0.finalize().to_vec()
    }
}

impl Running for blake3::Hasher {
    fn update(&mut self, bytes: &[u8]) {
        blake3::Hasher::update(self, bytes);
    }

    fn finish(self: Box<Self>) -> Vec<u8> {
        self.finalize().as_bytes().to_vec()
    }
}

/// A CRC and how many bytes it has.
struct Crc(crc_fast::Digest, usize);

impl Running for Crc {
    fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(self: Box<Self>) -> Vec<u8> {
        let wide = self.0.finalize().to_be_bytes();
        wide.get(8usize.saturating_sub(self.1)..).unwrap_or_default().to_vec()
    }
}

impl Running for Xxh64 {
    fn update(&mut self, bytes: &[u8]) {
        Xxh64::update(self, bytes);
    }

    fn finish(self: Box<Self>) -> Vec<u8> {
        self.digest().to_be_bytes().to_vec()
    }
}

/// XXH3, and whether it is the one of 128 bits.
struct Xxh(Xxh3, bool);

impl Running for Xxh {
    fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(self: Box<Self>) -> Vec<u8> {
        if self.1 { self.0.digest128().to_be_bytes().to_vec() } else { self.0.digest().to_be_bytes().to_vec() }
    }
}

fn start(algorithm: ChecksumAlgorithm) -> Box<dyn Running> {
    let crc = |algorithm, bytes| Box::new(Crc(crc_fast::Digest::new(algorithm), bytes));
    match algorithm {
        ChecksumAlgorithm::Crc32 => crc(CrcAlgorithm::Crc32IsoHdlc, 4),
        ChecksumAlgorithm::Crc32c => crc(CrcAlgorithm::Crc32Iscsi, 4),
        ChecksumAlgorithm::Crc64Nvme => crc(CrcAlgorithm::Crc64Nvme, 8),
        ChecksumAlgorithm::Sha1 => Box::new(Hash(sha1::Sha1::new())),
        ChecksumAlgorithm::Sha256 => Box::new(Hash(sha2::Sha256::new())),
        ChecksumAlgorithm::Sha512 => Box::new(Hash(sha2::Sha512::new())),
        ChecksumAlgorithm::Md5 => Box::new(Hash(md5::Md5::new())),
        ChecksumAlgorithm::XxHash64 => Box::new(Xxh64::new(0)),
        ChecksumAlgorithm::XxHash3 => Box::new(Xxh(Xxh3::new(), false)),
        ChecksumAlgorithm::XxHash128 => Box::new(Xxh(Xxh3::new(), true)),
    }
}

const fn name(algorithm: ChecksumAlgorithm) -> &'static str {
    match algorithm {
        ChecksumAlgorithm::Crc32 => "CRC-32",
        ChecksumAlgorithm::Crc32c => "CRC-32C",
        ChecksumAlgorithm::Crc64Nvme => "CRC-64/NVME",
        ChecksumAlgorithm::Sha1 => "SHA-1",
        ChecksumAlgorithm::Sha256 => "SHA-256",
        ChecksumAlgorithm::Sha512 => "SHA-512",
        ChecksumAlgorithm::Md5 => "MD5",
        ChecksumAlgorithm::XxHash64 => "XXH64",
        ChecksumAlgorithm::XxHash3 => "XXH3-64",
        ChecksumAlgorithm::XxHash128 => "XXH3-128",
    }
}

/// One digest of a record: its name, its value, and the algorithm if it is over the whole body.
struct Known {
    name: &'static str,
    value: Vec<u8>,
    running: Option<Box<dyn Running>>,
}

fn known(record: &Record) -> Vec<Known> {
    let body = record.body_hash.iter().map(|hash| Known {
        name: "BLAKE3",
        value: hash.as_bytes().to_vec(),
        running: Some(Box::new(blake3::Hasher::new())),
    });
    let others = record.digests.iter().map(|digest| match digest {
        Digest::ETag { md5, parts: 0 } => {
            Known { name: "MD5 (ETag)", value: md5.to_vec(), running: Some(start(ChecksumAlgorithm::Md5)) }
        }
        Digest::ETag { md5, .. } => Known { name: "MD5 of parts (ETag)", value: md5.to_vec(), running: None },
        Digest::Checksum { algorithm, kind, value } => {
            let whole = *kind == ChecksumType::FullObject;
            Known { name: name(*algorithm), value: value.clone(), running: whole.then(|| start(*algorithm)) }
        }
    });
    body.chain(others).collect()
}

/// Names and values in hexadecimal, for the report.
pub(super) fn listed(record: &Record) -> Vec<(String, String)> {
    known(record).into_iter().map(|known| (known.name.to_owned(), hex::encode(&known.value))).collect()
}

/// All digests of a record that can be computed over a whole body.
pub(super) struct BodyDigests(Vec<Known>);

impl BodyDigests {
    pub(super) fn new(record: &Record) -> Self {
        Self(known(record))
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        for running in self.0.iter_mut().filter_map(|known| known.running.as_mut()) {
            running.update(bytes);
        }
    }

    /// A claim for each digest, after the whole body of the file passed.
    pub(super) fn claims(self, file: &str) -> Vec<Claim> {
        self.0.into_iter().map(|known| judge(known, file)).collect()
    }
}

fn judge(known: Known, file: &str) -> Claim {
    let Known { name, value, running } = known;
    let Some(running) = running else {
        let why = Text::new(
            format!("{name}: covers the parts of an upload, and the bundle does not say where they end"),
            format!("{name}：覆盖分段上传的各段，而证据包未载明各段边界"),
        );
        return Claim::not_checked(Question::Digest, why).of(file, name);
    };
    let found = running.finish();
    if found == value {
        Claim::agrees(Question::Digest, Text::new(format!("{name} agrees"), format!("{name} 一致"))).of(file, name)
    } else {
        let (says, is) = (hex::encode(&value), hex::encode(&found));
        let text = Text::new(
            format!("{name}: the record says {says}, the bytes have {is}"),
            format!("{name}：记录为 {says}，数据为 {is}"),
        );
        Claim::differs(Question::Digest, text).of(file, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Published check values of `123456789`, and of the empty text for XXH.
    #[test]
    fn known_vectors() {
        for (algorithm, input, expected) in [
            (ChecksumAlgorithm::Crc32, "123456789", "cbf43926"),
            (ChecksumAlgorithm::Crc32c, "123456789", "e3069283"),
            (ChecksumAlgorithm::Crc64Nvme, "123456789", "ae8b14860a799888"),
            (ChecksumAlgorithm::Md5, "123456789", "25f9e794323b453885f5181f1b624d0b"),
            (ChecksumAlgorithm::Sha1, "123456789", "f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
            (ChecksumAlgorithm::Sha256, "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (ChecksumAlgorithm::XxHash64, "", "ef46db3751d8e999"),
            (ChecksumAlgorithm::XxHash3, "", "2d06800538d394c2"),
            (ChecksumAlgorithm::XxHash128, "", "99aa06d3014798d86001c324468d497f"),
        ] {
            let mut running = start(algorithm);
            running.update(input.as_bytes());
            assert_eq!(hex::encode(running.finish()), expected, "{}", name(algorithm));
        }
    }
}
