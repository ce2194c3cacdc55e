//! Measures the built-in comparisons of the crates and the whole store over HTTP, and writes the tables
//! into docs/benchmarks.md between its markers. Raw rows are kept under `target/bench`. Only loopback.

mod machine;
mod serve;
mod table;
mod targets;

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::option;
use crate::root::{cargo, root};
use crate::steps::succeed;
use crate::tools;

use serve::Server;
use targets::{Measured, targets};

const PAGE: &str = "docs/benchmarks.md";
const BEGIN: &str = "<!-- begin measured -->";
const END: &str = "<!-- end measured -->";

/// Example of a crate, what it shows.
const EXAMPLES: [(&str, &str); 7] = [
    ("bench_stages", "CPU of every stage of the data path"),
    ("bench_group_commit", "Group commit against one sync per write"),
    ("bench_list", "Listing against a bare range scan"),
    ("bench_commit", "Metadata commits with 1, 3 and 5 voters, and an idle node of sixteen groups"),
    ("bench_transport", "QUIC against TCP with TLS, and repair beside foreground"),
    ("bench_evidence", "Bundles, proofs and their verification"),
    (LOG, "What the evidence log costs a voter per PUT"),
];
/// Needs a switch that nothing else is built with.
const LOG: &str = "bench_log";

/// A store with some settings, measured with some flags of the load tester.
struct HttpRun {
    title: &'static str,
    settings: &'static [(&'static str, &'static str)],
    flags: &'static [&'static str],
}

impl HttpRun {
    /// Where its raw rows are kept.
    fn file(&self) -> String {
        format!("http, {}.json", self.title)
    }
}

const LATENCY: &str = "STELE_BENCH_DRIVE_SYNC_LATENCY";

const HTTP: [HttpRun; 5] = [
    HttpRun { title: "drives as they are", settings: &[], flags: &[] },
    HttpRun { title: "drives 2 ms slower per sync", settings: &[(LATENCY, "2ms")], flags: &[] },
    HttpRun { title: "drives 10 ms slower per sync", settings: &[(LATENCY, "10ms")], flags: &[] },
    HttpRun {
        title: "signed payloads",
        settings: &[],
        flags: &["--sign-payload", "--sizes", "64MiB", "--ops", "put", "--clients", "1"],
    },
    HttpRun {
        title: "read cache off, so that reads come from the drives",
        settings: &[("STELE_MEMORY_CACHE", "0B")],
        flags: &["--sizes", "4KiB,1MiB,64MiB", "--ops", "put,get", "--clients", "1,16"],
    },
];

/// Measures everything: `--date DATE [--seconds N]`, keeps the raw rows and writes the page from them.
/// `--only PART` measures `crates`, one example of them, `http`, `cluster`, `requests`, `anchored` or `memory` and prints it; `--render` measures nothing and
/// writes the page from the rows that are kept.
///
/// # Errors
/// If something can't be built or measured.
pub(crate) fn bench(rest: &[&str]) -> Result<()> {
    let date = option(rest, "--date").context("--date DATE is needed: it stands in the page")?;
    let only = option(rest, "--only");
    if !rest.contains(&"--render") {
        measure(only, option(rest, "--seconds").unwrap_or("3"))?;
    }
    let wanted = |part: &str| only.is_none_or(|only| only == part);
    let mut measured = Measured::default();
    let mut page = String::new();
    for (example, title) in EXAMPLES.into_iter().filter(|(example, _)| wanted("crates") || wanted(example)) {
        let rows = kept(&format!("{example}.jsonl"))?;
        page.push_str(&format!("\n## {title}\n\n{}", table::render(&rows)));
        measured.crates.extend(rows);
    }
    for run in HTTP.iter().filter(|_| wanted("http")) {
        let rows = kept(&run.file())?;
        page.push_str(&format!("\n## Over HTTP, {}\n\n{}", run.title, table::render(&rows)));
        measured.http.push((run.title, rows));
    }
    if wanted("cluster") {
        page.push_str(&format!("\n## A cluster beside `stele dev`\n\n{}", table::render(&kept("cluster.jsonl")?)));
    }
    if wanted("requests") {
        page.push_str(&format!("\n## Smaller requests, copies and TLS\n\n{}", table::render(&kept("requests.jsonl")?)));
    }
    if wanted("anchored") {
        page.push_str(&format!("\n## From a PUT to its anchor\n\n{}", table::render(&kept("anchored.jsonl")?)));
    }
    if wanted("memory") {
        page.push_str(&format!("\n## Memory\n\n{}", table::render(&kept("memory.jsonl")?)));
    }
    if only.is_some() {
        println!("{page}");
        return Ok(());
    }
    let promises = table::render(&targets(&measured)?);
    write_page(&format!("Measured {date} on {}.\n\n## Promises over HTTP\n\n{promises}{page}", machine::describe()?))
}

/// Measures one part or all, and keeps the raw rows.
fn measure(only: Option<&str>, seconds: &str) -> Result<()> {
    let wanted = |part: &str| only.is_none_or(|only| only == part);
    std::fs::create_dir_all(folder()).context("making target/bench")?;
    succeed(cargo(&["build", "--release", "--bins", "--examples"]).args(ALL))?;
    if wanted("crates") || wanted(LOG) {
        let features = ["--features", "stele-metadata/sabotage", "--example", LOG];
        succeed(cargo(&["build", "--release"]).args(features).args(ALL))?;
    }
    for (example, _) in EXAMPLES.iter().filter(|(example, _)| wanted("crates") || wanted(example)) {
        measure_example(example)?;
    }
    for run in HTTP.iter().filter(|_| wanted("http")) {
        measure_http(run, seconds)?;
    }
    if wanted("cluster") {
        measure_script("cluster", "loadtest/acceptance/cluster_bench.py", &["--seconds", seconds])?;
    }
    if wanted("requests") {
        measure_script("requests", "loadtest/acceptance/requests_bench.py", &["--seconds", seconds])?;
    }
    if wanted("anchored") {
        measure_script("anchored", "loadtest/acceptance/anchored_bench.py", &[])?;
    }
    if wanted("memory") { measure_script("memory", "loadtest/acceptance/memory.py", &[]) } else { Ok(()) }
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

/// Rows of a file that was kept: one JSON array, or one object per line among other text.
fn kept(name: &str) -> Result<Vec<Value>> {
    let path = folder().join(name);
    let text = std::fs::read_to_string(&path).with_context(|| format!("{}: measure first", path.display()))?;
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(&text).with_context(|| name.to_owned());
    }
    let lines = text.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(line).with_context(|| format!("{name}: {line}"))).collect()
}

/// Runs an example that prints one JSON object per line.
fn measure_example(example: &str) -> Result<()> {
    println!("==> {example}");
    let mut command = crate::root::command(release(&format!("examples/{example}")));
    // Those that need files make them there; the others take no argument.
    command.arg(folder());
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().with_context(|| example.to_owned())?;
    ensure!(output.status.success(), "{example}: {}", output.status);
    keep(&format!("{example}.jsonl"), &output.stdout)
}

/// Runs the load tester's measurement against a fresh store.
fn measure_http(run: &HttpRun, seconds: &str) -> Result<()> {
    println!("==> over HTTP, {}", run.title);
    let server = Server::start(&release("stele"), &folder().join("store"), run.settings)?;
    let mut load = crate::root::command(release("stele-loadtest"));
    load.args(["bench", "--endpoint", &server.s3, "--seconds", seconds]);
    load.args(["--metrics", &format!("{}/metrics", server.admin), "--server-pid", &server.pid().to_string()]);
    load.args(run.flags).env("AWS_ACCESS_KEY_ID", serve::ACCESS).env("AWS_SECRET_ACCESS_KEY", serve::SECRET);
    let output = load.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("stele-loadtest bench")?;
    ensure!(output.status.success(), "stele-loadtest bench: {}", output.status);
    server.stop()?;
    keep(&run.file(), &output.stdout)
}

/// Runs a script that prints one JSON object per line.
fn measure_script(part: &str, path: &str, flags: &[&str]) -> Result<()> {
    if let Some(missing) = tools::missing_clients() {
        bail!("{part}: lacks {missing}");
    }
    println!("==> {part}");
    let mut script = tools::script(path);
    script.arg("--stele").arg(release("stele")).arg("--work").arg(folder().join(part)).args(flags);
    let output = script.stdin(Stdio::null()).stderr(Stdio::inherit()).output().with_context(|| path.to_owned())?;
    ensure!(output.status.success(), "{path}: {}: {}", output.status, String::from_utf8_lossy(&output.stdout));
    std::fs::remove_dir_all(folder().join(part)).with_context(|| format!("removing what {path} left"))?;
    keep(&format!("{part}.jsonl"), &output.stdout)
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
