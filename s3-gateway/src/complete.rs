//! CompleteMultipartUpload: the listed parts become one object. No data moves.
//!
//! The parts' chunk entries, in order, go through a pack writer, which makes manifest pages of them
//! and stores only these. The commit re-owns the parts' references and is guarded by the generation
//! of each part that was read here.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::future::try_join_all;
use md5::{Digest as _, Md5};
use stele_chunker::pack::{BodyManifest, BodyTag};
use stele_chunker::stream::{EndedBody, PackTarget, PackWriter};
use stele_chunker::tree::{empty_object_root, object_root};
use stele_rpc::meta::{Command, Committed, CompleteUpload, Contents, PutVersion, WriteGuard};
use stele_types::ids::{Epoch, ObjectRoot, PackId};
use stele_types::limits::{LIST_PAGE_MAX, MIB, OBJECT_BYTES_MAX, PART_BYTES_MIN};
use stele_types::manifest::{ChunkEntry, Manifest};
use stele_types::object::{
    Attributes, Checksum, ChecksumAlgorithm, ChecksumType, ETag, Lock, Part, StoredHeaders, Tags, Upload,
};
use stele_types::pack::PackRow;
use stele_types::seam::random_bytes;

use crate::api::{CompleteRequest, ListedPart, UploadRef};
use crate::digests::{checksum_of, combine};
use crate::error::{DigestKind, GatewayError};
use crate::fetch::{FetchError, RowBook};
use crate::gateway::Gateway;
use crate::lease::WriteStart;
use crate::list::list_parts;
use crate::packer::writer_failed;
use crate::put::{VersionIds, begin, commit_with, new_owner};
use crate::store::{StoredPack, store_pack};
use crate::walk::walk;

/// Parts whose manifest pages are read side by side.
const PARTS_AHEAD: usize = 16;
/// Memory that the pages and entries of one Complete are counted with.
const COMPLETE_BYTES: usize = 16 * MIB;

/// Makes an object of an upload's parts.
///
/// # Durability
/// Ok: the version is committed, its manifest pages are on stable media. Err: the upload is as it
/// was, except that `Unavailable` may hide a commit that took place.
///
/// # Errors
/// `NoSuchUpload`, `InvalidPart`, `InvalidPartOrder`, `PartTooSmall`, `DigestMismatch`,
/// `InvalidArgument`, `PreconditionFailed`, and as [`crate::put::put_object`].
pub async fn complete_upload(gw: &Arc<Gateway>, request: CompleteRequest) -> Result<Committed, GatewayError> {
    check_order(&request.parts)?;
    let _charge = gw.budget.charge(COMPLETE_BYTES).await?;
    let start = begin(gw, &request.upload.bucket).await?;
    let (upload, known) = match all_parts(gw, &request.upload).await {
        Err(GatewayError::NoSuchUpload) => return earlier_result(gw, &start, &request).await,
        found => found?,
    };
    let parts = choose(&request.parts, known)?;
    let attributes = attributes_of(&request, &upload, &parts)?;
    let joined = join_manifests(gw, start.epoch(), &parts).await?;
    let attributes = Attributes { root: joined.root, ..attributes };
    let ids = VersionIds::draw(gw);
    let owner = new_owner(gw);
    let make = |guard: WriteGuard| {
        let put = PutVersion {
            guard,
            key: request.upload.key.clone(),
            nonce: ids.nonce,
            salt: ids.salt,
            replaced_salt: ids.replaced_salt,
            precondition: request.precondition.clone(),
            attributes: attributes.clone(),
            contents: Contents { owner, manifest: joined.manifest.clone(), packs: joined.packs.clone() },
            lock: Lock::default(),
        };
        let parts = parts.iter().map(|part| (part.number, part.generation)).collect();
        Command::CompleteUpload(Box::new(CompleteUpload { put, upload: request.upload.upload, parts }))
    };
    commit_with(gw, &request.upload.bucket, &start, request.origin.clone(), make).await
}

/// The upload is gone. If it was completed not long ago, the metadata service answers with that
/// result, so that a client that lost the answer can ask again; else there is no such upload.
async fn earlier_result(
    gw: &Gateway,
    start: &WriteStart,
    request: &CompleteRequest,
) -> Result<Committed, GatewayError> {
    let ids = VersionIds::draw(gw);
    let owner = new_owner(gw);
    let nothing = Attributes { root: empty_object_root(), ..no_attributes() };
    let make = |guard: WriteGuard| {
        let put = PutVersion {
            guard,
            key: request.upload.key.clone(),
            nonce: ids.nonce,
            salt: ids.salt,
            replaced_salt: ids.replaced_salt,
            precondition: request.precondition.clone(),
            attributes: nothing.clone(),
            contents: Contents { owner, manifest: Manifest::Inline(Vec::new()), packs: Vec::new() },
            lock: Lock::default(),
        };
        Command::CompleteUpload(Box::new(CompleteUpload { put, upload: request.upload.upload, parts: Vec::new() }))
    };
    commit_with(gw, &request.upload.bucket, start, request.origin.clone(), make).await
}

/// Attributes of nothing, to be filled in.
pub(crate) fn no_attributes() -> Attributes {
    Attributes {
        len: 0,
        etag: ETag { md5: 0, parts: 0 },
        root: ObjectRoot::from_bytes([0; 32]),
        body_hash: None,
        checksums: Vec::new(),
        headers: Box::new(StoredHeaders::default()),
        part_lens: Vec::new(),
        tags: Tags::default(),
        part_checksums: Bytes::new(),
    }
}

fn check_order(parts: &[ListedPart]) -> Result<(), GatewayError> {
    if parts.is_empty() {
        return Err(GatewayError::InvalidArgument { what: "no parts are listed".into() });
    }
    if parts.iter().zip(parts.iter().skip(1)).any(|(a, b)| a.number >= b.number) {
        return Err(GatewayError::InvalidPartOrder);
    }
    Ok(())
}

async fn all_parts(gw: &Gateway, at: &UploadRef) -> Result<(Upload, BTreeMap<u16, Part>), GatewayError> {
    let mut known = BTreeMap::new();
    let mut after = 0;
    loop {
        let page = list_parts(gw, at, after, u32::try_from(LIST_PAGE_MAX).unwrap_or(u32::MAX)).await?;
        let last = page.parts.last().map(|part| part.number);
        known.extend(page.parts.into_iter().map(|part| (part.number, part)));
        match last {
            Some(last) if page.truncated => after = last,
            _ => return Ok((*page.upload, known)),
        }
    }
}

/// The listed parts, if each is what the client says and large enough.
fn choose(listed: &[ListedPart], mut known: BTreeMap<u16, Part>) -> Result<Vec<Part>, GatewayError> {
    let mut parts = Vec::with_capacity(listed.len());
    for wanted in listed {
        let number = wanted.number;
        let invalid = |reason: &str| GatewayError::InvalidPart { number, reason: reason.to_owned() };
        let part = known.remove(&number).ok_or_else(|| invalid("it was not uploaded"))?;
        if !wanted.etag.eq_ignore_ascii_case(&part.etag.to_string()) {
            return Err(invalid("its ETag differs from the uploaded part's"));
        }
        for checksum in &wanted.checksums {
            let ours = part.checksums.iter().find(|c| c.algorithm == checksum.algorithm);
            if ours.is_none_or(|ours| ours.value != checksum.value) {
                return Err(invalid("its checksum differs from the uploaded part's"));
            }
        }
        parts.push(part);
    }
    let all_but_last = parts.split_last().map_or(&[][..], |(_, rest)| rest);
    if let Some(small) = all_but_last.iter().find(|part| part.len < PART_BYTES_MIN) {
        return Err(GatewayError::PartTooSmall { number: small.number, len: small.len, min: PART_BYTES_MIN });
    }
    Ok(parts)
}

/// Attributes of the object, but for its root.
fn attributes_of(request: &CompleteRequest, upload: &Upload, parts: &[Part]) -> Result<Attributes, GatewayError> {
    let len = parts.iter().fold(0u64, |sum, part| sum.saturating_add(part.len));
    if len > OBJECT_BYTES_MAX {
        return Err(GatewayError::EntityTooLarge { len, max: OBJECT_BYTES_MAX });
    }
    if let Some(declared) = request.declared_len.filter(|declared| *declared != len) {
        let what = format!("the parts have {len} bytes; x-amz-mp-object-size says {declared}");
        return Err(GatewayError::InvalidArgument { what });
    }
    let mut md5 = Md5::new();
    parts.iter().for_each(|part| md5.update(part.etag.md5.to_be_bytes()));
    let etag =
        ETag { md5: u128::from_be_bytes(md5.finalize().into()), parts: u16::try_from(parts.len()).unwrap_or(u16::MAX) };
    let checksums: Vec<Checksum> = object_checksum(upload.checksum, parts)?.into_iter().collect();
    for expected in &request.checksums {
        let ours = checksums.iter().find(|c| c.algorithm == expected.algorithm);
        // The edge can't always tell which kind a client means; the value decides.
        if ours.is_none_or(|ours| ours.value != expected.value) {
            return Err(GatewayError::DigestMismatch { which: DigestKind::Checksum(expected.algorithm) });
        }
    }
    let part_lens = parts.iter().map(|part| part.len).collect();
    let part_checksums = part_checksums(&checksums, parts);
    Ok(Attributes { len, etag, checksums, part_lens, part_checksums, ..no_attributes() })
}

/// Checksums of the parts, where the object's is one of them.
fn part_checksums(checksums: &[Checksum], parts: &[Part]) -> Bytes {
    let Some(composite) = checksums.iter().find(|c| c.kind == ChecksumType::Composite) else { return Bytes::new() };
    let values = parts.iter().flat_map(|part| part.checksums.iter().find(|c| c.algorithm == composite.algorithm));
    values.flat_map(|checksum| checksum.value.iter().copied()).collect()
}

/// The object's checksum, of those of its parts. Without a choice at Create: CRC64NVME over the
/// whole object where every part has one, else none.
fn object_checksum(
    choice: Option<(ChecksumAlgorithm, ChecksumType)>,
    parts: &[Part],
) -> Result<Option<Checksum>, GatewayError> {
    let (algorithm, kind) = choice.unwrap_or((ChecksumAlgorithm::Crc64Nvme, ChecksumType::FullObject));
    let mut values: Vec<(&Bytes, u64)> = Vec::with_capacity(parts.len());
    for part in parts {
        match part.checksums.iter().find(|c| c.algorithm == algorithm) {
            Some(checksum) => values.push((&checksum.value, part.len)),
            None if choice.is_none() => return Ok(None),
            None => {
                let reason = format!("it has no {algorithm:?} checksum, which the upload asks for");
                return Err(GatewayError::InvalidPart { number: part.number, reason });
            }
        }
    }
    let value = match kind {
        ChecksumType::Composite => {
            let mut all = BytesMut::new();
            values.iter().for_each(|(value, _)| all.extend_from_slice(value));
            Some(checksum_of(algorithm, &all))
        }
        ChecksumType::FullObject => {
            let mut values = values.into_iter();
            let first = values.next().map(|(value, _)| value.clone());
            values.fold(first, |sum, (value, len)| combine(algorithm, &sum?, value, len))
        }
    };
    let Some(value) = value else {
        let what = format!("{algorithm:?} of parts can't be joined");
        return Err(GatewayError::InvalidArgument { what });
    };
    Ok(Some(Checksum { algorithm, kind, value }))
}

/// A manifest whose pages are stored.
pub(crate) struct Joined {
    pub(crate) root: ObjectRoot,
    pub(crate) manifest: Manifest,
    /// Packs that were stored for it.
    pub(crate) packs: Vec<PackRow>,
}

async fn join_manifests(gw: &Arc<Gateway>, epoch: Epoch, parts: &[Part]) -> Result<Joined, GatewayError> {
    let mut writer = PackWriter::new(random_bytes(gw.rng.as_ref()), PackTarget::new(COMPLETE_BYTES / 2));
    writer.begin_body(BodyTag(0), epoch, Some(0)).map_err(writer_failed)?;
    let mut stored: Vec<StoredPack> = Vec::new();
    let mut manifests: Vec<BodyManifest> = Vec::new();
    // Collected first: a closure that borrows inside a stream would make this future not Send.
    let loads: Vec<_> = parts.iter().map(|part| entries_of(gw, &part.manifest)).collect();
    let mut loading = futures::stream::iter(loads).buffered(PARTS_AHEAD);
    while let Some(entries) = loading.next().await {
        for entry in entries? {
            for pack in writer.push_entry(entry).map_err(writer_failed)? {
                manifests.extend(pack.manifests.iter().cloned());
                stored.push(store_pack(gw, pack).await?);
            }
        }
    }
    let (ended, mut full) = writer.end_body().map_err(writer_failed)?;
    full.extend(writer.seal().map_err(writer_failed)?);
    manifests.extend(full.iter().flat_map(|pack| pack.manifests.iter().cloned()));
    stored.extend(try_join_all(full.into_iter().map(|pack| store_pack(gw, pack))).await?);
    joined(ended, manifests.pop(), &stored)
}

/// Joins what a writer says of a body made of entries with the packs that were stored for it.
///
/// # Errors
/// `Internal` if a pack that the manifest needs is not among them.
pub(crate) fn joined(
    ended: EndedBody,
    manifest: Option<BodyManifest>,
    stored: &[StoredPack],
) -> Result<Joined, GatewayError> {
    let missing = || GatewayError::Internal { what: "the joined manifest is not complete".into() };
    let manifest = manifest.or(ended.manifest).ok_or_else(missing)?;
    let row = |pack: &PackId| stored.iter().map(StoredPack::row).find(|row| row.pack == *pack).cloned();
    let packs: Option<Vec<PackRow>> = manifest.packs.iter().map(row).collect();
    Ok(Joined { root: ended.root, manifest: manifest.manifest, packs: packs.ok_or_else(missing)? })
}

/// All chunks of a part.
async fn entries_of(gw: &Gateway, manifest: &Manifest) -> Result<Vec<ChunkEntry>, GatewayError> {
    let root = match manifest {
        Manifest::Inline(entries) => return Ok(entries.clone()),
        Manifest::Paged { root, .. } => object_root(root.bytes, root.chunks, &root.top),
    };
    match walk(gw, &RowBook::default(), &root, manifest, 0..manifest.total_len()).await {
        Ok(walked) => Ok(walked.chunks.into_iter().map(|chunk| chunk.item).collect()),
        Err(FetchError::Failed(error)) => Err(error),
        Err(FetchError::PackGone(pack)) => {
            Err(GatewayError::Corrupt { what: format!("manifest of a part: pack {pack} is gone") })
        }
    }
}
