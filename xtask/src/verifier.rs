//! Builds `stele-verify` as one static file that needs nothing of the machine it runs on, and shows that it does: it must judge
//! a good and a damaged bundle as the only program in an otherwise empty directory.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::root::{cargo, host, root};
use crate::steps::{Outcome, succeed};

mod elf;

const FOLDER: &str = "target/verifier";
const BUNDLE: &str = "bundle-whole";
/// A file of that bundle, and a byte of it.
const DAMAGED: (&str, usize) = ("data/object-0001/payload.bin", 20);

/// Builds the verifier and says where it is.
///
/// # Errors
/// If it can't be built, or needs a loader or a library.
pub(crate) fn build() -> Result<PathBuf> {
    let (host, folder) = (host()?, root().join(FOLDER));
    // A target folder of its own, so that other builds keep their flags; with --target, build scripts do, too.
    let mut build = cargo(&["build", "--release", "--locked", "--ignore-rust-version", "--quiet"]);
    build.args(["-p", "stele-evidence", "--bin", "stele-verify", "--target", &host, "--target-dir"]);
    build.arg(folder.join("build")).env("RUSTFLAGS", "-C target-feature=+crt-static");
    // Line tables are for who profiles, symbols for who debugs; an auditor needs neither.
    build.env("CARGO_PROFILE_RELEASE_DEBUG", "false").env("CARGO_PROFILE_RELEASE_STRIP", "symbols");
    succeed(&mut build)?;
    let (from, to) = (folder.join("build").join(&host).join("release/stele-verify"), folder.join("stele-verify"));
    let bytes = std::fs::read(&from).with_context(|| from.display().to_string())?;
    let needs = elf::needs(&bytes).with_context(|| from.display().to_string())?;
    ensure!(needs.is_empty(), "{}: is not static, it needs {}", from.display(), needs.join(" and "));
    std::fs::copy(&from, &to).with_context(|| to.display().to_string())?;
    println!("verifier: {FOLDER}/stele-verify, {} bytes, static", bytes.len());
    Ok(to)
}

/// Builds it, and runs it where there is nothing else.
///
/// # Errors
/// If it can't be built or judges wrongly.
pub(crate) fn alone() -> Result<Outcome> {
    let program = build()?;
    let place = root().join(FOLDER).join("place");
    if place.exists() {
        std::fs::remove_dir_all(&place).with_context(|| place.display().to_string())?;
    }
    copy(&root().join("evidence/golden").join(BUNDLE), &place.join(BUNDLE))?;
    std::fs::copy(&program, place.join("stele-verify")).context("copying the verifier")?;
    let outcome = judge(&place)?;
    std::fs::remove_dir_all(&place).with_context(|| place.display().to_string())?;
    Ok(outcome)
}

/// Runs it over the bundle as it is, and with a byte changed.
fn judge(place: &Path) -> Result<Outcome> {
    let rooted = rooted(place);
    let code = || -> Result<Option<i32>> {
        let mut command = Command::new(if rooted { "chroot".into() } else { place.join("stele-verify") });
        if rooted {
            command.arg(place).arg("/stele-verify");
        }
        command.arg(BUNDLE).current_dir(place).stdin(Stdio::null()).stdout(Stdio::null());
        Ok(command.status().context("starting the verifier")?.code())
    };
    let good = code()?;
    ensure!(good == Some(0), "{BUNDLE}: exit code {good:?} instead of 0");
    let file = place.join(BUNDLE).join(DAMAGED.0);
    let mut bytes = std::fs::read(&file).with_context(|| file.display().to_string())?;
    *bytes.get_mut(DAMAGED.1).context("the payload is too short")? ^= 1;
    std::fs::write(&file, bytes).with_context(|| file.display().to_string())?;
    let damaged = code()?;
    ensure!(damaged == Some(1), "{BUNDLE} with a changed byte: exit code {damaged:?} instead of 1");
    Ok(if rooted {
        Outcome::Passed
    } else {
        Outcome::Lacks("the right to change the root directory; the verifier was run, but not by itself".to_owned())
    })
}

/// Whether programs can be run with `place` as their root directory.
fn rooted(place: &Path) -> bool {
    let mut command = Command::new("chroot");
    command.arg(place).args(["/stele-verify", "--version"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    for entry in std::fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry.with_context(|| from.display().to_string())?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target).with_context(|| target.display().to_string())?;
        }
    }
    Ok(())
}
