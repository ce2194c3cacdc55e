//! An anchor over a metadata service in memory that keeps a log, and can be made to lie or to forget.

mod witnessed;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use stele_evidence::checkpoint::Checkpoint as NoteText;
use stele_evidence::keys::{Ed25519Signer, MlDsa44Signer, Signer, TrustedKey};
use stele_evidence::note::Note;
use stele_evidence::tiles::TileAppender;
use stele_evidence::tree::{Hash, leaf_hash};
use stele_evidence::vkey::KeyName;
use stele_rpc::client::MetaClient;
use stele_rpc::error::{Code, RpcError};
use stele_rpc::memory::MemoryNetwork;
use stele_rpc::meta::{
    Checkpoint, Command, LogCommand, LogHead, LogRead, LogReply, MetaReply, MetaRequest, SignedNote, TreeHead,
};
use stele_rpc::transport::{Message, Reply, Request, Response, Service};
use stele_types::ids::{LogIndex, NodeId};
use stele_types::seam::Rng;

use crate::anchor::{Anchor, AnchorError, Done, Seat};
use crate::memory::Memory;
use crate::prove::Unproven;
use crate::steps::Refusal;

const META: NodeId = NodeId(1);
const ORIGIN: &str = "stele.example/log/0";

#[derive(Clone, Default)]
struct Log {
    tiles: std::collections::BTreeMap<(u8, u64), Vec<Hash>>,
    appender: TileAppender,
    edge: stele_evidence::tree::Edge,
    checkpoint: Option<Checkpoint>,
    published: Option<SignedNote>,
    /// Tiles that only an archive holds, and whether somebody asked for them.
    archived: std::collections::BTreeMap<(u8, u64), bool>,
    /// The next command applies, and its answer gets lost.
    lose_answer: bool,
}

impl Log {
    fn append(&mut self, entry: u64) {
        let leaf = leaf_hash(&entry.to_be_bytes());
        self.edge.push(leaf);
        let tiles = &mut self.tiles;
        self.appender.push(leaf, &mut |tile| drop(tiles.insert((tile.level, tile.index), tile.hashes)));
        for (level, index, hashes) in self.appender.open_tiles() {
            self.tiles.insert((level, index), hashes.to_vec());
        }
    }

    fn now(&self) -> TreeHead {
        TreeHead { size: self.edge.size(), root: self.edge.root() }
    }

    fn read(&self, asked: LogRead) -> Result<LogReply, RpcError> {
        match asked {
            LogRead::Head => Ok(LogReply::Head(Box::new(LogHead {
                now: self.now(),
                checkpoint: self.checkpoint,
                published: self.published.clone(),
            }))),
            LogRead::Tile { level, index } if self.archived.contains_key(&(level, index)) => {
                Ok(LogReply::Archived(LogIndex(0)))
            }
            LogRead::Tile { level, index } => {
                let hashes = self.tiles.get(&(level, index)).map(|hashes| hashes.as_flattened()).unwrap_or_default();
                Ok(LogReply::Tile(Bytes::copy_from_slice(hashes)))
            }
            LogRead::Entries { .. }
            | LogRead::Record { .. }
            | LogRead::KeyEvents { .. }
            | LogRead::Chain { .. }
            | LogRead::Anchors { .. }
            | LogRead::KeptAnchors { .. }
            | LogRead::Items { .. }
            | LogRead::ArchivePlan
            | LogRead::Archive { .. } => Err(RpcError::new(Code::Malformed, "not here")),
        }
    }

    fn command(&mut self, command: LogCommand) -> Result<MetaReply, RpcError> {
        let stale = || RpcError::new(Code::StaleCheckpoint, "not the newest");
        let answer = match command {
            LogCommand::CommitCheckpoint { previous, next } => {
                let newest = self.checkpoint.map(|checkpoint| checkpoint.head);
                if newest != Some(next) && newest != previous {
                    return Err(stale());
                }
                let checkpoint = Checkpoint { head: next, time: 1 };
                self.checkpoint = Some(checkpoint);
                MetaReply::Log(LogReply::Checkpoint(checkpoint))
            }
            LogCommand::PublishNote(signed) => {
                if self.checkpoint.is_none_or(|checkpoint| checkpoint.head != signed.head) {
                    return Err(stale());
                }
                self.published = Some(signed);
                MetaReply::Done
            }
            LogCommand::SaveChain { .. }
            | LogCommand::KeepAnchor(_)
            | LogCommand::Audit(_)
            | LogCommand::SetEvidenceRetention { .. }
            | LogCommand::Erase { .. }
            | LogCommand::Archive(_)
            | LogCommand::ArchiveAnchors(_)
            | LogCommand::MoveToArchive { .. }
            | LogCommand::Close { .. }
            | LogCommand::RestoreTile { .. } => {
                return Err(RpcError::new(Code::Malformed, "not here"));
            }
            LogCommand::WantTile { level, index } => {
                if let Some(wanted) = self.archived.get_mut(&(level, index)) {
                    *wanted = true;
                }
                MetaReply::Done
            }
        };
        if std::mem::take(&mut self.lose_answer) {
            return Err(RpcError::new(Code::DeadlineExceeded, "lost"));
        }
        Ok(answer)
    }
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Log>>);

#[async_trait]
impl Service for Fake {
    async fn serve(&self, _from: NodeId, request: Request) -> Result<Response, RpcError> {
        let mut log = self.0.lock().unwrap();
        let reply = match request.message {
            Message::Meta(MetaRequest::Log(asked)) => MetaReply::Log(log.read(asked)?),
            Message::Meta(MetaRequest::Command(envelope)) => match envelope.command {
                Command::Log(command) => log.command(command)?,
                _ => return Err(RpcError::new(Code::Malformed, "not here")),
            },
            _ => return Err(RpcError::new(Code::Malformed, "not here")),
        };
        Ok(Response { reply: Reply::Meta(reply), body: Bytes::new() })
    }
}

/// Salts that nobody looks at.
#[derive(Debug)]
struct Fours;

impl Rng for Fours {
    fn fill(&self, out: &mut [u8]) {
        out.fill(4);
    }
}

struct World {
    fake: Fake,
    network: Arc<MemoryNetwork>,
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let (fake, network) = (Fake::default(), Arc::new(MemoryNetwork::default()));
        network.bind(META, Arc::new(fake.clone()));
        Self { fake, network, folder: tempfile::tempdir().unwrap() }
    }

    fn append(&self, count: u64) {
        let mut log = self.fake.0.lock().unwrap();
        for _ in 0..count {
            let entry = log.edge.size();
            log.append(entry);
        }
    }

    fn log<T>(&self, change: impl FnOnce(&mut Log) -> T) -> T {
        change(&mut self.fake.0.lock().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::join(self.folder.path(), name)
    }

    fn anchor(&self, memory: &str, adopt: bool) -> Anchor {
        let node = NodeId(9);
        let meta = MetaClient::new(Arc::new(self.network.transport(node)), META);
        let memory = Box::new(Memory::open(&self.path(memory), ORIGIN).unwrap());
        let seat = Seat { meta, node, rng: Arc::new(Fours) };
        Anchor::new(seat, (name(), signers()), memory, adopt)
    }

    /// The published checkpoint, if both keys of the log signed it.
    fn published(&self) -> Option<TreeHead> {
        let signed = self.log(|log| log.published.clone())?;
        let keys: Vec<TrustedKey> = keys();
        let note = Note::parse(&signed.note).unwrap();
        assert_eq!(note.verify(&keys).unwrap().len(), keys.len());
        let text = NoteText::parse(note.text()).unwrap();
        assert_eq!((text.origin(), text.head().size, text.head().root), (ORIGIN, signed.head.size, signed.head.root));
        Some(signed.head)
    }
}

fn name() -> KeyName {
    KeyName::new(ORIGIN).unwrap()
}

fn signers() -> Vec<Box<dyn Signer + Send + Sync>> {
    vec![Box::new(Ed25519Signer::for_notes(name(), &[1; 32])), Box::new(MlDsa44Signer::new(name(), &[2; 32]))]
}

fn keys() -> Vec<TrustedKey> {
    signers().iter().map(|signer| TrustedKey::new(signer.vkey().clone()).unwrap()).collect()
}

/// Steps until nothing is left to do; the sizes that were published.
async fn settle(anchor: &mut Anchor) -> Result<Vec<u64>, AnchorError> {
    let mut published = Vec::new();
    loop {
        match anchor.step().await? {
            Done::Nothing => return Ok(published),
            Done::Published(head) => published.push(head.size),
            Done::Committed(_) | Done::Overtaken => {}
        }
    }
}

#[tokio::test]
async fn a_log_that_grows_is_closed_and_signed() {
    let world = World::new();
    let mut anchor = world.anchor("a", false);
    assert_eq!(settle(&mut anchor).await.unwrap(), [0u64; 0]);
    for (more, size) in [(1, 1), (2, 3), (300, 303), (70_000, 70_303)] {
        world.append(more);
        assert_eq!(settle(&mut anchor).await.unwrap(), [size]);
        assert_eq!(world.published(), Some(world.log(|log| log.now())));
        assert_eq!(anchor.signed(), world.published());
    }
}

#[tokio::test]
async fn a_crash_between_any_two_steps_loses_and_doubles_nothing() {
    let world = World::new();
    for round in 1..=6 {
        world.append(5);
        let mut anchor = world.anchor("a", false);
        // One step, then it dies; and the answer to what it sent may be lost.
        world.log(|log| log.lose_answer = round % 2 == 0);
        assert!(anchor.step().await.is_ok() || round % 2 == 0);
        drop(anchor);
        let mut again = world.anchor("a", false);
        settle(&mut again).await.unwrap();
        assert_eq!(world.published().map(|head| head.size), Some(5 * round));
    }
}

#[tokio::test]
async fn of_two_anchors_one_goes_on_and_the_other_signs_the_same() {
    let world = World::new();
    let (mut one, mut two) = (world.anchor("one", true), world.anchor("two", true));
    for round in 1..=20u64 {
        world.append(3);
        for at in 0..8 {
            let anchor = if (round + at) % 3 == 0 { &mut one } else { &mut two };
            anchor.step().await.unwrap();
        }
        settle(&mut one).await.unwrap();
        settle(&mut two).await.unwrap();
        assert_eq!((one.signed(), two.signed()), (world.published(), world.published()));
    }
}

#[tokio::test]
async fn another_history_is_never_signed() {
    let world = World::new();
    let mut anchor = world.anchor("a", false);
    world.append(10);
    let early = world.log(|log| log.clone());
    world.append(10);
    settle(&mut anchor).await.unwrap();

    // A log restored from before what was signed.
    world.log(|log| *log = early.clone());
    assert!(matches!(anchor.step().await, Err(AnchorError::Refused(Refusal::WentBack { signed: 20, .. }))));
    // It grows beyond that size with other entries.
    world.log(|log| (100..120).for_each(|entry| log.append(entry)));
    assert!(matches!(anchor.step().await, Err(AnchorError::Refused(Refusal::WentBack { .. }))));
    // The metadata commits another root for the size that was signed.
    world.log(|log| log.checkpoint = Some(Checkpoint { head: TreeHead { size: 20, root: [7; 32] }, time: 1 }));
    assert!(matches!(anchor.step().await, Err(AnchorError::Refused(Refusal::Forked { size: 20 }))));
    // Or a larger size of the other history.
    let now = world.log(|log| {
        let head = log.now();
        log.checkpoint = Some(Checkpoint { head, time: 1 });
        head
    });
    let error = anchor.step().await.unwrap_err();
    assert!(error.is_final() && matches!(error, AnchorError::Unproven(Unproven::Forked { .. })), "{error}");
    assert_eq!(anchor.signed().map(|head| head.size), Some(20));
    assert_ne!(world.published(), Some(now));
}

#[tokio::test]
async fn a_tile_that_was_archived_is_asked_for_and_waited_for() {
    let world = World::new();
    let mut anchor = world.anchor("a", false);
    world.append(300);
    settle(&mut anchor).await.unwrap();
    world.append(300);
    world.log(|log| log.archived.insert((0, 1), false));
    assert!(matches!(anchor.step().await.unwrap(), Done::Committed(_)));
    let error = anchor.step().await.unwrap_err();
    let waits = matches!(error, AnchorError::Unproven(Unproven::Archived { level: 0, index: 1 }));
    assert!(waits && !error.is_final(), "{error}");
    assert_eq!(anchor.signed().map(|head| head.size), Some(300), "nothing is signed unproven");
    assert_eq!(world.log(|log| log.archived.remove(&(0, 1))), Some(true), "nobody asked for the tile");
    assert_eq!(settle(&mut anchor).await.unwrap(), [600]);
}

#[tokio::test]
async fn an_anchor_that_forgot_stops_until_it_is_told_to_take_over() {
    let world = World::new();
    world.append(4);
    settle(&mut world.anchor("a", false)).await.unwrap();
    world.append(4);
    let error = world.anchor("b", false).step().await.unwrap_err();
    assert!(error.is_final() && error.to_string().contains("--adopt"), "{error}");
    assert_eq!(settle(&mut world.anchor("b", true)).await.unwrap(), [4, 8]);
}

/// The pair of these seeds.
fn pair(seed: u8) -> Vec<Box<dyn Signer + Send + Sync>> {
    vec![Box::new(Ed25519Signer::for_notes(name(), &[seed; 32])), Box::new(MlDsa44Signer::new(name(), &[seed + 1; 32]))]
}

/// Both pairs sign for a while; then the new one alone. It is one log, and one memory, all the time.
#[tokio::test]
async fn keys_change_with_an_overlap_and_the_log_goes_on() {
    let world = World::new();
    let anchor = |signers| {
        let meta = MetaClient::new(Arc::new(world.network.transport(NodeId(9))), META);
        let memory = Box::new(Memory::open(&world.path("m"), ORIGIN).unwrap());
        let seat = Seat { meta, node: NodeId(9), rng: Arc::new(Fours) };
        Anchor::new(seat, (name(), signers), memory, false)
    };
    let trusted = |seed| -> Vec<TrustedKey> {
        pair(seed).iter().map(|signer| TrustedKey::new(signer.vkey().clone()).unwrap()).collect()
    };
    let signed_by = |seed| {
        let note = Note::parse(&world.log(|log| log.published.clone()).unwrap().note).unwrap();
        note.verify(&trusted(seed)).map_or(0, |verified| verified.len())
    };
    let policy = || String::from_utf8(world.log(|log| log.published.clone()).unwrap().policy.to_vec()).unwrap();
    let steps = [(pair(1), (2, 0), 2), (pair(1).into_iter().chain(pair(3)).collect(), (2, 2), 4), (pair(3), (0, 2), 2)];
    for (at, (signers, lines, keys)) in (1u64..).zip(steps) {
        world.append(5);
        assert_eq!(settle(&mut anchor(signers)).await.unwrap(), [5 * at]);
        assert_eq!((signed_by(1), signed_by(3)), lines, "step {at}");
        assert_eq!(policy().lines().filter(|line| line.starts_with("log ")).count(), keys);
    }
}
