//! A bundle on its way out: its files as a tar stream.

use std::io;

use bytes::{Bytes, BytesMut};
use stele_evidence::bundle::files::Sink;
use tokio::sync::mpsc;

use crate::error::GatewayError;

/// Where the stream goes; `None` ends it.
pub(super) type Sender = mpsc::Sender<Result<Option<Bytes>, GatewayError>>;

/// Bytes that go out at once.
const PIECE: usize = 64 * 1024;
/// tar counts in these.
const BLOCK: usize = 512;

/// Writes files behind one another.
pub(super) struct Archive<'a> {
    sender: &'a Sender,
    /// What every file says of its age: when the bundle was made.
    seconds: u64,
    pending: BytesMut,
    /// Bytes of the file so far.
    written: u64,
}

impl<'a> Archive<'a> {
    pub(super) fn new(sender: &'a Sender, seconds: u64) -> Self {
        Self { sender, seconds, pending: BytesMut::with_capacity(PIECE), written: 0 }
    }

    fn append(&mut self, part: &[u8]) -> io::Result<()> {
        self.pending.extend_from_slice(part);
        if self.pending.len() >= PIECE { self.send() } else { Ok(()) }
    }

    fn send(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.pending, BytesMut::with_capacity(PIECE)).freeze();
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the client has gone");
        self.sender.blocking_send(Ok(Some(piece))).map_err(gone)
    }

    /// Ends the stream as tar does.
    pub(super) fn end_of_archive(mut self) -> io::Result<()> {
        self.append(&[0; 2 * BLOCK])?;
        self.send()
    }
}

impl Sink for Archive<'_> {
    fn begin(&mut self, name: &str, len: u64) -> io::Result<()> {
        // GNU's form, for files of more than 8 GiB.
        let mut header = tar::Header::new_gnu();
        header.set_path(name)?;
        header.set_size(len);
        header.set_mode(0o644);
        header.set_mtime(self.seconds);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        self.written = 0;
        self.append(header.as_bytes())
    }

    fn write(&mut self, part: &[u8]) -> io::Result<()> {
        self.written += part.len() as u64;
        self.append(part)
    }

    fn end(&mut self) -> io::Result<()> {
        let over = usize::try_from(self.written % BLOCK as u64).unwrap_or(0);
        self.append(&[0; BLOCK][..(BLOCK - over) % BLOCK])
    }
}
