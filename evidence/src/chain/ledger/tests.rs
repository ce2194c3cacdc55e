use super::*;
use crate::chain::log_id;
use crate::keys::{Ed25519Signer, TrustedKey};
use crate::vkey::KeyName;

const GOLDEN: &[u8] = include_bytes!("../../../golden/ledger.bin");
const VKEY: &str = include_str!("../../../golden/ledger.vkey");

pub(crate) fn signer(seed: u8) -> Ed25519Signer {
    Ed25519Signer::for_ledger(KeyName::new("ledger.stele.example").unwrap(), &[seed; 32])
}

pub(crate) fn key() -> LedgerKey {
    LedgerKey::new(signer(41).vkey().clone()).unwrap()
}

pub(crate) fn anchored(origin: &str, previous: u64, size: u64) -> Anchored {
    Anchored { log_id: log_id(origin), previous, size, root: [u8::try_from(size).unwrap(); 32] }
}

/// Blocks of two logs; the clock goes back once.
pub(crate) fn blocks() -> Vec<Block> {
    let mut state = LedgerState::new(key());
    let mut append = |origin, previous, size, now| {
        let block = state.propose(&signer(41), anchored(origin, previous, size), now).unwrap();
        state.take(&block).unwrap();
        block
    };
    vec![
        append("log.example/a", 0, 5, 1_790_000_000_000),
        append("log.example/b", 0, 2, 1_789_000_000_000),
        append("log.example/a", 5, 6, 1_790_000_060_000),
        append("log.example/a", 6, 200, 1_790_000_120_000),
    ]
}

fn bytes(blocks: &[Block]) -> Vec<u8> {
    blocks.iter().flat_map(|block| *block.as_bytes()).collect()
}

fn fault(bytes: &[u8]) -> BlockFault {
    verify_blocks(&key(), bytes).unwrap_err().fault
}

#[test]
fn golden_ledger_is_written_byte_for_byte_and_verifies() {
    assert_eq!(bytes(&blocks()), GOLDEN);
    assert_eq!(format!("{}\n", key().vkey()), VKEY);
    let state = verify_blocks(&LedgerKey::parse(VKEY.trim_end()).unwrap(), GOLDEN).unwrap();
    assert_eq!(state.height(), 4);
    assert_eq!(state.last(&log_id("log.example/a")), Some(Last { size: 200, root: [200; 32], height: 3 }));
    assert_eq!(state.last(&log_id("log.example/b")), Some(Last { size: 2, root: [2; 32], height: 1 }));
    assert_eq!(state.last(&log_id("log.example/c")), None);
    let first = Block::decode(&GOLDEN[..BLOCK_LEN]).unwrap();
    assert_eq!(first.link, <Hash>::from(Sha256::digest(VKEY.trim_end())));
    assert_eq!(blocks()[1].time_ms, first.time_ms, "a clock that went back stands still");
}

#[test]
fn every_flipped_bit_is_refused() {
    for at in 0..GOLDEN.len() {
        for bit in 0..8 {
            let mut flipped = GOLDEN.to_vec();
            flipped[at] ^= 1 << bit;
            let error = verify_blocks(&key(), &flipped).unwrap_err();
            assert_eq!(error.height, (at / BLOCK_LEN) as u64, "byte {at}, bit {bit}: {error}");
        }
    }
}

#[test]
fn missing_exchanged_and_cut_blocks_are_refused() {
    let all = blocks();
    let without = |at: usize| {
        let mut left = all.clone();
        left.remove(at);
        bytes(&left)
    };
    assert_eq!(fault(&without(0)), BlockFault::Height { found: 1, expected: 0 });
    assert_eq!(fault(&without(2)), BlockFault::Height { found: 3, expected: 2 });
    assert!(verify_blocks(&key(), &without(3)).is_ok(), "a shorter ledger is one");
    for len in [1, BLOCK_LEN - 1, BLOCK_LEN + 7] {
        assert!(matches!(fault(&GOLDEN[..len]), BlockFault::Format(FormatError::Short { .. })), "{len}");
    }
    // The same height from another history of the same key.
    let mut other = LedgerState::new(key());
    let strange = other.propose(&signer(41), anchored("log.example/x", 0, 1), 0).unwrap();
    other.take(&strange).unwrap();
    let second = other.propose(&signer(41), anchored("log.example/b", 0, 2), 1_790_000_000_000).unwrap();
    assert_eq!(fault(&bytes(&[all[0].clone(), second])), BlockFault::Link);
}

#[test]
fn only_the_anchor_that_follows_is_taken() {
    let state = verify_blocks(&key(), GOLDEN).unwrap();
    let refusal = |previous, size| match state.propose(&signer(41), anchored("log.example/a", previous, size), 0) {
        Err(ProposeError::Refused(fault)) => fault,
        other => panic!("{other:?}"),
    };
    assert_eq!(refusal(6, 200), BlockFault::Stale { found: 6, expected: 200 });
    assert_eq!(refusal(0, 201), BlockFault::Stale { found: 0, expected: 200 });
    assert_eq!(refusal(200, 200), BlockFault::NotGrowing);
    assert_eq!(refusal(200, 199), BlockFault::NotGrowing);
    let next = state.propose(&signer(41), anchored("log.example/a", 200, 201), 0).unwrap();
    assert_eq!((next.height, next.time_ms), (4, 1_790_000_120_000));
}

/// Signs whatever it is told to: a block that breaks a rule, under the right key.
fn forged(change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut block = GOLDEN[2 * BLOCK_LEN..][..SIGNED_LEN].to_vec();
    change(&mut block);
    let signature = signer(41).sign(&block).unwrap();
    [&GOLDEN[..2 * BLOCK_LEN], &block, &signature].concat()
}

#[test]
fn a_block_that_the_key_signed_still_keeps_the_rules() {
    assert!(verify_blocks(&key(), &forged(|_| ())).is_ok());
    assert_eq!(fault(&forged(|block| block[61] = 0)), BlockFault::Time);
    assert_eq!(fault(&forged(|block| block[24] ^= 1)), BlockFault::Link);
    assert_eq!(fault(&forged(|block| block[16] = 9)), BlockFault::Height { found: 9, expected: 2 });
    assert_eq!(fault(&forged(|block| block[96] = 4)), BlockFault::Stale { found: 4, expected: 5 });
    for changed in [forged(|block| block[104] = 5), forged(|block| block[10] = 1), forged(|block| block[8] = 2)] {
        assert!(matches!(fault(&changed), BlockFault::Format(_)));
    }
}

#[test]
fn other_keys_are_refused() {
    let state = LedgerState::new(key());
    let refused = state.propose(&signer(42), anchored("log.example/a", 0, 1), 0);
    assert_eq!(refused.unwrap_err(), ProposeError::OtherSigner);
    let other = LedgerKey::new(signer(42).vkey().clone()).unwrap();
    assert!(matches!(verify_blocks(&other, GOLDEN).unwrap_err().fault, BlockFault::OtherKey { .. }));
    // Neither does a ledger's key pass for a log's, nor a log's for a ledger's.
    assert!(matches!(TrustedKey::parse(VKEY.trim_end()), Err(KeyError::UnknownType(PRIVATE_TYPE))));
    let log = Ed25519Signer::for_notes(KeyName::new("ledger.stele.example").unwrap(), &[41; 32]);
    assert!(matches!(LedgerKey::new(log.vkey().clone()), Err(KeyError::UnknownType(1))));
}

#[test]
fn logs_are_bounded() {
    let mut state = LedgerState::new(key());
    for number in 0..LOGS_MAX {
        state.logs.insert(log_id(&number.to_string()), Last { size: 1, root: [0; 32], height: 0 });
    }
    let more = state.propose(&signer(41), anchored("one more", 0, 1), 0);
    assert_eq!(more.unwrap_err(), ProposeError::Refused(BlockFault::TooManyLogs));
    assert!(state.propose(&signer(41), anchored("7", 1, 2), 0).is_ok());
}

#[test]
#[ignore = "writes evidence/golden; a changed file is a changed format"]
#[expect(clippy::disallowed_methods, reason = "test inputs, not stored data")]
fn write_golden_ledger() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    std::fs::write(folder.join("ledger.bin"), bytes(&blocks())).unwrap();
    std::fs::write(folder.join("ledger.vkey"), format!("{}\n", key().vkey())).unwrap();
}
