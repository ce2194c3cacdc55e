//! Makes an archive, section by section, so that only one of them is in memory. It is stored like any object, read back,
//! compared with the log, and only then noted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use stele_evidence::log_archive::{Footer, Height, Item, MAGIC, SECTION_BYTES_MAX, Section, encode_kept, tile_roots};
use stele_evidence::record::Entry;
use stele_evidence::tiles::TILE_WIDTH;
use stele_evidence::tree::Hash;
use stele_rpc::meta::{
    ArchiveInfo, ArchiveMade, ArchiveObject, Fold, LOG_BUCKET, LOG_ENTRIES_MAX, LogCommand, LogItem, LogRead, LogReply,
    VersionSelector,
};
use stele_types::ids::LogIndex;
use stele_types::object::{Lock, Precondition, StoredHeaders, Tags};
use tokio::sync::mpsc;

use super::object::{info, read_footer, read_range, read_section};
use super::read::{ask, ask_metadata};
use super::{bucket_of_ours, command, origin};
use crate::api::{BodyError, BodyRequest, ByteRange, DeleteOne, DeleteRequest, ExpectedDigests, PutRequest};
use crate::delete::delete_objects;
use crate::error::{GatewayError, unexpected_reply};
use crate::gateway::Gateway;
use crate::put::put_object;

/// Whoever takes longer gives up. What it stored is then left over, and nobody removes it before an hour has passed.
const PATIENCE: Duration = Duration::from_secs(1800);

/// What an archive is made of.
#[derive(Debug)]
pub(super) struct Blueprint {
    number: u64,
    height: Height,
    /// Sections that were moved stand in it only.
    replaces: Option<ArchiveInfo>,
    /// Entries of those that were erased since.
    erased: BTreeMap<LogIndex, Item>,
}

impl Blueprint {
    /// An archive that there is none of yet.
    pub(super) fn new(number: u64, height: Height) -> Self {
        Self { number, height, replaces: None, erased: BTreeMap::new() }
    }

    /// The archive anew, without what `fold` names.
    pub(super) fn anew(known: ArchiveInfo, height: Height, fold: Option<Fold>) -> Self {
        let fold = fold.filter(|fold| fold.number == known.number);
        let moved = |index: &LogIndex| height.place(*index).1 < known.moved as usize;
        let erased = fold.into_iter().flat_map(|fold| fold.erased).filter(|(index, _)| moved(index));
        let erased = erased.map(|(index, item)| (index, item_of(item))).collect();
        Self { number: known.number, height, replaces: Some(known), erased }
    }

    fn first_of(&self, section: usize) -> Result<LogIndex, GatewayError> {
        let past =
            || GatewayError::Internal { what: format!("archive {} is past the end of all numbers", self.number) };
        self.height.first_of(self.number, section).ok_or_else(past)
    }

    /// Bytes of a section, and roots of the tiles that it covers.
    async fn section(&self, gw: &Arc<Gateway>, at: usize) -> Result<(Vec<u8>, Vec<Hash>), GatewayError> {
        match self.replaces.as_ref().filter(|known| at < known.moved as usize) {
            Some(known) => self.old_section(gw, known, at).await,
            None => self.new_section(gw, at).await,
        }
    }

    async fn old_section(
        &self,
        gw: &Arc<Gateway>,
        known: &ArchiveInfo,
        at: usize,
    ) -> Result<(Vec<u8>, Vec<Hash>), GatewayError> {
        let footer = read_footer(gw, &known.object, self.height).await?;
        let (bytes, mut items) = read_section(gw, &known.object, &footer, at).await?;
        let first = self.first_of(at)?;
        let end = LogIndex(first.0.saturating_add(self.height.section_entries() as u64));
        let mut erased = self.erased.range(first..end).peekable();
        if erased.peek().is_none() {
            return Ok((bytes.to_vec(), tile_roots(&items)));
        }
        for (index, item) in erased {
            let place = usize::try_from(index.0 - first.0).unwrap_or(usize::MAX);
            if let Some(old) = items.get_mut(place) {
                *old = item.clone();
            }
        }
        let mut bytes = Vec::with_capacity(bytes.len());
        items.iter().for_each(|item| item.encode_to(&mut bytes));
        Ok((bytes, tile_roots(&items)))
    }

    async fn new_section(&self, gw: &Arc<Gateway>, at: usize) -> Result<(Vec<u8>, Vec<Hash>), GatewayError> {
        let first = self.first_of(at)?;
        let (count, mut bytes) = (self.height.section_entries(), Vec::new());
        let (mut leaves, mut roots, mut got) = (Vec::with_capacity(TILE_WIDTH), Vec::new(), 0);
        while got < count {
            let max = u32::try_from(count - got).unwrap_or(u32::MAX).min(LOG_ENTRIES_MAX);
            let from = LogIndex(first.0.saturating_add(got as u64));
            let LogReply::Items(items) = ask_metadata(gw, LogRead::Items { from, max }).await? else {
                return Err(unexpected_reply("Items"));
            };
            if items.is_empty() || items.len() > max as usize {
                let what = format!("the metadata service gives {} of {max} entries from {} on", items.len(), from.0);
                return Err(GatewayError::Unavailable { what });
            }
            got += items.len();
            for item in items {
                leaves.push(stele_evidence::tree::leaf_hash(&append(item, &mut bytes).0));
                if leaves.len() == TILE_WIDTH {
                    roots.extend(stele_evidence::tiles::complete_root(&leaves));
                    leaves.clear();
                }
            }
            if bytes.len() > SECTION_BYTES_MAX {
                let what = format!("section {at} of archive {} of the evidence log is too long", self.number);
                return Err(GatewayError::Internal { what });
            }
        }
        Ok((bytes, roots))
    }
}

/// What rows hold, as an archive holds it.
pub(super) fn item_of(item: LogItem) -> Item {
    match item {
        LogItem::Kept { record, salt } => Item::Kept { salt, record: record.to_vec() },
        LogItem::Erased { entry, previous, by } => Item::Erased { entry: Entry(entry), previous, by },
    }
}

fn append(item: LogItem, bytes: &mut Vec<u8>) -> Entry {
    match item {
        LogItem::Kept { record, salt } => {
            encode_kept(&salt, &record, bytes);
            Entry::new(&salt, &record)
        }
        erased @ LogItem::Erased { .. } => {
            let item = item_of(erased);
            item.encode_to(bytes);
            item.entry()
        }
    }
}

/// Makes an archive. What it replaces is removed afterwards.
///
/// # Durability
/// Ok: the object is stored, was read back, and the metadata service knows it.
///
/// # Errors
/// Nothing is noted; the object is removed, or left over.
pub(super) async fn make(gw: &Arc<Gateway>, plan: &Blueprint) -> Result<(), GatewayError> {
    bucket_of_ours(gw).await?;
    let slow = |_| GatewayError::Unavailable { what: format!("archive {} took too long", plan.number) };
    tokio::time::timeout(PATIENCE, make_in_time(gw, plan)).await.map_err(slow)?
}

async fn make_in_time(gw: &Arc<Gateway>, plan: &Blueprint) -> Result<(), GatewayError> {
    let (object, footer) = store(gw, plan).await?;
    let noted = match check(gw, plan, &object, &footer).await {
        Ok(()) => note(gw, plan, &object, &footer).await,
        Err(error) => Err(error),
    };
    if let Err(error) = noted {
        // Its outcome may be unknown: then the log says whether this is the archive.
        let ours = info(gw, plan.number).await?.is_some_and(|known| known.object == object);
        if !ours {
            remove(gw, &object).await?;
            return Err(error);
        }
    }
    tracing::info!(number = plan.number, key = object.key, erased = plan.erased.len(), "evidence log archived");
    match &plan.replaces {
        Some(known) => remove(gw, &known.object).await,
        None => Ok(()),
    }
}

async fn note(
    gw: &Arc<Gateway>,
    plan: &Blueprint,
    object: &ArchiveObject,
    footer: &Footer,
) -> Result<(), GatewayError> {
    let made = ArchiveMade {
        number: plan.number,
        object: object.clone(),
        sections: footer.sections.iter().map(|section| section.hash).collect(),
        replaces: plan.replaces.as_ref().map(|known| known.object.version),
        folded: plan.erased.keys().copied().collect(),
    };
    command(gw, LogCommand::Archive(Box::new(made))).await
}

/// Stores the object.
async fn store(gw: &Arc<Gateway>, plan: &Blueprint) -> Result<(ArchiveObject, Footer), GatewayError> {
    let key = format!("log/{:020}-{:08x}", plan.number, gw.random_u64() >> 32);
    let (sender, mut receiver) = mpsc::channel::<Result<Bytes, BodyError>>(1);
    let stream = futures::stream::poll_fn(move |cx| receiver.poll_recv(cx));
    let body = BodyRequest {
        stream: Box::pin(stream),
        declared_len: None,
        expected: ExpectedDigests::default(),
        compute: Vec::new(),
        withheld: false,
    };
    let (footer, stored) = tokio::join!(produce(gw, plan, sender).boxed(), put(gw, key, body).boxed());
    match (footer, stored) {
        (Ok(footer), Ok(object)) => Ok((object, footer)),
        (Err(Some(error)), _) | (_, Err(error)) => Err(error),
        (Err(None), Ok(_)) => Err(GatewayError::Internal { what: "a body was stored before it had ended".into() }),
    }
}

/// Stores an object of the store's own.
pub(super) async fn put(gw: &Arc<Gateway>, key: String, body: BodyRequest) -> Result<ArchiveObject, GatewayError> {
    let request = PutRequest {
        bucket: LOG_BUCKET.to_owned(),
        key: key.clone(),
        body,
        headers: StoredHeaders {
            content_type: Some("application/octet-stream".to_owned()),
            ..StoredHeaders::default()
        },
        tags: Tags::default(),
        lock: Lock::default(),
        precondition: Precondition::None,
        origin: origin(gw),
    };
    let version = put_object(gw, request).await?.id;
    Ok(ArchiveObject { bucket: LOG_BUCKET.to_owned(), key, version })
}

/// Sends all bytes of the archive. An error ends the body, too, so that nothing is stored; `None`: nobody takes it.
async fn produce(
    gw: &Arc<Gateway>,
    plan: &Blueprint,
    sender: mpsc::Sender<Result<Bytes, BodyError>>,
) -> Result<Footer, Option<GatewayError>> {
    let stopped = |_| None;
    let (mut sections, mut tiles) = (Vec::new(), Vec::new());
    sender.send(Ok(Bytes::from_static(MAGIC))).await.map_err(stopped)?;
    for at in 0..plan.height.sections() {
        let (bytes, mut roots) = match plan.section(gw, at).await {
            Ok(made) => made,
            Err(error) => {
                let broken = GatewayError::Internal { what: error.to_string() };
                sender.send(Err(BodyError::Store(Box::new(broken)))).await.map_err(stopped)?;
                return Err(Some(error));
            }
        };
        sections.push(Section::of(&bytes));
        tiles.append(&mut roots);
        sender.send(Ok(Bytes::from(bytes))).await.map_err(stopped)?;
    }
    let first = plan.first_of(0)?;
    let footer = Footer { height: plan.height, first, sections, tiles };
    sender.send(Ok(Bytes::from(footer.encode()))).await.map_err(stopped)?;
    Ok(footer)
}

/// Reads the whole object back, and compares it with the log's own tree.
async fn check(gw: &Arc<Gateway>, plan: &Blueprint, object: &ArchiveObject, made: &Footer) -> Result<(), GatewayError> {
    let differs = |what: &str| GatewayError::Corrupt {
        what: format!("archive {} of the evidence log, as it was stored just now: {what}", plan.number),
    };
    let footer = read_footer(gw, object, plan.height).await?;
    let magic = ByteRange::From { first: 0, last: Some(MAGIC.len() as u64 - 1) };
    if footer != *made || *read_range(gw, object, magic, MAGIC.len()).await?.0 != MAGIC[..] {
        return Err(differs("it is not what was sent"));
    }
    for at in 0..plan.height.sections() {
        read_section(gw, object, &footer, at).await?;
    }
    let (tile, place) = (plan.number / TILE_WIDTH as u64, plan.number % TILE_WIDTH as u64);
    let asked = LogRead::Tile { level: plan.height.level(), index: tile };
    let LogReply::Tile(hashes) = ask(gw, asked).await? else { return Err(unexpected_reply("Tile")) };
    let place = usize::try_from(place).unwrap_or(usize::MAX);
    if hashes.as_chunks::<32>().0.get(place) != Some(&footer.root()) {
        return Err(differs("its root is not the log's"));
    }
    Ok(())
}

/// Removes exactly this version.
pub(super) async fn remove(gw: &Arc<Gateway>, object: &ArchiveObject) -> Result<(), GatewayError> {
    let one = DeleteOne {
        key: object.key.clone(),
        version: VersionSelector::Id(object.version),
        precondition: Precondition::None,
    };
    let request =
        DeleteRequest { bucket: object.bucket.clone(), items: vec![one], bypass_governance: false, origin: origin(gw) };
    let outcomes = delete_objects(gw, request).await?;
    match outcomes.into_iter().next() {
        None | Some(Ok(_) | Err(GatewayError::NoSuchKey { .. } | GatewayError::NoSuchVersion)) => Ok(()),
        Some(Err(error)) => Err(error),
    }
}
