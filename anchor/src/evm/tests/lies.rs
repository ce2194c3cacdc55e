//! Providers that lie, or are behind. None of them gets a proof kept.

use serde_json::{Value, json};

use super::faults::submitter;
use super::node::{Node, key, rpc};
use super::proxy::{Forge, Proxy, changed, honest};
use crate::chain::backend::ChainError;
use crate::chain::steps::Refusal;
use crate::chain::submit::SubmitError;
use crate::chain::tests::store::MemoryStore;
use crate::chain::tests::suite::{self, anchor, head};
use crate::evm::answer::hexadecimal;
use crate::evm::backend::Evm;

/// A receipt that shows an anchor of another root.
fn other_root(receipt: &mut Value) {
    if !receipt.is_null() {
        let data = receipt["logs"][0]["data"].as_str().unwrap().replace(&"03".repeat(32), &"04".repeat(32));
        receipt["logs"][0]["data"] = json!(data);
    }
}

/// Every lie, and a word of what is said of it.
fn lies() -> Vec<(Forge, &'static str)> {
    let receipts = |change: fn(&mut Value)| -> Forge {
        Box::new(move |question, answer| {
            let mut answer = answer?;
            match question["method"].as_str()? {
                "eth_getTransactionReceipt" => change(&mut answer["result"]),
                "eth_getBlockReceipts" => answer["result"].as_array_mut()?.iter_mut().for_each(change),
                _ => {}
            }
            Some(answer)
        })
    };
    let block = |field: &'static str, value: &'static str| -> Forge {
        Box::new(move |question, answer| {
            let mut answer = answer?;
            let of_block = question["method"] == "eth_getBlockByHash";
            if of_block {
                answer["result"][field] = json!(value);
            }
            Some(answer)
        })
    };
    vec![
        (changed("eth_getTransactionReceipt", other_root), "lacks the event"),
        (receipts(|receipt| receipt["logs"] = json!([])), "lacks the event"),
        (receipts(|receipt| receipt["transactionHash"] = json!(hexadecimal([9; 32]))), "another transaction"),
        (receipts(|receipt| receipt["cumulativeGasUsed"] = json!("0x1")), "not those of its header"),
        (receipts(|receipt| receipt["type"] = json!("0x1")), "not those of its header"),
        (receipts(|receipt| receipt["logs"][0]["data"] = json!("0x00")), "lacks the event"),
        (receipts(|receipt| receipt["status"] = json!("0x2")), "malformed"),
        (block("timestamp", "0x1"), "does not have this hash"),
        (block("receiptsRoot", "0x00"), "does not have this hash"),
        (block("hash", "0x00"), "malformed"),
        (block("number", "0x7fffffff"), "another block"),
        (block("transactions", "none"), "malformed"),
    ]
}

#[tokio::test]
async fn a_lying_provider_never_gets_a_proof_kept() {
    let Some(node) = Node::start().await else { return };
    let proxy = Proxy::start(&node.url, honest()).await;
    let store = MemoryStore::default();
    let mut submitter = submitter(Evm::new(rpc(&proxy.url), key(0), node.config()), &store);
    for _ in 0..2 {
        submitter.step(Some(head(3))).await.unwrap();
    }
    node.mine(5).await;
    for (at, (lie, why)) in lies().into_iter().enumerate() {
        proxy.now(lie);
        let error = submitter.step(Some(head(3))).await.unwrap_err();
        assert!(matches!(error, SubmitError::Chain(ChainError::Lying { .. })), "lie {at}: {error}");
        assert!(error.to_string().contains(why) && !error.is_final(), "lie {at}: {error}");
        assert!(store.sizes().is_empty(), "lie {at}");
    }
    proxy.now(honest());
    anchor(&node, &mut submitter, 3).await;
    suite::check(&node, &store, &[3]).await;
}

/// Nothing is read without end, and nobody waits without end.
#[tokio::test]
async fn endless_and_senseless_answers_are_refused() {
    let Some(node) = Node::start().await else { return };
    let proxy = Proxy::start(&node.url, honest()).await;
    let store = MemoryStore::default();
    let mut submitter = submitter(Evm::new(rpc(&proxy.url), key(0), node.config()), &store);
    let long = "0".repeat(crate::evm::rpc::ANSWER_BYTES_MAX);
    for (answer, why) in [
        (json!({ "result": long }), "more than"),
        (json!([]), "no JSON-RPC"),
        (json!({ "id": 1 }), "neither a result nor an error"),
        (json!({ "result": 5 }), "no number"),
        (json!({ "error": { "code": "x", "message": 7 } }), "no message"),
        (json!({ "error": "\u{1b}[31mred" }), "no message"),
    ] {
        proxy.now(Box::new(move |_, _| Some(answer.clone())));
        let error = submitter.step(Some(head(3))).await.unwrap_err();
        assert!(error.to_string().contains(why) && !error.is_final(), "{error}");
    }
    proxy.now(honest());
    anchor(&node, &mut submitter, 3).await;
}

/// A transaction that was never sent, with a receipt that says that it took effect.
#[tokio::test]
async fn a_receipt_of_a_block_that_is_not_there_is_not_believed() {
    let Some(node) = Node::start().await else { return };
    let proxy = Proxy::start(&node.url, honest()).await;
    let store = MemoryStore::default();
    let mut first = submitter(Evm::new(rpc(&proxy.url), key(0), node.config()), &store);
    anchor(&node, &mut first, 3).await;
    // The receipt of size 3 now stands for whatever is asked about.
    let logs = node.tell("eth_getLogs", json!([{ "fromBlock": "0x0" }])).await;
    let true_one = node.tell("eth_getTransactionReceipt", json!([logs[0]["transactionHash"]])).await;
    proxy.now(Box::new(move |question, answer| {
        if question["method"] == "eth_sendRawTransaction" {
            return Some(json!({ "id": 1, "result": hexadecimal(alloy_primitives::keccak256(sent(question))) }));
        }
        let mut answer = answer?;
        if question["method"] == "eth_getTransactionReceipt" {
            let mut forged = true_one.clone();
            forged["transactionHash"] = question["params"][0].clone();
            let data = forged["logs"][0]["data"].as_str()?;
            let words = [format!("{:064x}", 3), format!("{:064x}", 9), "09".repeat(32)];
            assert_eq!(data.len(), 2 + 3 * 64);
            forged["logs"][0]["data"] = json!(format!("0x{}", words.concat()));
            answer["result"] = forged;
        }
        Some(answer)
    }));
    for _ in 0..6 {
        match first.step(Some(head(9))).await {
            Ok(_) => {}
            Err(SubmitError::Chain(ChainError::Lying { .. })) => {}
            Err(error) => panic!("{error}"),
        }
        node.mine(1).await;
    }
    assert_eq!(store.sizes(), [3], "the forged receipt is in no block");
    proxy.now(honest());
    anchor(&node, &mut first, 9).await;
    suite::check(&node, &store, &[3, 9]).await;
}

fn sent(question: &Value) -> Vec<u8> {
    hex::decode(question["params"][0].as_str().unwrap().trim_start_matches("0x")).unwrap()
}

#[tokio::test]
async fn a_stale_provider_decides_nothing() {
    let Some(node) = Node::start().await else { return };
    let proxy = Proxy::start(&node.url, honest()).await;
    let store = MemoryStore::default();
    let mut anchors = submitter(Evm::new(rpc(&proxy.url), key(0), node.config()), &store);
    node.mine(20).await;
    anchor(&node, &mut anchors, 3).await;
    // It stands where the chain stood before the anchor.
    proxy.now(changed("eth_getBlockByNumber", |block| block["number"] = json!("0x2")));
    for size in [3, 9] {
        let error = anchors.step(Some(head(size))).await.unwrap_err();
        let stale = matches!(error, SubmitError::Refused(Refusal::StaleProvider { height: 2, .. }));
        assert!(stale && !error.is_final(), "{error}");
    }
    assert_eq!(anchors.state().unwrap().intent, None);
    proxy.now(honest());
    anchor(&node, &mut anchors, 9).await;
    suite::check(&node, &store, &[3, 9]).await;
}
