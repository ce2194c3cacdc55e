//! `run` and `check`: verified load, and the verdict after a crash.

mod check;
mod client;
mod mix;
mod report;
mod verify;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tokio::time::Instant;

use crate::TargetArgs;
use crate::ledger::{Ledger, Origin};
use crate::s3::S3;
use crate::size::SizeMix;

pub(crate) use check::check;
use client::Client;
use mix::Mix;
use report::{RunReport, Tally};

/// How often the ledger is made durable while a run goes on.
const LEDGER_SYNC_INTERVAL: Duration = Duration::from_millis(200);

/// `stele-loadtest run`.
#[derive(Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Ledger file; continued if it exists.
    #[arg(long)]
    ledger: PathBuf,
    /// Decides contents, keys, sizes and the order of operations of each client.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Stop after this many seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Stop after this many operations.
    #[arg(long)]
    ops: Option<u64>,
    /// Concurrent clients, each with one connection and its own keys.
    #[arg(long, default_value_t = 8)]
    clients: u32,
    /// Keys of each client.
    #[arg(long, default_value_t = 32)]
    keys: u32,
    /// Object sizes with weights; a size stands for half of it up to itself.
    #[arg(long, default_value = "0B:1,512B:10,4KiB:40,64KiB:30,1MiB:10,9MiB:1")]
    sizes: SizeMix,
    /// Operations with weights.
    #[arg(long, default_value = "put:40,get:35,head:8,list:2,delete:14,multipart:1")]
    mix: Mix,
    /// Keys begin with this.
    #[arg(long, default_value = "run/")]
    prefix: String,
    /// End the run, without failing it, once the server can't be reached.
    #[arg(long)]
    stop_when_unreachable: bool,
}

/// `stele-loadtest check`.
#[derive(Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Ledger file; its bucket is the one that is checked.
    #[arg(long)]
    ledger: PathBuf,
    /// Concurrent readers.
    #[arg(long, default_value_t = 8)]
    clients: u32,
}

/// What the clients of a run share.
struct Plan {
    ledger: Ledger,
    sizes: SizeMix,
    mix: Mix,
    clients: u32,
    keys: u32,
    deadline: Instant,
    ops_left: AtomicU64,
    stop: AtomicBool,
    stop_when_unreachable: bool,
}

impl Plan {
    /// Takes one operation from the budget; `false` ends the client.
    fn next_operation(&self) -> bool {
        if self.stop.load(Ordering::Relaxed) || Instant::now() >= self.deadline {
            return false;
        }
        self.ops_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }
}

/// Drives the load.
///
/// # Errors
/// If the target or the ledger can't be used at all; mismatches are in the report.
pub(crate) async fn run(args: RunArgs) -> anyhow::Result<RunReport> {
    let origin = Origin { seed: args.seed, bucket: args.target.bucket.clone(), prefix: args.prefix.clone() };
    let target = args.target.target(&args.target.bucket)?;
    S3::new(&target).ensure_bucket().await?;
    let ledger = Ledger::open(&args.ledger, Some(origin)).await?;
    let started = Instant::now();
    let plan = Arc::new(Plan {
        ledger,
        sizes: args.sizes,
        mix: args.mix,
        clients: args.clients,
        keys: args.keys,
        deadline: started + Duration::from_secs(args.seconds),
        ops_left: AtomicU64::new(args.ops.unwrap_or(u64::MAX)),
        stop: AtomicBool::new(false),
        stop_when_unreachable: args.stop_when_unreachable,
    });
    let mut clients = tokio::task::JoinSet::new();
    for id in 0..args.clients {
        let client = Client::new(id, S3::new(&target), Arc::clone(&plan));
        clients.spawn(client.drive());
    }
    let mut tally = Tally::default();
    let mut tick = tokio::time::interval(LEDGER_SYNC_INTERVAL);
    loop {
        tokio::select! {
            biased;
            done = clients.join_next() => match done {
                Some(client) => tally.merge(client.context("a client of the load tester failed")?),
                None => break,
            },
            _ = tick.tick() => plan.ledger.sync().await?,
        }
    }
    plan.ledger.sync().await?;
    Ok(RunReport::new(tally, started.elapsed(), &plan.ledger))
}
