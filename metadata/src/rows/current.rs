//! What a listing shows of the current version of a key. A fixed layout instead of MessagePack: one
//! page decodes a thousand of these, and they are most of its cost.
//!
//! Layout, big-endian: u8 version (1) | u8 flags (1: null version) | u64 commit sequence | u64 nonce |
//! u64 commit time | u64 bytes | 16 bytes MD5 of the ETag | u16 parts | for each checksum known:
//! u8 algorithm, u8 what it covers.

use stele_rpc::meta::ListedKey;
use stele_types::ids::{CommitSeq, VersionId};
use stele_types::object::{ChecksumAlgorithm, ChecksumType, ETag};
use stele_types::seam::UnixMillis;

use super::{VersionRow, corrupt};
use crate::kv::{KvRead, KvResult};

const VERSION: u8 = 1;
const NULL_VERSION: u8 = 1;

/// What a listing shows of the current version of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CurrentRow {
    /// The version.
    pub id: VersionId,
    /// Shown as `null`.
    pub null_version: bool,
    /// Commit time.
    pub modified: UnixMillis,
    /// Bytes.
    pub len: u64,
    /// ETag.
    pub etag: ETag,
    /// Checksums known.
    pub checksums: Vec<(ChecksumAlgorithm, ChecksumType)>,
}

const ALGORITHMS: [(ChecksumAlgorithm, u8); 10] = [
    (ChecksumAlgorithm::Crc32, 1),
    (ChecksumAlgorithm::Crc32c, 2),
    (ChecksumAlgorithm::Crc64Nvme, 3),
    (ChecksumAlgorithm::Sha1, 4),
    (ChecksumAlgorithm::Sha256, 5),
    (ChecksumAlgorithm::Sha512, 6),
    (ChecksumAlgorithm::Md5, 7),
    (ChecksumAlgorithm::XxHash64, 8),
    (ChecksumAlgorithm::XxHash3, 9),
    (ChecksumAlgorithm::XxHash128, 10),
];
const SCOPES: [(ChecksumType, u8); 2] = [(ChecksumType::FullObject, 0), (ChecksumType::Composite, 1)];

fn number<T: PartialEq>(table: &[(T, u8)], value: &T) -> u8 {
    table.iter().find(|(known, _)| known == value).map_or(u8::MAX, |(_, number)| *number)
}

fn value<T: Copy>(table: &[(T, u8)], number: u8) -> Option<T> {
    table.iter().find(|(_, known)| *known == number).map(|(value, _)| *value)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(*taken)
}

fn take_u64(rest: &mut &[u8]) -> Option<u64> {
    take(rest).map(u64::from_be_bytes)
}

impl CurrentRow {
    /// From the version it describes.
    pub fn of(row: &VersionRow, seq: CommitSeq) -> Self {
        Self {
            id: VersionId { commit_seq: seq, nonce: row.nonce },
            null_version: row.null_version,
            modified: row.modified,
            len: row.len,
            etag: row.etag,
            checksums: row.checksums.iter().map(|c| (c.algorithm, c.kind)).collect(),
        }
    }

    /// The row's value.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(52 + 2 * self.checksums.len());
        out.extend_from_slice(&[VERSION, if self.null_version { NULL_VERSION } else { 0 }]);
        for number in [self.id.commit_seq.0, self.id.nonce, self.modified, self.len] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&self.etag.md5.to_be_bytes());
        out.extend_from_slice(&self.etag.parts.to_be_bytes());
        for (algorithm, scope) in &self.checksums {
            out.extend_from_slice(&[number(&ALGORITHMS, algorithm), number(&SCOPES, scope)]);
        }
        out
    }

    /// Reads a row found under `key`.
    ///
    /// # Errors
    /// The bytes are damaged.
    pub fn decode(key: &[u8], bytes: &[u8]) -> KvResult<Self> {
        Self::parse(bytes).ok_or_else(|| corrupt(key, "a current version's row"))
    }

    fn parse(mut bytes: &[u8]) -> Option<Self> {
        let rest = &mut bytes;
        let [VERSION, flags] = take(rest)? else { return None };
        if flags & !NULL_VERSION != 0 {
            return None;
        }
        let id = VersionId { commit_seq: CommitSeq(take_u64(rest)?), nonce: take_u64(rest)? };
        let (modified, len) = (take_u64(rest)?, take_u64(rest)?);
        let etag = ETag { md5: u128::from_be_bytes(take(rest)?), parts: u16::from_be_bytes(take(rest)?) };
        let mut checksums = Vec::new();
        while !rest.is_empty() {
            let [algorithm, scope] = take(rest)?;
            checksums.push((value(&ALGORITHMS, algorithm)?, value(&SCOPES, scope)?));
        }
        Some(Self { id, null_version: flags == NULL_VERSION, modified, len, etag, checksums })
    }

    /// Reads the row under `key`.
    ///
    /// # Errors
    /// The engine failed or the row is damaged.
    pub fn load(rows: &(impl KvRead + ?Sized), key: &[u8]) -> KvResult<Option<Self>> {
        rows.get(key)?.map(|bytes| Self::decode(key, &bytes)).transpose()
    }

    /// What a listing shows.
    pub fn into_listed(self, key: String) -> ListedKey {
        ListedKey {
            key,
            id: self.id,
            null_version: self.null_version,
            latest: true,
            delete_marker: false,
            modified: self.modified,
            len: self.len,
            etag: etag_text(self.etag),
            checksums: self.checksums,
        }
    }
}

/// The ETag as text, as its `Display` prints it, without the formatting machinery.
pub(super) fn etag_text(etag: ETag) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    if etag.parts > 0 {
        return etag.to_string();
    }
    let mut text = Vec::with_capacity(32);
    for byte in etag.md5.to_be_bytes() {
        text.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    String::from_utf8(text).expect("hex digits are ASCII")
}
