//! Runs seeds and prints those that fail, with the tail of their trace.
//!
//! `cargo run -p stele-sim -- --seed 7`, `-- --seeds 0..500`, `-- --seeds 0..50 --sabotage reply-cache-off`,
//! `-- --cluster --seeds 0..100`, `-- --quic --seeds 0..50`, `-- --soak 1000000 --seed 1`.

use std::process::ExitCode;

use clap::Parser;
use stele_sim::run::{Options, Report, Setting, run};
use stele_sim::sabotage::Sabotage;
use stele_sim::soak::{SoakOptions, soak};

/// Deterministic simulation of a whole Stele cluster.
#[derive(Parser, Debug)]
struct Arguments {
    /// Run this seed.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Run these seeds: FIRST..END.
    #[arg(long)]
    seeds: Option<String>,
    /// Clusters of several nodes of every kind, instead of the smallest one.
    #[arg(long)]
    cluster: bool,
    /// A cluster whose processes talk over QUIC and simulated packets.
    #[arg(long, conflicts_with = "cluster")]
    quic: bool,
    /// A cluster whose slots move between drives all the time.
    #[arg(long, conflicts_with_all = ["cluster", "quic"])]
    moving: bool,
    /// Break one promise on purpose, with more of the faults that bring it to light.
    #[arg(long, value_enum)]
    sabotage: Option<Sabotage>,
    /// More of the faults that would bring this defect to light, without breaking anything.
    #[arg(long, value_enum)]
    focus: Option<Sabotage>,
    /// Go on after the first seed that fails.
    #[arg(long)]
    all: bool,
    /// Soak garbage collection with so many versions instead.
    #[arg(long, value_name = "VERSIONS", conflicts_with_all = ["cluster", "quic", "sabotage", "focus"])]
    soak: Option<u64>,
    /// Print every line of the trace.
    #[arg(long)]
    trace: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    anyhow::ensure!(
        cfg!(feature = "sabotage") || arguments.sabotage.is_none(),
        "--sabotage needs a build with --features sabotage"
    );
    let (first, end) = match (&arguments.seed, &arguments.seeds) {
        (Some(seed), _) => (*seed, seed + 1),
        (None, Some(range)) => parse_range(range)?,
        (None, None) => (0, 20),
    };
    if let Some(versions) = arguments.soak {
        return soaks(first..end, versions);
    }
    let setting = match (arguments.cluster, arguments.quic, arguments.moving) {
        (_, _, true) => Setting::Moving,
        (_, true, _) => Setting::Quic,
        (true, ..) => Setting::Cluster,
        _ => Setting::Small,
    };
    let mut failed = 0u64;
    for seed in first..end {
        let report = run(&Options {
            setting,
            seed,
            sabotage: arguments.sabotage,
            focus: arguments.focus.or(arguments.sabotage),
            keep_trace: arguments.trace,
        })?;
        show(&report, arguments.trace);
        if !report.findings.is_empty() {
            failed += 1;
            if !arguments.all {
                break;
            }
        }
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Soaks with each seed.
#[expect(clippy::print_stdout, reason = "this is the command's output")]
fn soaks(seeds: std::ops::Range<u64>, versions: u64) -> anyhow::Result<ExitCode> {
    for seed in seeds {
        let report = soak(SoakOptions::new(seed, versions))?;
        println!("soak {seed}: {report:?}");
        if let Err(why) = report.verdict() {
            println!("soak {seed}: {why}");
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn parse_range(text: &str) -> anyhow::Result<(u64, u64)> {
    let parsed = text.split_once("..").and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    parsed.ok_or_else(|| anyhow::anyhow!("{text:?} is not FIRST..END, for example 0..100"))
}

#[expect(clippy::print_stdout, reason = "this is the command's output")]
fn show(report: &Report, whole: bool) {
    if whole || !report.findings.is_empty() {
        report.trace.iter().for_each(|line| println!("{line}"));
    }
    for finding in &report.findings {
        println!("seed {}: {finding}", report.seed);
    }
    println!("{}", report.summary());
}
