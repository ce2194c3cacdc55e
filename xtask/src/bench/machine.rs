//! Says on what was measured: figures without their machine mean nothing.

use std::process::Command;

use anyhow::{Context as _, Result};

/// One line: processor, cores, memory, kernel, compiler, file system.
///
/// # Errors
/// If the compiler can't be asked.
pub(super) fn describe() -> Result<String> {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory_gib = field("/proc/meminfo", "MemTotal")
        .and_then(|text| text.trim_end_matches("kB").trim().parse::<u64>().ok())
        .map_or(0, |kib| kib >> 20);
    let processor = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "an unnamed processor".to_owned());
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let rustc = first_line(Command::new("rustc").arg("-V")).context("rustc -V")?;
    let target = crate::root::root().join("target");
    let file_system = first_line(Command::new("stat").args(["-f", "-c", "%T"]).arg(target)).unwrap_or_default();
    Ok(format!(
        "{processor}, {cores} cores, {memory_gib} GiB, Linux {}, {file_system}, {rustc}, release profile",
        kernel.trim()
    ))
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn first_line(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.lines().next()?.to_owned())
}
