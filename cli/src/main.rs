//! `stele`: the one binary that plays every role. Assembles the crates with the real clock, real
//! randomness and real files; decides nothing about data.
//!
//! | command | does |
//! |---|---|
//! | `stele dev` | a whole store in one process |
//! | `stele cluster` | founding a cluster, letting nodes in, its state |
//! | `stele plan` | what a change of the storage nodes would move |
//! | `stele metadata`, `stele storage-node`, `stele s3-gateway`, `stele anchor` | one process of a cluster |
//! | `stele evidence` | bundles for auditors |
//! | `stele backup` | backups of a cluster's metadata |
//! | `stele audit` | possession audits: whether the nodes still hold what they should |
//! | `stele witness` | cosigns checkpoints of other people's logs |
//! | `stele chain` | what an operator does on a chain |
//! | `stele log` | checking and watching an evidence log |
//! | `stele gc` | garbage collection and space |
//! | `stele trash` | removed versions that can be brought back |
//! | `stele status` | what a running store says of itself |
//! | `stele config show` | the configuration in force |

mod admin;
mod anchor;
mod answer_key;
mod audit;
mod backup;
mod chain_command;
mod cluster;
mod config;
mod dev;
mod evidence;
mod front;
mod gc_command;
mod log;
mod logging;
mod real;
mod s3_client;
mod s3_tls;
mod status_command;
mod trash_command;
mod web;
mod witness_command;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use cluster::command::{AnchorArgs, ClusterCommand, GatewayArgs, Process, RoleArgs, StorageArgs};
use cluster::plan::PlanCommand;
use config::Flags;

/// Buffers are made on one thread and freed on another all the time, where the C library's allocator
/// holds a lock.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Trusted, erasure-coded, S3-compatible object store.
#[derive(Parser)]
#[command(name = "stele", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a whole store in this process: metadata, drives and S3 gateway over one directory.
    Dev {
        #[command(flatten)]
        flags: Flags,
        /// Print one JSON line on stdout once it serves, and nothing else.
        #[arg(long)]
        json: bool,
    },
    /// Found a cluster of several processes, let nodes in, see its state.
    Cluster {
        #[command(subcommand)]
        command: ClusterCommand,
    },
    /// Say what a change of the storage nodes would move, and what may be lost then. Changes nothing. Exit code 1: refused.
    Plan {
        #[command(subcommand)]
        command: PlanCommand,
    },
    /// Run a metadata node of a cluster: one voter.
    Metadata(RoleArgs),
    /// Run a storage node of a cluster.
    StorageNode(StorageArgs),
    /// Run an S3 gateway of a cluster.
    S3Gateway(GatewayArgs),
    /// Close and sign the evidence log of a cluster.
    Anchor(AnchorArgs),
    /// Back up the metadata of a cluster, and see that it could be restored.
    Backup {
        #[command(subcommand)]
        command: backup::BackupCommand,
    },
    /// Take evidence of stored objects home.
    Evidence {
        #[command(subcommand)]
        command: evidence::EvidenceCommand,
    },
    /// Ask the nodes whether they still hold what they should, so that others can check the answers.
    Audit {
        #[command(subcommand)]
        command: audit::AuditCommand,
    },
    /// Cosign checkpoints of logs that others run, if they only ever grow.
    Witness(witness_command::WitnessArgs),
    /// Prepare a chain that checkpoints are taken to.
    Chain {
        #[command(subcommand)]
        command: chain_command::ChainCommand,
    },
    /// Check and watch an evidence log, trusting nobody.
    Log {
        #[command(subcommand)]
        command: log::LogCommand,
    },
    /// See what garbage collection did, and what space is used for.
    Gc {
        #[command(subcommand)]
        command: gc_command::GcCommand,
    },
    /// Bring removed versions back, for as long as the cluster keeps them.
    Trash {
        #[command(subcommand)]
        command: trash_command::TrashCommand,
    },
    /// Show what a running store says of itself. Exit code 0: all well, 1: problems, 2: not serving.
    Status(status_command::StatusArgs),
    /// Look at the configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Print the configuration in force as TOML, without secrets.
    Show {
        #[command(flatten)]
        flags: Flags,
    },
}

/// What shells say of a program that SIGPIPE ended.
const EXIT_UNREAD: i32 = 141;

/// Prints to stdout; the only place that does. Where nobody reads any more, the command ends as others do in a pipe,
/// and never with the exit code of a verdict that nobody saw.
pub(crate) fn print(text: impl AsRef<str>) {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{}", text.as_ref()).and_then(|()| out.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(EXIT_UNREAD),
        Err(error) => {
            // Where nobody hears it there is still the exit code.
            let _unheard = writeln!(std::io::stderr(), "standard output: {error}");
            std::process::exit(1);
        }
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(real::processors().get())
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let code = match cli.command {
        Command::Dev { flags, json } => {
            let config = config::load(&flags, std::env::vars_os())?;
            logging::start(&config)?;
            runtime.block_on(dev::run(config, json))
        }
        Command::Cluster { command } => runtime.block_on(command.run()),
        Command::Plan { command } => runtime.block_on(command.run()),
        Command::Backup { command } => runtime.block_on(command.run()),
        Command::Metadata(args) => run_process(&runtime, Process::Metadata(args)),
        Command::StorageNode(args) => run_process(&runtime, Process::Storage(args)),
        Command::S3Gateway(args) => run_process(&runtime, Process::Gateway(args)),
        Command::Anchor(args) => run_process(&runtime, Process::Anchor(args)),
        Command::Witness(args) => {
            logging::start(&config::Config::default())?;
            runtime.block_on(witness_command::run(args))
        }
        Command::Chain { command } => runtime.block_on(command.run()),
        Command::Log { command } => runtime.block_on(command.run()),
        Command::Evidence { command } => runtime.block_on(command.run()),
        Command::Audit { command } => runtime.block_on(command.run()),
        Command::Trash { command } => runtime.block_on(command.run()),
        Command::Gc { command } => runtime.block_on(command.run()),
        Command::Status(args) => runtime.block_on(status_command::run(args)),
        Command::Config { command: ConfigCommand::Show { flags } } => {
            let config = config::load(&flags, std::env::vars_os())?;
            print(config.redacted_toml()?.trim_end());
            Ok(ExitCode::SUCCESS)
        }
    };
    // Background tasks of a stopped store hold nothing that must still be written.
    runtime.shutdown_background();
    code
}

fn run_process(runtime: &tokio::runtime::Runtime, process: Process) -> anyhow::Result<ExitCode> {
    let config = process.config()?;
    logging::start(&config)?;
    runtime.block_on(process.run(config))
}
