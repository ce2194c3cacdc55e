//! `stele-loadtest`: drives an S3 endpoint with load whose every read is verified, keeps a ledger of
//! what was acknowledged, checks a store against that ledger, and measures.
//!
//! Knows only public interfaces: S3, and for `bench` the server's `/metrics` and `/proc`. It never
//! imports a server crate.

mod bench;
mod content;
mod latency;
mod ledger;
mod run;
mod s3;
mod size;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};

use s3::Target;
use s3::sigv4::Credentials;

/// Load, verification and measurement for an S3 endpoint.
#[derive(Parser)]
#[command(name = "stele-loadtest", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write, read, list and delete; verify every read; keep a ledger of acknowledged writes.
    Run(run::RunArgs),
    /// Verify that a store holds exactly what a ledger says it must.
    Check(run::CheckArgs),
    /// Measure sizes x operations x clients.
    Bench(bench::BenchArgs),
}

/// Where and as whom.
#[derive(Args, Clone)]
struct TargetArgs {
    /// Endpoint, for example `http://127.0.0.1:9000`.
    #[arg(long)]
    endpoint: String,
    /// Access key.
    #[arg(long, env = "AWS_ACCESS_KEY_ID")]
    access_key: String,
    /// Secret key.
    #[arg(long, env = "AWS_SECRET_ACCESS_KEY", hide_env_values = true)]
    secret_key: String,
    /// Region to sign for.
    #[arg(long, default_value = "us-east-1")]
    region: String,
    /// Bucket; made if it does not exist.
    #[arg(long, default_value = "loadtest")]
    bucket: String,
    /// PEM file with the CA to trust, for an `https://` endpoint.
    #[arg(long)]
    ca: Option<std::path::PathBuf>,
    /// Sign payloads with SHA-256 instead of sending UNSIGNED-PAYLOAD.
    #[arg(long)]
    sign_payload: bool,
}

impl TargetArgs {
    fn target(&self, bucket: &str) -> anyhow::Result<std::sync::Arc<Target>> {
        let credentials = Credentials {
            access_key: self.access_key.clone(),
            secret_key: self.secret_key.clone(),
            region: self.region.clone(),
        };
        let address = s3::connection::Address::new(&self.endpoint, self.ca.as_deref())?;
        Ok(Target::new(address, credentials, bucket.to_owned(), self.sign_payload))
    }
}

/// Prints a report on stdout.
#[expect(clippy::print_stdout, reason = "reports are this program's output")]
fn print_json(report: &impl serde::Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(report).context("writing the report")?);
    Ok(())
}

/// One thread drives it all: on a small machine the load tester must leave the cores to the server.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let good = match Cli::parse().command {
        Command::Run(args) => {
            let report = run::run(args).await?;
            print_json(&report)?;
            report.verdict.mismatches == 0
        }
        Command::Check(args) => {
            let report = run::check(args).await?;
            print_json(&report)?;
            report.verdict.mismatches == 0
        }
        Command::Bench(args) => {
            bench::bench(args).await?;
            true
        }
    };
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
