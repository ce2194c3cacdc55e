//! One open file: a buffered descriptor, and an O_DIRECT one where the file system takes it.
//!
//! Writes and long reads go direct, so that bulk data neither fills the page cache nor is copied
//! by the kernel; short reads go through the cache. The kernel keeps both views the same, since
//! a byte of a segment is written once, before anyone knows where it is.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::{Advice, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;
use stele_types::limits::SEGMENT_ALIGN;

use super::{DirectIo, media_error};
use crate::media::aligned::{AlignedBuf, align_down, align_up};
use crate::media::{MediaError, MediaFile};

/// Reads of at least this many bytes bypass the page cache.
const DIRECT_READ_MIN: usize = 256 * 1024;
/// The kernel's limit on buffers per call.
const BUFFERS_PER_CALL: usize = 1024;

#[derive(Debug)]
pub(super) struct SegmentFile {
    name: String,
    buffered: OwnedFd,
    direct: Option<OwnedFd>,
    /// Cleared for good when the file system accepts O_DIRECT at open but refuses it at use.
    direct_works: AtomicBool,
}

impl SegmentFile {
    pub(super) fn new(dir: &OwnedFd, name: &str, buffered: OwnedFd, direct: DirectIo) -> Self {
        let direct = match direct {
            DirectIo::Never => None,
            DirectIo::Auto => {
                let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::DIRECT;
                rustix::fs::openat(dir, name, flags, Mode::empty()).ok()
            }
        };
        // Segments are read at random places; read-ahead would only fill the cache.
        let _best_effort = rustix::fs::fadvise(&buffered, 0, None, Advice::Random);
        let direct_works = AtomicBool::new(direct.is_some());
        Self { name: name.to_owned(), buffered, direct, direct_works }
    }

    fn failed(&self, op: &'static str, errno: Errno) -> MediaError {
        media_error(op, &self.name, errno)
    }

    fn direct(&self) -> Option<&OwnedFd> {
        self.direct.as_ref().filter(|_| self.direct_works.load(Ordering::Relaxed))
    }

    fn read_buffered(&self, offset: u64, out: &mut [u8]) -> Result<(), Errno> {
        read_full(&self.buffered, offset, out)
    }
}

fn read_full(fd: &OwnedFd, offset: u64, out: &mut [u8]) -> Result<(), Errno> {
    let mut filled = 0;
    while filled < out.len() {
        let at = offset + filled as u64;
        match rustix::io::preadv(fd, &mut [IoSliceMut::new(&mut out[filled..])], at) {
            // Past the end: the rest of the buffer is zero already.
            Ok(0) => return Ok(()),
            Ok(n) => filled += n,
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn write_full(fd: &OwnedFd, mut offset: u64, buffers: &[Bytes]) -> Result<(), Errno> {
    for group in buffers.chunks(BUFFERS_PER_CALL) {
        let mut slices: Vec<IoSlice<'_>> = group.iter().map(|b| IoSlice::new(b)).collect();
        let mut rest = slices.as_mut_slice();
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            match rustix::io::pwritev(fd, rest, offset) {
                Ok(0) => return Err(Errno::IO),
                Ok(n) => {
                    offset += n as u64;
                    IoSlice::advance_slices(&mut rest, n);
                }
                Err(Errno::INTR) => {}
                Err(e) => return Err(e),
            }
        }
    }
    Ok(())
}

#[async_trait]
impl MediaFile for SegmentFile {
    async fn allocate(&self, offset: u64, len: u64) -> Result<(), MediaError> {
        match rustix::fs::fallocate(&self.buffered, FallocateFlags::empty(), offset, len) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                rustix::fs::ftruncate(&self.buffered, offset + len).map_err(|e| self.failed("extend", e))
            }
            Err(e) => Err(self.failed("allocate", e)),
        }
    }

    async fn write_at(&self, offset: u64, buffers: &[Bytes]) -> Result<(), MediaError> {
        if let Some(fd) = self.direct() {
            match write_full(fd, offset, buffers) {
                // Refused before anything was written, not failed: this file system or device
                // wants another alignment, or none.
                Err(Errno::INVAL) => self.direct_works.store(false, Ordering::Relaxed),
                other => return other.map_err(|e| self.failed("write", e)),
            }
        }
        write_full(&self.buffered, offset, buffers).map_err(|e| self.failed("write", e))
    }

    async fn sync(&self) -> Result<(), MediaError> {
        // On the descriptor that wrote: write-back errors are reported once per descriptor.
        let fd = self.direct().unwrap_or(&self.buffered);
        rustix::fs::fdatasync(fd).map_err(|e| self.failed("fdatasync", e))
    }

    async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes, MediaError> {
        if len >= DIRECT_READ_MIN
            && let Some(fd) = self.direct()
        {
            let start = align_down(offset);
            let skip = usize::try_from(offset - start).unwrap_or(SEGMENT_ALIGN);
            let span = usize::try_from(align_up((skip + len) as u64)).unwrap_or(usize::MAX);
            let mut buf = AlignedBuf::zeroed(span);
            match read_full(fd, start, buf.bytes_mut()) {
                Ok(()) => return Ok(buf.into_bytes().slice(skip..skip + len)),
                Err(Errno::INVAL) => {} // not this way; the cache can
                Err(e) => return Err(self.failed("read", e)),
            }
        }
        let mut out = vec![0u8; len];
        self.read_buffered(offset, &mut out).map_err(|e| self.failed("read", e))?;
        Ok(Bytes::from(out))
    }

    async fn size(&self) -> Result<u64, MediaError> {
        let stat = rustix::fs::fstat(&self.buffered).map_err(|e| self.failed("stat", e))?;
        Ok(u64::try_from(stat.st_size).unwrap_or(0))
    }

    async fn truncate(&self, len: u64) -> Result<(), MediaError> {
        rustix::fs::ftruncate(&self.buffered, len).map_err(|e| self.failed("truncate", e))
    }

    async fn drop_cache(&self) {
        let _best_effort = rustix::fs::fadvise(&self.buffered, 0, None, Advice::DontNeed);
    }

    fn wants_alignment(&self) -> bool {
        self.direct().is_some()
    }
}
