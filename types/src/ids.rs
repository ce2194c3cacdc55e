//! Newtypes for every id, hash and epoch, so that two of them can't be mixed up.
//!
//! Hashes serialize as MessagePack `bin` (34 bytes), numbers as integers.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

struct FixedBytes<const N: usize>;

impl<const N: usize> de::Visitor<'_> for FixedBytes<N> {
    type Value = [u8; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{N} bytes")
    }

    fn visit_bytes<E: de::Error>(self, v: &[u8]) -> Result<[u8; N], E> {
        v.try_into().map_err(|_| E::invalid_length(v.len(), &self))
    }
}

macro_rules! bytes_id {
    ($(#[$doc:meta] $name:ident[$len:literal];)*) => {$(
        #[$doc]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// Wraps raw bytes; the caller vouches for what they are.
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The raw bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// Parses lower- or upper-case hex of exactly the right length.
            pub fn from_hex(text: &str) -> Option<Self> {
                let mut bytes = [0u8; $len];
                hex::decode_to_slice(text, &mut bytes).ok()?;
                Some(Self(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({}..)", stringify!($name), hex::encode(&self.0[..6]))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_bytes(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                d.deserialize_bytes(FixedBytes::<$len>).map(Self)
            }
        }
    )*};
}

macro_rules! number_id {
    ($(#[$doc:meta] $name:ident($inner:ty);)*) => {$(
        #[$doc]
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

bytes_id! {
    /// BLAKE3 of a chunk's bytes (of its ciphertext, where the server encrypts).
    ChunkId[32];
    /// BLAKE3 of a pack's preimage: unique to one write attempt.
    PackId[32];
    /// Top-level commitment to an object's chunks; see docs/formats/object-tree.md.
    ObjectRoot[32];
    /// One node of an object tree.
    TreeHash[32];
    /// BLAKE3 of one shard, zero padding included.
    ShardRoot[32];
    /// BLAKE3 of a whole body, as `b3sum` prints it.
    BodyHash[32];
    /// Identity of a drive, drawn once and kept in its identity file.
    DriveId[16];
    /// Identity of a cluster, drawn at its initialisation.
    ClusterId[16];
    /// Identity of whatever owns references to packs: a version, part, manifest or pin.
    OwnerId[16];
    /// Identity of a multipart upload.
    UploadId[16];
    /// Salt of one log entry: 32 random bytes from the gateway.
    Salt[32];
}

number_id! {
    /// A process of the cluster. Never reused.
    NodeId(u64);
    /// A bucket, allocated by the root group. Never reused, even after the bucket's deletion.
    BucketId(u64);
    /// A gateway's licence to write.
    LeaseId(u64);
    /// Position of a command within its lease; a retry carries the same one.
    CommandSequence(u64);
    /// Root epoch: stamps writes and fences sweeps.
    Epoch(u64);
    /// Version of a bucket's configuration.
    ConfigEpoch(u64);
    /// Version of the cluster map.
    MapEpoch(u64);
    /// Version of one placement group's row.
    PgEpoch(u64);
    /// A key range of a bucket.
    RangeId(u64);
    /// Version of a range row.
    RangeEpoch(u64);
    /// Order of commits within a group; the current version of a key has the highest.
    CommitSeq(u64);
    /// Position in an evidence log.
    LogIndex(u64);
    /// A placement group.
    PgId(u32);
    /// A raft group.
    GroupId(u32);
}

/// Opaque id of one version: its commit sequence, so that a lookup is one row, and a nonce, so that
/// ids can't be guessed from one another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct VersionId {
    /// Assigned in apply.
    pub commit_seq: CommitSeq,
    /// Random, from the gateway.
    pub nonce: u64,
}

impl VersionId {
    /// Parses the 32 hex digits that [`fmt::Display`] prints.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0u8; 16];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        let (seq, nonce) = bytes.split_at(8);
        Some(Self {
            commit_seq: CommitSeq(u64::from_be_bytes(seq.try_into().ok()?)),
            nonce: u64::from_be_bytes(nonce.try_into().ok()?),
        })
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.commit_seq.0, self.nonce)
    }
}
