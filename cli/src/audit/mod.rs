//! `stele audit`: possession audits, and their reports checked again. docs/audits.md.

mod judge;
mod run;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

/// `stele audit`.
#[derive(Subcommand)]
pub(crate) enum AuditCommand {
    /// Ask the nodes for bytes that nobody could choose beforehand, and take the signed answers home. Exit code 0: all
    /// were there, 1: some were not, 3: some were not answered.
    Run(Box<run::RunArgs>),
    /// Check an audit that was taken home again, offline. Exit codes as `run`.
    Verify(VerifyArgs),
}

/// `stele audit verify`.
#[derive(Args)]
pub(crate) struct VerifyArgs {
    /// Folder that `stele audit run` wrote.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    #[command(flatten)]
    trust: Trust,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What the auditor trusts. Without it, what the operator says of keys is taken.
#[derive(Args)]
pub(crate) struct Trust {
    /// Keys that the nodes sign with, one verifier key per line, from a source that you trust.
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Your own trust policy of the evidence log.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

impl AuditCommand {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Run(args) => run::run(*args).await,
            Self::Verify(VerifyArgs { folder, trust, json }) => {
                let judged = tokio::task::spawn_blocking(move || judge::all(&folder, &trust)).await??;
                Ok(judge::tell(&judged, json))
            }
        }
    }
}
