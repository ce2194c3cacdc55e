//! The contract: the committed code is what the compiler makes of the source, it refuses what it should, and its gas.

use std::process::Command;

use alloy_primitives::B256;
use serde_json::json;

use super::node::{LOG, Node, has, key, rpc, tools};
use crate::chain::backend::{Chain as _, ChainError, Terms};
use crate::chain::state::Fee;
use crate::chain::tests::fuse::Fuse;
use crate::chain::tests::store::MemoryStore;
use crate::chain::tests::suite::{World as _, anchor, growth, submitter};
use crate::evm::answer::{Fields, hexadecimal, quantity};
use crate::evm::backend::{Config, Evm};
use crate::evm::contract::{anchor_call, creation_code, root_slot};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/contract");

#[test]
fn the_committed_code_is_what_the_compiler_makes() {
    if !has("solc") {
        return;
    }
    let compiled = Command::new("node").arg("compile.js").arg(tools()).current_dir(FOLDER).output().unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    assert_eq!(String::from_utf8(compiled.stdout).unwrap().trim(), hex::encode(creation_code()));
}

/// The table of docs/chains.md. A change of compiler or contract changes it there too.
#[tokio::test]
async fn gas_is_what_the_page_says() {
    let Some(node) = Node::start().await else { return };
    let store = MemoryStore::default();
    let mut submitter = submitter(&node, &store, &Fuse::never());
    let mut used = vec![node.deployed.gas];
    for size in [100, 101] {
        anchor(&node, &mut submitter, size).await;
        let filter = json!([{ "address": hexadecimal(node.deployed.contract), "fromBlock": "0x0" }]);
        let logs = node.tell("eth_getLogs", filter).await;
        let id = logs.as_array().unwrap().last().unwrap()["transactionHash"].clone();
        let receipt = node.tell("eth_getTransactionReceipt", json!([id])).await;
        used.push(Fields(&receipt).u64("gasUsed").unwrap());
    }
    let page = include_str!("../../../../docs/chains.md");
    let names = ["putting the contract onto the chain", "first anchor of a log", "every other anchor"];
    for (name, gas) in names.into_iter().zip(used) {
        assert!(page.contains(&format!("| {name} | {gas} |")), "docs/chains.md: {name} takes {gas} gas");
    }
}

#[tokio::test]
async fn the_contract_refuses_strangers_and_what_does_not_follow() {
    let Some(node) = Node::start().await else { return };
    anchor(&node, &mut submitter(&node, &MemoryStore::default(), &Fuse::never()), 7).await;
    let stranger = Evm::new(rpc(&node.url), key(1), node.config());
    let terms = |gas| Terms { nonce: 0, fee: Some(Fee { max: 1 << 40, tip: None }), gas };
    for refused in [stranger.look(None).await.map(drop), stranger.sign(growth(7, 9), terms(None)).await.map(drop)] {
        let error = refused.unwrap_err();
        assert!(matches!(error, ChainError::NotOwner { .. }) && error.is_final(), "{error}");
    }
    // Whoever sends without asking is refused by the contract itself.
    stranger.send(&stranger.sign(growth(7, 9), terms(Some(200_000))).await.unwrap()).await.unwrap();
    let chain = node.chain();
    let nonce = chain.look(None).await.unwrap().nonce;
    let refused = [(growth(6, 9), "size 7"), (growth(7, 7), "grow"), (growth(7, 5), "grow"), (growth(0, 7), "size 7")];
    for (growth, why) in refused {
        let error = chain.sign(growth, Terms { nonce, ..terms(None) }).await.unwrap_err();
        assert!(matches!(&error, ChainError::Overtaken(said) if said.contains(why)), "{error}");
    }
    chain.send(&chain.sign(growth(6, 9), Terms { nonce, ..terms(Some(200_000)) }).await.unwrap()).await.unwrap();
    node.mine(1).await;
    let block = node.tell("eth_getBlockByNumber", json!(["latest", false])).await;
    assert_eq!(Fields(&block).list("transactions").unwrap().len(), 2, "both were sent");
    assert_eq!(node.anchored().await, [growth(0, 7)], "and neither took effect");
    // Another log of the same contract is free.
    let other = Evm::new(rpc(&node.url), key(1), Config { log_id: [6; 32], ..node.config() });
    assert_eq!(other.look(None).await.unwrap().anchored, None);
}

#[tokio::test]
async fn roots_stand_where_the_layout_says() {
    let Some(node) = Node::start().await else { return };
    anchor(&node, &mut submitter(&node, &MemoryStore::default(), &Fuse::never()), 7).await;
    let stored = |slot: B256| json!([hexadecimal(node.deployed.contract), hexadecimal(slot), "latest"]);
    let root = node.tell("eth_getStorageAt", stored(root_slot(LOG, 7))).await;
    assert_eq!(root, json!(hexadecimal([7; 32])));
    assert_eq!(quantity(&node.tell("eth_getStorageAt", stored(root_slot(LOG, 8))).await), Some(0));
    // What a stranger would have to send to anchor it himself.
    assert_eq!(anchor_call(LOG, growth(0, 7)).len(), 132);
}
