//! Whoever watches a log reads all of its anchors, and sees where a node leaves some out or makes some up.

use serde_json::{Value, json};
use stele_evidence::chain::evm::Pin;

use super::faults::submitter;
use super::node::{LOG, Node, key, rpc};
use super::proxy::{Forge, Proxy, changed, honest, refusal};
use crate::chain::backend::ChainError;
use crate::chain::tests::store::MemoryStore;
use crate::chain::tests::suite::{World as _, anchor, growth};
use crate::evm::history::{History, Position, UNSETTLED_BLOCKS};

const BEGIN: Position = Position { next: 0, size: Some(0) };

/// A chain with anchors of 3, 5 and 9 entries, all final.
async fn anchored(node: &Node) {
    let store = MemoryStore::default();
    let mut anchors = submitter(node.chain(), &store);
    for size in [3, 5, 9] {
        anchor(node, &mut anchors, size).await;
        node.mine(3).await;
    }
}

fn through(url: &str, pin: Pin) -> History {
    History::new(rpc(url), pin, LOG)
}

async fn sizes(history: &History, from: Position) -> Vec<u64> {
    let look = history.look(from).await.unwrap();
    assert!(!look.more);
    look.events.iter().map(|event| event.growth.head.size).collect()
}

#[tokio::test]
async fn all_anchors_are_read_once_and_in_order() {
    let Some(node) = Node::start().await else { return };
    let history = through(&node.url, node.pin());
    assert_eq!(sizes(&history, BEGIN).await, [0; 0], "nothing is anchored yet");
    anchored(&node).await;
    let look = history.look(BEGIN).await.unwrap();
    let growths: Vec<_> = look.events.iter().map(|event| event.growth).collect();
    assert_eq!(growths, [growth(0, 3), growth(3, 5), growth(5, 9)]);
    assert_eq!(look.position.size, Some(9));
    assert_eq!(sizes(&history, look.position).await, [0; 0]);
    let store = MemoryStore::default();
    anchor(&node, &mut submitter(node.chain(), &store), 12).await;
    node.mine(3).await;
    assert_eq!(sizes(&history, look.position).await, [12]);
    let second = Position { next: look.events[1].height, size: None };
    assert_eq!(sizes(&history, second).await, [5, 9, 12], "from a later block on");
    for event in look.events {
        let (proof, _) = history.prove(event).await.unwrap();
        assert_eq!(proof.verify(&node.pin()).unwrap().anchored.size, event.growth.head.size);
    }
}

#[tokio::test]
async fn nodes_that_answer_for_few_blocks_are_asked_for_few() {
    let Some(node) = Node::start().await else { return };
    anchored(&node).await;
    node.mine(UNSETTLED_BLOCKS).await;
    let number = |value: &Value| u64::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
    let small = Proxy::start(
        &node.url,
        Box::new(move |question, answer| {
            let filter = &question["params"][0];
            let logs = question["method"] == "eth_getLogs";
            if logs && number(&filter["toBlock"]) - number(&filter["fromBlock"]) >= 10 {
                return Some(refusal(-32005, "query exceeds max block range"));
            }
            if filter == "finalized" { Some(refusal(-32602, "unknown block tag")) } else { answer }
        }),
    )
    .await;
    assert_eq!(sizes(&through(&small.url, node.pin()), BEGIN).await, [3, 5, 9]);
    small.now(Box::new(|question, answer| match question["method"] == "eth_getLogs" {
        true => Some(refusal(-32005, "not today")),
        false => answer,
    }));
    let error = through(&small.url, node.pin()).look(BEGIN).await.unwrap_err();
    assert!(matches!(error, ChainError::Refused { .. }), "{error}");
}

/// The root stands last in an event.
fn other_root(at: usize, byte: &'static str) -> Forge {
    changed("eth_getLogs", move |logs| {
        let data = logs[at]["data"].as_str().unwrap();
        logs[at]["data"] = json!(format!("{}{}", &data[..data.len() - 64], byte.repeat(32)));
    })
}

#[tokio::test]
async fn what_a_node_leaves_out_or_makes_up_shows() {
    let Some(node) = Node::start().await else { return };
    anchored(&node).await;
    let proxy = Proxy::start(&node.url, honest()).await;
    let history = through(&proxy.url, node.pin());
    for (at, why) in [(0, "follows one of size 3"), (1, "anchors are left out"), (2, "anchors are left out")] {
        proxy.now(changed("eth_getLogs", move |logs| drop(logs.as_array_mut().unwrap().remove(at))));
        let error = history.look(BEGIN).await.unwrap_err();
        assert!(matches!(error, ChainError::Lying { .. }) && error.to_string().contains(why), "{at}: {error}");
    }
    proxy.now(other_root(2, "08"));
    let error = history.look(BEGIN).await.unwrap_err();
    assert!(error.to_string().contains("different roots"), "{error}");
    // An older one: the contract's newest does not tell, but its block does not hold it.
    proxy.now(other_root(1, "04"));
    let forged = history.look(BEGIN).await.unwrap().events[1];
    assert_eq!(forged.growth.head.root, [4; 32]);
    let error = history.prove(forged).await.unwrap_err();
    assert!(matches!(error, ChainError::Lying { .. }), "{error}");
}

#[tokio::test]
async fn another_chain_contract_or_account_is_named() {
    let Some(node) = Node::start().await else { return };
    anchored(&node).await;
    let other = |change: fn(&mut Pin)| {
        let mut pin = node.pin();
        change(&mut pin);
        through(&node.url, pin)
    };
    let error = other(|pin| pin.chain_id = 1).look(BEGIN).await.unwrap_err();
    assert!(matches!(error, ChainError::WrongChain { expected: 1, .. }), "{error}");
    let error = other(|pin| pin.contract = [7; 20]).look(BEGIN).await.unwrap_err();
    assert!(matches!(error, ChainError::NoContract { .. }), "{error}");
    let error = other(|pin| pin.sender = key(1).address().into()).look(BEGIN).await.unwrap_err();
    assert!(matches!(error, ChainError::NotOwner { .. }), "{error}");
}
