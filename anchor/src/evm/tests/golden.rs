//! A proof from a real node, frozen: the middle of a block of 151 transactions of both kinds.

use alloy_primitives::{B256, keccak256};
use alloy_trie::Nibbles;
use alloy_trie::proof::verify_proof;
use stele_evidence::chain::evm::EvmProof;

use super::node::{CHAIN, LOG, key};
use crate::chain::tests::suite::growth;
use crate::evm::contract::root_slot;
use crate::evm::header::number;

const PROOF: &[u8] = include_bytes!("../../../golden/evm-node.proof");

fn proof() -> EvmProof {
    EvmProof::decode(PROOF).unwrap()
}

#[test]
fn the_proof_of_a_node_of_today_holds_for_ever() {
    let proof = proof();
    // The first contract of the account has an address that follows from both.
    let (sender, contract) = (key(0).address(), key(0).address().create(0));
    assert_eq!((proof.pin.chain_id, proof.pin.sender, proof.pin.contract), (CHAIN, sender.0.0, contract.0.0));
    let shown = proof.verify(&proof.pin).unwrap();
    let anchored = growth(0, 3);
    assert_eq!((shown.anchored.log_id, shown.anchored.previous), (LOG, anchored.previous));
    assert_eq!((shown.anchored.size, shown.anchored.root), (anchored.head.size, anchored.head.root));
    assert!(shown.stored && proof.transaction > 0);
    assert_eq!(proof.encode().unwrap(), PROOF);
}

/// Another implementation agrees with every part of it: the hash, the receipt's way, and the slot's.
#[test]
fn the_tries_of_others_accept_the_proof() {
    let proof = proof();
    let shown = proof.verify(&proof.pin).unwrap();
    assert_eq!(keccak256(&proof.header), B256::from(shown.block_hash));
    let nodes = |nodes: &[Vec<u8>]| nodes.iter().map(|node| node.clone().into()).collect::<Vec<_>>();
    let header = alloy_rlp::Header::decode_raw(&mut proof.header.as_slice()).unwrap();
    let alloy_rlp::PayloadView::List(fields) = header else { panic!("no list") };
    let root = |at: usize| B256::from_slice(&fields[at][1..]);
    let way = nodes(&proof.receipt);
    // The receipt is the value of the last node, a leaf: its path, then the receipt.
    let receipt = value(proof.receipt.last().unwrap());
    let path = Nibbles::unpack(number(proof.transaction.into()));
    verify_proof(root(5), path, Some(receipt), &way).unwrap();
    let state = proof.state.as_ref().unwrap();
    let account = value(state.account.last().unwrap());
    let contract = Nibbles::unpack(keccak256(proof.pin.contract));
    verify_proof(root(3), contract, Some(account.clone()), &nodes(&state.account)).unwrap();
    let alloy_rlp::PayloadView::List(fields) = alloy_rlp::Header::decode_raw(&mut account.as_slice()).unwrap() else {
        panic!("no account")
    };
    let slot = Nibbles::unpack(keccak256(root_slot(LOG, 3)));
    let stored = alloy_rlp::encode([3u8; 32].as_slice());
    verify_proof(B256::from_slice(&fields[2][1..]), slot, Some(stored), &nodes(&state.storage)).unwrap();
}

/// The value of a leaf.
fn value(leaf: &[u8]) -> Vec<u8> {
    let mut leaf = leaf;
    let alloy_rlp::PayloadView::List(mut items) = alloy_rlp::Header::decode_raw(&mut leaf).unwrap() else {
        panic!("no leaf")
    };
    assert_eq!(items.len(), 2);
    alloy_rlp::Header::decode_bytes(&mut items[1], false).unwrap().to_vec()
}

#[test]
fn every_changed_byte_of_the_proof_is_noticed() {
    let shown = proof().verify(&proof().pin).unwrap();
    let pin = proof().pin;
    for at in 0..PROOF.len() {
        let mut changed = PROOF.to_vec();
        changed[at] ^= 1;
        let same = EvmProof::decode(&changed).is_ok_and(|proof| proof.verify(&pin) == Ok(shown));
        assert!(!same, "byte {at}");
    }
}
