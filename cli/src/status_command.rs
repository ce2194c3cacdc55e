//! `stele status`: asks a running store's admin port and prints what it says.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::admin::status::{Node, Status};
use crate::config::Span;

const TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// Exit code where something needs an operator's eye.
const EXIT_PROBLEMS: u8 = 1;
/// Exit code where the store does not serve.
const EXIT_NOT_READY: u8 = 2;

/// `stele status`.
#[derive(Args)]
pub(crate) struct StatusArgs {
    /// Admin address of the running store.
    #[arg(long, default_value = "127.0.0.1:9001", value_name = "ADDR")]
    admin_addr: SocketAddr,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Prints the status; exit code 0: all well, 1: problems, 2: not serving.
///
/// # Errors
/// If nothing answers at the address.
pub(crate) async fn run(args: StatusArgs) -> anyhow::Result<ExitCode> {
    let body = page(args.admin_addr, "/status").await?;
    let Ok(status) = serde_json::from_str::<Status>(&body) else {
        bail!("{} answered: {}", args.admin_addr, body.trim());
    };
    crate::print(if args.json { body.trim().to_owned() } else { render(&status) });
    Ok(exit_code(&status))
}

/// 0: all well, 1: problems, 2: not serving.
pub(crate) fn exit_code(status: &Status) -> ExitCode {
    match (status.ready, status.problems.is_empty()) {
        (true, true) => ExitCode::SUCCESS,
        (true, false) => ExitCode::from(EXIT_PROBLEMS),
        (false, _) => ExitCode::from(EXIT_NOT_READY),
    }
}

/// A page of an admin port.
///
/// # Errors
/// Nothing answers at the address.
pub(crate) async fn page(addr: SocketAddr, path: &str) -> anyhow::Result<String> {
    let asked = tokio::time::timeout(TIMEOUT, ask(addr, path)).await;
    asked
        .map_err(anyhow::Error::from)
        .flatten()
        .with_context(|| format!("no status from {addr}; is a stele process running there? (--admin-addr)"))
}

/// One GET; HTTP/1.0, so that the answer ends with the connection.
async fn ask(addr: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(addr).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nhost: {addr}\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await?;
    let (_, body) = answer.split_once("\r\n\r\n").context("not an HTTP answer")?;
    Ok(body.to_owned())
}

/// A time for which evidence is kept, for people.
pub(crate) fn kept_for(ms: Option<u64>) -> String {
    ms.map_or_else(|| "for ever".to_owned(), |ms| Span(ms).to_string())
}

/// Lines about placement groups.
fn placement(status: &Status) -> Vec<String> {
    let placement = &status.placement;
    let mut lines = vec![format!(
        "scheme    {}, {} placement groups, {} writable; {} of {} tolerable drive losses left",
        status.scheme,
        placement.groups,
        placement.writable,
        placement.lowest_tolerance.max(0),
        placement.full_tolerance
    )];
    if placement.moving_slots > 0 {
        lines.push(format!("          {} slots move to other drives", placement.moving_slots));
    }
    if placement.rebalancing_paused {
        lines.push("          rebalancing is held back (stele cluster rebalance resume)".to_owned());
    }
    lines
}

/// A node under maintenance, for people.
fn tended(node: &Node, now_ms: u64) -> String {
    match node.maintenance_until.saturating_sub(now_ms) {
        0 => String::new(),
        left => format!("  maintenance for {} s", left / 1000),
    }
}

/// For people.
pub(crate) fn render(status: &Status) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        let written = writeln!(out, "{text}");
        debug_assert!(written.is_ok(), "writing to a String can't fail");
    };
    line(format!("stele {}  cluster {}", status.version, status.cluster));
    line(format!("state     {}", if status.ready { "serving" } else { "NOT SERVING" }));
    placement(status).into_iter().for_each(&mut line);
    line(format!("log       {} entries, root {}", status.log.size, status.log.root));
    let anchored = status.log.anchored.iter().map(|(chain, size)| format!(", {size} on {chain}")).collect::<String>();
    line(format!("          {} in the checkpoint, {} signed{anchored}", status.log.checkpoint, status.log.signed));
    line(format!("          {} in archives", status.log.archived));
    line(format!("evidence  of removed versions is kept {}", kept_for(status.log.evidence_kept_ms)));
    if !status.nodes.is_empty() {
        line(format!("backups   {}", status.backups.line(status.now_ms)));
    }
    line(format!("epoch     {}, fence {}, {} leases", status.epoch, status.fence, status.leases));
    line(format!(
        "objects   {} buckets, {} versions, {} logical, {} on drives",
        status.buckets,
        status.versions,
        human(status.logical_bytes),
        human(status.used_bytes)
    ));
    if !status.nodes.is_empty() {
        let metadata = &status.metadata;
        let leader = metadata.leader.map_or_else(|| "nobody".to_owned(), |id| format!("node {id}"));
        let lag = metadata.lag.values().max().copied().unwrap_or(0);
        let voters = metadata.voters.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        line(format!(
            "metadata  {leader} leads in term {}, voters {voters}, at most {lag} entries behind",
            metadata.term
        ));
        line("nodes".to_owned());
    }
    for node in &status.nodes {
        let place = [&node.zone, &node.rack].map(String::as_str).join("/");
        let alive = if node.alive { "alive" } else { "SILENT" };
        let (id, role, name, at) = (node.id, &node.role, &node.name, node.addresses.join(", "));
        let (place, tended) = (place.trim_matches('/'), tended(node, status.now_ms));
        line(format!("  {id:>4} {role:<12} {:<8} {alive:<6} {name}  {at}  {place}{tended}", node.state));
    }
    line("drives".to_owned());
    for drive in &status.drives {
        line(format!(
            "  {:<8} {:>10} used  {:>6} packs  {}{}",
            drive.state,
            human(drive.used_bytes),
            drive.packs,
            drive.name,
            if drive.reason.is_empty() { String::new() } else { format!("  ({})", drive.reason) }
        ));
    }
    for problem in &status.problems {
        line(format!("! {problem}"));
    }
    out.trim_end().to_owned()
}

/// Bytes for people.
pub(crate) fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}
