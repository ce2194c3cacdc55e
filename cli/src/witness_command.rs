//! `stele witness`: a small server that anybody can run, and that cosigns checkpoints of other people's logs. It is
//! part of no cluster. docs/witness.md.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;
use stele_anchor::witness::serve::serve;
use stele_anchor::witness::{Setup, Witness};
use stele_evidence::policy::{POLICY_MAX, Policy};
use stele_types::seam::Clock;
use tokio::net::TcpListener;

use crate::anchor::AnchorDir;
use crate::dev::signals::StopSignals;
use crate::real::{OsRng, RealClock};
use crate::web;

/// `stele witness`.
#[derive(Args)]
pub(crate) struct WitnessArgs {
    /// A directory of its own: keys, and what was cosigned. Never restore it from an old copy.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Where to listen, plain HTTP.
    #[arg(long, default_value = "127.0.0.1:7070", value_name = "ADDR")]
    addr: SocketAddr,
    /// Name of the witness for good: a URL without a scheme, under a domain that is yours.
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Policy (C2SP tlog-policy) whose log lines are the logs to follow.
    #[arg(long, value_name = "FILE")]
    logs: PathBuf,
    /// Print one JSON line on stdout once it serves, and nothing else.
    #[arg(long)]
    json: bool,
}

/// Serves until a signal.
///
/// # Errors
/// Says what can't be opened or read.
pub(crate) async fn run(args: WitnessArgs) -> anyhow::Result<ExitCode> {
    let mut signals = StopSignals::new()?;
    let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
    let policy = web::read_small(&args.logs, POLICY_MAX).await?;
    let policy = Policy::parse(&policy).with_context(|| format!("--logs {}", args.logs.display()))?;
    let logs = Setup::logs_of(&policy).with_context(|| format!("--logs {}", args.logs.display()))?;
    let dir = AnchorDir::open(&args.data).await?;
    let (name, signers) = dir.cosigners(&args.name, &OsRng).await?;
    let (path, setup) = (args.data.clone(), Setup { name, signers, logs });
    let witness = tokio::task::spawn_blocking(move || Witness::open(&path, setup, clock)).await??;
    let listener = TcpListener::bind(args.addr).await.with_context(|| format!("listening on {}", args.addr))?;
    let url = format!("http://{}", listener.local_addr()?);
    crate::print(if args.json {
        json!({ "event": "ready", "witness": url, "about": witness.about() }).to_string()
    } else {
        format!("witness on {url}\n{}", witness.about().trim_end())
    });
    let serving = tokio::spawn(serve(listener, Arc::new(witness)));
    let signal = signals.wait().await;
    tracing::info!(signal, "stopping");
    serving.abort();
    Ok(ExitCode::SUCCESS)
}
