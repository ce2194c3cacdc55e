//! Where the checkout is, and which files it holds.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// The top of the checkout.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// A command that runs in the top of the checkout.
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// Cargo, with the flags that every command here needs.
pub(crate) fn cargo(words: &[&str]) -> Command {
    let mut cargo = command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What cargo set for this process would make the same crates look different to the next cargo.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(name);
        }
    }
    cargo.args(words);
    cargo
}

/// What the compiler calls this kind of machine.
///
/// # Errors
/// If the compiler can't be asked.
pub(crate) fn host() -> Result<String> {
    let output = command("rustc").arg("-vV").output().context("rustc -vV")?;
    let text = String::from_utf8(output.stdout).context("rustc -vV")?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV names no host")?;
    Ok(host.to_owned())
}

/// Files that are in git or could be added, as paths from the top.
///
/// # Errors
/// If git can't be asked.
pub(crate) fn files() -> Result<Vec<String>> {
    let output = command("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .output()
        .context("git ls-files: git is needed to know which files are meant")?;
    ensure!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    let mut files: Vec<String> = names.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    files.sort();
    files.dedup();
    files.retain(|name| root().join(name).is_file());
    Ok(files)
}

/// Text of a file, or nothing if it is not text.
pub(crate) fn text(name: &str) -> Result<Option<String>> {
    let bytes = std::fs::read(root().join(name)).with_context(|| format!("reading {name}"))?;
    Ok(String::from_utf8(bytes).ok())
}
