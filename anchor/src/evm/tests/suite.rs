//! The suite of every chain, on a real node.

use super::node::Node;
use crate::chain::tests::fuse::Blow;
use crate::chain::tests::suite;

#[tokio::test]
async fn an_evm_chain_grows() {
    let Some(node) = Node::start().await else { return };
    suite::grows(&node).await;
}

#[tokio::test]
async fn an_evm_chain_is_idempotent_and_compares() {
    let Some(node) = Node::start().await else { return };
    suite::is_idempotent_and_compares(&node).await;
}

#[tokio::test]
async fn an_evm_chain_survives_deaths() {
    let Some(node) = Node::start().await else { return };
    suite::survives_every_cut(&node, Blow::Die).await;
}

#[tokio::test]
async fn an_evm_chain_survives_failures() {
    let Some(node) = Node::start().await else { return };
    suite::survives_every_cut(&node, Blow::Fail).await;
}

#[tokio::test]
async fn an_evm_chain_takes_two_anchors() {
    let Some(node) = Node::start().await else { return };
    suite::two_at_once(&node).await;
}

#[tokio::test]
async fn a_chain_added_later_starts_with_the_newest_checkpoint() {
    let Some(node) = Node::start().await else { return };
    suite::starts_late(&node).await;
}
