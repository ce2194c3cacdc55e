//! The evidence log for anybody: C2SP tlog-tiles below `/log/`. Nothing here names a bucket, a key or a digest of
//! content: entries are salted commitments.
//!
//! | path | answers |
//! |---|---|
//! | `/log/checkpoint` | the newest signed checkpoint, a note |
//! | `/log/policy` | the operator's trust policy (C2SP tlog-policy) that goes with it |
//! | `/log/tile/<L>/<N>[.p/<W>]` | hashes, 32 bytes each |
//! | `/log/tile/entries/<N>[.p/<W>]` | entries, each behind its length in two bytes |

use std::time::Duration;

use bytes::Bytes;
use stele_evidence::entry_bundle::encode_bundle;
use stele_evidence::tile_path::TilePath;
use stele_evidence::tiles::TILE_WIDTH;
use stele_rpc::client::{MetaClient, unexpected};
use stele_rpc::error::RpcError;
use stele_rpc::meta::{LogHead, LogRead, LogReply, MetaReply, MetaRequest, SignedNote};
use stele_types::ids::LogIndex;

const TIMEOUT: Duration = Duration::from_secs(5);
const ENTRY_BYTES: usize = 32;

/// What there is at a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// A text that another one will replace: a signed note, or a policy.
    Text(Bytes),
    /// A tile, which never changes.
    Tile(Bytes),
    /// Nothing, and why.
    Nothing(&'static str),
}

/// Answers a path below `/log/`.
///
/// # Errors
/// The metadata service did not answer.
pub(super) async fn find(meta: &MetaClient, path: &str) -> Result<Found, RpcError> {
    if path == "checkpoint" {
        return published(meta, |signed| signed.note).await;
    }
    if path == "policy" {
        return published(meta, |signed| signed.policy).await;
    }
    let Some(tile) = TilePath::parse(path) else { return Ok(Found::Nothing("no such tile path")) };
    let found = match tile.level {
        Some(level) => hashes(meta, level, tile).await?,
        None => entries(meta, tile).await?,
    };
    Ok(found.map_or(Found::Nothing("the log is not that long, or the entries are gone"), Found::Tile))
}

async fn published(meta: &MetaClient, part: impl FnOnce(SignedNote) -> Bytes) -> Result<Found, RpcError> {
    let text = head(meta).await?.published.map(part).filter(|text| !text.is_empty());
    Ok(text.map_or(Found::Nothing("no checkpoint was signed yet"), Found::Text))
}

async fn head(meta: &MetaClient) -> Result<LogHead, RpcError> {
    match read(meta, LogRead::Head).await? {
        LogReply::Head(head) => Ok(*head),
        _ => Err(unexpected("not where the log stands")),
    }
}

async fn hashes(meta: &MetaClient, level: u8, tile: TilePath) -> Result<Option<Bytes>, RpcError> {
    match read(meta, LogRead::Tile { level, index: tile.index }).await? {
        LogReply::Tile(hashes) => Ok((hashes.len() >= tile.width * 32).then(|| hashes.slice(..tile.width * 32))),
        _ => Err(unexpected("no tile")),
    }
}

async fn entries(meta: &MetaClient, tile: TilePath) -> Result<Option<Bytes>, RpcError> {
    let Some(from) = tile.index.checked_mul(TILE_WIDTH as u64) else { return Ok(None) };
    let max = u32::try_from(tile.width).unwrap_or_default();
    let LogReply::Entries(entries) = read(meta, LogRead::Entries { from: LogIndex(from), max }).await? else {
        return Err(unexpected("no entries"));
    };
    let (entries, _) = entries.as_chunks::<ENTRY_BYTES>();
    if entries.len() < tile.width {
        return Ok(None);
    }
    let entries: Vec<&[u8]> = entries.iter().map(<[u8; ENTRY_BYTES]>::as_slice).collect();
    Ok(encode_bundle(&entries).ok().map(Bytes::from))
}

async fn read(meta: &MetaClient, asked: LogRead) -> Result<LogReply, RpcError> {
    match meta.call(MetaRequest::Log(asked), TIMEOUT).await? {
        MetaReply::Log(reply) => Ok(reply),
        _ => Err(unexpected("to a question about the log")),
    }
}
