//! Opens the metadata files of a real node. The only place in this crate that touches std::fs.

use std::path::{Path, PathBuf};

use redb::backends::FileBackend;

use crate::media::Storage;

/// A metadata file can't be opened.
#[derive(Debug, thiserror::Error)]
#[error("can't open {path}: {cause}; check that the directory exists, is writable and not used by another process")]
pub struct FileError {
    path: PathBuf,
    cause: String,
}

/// Opens or creates `raft-log.redb` and `state.redb` in `dir`, which is created if it is missing.
///
/// # Errors
/// The directory or a file can't be opened, or another process holds it.
pub fn in_directory(dir: &Path) -> Result<Storage, FileError> {
    create_directory(dir)?;
    let raft_log = open(&dir.join("raft-log.redb"))?;
    let state = open(&dir.join("state.redb"))?;
    sync_directory(dir)?;
    Ok(Storage { raft_log: Box::new(raft_log), state: Box::new(state) })
}

fn failed<E: std::fmt::Display>(path: &Path) -> impl FnOnce(E) -> FileError {
    let path = path.to_owned();
    move |cause| FileError { path, cause: cause.to_string() }
}

#[expect(clippy::disallowed_methods, reason = "metadata files are opened here and nowhere else")]
fn create_directory(dir: &Path) -> Result<(), FileError> {
    std::fs::create_dir_all(dir).map_err(failed(dir))
}

#[expect(clippy::disallowed_methods, reason = "metadata files are opened here and nowhere else")]
fn open(path: &Path) -> Result<FileBackend, FileError> {
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(failed(path))?;
    FileBackend::new(file).map_err(failed(path))
}

/// A new file's name is durable only once its directory is synced.
#[expect(clippy::disallowed_methods, reason = "metadata files are opened here and nowhere else")]
fn sync_directory(dir: &Path) -> Result<(), FileError> {
    std::fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed(dir))
}
