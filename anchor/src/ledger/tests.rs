//! The ledger passes the suite of every chain, and its file survives crashes and refuses damage.

use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use stele_evidence::chain::ledger::{BLOCK_LEN, Block, LedgerKey, verify_blocks};
use stele_evidence::keys::Ed25519Signer;
use stele_evidence::vkey::KeyName;
use stele_rpc::meta::TreeHead;
use stele_types::seam::Clock;

use super::*;
use crate::chain::steps::Rules;
use crate::chain::submit::{Done, Submitter};
use crate::chain::tests::fuse::Blow;
use crate::chain::tests::store::MemoryStore;
use crate::chain::tests::suite::{self, World, growth, head};

#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn unix_millis(&self) -> u64 {
        1_700_000_000_000
    }

    fn monotonic_micros(&self) -> u64 {
        0
    }
}

const LOG: Hash = [5; 32];

fn signer(seed: u8) -> Arc<dyn Signer + Send + Sync> {
    Arc::new(Ed25519Signer::for_ledger(KeyName::new("ledger.example").unwrap(), &[seed; 32]))
}

#[derive(Debug)]
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("ledger")
    }

    fn open(&self, seed: u8) -> Result<Ledger, LedgerFileError> {
        Ledger::open(&self.path(), signer(seed), Arc::new(Still), LOG)
    }

    #[expect(clippy::disallowed_methods, reason = "a test file")]
    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.path()).unwrap()
    }

    #[expect(clippy::disallowed_methods, reason = "a test file")]
    fn write(&self, bytes: &[u8]) {
        std::fs::write(self.path(), bytes).unwrap();
    }
}

/// An open ledger.
#[derive(Debug)]
struct Opened(Place, Ledger);

impl Opened {
    fn new() -> Self {
        let place = Place::new();
        let ledger = place.open(1).unwrap();
        Self(place, ledger)
    }
}

#[async_trait]
impl World for Opened {
    type Chain = Ledger;

    fn chain(&self) -> Ledger {
        self.1.clone()
    }

    async fn pass(&self) {}

    async fn anchored(&self) -> Vec<Growth> {
        let bytes = self.0.bytes();
        let key = LedgerKey::new(signer(1).vkey().clone()).unwrap();
        verify_blocks(&key, &bytes).unwrap();
        let blocks = bytes.chunks(BLOCK_LEN).map(|block| Block::decode(block).unwrap().anchored);
        blocks.map(|it| Growth { previous: it.previous, head: TreeHead { size: it.size, root: it.root } }).collect()
    }

    fn check(&self, head: TreeHead, proof: &Bytes) {
        let block = Block::decode(proof).unwrap();
        LedgerKey::new(signer(1).vkey().clone()).unwrap().check(&block).unwrap();
        assert_eq!((block.anchored.size, block.anchored.root, block.anchored.log_id), (head.size, head.root, LOG));
    }
}

#[tokio::test]
async fn the_ledger_grows() {
    suite::grows(&Opened::new()).await;
}

#[tokio::test]
async fn the_ledger_is_idempotent_and_compares() {
    suite::is_idempotent_and_compares(&Opened::new()).await;
}

#[tokio::test]
async fn the_ledger_survives_deaths() {
    suite::survives_every_cut(&Opened::new(), Blow::Die).await;
}

#[tokio::test]
async fn the_ledger_survives_failures() {
    suite::survives_every_cut(&Opened::new(), Blow::Fail).await;
}

#[tokio::test]
async fn the_ledger_takes_two_anchors() {
    suite::two_at_once(&Opened::new()).await;
}

/// The loop that the program runs: checkpoints are announced, and anchored until nobody can announce any more.
#[tokio::test(start_paused = true)]
async fn announced_checkpoints_are_anchored() {
    let world = Opened::new();
    let store = MemoryStore::default();
    let backend = crate::chain::open::Backend::Ledger {
        path: world.0.folder.path().join("other"),
        signer: signer(1),
        clock: Arc::new(Still),
    };
    let chain = crate::chain::open::open(backend, LOG).unwrap();
    let (announce, newest) = tokio::sync::watch::channel(None);
    let (tell, mut told) = tokio::sync::mpsc::channel(64);
    let submitter = Submitter::new(chain, store.clone(), Rules::default());
    let hour = std::time::Duration::from_secs(3600);
    let running = tokio::spawn(submitter.run(newest, hour, move |outcome| {
        if let Ok(Done::Anchored(head)) = outcome {
            tell.try_send(*head).unwrap();
        }
    }));
    for size in [3, 9] {
        announce.send(Some(head(size))).unwrap();
        assert_eq!(told.recv().await, Some(head(size)));
    }
    drop(announce);
    running.await.unwrap();
    assert_eq!(store.sizes(), [3, 9]);
}

async fn append(ledger: &Ledger, previous: u64, size: u64) -> Result<(), ChainError> {
    let nonce = ledger.look(None).await?.nonce;
    let block = ledger.sign(growth(previous, size), Terms { nonce, fee: None, gas: None }).await?;
    ledger.send(&block).await
}

#[tokio::test]
async fn a_crash_leaves_whole_blocks_and_damage_stops() {
    let place = Place::new();
    let ledger = place.open(1).unwrap();
    assert!(matches!(place.open(1), Err(LedgerFileError::InUse { .. })));
    for size in 1..4 {
        append(&ledger, size - 1, size).await.unwrap();
    }
    drop(ledger);
    let whole = place.bytes();
    assert_eq!(whole.len(), 3 * BLOCK_LEN);
    let newest = async |ledger: Ledger| ledger.look(None).await.unwrap().anchored.map_or(0, |head| head.size);
    for cut in 0..=whole.len() {
        place.write(&whole[..cut]);
        assert_eq!(newest(place.open(1).unwrap()).await, (cut / BLOCK_LEN) as u64, "cut at {cut}");
        assert_eq!(place.bytes().len(), cut / BLOCK_LEN * BLOCK_LEN);
    }
    // Blocks 0 and 1 lie in the first sector, block 2 lies across its end at byte 512.
    for hole in [2 * BLOCK_LEN..512, 512..3 * BLOCK_LEN, 2 * BLOCK_LEN..3 * BLOCK_LEN] {
        let mut holed = whole.clone();
        holed[hole.clone()].fill(0);
        place.write(&holed);
        assert_eq!(newest(place.open(1).unwrap()).await, 2, "{hole:?}");
    }
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        place.write(&damaged);
        assert!(matches!(place.open(1), Err(LedgerFileError::Damaged { .. })), "byte {at}");
        assert_eq!(place.bytes(), damaged, "a damaged file is left as it is");
    }
    place.write(&whole);
    assert!(matches!(place.open(2), Err(LedgerFileError::Damaged { .. })), "another key's");
    assert_eq!(newest(place.open(1).unwrap()).await, 3);
}

#[tokio::test]
async fn after_a_failed_write_nothing_is_taken_until_a_restart() {
    let place = Place::new();
    let ledger = place.open(1).unwrap();
    append(&ledger, 0, 1).await.unwrap();
    {
        // A file that refuses writes stands for a device that does.
        let mut open = ledger.lock();
        let file = std::mem::replace(&mut open.file, read_only(&place));
        drop(file);
    }
    assert!(matches!(append(&ledger, 1, 2).await, Err(ChainError::Broken(_))));
    assert_eq!(ledger.look(None).await.unwrap().anchored, Some(head(1)), "what was not written does not count");
    let refused = append(&ledger, 1, 2).await.unwrap_err();
    assert!(refused.to_string().contains("failed before"), "{refused}");
    assert!(refused.is_final());
    drop(ledger);
    let again = place.open(1).unwrap();
    append(&again, 1, 2).await.unwrap();
    let mut last = [0; BLOCK_LEN];
    again.lock().file.file().read_exact_at(&mut last, BLOCK_LEN as u64).unwrap();
    assert_eq!(Block::decode(&last).unwrap().anchored.size, 2);
}

#[expect(clippy::disallowed_methods, reason = "a test file")]
fn read_only(place: &Place) -> LedgerFile {
    LedgerFile::of_test(std::fs::File::open(place.path()).unwrap(), &place.path(), BLOCK_LEN as u64)
}
