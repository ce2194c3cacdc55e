//! What a drive needs from a directory on a device, as a seam: real files or a model.
//!
//! The drive code above knows only [`Media`] and [`MediaFile`]. [`file`] implements them over a
//! directory, [`model`] over memory with every failure a device has. Both pass [`conformance`].
//! Nothing here knows what the bytes mean.

pub mod aligned;
pub mod conformance;
pub mod file;
pub mod model;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

/// What went wrong, by what the drive must do about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MediaErrorKind {
    /// No such file, or the directory is gone.
    NotFound,
    /// A file of that name exists.
    Exists,
    /// No space left. Nothing is damaged.
    Full,
    /// Another process (or drive object) holds the directory.
    Locked,
    /// Not allowed by the file system: permissions or a read-only mount.
    Denied,
    /// The device failed. What was being written or synced is lost or unknown.
    Io,
}

/// A failed media operation.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{op} {name}: {detail}")]
pub struct MediaError {
    /// What the drive must do about it.
    pub kind: MediaErrorKind,
    /// The operation.
    pub op: &'static str,
    /// File or directory.
    pub name: String,
    /// The system's text.
    pub detail: String,
}

impl MediaError {
    /// An error of `op` on `name`.
    pub fn new(kind: MediaErrorKind, op: &'static str, name: impl Into<String>, detail: impl fmt::Display) -> Self {
        Self { kind, op, name: name.into(), detail: detail.to_string() }
    }
}

/// Room on a device, bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Space {
    /// Size of the file system (or model).
    pub total: u64,
    /// What may still be allocated.
    pub free: u64,
}

/// One file of a drive directory.
///
/// Offsets and lengths of writes are multiples of 4 KiB. Only one task writes a file; reads may
/// run beside it. Nothing written is durable before [`MediaFile::sync`] returned `Ok`; after it
/// returned an error the file must not be written again.
#[async_trait]
pub trait MediaFile: Send + Sync + fmt::Debug {
    /// Reserves `[offset, offset + len)` and extends the file to `offset + len`.
    ///
    /// # Errors
    /// `Full` leaves the file as it was.
    async fn allocate(&self, offset: u64, len: u64) -> Result<(), MediaError>;

    /// Writes the buffers one behind the other from `offset`.
    ///
    /// # Errors
    /// After any error it is unknown which bytes were written.
    async fn write_at(&self, offset: u64, buffers: &[Bytes]) -> Result<(), MediaError>;

    /// Makes what was written durable: data and the length needed to read it.
    ///
    /// # Errors
    /// What was written since the last sync may be lost, for good. Never retry.
    async fn sync(&self) -> Result<(), MediaError>;

    /// Reads exactly `len` bytes; past the end of the file they are zero.
    ///
    /// # Errors
    /// `Io` if the device fails.
    async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes, MediaError>;

    /// Length in bytes.
    ///
    /// # Errors
    /// `Io` if the device fails.
    async fn size(&self) -> Result<u64, MediaError>;

    /// Drops what lies behind `len`, allocation included.
    ///
    /// # Errors
    /// `Io` if the device fails.
    async fn truncate(&self, len: u64) -> Result<(), MediaError>;

    /// Forgets cached pages, so that the next read shows what the device has.
    async fn drop_cache(&self);

    /// Buffers that are not 4 KiB aligned in memory would be refused.
    fn wants_alignment(&self) -> bool;
}

/// One drive directory.
#[async_trait]
pub trait Media: Send + Sync + fmt::Debug {
    /// Name an operator knows it by: its path.
    fn name(&self) -> String;

    /// Takes the directory for this process, until [`Media::unlock`] or the media is dropped.
    ///
    /// # Errors
    /// `Locked` if it is taken, `NotFound` if there is no directory.
    async fn lock(&self) -> Result<(), MediaError>;

    /// Gives the directory back.
    async fn unlock(&self);

    /// Names of all files, sorted.
    ///
    /// # Errors
    /// `NotFound` if the directory is gone.
    async fn list(&self) -> Result<Vec<String>, MediaError>;

    /// Creates an empty file. Durable only after [`Media::sync_dir`].
    ///
    /// # Errors
    /// `Exists`, `Full`, or as the device fails.
    async fn create(&self, name: &str) -> Result<Arc<dyn MediaFile>, MediaError>;

    /// Opens an existing file.
    ///
    /// # Errors
    /// `NotFound`, or as the device fails.
    async fn open(&self, name: &str) -> Result<Arc<dyn MediaFile>, MediaError>;

    /// Removes a file. Durable only after [`Media::sync_dir`].
    ///
    /// # Errors
    /// `NotFound`, or as the device fails.
    async fn remove(&self, name: &str) -> Result<(), MediaError>;

    /// Makes created and removed names durable.
    ///
    /// # Errors
    /// As the device fails; then the names are unknown.
    async fn sync_dir(&self) -> Result<(), MediaError>;

    /// Reads a whole small file, looked up by path anew (so that a vanished mount shows); `None`
    /// if there is none. Files over `max` bytes are refused as `Io`.
    ///
    /// # Errors
    /// As the device fails.
    async fn read_whole(&self, name: &str, max: usize) -> Result<Option<Bytes>, MediaError>;

    /// Replaces a whole small file durably: written aside, synced, renamed, directory synced.
    ///
    /// # Errors
    /// The old or the new content is there.
    async fn replace(&self, name: &str, content: Bytes) -> Result<(), MediaError>;

    /// Room on the device.
    ///
    /// # Errors
    /// As the device fails.
    async fn space(&self) -> Result<Space, MediaError>;
}
