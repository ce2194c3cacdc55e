//! `stele-bundle.json`: which objects a bundle speaks of, and which of its files is what. It proves
//! nothing; the verifier holds each of its statements against the records.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use stele_types::ids::{Salt, VersionId};
use stele_types::limits::{KEY_BYTES_MAX, OBJECT_BYTES_MAX};

use super::calendar::is_utc;
use super::names::{NameFault, POLICY, check_payload_name};
use super::{CONTENTS_MAX, FILES_MAX, OBJECTS_MAX, RANGE_CHUNKS_MAX};
use crate::record::Event;

mod outside;

pub use outside::{BundleAnchor, BundleTimestamp, ChainKind};

/// What `format` says.
pub const FORMAT: &str = "stele-bundle";
/// Version of a bundle without anchors and time stamps.
pub const VERSION: u32 = 1;
/// Version of a bundle with some.
pub const VERSION_OUTSIDE: u32 = 2;
/// Longest name of a tool, origin or bucket, bytes.
const TEXT_MAX: usize = 255;

/// Why bytes are not the contents of a bundle.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ContentsError {
    /// More than [`CONTENTS_MAX`] bytes.
    #[error("larger than {CONTENTS_MAX} bytes")]
    TooLarge,
    /// Not JSON, or a field is missing, unknown, there twice or of another type.
    #[error("{0}")]
    Json(String),
    /// `format` is another one.
    #[error("the format is not {FORMAT}")]
    Format,
    /// A version this program does not know.
    #[error("version {0} is unknown here; verify it with a newer release")]
    Version(u32),
    /// A text is empty, too long, or has control characters.
    #[error("{field}: 1 to {max} bytes without control characters")]
    Text {
        /// Which field.
        field: &'static str,
        /// Most bytes it may have.
        max: usize,
    },
    /// `created` is not a time in UTC.
    #[error("created: a time has the form 2026-09-21T14:13:21Z")]
    Created,
    /// No object, or more than [`OBJECTS_MAX`].
    #[error("a bundle has 1 to {OBJECTS_MAX} objects")]
    Objects,
    /// More files than a bundle has.
    #[error("names more than {FILES_MAX} files")]
    Files,
    /// Anchors or time stamps in version 1, or neither in version 2.
    #[error("version 1 has neither anchors nor time stamps, and version 2 has some")]
    OutsideVersion,
    /// More anchors or time stamps than a bundle has.
    #[error("more anchors or time stamps than a bundle has")]
    Outside,
    /// A chain's name is empty, too long, or has spaces or control characters.
    #[error("the name of a chain has 1 to {TEXT_MAX} bytes without spaces and control characters")]
    ChainName,
    /// A file of an anchor or time stamp is refused.
    #[error("{name}: {fault}")]
    File {
        /// The name.
        name: String,
        /// What is wrong.
        fault: ObjectFault,
    },
    /// An object is out of order or contradicts itself.
    #[error("object {number}: {fault}")]
    Object {
        /// Which, from 1.
        number: usize,
        /// What is wrong.
        fault: ObjectFault,
    },
}

/// What is wrong with one object of the contents.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ObjectFault {
    /// Bucket or key is empty or too long.
    #[error("bucket or key is empty or too long")]
    Name,
    /// Its log index is not above that of the object before.
    #[error("objects stand in the order of their log indices, each once")]
    Order,
    /// A file name is refused.
    #[error("a file name is refused: {0}")]
    File(#[from] NameFault),
    /// A file is named twice.
    #[error("a file is named twice")]
    Twice,
    /// It has both chunks and a range.
    #[error("an object has chunks or a range, not both")]
    Both,
    /// It has a payload without the chunks that would tie it to the record.
    #[error("a payload needs chunks")]
    Payload,
    /// The range is empty or beyond any object.
    #[error("the range is empty or beyond any object")]
    Range,
    /// No slices, or more than [`RANGE_CHUNKS_MAX`].
    #[error("a range has 1 to {RANGE_CHUNKS_MAX} slices")]
    Slices,
}

/// The contents of a bundle.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contents {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`] or [`VERSION_OUTSIDE`].
    pub version: u32,
    /// What made the bundle, name and version.
    pub tool: String,
    /// When, as its maker says: UTC, `2026-09-21T14:13:21Z`.
    pub created: String,
    /// Origin of the log that all proofs belong to.
    pub origin: String,
    /// Ascending by log index.
    pub objects: Vec<BundleObject>,
    /// Anchors on chains.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "outside::not_empty")]
    pub anchors: Vec<BundleAnchor>,
    /// Time stamps.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "outside::not_empty")]
    pub timestamps: Vec<BundleTimestamp>,
}

/// One event on one key, and where its evidence is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleObject {
    /// Name of the bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The version, 32 hexadecimal digits.
    #[serde(with = "version_hex")]
    pub version: VersionId,
    /// What happened, by its name in docs/formats/log-entry.md.
    #[serde(with = "event_name")]
    pub event: Event,
    /// Index of the entry in the log.
    pub index: u64,
    /// Salt of the entry, 64 hexadecimal digits.
    #[serde(with = "salt_hex")]
    pub salt: Salt,
    /// File with the exact bytes of the record.
    pub record: String,
    /// File with the C2SP tlog-proof.
    pub proof: String,
    /// File with all chunks of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunks: Option<String>,
    /// A part of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<BundleRange>,
    /// File with the object's bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
}

/// A part of an object that the bundle holds with its proof.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleRange {
    /// Offset of the first byte.
    pub first: u64,
    /// Bytes.
    pub length: u64,
    /// File with the proof of the chunks that hold the range.
    pub proof: String,
    /// One file for each of these chunks, in order: the slice with the bytes of the range.
    pub slices: Vec<String>,
}

impl BundleRange {
    /// Offset behind the last byte.
    pub fn end(&self) -> u64 {
        self.first.saturating_add(self.length)
    }
}

/// Only what tells versions apart, so that newer contents are called newer and not malformed.
#[derive(Deserialize)]
struct Kind {
    format: String,
    version: u32,
}

impl Contents {
    /// Reads contents.
    ///
    /// # Errors
    /// [`ContentsError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ContentsError> {
        if bytes.len() > CONTENTS_MAX {
            return Err(ContentsError::TooLarge);
        }
        let json = |error: serde_json::Error| ContentsError::Json(error.to_string());
        let kind: Kind = serde_json::from_slice(bytes).map_err(json)?;
        if kind.format != FORMAT {
            return Err(ContentsError::Format);
        }
        if ![VERSION, VERSION_OUTSIDE].contains(&kind.version) {
            return Err(ContentsError::Version(kind.version));
        }
        let contents: Self = serde_json::from_slice(bytes).map_err(json)?;
        contents.check()?;
        Ok(contents)
    }

    /// The contents as they stand in a bundle. What [`Self::parse`] made of this is the same.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn print(&self) -> Result<Vec<u8>, ContentsError> {
        self.check()?;
        let mut text = serde_json::to_vec_pretty(self).map_err(|error| ContentsError::Json(error.to_string()))?;
        text.push(b'\n');
        if text.len() <= CONTENTS_MAX { Ok(text) } else { Err(ContentsError::TooLarge) }
    }

    /// Names of all files below `data/` that the bundle must have.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let anchors = self.anchors.iter().flat_map(BundleAnchor::files);
        let timestamps = self.timestamps.iter().flat_map(BundleTimestamp::files);
        std::iter::once(POLICY)
            .chain(self.objects.iter().flat_map(BundleObject::files))
            .chain(anchors)
            .chain(timestamps)
    }

    fn check(&self) -> Result<(), ContentsError> {
        for (field, text) in [("tool", &self.tool), ("origin", &self.origin)] {
            if text.is_empty() || text.len() > TEXT_MAX || text.trim() != text || text.chars().any(char::is_control) {
                return Err(ContentsError::Text { field, max: TEXT_MAX });
            }
        }
        if !is_utc(&self.created) {
            return Err(ContentsError::Created);
        }
        if !(1..=OBJECTS_MAX).contains(&self.objects.len()) {
            return Err(ContentsError::Objects);
        }
        if self.files().count() > FILES_MAX {
            return Err(ContentsError::Files);
        }
        let (mut names, mut above) = (BTreeSet::from([POLICY]), None);
        for (at, object) in self.objects.iter().enumerate() {
            let fault = |fault| ContentsError::Object { number: at + 1, fault };
            object.check(&mut names).map_err(fault)?;
            if above.is_some_and(|above| object.index <= above) {
                return Err(fault(ObjectFault::Order));
            }
            above = Some(object.index);
        }
        if (self.version == VERSION) != (self.anchors.is_empty() && self.timestamps.is_empty()) {
            return Err(ContentsError::OutsideVersion);
        }
        outside::check(&self.anchors, &self.timestamps, &mut names)
    }
}

impl BundleObject {
    fn files(&self) -> impl Iterator<Item = &str> {
        let range = self.range.iter().flat_map(|range| std::iter::once(&range.proof).chain(&range.slices));
        let whole = self.chunks.iter().chain(&self.payload);
        [&self.record, &self.proof].into_iter().chain(whole).chain(range).map(String::as_str)
    }

    fn check<'a>(&'a self, names: &mut BTreeSet<&'a str>) -> Result<(), ObjectFault> {
        let fits = |text: &str, max: usize| !text.is_empty() && text.len() <= max;
        if !fits(&self.bucket, TEXT_MAX) || !fits(&self.key, KEY_BYTES_MAX) {
            return Err(ObjectFault::Name);
        }
        if self.chunks.is_some() && self.range.is_some() {
            return Err(ObjectFault::Both);
        }
        if self.payload.is_some() && self.chunks.is_none() {
            return Err(ObjectFault::Payload);
        }
        if let Some(range) = &self.range {
            let end = range.first.checked_add(range.length).filter(|end| *end <= OBJECT_BYTES_MAX);
            if range.length == 0 || end.is_none() {
                return Err(ObjectFault::Range);
            }
            if !(1..=RANGE_CHUNKS_MAX).contains(&range.slices.len()) {
                return Err(ObjectFault::Slices);
            }
        }
        for name in self.files() {
            check_payload_name(name)?;
            if !names.insert(name) {
                return Err(ObjectFault::Twice);
            }
        }
        Ok(())
    }
}

/// Small letters only, so that a value has one text.
fn canonical<T: ToString>(text: &str, value: Option<T>) -> Option<T> {
    value.filter(|value| value.to_string() == text)
}

mod version_hex {
    use super::{Deserialize as _, Deserializer, Serializer, VersionId};

    pub(super) fn serialize<S: Serializer>(version: &VersionId, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(version)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<VersionId, D::Error> {
        let text = String::deserialize(d)?;
        super::canonical(&text, VersionId::parse(&text))
            .ok_or_else(|| super::wrong("a version is 32 hexadecimal digits in small letters"))
    }
}

mod salt_hex {
    use super::{Deserialize as _, Deserializer, Salt, Serializer};

    pub(super) fn serialize<S: Serializer>(salt: &Salt, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(salt)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Salt, D::Error> {
        let text = String::deserialize(d)?;
        super::canonical(&text, Salt::from_hex(&text))
            .ok_or_else(|| super::wrong("a salt is 64 hexadecimal digits in small letters"))
    }
}

mod event_name {
    use super::{Deserialize as _, Deserializer, Event, Serializer};

    pub(super) fn serialize<S: Serializer>(event: &Event, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(event.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Event, D::Error> {
        let text = String::deserialize(d)?;
        Event::from_name(&text).ok_or_else(|| super::wrong("an event is one of those in docs/formats/log-entry.md"))
    }
}

fn wrong<E: serde::de::Error>(what: &str) -> E {
    E::custom(what)
}

#[cfg(test)]
mod tests;
