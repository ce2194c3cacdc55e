//! `cargo xtask`: the one entry for every chore, the same on a laptop and in CI. Called by people,
//! by the aliases in `.cargo/config.toml` and by `.ci/run`. Never part of the product.
//!
//! | command | does |
//! |---|---|
//! | `verify [--full]` | everything that must hold before a change lands; changes no file in git |
//! | `quick CRATE [TEST]` | inner loop: tests and lints of one crate |
//! | `deps` | who may import whom |
//! | `tidy` | headers, lengths, banned words |
//! | `tools` | installs the outside programs the tests use, pinned, under `target/tools` |
//! | `verifier [--try]` | builds `stele-verify` as one static file; tries it where there is nothing else |
//! | `bench --date DATE [--seconds N]` | measures and writes docs/benchmarks.md |
//! | `fuzz [--seconds N] [TARGET]` | runs the fuzz targets |
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program talks on its streams")]
#![expect(
    clippy::disallowed_methods,
    reason = "no part of the store: it reads sources, times its steps and starts programs"
)]

mod bench;
mod crates;
mod deps;
mod fuzz;
mod quick;
mod root;
mod steps;
mod tidy;
mod tools;
mod verifier;
mod verify;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "usage: cargo xtask COMMAND
  verify [--full]                   everything that must hold before a change lands
  quick CRATE [TEST]                tests and lints of one crate
  deps                              who may import whom
  tidy                              headers, lengths, banned words
  tools                             installs the outside programs that tests use
  verifier [--try]                  builds stele-verify as one static file, tries it by itself
  bench --date DATE [--seconds N]   measures and writes docs/benchmarks.md
  fuzz [--seconds N] [TARGET]       runs the fuzz targets";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["verify"] => verify::verify(verify::Extent::Usual),
        ["verify", "--full"] => verify::verify(verify::Extent::Full),
        ["quick", name] => quick::quick(name, None),
        ["quick", name, test] => quick::quick(name, Some(test)),
        ["deps"] => steps::no_findings("deps", &deps::findings()?),
        ["tidy"] => steps::no_findings("tidy", &tidy::findings()?),
        ["tools"] => tools::install(),
        ["verifier"] => verifier::build().map(drop),
        ["verifier", "--try"] => match verifier::alone()? {
            steps::Outcome::Passed => Ok(()),
            steps::Outcome::Lacks(what) => bail!("lacks {what}"),
        },
        ["bench", rest @ ..] => bench::bench(rest),
        ["fuzz", rest @ ..] => fuzz::fuzz(rest),
        _ => bail!("{USAGE}"),
    }
}

/// The value after `--name`, if it is there.
fn option<'a>(rest: &[&'a str], name: &str) -> Option<&'a str> {
    rest.iter().position(|word| *word == name).and_then(|at| rest.get(at + 1)).copied()
}
