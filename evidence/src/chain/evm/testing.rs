//! Blocks made by hand, for tests, golden files and seeds of the fuzz corpora.

use super::{EVENT, EvmProof, Pin, StateProof, slot_of, word};
use crate::chain::Anchored;
use crate::chain::rlp::encode_number;
use crate::chain::rlp::tests::{list, string};
use crate::chain::trie::keccak256;
use crate::tree::Hash;

pub(crate) const PIN: Pin = Pin { chain_id: 20_200, contract: [0xc0; 20], sender: [0x5e; 20] };
pub(crate) const MAPPING_SLOT: u64 = 1;
pub(crate) const NUMBER: u64 = 1_234_567;

/// The event of the contract, as a receipt holds it.
pub(crate) fn event(anchored: &Anchored, pin: &Pin) -> Vec<u8> {
    let by = [&[0; 12], pin.sender.as_slice()].concat();
    let topics = list(&[string(&keccak256(EVENT.as_bytes())), string(&anchored.log_id), string(&by)]);
    let data = [word(anchored.previous), word(anchored.size), anchored.root].concat();
    list(&[string(&pin.contract), topics, string(&data)])
}

/// A receipt; type 0 is a legacy one.
pub(crate) fn receipt(kind: u8, status: &[u8], events: &[Vec<u8>]) -> Vec<u8> {
    let body = list(&[string(status), string(&[0xc3, 0x50]), string(&[0; 256]), list(events)]);
    if kind == 0 { body } else { [&[kind], body.as_slice()].concat() }
}

/// A header with all fields of Prague.
pub(crate) fn header(state_root: &Hash, receipts_root: &Hash, time: u64) -> Vec<u8> {
    let mut fields = vec![string(&[0x11; 32]), string(&[0x22; 32]), string(&[0x33; 20]), string(state_root)];
    fields.extend([string(&[0x44; 32]), string(receipts_root), string(&[0; 256]), encode_number(0)]);
    fields.extend([NUMBER, 30_000_000, 50_000, time].map(encode_number));
    fields.extend([string(b"made by hand"), string(&[0x55; 32]), string(&[0; 8]), encode_number(7)]);
    fields.extend([string(&[0x66; 32]), encode_number(0), encode_number(0), string(&[0x77; 32]), string(&[0x88; 32])]);
    list(&fields)
}

/// A trie of one value: its root and its only node.
fn alone(key: &[u8], value: &[u8]) -> (Hash, Vec<Vec<u8>>) {
    let node = list(&[string(&[&[0x20], key].concat()), string(value)]);
    (keccak256(&node), vec![node])
}

pub(crate) fn account(storage_root: &Hash) -> Vec<u8> {
    list(&[encode_number(1), encode_number(0), string(storage_root), string(&[0x99; 32])])
}

/// A block with nothing but this anchor, and a state with nothing but its root.
pub(crate) fn proof(anchored: &Anchored, time: u64) -> EvmProof {
    let slot = keccak256(&slot_of(anchored, MAPPING_SLOT));
    let stored: Vec<u8> = anchored.root.into_iter().skip_while(|byte| *byte == 0).collect();
    let (storage_root, storage) = alone(&slot, &string(&stored));
    let (state_root, accounts) = alone(&keccak256(&PIN.contract), &account(&storage_root));
    let (receipts_root, nodes) = alone(&encode_number(0), &receipt(2, &[1], &[event(anchored, &PIN)]));
    let state = Some(StateProof { mapping_slot: MAPPING_SLOT, account: accounts, storage });
    let header = header(&state_root, &receipts_root, time);
    EvmProof { pin: PIN, transaction: 0, log: 0, header, receipt: nodes, state }
}
