//! Commands of a data group: versions, deletes, multipart uploads, references, evidence log.

mod anchor_archive;
mod append;
mod archive;
mod chains;
mod changes;
mod checkpoint;
mod cluster_events;
mod delete;
mod erasure;
mod evidence_log;
mod lock;
mod origin;
mod parts;
mod references;
mod rename;
mod space;
mod trash;
mod uploads;
mod versions;

pub(crate) use cluster_events::ClusterEvent;
pub(crate) use erasure::is_due as erasure_is_due;
pub(crate) use lock::{check_default, date};

use stele_rpc::meta::WriteGuard;
use stele_types::ids::UploadId;

/// Which upload a command is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UploadAt<'a> {
    pub(crate) guard: &'a WriteGuard,
    pub(crate) key: &'a str,
    pub(crate) upload: UploadId,
}
