//! Who may import whom. Servers meet only in `types` and `rpc`, so that each can be read, tested and
//! replaced without the others; a new edge is the rarest kind of change and comes with a decision
//! record. Reads manifests only. Dev-dependencies count, save that a pure crate's benchmark may look at
//! the processor's clock.

use anyhow::{Context as _, Result};

use crate::crates::{Manifest, manifests, sections};
use crate::root::text;

/// Folder -> folders it may import.
const MAY_IMPORT: [(&str, &[&str]); 13] = [
    ("types", &[]),
    ("rpc", &["types"]),
    ("chunker", &["types"]),
    ("evidence", &["types", "chunker"]),
    ("storage-node", &["types", "rpc", "chunker", "evidence"]),
    ("metadata", &["types", "rpc", "evidence"]),
    ("s3-gateway", &["types", "rpc", "chunker", "evidence"]),
    ("anchor", &["types", "rpc", "evidence"]),
    ("cli", &["types", "rpc", "chunker", "evidence", "storage-node", "metadata", "s3-gateway", "anchor"]),
    ("loadtest", &["types", "evidence"]),
    ("sim", &["types", "rpc", "chunker", "evidence", "storage-node", "metadata", "s3-gateway", "anchor"]),
    ("xtask", &[]),
    ("fuzz", &["types", "rpc", "chunker", "evidence", "storage-node", "metadata", "s3-gateway"]),
];

/// Outside package (or, with a dash at its end, family of packages) -> the only folders that may
/// know it, and why.
const KNOWN_ONLY_BY: [(&str, &[&str], &str); 15] = [
    ("quinn", &["rpc"], "transports belong to rpc"),
    ("quinn-", &["rpc"], "transports belong to rpc"),
    ("rcgen", &["rpc"], "certificates belong to the transports"),
    (
        "rustls",
        &["rpc", "s3-gateway", "loadtest", "metadata"],
        "TLS belongs to those who open or accept connections; backups have its HPKE",
    ),
    ("openraft", &["metadata"], "consensus is a detail of metadata"),
    ("redb", &["metadata", "storage-node", "sim"], "storage engines stay with their owners"),
    ("s3s", &["s3-gateway"], "S3 is a detail of the gateway"),
    ("foyer", &["s3-gateway"], "the read cache is a detail of the gateway"),
    ("reed-solomon-erasure", &["chunker"], "coding belongs to chunker"),
    ("fastcdc", &["chunker"], "cutting belongs to chunker"),
    ("bao-tree", &["chunker", "evidence"], "slices belong to chunker"),
    ("object_store", &["metadata", "loadtest", "cli"], "a client library"),
    ("alloy-", &["anchor", "evidence"], "Ethereum is a detail of anchor; evidence has it for tests"),
    ("k256", &["anchor"], "keys of accounts belong to anchor"),
    ("anyhow", &["cli", "loadtest", "sim", "xtask"], "libraries have typed errors"),
];

/// Pure folders, and what would make them impure.
const PURE: [&str; 3] = ["types", "chunker", "evidence"];
const IMPURE: [&str; 8] = ["tokio", "futures", "async-trait", "rustix", "getrandom", "hyper", "reqwest", "tracing"];

/// Packages that export the same C symbols as reed-solomon-erasure. The linker takes one copy without
/// a word, and a scalar copy costs a factor of ten.
const SYMBOL_CLASH: [&str; 2] = ["rustfs-erasure-codec", "rustfs-reed-solomon-erasure"];

/// Everything that breaks a rule.
///
/// # Errors
/// If the manifests can't be read.
pub(crate) fn findings() -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for manifest in manifests()? {
        check(&manifest, &mut findings);
    }
    check_lock(&text("Cargo.lock")?.context("Cargo.lock is not text")?, &mut findings);
    Ok(findings)
}

fn check(manifest: &Manifest, findings: &mut Vec<String>) {
    let folder = manifest.folder.as_str();
    let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == folder) else {
        findings.push(format!("{folder}: is not in the table of xtask/src/deps.rs; say there what it may import"));
        return;
    };
    for name in &manifest.dependencies {
        if let Some(ours) = name.strip_prefix("stele-") {
            if !allowed.contains(&ours) {
                findings.push(format!("{folder}: must not import {ours}; it may import {allowed:?}"));
            }
            continue;
        }
        for (package, knowers, why) in KNOWN_ONLY_BY {
            let family = package.ends_with('-') && name.starts_with(package);
            if (family || name == package) && !knowers.contains(&folder) {
                findings.push(format!("{folder}: must not depend on {name}: {why}"));
            }
        }
        if PURE.contains(&folder) && IMPURE.contains(&name.as_str()) && manifest.needed.contains(name) {
            findings.push(format!("{folder}: is pure and must not depend on {name}"));
        }
    }
    if folder != "sim" && manifest.text.lines().any(|line| line.contains("\"simulation\"")) {
        findings.push(format!("{folder}: only sim may use the feature `simulation`: its secrets are none"));
    }
    if folder != "fuzz" {
        check_inheritance(manifest, findings);
    }
}

/// Lints, edition and versions come from the workspace, so that there is one of each.
fn check_inheritance(manifest: &Manifest, findings: &mut Vec<String>) {
    let folder = &manifest.folder;
    let sections = sections(&manifest.text);
    let has = |section: &str, wanted: &str| {
        let wanted = wanted.replace(' ', "");
        sections.get(section).is_some_and(|lines| lines.iter().any(|line| line.replace(' ', "") == wanted))
    };
    if !has("lints", "workspace = true") {
        findings.push(format!("{folder}: [lints] workspace = true is missing"));
    }
    for field in ["version", "edition", "rust-version", "license", "publish"] {
        if !has("package", &format!("{field}.workspace = true")) {
            findings.push(format!("{folder}: {field}.workspace = true is missing"));
        }
    }
    for (section, lines) in &sections {
        if !section.ends_with("dependencies") {
            continue;
        }
        for line in lines.iter().filter(|line| !line.replace(' ', "").contains("workspace=true")) {
            findings.push(format!("{folder}: [{section}] {line}: versions stand in the workspace's manifest only"));
        }
    }
}

fn check_lock(lock: &str, findings: &mut Vec<String>) {
    for name in SYMBOL_CLASH {
        if lock.lines().any(|line| line == format!("name = \"{name}\"")) {
            findings.push(format!("Cargo.lock: {name} exports the C symbols of reed-solomon-erasure"));
        }
    }
    if lock.contains("source = \"git+") {
        findings.push("Cargo.lock: a package comes from git; only released packages are used".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "[package]\nversion.workspace = true\nedition.workspace = true\nrust-version.workspace = true\n\
                        license.workspace = true\npublish.workspace = true\n[lints]\nworkspace = true\n";

    fn found(folder: &str, dependencies: &[&str], rest: &str) -> Vec<String> {
        let dependencies: Vec<String> = dependencies.iter().map(|name| (*name).to_owned()).collect();
        let mut findings = Vec::new();
        let text = format!("{HEAD}{rest}");
        let needed = dependencies.clone();
        check(&Manifest { folder: folder.to_owned(), dependencies, needed, text }, &mut findings);
        findings
    }

    #[test]
    fn allowed_edges_pass() {
        assert_eq!(found("metadata", &["stele-types", "stele-rpc", "openraft", "redb"], ""), [""; 0]);
        assert_eq!(found("cli", &["stele-metadata", "stele-s3-gateway", "anyhow"], ""), [""; 0]);
    }

    #[test]
    fn every_forbidden_edge_is_found() {
        for (folder, name) in [
            ("s3-gateway", "stele-metadata"),
            ("storage-node", "stele-s3-gateway"),
            ("loadtest", "stele-storage-node"),
            ("types", "stele-rpc"),
            ("metadata", "quinn"),
            ("cli", "quinn-proto"),
            ("sim", "openraft"),
            ("cli", "s3s"),
            ("metadata", "anyhow"),
            ("chunker", "tokio"),
            ("elsewhere", "serde"),
        ] {
            assert_eq!(found(folder, &[name], "").len(), 1, "{folder} -> {name}");
        }
    }

    #[test]
    fn what_is_not_inherited_is_found() {
        let findings = found("rpc", &[], "[dev-dependencies]\nserde = \"1\"\nbytes.workspace = true\n");
        assert!(findings.len() == 1 && findings[0].contains("serde"), "{findings:?}");
        let mut findings = Vec::new();
        let text = HEAD.replace("[lints]\nworkspace = true\n", "");
        check(&Manifest { folder: "rpc".to_owned(), text, ..Manifest::default() }, &mut findings);
        assert!(findings.len() == 1 && findings[0].contains("[lints]"), "{findings:?}");
    }

    #[test]
    fn secrets_that_are_none_stay_in_the_simulator() {
        let features = "[dependencies]\nstele-rpc = { workspace = true, features = [\"simulation\"] }\n";
        assert_eq!(found("cli", &["stele-rpc"], features).len(), 1);
        assert_eq!(found("sim", &["stele-rpc"], features), [""; 0]);
    }

    #[test]
    fn a_second_copy_of_the_coding_symbols_is_found() {
        let mut findings = Vec::new();
        check_lock("[[package]]\nname = \"rustfs-erasure-codec\"\nversion = \"7.0.1\"\n", &mut findings);
        assert_eq!(findings.len(), 1);
    }
}
