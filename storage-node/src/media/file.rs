//! A drive directory on a real file system, through rustix.
//!
//! The one module of the workspace that opens files. Every call blocks its thread: the drive runs
//! it on threads of its own ([`crate::exec`]). All names are resolved against the directory's
//! descriptor, so a directory that was replaced under a running node is never written; only
//! [`Media::read_whole`] looks the path up anew, which is how a vanished mount is noticed.

mod segment_file;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use self::segment_file::SegmentFile;
use super::{Media, MediaError, MediaErrorKind, MediaFile, Space};

/// How files are opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DirectIo {
    /// O_DIRECT where the file system takes it, else buffered.
    #[default]
    Auto,
    /// Always through the page cache.
    Never,
}

/// One directory.
#[derive(Debug)]
pub struct FileMedia {
    path: PathBuf,
    direct: DirectIo,
    held: Mutex<Option<Arc<OwnedFd>>>,
}

impl FileMedia {
    /// The directory at `path`; nothing is touched yet.
    pub fn new(path: impl Into<PathBuf>, direct: DirectIo) -> Self {
        Self { path: path.into(), direct, held: Mutex::new(None) }
    }

    /// Makes an empty directory to be formatted; an existing one is left as it is. For `stele dev`,
    /// where directories stand in for mounts.
    ///
    /// # Errors
    /// As the file system refuses it.
    #[expect(clippy::disallowed_methods, reason = "this module is where files and directories are made")]
    pub fn create_directory(path: &Path) -> Result<(), MediaError> {
        std::fs::create_dir_all(path)
            .map_err(|e| MediaError::new(MediaErrorKind::Io, "create directory", path.to_string_lossy(), e))
    }

    fn dir(&self) -> Result<Arc<OwnedFd>, MediaError> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.clone().ok_or_else(|| {
            MediaError::new(MediaErrorKind::Locked, "use", self.name(), "the directory is not locked by us")
        })
    }

    fn failed(&self, op: &'static str, name: &str, errno: Errno) -> MediaError {
        media_error(op, &self.path.join(name).to_string_lossy(), errno)
    }
}

/// Maps an errno to what the drive must do.
fn media_error(op: &'static str, name: &str, errno: Errno) -> MediaError {
    let kind = match errno {
        Errno::NOENT | Errno::NOTDIR => MediaErrorKind::NotFound,
        Errno::EXIST => MediaErrorKind::Exists,
        Errno::NOSPC | Errno::DQUOT => MediaErrorKind::Full,
        Errno::WOULDBLOCK => MediaErrorKind::Locked,
        Errno::ACCESS | Errno::PERM | Errno::ROFS => MediaErrorKind::Denied,
        _ => MediaErrorKind::Io,
    };
    MediaError::new(kind, op, name, errno)
}

const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

fn write_all(fd: &OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(n) => bytes = &bytes[n.min(bytes.len())..],
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn read_up_to(fd: &OwnedFd, max: usize) -> Result<Vec<u8>, Errno> {
    let mut out = vec![0u8; max];
    let mut filled = 0;
    while filled < max {
        match rustix::io::read(fd, &mut out[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    out.truncate(filled);
    Ok(out)
}

#[async_trait]
impl Media for FileMedia {
    fn name(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    async fn lock(&self) -> Result<(), MediaError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir =
            rustix::fs::open(&self.path, flags, Mode::empty()).map_err(|e| self.failed("open directory", "", e))?;
        rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive).map_err(|e| self.failed("lock", "", e))?;
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(dir));
        Ok(())
    }

    async fn unlock(&self) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn list(&self) -> Result<Vec<String>, MediaError> {
        let dir = self.dir()?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&*dir).map_err(|e| self.failed("list", "", e))? {
            let entry = entry.map_err(|e| self.failed("list", "", e))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // ext4 puts lost+found into the root of every file system.
            if name != "." && name != ".." && name != "lost+found" {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    async fn create(&self, name: &str) -> Result<Arc<dyn MediaFile>, MediaError> {
        let dir = self.dir()?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&*dir, name, flags, FILE_MODE).map_err(|e| self.failed("create", name, e))?;
        Ok(Arc::new(SegmentFile::new(&dir, name, fd, self.direct)))
    }

    async fn open(&self, name: &str) -> Result<Arc<dyn MediaFile>, MediaError> {
        let dir = self.dir()?;
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = rustix::fs::openat(&*dir, name, flags, Mode::empty()).map_err(|e| self.failed("open", name, e))?;
        Ok(Arc::new(SegmentFile::new(&dir, name, fd, self.direct)))
    }

    async fn remove(&self, name: &str) -> Result<(), MediaError> {
        rustix::fs::unlinkat(&*self.dir()?, name, AtFlags::empty()).map_err(|e| self.failed("remove", name, e))
    }

    async fn sync_dir(&self) -> Result<(), MediaError> {
        rustix::fs::fsync(&*self.dir()?).map_err(|e| self.failed("sync directory", "", e))
    }

    async fn read_whole(&self, name: &str, max: usize) -> Result<Option<Bytes>, MediaError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = match rustix::fs::open(self.path.join(name), flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(e) => return Err(self.failed("open", name, e)),
        };
        let bytes = read_up_to(&fd, max.saturating_add(1)).map_err(|e| self.failed("read", name, e))?;
        if bytes.len() > max {
            return Err(MediaError::new(MediaErrorKind::Io, "read", name, format!("longer than {max} bytes")));
        }
        Ok(Some(Bytes::from(bytes)))
    }

    async fn replace(&self, name: &str, content: Bytes) -> Result<(), MediaError> {
        let dir = self.dir()?;
        let aside = format!("{name}.tmp");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&*dir, &aside, flags, FILE_MODE).map_err(|e| self.failed("create", &aside, e))?;
        write_all(&fd, &content).map_err(|e| self.failed("write", &aside, e))?;
        rustix::fs::fsync(&fd).map_err(|e| self.failed("sync", &aside, e))?;
        rustix::fs::renameat(&*dir, &aside, &*dir, name).map_err(|e| self.failed("rename", name, e))?;
        rustix::fs::fsync(&*dir).map_err(|e| self.failed("sync directory", "", e))
    }

    async fn space(&self) -> Result<Space, MediaError> {
        let stat = rustix::fs::fstatvfs(&*self.dir()?).map_err(|e| self.failed("ask for space", "", e))?;
        Ok(Space {
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
        })
    }
}
