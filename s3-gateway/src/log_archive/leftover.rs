//! Objects that became no archive: their gateway died between storing one and having it noted, or between noting one and
//! removing what it replaces.

use std::sync::Arc;

use stele_rpc::meta::{ArchiveObject, LOG_BUCKET, ListPage, ListQuery, ListedKey, LogRead, LogReply};
use stele_types::seam::UnixMillis;

use super::anchors;
use super::make::remove;
use super::object::info;
use super::read::ask_metadata;
use crate::error::{GatewayError, unexpected_reply};
use crate::gateway::Gateway;
use crate::list::list_keys;

/// Archives are below it.
const PREFIX: &str = "log/";
/// Whoever makes an archive gives up sooner.
const AGE_MS: u64 = 3_600_000;
/// Keys of one page.
const KEYS_PER_CALL: u32 = 1000;

/// Removes what is left over; says how much it was. The metadata service refuses to remove what is an archive.
pub(super) async fn sweep(gw: &Arc<Gateway>) -> Result<usize, GatewayError> {
    let LogReply::Head(head) = ask_metadata(gw, LogRead::Head).await? else { return Err(unexpected_reply("Head")) };
    // The metadata leader's clock, as in what objects say of their age. This gateway's own may be wrong.
    let Some(now) = head.checkpoint.map(|checkpoint| checkpoint.time) else { return Ok(0) };
    let (mut after, mut removed, mut held) = (None, 0, Vec::new());
    loop {
        let Some(page) = page(gw, PREFIX, after.take()).await? else { return Ok(0) };
        after = page.next_after.filter(|_| page.truncated);
        held.extend(page.rows);
        let doubtful = doubtful(&held, now, after.is_none());
        for key in doubtful {
            let object = ArchiveObject { bucket: LOG_BUCKET.to_owned(), key: key.key, version: key.id };
            let Some(number) = number_of(&object.key) else { continue };
            if info(gw, number).await?.is_none_or(|known| known.object != object) {
                remove(gw, &object).await?;
                removed += 1;
            }
        }
        if after.is_none() {
            return Ok(removed + anchors_left(gw, now).await?);
        }
        // Objects of one archive may stand on two pages.
        let last = held.last().and_then(|key| number_of(&key.key));
        held.retain(|key| number_of(&key.key) == last);
    }
}

async fn page(
    gw: &Arc<Gateway>,
    prefix: &str,
    after: Option<String>,
) -> Result<Option<ListPage<ListedKey>>, GatewayError> {
    let query = ListQuery { prefix: prefix.to_owned(), after, max: KEYS_PER_CALL, ..ListQuery::default() };
    match list_keys(gw, LOG_BUCKET, query).await {
        Err(GatewayError::NoSuchBucket { .. }) => Ok(None),
        page => page.map(Some),
    }
}

/// As [`sweep`], of files with anchors.
async fn anchors_left(gw: &Arc<Gateway>, now: UnixMillis) -> Result<usize, GatewayError> {
    let (mut after, mut removed) = (None, 0);
    while let Some(page) = page(gw, anchors::PREFIX, after.take()).await? {
        for key in page.rows.into_iter().filter(|key| key.modified.saturating_add(AGE_MS) < now) {
            let object = ArchiveObject { bucket: LOG_BUCKET.to_owned(), key: key.key, version: key.id };
            removed += usize::from(anchors::remove_left(gw, &object).await?);
        }
        after = page.next_after.filter(|_| page.truncated);
        if after.is_none() {
            break;
        }
    }
    Ok(removed)
}

fn number_of(key: &str) -> Option<u64> {
    let (number, random) = key.strip_prefix(PREFIX)?.split_once('-')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    (number.len() == 20 && random.len() == 8 && digits(random)).then(|| number.parse().ok()).flatten()
}

/// Objects, of those that are old enough, that may be none of the log's: archives are made in order and have one object
/// each, so that an object that is alone and not at the end is the archive. `ends`: no keys follow.
fn doubtful(keys: &[ListedKey], now: UnixMillis, ends: bool) -> Vec<ListedKey> {
    let of = |at: usize| keys.get(at).and_then(|key| number_of(&key.key));
    let mut found = Vec::new();
    for (at, key) in keys.iter().enumerate() {
        let number = number_of(&key.key);
        let beside = at.checked_sub(1).and_then(of) == number || of(at + 1) == number;
        let last = ends && number == of(keys.len().saturating_sub(1));
        if number.is_some() && (beside || last) && key.modified.saturating_add(AGE_MS) < now {
            found.push(key.clone());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use stele_types::ids::{CommitSeq, VersionId};

    use super::*;

    fn key(name: &str, modified: UnixMillis) -> ListedKey {
        ListedKey {
            key: name.to_owned(),
            id: VersionId { commit_seq: CommitSeq(1), nonce: 1 },
            null_version: true,
            latest: true,
            delete_marker: false,
            modified,
            len: 1,
            etag: String::new(),
            checksums: Vec::new(),
        }
    }

    #[test]
    fn only_objects_that_are_old_and_may_be_no_archive_are_looked_at() {
        let names = [
            "log/00000000000000000000-aaaaaaaa",
            "log/00000000000000000001-aaaaaaaa",
            "log/00000000000000000001-bbbbbbbb",
            "log/00000000000000000002-aaaaaaaa",
            "log/00000000000000000003-aaaaaaaa",
            "log/readme",
        ];
        let keys: Vec<ListedKey> = names.iter().map(|name| key(name, 1000)).collect();
        let looked_at = |keys: &[ListedKey], now, ends| {
            doubtful(keys, now, ends).into_iter().map(|key| key.key).collect::<Vec<_>>()
        };
        assert_eq!(looked_at(&keys[..5], 1001 + AGE_MS, false), names[1..3], "two of one archive");
        assert_eq!(
            looked_at(&keys[..5], 1001 + AGE_MS, true),
            [&names[1..3], &names[4..5]].concat(),
            "and the last one"
        );
        assert!(looked_at(&keys, 1000 + AGE_MS, true).is_empty(), "an hour has not passed");
        assert_eq!(looked_at(&keys, 1001 + AGE_MS, true), names[1..3], "what is none of ours stays");
    }

    #[test]
    fn keys_of_archives_have_one_form() {
        assert_eq!(number_of("log/00000000000000000017-0123abcd"), Some(17));
        for other in [
            "log/17-0123abcd",
            "log/00000000000000000017",
            "log/00000000000000000017-xyz",
            "log/00000000000000000017-0123abcde",
            "log/0000000000000000001x-0123abcd",
            "00000000000000000017-0123abcd",
        ] {
            assert_eq!(number_of(other), None, "{other}");
        }
    }
}
