//! What an export reads of the evidence log.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use stele_evidence::fetched::{Answer, FetchedTiles};
use stele_evidence::note::Note;
use stele_evidence::proof::{consistency, inclusion};
use stele_evidence::record::{CLUSTER, Record};
use stele_evidence::tiles::TileError;
use stele_evidence::tree::Hash;
use stele_rpc::client::unexpected;
use stele_rpc::meta::{
    KEY_EVENTS_MAX, KeptAnchor, KeyEvent, LogRead, LogReply, MetaReply, MetaRequest, RangeRef, TreeHead,
};
use stele_types::ids::LogIndex;

use super::select::{Kept, Logged};
use crate::bucket::{range_of, with_bucket};
use crate::error::{GatewayError, unexpected_reply};
use crate::gateway::Gateway;
use crate::log_archive::{ask, resolve};

/// Tiles that are kept for the next path; then it starts anew.
const TILES_KEPT: usize = 256;

/// The newest signed checkpoint.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) tree: TreeHead,
    pub(super) note: Note,
    pub(super) policy: Vec<u8>,
}

/// E1.
pub(super) async fn head(gw: &Arc<Gateway>) -> Result<Head, GatewayError> {
    let LogReply::Head(head) = ask(gw, LogRead::Head).await? else { return Err(unexpected_reply("Head")) };
    let Some(published) = head.published.filter(|published| !published.policy.is_empty()) else {
        let what = "no checkpoint of the evidence log was signed yet: does an anchor run?".to_owned();
        return Err(GatewayError::Unavailable { what });
    };
    let damaged = |error| GatewayError::Corrupt { what: format!("the signed checkpoint: {error}") };
    let note = Note::parse(&published.note).map_err(damaged)?;
    Ok(Head { tree: published.head, note, policy: published.policy.to_vec() })
}

/// A page of a key's events, newest first; `None` behind the oldest.
pub(super) async fn events(
    gw: &Arc<Gateway>,
    bucket: &str,
    key: &str,
    before: Option<LogIndex>,
) -> Result<Option<Vec<Kept>>, GatewayError> {
    if bucket == CLUSTER {
        let asked = LogRead::KeyEvents { range: RangeRef::CLUSTER, key: key.to_owned(), before, max: KEY_EVENTS_MAX };
        let LogReply::KeyEvents(events) = ask(gw, asked).await? else { return Err(unexpected_reply("KeyEvents")) };
        let page: Vec<Kept> = events.into_iter().map(kept).collect::<Result<_, _>>()?;
        return Ok((!page.is_empty()).then_some(page));
    }
    let mut asked = None;
    let reply = with_bucket(gw, bucket, |row| {
        let question = LogRead::KeyEvents { range: range_of(&row), key: key.to_owned(), before, max: KEY_EVENTS_MAX };
        asked = Some(question.clone());
        async move {
            match gw.read(MetaRequest::Log(question)).await? {
                MetaReply::Log(reply) => Ok(reply),
                _ => Err(unexpected("no events of a key")),
            }
        }
    });
    let reply = reply.await?;
    let asked = asked.ok_or_else(|| unexpected_reply("KeyEvents"))?;
    let LogReply::KeyEvents(events) = resolve(gw, &asked, reply).await? else {
        return Err(unexpected_reply("KeyEvents"));
    };
    let page: Vec<Kept> = events.into_iter().map(kept).collect::<Result<_, _>>()?;
    Ok((!page.is_empty()).then_some(page))
}

fn kept(event: KeyEvent) -> Result<Kept, GatewayError> {
    let index = event.index;
    if let Some(by) = event.record.erased_by {
        return Ok(Kept::Erased { index, by });
    }
    let damaged =
        |error: String| GatewayError::Corrupt { what: format!("record {} of the evidence log: {error}", index.0) };
    let record = Record::decode(&event.record.record).map_err(|error| damaged(error.to_string()))?;
    let salt = event.record.salt.ok_or_else(|| damaged("it has no salt".to_owned()))?;
    Ok(Kept::Whole(Box::new(Logged { index, record, bytes: event.record.record, salt })))
}

/// The erasure that an erased event names.
pub(super) async fn erasure(gw: &Arc<Gateway>, index: LogIndex) -> Result<Logged, GatewayError> {
    let LogReply::Record(record) = ask(gw, LogRead::Record { index }).await? else {
        return Err(unexpected_reply("Record"));
    };
    match record.map(|record| kept(KeyEvent { index, record })).transpose()? {
        Some(Kept::Whole(logged)) => Ok(*logged),
        Some(Kept::Erased { .. }) | None => {
            Err(GatewayError::Corrupt { what: format!("record {} of the evidence log is not there", index.0) })
        }
    }
}

/// Evidence from outside the log, and how it is joined with the checkpoint.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) kept: KeptAnchor,
    pub(super) consistency: Vec<Hash>,
}

/// Of every chain the first anchor that covers `first`, and the first that covers all entries up to `last`.
pub(super) async fn outside(
    gw: &Arc<Gateway>,
    paths: &mut Paths,
    (first, last): (u64, u64),
) -> Result<Vec<Joined>, GatewayError> {
    let mut found: BTreeMap<(String, u64), KeptAnchor> = BTreeMap::new();
    for entry in [first, last] {
        let asked = LogRead::Anchors { size: entry.saturating_add(1) };
        let LogReply::Anchors(kept) = ask(gw, asked).await? else { return Err(unexpected_reply("Anchors")) };
        // One that was kept since the checkpoint was read is of a larger tree than its tiles are asked of.
        let kept = kept.into_iter().filter(|kept| kept.head.size <= paths.size);
        found.extend(kept.map(|kept| ((kept.chain.clone(), kept.head.size), kept)));
    }
    let mut joined = Vec::new();
    for kept in found.into_values() {
        let (old, new) = (kept.head.size, paths.size);
        let consistency = paths.ask(gw, |tiles| tiles.ask(|tiles| consistency(tiles, old, new))).await?;
        joined.push(Joined { kept, consistency });
    }
    Ok(joined)
}

/// Makes paths to one checkpoint.
#[derive(Debug)]
pub(super) struct Paths {
    size: u64,
    tiles: FetchedTiles,
}

impl Paths {
    pub(super) fn new(size: u64) -> Self {
        Self { size, tiles: FetchedTiles::default() }
    }

    /// E3.
    pub(super) async fn of(&mut self, gw: &Arc<Gateway>, index: u64) -> Result<Vec<Hash>, GatewayError> {
        let size = self.size;
        self.ask(gw, |tiles| tiles.ask(|tiles| inclusion(tiles, index, size))).await
    }

    /// Puts a question to the tiles.
    async fn ask<T>(
        &mut self,
        gw: &Arc<Gateway>,
        question: impl Fn(&FetchedTiles) -> Result<Answer<T>, TileError<Infallible>>,
    ) -> Result<T, GatewayError> {
        if self.tiles.len() > TILES_KEPT {
            self.tiles = FetchedTiles::default();
        }
        loop {
            let damaged = |error| GatewayError::Corrupt { what: format!("the evidence log: {error}") };
            match question(&self.tiles).map_err(damaged)? {
                Answer::Known(answer) => return Ok(answer),
                Answer::Lacks { level, index } => {
                    let LogReply::Tile(bytes) = ask(gw, LogRead::Tile { level, index }).await? else {
                        return Err(unexpected_reply("Tile"));
                    };
                    self.tiles.add(level, index, bytes.as_chunks::<32>().0.to_vec());
                }
            }
        }
    }
}
