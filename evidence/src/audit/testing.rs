//! A small cluster in memory for tests of audits: nodes with drives and shards, one object, and faults.

use std::collections::{BTreeMap, BTreeSet};

use stele_chunker::tree::{Leaf, prove_range, top_of};
use stele_types::ids::{ChunkId, DriveId, LogIndex, NodeId, ObjectRoot, PackId, ShardRoot};
use stele_types::seam::UnixMillis;

use super::answer::{Answer, AnswerKey, Challenge, judge};
use super::challenge::{Asked, AuditId, Plan, Scope, SeedSource};
use super::inventory::{Inventory, Row};
use super::progress::{Deadlines, Event, Progress, Step, Verdict};
use super::report::{Listed, Outcome, Report};
use super::verify::{Checked, ReportFault, verify_report};
use crate::keys::{Ed25519Signer, Signer};
use crate::proof::Head;
use crate::vkey::KeyName;

pub(crate) const SHARD_LEN: usize = 3 * 16 * 1024;
const DEADLINES: Deadlines = Deadlines { accept_ms: 500, answer_ms: 2000, asks: 2 };
/// The gateway that is asked about chunks.
pub(crate) const GATEWAY: NodeId = NodeId(90);

/// SplitMix64: the numbers of the simulated runs.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
    }

    /// `count` different numbers below `bound`.
    pub(crate) fn some(&mut self, count: usize, bound: usize) -> BTreeSet<usize> {
        let mut some = BTreeSet::new();
        while some.len() < count {
            some.insert(self.below(bound));
        }
        some
    }
}

/// How a node behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    Answers,
    Away,
    Silent,
}

pub(crate) struct Node {
    pub(crate) inventory: Inventory,
    /// What stands where each row should: other bytes or none after a fault.
    pub(crate) held: Vec<Option<Vec<u8>>>,
    pub(crate) manner: Manner,
    signer: Ed25519Signer,
}

pub(crate) struct World {
    pub(crate) nodes: Vec<Node>,
    leaves: Vec<Leaf>,
}

pub(crate) fn noise(seed: &[u8], len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(seed).finalize_xof().fill(&mut bytes);
    bytes
}

pub(crate) fn drive(node: u64, number: usize) -> DriveId {
    DriveId::from_bytes(*blake3::hash(format!("{node} {number}").as_bytes()).as_bytes().first_chunk().unwrap())
}

fn node(id: NodeId, mut held: Vec<(Row, Vec<u8>)>) -> Node {
    held.sort_by_key(|(row, _)| row.encode());
    let (rows, held) = held.into_iter().map(|(row, bytes)| (row, Some(bytes))).unzip();
    let name = KeyName::new(&format!("stele/test/node/{id}")).unwrap();
    let seed = [u8::try_from(id.0).unwrap(); 32];
    let signer = Ed25519Signer::for_audit_answers(name, &seed);
    Node { inventory: Inventory::new(id, rows).unwrap(), held, manner: Manner::Answers, signer }
}

/// Nodes 1 to `nodes` with `drives` drives of `shards` shards each.
pub(crate) fn shards(nodes: u64, drives: usize, shards: usize) -> World {
    let shard = |id: u64, number: usize, at: usize| {
        let bytes = noise(format!("{id} {number} {at}").as_bytes(), SHARD_LEN);
        let row = Row::Shard {
            pack: PackId::from_bytes(*blake3::hash(&bytes[..9]).as_bytes()),
            generation: 1,
            slot: 2,
            drive: drive(id, number),
            root: ShardRoot::from_bytes(*blake3::hash(&bytes).as_bytes()),
            len: u32::try_from(bytes.len()).unwrap(),
        };
        (row, bytes)
    };
    let all = |id: u64| {
        (0..drives).flat_map(|number| (0..shards).map(move |at| (number, at))).map(move |(n, at)| shard(id, n, at))
    };
    World { nodes: (1..=nodes).map(|id| node(NodeId(id), all(id).collect())).collect(), leaves: Vec::new() }
}

/// One object, asked of a gateway.
pub(crate) fn object(chunk_lens: &[usize]) -> World {
    let chunks: Vec<Vec<u8>> = (0u8..).zip(chunk_lens).map(|(at, len)| noise(&[at], *len)).collect();
    let leaf =
        |chunk: &Vec<u8>| Leaf { id: ChunkId::from_bytes(*blake3::hash(chunk).as_bytes()), len: chunk.len() as u64 };
    let leaves: Vec<Leaf> = chunks.iter().map(leaf).collect();
    let root = top_of(&leaves).object_root();
    let mut offset = 0;
    let mut held = Vec::new();
    for (leaf, chunk) in leaves.iter().zip(chunks) {
        let len = u32::try_from(leaf.len).unwrap();
        held.push((Row::Chunk { object: root, offset, id: leaf.id, len }, chunk));
        offset += leaf.len;
    }
    World { nodes: vec![node(GATEWAY, held)], leaves }
}

impl World {
    /// The same nodes, and a gateway that is asked about one object.
    pub(crate) fn with_object(mut self, chunk_lens: &[usize]) -> Self {
        let other = object(chunk_lens);
        self.nodes.extend(other.nodes);
        Self { leaves: other.leaves, ..self }
    }

    pub(crate) fn root(&self) -> ObjectRoot {
        top_of(&self.leaves).object_root()
    }

    /// Positions of the rows of a drive in its node's inventory.
    pub(crate) fn rows_of(&self, node: usize, id: DriveId) -> Vec<usize> {
        let on = |row: &Row| matches!(row, Row::Shard { drive, .. } if *drive == id);
        let rows = self.nodes[node].inventory.rows().iter();
        rows.enumerate().filter(|(_, row)| on(row)).map(|(at, _)| at).collect()
    }

    pub(crate) fn keys(&self) -> BTreeMap<NodeId, AnswerKey> {
        let key = |node: &Node| (node.inventory.head().node, AnswerKey::new(node.signer.vkey().clone()).unwrap());
        self.nodes.iter().map(key).collect()
    }

    fn ask(&self, asked: Asked, challenge: &Challenge) -> (Outcome, Option<Vec<u8>>) {
        let node = &self.nodes[asked.inventory];
        let held = node.held[usize::try_from(asked.position).unwrap()].as_ref();
        let slice = held.and_then(|bytes| challenge.slice_of(bytes).ok());
        let mut now: UnixMillis = 1_790_000_000_000;
        let answer = Answer::sign(challenge, slice.as_deref(), now, &node.signer).unwrap();
        let key = AnswerKey::new(node.signer.vkey().clone()).unwrap();
        let (mut progress, mut step) = (Progress::start(now), Step::Ask);
        let verdict = loop {
            let event = match (step, node.manner) {
                (Step::Done(verdict), _) => break verdict,
                (_, Manner::Away) => Event::Unreachable,
                (Step::Ask, _) => Event::Accepted,
                (Step::WaitUntil(until), Manner::Silent) => {
                    now = until;
                    Event::Tick
                }
                (Step::WaitUntil(_), Manner::Answers) => {
                    now += 20;
                    Event::Answered(judge(challenge, &key, &answer, slice.as_deref().unwrap_or_default()))
                }
            };
            step = progress.on(event, now, &DEADLINES);
        };
        let place = match challenge.row {
            Row::Chunk { offset, len, .. } => Some(prove_range(&self.leaves, offset..offset + u64::from(len)).unwrap()),
            Row::Shard { .. } => None,
        };
        let answered = matches!(verdict, Verdict::Ok | Verdict::Failed);
        let outcome = Outcome {
            position: asked.position,
            row: challenge.row,
            path: node.inventory.path(asked.position).unwrap(),
            place,
            group: challenge.group,
            verdict,
            latency_ms: progress.latency_ms(),
            asks: progress.asks(),
            answer: answered.then_some(answer),
        };
        (outcome, slice.filter(|_| answered))
    }

    /// A whole audit: the report, and the slices by number of their outcome.
    pub(crate) fn audit(&self, scope: Scope, groups_per_row: u8, run: u64) -> Audit {
        let id = AuditId((u128::from(run) + 1).to_be_bytes());
        let plan = Plan { id, epoch: 3, scope, groups_per_row };
        let listed = |node: &Node| Listed { head: node.inventory.head(), key: node.signer.vkey().clone() };
        let inventories: Vec<Listed> = self.nodes.iter().map(listed).collect();
        let heads: Vec<_> = inventories.iter().map(|listed| listed.head).collect();
        let source = SeedSource {
            entry: LogIndex(run),
            head: Head { size: run + 9, root: [7; 32] },
            beacon_name: "drawn by the auditor".into(),
            beacon: noise(&run.to_be_bytes(), 32),
        };
        let seed = source.draw(&plan, &heads).unwrap();
        let (mut outcomes, mut slices) = (Vec::new(), BTreeMap::new());
        for asked in plan.draw(&seed, &heads).unwrap() {
            let inventory = &self.nodes[asked.inventory].inventory;
            let (node, row) = (inventory.head().node, inventory.rows()[usize::try_from(asked.position).unwrap()]);
            let group = plan.group(&seed, node, (row.subject(), row.groups()), asked.repeat);
            let challenge = Challenge { audit: id, seed, node, row, group };
            let (outcome, slice) = self.ask(asked, &challenge);
            slices.extend(slice.map(|slice| (outcomes.len(), slice)));
            outcomes.push(outcome);
        }
        Audit { report: Report { plan, time: 1_790_000_009_000, seed: source, inventories, outcomes }, slices }
    }
}

pub(crate) struct Audit {
    pub(crate) report: Report,
    pub(crate) slices: BTreeMap<usize, Vec<u8>>,
}

impl Audit {
    pub(crate) fn verify(&self, keys: &BTreeMap<NodeId, AnswerKey>) -> Result<Checked, ReportFault> {
        verify_report(&self.report, keys, &mut |at| self.slices.get(&at).cloned())
    }
}
