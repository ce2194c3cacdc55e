//! `stele evidence`: bundles for auditors, over the S3 port of a running store.

pub(crate) mod export;
pub(crate) mod location;
pub(crate) mod unpack;

use std::process::ExitCode;

use clap::Subcommand;

pub(crate) use export::ExportArgs;

/// `stele evidence`.
#[derive(Subcommand)]
pub(crate) enum EvidenceCommand {
    /// Write a bundle that `stele-verify` judges offline: what was stored, when, and all that happened to it since.
    Export(ExportArgs),
}

impl EvidenceCommand {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Export(args) => export::run(args).await,
        }
    }
}
