//! A node of our own, with a contract on it, on loopback.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use alloy_primitives::Address;
use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use stele_evidence::chain::evm::{EvmProof, Pin};
use stele_rpc::meta::TreeHead;

use crate::chain::state::{Growth, Hash};
use crate::chain::tests::suite::World;
use crate::evm::answer::{Fields, hexadecimal};
use crate::evm::backend::{Config, Evm, Finality};
use crate::evm::contract::event_topic;
use crate::evm::deploy::{Deployed, deploy};
use crate::evm::key::AccountKey;
use crate::evm::price::Dialect;
use crate::evm::receipt::{Expected, Log};
use crate::evm::rpc::Rpc;

pub(super) const CHAIN: u64 = 31337;
pub(super) const LOG: Hash = [5; 32];
const TIMEOUT: Duration = Duration::from_secs(20);
/// Keys of the usual test mnemonic; the node gives their accounts coins.
const KEYS: [&str; 2] = [
    "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
];

pub(super) fn key(at: usize) -> AccountKey {
    AccountKey::from_bytes(&hex::decode(KEYS[at]).unwrap()).unwrap()
}

/// Where `cargo xtask tools` puts what comes from npm for chains.
pub(super) fn tools() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tools/chain"))
}

/// Whether a tool is there. In CI it has to be.
pub(super) fn has(what: &str) -> bool {
    let there = tools().join("node_modules").join(what).exists();
    let in_ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    assert!(there || !in_ci, "{what} is missing; get it with `cargo xtask tools`");
    if !there {
        println!("SKIPPED: {what} is missing; get it with `cargo xtask tools`");
    }
    there
}

/// Ends the process when a test ends, however it does.
#[derive(Debug)]
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

#[derive(Debug)]
pub(super) struct Node {
    _running: Running,
    pub(super) url: String,
    rpc: Rpc,
    pub(super) deployed: Deployed,
}

impl Node {
    /// A node that makes a block only when told to; its last but two blocks is final.
    pub(super) async fn start() -> Option<Self> {
        if !has("@foundry-rs/anvil-linux-amd64") {
            return None;
        }
        let program = tools().join("node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil");
        let mut command = Command::new(program);
        command.args(["--port", "0", "--slots-in-an-epoch", "1", "--accounts", "3"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let running = Running(child);
        let address = lines.find_map(|line| line.unwrap().strip_prefix("Listening on ").map(str::to_owned)).unwrap();
        // The node stops when nobody reads what it prints.
        std::thread::Builder::new().name("node's output".to_owned()).spawn(move || lines.for_each(drop)).unwrap();
        let url = format!("http://{address}");
        let rpc = rpc(&url);
        let waits = (100, Duration::from_millis(10));
        let deployed = deploy(&rpc, &key(0), (CHAIN, Dialect::Probe), waits).await.unwrap();
        let node = Self { _running: running, url, rpc, deployed };
        node.tell("evm_setAutomine", json!([false])).await;
        Some(node)
    }

    pub(super) async fn tell(&self, method: &'static str, params: Value) -> Value {
        self.rpc.call(method, params).await.unwrap()
    }

    pub(super) async fn mine(&self, blocks: u64) {
        self.tell("anvil_mine", json!([format!("{blocks:#x}")])).await;
    }

    pub(super) fn config(&self) -> Config {
        let contract = self.deployed.contract;
        Config { chain: CHAIN, contract, log_id: LOG, finality: Finality::Finalized, dialect: Dialect::Probe }
    }

    pub(super) fn pin(&self) -> Pin {
        Pin { chain_id: CHAIN, contract: self.deployed.contract.into(), sender: key(0).address().into() }
    }

    pub(super) fn expected(&self) -> Expected {
        Expected { contract: self.deployed.contract, log_id: LOG, by: key(0).address() }
    }

    /// All events of the contract for the log.
    pub(super) async fn events(&self, contract: Address) -> Vec<Growth> {
        let topics = [hexadecimal(event_topic()), hexadecimal(LOG)];
        let filter = json!({ "address": hexadecimal(contract), "topics": topics, "fromBlock": "0x0" });
        let logs = self.tell("eth_getLogs", json!([filter])).await;
        let logs = logs.as_array().unwrap().iter().map(|log| Log::parse(Fields(log)).unwrap());
        logs.map(|log| log.anchored(self.expected()).unwrap()).collect()
    }
}

pub(super) fn rpc(url: &str) -> Rpc {
    Rpc::new(&[url.to_owned()], TIMEOUT).unwrap()
}

#[async_trait]
impl World for Node {
    type Chain = Evm;

    fn chain(&self) -> Evm {
        Evm::new(rpc(&self.url), key(0), self.config())
    }

    async fn pass(&self) {
        self.mine(1).await;
    }

    async fn anchored(&self) -> Vec<Growth> {
        self.events(self.deployed.contract).await
    }

    fn check(&self, head: TreeHead, proof: &Bytes) {
        let shown = EvmProof::decode(proof).unwrap().verify(&self.pin()).unwrap();
        assert_eq!((shown.anchored.log_id, shown.anchored.size, shown.anchored.root), (LOG, head.size, head.root));
    }
}
