//! `bench`: sizes x operations x clients, closed loop. Reads are compared byte for byte here too;
//! the comparison is a memcmp, so that the client stays lean.

mod cell;
mod server;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::content::Content;
use crate::latency::{Latencies, Quantiles};
use crate::s3::S3;
use crate::size::Size;
use crate::{TargetArgs, print_json};

use cell::{Cell, Operation, Worker};
use server::{Sample, Server, ServerProcess};

/// `stele-loadtest bench`.
#[derive(Args)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Object sizes.
    #[arg(long, value_delimiter = ',', default_value = "4KiB,64KiB,1MiB,64MiB")]
    sizes: Vec<Size>,
    /// Numbers of concurrent clients.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64")]
    clients: Vec<u32>,
    /// Operations, in this order; all but put and walk need a put before them.
    #[arg(long, value_delimiter = ',', default_value = "put,get,head,list,delete")]
    ops: Vec<Operation>,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// No measurement writes more than this.
    #[arg(long, default_value = "4GiB")]
    max_written: Size,
    /// Process id of the server, to read its CPU time from /proc. A server of several processes: all of them,
    /// as NAME=PID; those of one name are added up.
    #[arg(long, value_delimiter = ',')]
    server_pid: Vec<ServerProcess>,
    /// The server's metrics, for example `http://127.0.0.1:9001/metrics`: counters whose name
    /// contains `fsyncs` are reported per operation.
    #[arg(long)]
    metrics: Option<String>,
    /// Leave the objects there, for example for a later `--ops walk`.
    #[arg(long)]
    keep: bool,
    /// Keys begin with this.
    #[arg(long, default_value = "bench/")]
    prefix: String,
}

/// One measurement.
#[derive(Debug, Serialize)]
struct Row {
    size: String,
    op: &'static str,
    clients: u32,
    count: u64,
    errors: u64,
    seconds: f64,
    ops_per_s: f64,
    mb_per_s: f64,
    #[serde(flatten)]
    quantiles: Quantiles,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_cpu_ms_per_op: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_cpu_s_per_gb: Option<f64>,
    /// Of a server of several processes: the same by their names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    cpu_ms_per_op: BTreeMap<String, f64>,
    /// See `cpu_ms_per_op`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    cpu_s_per_gb: BTreeMap<String, f64>,
    /// Growth of each sync counter, per operation.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    syncs_per_op: BTreeMap<String, f64>,
}

/// Measures everything and prints the rows as JSON; progress goes to stderr.
///
/// # Errors
/// If the target can't be used, or a read returns wrong bytes.
pub(crate) async fn bench(args: BenchArgs) -> anyhow::Result<()> {
    let target = args.target.target(&args.target.bucket)?;
    S3::new(&target).ensure_bucket().await?;
    let server = Server::new(args.server_pid.clone(), args.metrics.as_deref())?;
    let mut rows = Vec::new();
    if let Some(latencies) = server.ping().await? {
        rows.push(ping_row(&latencies));
    }
    for size in &args.sizes {
        let body = Content::new(1, "bench", 1).bytes(0, usize::try_from(size.0)?);
        for clients in &args.clients {
            let mut workers: Vec<Worker> = (0..*clients)
                .map(|id| {
                    let own = format!("{size}/{clients}/c{id:03}/");
                    Worker::new(S3::new(&target), &args.prefix, &own, body.clone())
                })
                .collect();
            for op in &args.ops {
                let cell = Cell {
                    op: *op,
                    seconds: Duration::from_secs(args.seconds),
                    puts_max: (args.max_written.0 / size.0.max(1)).max(u64::from(*clients)),
                };
                let row = measure(&mut workers, cell, &server).await?;
                report_progress(&row);
                rows.push(row);
            }
            if !args.keep {
                cell::clean_up(&mut workers).await;
            }
        }
    }
    print_json(&rows)
}

/// An empty HTTP round trip, to compare the others with.
fn ping_row(latencies: &Latencies) -> Row {
    let row = Row {
        size: Size(0).to_string(),
        op: "ping",
        clients: 1,
        count: latencies.count(),
        errors: 0,
        seconds: 0.0,
        ops_per_s: 0.0,
        mb_per_s: 0.0,
        quantiles: latencies.quantiles(),
        server_cpu_ms_per_op: None,
        server_cpu_s_per_gb: None,
        cpu_ms_per_op: BTreeMap::new(),
        cpu_s_per_gb: BTreeMap::new(),
        syncs_per_op: BTreeMap::new(),
    };
    report_progress(&row);
    row
}

async fn measure(workers: &mut Vec<Worker>, cell: Cell, server: &Server) -> anyhow::Result<Row> {
    let clients = u32::try_from(workers.len())?;
    let size = workers.first().map_or(0, Worker::object_len);
    let before = server.sample().await?;
    let started = tokio::time::Instant::now();
    let shared = Arc::new(cell.begin(started));
    let mut running = tokio::task::JoinSet::new();
    for mut worker in workers.drain(..) {
        let shared = Arc::clone(&shared);
        running.spawn(async move {
            let outcome = worker.work(&shared).await;
            (worker, outcome)
        });
    }
    let mut latencies = Latencies::default();
    let (mut bytes, mut errors) = (0u64, 0u64);
    while let Some(done) = running.join_next().await {
        let (worker, outcome) = done?;
        let done = outcome?;
        latencies.merge(&done.latencies);
        bytes += done.bytes;
        errors += done.errors;
        workers.push(worker);
    }
    let seconds = started.elapsed().as_secs_f64();
    let after = server.sample().await?;
    let count = latencies.count();
    let cpu = Sample::cpu_between(&before, &after);
    let (per_op, per_byte) = (1e3 / count.max(1) as f64, 1e9 / bytes as f64);
    let scaled = |by: f64| cpu.iter().map(move |(name, spent)| (name.clone(), spent * by)).collect::<BTreeMap<_, _>>();
    let several = cpu.len() > 1;
    let spent = Some(cpu.values().sum::<f64>()).filter(|_| !cpu.is_empty());
    Ok(Row {
        size: Size(size).to_string(),
        op: cell.op.name(),
        clients,
        count,
        errors,
        seconds,
        ops_per_s: count as f64 / seconds,
        mb_per_s: bytes as f64 / 1e6 / seconds,
        quantiles: latencies.quantiles(),
        server_cpu_ms_per_op: spent.map(|spent| spent * per_op),
        server_cpu_s_per_gb: spent.filter(|_| bytes > 0).map(|spent| spent * per_byte),
        cpu_ms_per_op: if several { scaled(per_op) } else { BTreeMap::new() },
        cpu_s_per_gb: if several && bytes > 0 { scaled(per_byte) } else { BTreeMap::new() },
        syncs_per_op: Sample::counters_between(&before, &after)
            .into_iter()
            .map(|(name, grown)| (name, grown / count.max(1) as f64))
            .collect(),
    })
}

#[expect(clippy::print_stderr, reason = "progress for people; stdout carries the report")]
fn report_progress(row: &Row) {
    eprintln!(
        "{:>8} {} x{:<3} {:>9.0} ops/s {:>8.1} MB/s p50 {} us p99 {} us errors {}",
        row.size,
        row.op,
        row.clients,
        row.ops_per_s,
        row.mb_per_s,
        row.quantiles.p50_us,
        row.quantiles.p99_us,
        row.errors
    );
}
