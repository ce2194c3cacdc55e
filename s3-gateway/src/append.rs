//! Append: PUT with `x-amz-write-offset-bytes`, from top to bottom.
//!
//! | step | does | if we die behind it |
//! |---|---|---|
//! | 1 look | the current version: its end must be the offset | nothing |
//! | 2 store | the body, P1 to P7 of a PUT | orphans |
//! | 3 join | chunks of the body behind those of the current version; only pages that were not full are written anew | orphans |
//! | 4 commit | the longer version takes the place, the owner and the references of the one it continues, if that is still the current one | the append took place |
//!
//! No byte of the object is read or moved, and an append costs what it adds. An append that another write
//! overtook looks again: it goes on only if the object, whichever it is by now, ends at the offset too.
//! Without an object, offset 0 makes one.

use std::collections::BTreeSet;
use std::sync::Arc;

use md5::{Digest as _, Md5};
use stele_chunker::pack::BodyTag;
use stele_chunker::pages::{Growth, Kept, ManifestError};
use stele_chunker::stream::{PackTarget, PackWriter};
use stele_rpc::client::unexpected;
use stele_rpc::error::Code;
use stele_rpc::meta::{AppendVersion, Command, Committed, Contents, MetaReply, PutVersion};
use stele_types::ids::{ObjectRoot, PackId};
use stele_types::limits::{MIB, OBJECT_BYTES_MAX, PART_NUMBER_MAX};
use stele_types::manifest::Manifest;
use stele_types::object::{
    Attributes, Checksum, ChecksumAlgorithm, ChecksumType, ETag, Facts, Lock, Precondition, StoredHeaders, Tags,
    Verdict, Version, Versioning,
};
use stele_types::pack::{PackRow, chunk_list_len};
use stele_types::seam::random_bytes;

use crate::api::{AppendRequest, GetRequest, PutReply, PutRequest};
use crate::bucket::{guard_of, lookup, with_bucket};
use crate::complete::{Joined, joined};
use crate::digests::combine;
use crate::error::GatewayError;
use crate::fetch::{FetchError, RowBook, fetch_chunk};
use crate::gateway::Gateway;
use crate::get::head_object;
use crate::lease::WriteStart;
use crate::packer::writer_failed;
use crate::put::{VersionIds, admit, attributes_of, begin, check, new_owner, plan, store};
use crate::store::store_pack;
use crate::walk::walk;

/// How often an append looks again after another write overtook it.
const TRIES: usize = 8;
/// Memory that entries and pages are counted with.
const JOIN_BYTES: usize = 8 * MIB;

/// Appends a body to an object, or makes one.
///
/// # Durability
/// Ok: every shard of every pack, and the commit, are on stable media.
/// Err: nothing became visible, except that `Unavailable` may hide a commit that took place.
///
/// # Errors
/// `InvalidWriteOffset` unless the object ends at the offset; `TooManyParts`; `InvalidRequest` in a bucket
/// with versions, and for headers that an existing object would not take; `EntityTooLarge`; `Conflict` if
/// other writes keep overtaking it; and as [`crate::put::put_object`].
///
/// # Cancel
/// As [`crate::put::put_object`].
pub async fn append_object(gw: &Arc<Gateway>, request: AppendRequest) -> Result<PutReply, GatewayError> {
    let AppendRequest { put, offset } = request;
    let PutRequest { bucket, key, mut body, headers, tags, lock, precondition, origin } = put;
    require_no_versions(gw, &bucket).await?;
    if !lock.is_unset() {
        let what = "Object lock needs versions, and an append replaces the object: leave the lock headers out.";
        return Err(GatewayError::InvalidRequest { what: what.into() });
    }
    let target = Target { bucket, key, headers, tags, precondition, origin, offset };
    if let Some(base) = target.look(gw).await? {
        body.compute.extend(kept_checksums(&base.attributes).map(|checksum| checksum.algorithm));
    }
    let charge = admit(gw, &target.key, &target.headers, &body).await?;
    let start = begin(gw, &target.bucket).await?;
    plan(gw, &target.bucket).await?;
    let (stored, expected) = store(gw, &start, body, charge).await?;
    let checked = check(gw, stored, expected)?;
    let part = attributes_of(&checked, target.headers.clone(), target.tags.clone());
    let (manifest, packs, _under_way) = checked.body.into_contents();
    let body = Body { part, manifest, packs };
    for _ in 0..TRIES {
        let committed = match target.look(gw).await? {
            None => target.make(gw, &start, &body).await?,
            Some(base) => match joined_to(gw, &start, &base, &body).await? {
                None => None,
                Some(longer) => target.extend(gw, &start, (&base, &body), &longer).await?,
            },
        };
        if let Some(committed) = committed {
            return Ok(committed);
        }
        tracing::debug!(key = target.key, "another write overtook an append, which looks again");
    }
    Err(GatewayError::Conflict { what: "other writes keep overtaking the append".into() })
}

async fn require_no_versions(gw: &Gateway, bucket: &str) -> Result<(), GatewayError> {
    if lookup(gw, bucket).await?.versioning == Versioning::Unset {
        return Ok(());
    }
    let what = "Appending needs a bucket whose versioning was never set, as each append replaces the object.";
    Err(GatewayError::InvalidRequest { what: what.into() })
}

/// What was stored of a request's body: an object of its own, as it were.
struct Body {
    part: Attributes,
    manifest: Manifest,
    packs: Vec<PackRow>,
}

/// Where to append, and on what condition.
struct Target {
    bucket: String,
    key: String,
    headers: StoredHeaders,
    tags: Tags,
    precondition: Precondition,
    origin: stele_rpc::meta::Origin,
    offset: u64,
}

impl Target {
    /// Step 1: the version to continue, if everything that was asked for holds of it now.
    async fn look(&self, gw: &Arc<Gateway>) -> Result<Option<Box<Version>>, GatewayError> {
        let base = match head_object(gw, GetRequest::current(&self.bucket, &self.key)).await {
            Ok(reply) => Some(reply.version),
            Err(GatewayError::NoSuchKey { .. }) => None,
            Err(error) => return Err(error),
        };
        decide(&self.precondition, base.as_deref())?;
        let len = base.as_ref().map_or(0, |base| base.attributes.len);
        if len != self.offset {
            return Err(GatewayError::InvalidWriteOffset { offset: self.offset, len });
        }
        let Some(base) = base else { return Ok(None) };
        // A Content-Type is sent by every SDK and describes the body as much as the object.
        let plain = StoredHeaders { content_type: self.headers.content_type.clone(), ..StoredHeaders::default() };
        if self.headers != plain || self.tags != Tags::default() {
            let what = "An append keeps the headers, metadata and tags of the object: send none but Content-Type.";
            return Err(GatewayError::InvalidRequest { what: what.into() });
        }
        let parts = base.attributes.part_lens.len().max(1);
        if parts >= usize::from(PART_NUMBER_MAX) {
            return Err(GatewayError::TooManyParts { parts, max: usize::from(PART_NUMBER_MAX) });
        }
        Ok(Some(base))
    }

    /// Step 4 where there was no object; `None` if there is one by now.
    async fn make(&self, gw: &Gateway, start: &WriteStart, body: &Body) -> Result<Option<Committed>, GatewayError> {
        let contents = Contents { owner: new_owner(gw), manifest: body.manifest.clone(), packs: body.packs.clone() };
        let ids = VersionIds::draw(gw);
        let put = |guard| self.put(guard, &ids, Precondition::Absent, (body.part.clone(), contents.clone()));
        self.commit(gw, start, Code::PreconditionFailed, |guard| Command::PutVersion(Box::new(put(guard)))).await
    }

    /// Step 4; `None` if the base is not the current version any more.
    async fn extend(
        &self,
        gw: &Gateway,
        start: &WriteStart,
        (base, body): (&Version, &Body),
        longer: &Longer,
    ) -> Result<Option<Committed>, GatewayError> {
        let attributes = continued(&base.attributes, &body.part, longer.root)?;
        let contents = Contents { owner: base.owner, manifest: longer.manifest.clone(), packs: longer.packs.clone() };
        let ids = VersionIds::draw(gw);
        let put = |guard| self.put(guard, &ids, Precondition::None, (attributes.clone(), contents.clone()));
        let make = |guard| {
            let released = longer.released.clone();
            Command::AppendVersion(Box::new(AppendVersion { put: put(guard), base: base.id, released }))
        };
        self.commit(gw, start, Code::StaleVersion, make).await
    }

    fn put(
        &self,
        guard: stele_rpc::meta::WriteGuard,
        ids: &VersionIds,
        precondition: Precondition,
        (attributes, contents): (Attributes, Contents),
    ) -> PutVersion {
        PutVersion {
            guard,
            key: self.key.clone(),
            nonce: ids.nonce,
            salt: ids.salt,
            replaced_salt: ids.replaced_salt,
            precondition,
            attributes,
            contents,
            lock: Lock::default(),
        }
    }

    /// Sends a command; `None` if it is refused with `overtaken`.
    async fn commit<F>(
        &self,
        gw: &Gateway,
        start: &WriteStart,
        overtaken: Code,
        make: F,
    ) -> Result<Option<Committed>, GatewayError>
    where
        F: Fn(stele_rpc::meta::WriteGuard) -> Command + Send + Sync,
    {
        let _timer = gw.metrics.time(crate::metrics::Step::P8Commit);
        with_bucket(gw, &self.bucket, |row| {
            let command = make(guard_of(&row, start.epoch()));
            let origin = self.origin.clone();
            async move {
                match gw.leases.command(origin, command).await {
                    Ok(MetaReply::Committed(committed)) => Ok(Some(committed)),
                    Ok(_) => Err(unexpected("no commit to an append")),
                    Err(error) if error.code == overtaken => Ok(None),
                    Err(error) => Err(error),
                }
            }
        })
        .await
    }
}

/// Decides a condition on the version that is to be continued; the commit makes sure that it is still that.
fn decide(precondition: &Precondition, base: Option<&Version>) -> Result<(), GatewayError> {
    let facts =
        base.map(|base| Facts { etag: base.attributes.etag, len: base.attributes.len, modified: base.modified });
    match precondition.verdict(facts.as_ref()) {
        Verdict::Holds => Ok(()),
        Verdict::NoKey => Err(GatewayError::PreconditionNoKey),
        Verdict::Fails => Err(GatewayError::PreconditionFailed),
    }
}

/// Checksums that can be continued: those of all bytes whose algorithm can join two pieces.
fn kept_checksums(attributes: &Attributes) -> impl Iterator<Item = &Checksum> {
    let joins = |algorithm| {
        matches!(algorithm, ChecksumAlgorithm::Crc32 | ChecksumAlgorithm::Crc32c | ChecksumAlgorithm::Crc64Nvme)
    };
    attributes.checksums.iter().filter(move |c| c.kind == ChecksumType::FullObject && joins(c.algorithm))
}

/// What is known of an object and a part behind it. Every append makes a part; what one PUT made is one.
fn continued(base: &Attributes, part: &Attributes, root: ObjectRoot) -> Result<Attributes, GatewayError> {
    let len = base.len.saturating_add(part.len);
    if len > OBJECT_BYTES_MAX {
        return Err(GatewayError::EntityTooLarge { len, max: OBJECT_BYTES_MAX });
    }
    let mut part_lens = if base.part_lens.is_empty() { vec![base.len] } else { base.part_lens.clone() };
    part_lens.push(part.len);
    let mut md5 = Md5::new();
    md5.update(base.etag.md5.to_be_bytes());
    md5.update(part.etag.md5.to_be_bytes());
    let parts = u16::try_from(part_lens.len()).unwrap_or(u16::MAX);
    let joined = |known: &Checksum| {
        let more = part.checksums.iter().find(|c| c.algorithm == known.algorithm)?;
        let value = combine(known.algorithm, &known.value, &more.value, part.len)?;
        Some(Checksum { value, ..known.clone() })
    };
    Ok(Attributes {
        len,
        etag: ETag { md5: u128::from_be_bytes(md5.finalize().into()), parts },
        root,
        body_hash: None,
        checksums: kept_checksums(base).filter_map(joined).collect(),
        part_lens,
        part_checksums: bytes::Bytes::new(),
        ..base.clone()
    })
}

/// The manifest of an object and a body behind it.
struct Longer {
    root: ObjectRoot,
    manifest: Manifest,
    /// Packs that the base did not refer to.
    packs: Vec<PackRow>,
    /// Packs that only the base needs.
    released: Vec<PackId>,
}

/// Step 3; `None` if the base went meanwhile.
async fn joined_to(
    gw: &Arc<Gateway>,
    start: &WriteStart,
    base: &Version,
    body: &Body,
) -> Result<Option<Longer>, GatewayError> {
    let _charge = gw.budget.charge(JOIN_BYTES).await?;
    let rows = RowBook::default();
    let made = async {
        let kept = kept_of(gw, &rows, base).await?;
        let released = released(gw, &rows, &kept).await?;
        rows.learn(body.packs.clone());
        let added = walk(gw, &rows, &body.part.root, &body.manifest, 0..body.part.len).await?;
        let mut writer = PackWriter::new(random_bytes(gw.rng.as_ref()), PackTarget::new(JOIN_BYTES / 2));
        writer.begin_body(BodyTag(0), start.epoch(), Some(0)).map_err(writer_failed)?;
        let mut full = writer.keep(kept).map_err(writer_failed)?;
        // Pages of the body alone are not needed any more, nor packs that hold nothing else.
        let mut needed = BTreeSet::new();
        for chunk in added.chunks {
            needed.insert(chunk.item.pack);
            full.extend(writer.push_entry(chunk.item).map_err(writer_failed)?);
        }
        let (ended, more) = writer.end_body().map_err(writer_failed)?;
        full.extend(more);
        full.extend(writer.seal().map_err(writer_failed)?);
        let mut manifests: Vec<_> = full.iter().flat_map(|pack| pack.manifests.iter().cloned()).collect();
        let stored = futures::future::try_join_all(full.into_iter().map(|pack| store_pack(gw, pack))).await?;
        let Joined { root, manifest, mut packs } = joined(ended, manifests.pop(), &stored)?;
        packs.extend(body.packs.iter().filter(|row| needed.contains(&row.pack)).cloned());
        Ok(Longer { root, manifest, packs, released })
    };
    match made.await {
        Ok(longer) => Ok(Some(longer)),
        Err(FetchError::PackGone(_)) => Ok(None),
        Err(FetchError::Failed(error)) => Err(error),
    }
}

async fn kept_of(gw: &Gateway, rows: &RowBook, base: &Version) -> Result<Kept, FetchError> {
    let damaged = |error: ManifestError| GatewayError::Corrupt { what: format!("manifest: {error}") };
    let mut growth = Growth::new(&base.attributes.root, &base.manifest).map_err(damaged)?;
    while let Some(page) = growth.needs().cloned() {
        let bytes = fetch_chunk(gw, rows, &page).await?;
        growth.page(&bytes.concat()).map_err(damaged)?;
    }
    let open = || GatewayError::Internal { what: "the right edge of a manifest is not complete".into() };
    Ok(growth.finish().ok_or_else(open)?)
}

/// Packs that hold the superseded pages and nothing else. Their length proves it: a pack has the bytes
/// of its chunks and pages, and one row of its list for each.
async fn released(gw: &Gateway, rows: &RowBook, kept: &Kept) -> Result<Vec<PackId>, FetchError> {
    let packs: BTreeSet<PackId> = kept.superseded.iter().map(|page| page.pack).collect();
    let mut released = Vec::new();
    for pack in packs {
        let row = rows.row(gw, pack).await?;
        let pages = kept.superseded.iter().filter(|page| page.pack == pack);
        let (count, bytes) = pages.fold((0, 0), |(count, bytes), page| (count + 1, bytes + page.stored_len as usize));
        if row.payload_len as usize == bytes + chunk_list_len(count) {
            released.push(pack);
        }
    }
    Ok(released)
}
