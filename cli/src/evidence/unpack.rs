//! From the archive that a gateway sends to a folder. The archive is foreign: names keep the rules of bundles, there
//! are plain files only, and what was begun is not left under the name that was asked for.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use stele_evidence::bundle::FILES_MAX;
use stele_evidence::bundle::names::{TAG_DIGESTS, check_name};

/// What was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Unpacked {
    pub(crate) files: usize,
    pub(crate) bytes: u64,
}

/// Where a bundle grows until it is whole.
fn beside(target: &Path) -> anyhow::Result<PathBuf> {
    let name = target.file_name().with_context(|| format!("{} is no name for a folder", target.display()))?;
    let mut partial = name.to_owned();
    partial.push(".partial");
    Ok(target.with_file_name(partial))
}

/// Writes the archive's files into the new folder `target`.
///
/// # Errors
/// If `target` exists, the archive breaks off or holds what no bundle does, or the disk fails.
pub(super) fn unpack(archive: impl Read, target: &Path) -> anyhow::Result<Unpacked> {
    unpack_ending(archive, target, Some(TAG_DIGESTS))
}

/// As [`unpack`], of an archive whose last file has this name, where that is known.
///
/// # Errors
/// As [`unpack`].
pub(crate) fn unpack_ending(archive: impl Read, target: &Path, last: Option<&str>) -> anyhow::Result<Unpacked> {
    ensure!(!target.exists(), "{} exists; name a new folder", target.display());
    let partial = beside(target)?;
    make(&partial).with_context(|| format!("making {}; remove it if an earlier export left it", partial.display()))?;
    let written = write(archive, &partial, last).and_then(|unpacked| {
        place(&partial, target).with_context(|| format!("naming {}", target.display()))?;
        Ok(unpacked)
    });
    if written.is_err() {
        // What it says of the failure matters more than what is left behind.
        remove(&partial).ok();
    }
    written
}

fn write(archive: impl Read, folder: &Path, end: Option<&str>) -> anyhow::Result<Unpacked> {
    let mut archive = tar::Archive::new(archive);
    let (mut unpacked, mut last) = (Unpacked::default(), String::new());
    for entry in archive.entries().context("reading the archive")? {
        let mut entry = entry.context("reading the archive")?;
        let name = String::from_utf8(entry.path_bytes().into_owned()).context("a name that is not UTF-8")?;
        ensure!(entry.header().entry_type().is_file(), "{name:?} in the archive is no plain file");
        check_name(&name).with_context(|| format!("{name:?} in the archive"))?;
        unpacked.files += 1;
        ensure!(unpacked.files <= FILES_MAX, "the archive has more than {FILES_MAX} files");
        let path = folder.join(&name);
        if let Some(parent) = path.parent() {
            make_all(parent)?;
        }
        let mut file = create(&path).with_context(|| format!("writing {}", path.display()))?;
        let copied = io::copy(&mut entry, &mut file).with_context(|| format!("writing {}", path.display()))?;
        ensure!(copied == entry.size(), "the archive breaks off in {name:?}");
        unpacked.bytes += copied;
        last = name;
    }
    if let Some(end) = end.filter(|end| *end != last) {
        bail!("the archive breaks off: its last file is {end}");
    }
    Ok(unpacked)
}

fn make(folder: &Path) -> io::Result<()> {
    std::fs::create_dir(folder)
}

#[expect(clippy::disallowed_methods, reason = "a folder of the user, not a drive of the store")]
fn make_all(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)
}

#[expect(clippy::disallowed_methods, reason = "a file of the user, not of the store")]
fn create(path: &Path) -> io::Result<File> {
    std::fs::OpenOptions::new().write(true).create_new(true).open(path)
}

#[expect(clippy::disallowed_methods, reason = "a folder of the user, not of the store")]
fn place(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)
}

#[expect(clippy::disallowed_methods, reason = "what this command made itself")]
fn remove(folder: &Path) -> io::Result<()> {
    std::fs::remove_dir_all(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, tar::EntryType)], ended: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, kind) in files {
            let mut header = tar::Header::new_gnu();
            let field = header.as_gnu_mut().unwrap();
            field.name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(3);
            header.set_entry_type(*kind);
            header.set_cksum();
            bytes.extend_from_slice(header.as_bytes());
            bytes.extend_from_slice(b"abc");
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
        bytes.resize(bytes.len() + if ended { 1024 } else { 0 }, 0);
        bytes
    }

    const FILE: tar::EntryType = tar::EntryType::Regular;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "looks at what was written")]
    fn a_bundle_becomes_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("bundle");
        let bytes = archive(&[("data/object-0001/record.cbor", FILE), (TAG_DIGESTS, FILE)], true);
        assert_eq!(unpack(bytes.as_slice(), &target).unwrap(), Unpacked { files: 2, bytes: 6 });
        assert_eq!(std::fs::read(target.join("data/object-0001/record.cbor")).unwrap(), b"abc");
        let again = unpack(bytes.as_slice(), &target).unwrap_err();
        assert!(again.to_string().contains("exists"), "{again}");
    }

    #[test]
    fn what_is_no_bundle_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("bundle");
        let whole = archive(&[("data/a", FILE), (TAG_DIGESTS, FILE)], true);
        for bytes in [
            archive(&[("../a", FILE), (TAG_DIGESTS, FILE)], true),
            archive(&[("/a", FILE), (TAG_DIGESTS, FILE)], true),
            archive(&[("data/a", tar::EntryType::Symlink), (TAG_DIGESTS, FILE)], true),
            archive(&[("data/a", FILE), ("data/a", FILE), (TAG_DIGESTS, FILE)], true),
            archive(&[("data/a", FILE)], true),
            archive(&[], true),
            whole[..600].to_vec(),
            whole[..514].to_vec(),
            vec![7; 2000],
        ] {
            unpack(bytes.as_slice(), &target).unwrap_err();
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "{}", bytes.len());
        }
    }
}
