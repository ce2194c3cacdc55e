//! One place that serves a log: C2SP tlog-tiles below an address, such as `http://HOST:9001/log`.

use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use reqwest::Client;
use stele_evidence::entry_bundle::decode_bundle;
use stele_evidence::fetched::{Answer, FetchedTiles, TILES_MAX};
use stele_evidence::note::{NOTE_MAX, Note};
use stele_evidence::policy::{POLICY_MAX, Policy};
use stele_evidence::proof::Head;
use stele_evidence::tile_path::TilePath;
use stele_evidence::tiles::TileError;

use crate::web;

/// A tile of hashes, or a bundle of entries of any length the format has.
const TILE_BYTES_MAX: usize = 256 * (2 + 65_535);

/// Where a log is served.
pub(super) struct Source {
    pub(super) url: String,
    client: Client,
}

/// A checkpoint whose signatures hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Signed {
    pub(super) origin: String,
    pub(super) head: Head,
    pub(super) note: String,
}

/// What the auditor trusts.
pub(super) enum Trust {
    /// A policy that came from elsewhere.
    Own(Policy),
    /// Whatever the source says: then signatures show nothing but that the source made them.
    Source,
}

impl Trust {
    pub(super) async fn read(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path else { return Ok(Self::Source) };
        let bytes = web::read_small(path, POLICY_MAX).await?;
        Ok(Self::Own(Policy::parse(&bytes).with_context(|| format!("policy {}", path.display()))?))
    }
}

impl Source {
    pub(super) async fn new(url: &str, ca_file: Option<&Path>) -> anyhow::Result<Self> {
        ensure!(url.starts_with("http://") || url.starts_with("https://"), "{url:?} is no address of a log");
        Ok(Self { url: url.trim_end_matches('/').to_owned(), client: web::client(ca_file).await? })
    }

    async fn get(&self, path: &str, max: usize) -> anyhow::Result<Option<Vec<u8>>> {
        web::get(&self.client, &format!("{}/{path}", self.url), max).await
    }

    /// The newest checkpoint; `None` before the first one.
    pub(super) async fn checkpoint(&self, trust: &Trust) -> anyhow::Result<Option<Signed>> {
        let Some(bytes) = self.get("checkpoint", NOTE_MAX).await? else { return Ok(None) };
        let note = Note::parse(&bytes).with_context(|| format!("checkpoint of {}", self.url))?;
        let served;
        let policy = match trust {
            Trust::Own(policy) => policy,
            Trust::Source => {
                let bytes = self.get("policy", POLICY_MAX).await?;
                let bytes = bytes.with_context(|| format!("{} serves no policy; bring one with --policy", self.url))?;
                served = Policy::parse(&bytes).with_context(|| format!("policy of {}", self.url))?;
                &served
            }
        };
        let found = policy.evaluate(&note).with_context(|| format!("checkpoint of {}", self.url))?;
        let (origin, head) = (found.checkpoint.origin().to_owned(), found.checkpoint.head());
        let note = String::from_utf8(note.as_bytes().to_vec()).context("a checkpoint that is not text")?;
        Ok(Some(Signed { origin, head, note }))
    }

    /// A tile as a tree of `size` leaves has it. A source may have dropped the partial one since it became full.
    pub(super) async fn tile(&self, size: u64, level: Option<u8>, index: u64) -> anyhow::Result<Option<Vec<u8>>> {
        let Some(path) = TilePath::of(size, level, index) else { return Ok(None) };
        match self.get(&path.to_string(), TILE_BYTES_MAX).await? {
            None if path.width < path.full().width => {
                let full = self.get(&path.full().to_string(), TILE_BYTES_MAX).await?;
                let width = |bytes: Vec<u8>| match level {
                    Some(_) => bytes.get(..32 * path.width).map(<[u8]>::to_vec),
                    None => Some(bytes),
                };
                Ok(full.and_then(width))
            }
            found => Ok(found),
        }
    }

    /// The entries of a bundle, as many as a tree of `size` leaves has.
    pub(super) async fn entries(&self, size: u64, index: u64) -> anyhow::Result<Option<Vec<Vec<u8>>>> {
        let Some(bytes) = self.tile(size, None, index).await? else { return Ok(None) };
        let entries = decode_bundle(&bytes).with_context(|| format!("entries {index} of {}", self.url))?;
        let width = TilePath::of(size, None, index).map_or(0, |path| path.width);
        if entries.len() < width {
            bail!("entry bundle {index} of {} has {} of {width} entries", self.url, entries.len());
        }
        Ok(Some(entries.into_iter().take(width).map(<[u8]>::to_vec).collect()))
    }

    /// Puts a question to the tiles of the tree of `size` leaves.
    pub(super) async fn ask<T>(
        &self,
        size: u64,
        question: impl Fn(&FetchedTiles) -> Result<Answer<T>, TileError<std::convert::Infallible>>,
    ) -> anyhow::Result<T> {
        let mut tiles = FetchedTiles::default();
        while tiles.len() <= TILES_MAX {
            match question(&tiles).with_context(|| format!("tiles of {}", self.url))? {
                Answer::Known(answer) => return Ok(answer),
                Answer::Lacks { level, index } => {
                    let found = self.tile(size, Some(level), index).await?;
                    let bytes = found.with_context(|| format!("{} lacks tile {index} of level {level}", self.url))?;
                    tiles.add(level, index, bytes.as_chunks::<32>().0.to_vec());
                }
            }
        }
        bail!("{} needs more than {TILES_MAX} tiles for one proof", self.url)
    }
}
