//! The inner loop: tests, then lints, of one crate. Faster than `verify` because it builds one crate
//! and what it needs; the first run in a checkout also builds the dependencies.

use anyhow::{Result, bail};

use crate::crates::manifests;
use crate::root::cargo;
use crate::steps::{Steps, succeed};

/// Tests and lints of the crate in this folder; `test` selects tests by part of their name.
///
/// # Errors
/// If there is no such crate, or something fails.
pub(crate) fn quick(name: &str, test: Option<&str>) -> Result<()> {
    let folder = name.strip_prefix("stele-").unwrap_or(name).trim_end_matches('/');
    let folders: Vec<_> = manifests()?.into_iter().map(|manifest| manifest.folder).collect();
    if !folders.iter().any(|known| known == folder) {
        bail!("no crate {folder:?}; there are {}", folders.join(", "));
    }
    let package = format!("stele-{folder}");
    let flags = ["-p", package.as_str(), "--ignore-rust-version", "--locked"];
    let mut steps = Steps::new();
    steps.run("test", || succeed(cargo(&["test", "--quiet"]).args(flags).args(test)));
    steps.run("clippy", || {
        succeed(cargo(&["clippy", "--quiet", "--all-targets"]).args(flags).args(["--", "-D", "warnings"]))
    });
    steps.finish()
}
