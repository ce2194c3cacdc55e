//! The log of the other bundles, with anchors.

use super::{Log, ORIGIN, SIZE, event, log, policy, writer};
use crate::bundle::files::Files;
use crate::bundle::report::Report;
use crate::bundle::verify::{Request, Unusable, verify};
use crate::bundle::writer::{AnchorEvidence, AnchorProof, BundleWriter, TimestampEvidence};
use crate::chain::evm::testing::{PIN, proof};
use crate::chain::ledger::tests::{key, signer};
use crate::chain::ledger::{Block, LedgerState};
use crate::chain::{Anchored, log_id};
use crate::note::Note;
use crate::timestamp::tests::P256;
use crate::tlog_proof::TlogProof;
use crate::tree::{Hash, leaf_hash, reference};

/// Size at which the larger chain has the log.
pub(crate) const LARGER: u64 = 20;
/// Size at which the ledger has it: the last of the three events was not there yet.
pub(crate) const SMALLER: u64 = 9;
/// Times of the blocks, seconds.
pub(crate) const BLOCK_TIMES: [u64; 2] = [1_790_000_200, 1_790_000_900];

/// The log as it is later.
pub(crate) fn later() -> Log {
    let mut log = log();
    log.leaves.extend((SIZE..LARGER).map(|index| leaf_hash(&index.to_be_bytes())));
    log
}

pub(crate) fn at_size(size: u64) -> Anchored {
    let root = reference::root(&later().leaves[..usize::try_from(size).unwrap()]);
    Anchored { log_id: log_id(ORIGIN), previous: 0, size, root }
}

/// RFC 6962 proof between two sizes.
pub(crate) fn consistency(old: u64, new: u64) -> Vec<Hash> {
    let (old, new) = (usize::try_from(old).unwrap(), usize::try_from(new).unwrap());
    if old == new { Vec::new() } else { reference::subproof(old, &later().leaves[..new], true) }
}

/// The checkpoint of the bundles, signatures included.
pub(crate) fn note() -> Note {
    TlogProof::parse(&log().proof(4)).unwrap().checkpoint
}

/// An EVM proof of this size.
pub(crate) fn evm(size: u64, time: u64) -> Vec<u8> {
    proof(&at_size(size), time).encode().unwrap()
}

/// The first block of a ledger.
pub(crate) fn block(anchored: Anchored) -> Block {
    LedgerState::new(key()).propose(&signer(41), anchored, 1_790_000_050_000).unwrap()
}

/// The events up to the deletion, and nothing from outside yet.
pub(crate) fn begun() -> BundleWriter<Files> {
    begun_at(&log())
}

/// The same with the log as it is at some time.
pub(crate) fn begun_at(log: &Log) -> BundleWriter<Files> {
    let mut writer = writer();
    for index in [4, 7, 11] {
        let ((record, salt), proof) = (event(index), log.proof(index));
        writer.object(&record, &salt, &proof).unwrap().without_bytes().unwrap();
    }
    writer
}

/// A ledger that has less, and two chains that have the same and more.
pub(crate) fn anchored() -> Files {
    let mut writer = begun();
    let block = block(at_size(SMALLER));
    let (same, larger) = (evm(SIZE, BLOCK_TIMES[0]), evm(LARGER, BLOCK_TIMES[1]));
    for (name, proof, consistency) in [
        ("own", AnchorProof::Ledger(block.as_bytes()), consistency(SMALLER, SIZE)),
        ("main", AnchorProof::Evm(&same), Vec::new()),
        ("other", AnchorProof::Evm(&larger), consistency(SIZE, LARGER)),
    ] {
        writer.anchor(&AnchorEvidence { name, proof, consistency: &consistency }).unwrap();
    }
    writer.finish().unwrap()
}

/// The same events with a time stamp over the checkpoint that they lead to.
pub(crate) fn stamped() -> Files {
    let mut writer = begun();
    let note = note();
    let evidence = TimestampEvidence { response: P256, checkpoint: note.as_bytes(), consistency: &[] };
    writer.timestamp(&evidence).unwrap();
    writer.finish().unwrap()
}

/// A line for an EVM chain, with the blocks of these proofs.
pub(crate) fn evm_line(name: &str, blocks: &[&[u8]]) -> String {
    let hex = |bytes: &[u8]| format!("0x{}", hex::encode(bytes));
    let mut line = format!("evm {name} {} {} {}", PIN.chain_id, hex(&PIN.contract), hex(&PIN.sender));
    for proof in blocks {
        let read = crate::chain::evm::EvmProof::decode(proof).unwrap();
        line.push_str(&format!(" {}", hex(&read.verify(&PIN).unwrap().block_hash)));
    }
    line + "\n"
}

/// An auditor who trusts everything that there is.
pub(crate) fn chains() -> String {
    let (same, larger) = (evm(SIZE, BLOCK_TIMES[0]), evm(LARGER, BLOCK_TIMES[1]));
    let ledger = format!("ledger own {} independent\n", key().vkey());
    ledger + &evm_line("main", &[&same]) + &evm_line("other", &[&larger])
}

/// Judges with these chains under the auditor's own policy.
pub(crate) fn judge_with(files: &Files, chains: &str) -> Result<Report, Unusable> {
    let policy = policy();
    verify(files, &Request { policy: Some(&policy), chains: Some(chains.as_bytes()), ..Request::default() }, None)
}
