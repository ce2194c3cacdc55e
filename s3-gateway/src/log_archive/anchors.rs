//! Old anchors of a chain, as files. Format: docs/formats/anchor-archive.md.

use std::sync::Arc;

use bytes::Bytes;
use stele_evidence::anchor_archive::{ANCHORS_MAX, BYTES_MAX, BYTES_SOFT_MAX, MAGIC, decode, encode_to};
use stele_rpc::meta::{
    AnchorsArchive, AnchorsMade, ArchiveObject, KeptAnchor, LogCommand, LogRead, LogReply, TreeHead, VersionSelector,
};

use super::make::{put, remove};
use super::object::read_range;
use super::read::ask_metadata;
use super::{bucket_of_ours, command};
use crate::api::{BodyRequest, ByteRange, GetRequest};
use crate::error::{GatewayError, unexpected_reply};
use crate::gateway::Gateway;
use crate::get::head_object;

/// Files are below it.
pub(super) const PREFIX: &str = "anchors/";

/// The oldest anchors of a chain.
struct File {
    bytes: Vec<u8>,
    first: u64,
    last: u64,
}

/// Puts the oldest anchors of a chain into a file, reads it back, and has their rows dropped.
///
/// # Errors
/// Nothing is dropped; the object is removed, or left over.
pub(super) async fn make(gw: &Arc<Gateway>, chain: &str) -> Result<(), GatewayError> {
    bucket_of_ours(gw).await?;
    let Some(file) = collect(gw, chain).await? else { return Ok(()) };
    let File { bytes, first, last } = file;
    let (hash, len) = (*blake3::hash(&bytes).as_bytes(), bytes.len());
    let key = format!("{PREFIX}{chain}/{first:020}-{last:020}-{:08x}", gw.random_u64() >> 32);
    let object = put(gw, key, BodyRequest::from_bytes(Bytes::from(bytes))).await?;
    let whole = ByteRange::From { first: 0, last: None };
    let (read, _) = read_range(gw, &object, whole, len).await?;
    let noted = if *blake3::hash(&read).as_bytes() == hash {
        let made = AnchorsMade { chain: chain.to_owned(), last, object: object.clone(), hash };
        command(gw, LogCommand::ArchiveAnchors(Box::new(made))).await
    } else {
        Err(GatewayError::Corrupt { what: format!("{}, as it was stored just now, is not what was sent", object.key) })
    };
    match noted {
        Err(error) if !is_noted(gw, &object, last).await? => {
            remove(gw, &object).await?;
            Err(error)
        }
        _ => Ok(()),
    }
}

async fn collect(gw: &Arc<Gateway>, chain: &str) -> Result<Option<File>, GatewayError> {
    let (mut bytes, mut first, mut last, mut count) = (MAGIC.to_vec(), None, 0, 0);
    loop {
        let asked = LogRead::KeptAnchors { chain: chain.to_owned(), after: last };
        let LogReply::Anchors(page) = ask_metadata(gw, asked).await? else {
            return Err(unexpected_reply("KeptAnchors"));
        };
        let ends = page.is_empty();
        for kept in page {
            if count == ANCHORS_MAX || bytes.len() >= BYTES_SOFT_MAX {
                break;
            }
            encode_to(kept.head.size, &kept.head.root, &kept.proof, &mut bytes);
            first = first.or(Some(kept.head.size));
            (last, count) = (kept.head.size, count + 1);
        }
        if ends || count == ANCHORS_MAX || bytes.len() >= BYTES_SOFT_MAX {
            return Ok(first.map(|first| File { bytes, first, last }));
        }
    }
}

/// Whether an object is the file that holds the anchor of this size.
async fn is_noted(gw: &Arc<Gateway>, object: &ArchiveObject, last: u64) -> Result<bool, GatewayError> {
    match ask_metadata(gw, LogRead::Anchors { size: last }).await? {
        LogReply::AnchorsToArchive { archived, .. } => Ok(archived.iter().any(|archive| archive.object == *object)),
        LogReply::Anchors(_) => Ok(false),
        _ => Err(unexpected_reply("Anchors")),
    }
}

/// Removes a file that the metadata service does not know. False: it does, or it is none.
pub(super) async fn remove_left(gw: &Arc<Gateway>, object: &ArchiveObject) -> Result<bool, GatewayError> {
    let Some(last) = last_of(&object.key) else { return Ok(false) };
    if is_noted(gw, object, last).await? {
        return Ok(false);
    }
    remove(gw, object).await.map(|()| true)
}

fn last_of(key: &str) -> Option<u64> {
    let (_, name) = key.strip_prefix(PREFIX)?.rsplit_once('/')?;
    let mut parts = name.split('-');
    let (first, last, random) = (parts.next()?, parts.next()?, parts.next()?);
    let fits = parts.next().is_none() && (first.len(), last.len(), random.len()) == (20, 20, 8);
    fits.then(|| last.parse().ok()).flatten()
}

/// All that was asked for: what rows hold, and what files hold.
///
/// # Errors
/// `Unavailable` or `Corrupt`, which name the object.
pub(super) async fn find(
    gw: &Arc<Gateway>,
    size: u64,
    mut kept: Vec<KeptAnchor>,
    archived: Vec<AnchorsArchive>,
) -> Result<Vec<KeptAnchor>, GatewayError> {
    for archive in archived {
        kept.push(first_in(gw, size, &archive).await.map_err(|error| told(&archive, error))?);
    }
    kept.sort_by(|a, b| a.chain.cmp(&b.chain));
    Ok(kept)
}

async fn first_in(gw: &Arc<Gateway>, size: u64, archive: &AnchorsArchive) -> Result<KeptAnchor, GatewayError> {
    let object = &archive.object;
    let asked = GetRequest {
        version: VersionSelector::Id(object.version),
        ..GetRequest::current(object.bucket.clone(), object.key.clone())
    };
    let damaged = |what: &str| GatewayError::Corrupt { what: what.to_owned() };
    let len = usize::try_from(head_object(gw, asked).await?.range.total).unwrap_or(usize::MAX);
    if len > BYTES_MAX {
        return Err(damaged("it is too long"));
    }
    // As bytes, and as anchors.
    let _charge = gw.budget.charge(len.saturating_mul(2)).await?;
    let (bytes, _) = read_range(gw, object, ByteRange::From { first: 0, last: None }, len).await?;
    if *blake3::hash(&bytes).as_bytes() != archive.hash {
        return Err(damaged("it is not what was archived"));
    }
    let anchors = decode(&bytes).map_err(|error| damaged(&error.to_string()))?;
    let first = anchors.into_iter().find(|anchor| anchor.size >= size);
    let first = first.ok_or_else(|| damaged("it does not hold the anchor"))?;
    let head = TreeHead { size: first.size, root: first.root };
    Ok(KeptAnchor { chain: archive.chain.clone(), head, proof: Bytes::from(first.proof) })
}

/// Names the file that could not be read.
fn told(archive: &AnchorsArchive, error: GatewayError) -> GatewayError {
    let ArchiveObject { bucket, key, .. } = &archive.object;
    let what = format!("old anchors of chain {}, object {bucket}/{key}: {error}", archive.chain);
    match error {
        GatewayError::Corrupt { .. }
        | GatewayError::NoSuchKey { .. }
        | GatewayError::NoSuchVersion
        | GatewayError::NoSuchBucket { .. } => GatewayError::Corrupt { what },
        _ => GatewayError::Unavailable { what },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_files_have_one_form() {
        let name = "00000000000000000010-00000000000000004106-0badcafe";
        assert_eq!(last_of(&format!("anchors/ledger/{name}")), Some(4106));
        for other in ["anchors/ledger", "log/x/y", "anchors/ledger/1-2-3", &format!("anchors/ledger/{name}-x"), name] {
            assert_eq!(last_of(other), None, "{other}");
        }
    }
}
