//! What is known of a version besides its bytes: attributes, checksums, preconditions, buckets.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::{
    BodyHash, BucketId, ConfigEpoch, LogIndex, ObjectRoot, OwnerId, RangeEpoch, RangeId, UploadId, VersionId,
};
use crate::manifest::Manifest;
use crate::seam::UnixMillis;

mod cors;
mod headers;
mod lock;
mod precondition;
mod tags;
#[cfg(test)]
mod tests;

pub use cors::{Cors, CorsError, CorsMethod, CorsRule, Granted};
pub use lock::{DefaultRetention, Lock, ObjectLock, Retention, RetentionMode, RetentionPeriod};
pub use precondition::{Facts, Precondition, Unchanged, Verdict};
pub use tags::{TagError, Tags};

/// Versioning of a bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Versioning {
    /// Never set: every write replaces the null version.
    #[default]
    Unset,
    /// Every write makes a version.
    Enabled,
    /// Writes replace the null version, others stay.
    Suspended,
}

/// A bucket and its configuration.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BucketRow {
    /// Never reused.
    pub id: BucketId,
    /// Its name.
    pub name: String,
    /// Commit time of its creation.
    pub created: UnixMillis,
    /// Raised by each change of the configuration; commits are guarded by it.
    pub config_epoch: ConfigEpoch,
    /// The one range that holds its keys (K = 1; ranges split in a later version).
    pub range: RangeId,
    /// Epoch of that range.
    pub range_epoch: RangeEpoch,
    /// Versioning state.
    pub versioning: Versioning,
    /// Access key of the creator.
    pub owner: String,
    /// Tags of the bucket itself.
    #[serde(default)]
    pub tags: Tags,
    /// Object lock: needs versioning, and stays.
    #[serde(default)]
    pub object_lock: Option<ObjectLock>,
    /// Cross-origin rules.
    #[serde(default)]
    pub cors: Cors,
}

/// Checksum algorithms that S3 knows and Stele verifies. Append-only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum ChecksumAlgorithm {
    /// CRC-32 (ISO-HDLC).
    Crc32,
    /// CRC-32C (Castagnoli).
    Crc32c,
    /// CRC-64/NVME.
    Crc64Nvme,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
    /// MD5.
    Md5,
    /// XXH64, seed 0.
    XxHash64,
    /// XXH3 of 64 bits, seed 0.
    XxHash3,
    /// XXH3 of 128 bits, seed 0.
    XxHash128,
}

impl ChecksumAlgorithm {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Crc32,
        Self::Crc32c,
        Self::Crc64Nvme,
        Self::Sha1,
        Self::Sha256,
        Self::Sha512,
        Self::Md5,
        Self::XxHash64,
        Self::XxHash3,
        Self::XxHash128,
    ];

    /// Whether the checksum of a multipart object can cover this. Only CRCs of parts can be joined into that
    /// of the object; S3 has no composite CRC64NVME.
    pub fn multipart(self, kind: ChecksumType) -> bool {
        match self {
            Self::Crc32 | Self::Crc32c => true,
            Self::Crc64Nvme => kind == ChecksumType::FullObject,
            _ => kind == ChecksumType::Composite,
        }
    }
}

/// Whether a multipart checksum covers the object or its parts' checksums.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ChecksumType {
    /// Of all bytes.
    FullObject,
    /// Of the parts' checksums, with the part count.
    Composite,
}

/// One checksum of a version or part.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Checksum {
    /// Which.
    pub algorithm: ChecksumAlgorithm,
    /// What it covers.
    pub kind: ChecksumType,
    /// Raw digest, big-endian as S3 encodes it.
    pub value: Bytes,
}

/// ETag: MD5 of the body, or MD5 of the parts' MD5s and their count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ETag {
    /// The digest as a big-endian number; serializes as 16 bytes.
    #[serde(with = "md5_bytes")]
    pub md5: u128,
    /// Parts of a multipart object; 0 for a body that came in one stream.
    pub parts: u16,
}

impl std::fmt::Display for ETag {
    /// Without quotes: 32 hex digits, then `-N` for multipart.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.md5)?;
        if self.parts > 0 {
            write!(f, "-{}", self.parts)?;
        }
        Ok(())
    }
}

/// Headers that come back as they were given. Serializes as a map from small numbers to what is
/// present, in rows and in messages alike, so that an object without headers costs one byte.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StoredHeaders {
    /// Content-Type.
    pub content_type: Option<String>,
    /// Content-Encoding, without `aws-chunked`.
    pub content_encoding: Option<String>,
    /// Content-Disposition.
    pub content_disposition: Option<String>,
    /// Content-Language.
    pub content_language: Option<String>,
    /// Cache-Control.
    pub cache_control: Option<String>,
    /// Expires, as the client wrote it.
    pub expires: Option<String>,
    /// x-amz-website-redirect-location.
    pub website_redirect: Option<String>,
    /// User metadata, names without the `x-amz-meta-` prefix.
    pub user: BTreeMap<String, String>,
}

/// Attributes of a version that the gateway supplies.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Attributes {
    /// Bytes.
    pub len: u64,
    /// ETag.
    pub etag: ETag,
    /// Object root.
    pub root: ObjectRoot,
    /// Whole-body BLAKE3, where the body came in one stream.
    pub body_hash: Option<BodyHash>,
    /// Checksums to give back.
    pub checksums: Vec<Checksum>,
    /// Headers to give back; boxed so that the common small row stays small.
    pub headers: Box<StoredHeaders>,
    /// Byte lengths of the parts of a multipart object, in order; empty otherwise.
    pub part_lens: Vec<u64>,
    /// Tags; the only attribute that changes while the version lives.
    #[serde(default)]
    pub tags: Tags,
    /// Checksums of the parts, one behind the other in the order of `part_lens`, of the algorithm of a composite
    /// checksum in `checksums`; empty without one.
    #[serde(default)]
    pub part_checksums: Bytes,
}

impl Attributes {
    /// Checksum of the part at this index, where parts have their own. Its kind is of the part, not of the object.
    pub fn part_checksum(&self, index: usize) -> Option<Checksum> {
        let algorithm = self.checksums.iter().find(|checksum| checksum.kind == ChecksumType::Composite)?.algorithm;
        let width = self.part_checksums.len().checked_div(self.part_lens.len()).filter(|width| *width > 0)?;
        let begin = index.checked_mul(width)?;
        let end = begin.checked_add(width).filter(|end| *end <= self.part_checksums.len())?;
        Some(Checksum { algorithm, kind: ChecksumType::FullObject, value: self.part_checksums.slice(begin..end) })
    }
}

/// A version as the gateway sees it: one row of the namespace.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Version {
    /// Its id; shown as `null` where `null_version` is set.
    pub id: VersionId,
    /// Written while versioning was unset or suspended.
    pub null_version: bool,
    /// A delete marker has no attributes that matter and an empty manifest.
    pub delete_marker: bool,
    /// Commit time.
    pub modified: UnixMillis,
    /// Owner of its references.
    pub owner: OwnerId,
    /// Attributes.
    pub attributes: Attributes,
    /// Where its bytes are.
    pub manifest: Manifest,
    /// Entry of its creation in the evidence log.
    pub log_index: LogIndex,
    /// What keeps it from being removed.
    #[serde(default)]
    pub lock: Lock,
}

/// A multipart upload in progress.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Upload {
    /// Its id.
    pub id: UploadId,
    /// Key it will create.
    pub key: String,
    /// Commit time of its creation.
    pub initiated: UnixMillis,
    /// Headers for the version.
    pub headers: Box<StoredHeaders>,
    /// Checksum choice of Create, if any.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
    /// Tags for the version.
    #[serde(default)]
    pub tags: Tags,
    /// Lock for the version.
    #[serde(default)]
    pub lock: Lock,
}

/// One uploaded part.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Part {
    /// 1 to 10,000.
    pub number: u16,
    /// Raised by each upload of this number; Complete is guarded by it.
    pub generation: u64,
    /// Commit time.
    pub modified: UnixMillis,
    /// Bytes.
    pub len: u64,
    /// MD5 of the part.
    pub etag: ETag,
    /// Checksums of the part.
    pub checksums: Vec<Checksum>,
    /// Owner of its references.
    pub owner: OwnerId,
    /// Where its bytes are.
    pub manifest: Manifest,
}

mod md5_bytes {
    //! An MD5 as MessagePack `bin`: rmp-serde writes 128-bit numbers but can't read them back.
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(v: &u128, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(&v.to_be_bytes())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<u128, D::Error> {
        let bytes = bytes::Bytes::deserialize(d)?;
        let bytes = <[u8; 16]>::try_from(bytes.as_ref());
        bytes.map(u128::from_be_bytes).map_err(|_| serde::de::Error::custom("an MD5 is 16 bytes"))
    }
}
