//! A bundle in a folder. Nothing but plain files and folders is followed, so that a bundle can't make the
//! verifier read what lies elsewhere on the auditor's machine.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use stele_evidence::bundle::FILES_MAX;
use stele_evidence::bundle::files::{ListError, Listed, ReadSeek, Source};

/// Folders in folders that are looked into; names of a bundle have fewer.
const DEPTH_MAX: usize = 8;

/// A bundle's folder.
#[derive(Debug)]
pub(crate) struct Directory {
    root: PathBuf,
}

impl Directory {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Adds what lies in one folder; `prefix` is its name with a slash, or nothing.
    fn walk(&self, prefix: &str, depth: usize, seen: &mut usize, out: &mut Vec<Listed>) -> Result<(), ListError> {
        let folder = self.root.join(prefix);
        let failed = |error| ListError::Io { name: folder.display().to_string(), error };
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            *seen += 1;
            if *seen > 2 * FILES_MAX || depth > DEPTH_MAX {
                return Err(ListError::TooMany { max: 2 * FILES_MAX });
            }
            let shown = || format!("{prefix}{}", entry.file_name().to_string_lossy());
            let Some(name) = entry.file_name().to_str().map(|name| format!("{prefix}{name}")) else {
                return Err(ListError::Name { name: shown() });
            };
            // Of the entry itself, not of what a link leads to.
            let about = entry.metadata().map_err(failed)?;
            if about.is_dir() {
                self.walk(&format!("{name}/"), depth + 1, seen, out)?;
            } else if about.is_file() {
                out.push(Listed { name, len: about.len() });
            } else {
                return Err(ListError::Special { name });
            }
        }
        Ok(())
    }
}

impl Source for Directory {
    fn list(&self) -> Result<Vec<Listed>, ListError> {
        let mut out = Vec::new();
        self.walk("", 0, &mut 0, &mut out)?;
        Ok(out)
    }

    #[expect(clippy::disallowed_methods, reason = "the auditor's copy of a bundle, not a drive of the store")]
    fn open(&self, name: &str) -> io::Result<Box<dyn ReadSeek + '_>> {
        Ok(Box::new(File::open(self.root.join(name))?))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a bundle in a temporary folder, not stored data")]
mod tests {
    use super::*;

    #[test]
    fn files_of_all_folders_are_listed_by_name() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("data/a")).unwrap();
        for name in ["bagit.txt", "data/b", "data/a/c"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let directory = Directory::new(folder.path());
        let mut listed = directory.list().unwrap();
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        let expected =
            ["bagit.txt", "data/a/c", "data/b"].map(|name| Listed { name: name.into(), len: name.len() as u64 });
        assert_eq!(listed, expected);
        let mut text = String::new();
        directory.open("data/a/c").unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "data/a/c");
        assert!(Directory::new(&folder.path().join("none")).list().is_err());
    }

    #[test]
    #[cfg(unix)]
    fn links_are_refused_wherever_they_lead() {
        for target in ["bagit.txt", "data", "nowhere", "/etc/hostname"] {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir_all(folder.path().join("data")).unwrap();
            fs::write(folder.path().join("bagit.txt"), "").unwrap();
            std::os::unix::fs::symlink(target, folder.path().join("data/link")).unwrap();
            let listed = Directory::new(folder.path()).list();
            assert!(matches!(listed, Err(ListError::Special { name }) if name == "data/link"), "{target}");
        }
    }

    #[test]
    fn folders_in_folders_end() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join(["a"; DEPTH_MAX + 3].join("/"))).unwrap();
        assert!(matches!(Directory::new(folder.path()).list(), Err(ListError::TooMany { .. })));
    }
}
