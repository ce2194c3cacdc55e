//! `stele chain`: what an operator does on a chain by hand.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use stele_anchor::evm::deploy::deploy;
use stele_anchor::evm::key::AccountKey;
use stele_anchor::evm::price::Dialect;
use stele_anchor::evm::rpc::Rpc;

/// For one question to a node.
const NODE_TIMEOUT: Duration = Duration::from_secs(20);
/// How often, and how far apart, the node is asked for the receipt: ten minutes.
const LOOKS: (u32, Duration) = (120, Duration::from_secs(5));

/// `stele chain`.
#[derive(Subcommand)]
pub(crate) enum ChainCommand {
    /// Put the contract that keeps anchors onto a chain. One serves any number of logs.
    Deploy(DeployArgs),
}

/// `stele chain deploy`.
#[derive(Args)]
pub(crate) struct DeployArgs {
    /// A node of the chain.
    #[arg(long, value_name = "URL")]
    endpoint: String,
    /// The chain's number; a node of another chain is refused.
    #[arg(long, value_name = "NUMBER")]
    chain_id: u64,
    /// File with the key of the account that pays: 64 hexadecimal digits, readable by its owner only.
    #[arg(long, value_name = "FILE")]
    key_file: PathBuf,
    /// Only transactions with a plain gas price.
    #[arg(long)]
    legacy: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl ChainCommand {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Deploy(args) => run_deploy(args).await,
        }
    }
}

async fn run_deploy(args: DeployArgs) -> anyhow::Result<ExitCode> {
    let key = AccountKey::read(&args.key_file)?;
    let rpc = Rpc::new(std::slice::from_ref(&args.endpoint), NODE_TIMEOUT)?;
    let dialect = if args.legacy { Dialect::Legacy } else { Dialect::Probe };
    let deployed = deploy(&rpc, &key, (args.chain_id, dialect), LOOKS).await;
    let deployed = deployed.context("look at the account's transactions before you try again")?;
    let (contract, id, gas) = (deployed.contract.to_string(), deployed.id.to_string(), deployed.gas);
    crate::print(if args.json {
        serde_json::json!({ "contract": contract, "transaction": id, "gas": gas }).to_string()
    } else {
        format!("contract     {contract}\ntransaction  {id}\ngas          {gas}")
    });
    Ok(ExitCode::SUCCESS)
}
