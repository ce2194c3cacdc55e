//! The evidence log for anybody: C2SP tlog-tiles. Nothing here names a bucket, a key or a digest of content: entries are
//! salted commitments. Served below `/log/` of admin ports, and in the bucket of the log.
//!
//! | path | answers |
//! |---|---|
//! | `checkpoint` | the newest signed checkpoint, a note |
//! | `policy` | the operator's trust policy (C2SP tlog-policy) that goes with it |
//! | `tile/<L>/<N>[.p/<W>]` | hashes, 32 bytes each |
//! | `tile/entries/<N>[.p/<W>]` | entries, each behind its length in two bytes |

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use stele_evidence::entry_bundle::encode_bundle;
use stele_evidence::tile_path::TilePath;
use stele_evidence::tiles::TILE_WIDTH;
use stele_rpc::client::MetaClient;
use stele_rpc::meta::{LogHead, LogRead, LogReply, MetaReply, MetaRequest, SignedNote};
use stele_types::ids::LogIndex;

use super::read::ask;
use crate::error::{GatewayError, unexpected_reply};
use crate::gateway::Gateway;

const TIMEOUT: Duration = Duration::from_secs(5);
const ENTRY_BYTES: usize = 32;

/// Who reads the log.
#[derive(Clone, Debug)]
pub enum LogSource {
    /// A gateway, from rows and archives.
    Gateway(Arc<Gateway>),
    /// Somebody else, from rows alone.
    Rows(MetaClient),
}

/// What there is at a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    /// A text that another one will replace: a signed note, or a policy.
    Text(Bytes),
    /// A tile, which never changes.
    Tile(Bytes),
    /// Nothing, and why.
    Nothing(&'static str),
}

impl Found {
    /// What kind of content it is (RFC 9110), and how long others may keep it.
    pub fn headers(&self) -> (&'static str, &'static str) {
        match self {
            Self::Tile(_) => ("application/octet-stream", "max-age=31536000, immutable"),
            Self::Text(_) | Self::Nothing(_) => ("text/plain; charset=utf-8", "max-age=1"),
        }
    }
}

/// Whether a path is one of those above, whatever the log has there.
pub(crate) fn is_page(path: &str) -> bool {
    matches!(path, "checkpoint" | "policy") || TilePath::parse(path).is_some()
}

/// Answers a path.
///
/// # Errors
/// The metadata service did not answer, or an archive could not be read.
pub async fn find(log: &LogSource, path: &str) -> Result<Found, GatewayError> {
    if path == "checkpoint" {
        return published(log, |signed| signed.note).await;
    }
    if path == "policy" {
        return published(log, |signed| signed.policy).await;
    }
    let Some(tile) = TilePath::parse(path) else { return Ok(Found::Nothing("no such tile path")) };
    let found = match tile.level {
        Some(level) => hashes(log, level, tile).await?,
        None => entries(log, tile).await?,
    };
    Ok(found.map_or(Found::Nothing("the log is not that long"), Found::Tile))
}

async fn published(log: &LogSource, part: impl FnOnce(SignedNote) -> Bytes) -> Result<Found, GatewayError> {
    let text = head(log).await?.published.map(part).filter(|text| !text.is_empty());
    Ok(text.map_or(Found::Nothing("no checkpoint was signed yet"), Found::Text))
}

/// Where the log stands.
pub(crate) async fn head(log: &LogSource) -> Result<LogHead, GatewayError> {
    match log.read(LogRead::Head).await? {
        LogReply::Head(head) => Ok(*head),
        _ => Err(unexpected_reply("Head")),
    }
}

async fn hashes(log: &LogSource, level: u8, tile: TilePath) -> Result<Option<Bytes>, GatewayError> {
    match log.read(LogRead::Tile { level, index: tile.index }).await? {
        LogReply::Tile(hashes) => Ok((hashes.len() >= tile.width * 32).then(|| hashes.slice(..tile.width * 32))),
        _ => Err(unexpected_reply("Tile")),
    }
}

async fn entries(log: &LogSource, tile: TilePath) -> Result<Option<Bytes>, GatewayError> {
    let Some(from) = tile.index.checked_mul(TILE_WIDTH as u64) else { return Ok(None) };
    let max = u32::try_from(tile.width).unwrap_or_default();
    let LogReply::Entries(entries) = log.read(LogRead::Entries { from: LogIndex(from), max }).await? else {
        return Err(unexpected_reply("Entries"));
    };
    let (entries, _) = entries.as_chunks::<ENTRY_BYTES>();
    if entries.len() < tile.width {
        return Ok(None);
    }
    let entries: Vec<&[u8]> = entries.iter().map(<[u8; ENTRY_BYTES]>::as_slice).collect();
    Ok(encode_bundle(&entries).ok().map(Bytes::from))
}

impl LogSource {
    async fn read(&self, asked: LogRead) -> Result<LogReply, GatewayError> {
        let meta = match self {
            Self::Gateway(gw) => return ask(gw, asked).boxed().await,
            Self::Rows(meta) => meta,
        };
        let answer = meta.call(MetaRequest::Log(asked), TIMEOUT).await;
        match answer.map_err(|error| GatewayError::from_meta(error, ""))? {
            MetaReply::Log(LogReply::Archived(_)) => {
                let what = "these entries moved to an archive: ask the admin port of an S3 gateway".to_owned();
                Err(GatewayError::Unavailable { what })
            }
            MetaReply::Log(reply) => Ok(reply),
            _ => Err(unexpected_reply("Log")),
        }
    }
}
