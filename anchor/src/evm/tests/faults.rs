//! What happens to transactions and accounts: blocks go away, pools forget, fees rise, coins run out.

use serde_json::{Value, json};
use stele_evidence::chain::evm::EvmProof;

use super::node::{CHAIN, Node, key, rpc};
use super::proxy::{Proxy, honest, refusal};
use crate::chain::backend::ChainError;
use crate::chain::steps::{Rules, Waiting};
use crate::chain::submit::{Done, SubmitError, Submitter};
use crate::chain::tests::fuse::{Fuse, Fused};
use crate::chain::tests::store::MemoryStore;
use crate::chain::tests::suite::{self, Cut, World as _, anchor, growth, head};
use crate::evm::answer::{Fields, hex_number, hexadecimal, quantity};
use crate::evm::backend::{Config, Evm, Finality};
use crate::evm::key::AccountKey;
use crate::evm::rpc::Rpc;

pub(super) fn submitter(chain: Evm, store: &MemoryStore) -> Cut<Node> {
    let never = Fuse::never();
    Submitter::new(Fused(chain, never.clone()), Fused(store.clone(), never), Rules::default())
}

async fn expect(submitter: &mut Cut<Node>, size: u64, done: Done) {
    assert_eq!(submitter.step(Some(head(size))).await.unwrap(), done);
}

/// Begins a size and hands it in.
async fn sent(node: &Node, submitter: &mut Cut<Node>, size: u64) -> Value {
    expect(submitter, size, Done::Begun(head(size))).await;
    expect(submitter, size, Done::Sent).await;
    expect(submitter, size, Done::Waited(Waiting::Block)).await;
    let candidates = &submitter.state().unwrap().intent.as_ref().unwrap().candidates;
    let id = json!(hexadecimal(candidates.last().unwrap().id));
    assert!(!node.tell("eth_getTransactionByHash", json!([id])).await.is_null());
    id
}

#[tokio::test]
async fn a_block_that_goes_away_is_no_anchor() {
    let Some(node) = Node::start().await else { return };
    let store = MemoryStore::default();
    let mut submitter = submitter(node.chain(), &store);
    let id = sent(&node, &mut submitter, 3).await;
    for _ in 0..2 {
        node.mine(1).await;
        expect(&mut submitter, 3, Done::Waited(Waiting::Finality)).await;
        node.tell("anvil_reorg", json!([1, []])).await;
        assert!(node.tell("eth_getTransactionReceipt", json!([id])).await.is_null(), "the block is gone");
        expect(&mut submitter, 3, Done::Sent).await;
    }
    assert!(store.sizes().is_empty(), "nothing was final");
    anchor(&node, &mut submitter, 3).await;
    suite::check(&node, &store, &[3]).await;
    assert_eq!(node.anchored().await, [growth(0, 3)]);
}

/// What no chain should do: a block goes away that was final.
#[tokio::test]
async fn an_anchor_that_a_chain_takes_back_is_made_again() {
    let Some(node) = Node::start().await else { return };
    let store = MemoryStore::default();
    let mut submitter = submitter(node.chain(), &store);
    node.mine(5).await;
    anchor(&node, &mut submitter, 3).await;
    let before = store.proofs();
    node.tell("anvil_reorg", json!([4, []])).await;
    assert!(node.anchored().await.is_empty());
    anchor(&node, &mut submitter, 3).await;
    assert_ne!(store.proofs(), before, "the new block's proof");
    suite::check(&node, &store, &[3]).await;
    anchor(&node, &mut submitter, 5).await;
    suite::check(&node, &store, &[3, 5]).await;
}

#[tokio::test]
async fn a_transaction_that_the_pool_forgets_is_sent_again() {
    let Some(node) = Node::start().await else { return };
    let store = MemoryStore::default();
    let mut submitter = submitter(node.chain(), &store);
    let id = sent(&node, &mut submitter, 3).await;
    node.tell("anvil_dropTransaction", json!([id])).await;
    assert!(node.tell("eth_getTransactionByHash", json!([id])).await.is_null());
    // What was begun comes first, even if something newer is there.
    expect(&mut submitter, 5, Done::Sent).await;
    assert!(!node.tell("eth_getTransactionByHash", json!([id])).await.is_null(), "the same bytes");
    anchor(&node, &mut submitter, 5).await;
    suite::check(&node, &store, &[3, 5]).await;
}

#[tokio::test]
async fn a_stuck_transaction_offers_more_under_the_same_number() {
    let Some(node) = Node::start().await else { return };
    let store = MemoryStore::default();
    let mut submitter = submitter(node.chain(), &store);
    let first = sent(&node, &mut submitter, 3).await;
    let dear = 500_000_000_000_u64;
    node.tell("anvil_setNextBlockBaseFeePerGas", json!([hex_number(dear)])).await;
    node.mine(1).await;
    assert!(node.tell("eth_getTransactionReceipt", json!([first])).await.is_null(), "it offers too little");
    let Ok(Done::Bumped(fee)) = submitter.step(Some(head(3))).await else { panic!("no higher offer") };
    assert!(fee.max > u128::from(dear));
    expect(&mut submitter, 3, Done::Sent).await;
    let intent = submitter.state().unwrap().intent.clone().unwrap();
    assert_eq!(intent.candidates.len(), 2);
    anchor(&node, &mut submitter, 3).await;
    assert!(node.tell("eth_getTransactionReceipt", json!([first])).await.is_null(), "the second one took the number");
    let nonce = node.tell("eth_getTransactionCount", json!([hexadecimal(key(0).address()), "latest"])).await;
    assert_eq!(quantity(&nonce), Some(u128::from(intent.nonce) + 1));
    suite::check(&node, &store, &[3]).await;
}

#[tokio::test]
async fn an_account_without_coins_waits_for_some() {
    let Some(node) = Node::start().await else { return };
    let poor = || AccountKey::from_bytes(&[7; 32]).unwrap();
    let store = MemoryStore::default();
    let mut submitter = submitter(Evm::new(rpc(&node.url), poor(), node.config()), &store);
    let refused = submitter.step(Some(head(3))).await.unwrap_err();
    assert!(matches!(refused, SubmitError::Chain(ChainError::NoFunds { .. })) && !refused.is_final(), "{refused}");
    let account = hexadecimal(poor().address());
    node.tell("anvil_setBalance", json!([account, "0xde0b6b3a7640000"])).await;
    anchor(&node, &mut submitter, 3).await;
    assert_eq!(store.sizes(), [3]);
}

#[tokio::test]
async fn another_chain_and_a_missing_contract_stop() {
    let Some(node) = Node::start().await else { return };
    let other = Config { chain: CHAIN + 1, ..node.config() };
    let missing = Config { contract: key(1).address(), ..node.config() };
    for config in [other, missing] {
        let mut submitter = submitter(Evm::new(rpc(&node.url), key(0), config), &MemoryStore::default());
        let error = submitter.step(Some(head(3))).await.unwrap_err();
        assert!(error.is_final(), "{error}");
        match error {
            SubmitError::Chain(ChainError::WrongChain { expected, found, .. }) if config.chain != CHAIN => {
                assert_eq!((expected, found), (CHAIN + 1, CHAIN));
            }
            SubmitError::Chain(ChainError::NoContract { .. }) if config.chain == CHAIN => {}
            error => panic!("{error}"),
        }
        assert_eq!(submitter.state().unwrap().intent, None);
    }
}

#[tokio::test]
async fn a_dead_endpoint_is_left_for_the_next() {
    let Some(node) = Node::start().await else { return };
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoints = [format!("http://{gone}/secret"), node.url.clone()];
    let client = Rpc::new(&endpoints, std::time::Duration::from_secs(5)).unwrap();
    let mut submitter = submitter(Evm::new(client, key(0), node.config()), &MemoryStore::default());
    let error = submitter.step(Some(head(3))).await.unwrap_err();
    assert!(matches!(error, SubmitError::Chain(ChainError::Unreachable { .. })), "{error}");
    assert!(error.to_string().contains(&gone.to_string()) && !error.to_string().contains("secret"), "{error}");
    anchor(&node, &mut submitter, 3).await;
}

/// While no node answers nothing piles up: what was begun is finished, then comes the newest.
#[tokio::test]
async fn an_outage_leaves_no_backlog() {
    let Some(node) = Node::start().await else { return };
    let proxy = Proxy::start(&node.url, honest()).await;
    let store = MemoryStore::default();
    let mut submitter = submitter(Evm::new(rpc(&proxy.url), key(0), node.config()), &store);
    expect(&mut submitter, 3, Done::Begun(head(3))).await;
    proxy.now(Box::new(|_, _| Some(refusal(-32000, "out of order"))));
    for size in 3..9 {
        let error = submitter.step(Some(head(size))).await.unwrap_err();
        assert!(matches!(&error, SubmitError::Chain(ChainError::Refused { message, .. }) if message == "out of order"));
        assert!(!error.is_final());
    }
    proxy.now(honest());
    anchor(&node, &mut submitter, 9).await;
    suite::check(&node, &store, &[3, 9]).await;
    assert_eq!(node.anchored().await, [growth(0, 3), growth(3, 9)]);
}

#[tokio::test]
async fn finality_is_as_configured() {
    for (finality, blocks) in [(Finality::Immediate, 1), (Finality::Depth(4), 5), (Finality::Finalized, 3)] {
        let Some(node) = Node::start().await else { return };
        let config = Config { finality, ..node.config() };
        let store = MemoryStore::default();
        let mut submitter = submitter(Evm::new(rpc(&node.url), key(0), config), &store);
        sent(&node, &mut submitter, 3).await;
        for _ in 1..blocks {
            node.mine(1).await;
            expect(&mut submitter, 3, Done::Waited(Waiting::Finality)).await;
            assert!(store.sizes().is_empty(), "{finality:?}");
        }
        node.mine(1).await;
        expect(&mut submitter, 3, Done::Anchored(head(3))).await;
        assert_eq!(store.sizes(), [3], "{finality:?}");
    }
}

/// A dialect that only looks like Ethereum: neither fee history, nor storage proofs, nor typed transactions.
#[tokio::test]
async fn a_chain_with_plain_gas_prices_is_served() {
    let Some(node) = Node::start().await else { return };
    let missing = ["eth_feeHistory", "eth_getProof", "eth_maxPriorityFeePerGas", "eth_getBlockReceipts"];
    let proxy = Proxy::start(
        &node.url,
        Box::new(move |question, answer| {
            if missing.iter().any(|method| question["method"] == *method) {
                return Some(refusal(-32601, "Method not found"));
            }
            let raw = question["params"][0].as_str().unwrap_or_default();
            if question["method"] == "eth_sendRawTransaction" && !raw.starts_with("0xf8") {
                return Some(refusal(-32000, "transaction type not supported"));
            }
            answer
        }),
    )
    .await;
    let store = MemoryStore::default();
    let mut submitter = submitter(Evm::new(rpc(&proxy.url), key(0), node.config()), &store);
    for size in [3, 9] {
        anchor(&node, &mut submitter, size).await;
    }
    suite::check(&node, &store, &[3, 9]).await;
    for (_, proof) in store.proofs() {
        let proof = EvmProof::decode(&proof).unwrap();
        assert_eq!(proof.state, None);
    }
}

/// A proof from the middle of a full block, by an auditor who believes the block's hash.
#[tokio::test]
async fn a_full_block_is_proven_with_its_storage() {
    let Some(node) = Node::start().await else { return };
    let store = MemoryStore::default();
    let mut submitter = submitter(node.chain(), &store);
    let accounts = node.tell("eth_accounts", json!([])).await;
    let pay = async |kind: &str, tip: &str| {
        let mut transaction = json!({ "from": accounts[1], "to": accounts[2], "value": "0x1", "gas": "0x5208" });
        transaction[kind] = json!(tip);
        node.tell("eth_sendTransaction", json!([transaction])).await;
    };
    for _ in 0..100 {
        pay("gasPrice", "0x2540be4000").await;
    }
    sent(&node, &mut submitter, 3).await;
    for _ in 0..50 {
        pay("maxPriorityFeePerGas", "0x1").await;
    }
    anchor(&node, &mut submitter, 3).await;
    suite::check(&node, &store, &[3]).await;
    let proof = EvmProof::decode(&store.proofs()[0].1).unwrap();
    let shown = proof.verify(&node.pin()).unwrap();
    let block = node.tell("eth_getBlockByNumber", json!([hex_number(shown.number), false])).await;
    assert_eq!(Fields(&block).hash("hash").unwrap().0, shown.block_hash);
    assert_eq!(Fields(&block).list("transactions").unwrap().len(), 151);
    assert_eq!(Fields(&block).u64("timestamp").unwrap(), shown.time);
    assert!(proof.transaction > 0 && proof.transaction < 150 && shown.stored, "{}", proof.transaction);
}
