//! Where lines of the audit log go: a file that is only appended to, or stdout.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use stele_s3_gateway::http::audit::writer::Sink;

/// The open log.
pub(super) enum AuditFile {
    Stdout,
    File { path: PathBuf, file: File },
}

impl AuditFile {
    /// Opens a file, or stdout for `-`. A new file is readable by its owner only: lines say who read what.
    pub(super) fn open(place: &str) -> io::Result<Self> {
        if place == "-" {
            return Ok(Self::Stdout);
        }
        let path = PathBuf::from(place);
        let file = append(&path)?;
        Ok(Self::File { path, file })
    }
}

#[expect(clippy::disallowed_methods, reason = "the audit log is no stored data")]
fn append(path: &std::path::Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

impl Sink for AuditFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(bytes)?;
                out.flush()?;
                Ok(bytes.len())
            }
            Self::File { file, .. } => file.write(bytes),
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        if let Self::File { path, file } = self {
            *file = append(path)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a log file, not stored data")]
    fn a_file_is_appended_to_private_and_opened_anew_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("audit.jsonl"), dir.path().join("audit.1"));
        std::fs::write(&path, b"before\n").unwrap();
        let mut log = AuditFile::open(path.to_str().unwrap()).unwrap();
        assert_eq!(log.write(b"one\n").unwrap(), 4);
        std::fs::rename(&path, &moved).unwrap();
        assert_eq!(log.write(b"two\n").unwrap(), 4);
        log.reopen().unwrap();
        assert_eq!(log.write(b"three\n").unwrap(), 6);
        assert_eq!(std::fs::read(&moved).unwrap(), b"before\none\ntwo\n");
        assert_eq!(std::fs::read(&path).unwrap(), b"three\n");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(AuditFile::open(dir.path().join("no/such/folder").to_str().unwrap()).is_err());
    }
}
