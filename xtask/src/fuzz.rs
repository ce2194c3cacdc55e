//! Runs the fuzz targets of `fuzz/` under libFuzzer. The corpora also run as ordinary tests of the
//! crates they belong to, so a find stays found without this command.
//!
//! cargo-fuzz asks for a nightly compiler. What it needs of it is one flag that instruments branches;
//! the stable compiler has it too, behind RUSTC_BOOTSTRAP, which is set here for `fuzz/` alone.

use anyhow::{Context as _, Result, bail, ensure};

use crate::option;
use crate::root::{cargo, host, root};
use crate::steps::{Outcome, Steps, succeed};

const SECONDS: &str = "60";

/// What cargo-fuzz passes, without the address sanitizer: there is no unsafe code of ours to find.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions=on --cfg fuzzing";

/// Runs every target, or the one named, for some seconds each.
///
/// # Errors
/// If a target finds something; its input is then in `fuzz/artifacts`.
pub(crate) fn fuzz(rest: &[&str]) -> Result<()> {
    let seconds = option(rest, "--seconds").unwrap_or(SECONDS);
    seconds.parse::<u32>().with_context(|| format!("--seconds {seconds:?} is not a number"))?;
    let named: Vec<&str> = rest.iter().copied().filter(|word| !word.starts_with("--") && *word != seconds).collect();
    let targets = targets()?;
    let chosen: Vec<&String> =
        targets.iter().filter(|name| named.is_empty() || named.contains(&name.as_str())).collect();
    ensure!(!chosen.is_empty(), "no target {named:?}; there are {}", targets.join(", "));
    let mut steps = Steps::new();
    if !steps.run("build fuzz targets", build) {
        return steps.finish();
    }
    for target in chosen {
        steps.run(&format!("fuzz {target}"), || run(target, seconds));
    }
    steps.finish()
}

fn targets() -> Result<Vec<String>> {
    let folder = root().join("fuzz/fuzz_targets");
    let entries = std::fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let names = entries.flatten().filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".rs")?.to_owned()));
    let mut names: Vec<String> = names.collect();
    names.sort();
    if names.is_empty() { bail!("{} is empty", folder.display()) } else { Ok(names) }
}

fn build() -> Result<Outcome> {
    let mut build = cargo(&["build", "--release", "--bins", "--manifest-path", "fuzz/Cargo.toml"]);
    build.args(["--ignore-rust-version", "--locked", "--target-dir", "target/fuzz", "--target", &host()?]);
    // With --target the flags are for the targets alone, not for build scripts.
    succeed(build.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", FLAGS))
}

fn run(target: &str, seconds: &str) -> Result<Outcome> {
    let program = root().join("target/fuzz").join(host()?).join("release").join(target);
    let (found, artifacts) =
        (root().join("target/fuzz/corpus").join(target), root().join("fuzz/artifacts").join(target));
    for folder in [&found, &artifacts] {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    // New inputs go to the first folder; the one in git is only read.
    let mut command = crate::root::command(program);
    command.arg(&found).arg(root().join("fuzz/corpus").join(target));
    command.arg(format!("-artifact_prefix={}/", artifacts.display()));
    command.args([&format!("-max_total_time={seconds}"), "-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"]);
    succeed(command.arg("-verbosity=0"))
}
