//! Ledgers, bundles and the state file; nodes of chains are tested in `stele-anchor`, all together in
//! `loadtest/acceptance/log_anchors.py`.

use std::path::{Path, PathBuf};

use stele_evidence::chain::ledger::{BLOCK_LEN, LedgerKey, LedgerState};
use stele_evidence::chain::trust::TrustedChains;
use stele_evidence::chain::{Anchored, log_id};
use stele_evidence::keys::{Ed25519Signer, Signer as _};
use stele_evidence::vkey::KeyName;

use super::bundle::BundleSource;
use super::ledger::LedgerSource;
use super::*;
use crate::log::sighting::{Found, Recorded};
use crate::log::state::State;

const LOG: &str = "log.example/a";

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../evidence/golden").join(name)
}

fn signer() -> Ed25519Signer {
    Ed25519Signer::for_ledger(KeyName::new("ledger.stele.example").unwrap(), &[41; 32])
}

fn key() -> LedgerKey {
    LedgerKey::new(signer().vkey().clone()).unwrap()
}

/// A ledger with anchors of these sizes; the root of each is its size and `root`.
fn ledger(sizes: &[u64], root: u8) -> Vec<u8> {
    let (mut state, mut bytes, mut previous) = (LedgerState::new(key()), Vec::new(), 0);
    for &size in sizes {
        let anchored = Anchored { log_id: log_id(LOG), previous, size, root: [root; 32] };
        let block = state.propose(&signer(), anchored, 5).unwrap();
        state.take(&block).unwrap();
        bytes.extend_from_slice(block.as_bytes());
        previous = size;
    }
    bytes
}

fn source(path: &Path, memory: &Memory) -> LedgerSource {
    LedgerSource::new("own", key(), path.to_owned(), memory)
}

fn sizes(look: &Look) -> Vec<u64> {
    look.sightings.iter().map(|sighting| sighting.head.size).collect()
}

/// Looks, and is told that all was dealt with.
async fn dealt_with(source: &mut LedgerSource) -> Vec<u64> {
    let look = source.look(LOG).await.unwrap();
    assert!(look.rewritten.is_none() && !look.more);
    let found = sizes(&look);
    let Next::Ledger(state) = look.next else { panic!("not a ledger") };
    source.settle(*state);
    found
}

#[tokio::test]
async fn a_ledger_is_read_while_it_grows() {
    let golden = source(&golden("ledger.bin"), &Memory::default()).look(LOG).await.unwrap();
    assert_eq!(sizes(&golden), [5, 6, 200], "of two logs");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    let all = ledger(&[3, 5, 9], 1);
    tokio::fs::write(&path, &all[..2 * BLOCK_LEN]).await.unwrap();
    let mut source = source(&path, &Memory::default());
    assert_eq!(sizes(&source.look(LOG).await.unwrap()), [3, 5]);
    assert_eq!(dealt_with(&mut source).await, [3, 5], "a look alone settles nothing");
    assert_eq!(dealt_with(&mut source).await, [0; 0]);
    tokio::fs::write(&path, &all[..3 * BLOCK_LEN - 1]).await.unwrap();
    assert_eq!(dealt_with(&mut source).await, [0; 0], "a block that is being written");
    tokio::fs::write(&path, &all).await.unwrap();
    assert_eq!(dealt_with(&mut source).await, [9]);
    tokio::fs::write(&path, &all[..BLOCK_LEN]).await.unwrap();
    assert!(source.look(LOG).await.err().unwrap().to_string().contains("cut"));
}

#[tokio::test]
async fn damaged_and_rewritten_ledgers_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let (path, file) = (folder.path().join("ledger"), folder.path().join("state"));
    let all = ledger(&[3, 5], 1);
    tokio::fs::write(&path, &all).await.unwrap();
    let (state, memory) = State::open(&file).await.unwrap();
    for sighting in source(&path, &memory).look(LOG).await.unwrap().sightings {
        state.keep(LOG, &sighting).await.unwrap();
    }
    let (_, memory) = State::open(&file).await.unwrap();
    assert_eq!(sizes(&source(&path, &memory).look(LOG).await.unwrap()), [3, 5]);
    // Nobody signed this.
    let mut damaged = all.clone();
    damaged[BLOCK_LEN + 120] ^= 1;
    tokio::fs::write(&path, &damaged).await.unwrap();
    assert!(source(&path, &memory).look(LOG).await.err().unwrap().to_string().contains("block 1"));
    // The keeper signed another block, also after this program was started again.
    let other = ledger(&[3, 4, 8], 2);
    tokio::fs::write(&path, &other).await.unwrap();
    let look = source(&path, &memory).look(LOG).await.unwrap();
    let (what, block) = look.rewritten.unwrap();
    assert!(what.contains("block 0") && block == other[..BLOCK_LEN] && look.sightings.is_empty());
    tokio::fs::write(&path, &all[..BLOCK_LEN]).await.unwrap();
    assert!(source(&path, &memory).look(LOG).await.err().unwrap().to_string().contains("cut"));
}

#[tokio::test]
async fn bundles_show_what_their_proofs_show() {
    const ORIGIN: &str = "log.stele.example/bundle";
    let chains = tokio::fs::read(golden("chains.txt")).await.unwrap();
    let source =
        |chains: &[u8]| BundleSource { path: golden("bundle-anchored"), chains: TrustedChains::parse(chains).unwrap() };
    let own = Trust::read(Some(&golden("bundle-anchored/data/policy.txt"))).await.unwrap();
    let look = source(&chains).look(ORIGIN, &own).await.unwrap();
    assert_eq!(sizes(&look), [13, 9, 13, 20]);
    assert!(matches!(look.sightings[0].found, Found::Note(_)));
    assert!(look.sightings[3].place.contains("0xccbd1f80"), "{}", look.sightings[3].place);
    assert_eq!(sizes(&source(b"").look(ORIGIN, &own).await.unwrap()), [13], "chains that nobody listed");
    let other = String::from_utf8(chains).unwrap().replace("0x5e5e", "0x6f6f");
    let error = source(other.as_bytes()).look(ORIGIN, &own).await.err().unwrap();
    assert!(format!("{error:#}").contains("anchor on main"), "{error:#}");
    assert!(source(b"").look("log.example/other", &own).await.err().unwrap().to_string().contains("of the log"));
    let error = source(b"").look(ORIGIN, &Trust::Source).await.err().unwrap();
    assert!(error.to_string().contains("--policy"), "{error}");
}

#[tokio::test]
async fn the_state_remembers_where_and_how_far() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state");
    let (state, memory) = State::open(&file).await.unwrap();
    assert!(memory.heads.is_empty() && memory.origin.is_none());
    let head = stele_evidence::proof::Head { size: 7, root: [3; 32] };
    let place = "chain main (block 12)".to_owned();
    let recorded = Recorded { chain: "evm:5".to_owned(), block: 12, what: vec![8; 32], proof: Ok(Vec::new()) };
    let sighting = Sighting { head, place: place.clone(), found: Found::Anchor(recorded) };
    state.keep(LOG, &sighting).await.unwrap();
    for next in [13, 99] {
        state.keep_position("evm:5", Position { next, size: Some(7) }).await.unwrap();
    }
    let whole = tokio::fs::read(&file).await.unwrap();
    tokio::fs::write(&file, [whole.as_slice(), b"{\"read\":\"evm:5\",\"ne"].concat()).await.unwrap();
    let (state, memory) = State::open(&file).await.unwrap();
    assert_eq!(tokio::fs::read(&file).await.unwrap(), whole, "a line that was cut is gone");
    assert_eq!(memory.heads, [(head, place)]);
    assert_eq!(memory.positions["evm:5"], Position { next: 99, size: Some(7) });
    assert_eq!(memory.anchors[&("evm:5".to_owned(), 12, 7)], [8; 32]);
    state.keep("log.example/other", &sighting).await.unwrap();
    assert!(format!("{:#}", State::open(&file).await.err().unwrap()).contains("log.example/other"));
}

#[test]
fn names_and_values_are_split_at_the_first_sign() {
    let named: Named = "main=https://node.example/?key=a=b".parse().unwrap();
    assert_eq!((named.name.as_str(), named.value.as_str()), ("main", "https://node.example/?key=a=b"));
    for text in ["main", "=x", "main=", ""] {
        assert!(text.parse::<Named>().is_err(), "{text:?}");
    }
}
