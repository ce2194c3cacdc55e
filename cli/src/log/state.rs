//! What a monitor has seen: a file of one JSON line per checkpoint, only ever appended to.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use stele_evidence::proof::Head;
use tokio::io::AsyncWriteExt as _;

use super::source::Signed;
use crate::web;

const STATE_BYTES_MAX: usize = 1 << 30;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    origin: String,
    size: u64,
    /// Hexadecimal.
    root: String,
    source: String,
    /// The signed note, byte for byte: in a dispute it is the evidence.
    note: String,
}

/// The file.
pub(super) struct State {
    path: PathBuf,
}

impl State {
    /// Reads what was seen of `origin`. A last line that was cut by a crash is dropped: it was never relied on.
    pub(super) async fn open(path: &Path, origin: Option<&str>) -> anyhow::Result<(Self, Vec<(String, Head)>)> {
        let state = Self { path: path.to_owned() };
        let bytes = match tokio::fs::try_exists(path).await? {
            true => web::read_small(path, STATE_BYTES_MAX).await?,
            false => return Ok((state, Vec::new())),
        };
        let text = String::from_utf8(bytes).with_context(|| format!("{} is not text", path.display()))?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let (lines, torn) = text.split_at(whole);
        let mut seen = Vec::new();
        for (number, line) in (1..).zip(lines.lines()) {
            let place = || format!("line {number} of {}", path.display());
            let line: Line = serde_json::from_str(line).with_context(place)?;
            let mut root = [0; 32];
            hex::decode_to_slice(&line.root, &mut root).with_context(place)?;
            ensure!(origin.is_none_or(|origin| origin == line.origin), "{} is of the log {}", place(), line.origin);
            seen.push((line.origin, Head { size: line.size, root }));
        }
        if !torn.is_empty() {
            let file = tokio::fs::OpenOptions::new().write(true).open(path).await?;
            file.set_len(whole as u64).await?;
            file.sync_all().await?;
        }
        Ok((state, seen))
    }

    /// Where the note goes that proves a fork.
    pub(super) fn evidence(&self, size: u64) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".fork-{size}"));
        PathBuf::from(name)
    }

    /// Keeps a checkpoint.
    ///
    /// # Durability
    /// Ok: on stable media.
    pub(super) async fn keep(&self, signed: &Signed, source: &str) -> anyhow::Result<()> {
        let line = Line {
            origin: signed.origin.clone(),
            size: signed.head.size,
            root: hex::encode(signed.head.root),
            source: source.to_owned(),
            note: signed.note.clone(),
        };
        let text = format!("{}\n", serde_json::to_string(&line)?);
        let keep = async {
            let mut file = tokio::fs::OpenOptions::new().create(true).append(true).open(&self.path).await?;
            file.write_all(text.as_bytes()).await?;
            file.flush().await?;
            file.sync_all().await
        };
        keep.await.with_context(|| format!("writing {}", self.path.display()))
    }
}
