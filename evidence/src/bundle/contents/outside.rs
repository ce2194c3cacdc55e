//! What others than the log's operator say of the log: anchors on chains, and time stamps. Here only which
//! files hold it, and what it is said to be of.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{ContentsError, ObjectFault, TEXT_MAX, canonical, wrong};
use crate::bundle::names::check_payload_name;
use crate::bundle::{ANCHORS_MAX, TIMESTAMPS_MAX};
use crate::tree::Hash;

/// Kind of a chain.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChainKind {
    /// An Ethereum-like chain; the proof is an EVM proof.
    Evm,
    /// The embedded ledger; the proof is a block.
    Ledger,
}

impl ChainKind {
    /// As it stands in the contents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Evm => "evm",
            Self::Ledger => "ledger",
        }
    }
}

/// One anchor.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleAnchor {
    /// Kind of the chain.
    pub chain: ChainKind,
    /// What the operator calls the chain; auditors look it up among theirs.
    pub name: String,
    /// File with the proof.
    pub proof: String,
    /// Entries of the log that were anchored.
    pub size: u64,
    /// Root over them, 64 hexadecimal digits.
    #[serde(with = "hash_hex")]
    pub root: Hash,
    /// File with the consistency proof between this size and the checkpoint's; none if they are the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consistency: Option<String>,
}

/// One time stamp (RFC 3161).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleTimestamp {
    /// File with the response.
    pub response: String,
    /// File with the checkpoint that was stamped, signatures included; none if it is that of the first
    /// object's proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    /// File with the consistency proof between its size and the checkpoint's; none if they are the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consistency: Option<String>,
}

impl BundleAnchor {
    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        [Some(&self.proof), self.consistency.as_ref()].into_iter().flatten().map(String::as_str)
    }
}

impl BundleTimestamp {
    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        let all = [Some(&self.response), self.checkpoint.as_ref(), self.consistency.as_ref()];
        all.into_iter().flatten().map(String::as_str)
    }
}

/// Checks both lists, and adds their files to `names`.
pub(super) fn check<'a>(
    anchors: &'a [BundleAnchor],
    timestamps: &'a [BundleTimestamp],
    names: &mut BTreeSet<&'a str>,
) -> Result<(), ContentsError> {
    if anchors.len() > ANCHORS_MAX || timestamps.len() > TIMESTAMPS_MAX {
        return Err(ContentsError::Outside);
    }
    for anchor in anchors {
        let bad = |c: char| c.is_control() || c.is_whitespace();
        if anchor.name.is_empty() || anchor.name.len() > TEXT_MAX || anchor.name.chars().any(bad) {
            return Err(ContentsError::ChainName);
        }
    }
    let files = anchors.iter().flat_map(BundleAnchor::files).chain(timestamps.iter().flat_map(BundleTimestamp::files));
    for name in files {
        check_payload_name(name).map_err(|fault| ContentsError::File { name: name.to_owned(), fault: fault.into() })?;
        if !names.insert(name) {
            return Err(ContentsError::File { name: name.to_owned(), fault: ObjectFault::Twice });
        }
    }
    Ok(())
}

/// A list that is there has something in it, so that contents have one form.
pub(super) fn not_empty<'de, D: Deserializer<'de>, T: Deserialize<'de>>(d: D) -> Result<Vec<T>, D::Error> {
    let list = Vec::deserialize(d)?;
    if list.is_empty() { Err(wrong("an empty list is left out")) } else { Ok(list) }
}

mod hash_hex {
    use super::{Deserialize as _, Deserializer, Hash, Serializer};

    pub(super) fn serialize<S: Serializer>(hash: &Hash, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&hex::encode(hash))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Hash, D::Error> {
        let text = String::deserialize(d)?;
        let mut hash = Hash::default();
        let read = hex::decode_to_slice(&text, &mut hash).ok().map(|()| hex::encode(hash));
        super::canonical(&text, read)
            .map(|_| hash)
            .ok_or_else(|| super::wrong("a root is 64 hexadecimal digits in small letters"))
    }
}
