//! Commands of a data group: versions, deletes, multipart uploads, references, evidence log.

mod delete;
mod evidence_log;
mod parts;
mod references;
mod tags;
mod uploads;
mod versions;

use stele_rpc::meta::{VersionSelector, WriteGuard};
use stele_types::ids::UploadId;

/// Which upload a command is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UploadAt<'a> {
    pub(crate) guard: &'a WriteGuard,
    pub(crate) key: &'a str,
    pub(crate) upload: UploadId,
}

/// Which version a command changes in place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VersionAt<'a> {
    pub(crate) guard: &'a WriteGuard,
    pub(crate) key: &'a str,
    pub(crate) version: VersionSelector,
}
