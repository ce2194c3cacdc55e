//! What a monitor has seen: a file of JSON lines, only ever appended to. One per checkpoint and anchor, and one
//! wherever a chain was read up to a block.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use stele_anchor::evm::history::Position;
use stele_evidence::proof::Head;
use tokio::io::AsyncWriteExt as _;

use super::sighting::{Found, Recorded, Sighting};
use crate::web;

const STATE_BYTES_MAX: usize = 1 << 30;

/// A line. They differ in their fields.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Seen(Seen),
    Read(Read),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    origin: String,
    size: u64,
    /// Hexadecimal.
    root: String,
    source: String,
    /// The signed note, byte for byte: in a dispute it is the evidence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    note: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    anchor: Option<Anchor>,
}

/// Where a chain has it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Anchor {
    /// Which chain, in one line.
    chain: String,
    /// Height of the block.
    block: u64,
    /// What the chain calls it, in hexadecimal: a transaction's hash, or the whole block of a ledger.
    what: String,
}

/// A chain was read up to here, and all its anchors are kept.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    read: String,
    /// First block that was not.
    next: u64,
    /// Size anchored last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

/// The file.
pub(super) struct State {
    path: PathBuf,
}

/// What the file says.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) origin: Option<String>,
    /// What was seen, and where.
    pub(super) heads: Vec<(Head, String)>,
    /// How far chains were read.
    pub(super) positions: BTreeMap<String, Position>,
    /// What was seen on chains, by chain, block and size.
    pub(super) anchors: BTreeMap<(String, u64, u64), Vec<u8>>,
}

impl Memory {
    fn take(&mut self, line: Line) -> anyhow::Result<()> {
        let seen = match line {
            Line::Seen(seen) => seen,
            Line::Read(Read { read, next, size }) => {
                self.positions.insert(read, Position { next, size });
                return Ok(());
            }
        };
        let mut root = [0; 32];
        hex::decode_to_slice(&seen.root, &mut root).context("the root")?;
        let origin = self.origin.get_or_insert_with(|| seen.origin.clone());
        ensure!(*origin == seen.origin, "it is of the log {:?}, and others of {origin:?}; one file each", seen.origin);
        if let Some(Anchor { chain, block, what }) = seen.anchor {
            self.anchors.insert((chain, block, seen.size), hex::decode(what).context("the anchor")?);
        }
        self.heads.push((Head { size: seen.size, root }, seen.source));
        Ok(())
    }
}

impl State {
    /// Reads what was seen. A last line that was cut by a crash is dropped: it was never relied on.
    pub(super) async fn open(path: &Path) -> anyhow::Result<(Self, Memory)> {
        let (state, mut memory) = (Self { path: path.to_owned() }, Memory::default());
        let bytes = match tokio::fs::try_exists(path).await? {
            true => web::read_small(path, STATE_BYTES_MAX).await?,
            false => return Ok((state, memory)),
        };
        let text = String::from_utf8(bytes).with_context(|| format!("{} is not text", path.display()))?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let (lines, torn) = text.split_at(whole);
        for (number, line) in (1..).zip(lines.lines()) {
            let read = serde_json::from_str(line).context("not a line of this release");
            let taken = read.and_then(|line| memory.take(line));
            taken.with_context(|| format!("line {number} of {}", path.display()))?;
        }
        if !torn.is_empty() {
            let file = tokio::fs::OpenOptions::new().write(true).open(path).await?;
            file.set_len(whole as u64).await?;
            file.sync_all().await?;
        }
        Ok((state, memory))
    }

    /// Where the evidence of a fork goes.
    pub(super) fn evidence(&self, size: u64) -> PathBuf {
        self.beside(&format!(".fork-{size}"))
    }

    /// Where the block goes that stands in a ledger in place of another.
    pub(super) fn rewritten(&self) -> PathBuf {
        self.beside(".rewritten-block")
    }

    fn beside(&self, end: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(end);
        PathBuf::from(name)
    }

    /// Keeps what was seen of the log `origin`.
    ///
    /// # Durability
    /// Ok: on stable media.
    pub(super) async fn keep(&self, origin: &str, sighting: &Sighting) -> anyhow::Result<()> {
        let (note, anchor) = match &sighting.found {
            Found::Note(note) => (note.clone(), None),
            Found::Anchor(Recorded { chain, block, what, .. }) => {
                (String::new(), Some(Anchor { chain: chain.clone(), block: *block, what: hex::encode(what) }))
            }
        };
        let Head { size, root } = sighting.head;
        let (origin, source) = (origin.to_owned(), sighting.place.clone());
        self.append(&Line::Seen(Seen { origin, size, root: hex::encode(root), source, note, anchor })).await
    }

    /// Keeps how far a chain was read.
    ///
    /// # Durability
    /// Ok: on stable media.
    pub(super) async fn keep_position(&self, chain: &str, position: Position) -> anyhow::Result<()> {
        let Position { next, size } = position;
        self.append(&Line::Read(Read { read: chain.to_owned(), next, size })).await
    }

    async fn append(&self, line: &Line) -> anyhow::Result<()> {
        let text = format!("{}\n", serde_json::to_string(line)?);
        let keep = async {
            let mut file = tokio::fs::OpenOptions::new().create(true).append(true).open(&self.path).await?;
            file.write_all(text.as_bytes()).await?;
            file.flush().await?;
            file.sync_all().await
        };
        keep.await.with_context(|| format!("writing {}", self.path.display()))
    }
}
