//! Measures the built-in comparisons of the crates and the whole store over HTTP, and writes the tables
//! into docs/benchmarks.md between its markers. Raw rows are kept under `target/bench`. Only loopback.

mod machine;
mod serve;
mod table;

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::option;
use crate::root::{cargo, root};
use crate::steps::succeed;
use crate::tools;

use serve::Server;

const PAGE: &str = "docs/benchmarks.md";
const BEGIN: &str = "<!-- begin measured -->";
const END: &str = "<!-- end measured -->";

/// Example of a crate, what it shows.
const EXAMPLES: [(&str, &str); 3] = [
    ("bench_stages", "CPU of every stage of the data path"),
    ("bench_group_commit", "Group commit against one sync per write"),
    ("bench_list", "Listing against a bare range scan"),
];

/// Extra time of every drive sync, as the store's configuration writes it.
const LATENCIES: [&str; 3] = ["0ms", "2ms", "10ms"];

/// Measures everything: `--date DATE [--seconds N] [--only PART]`, PART being `crates`, `http` or `memory`.
///
/// # Errors
/// If something can't be built or measured.
pub(crate) fn bench(rest: &[&str]) -> Result<()> {
    let date = option(rest, "--date").context("--date DATE is needed: it stands in the page")?;
    let seconds = option(rest, "--seconds").unwrap_or("3");
    let only = option(rest, "--only");
    let wanted = |part: &str| only.is_none_or(|only| only == part);
    std::fs::create_dir_all(folder()).context("making target/bench")?;
    succeed(cargo(&["build", "--release", "--bins", "--examples"]).args(ALL))?;
    let mut page = format!("Measured {date} on {}.\n", machine::describe()?);
    if wanted("crates") {
        for (example, title) in EXAMPLES {
            page.push_str(&format!("\n## {title}\n\n{}", table::render(&example_rows(example)?)));
        }
    }
    if wanted("http") {
        for latency in LATENCIES {
            let rows = over_http(latency, seconds, &[])?;
            page.push_str(&format!("\n## Over HTTP, drives {latency} slower per sync\n\n{}", table::render(&rows)));
        }
        let rows =
            over_http("0ms", seconds, &["--sign-payload", "--sizes", "64MiB", "--ops", "put,get", "--clients", "1"])?;
        page.push_str(&format!("\n## Over HTTP, signed payloads\n\n{}", table::render(&rows)));
    }
    if wanted("memory") {
        page.push_str(&format!("\n## Memory\n\n{}", table::render(&memory()?)));
    }
    if only.is_some() {
        println!("{page}");
        return Ok(());
    }
    write_page(&page)
}

const ALL: [&str; 3] = ["--workspace", "--ignore-rust-version", "--locked"];

fn folder() -> PathBuf {
    root().join("target/bench")
}

fn release(name: &str) -> PathBuf {
    root().join("target/release").join(name)
}

fn keep(name: &str, bytes: &[u8]) -> Result<()> {
    let path = folder().join(name);
    std::fs::write(&path, bytes).with_context(|| path.display().to_string())
}

/// Runs an example that prints one JSON object per line.
fn example_rows(example: &str) -> Result<Vec<Value>> {
    println!("==> {example}");
    let mut command = crate::root::command(release(&format!("examples/{example}")));
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().with_context(|| example.to_owned())?;
    ensure!(output.status.success(), "{example}: {}", output.status);
    keep(&format!("{example}.jsonl"), &output.stdout)?;
    let text = String::from_utf8(output.stdout).with_context(|| example.to_owned())?;
    let lines = text.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(line).with_context(|| format!("{example}: {line}"))).collect()
}

/// Runs the load tester's measurement against a fresh store.
fn over_http(latency: &str, seconds: &str, more: &[&str]) -> Result<Vec<Value>> {
    println!("==> over HTTP, {latency} {}", more.join(" "));
    let server = Server::start(&release("stele"), &folder().join("store"), latency)?;
    let mut load = crate::root::command(release("stele-loadtest"));
    load.args(["bench", "--endpoint", &server.s3, "--seconds", seconds]);
    load.args(["--metrics", &format!("{}/metrics", server.admin), "--server-pid", &server.pid().to_string()]);
    load.args(more).env("AWS_ACCESS_KEY_ID", serve::ACCESS).env("AWS_SECRET_ACCESS_KEY", serve::SECRET);
    let output = load.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("stele-loadtest bench")?;
    ensure!(output.status.success(), "stele-loadtest bench: {}", output.status);
    keep(&format!("http-{latency}{}.json", if more.is_empty() { "" } else { "-signed" }), &output.stdout)?;
    server.stop()?;
    match serde_json::from_slice(&output.stdout).context("rows of stele-loadtest bench")? {
        Value::Array(rows) => Ok(rows),
        other => bail!("stele-loadtest bench printed {other}"),
    }
}

/// Runs the memory script, which prints one JSON object per line and fails over budget.
fn memory() -> Result<Vec<Value>> {
    if let Some(missing) = tools::missing_clients() {
        bail!("memory: lacks {missing}");
    }
    println!("==> memory");
    let mut script = tools::script("loadtest/acceptance/memory.py");
    script.arg("--stele").arg(release("stele")).arg("--work").arg(folder().join("memory"));
    let output = script.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("memory.py")?;
    ensure!(output.status.success(), "memory.py: {}: {}", output.status, String::from_utf8_lossy(&output.stdout));
    keep("memory.jsonl", &output.stdout)?;
    let text = String::from_utf8(output.stdout).context("memory.py")?;
    text.lines().filter(|line| line.starts_with('{')).map(|line| Ok(serde_json::from_str(line)?)).collect()
}

fn write_page(measured: &str) -> Result<()> {
    let path = root().join(PAGE);
    let page = std::fs::read_to_string(&path).context(PAGE)?;
    let (head, rest) = page.split_once(BEGIN).with_context(|| format!("{PAGE} has no {BEGIN}"))?;
    let (_, tail) = rest.split_once(END).with_context(|| format!("{PAGE} has no {END}"))?;
    std::fs::write(&path, format!("{head}{BEGIN}\n{measured}\n{END}{tail}")).context(PAGE)?;
    println!("bench: wrote {PAGE}");
    Ok(())
}
