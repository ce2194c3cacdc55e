//! Everything that must hold before a change lands: rules, lints, tests, simulation, and the real
//! binary under other people's clients. Writes under `target/` only.
//!
//! All cargo calls here are for the whole workspace with its tests: cargo then settles on one set of
//! features and builds every dependency once. `-p CRATE` would settle on another and build many again.

use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow};

use crate::root::{cargo, root};
use crate::steps::{Outcome, Steps, no_findings, succeed};
use crate::{deps, tidy, tools, verifier};

/// How much of the costly steps is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// What fits before every change.
    Usual,
    /// What a release needs: full sizes, more rounds.
    Full,
}

const ALL: [&str; 3] = ["--workspace", "--ignore-rust-version", "--locked"];

/// Runs all steps; the exit code is 0 only if none failed.
///
/// # Errors
/// Names the steps that failed.
pub(crate) fn verify(extent: Extent) -> Result<()> {
    let mut steps = Steps::new();
    steps.run("deps: who may import whom", || no_findings("deps", &deps::findings()?).map(|()| Outcome::Passed));
    steps.run("tidy", || no_findings("tidy", &tidy::findings()?).map(|()| Outcome::Passed));
    steps.run("format", || succeed(&mut cargo(&["fmt", "--all", "--check"])));
    let built = steps.run("build", || succeed(cargo(&["build", "--all-targets"]).args(ALL)));
    if built {
        after_build(&mut steps, extent);
    }
    steps.run("clippy", || {
        succeed(cargo(&["clippy", "--quiet", "--all-targets"]).args(ALL).args(["--", "-D", "warnings"]))
    });
    steps.finish()
}

fn after_build(steps: &mut Steps, extent: Extent) {
    steps.run("tests", || {
        let rounds = if extent == Extent::Full { "50" } else { "3" };
        let mut test = cargo(&["test", "--no-fail-fast"]);
        test.args(ALL).env("STELE_BIN", stele()).env("STELE_KILL_ROUNDS", rounds);
        if tools::missing_clients().is_none() {
            // Judges bags as others do.
            test.env("STELE_PYTHON", tools::python());
        }
        succeed(&mut test)
    });
    // They are among the tests, and pass there without their tools; here a machine without them is told so.
    steps.run("anchors on a real Ethereum node", || match tools::missing_chain() {
        Some(missing) => Ok(Outcome::Lacks(missing)),
        None => succeed(cargo(&["test", "--lib"]).args(ALL).args(["--", "evm::tests"])),
    });
    if extent == Extent::Full {
        // A hundred seeds, fifty clusters and some over QUIC are among the tests.
        steps.run("more seeds", || succeed(&mut built("stele-sim", &["--seeds", "100..5000"])));
        steps.run("more over QUIC", || succeed(&mut built("stele-sim", &["--quic", "--seeds", "10..200"])));
        steps.run("more clusters", || succeed(&mut built("stele-sim", &["--cluster", "--seeds", "50..1000"])));
    }
    steps.run("S3 suite and bad input", || with_clients("loadtest/acceptance/suite.py", &[]));
    steps
        .run("real input through four clients", || with_clients("loadtest/clients/real_input.py", &real_input(extent)));
    steps.run("clients, as their recipes say", || {
        with_clients("loadtest/recipes/recipes.py", &recipes(&["--but", "restic", "--but", "browser"]))
    });
    steps.run("restic, as its recipe says", || match tools::missing_restic() {
        Some(missing) => Ok(Outcome::Lacks(missing)),
        None => with_clients("loadtest/recipes/recipes.py", &recipes(&["--only", "restic"])),
    });
    steps.run("an upload from a browser, as its recipe says", || match tools::missing_browser() {
        Some(missing) => Ok(Outcome::Lacks(missing)),
        None => with_clients("loadtest/recipes/recipes.py", &recipes(&["--only", "browser"])),
    });
    steps.run("data of earlier versions", || with_clients("loadtest/acceptance/stored_formats.py", &[]));
    drives(steps, extent);
    steps.run("objects of many copied parts", || {
        let count = if extent == Extent::Full { "10000" } else { "1200" };
        with_clients("loadtest/acceptance/parts.py", &["--parts".into(), count.into()])
    });
    steps.run("nothing is answered before it is synced", || match tools::missing_strace() {
        Some(missing) => Ok(Outcome::Lacks(missing)),
        None => with_clients("loadtest/acceptance/durability.py", &[]),
    });
    steps.run("conditional writes are linearizable", || with_clients("loadtest/acceptance/linearizability.py", &[]));
    steps.run("the audit log, and no secret in any log", || with_clients("loadtest/acceptance/audit.py", &[]));
    evidence(steps);
    if extent == Extent::Full {
        // The leader erases once a minute, and the files are searched after tens of thousands of writes.
        steps.run("evidence that ends, and what stays of it", || with_clients("loadtest/acceptance/erasure.py", &[]));
        steps.run("evidence that ends in archives", || with_clients("loadtest/acceptance/erasure_archived.py", &[]));
    }
    steps.run("limits of time and of numbers at once", || with_clients("loadtest/acceptance/limits.py", &[]));
    steps.run("a cluster by hand, as its page says", || with_clients("loadtest/acceptance/cluster_page.py", &[]));
    steps.run("who must not get in", || with_clients("loadtest/acceptance/refusals.py", &[]));
    steps.run("the day of the disaster: backup and drives", || with_clients("loadtest/acceptance/restore.py", &[]));
    steps.run("a cluster under faults", || match tools::missing_network() {
        Some(missing) => Ok(Outcome::Lacks(missing)),
        None => with_clients("loadtest/acceptance/cluster.py", &cluster_rounds(extent)),
    });
    // Last of what uses the binary: this build replaces it by one with the switches compiled in.
    steps.run("sabotage is found", || {
        // Only the tests of that name: of the other crates' nothing is run, and little is built again.
        let mut test = cargo(&["test", "--features", "stele-sim/sabotage", "--lib", "--test", "it"]);
        let found = [
            "sabotages",
            "accepting_",
            "_is_found",
            "a_follower_never_answers_from_old_rows",
            "a_wiped_disk_is_refused",
        ];
        succeed(test.args(ALL).arg("--").args(found))
    });
}

/// What happens on drives by itself.
fn drives(steps: &mut Steps, extent: Extent) {
    steps.run("space comes back", || {
        let count = if extent == Extent::Full { "10000" } else { "1500" };
        with_clients("loadtest/acceptance/space.py", &["--operations".into(), count.into()])
    });
    steps.run("garbage of a cluster, and its trash", || with_clients("loadtest/acceptance/gc.py", &[]));
    steps.run("lost shards come back", || with_clients("loadtest/acceptance/repair.py", &[]));
    steps.run("a lost node is replaced", || {
        let losses = if extent == Extent::Full { "2" } else { "1" };
        with_clients("loadtest/acceptance/healing.py", &["--losses".into(), losses.into()])
    });
    if extent == Extent::Full {
        steps.run("six nodes, nine, and six again", || with_clients("loadtest/acceptance/scale.py", &[]));
    }
}

/// The log, its bundles, and whoever vouches for them.
fn evidence(steps: &mut Steps) {
    steps.run("the evidence log, as a stranger reads it", || with_clients("loadtest/acceptance/evidence_log.py", &[]));
    steps.run("evidence that auditors take home", || match tools::missing_network() {
        Some(missing) => Ok(Outcome::Lacks(missing)),
        None => with_clients("loadtest/acceptance/evidence_bundles.py", &inputs()),
    });
    steps.run("the auditor's verifier, alone in a directory", verifier::alone);
    steps.run("possession audits", || with_clients("loadtest/acceptance/possession.py", &[]));
    steps.run("a log that is watched", || with_clients("loadtest/acceptance/log_watching.py", &[]));
    steps.run("old entries of the log in archives", || {
        with_clients("loadtest/acceptance/log_archives.py", &["--archives".into(), "3".into()])
    });
    steps.run("anchored roots that are watched", || match tools::missing_chain() {
        None => with_clients("loadtest/acceptance/log_anchors.py", &with_anvil()),
        Some(missing) => Ok(Outcome::Lacks(missing)),
    });
    steps.run("checkpoints on chains", || match (tools::missing_chain(), tools::missing_network()) {
        (None, None) => with_clients("loadtest/acceptance/chains.py", &with_anvil()),
        (missing, network) => Ok(Outcome::Lacks(missing.or(network).unwrap_or_default())),
    });
    steps.run("witnesses and time stamps", || match tools::missing_network() {
        Some(missing) => Ok(Outcome::Lacks(missing)),
        None => with_clients("loadtest/acceptance/witnesses.py", &[]),
    });
}

fn with_anvil() -> [String; 2] {
    ["--anvil".to_owned(), tools::anvil().display().to_string()]
}

/// The binary that the tests start.
fn stele() -> PathBuf {
    root().join("target/debug/stele")
}

/// A program of this workspace that the build step made.
fn built(name: &str, words: &[&str]) -> std::process::Command {
    let mut command = crate::root::command(root().join("target/debug").join(name));
    command.args(words);
    command
}

/// Rounds, faults in each, and the program that makes load.
fn cluster_rounds(extent: Extent) -> Vec<String> {
    let (rounds, faults) = if extent == Extent::Full { ("50", "5") } else { ("3", "2") };
    let load = root().join("target/debug/stele-loadtest").display().to_string();
    ["--rounds", rounds, "--faults", faults, "--loadtest", &load].map(str::to_owned).into()
}

fn real_input(extent: Extent) -> Vec<String> {
    let (telemetry, big) = if extent == Extent::Full { ("20000", "2048") } else { ("1000", "256") };
    let mut words: Vec<String> = ["--telemetry", telemetry, "--big-mib", big].map(str::to_owned).into();
    words.extend(inputs());
    words
}

/// Which recipes, over what.
fn recipes(which: &[&str]) -> Vec<String> {
    which.iter().map(|word| (*word).to_owned()).chain(inputs()).collect()
}

/// The folders of real files, as options of a script.
fn inputs() -> Vec<String> {
    let named = |folder: PathBuf| ["--input".to_owned(), folder.display().to_string()];
    tools::real_inputs().into_iter().flat_map(named).collect()
}

/// Runs a script against the built binary, in a folder of its own that is removed if all is well.
fn with_clients(script: &str, words: &[String]) -> Result<Outcome> {
    if let Some(missing) = tools::missing_clients() {
        return Ok(Outcome::Lacks(missing));
    }
    let name =
        script.rsplit('/').next().and_then(|file| file.strip_suffix(".py")).ok_or_else(|| anyhow!("{script}"))?;
    let work = root().join("target/acceptance").join(name);
    if work.exists() {
        std::fs::remove_dir_all(&work).with_context(|| format!("removing {}", work.display()))?;
    }
    std::fs::create_dir_all(&work).with_context(|| format!("making {}", work.display()))?;
    let mut command = tools::script(script);
    command.arg("--stele").arg(stele()).arg("--work").arg(&work).args(words);
    let outcome = succeed(&mut command)?;
    std::fs::remove_dir_all(&work).with_context(|| format!("removing {}", work.display()))?;
    Ok(outcome)
}
