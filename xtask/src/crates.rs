//! The crates of the workspace and what their manifests ask for, as cargo reads them.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::root::{cargo, text};

/// What one crate asks for.
#[derive(Debug, Default, Clone)]
pub(crate) struct Manifest {
    /// Folder, as `storage-node`.
    pub(crate) folder: String,
    /// Names of all dependencies: normal, build and dev.
    pub(crate) dependencies: Vec<String>,
    /// Names of those that are part of the product: all but the dev ones.
    pub(crate) needed: Vec<String>,
    /// Text of its Cargo.toml.
    pub(crate) text: String,
}

/// Every crate of the workspace and, though it is none, `fuzz`.
///
/// # Errors
/// If cargo can't read the workspace.
pub(crate) fn manifests() -> Result<Vec<Manifest>> {
    let mut all = workspace("Cargo.toml", &["--locked"])?;
    all.extend(workspace("fuzz/Cargo.toml", &[])?);
    Ok(all)
}

fn workspace(manifest: &str, more: &[&str]) -> Result<Vec<Manifest>> {
    let mut cargo = cargo(&["metadata", "--no-deps", "--format-version", "1", "--manifest-path", manifest]);
    let output = cargo.args(more).output().context("cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    packages.iter().map(manifest_of).collect()
}

fn manifest_of(package: &Value) -> Result<Manifest> {
    let path = package["manifest_path"].as_str().context("a package has no manifest")?;
    let folder = path.trim_end_matches("/Cargo.toml").rsplit('/').next().unwrap_or_default().to_owned();
    let asked = package["dependencies"].as_array().context("a package has no dependencies")?;
    let names = |wanted: fn(&Value) -> bool| {
        let named = asked.iter().filter(|one| wanted(&one["kind"])).filter_map(|one| one["name"].as_str());
        let mut names: Vec<String> = named.map(str::to_owned).collect();
        names.sort();
        names.dedup();
        names
    };
    let text = text(&format!("{folder}/Cargo.toml"))?.context("a manifest is not text")?;
    Ok(Manifest { folder, dependencies: names(|_| true), needed: names(|kind| kind != "dev"), text })
}

/// Lines of each section of a manifest: `[section]` -> lines, without comments and empty ones.
pub(crate) fn sections(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut sections: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if line.starts_with('[') {
            line.trim_matches(['[', ']']).clone_into(&mut current);
            sections.entry(current.clone()).or_default();
        } else {
            sections.entry(current.clone()).or_default().push(line.to_owned());
        }
    }
    sections
}
