//! Runs programs from the workspace root.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// The workspace root.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().expect("xtask lies in the workspace").to_path_buf()
}

/// True in CI, where a missing tool is a failure.
pub(crate) fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true" || value == "1")
}

/// A program to run in the workspace root, with its output passed through.
pub(crate) fn program(name: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Command {
    let mut command = Command::new(name);
    command.args(args).current_dir(root());
    command
}

/// Cargo itself, the one that runs us.
pub(crate) fn cargo(args: &[&str]) -> Command {
    program(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), args)
}

/// Runs and fails unless the exit code is 0.
pub(crate) fn run(mut command: Command) -> Result<()> {
    let shown = format!("{command:?}");
    let status = command.status().with_context(|| format!("could not start {shown}"))?;
    if !status.success() {
        bail!("{shown} ended with {status}");
    }
    Ok(())
}

/// Runs and returns standard output; fails unless the exit code is 0.
pub(crate) fn output(mut command: Command) -> Result<String> {
    let shown = format!("{command:?}");
    let done = command.stderr(std::process::Stdio::inherit()).output();
    let done = done.with_context(|| format!("could not start {shown}"))?;
    if !done.status.success() {
        bail!("{shown} ended with {}", done.status);
    }
    String::from_utf8(done.stdout).with_context(|| format!("{shown} printed something that is not UTF-8"))
}

/// True if the program can be started at all.
pub(crate) fn exists(name: impl AsRef<std::ffi::OsStr>, version_flag: &str) -> bool {
    let mut command = program(name, &[version_flag]);
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Runs named steps and remembers how long each took.
#[derive(Default)]
pub(crate) struct Steps {
    done: Vec<(String, f64)>,
    skipped: Vec<String>,
}

impl Steps {
    /// Runs one step; its failure ends the whole run.
    pub(crate) fn step(&mut self, name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
        println!("\n==> {name}");
        let start = Instant::now();
        work().with_context(|| format!("step {name:?} failed"))?;
        self.done.push((name.to_owned(), start.elapsed().as_secs_f64()));
        Ok(())
    }

    /// Notes a step that can't run here. In CI that is a failure.
    pub(crate) fn skip(&mut self, name: &str, why: &str) -> Result<()> {
        if in_ci() {
            bail!("step {name:?} can't run: {why}");
        }
        println!("\n==> {name}: SKIPPED, {why}");
        self.skipped.push(format!("{name}: {why}"));
        Ok(())
    }

    /// Prints the steps, slowest first, and what was skipped.
    pub(crate) fn report(mut self) {
        self.done.sort_by(|a, b| b.1.total_cmp(&a.1));
        println!("\nsteps, slowest first:");
        for (name, seconds) in &self.done {
            println!("{seconds:8.1} s  {name}");
        }
        for skipped in &self.skipped {
            println!(" skipped    {skipped}");
        }
    }
}
