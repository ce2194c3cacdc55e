use proptest::prelude::*;

use super::testing::{MAPPING_SLOT, NUMBER, PIN, account, event, header, proof, receipt};
use super::*;
use crate::chain::log_id;
use crate::chain::rlp::tests::string;
use crate::chain::trie::tests::built;

const GOLDEN: &[u8] = include_bytes!("../../../golden/evm.proof");
const TIME: u64 = 1_790_000_500;

fn anchored() -> Anchored {
    Anchored { log_id: log_id("log.example/evm"), previous: 12, size: 300, root: [0x42; 32] }
}

/// A block of several receipts, ours at `at`, and a state of several accounts and values, from the tries of
/// alloy-trie.
fn busy(anchored: &Anchored, others: &[Vec<u8>], at: usize, before: usize) -> EvmProof {
    let mut events = vec![event(&Anchored { size: 1_000, ..*anchored }, &Pin { contract: [1; 20], ..PIN }); before];
    events.push(event(anchored, &PIN));
    let mut receipts = others.to_vec();
    receipts.insert(at, receipt(u8::try_from(at % 4).unwrap(), &[1], &events));
    let pairs: Vec<_> = receipts.into_iter().enumerate().map(|(at, r)| (encode_number(at as u64), r)).collect();
    let (receipts_root, nodes) = built(&pairs, &encode_number(at as u64));
    let hashed = |key: &[u8]| keccak256(key).to_vec();
    let stored: Vec<u8> = anchored.root.into_iter().skip_while(|byte| *byte == 0).collect();
    let slot = keccak256(&slot_of(anchored, MAPPING_SLOT)).to_vec();
    let mut storage: Vec<_> = (0..40u8).map(|n| (hashed(&[n]), string(&[n | 1; 32]))).collect();
    storage.push((slot.clone(), string(&stored)));
    let (storage_root, storage) = built(&storage, &slot);
    let mut accounts: Vec<_> = (0..40u8).map(|n| (hashed(&[n; 20]), account(&[n; 32]))).collect();
    accounts.push((hashed(&PIN.contract), account(&storage_root)));
    let (state_root, accounts) = built(&accounts, &hashed(&PIN.contract));
    EvmProof {
        pin: PIN,
        transaction: u32::try_from(at).unwrap(),
        log: u32::try_from(before).unwrap(),
        header: header(&state_root, &receipts_root, TIME),
        receipt: nodes,
        state: Some(StateProof { mapping_slot: MAPPING_SLOT, account: accounts, storage }),
    }
}

#[test]
fn golden_proof_is_written_byte_for_byte_and_verifies() {
    let good = proof(&anchored(), TIME);
    assert_eq!(good.encode().unwrap(), GOLDEN);
    let read = EvmProof::decode(GOLDEN).unwrap();
    assert_eq!(read, good);
    let found = read.verify(&PIN).unwrap();
    let block_hash = alloy_primitives::keccak256(&good.header).0;
    let expected = EvmAnchor { block_hash, number: NUMBER, time: TIME, anchored: anchored(), stored: true };
    assert_eq!(found, expected);
    let event = alloy_primitives::keccak256("Anchored(bytes32,uint64,uint64,bytes32,address)").0;
    assert!(read.receipt[0].windows(32).any(|window| window == event));
}

/// A block that a real node made, recorded by evidence/golden/evm-anvil.py, which holds its receipt proof
/// against py-trie.
#[test]
fn a_proof_from_a_real_node_verifies() {
    let bytes = include_bytes!("../../../golden/evm-anvil.proof");
    let read = EvmProof::decode(bytes).unwrap();
    let sender = "f39fd6e51aad88f6f4ce6ab8827279cfffb92266";
    assert_eq!((read.pin.chain_id, hex::encode(read.pin.sender).as_str()), (31_337, sender));
    assert_eq!((read.transaction, read.receipt.len()), (16, 2));
    let mut root = [0x42; 32];
    root[..2].fill(0);
    let found = read.verify(&read.pin).unwrap();
    assert_eq!(hex::encode(found.block_hash), "9e71c0aa3e47ddbb599a0eddec6acb6c6ee69e903a321b4a043417bd517bca0d");
    assert_eq!((found.number, found.time, found.stored), (2, 1_795_313_772, true));
    assert_eq!(found.anchored, Anchored { root, ..anchored() });
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let other = EvmProof::decode(&flipped).ok().and_then(|other| other.verify(&read.pin).ok());
        assert!(other.is_none_or(|other| other.block_hash != found.block_hash), "bit {bit}");
    }
}

/// The header's bytes are held by nothing but its hash, which is what must be believed.
#[test]
fn every_flipped_bit_is_refused_or_asks_for_another_block() {
    let block = proof(&anchored(), TIME).verify(&PIN).unwrap().block_hash;
    for bit in 0..GOLDEN.len() * 8 {
        let mut flipped = GOLDEN.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let found = EvmProof::decode(&flipped).ok().and_then(|read| read.verify(&PIN).ok());
        assert!(found.is_none_or(|found| found.block_hash != block), "bit {bit}");
    }
    for len in 0..GOLDEN.len() {
        assert!(EvmProof::decode(&GOLDEN[..len]).is_err(), "cut to {len}");
    }
    assert!(EvmProof::decode(&[GOLDEN, &[0]].concat()).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn anchors_are_found_in_other_peoples_tries(
        others in prop::collection::vec((0u8..4, any::<bool>(), 0usize..3), 0..200),
        pick in any::<prop::sample::Index>(),
        before in 0usize..3,
        root in any::<[u8; 32]>(),
    ) {
        let anchored = Anchored { root, ..anchored() };
        let events = |count| vec![event(&Anchored { size: 999, ..anchored }, &PIN); count];
        let others =
            others.into_iter().map(|(kind, good, count)| receipt(kind, &[1][..usize::from(good)], &events(count)));
        let others: Vec<_> = others.collect();
        let good = busy(&anchored, &others, pick.index(others.len() + 1), before);
        prop_assert_eq!(good.verify(&PIN).map(|found| found.anchored), Ok(anchored));
        prop_assert_eq!(EvmProof::decode(&good.encode().unwrap()), Ok(good.clone()));
        for (at, state) in [(0, true), (1, true), (0, false)] {
            let mut broken = good.clone();
            let part = broken.state.as_mut().unwrap();
            let nodes = match (at, state) { (0, true) => &mut part.account, (_, true) => &mut part.storage, _ => &mut broken.receipt };
            let last = nodes.last_mut().unwrap();
            let byte = last.len() / 2;
            last[byte] ^= 0x10;
            prop_assert!(broken.verify(&PIN).is_err());
        }
    }
}

#[test]
fn a_root_that_begins_with_zeros_is_stored_short() {
    for zeros in [1, 5, 31] {
        let mut root = [0; 32];
        root[zeros..].fill(9);
        let anchored = Anchored { root, ..anchored() };
        assert!(busy(&anchored, &[], 0, 0).verify(&PIN).unwrap().stored);
    }
}

/// One receipt in a block, without state.
fn block_of(receipt: Vec<u8>) -> EvmProof {
    let key = encode_number(0);
    let (receipts_root, nodes) = built(&[(key.clone(), receipt)], &key);
    let header = header(&[0; 32], &receipts_root, TIME);
    EvmProof { pin: PIN, transaction: 0, log: 0, header, receipt: nodes, state: None }
}

#[test]
fn only_the_pinned_event_counts() {
    let good = event(&anchored(), &PIN);
    let found = block_of(receipt(2, &[1], std::slice::from_ref(&good))).verify(&PIN).unwrap();
    assert!(!found.stored && found.anchored == anchored());
    let refusal = |receipt| block_of(receipt).verify(&PIN).unwrap_err();
    assert_eq!(refusal(receipt(2, &[], std::slice::from_ref(&good))), EvmError::Failed);
    assert_eq!(refusal(receipt(0, &[7; 32], std::slice::from_ref(&good))), EvmError::Failed);
    assert_eq!(refusal(receipt(2, &[1], &[])), EvmError::NoEvent);
    let by = |pin: &Pin| receipt(2, &[1], &[event(&anchored(), pin)]);
    assert_eq!(refusal(by(&Pin { contract: [1; 20], ..PIN })), EvmError::OtherContract);
    assert_eq!(refusal(by(&Pin { sender: [1; 20], ..PIN })), EvmError::OtherSender);
    let shrunk = event(&Anchored { previous: 300, ..anchored() }, &PIN);
    assert_eq!(refusal(receipt(2, &[1], &[shrunk])), EvmError::NotGrowing);
    // The event of another contract's making: other topics, data that is longer, a size of more than 64 bits.
    let changed = |at: usize, with: u8| {
        let mut bytes = good.clone();
        bytes[at] = with;
        refusal(receipt(2, &[1], &[bytes]))
    };
    // Address behind two heads; topics behind a head and 21 bytes more; data behind 99 + 2.
    let (topics, data) = (2 + 21 + 2, 2 + 21 + 2 + 99 + 2);
    assert_eq!(changed(topics + 1, 0), EvmError::OtherEvent);
    assert_eq!(changed(topics + 66 + 1, 1), EvmError::OtherSender);
    assert_eq!(changed(data, 1), EvmError::OtherEvent);
    assert_eq!(changed(data + 32, 1), EvmError::OtherEvent);
    assert!(matches!(refusal(vec![2, 0xc0]), EvmError::Receipt(_)));
    assert!(matches!(refusal(vec![2]), EvmError::Receipt(_)));
}

#[test]
fn the_state_must_say_the_same() {
    let good = busy(&anchored(), &[], 0, 0);
    let refusal = |change: &dyn Fn(&mut EvmProof)| {
        let mut changed = good.clone();
        change(&mut changed);
        changed.verify(&PIN).unwrap_err()
    };
    assert!(matches!(refusal(&|proof| proof.state.as_mut().unwrap().mapping_slot = 2), EvmError::Storage(_)));
    let swap = |proof: &mut EvmProof| {
        let state = proof.state.as_mut().unwrap();
        std::mem::swap(&mut state.account, &mut state.storage);
    };
    assert!(matches!(refusal(&swap), EvmError::Account(_)));
    // The event says another root than the storage.
    let other = busy(&Anchored { root: [0x43; 32], ..anchored() }, &[], 0, 0);
    let key = encode_number(0);
    let (receipts_root, nodes) = built(&[(key.clone(), receipt(2, &[1], &[event(&anchored(), &PIN)]))], &key);
    let state_root = Header::decode(&other.header).unwrap().state_root;
    let lying = EvmProof { header: header(&state_root, &receipts_root, TIME), receipt: nodes, ..other };
    assert_eq!(lying.verify(&PIN), Err(EvmError::OtherRoot));
}

#[test]
fn other_pins_and_headers_are_refused() {
    let good = proof(&anchored(), TIME);
    for (pin, what) in [
        (Pin { chain_id: 1, ..PIN }, "chain"),
        (Pin { contract: [1; 20], ..PIN }, "contract"),
        (Pin { sender: [1; 20], ..PIN }, "sender"),
    ] {
        assert_eq!(good.verify(&pin), Err(EvmError::Pin(what)));
    }
    for header in [Vec::new(), vec![0xc0], good.header[..good.header.len() - 1].to_vec(), string(b"header")] {
        assert!(matches!(EvmProof { header, ..good.clone() }.verify(&PIN), Err(EvmError::Header(_))));
    }
    let long = EvmProof { header: vec![0; HEADER_MAX + 1], ..good.clone() };
    assert!(long.encode().is_err());
    assert!(EvmProof { receipt: Vec::new(), ..good.clone() }.encode().is_err());
    assert!(EvmProof { receipt: vec![vec![0; NODE_MAX + 1]], ..good.clone() }.encode().is_err());
    assert!(EvmProof { receipt: vec![vec![0; NODE_MAX]; 4], ..good }.encode().is_err(), "too long together");
}

#[test]
#[ignore = "writes evidence/golden; a changed file is a changed format"]
#[expect(clippy::disallowed_methods, reason = "test inputs, not stored data")]
fn write_golden_proof() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    std::fs::write(folder.join("evm.proof"), proof(&anchored(), TIME).encode().unwrap()).unwrap();
}
