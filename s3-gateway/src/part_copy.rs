//! UploadPartCopy: a part made of a range of an object. Whole chunks are referred to, never moved.
//!
//! | step | does | if we die behind it |
//! |---|---|---|
//! | 1 begin | the upload, then a start epoch, as for a part | nothing |
//! | 2 resolve | the source version, its range, the chunks in it | nothing |
//! | 3 protect | references of the part to the packs of whole chunks (protect.rs) | dropped when the fence passes the epoch |
//! | 4 ends | chunks of which only a piece is in the range are read, verified, and that piece stored | orphans |
//! | 5 digests | ETag and checksums, by reading only where they can't be known otherwise | nothing new |
//! | 6 commit | the part row takes the references over | the part exists |
//!
//! What the ETag of such a part is: docs/decisions/0007-etags-of-copied-parts.md.

use std::sync::Arc;

use futures::future::try_join_all;
use stele_chunker::pack::{BodyManifest, BodyTag};
use stele_chunker::pages::Located;
use stele_chunker::stream::{PackTarget, PackWriter};
use stele_types::ids::{Epoch, ObjectRoot, PackId};
use stele_types::limits::{CHUNK_BYTES_MAX, MIB, PUT_BODY_BYTES_MAX};
use stele_types::manifest::{ChunkEntry, Manifest};
use stele_types::object::{Checksum, ChecksumAlgorithm, ChecksumType, ETag, Part, Version};
use stele_types::pack::PackRow;
use stele_types::seam::random_bytes;

use crate::api::{ByteRange, GetRequest, PartCopyReply, PartCopyRequest};
use crate::cache::Pieces;
use crate::complete::joined;
use crate::error::GatewayError;
use crate::fetch::{FetchError, RowBook, fetch_chunk};
use crate::gateway::Gateway;
use crate::lease::WriteStart;
use crate::multipart::{check_part_number, commit_part, upload_row};
use crate::packer::writer_failed;
use crate::protect::{Keeper, is_gone, keep, pinned, source_version};
use crate::put::{begin, new_owner, plan};
use crate::redigest::digest_stored;
use crate::store::{StoredPack, store_pack};
use crate::walk::{Walked, walk};

/// How often a copy begins anew because its source was replaced meanwhile.
const SOURCE_TRIES: usize = 4;
/// Memory that the entries and pages of one part are counted with, besides the ends.
const ENTRIES_BYTES: usize = 8 * MIB;
/// Names what the tag of a part that was not read is derived for.
const ETAG_CONTEXT: &str = "stele v1 etag of a copied part";

/// Makes a part of a range of an object.
///
/// # Durability
/// Ok: the part row is committed; its bytes are those of the source, which were durable before, and
/// pieces of its chunks, which are durable now.
///
/// # Errors
/// `NoSuchUpload`; as [`crate::get::head_object`] for the source, with `PreconditionFailed` for any
/// condition; `InvalidArgument` for a range that is not inside the source; `InvalidRequest` for more
/// than 5 GiB; `Conflict` if the source keeps changing; and as [`crate::put::put_object`].
///
/// # Cancel
/// As [`crate::put::put_object`].
pub async fn copy_part(gw: &Arc<Gateway>, request: PartCopyRequest) -> Result<PartCopyReply, GatewayError> {
    check_part_number(request.number)?;
    let upload = upload_row(gw, &request.upload).await?;
    let wanted: Vec<ChecksumAlgorithm> = upload.checksum.iter().map(|(algorithm, _)| *algorithm).collect();
    let start = begin(gw, &request.upload.bucket).await?;
    plan(gw, &request.upload.bucket).await?;
    for _ in 0..SOURCE_TRIES {
        let source = source_version(gw, &request.source).await?;
        let range = Slice::of(&source, request.range)?;
        match made(gw, &start, (&request, &wanted), (&source, range)).await {
            Ok(Some((part, packs))) => {
                let part = commit_part(gw, &start, &request.upload, (part, packs), &request.origin).await?;
                return Ok(PartCopyReply { part, source });
            }
            Ok(None) => {}
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
        }
        tracing::info!(key = request.source.key, "overwritten or deleted under a copy; the copy begins anew");
    }
    Err(GatewayError::Conflict { what: "the source of the copy keeps changing".into() })
}

/// The bytes of a source that are copied.
#[derive(Clone, Copy)]
struct Slice {
    first: u64,
    end: u64,
    /// It is all of the source.
    whole: bool,
}

impl Slice {
    fn of(source: &Version, range: Option<(u64, u64)>) -> Result<Self, GatewayError> {
        let total = source.attributes.len;
        let (first, end) = match range {
            None => (0, total),
            Some((first, last)) if first <= last && last < total => (first, last + 1),
            Some(_) => {
                let what = format!("Range specified is not valid for source object of size: {total}");
                return Err(GatewayError::InvalidArgument { what });
            }
        };
        if end - first > PUT_BODY_BYTES_MAX {
            let what =
                format!("a part has at most {PUT_BODY_BYTES_MAX} bytes, the source or range has {}", end - first);
            return Err(GatewayError::InvalidRequest { what });
        }
        Ok(Self { first, end, whole: first == 0 && end == total })
    }
}

/// Steps 3 to 5; `None` if the source went meanwhile.
async fn made(
    gw: &Arc<Gateway>,
    start: &WriteStart,
    (request, wanted): (&PartCopyRequest, &[ChecksumAlgorithm]),
    (source, range): (&Version, Slice),
) -> Result<Option<(Part, Vec<PackRow>)>, GatewayError> {
    let attributes = &source.attributes;
    let walked = match walk(gw, &RowBook::default(), &attributes.root, &source.manifest, range.first..range.end).await {
        Err(FetchError::PackGone(_)) => return Ok(None),
        Err(FetchError::Failed(error)) => return Err(error),
        Ok(walked) => walked,
    };
    let keeper = Keeper { start, bucket: &request.upload.bucket, origin: &request.origin, owner: new_owner(gw) };
    let cuts = cut(&walked, range);
    let kept = if range.whole { walked.packs() } else { cuts.iter().filter_map(Cut::whole_in).collect() };
    if !keep(gw, &keeper, (&request.source, source.id), kept).await? {
        return Ok(None);
    }
    let contents = if range.whole {
        Contents { root: attributes.root, manifest: source.manifest.clone(), packs: Vec::new() }
    } else {
        match rewritten(gw, start.epoch(), cuts).await {
            Err(FetchError::PackGone(_)) => return Ok(None),
            Err(FetchError::Failed(error)) => return Err(error),
            Ok(contents) => contents,
        }
    };
    let (etag, checksums) = digests(gw, &request.source, (source, range, contents.root), wanted).await?;
    let part = Part {
        number: request.number,
        generation: 0,
        modified: 0,
        len: range.end - range.first,
        etag,
        checksums,
        owner: keeper.owner,
        manifest: contents.manifest,
    };
    Ok(Some((part, contents.packs)))
}

struct Contents {
    root: ObjectRoot,
    manifest: Manifest,
    /// Packs of this copy's own.
    packs: Vec<PackRow>,
}

/// A chunk of the range: all of it, or its bytes from `skip` on, `take` of them.
enum Cut {
    Whole(ChunkEntry),
    Piece { entry: ChunkEntry, skip: usize, take: usize },
}

impl Cut {
    /// The pack of a whole chunk.
    fn whole_in(&self) -> Option<PackId> {
        match self {
            Self::Whole(entry) => Some(entry.pack),
            Self::Piece { .. } => None,
        }
    }

    /// Bytes that must be stored anew.
    fn new_bytes(&self) -> usize {
        match self {
            Self::Whole(_) => 0,
            Self::Piece { take, .. } => *take,
        }
    }
}

/// The chunks of the range as they come into the part.
fn cut(walked: &Walked, range: Slice) -> Vec<Cut> {
    let inside = |n: u64| usize::try_from(n).unwrap_or(CHUNK_BYTES_MAX);
    let of = |chunk: &Located<ChunkEntry>| {
        let (offset, entry) = (chunk.offset, chunk.item.clone());
        let end = offset + u64::from(entry.len);
        if range.first <= offset && end <= range.end {
            return Cut::Whole(entry);
        }
        let skip = range.first.saturating_sub(offset);
        Cut::Piece { skip: inside(skip), take: inside(end.min(range.end) - offset - skip), entry }
    };
    walked.chunks.iter().map(of).collect()
}

/// Step 4: the part's manifest, with the pieces at its ends and its pages in packs of its own.
async fn rewritten(gw: &Arc<Gateway>, epoch: Epoch, cuts: Vec<Cut>) -> Result<Contents, FetchError> {
    let ends: usize = cuts.iter().map(Cut::new_bytes).sum();
    // The pieces as read, their copy in the pack, and its parity.
    let _charge = gw.budget.charge(ENTRIES_BYTES + 2 * CHUNK_BYTES_MAX + 2 * ends).await?;
    let rows = RowBook::default();
    let mut writer = PackWriter::new(random_bytes(gw.rng.as_ref()), PackTarget::MAX);
    writer.begin_body(BodyTag(0), epoch, Some(ends as u64)).map_err(writer_failed)?;
    let mut full = Vec::new();
    for cut in cuts {
        match cut {
            Cut::Whole(entry) => full.extend(writer.push_entry(entry).map_err(writer_failed)?),
            Cut::Piece { entry, skip, take } => {
                let bytes = piece_of(&fetch_chunk(gw, &rows, &entry).await?, skip, take);
                full.extend(writer.push_chunk(&bytes).map_err(writer_failed)?);
            }
        }
    }
    let (ended, more) = writer.end_body().map_err(writer_failed)?;
    full.extend(more);
    full.extend(writer.seal().map_err(writer_failed)?);
    let mut manifests: Vec<BodyManifest> = full.iter().flat_map(|pack| pack.manifests.iter().cloned()).collect();
    let stored: Vec<StoredPack> = try_join_all(full.into_iter().map(|pack| store_pack(gw, pack))).await?;
    let joined = joined(ended, manifests.pop(), &stored)?;
    Ok(Contents { root: joined.root, manifest: joined.manifest, packs: joined.packs })
}

fn piece_of(pieces: &Pieces, mut skip: usize, mut take: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(take);
    for piece in pieces.iter() {
        let start = skip.min(piece.len());
        let len = take.min(piece.len() - start);
        out.extend_from_slice(&piece.slice(start..start + len));
        skip -= start;
        take -= len;
    }
    out
}

/// Step 5. The bytes are read only if the upload asks for a checksum that is not known of the source.
async fn digests(
    gw: &Arc<Gateway>,
    from: &GetRequest,
    (source, range, root): (&Version, Slice, ObjectRoot),
    wanted: &[ChecksumAlgorithm],
) -> Result<(ETag, Vec<Checksum>), GatewayError> {
    let attributes = &source.attributes;
    let known: Vec<Checksum> = match range.whole {
        true => attributes.checksums.iter().filter(|c| c.kind == ChecksumType::FullObject).cloned().collect(),
        false => Vec::new(),
    };
    if wanted.iter().all(|algorithm| known.iter().any(|checksum| checksum.algorithm == *algorithm)) {
        let etag = match attributes.etag {
            md5 @ ETag { parts: 0, .. } if range.whole => md5,
            _ => derived_etag(&root),
        };
        return Ok((etag, known));
    }
    let bytes = ByteRange::From { first: range.first, last: Some(range.end.saturating_sub(1)) };
    let range = (!range.whole).then_some(bytes);
    let read = digest_stored(gw, GetRequest { range, ..pinned(from, source.id) }, wanted).await?;
    let etag = ETag { md5: u128::from_be_bytes(read.md5), parts: 0 };
    Ok((etag, read.all()))
}

/// A tag of 128 bits for bytes that were not read.
fn derived_etag(root: &ObjectRoot) -> ETag {
    let hash = blake3::derive_key(ETAG_CONTEXT, root.as_bytes());
    let (tag, _) = hash.split_at(16);
    ETag { md5: tag.iter().fold(0, |tag, byte| tag << 8 | u128::from(*byte)), parts: 0 }
}
