//! Runs named steps, one after the other, and says at the end what failed, what was skipped and what
//! took long. A step that lacks its tool is skipped by name on a person's machine and fails in CI.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// How a step ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    /// What is missing and how to get it.
    Lacks(String),
}

struct Done {
    name: String,
    took: Duration,
    outcome: Result<Outcome>,
}

/// The steps of one run.
pub(crate) struct Steps {
    done: Vec<Done>,
    in_ci: bool,
}

impl Steps {
    pub(crate) fn new() -> Self {
        Self { done: Vec::new(), in_ci: std::env::var_os("CI").is_some_and(|ci| ci == "true") }
    }

    /// Runs one step; later steps run whatever it says. Returns whether it passed.
    pub(crate) fn run(&mut self, name: &str, step: impl FnOnce() -> Result<Outcome>) -> bool {
        println!("\n==> {name}");
        let started = Instant::now();
        let outcome = step();
        let took = started.elapsed();
        let outcome = match outcome {
            Ok(Outcome::Lacks(what)) if self.in_ci => Err(anyhow::anyhow!("lacks {what}")),
            other => other,
        };
        match &outcome {
            Ok(Outcome::Passed) => println!("==> {name}: passed in {:.0} s", took.as_secs_f64()),
            Ok(Outcome::Lacks(what)) => println!("==> {name}: SKIPPED, lacks {what}"),
            Err(error) => println!("==> {name}: FAILED after {:.0} s: {error:#}", took.as_secs_f64()),
        }
        let passed = matches!(outcome, Ok(Outcome::Passed));
        self.done.push(Done { name: name.to_owned(), took, outcome });
        passed
    }

    /// The closing summary.
    ///
    /// # Errors
    /// Names the steps that failed.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.done.sort_by_key(|done| std::cmp::Reverse(done.took));
        let all: Duration = self.done.iter().map(|done| done.took).sum();
        println!("\nslowest of {:.0} s in all:", all.as_secs_f64());
        for done in self.done.iter().take(8) {
            println!("{:>7.0} s  {}", done.took.as_secs_f64(), done.name);
        }
        let mut failed = Vec::new();
        let (mut passed, mut skipped) = (0u32, 0u32);
        for done in &self.done {
            match &done.outcome {
                Ok(Outcome::Passed) => passed += 1,
                Ok(Outcome::Lacks(what)) => {
                    skipped += 1;
                    println!("skipped: {}, lacks {what}", done.name);
                }
                Err(error) => {
                    println!("failed: {}: {error:#}", done.name);
                    failed.push(done.name.as_str());
                }
            }
        }
        println!("steps: {passed} passed, {} failed, {skipped} skipped", failed.len());
        if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
    }
}

/// Runs a program to its end.
///
/// # Errors
/// If it can't be started, or ends with another code than 0.
pub(crate) fn succeed(command: &mut Command) -> Result<Outcome> {
    let shown = format!("{} {}", command.get_program().to_string_lossy(), words(command));
    let status = command.stdin(std::process::Stdio::null()).status().with_context(|| shown.clone())?;
    if status.success() { Ok(Outcome::Passed) } else { bail!("{shown}: {status}") }
}

fn words(command: &Command) -> String {
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    words.join(" ")
}

/// Prints findings.
///
/// # Errors
/// If there are any.
pub(crate) fn no_findings(name: &str, findings: &[String]) -> Result<()> {
    for finding in findings {
        println!("{finding}");
    }
    if findings.is_empty() { Ok(()) } else { bail!("{name}: {} findings", findings.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_is_a_skip_for_people_and_a_failure_in_ci() {
        let lacks = || Ok(Outcome::Lacks("a tool".to_owned()));
        let mut steps = Steps { done: Vec::new(), in_ci: false };
        assert!(!steps.run("local", lacks));
        assert!(steps.finish().is_ok());
        let mut steps = Steps { done: Vec::new(), in_ci: true };
        assert!(!steps.run("ci", lacks));
        assert!(steps.finish().is_err());
    }

    #[test]
    fn one_failed_step_fails_the_run() {
        let mut steps = Steps { done: Vec::new(), in_ci: true };
        assert!(!steps.run("bad", || bail!("broken")));
        assert!(steps.run("good", || Ok(Outcome::Passed)));
        let error = steps.finish().unwrap_err().to_string();
        assert!(error.contains("bad") && !error.contains("good"), "{error}");
    }
}
