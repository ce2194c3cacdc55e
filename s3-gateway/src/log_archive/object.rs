//! Archives as objects: where they are, their footers and sections. What is read was checked against the root that the
//! metadata service has for the archive; the last sections stay in memory.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use stele_evidence::log_archive::{ArchiveError, Footer, Height, Item, SECTION_BYTES_MAX};
use stele_rpc::meta::{ArchiveInfo, ArchiveObject, ArchivePlan, LogRead, LogReply, VersionSelector};
use stele_types::ids::{LogIndex, VersionId};
use stele_types::limits::MIB;
use tokio::sync::Mutex;

use super::read::ask_metadata;
use crate::api::{ByteRange, GetRequest, ReadConditions};
use crate::error::{BodyError, GatewayError, unexpected_reply};
use crate::gateway::Gateway;
use crate::get::get_object;

/// Sections in memory.
const SECTIONS_KEPT: usize = 4;
/// Bytes of sections in memory, in their stored form. One section may be more.
const SECTION_BYTES_KEPT: usize = 16 * MIB;
/// Footers in memory, of 9 kB each.
const FOOTERS_KEPT: usize = 8;
/// Memory of a section for each of its bytes while it is read: as it is stored, and as items.
const MEMORY_PER_BYTE: usize = 3;

/// What a gateway remembers of archives.
#[derive(Debug, Default)]
pub(crate) struct Archives {
    height: OnceLock<Height>,
    /// Held while something is fetched, so that one fetch serves all who wait for it.
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    footers: VecDeque<(VersionId, Arc<Footer>)>,
    sections: VecDeque<Section>,
}

#[derive(Debug)]
struct Section {
    of: (VersionId, usize),
    bytes: usize,
    items: Arc<Vec<Item>>,
}

impl Kept {
    fn footer(&self, of: VersionId) -> Option<Arc<Footer>> {
        self.footers.iter().find(|(known, _)| *known == of).map(|(_, footer)| Arc::clone(footer))
    }

    fn section(&self, of: (VersionId, usize)) -> Option<Arc<Vec<Item>>> {
        self.sections.iter().find(|section| section.of == of).map(|section| Arc::clone(&section.items))
    }

    fn keep(&mut self, section: Section) {
        self.sections.push_back(section);
        let bytes = |sections: &VecDeque<Section>| sections.iter().map(|section| section.bytes).sum::<usize>();
        while self.sections.len() > SECTIONS_KEPT
            || (self.sections.len() > 1 && bytes(&self.sections) > SECTION_BYTES_KEPT)
        {
            self.sections.pop_front();
        }
    }
}

/// What is to be done about archives.
pub(super) async fn plan(gw: &Gateway) -> Result<ArchivePlan, GatewayError> {
    match ask_metadata(gw, LogRead::ArchivePlan).await? {
        LogReply::ArchivePlan(plan) => Ok(*plan),
        _ => Err(unexpected_reply("ArchivePlan")),
    }
}

/// How many entries an archive of this store has.
pub(super) fn height_of(plan: &ArchivePlan) -> Result<Height, GatewayError> {
    Height::from_level(plan.level).ok_or_else(|| {
        let what = format!("archives of the evidence log with hashes in tiles of level {}", plan.level);
        GatewayError::Internal { what }
    })
}

/// As [`height_of`], asked once.
pub(super) async fn height(gw: &Gateway) -> Result<Height, GatewayError> {
    if let Some(height) = gw.archives.height.get() {
        return Ok(*height);
    }
    let height = height_of(&plan(gw).await?)?;
    Ok(*gw.archives.height.get_or_init(|| height))
}

/// Where an archive is, as of now: it may have been made anew since.
pub(super) async fn info(gw: &Gateway, number: u64) -> Result<Option<ArchiveInfo>, GatewayError> {
    match ask_metadata(gw, LogRead::Archive { number }).await? {
        LogReply::Archive(info) => Ok(info.map(|info| *info)),
        _ => Err(unexpected_reply("Archive")),
    }
}

/// Items of the section that an entry is in, and the entry's place among them.
///
/// # Errors
/// `Unavailable` or `Corrupt`, which name the archive and its object.
pub(super) async fn section_with(gw: &Arc<Gateway>, index: LogIndex) -> Result<(Arc<Vec<Item>>, usize), GatewayError> {
    let height = height(gw).await?;
    let (number, at) = height.place(index);
    let place = usize::try_from(index.0 % height.section_entries() as u64).unwrap_or(usize::MAX);
    let mut gone = None;
    loop {
        let info = known(gw, number).await?;
        match section(gw, &info, at).await {
            // It was made anew between the two questions, and the old one removed.
            Err(GatewayError::NoSuchKey { .. } | GatewayError::NoSuchVersion) if gone != Some(info.object.version) => {
                gone = Some(info.object.version);
            }
            Ok(items) => return Ok((items, place)),
            Err(error) => return Err(told(&info, error)),
        }
    }
}

/// Roots of the tiles that an archive covers.
///
/// # Errors
/// As [`section_with`].
pub(super) async fn tiles(gw: &Arc<Gateway>, number: u64) -> Result<Arc<Footer>, GatewayError> {
    let mut gone = None;
    loop {
        let info = known(gw, number).await?;
        let mut kept = gw.archives.kept.lock().await;
        match footer(gw, &mut kept, &info).await {
            Err(GatewayError::NoSuchKey { .. } | GatewayError::NoSuchVersion) if gone != Some(info.object.version) => {
                gone = Some(info.object.version);
            }
            Ok(footer) => return Ok(footer),
            Err(error) => return Err(told(&info, error)),
        }
    }
}

async fn known(gw: &Gateway, number: u64) -> Result<ArchiveInfo, GatewayError> {
    info(gw, number).await?.ok_or_else(|| GatewayError::Corrupt {
        what: format!("archive {number} of the evidence log: the metadata service does not know where it is"),
    })
}

/// Names the archive whose object could not be read.
fn told(info: &ArchiveInfo, error: GatewayError) -> GatewayError {
    let ArchiveObject { bucket, key, .. } = &info.object;
    let what = format!("archive {} of the evidence log, object {bucket}/{key}: {error}", info.number);
    match error {
        GatewayError::Corrupt { .. } | GatewayError::NoSuchKey { .. } | GatewayError::NoSuchVersion => {
            GatewayError::Corrupt { what }
        }
        GatewayError::NoSuchBucket { .. } => GatewayError::Corrupt { what },
        _ => GatewayError::Unavailable { what },
    }
}

async fn section(gw: &Arc<Gateway>, info: &ArchiveInfo, at: usize) -> Result<Arc<Vec<Item>>, GatewayError> {
    let mut kept = gw.archives.kept.lock().await;
    if let Some(items) = kept.section((info.object.version, at)) {
        return Ok(items);
    }
    let footer = footer(gw, &mut kept, info).await?;
    let (bytes, items) = read_section(gw, &info.object, &footer, at).await?;
    let items = Arc::new(items);
    kept.keep(Section { of: (info.object.version, at), bytes: bytes.len(), items: Arc::clone(&items) });
    Ok(items)
}

async fn footer(gw: &Arc<Gateway>, kept: &mut Kept, info: &ArchiveInfo) -> Result<Arc<Footer>, GatewayError> {
    if let Some(footer) = kept.footer(info.object.version) {
        return Ok(footer);
    }
    let footer = Arc::new(read_footer(gw, &info.object, height(gw).await?).await?);
    let first = footer.height.first_of(info.number, 0);
    let hashes = footer.sections.iter().map(|section| section.hash);
    if first != Some(footer.first) || footer.root() != info.root || !hashes.eq(info.sections.iter().copied()) {
        return Err(damaged(ArchiveError::Mismatch("hashes")));
    }
    kept.footers.push_back((info.object.version, Arc::clone(&footer)));
    if kept.footers.len() > FOOTERS_KEPT {
        kept.footers.pop_front();
    }
    Ok(footer)
}

fn damaged(error: ArchiveError) -> GatewayError {
    GatewayError::Corrupt { what: error.to_string() }
}

/// The end of an archive. Nothing is compared with the log.
pub(super) async fn read_footer(
    gw: &Arc<Gateway>,
    object: &ArchiveObject,
    height: Height,
) -> Result<Footer, GatewayError> {
    let len = height.footer_len();
    let (bytes, total) = read_range(gw, object, ByteRange::Suffix(len as u64), len).await?;
    let footer = Footer::decode(&bytes).map_err(damaged)?;
    if footer.height != height || footer.archive_len() != total {
        return Err(damaged(ArchiveError::Length));
    }
    Ok(footer)
}

/// A section, as it is stored and read, checked against the footer.
pub(super) async fn read_section(
    gw: &Arc<Gateway>,
    object: &ArchiveObject,
    footer: &Footer,
    at: usize,
) -> Result<(Bytes, Vec<Item>), GatewayError> {
    let range = footer.range_of(at).ok_or_else(|| damaged(ArchiveError::Unknown("section")))?;
    let len = usize::try_from(range.end - range.start).unwrap_or(usize::MAX).min(SECTION_BYTES_MAX);
    let _charge = gw.budget.charge(len.saturating_mul(MEMORY_PER_BYTE)).await?;
    let asked = ByteRange::From { first: range.start, last: Some(range.end.saturating_sub(1)) };
    let (bytes, _) = read_range(gw, object, asked, len).await?;
    let items = footer.open_section(at, &bytes).map_err(damaged)?;
    Ok((bytes, items))
}

/// Bytes of exactly this version, and how many the object has. They are exactly `len`.
pub(super) async fn read_range(
    gw: &Arc<Gateway>,
    object: &ArchiveObject,
    range: ByteRange,
    len: usize,
) -> Result<(Bytes, u64), GatewayError> {
    let request = GetRequest {
        bucket: object.bucket.clone(),
        key: object.key.clone(),
        version: VersionSelector::Id(object.version),
        range: Some(range),
        conditions: ReadConditions::default(),
    };
    let short = |_| damaged(ArchiveError::Length);
    // A read of the log may be a read of an object: boxed, so that futures around it stay small.
    let reply = match get_object(gw, request).boxed().await {
        Err(GatewayError::RangeNotSatisfiable { len }) => return Err(short(len)),
        reply => reply?,
    };
    if reply.head.range.len != len as u64 {
        return Err(short(reply.head.range.len));
    }
    let (mut body, mut bytes) = (reply.body, Vec::with_capacity(len));
    while let Some(piece) = body.next().await {
        match piece {
            Ok(piece) => bytes.extend_from_slice(&piece),
            Err(BodyError::Store(error)) => return Err(*error),
            Err(error @ BodyError::Incoming(_)) => return Err(GatewayError::Internal { what: error.to_string() }),
        }
    }
    Ok((bytes.into(), reply.head.range.total))
}
