//! `stele log`: what anybody can check of an evidence log from its tiles, trusting nobody.

mod anchored;
mod fsck;
mod monitor;
mod rotate;
mod sighting;
mod source;
mod state;

use std::process::ExitCode;

use clap::Subcommand;

/// `stele log`.
#[derive(Subcommand)]
pub(crate) enum LogCommand {
    /// Compute every tile and the root anew from the entries. Exit code 0: all as it should be, 1: not.
    Fsck(fsck::FsckArgs),
    /// Demand that all checkpoints and anchored roots ever seen belong to one history. Exit code 0: they do, 1: the log was forked or
    /// what a source serves is not its own.
    Monitor(monitor::MonitorArgs),
    /// Draw other keys for a log, which sign beside the old ones; with --finish, instead of them.
    RotateKeys(rotate::RotateArgs),
}

impl LogCommand {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Fsck(args) => fsck::run(args).await,
            Self::Monitor(args) => monitor::run(args).await,
            Self::RotateKeys(args) => rotate::run(args).await,
        }
    }
}
