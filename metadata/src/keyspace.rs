//! The whole key space of the state machine on one screen. Keys are order-preserving bytes: a tag,
//! then big-endian numbers, fixed-length ids and terminated names. Values are in [`crate::rows`].
//! Used by apply and reads; nothing else builds keys. Also in docs/formats/metadata-rows.md.
//!
//! | tag | key | value |
//! |---|---|---|
//! | 01 | `01` | last applied raft entry and membership |
//! | 01 | `02` | [`crate::rows::GroupRow`]: commit clock |
//! | 01 | `03` | [`crate::rows::RootRow`]: epochs, allocators |
//! | 01 | `04` | [`crate::rows::DataRow`]: commit sequence, counters, right edge of the log |
//! | 01 | `05` | cluster map |
//! | 01 | `06` | [`crate::rows::CheckpointRow`]: newest checkpoint of the log, and the note that signs it |
//! | 01 | `07` | [`crate::rows::AuditsRow`]: when an audit last ran by itself |
//! | 01 | `08` | [`crate::rows::PoliciesRow`]: under which trust policy each anchor published last |
//! | 01 | `09` | [`crate::rows::RetentionRow`]: how long evidence is kept, and how far erasing it came |
//! | 01 | `0a` | [`crate::rows::ArchivesRow`]: how many archives of old log entries there are, and tiles that are wanted of them |
//! | 01 | `10` | [`crate::rows::GcRow`]: fences of garbage collection and when they were made, what its last run did |
//! | 01 | `13` | [`crate::rows::BackupsRow`]: backups that are expected, and the newest one |
//! | 01 | `11` | [`crate::rows::RestoreRow`]: the backup that this cluster was restored from last |
//! | 01 | `12` | [`crate::rows::OriginsRow`]: names under which the log was closed |
//! | 10 | bucket name | bucket id |
//! | 11 | bucket id | bucket row |
//! | 12 | lease | lease row |
//! | 13 | lease, sequence | remembered reply |
//! | 14 | token id | join token |
//! | 15 | node | [`crate::rows::AnswerKeyRow`]: key that it signs answers to possession audits with |
//! | 20 | bucket, key, !commit sequence | version row, newest first |
//! | 21 | bucket, key | what a listing shows of the current version; no row for a delete marker |
//! | 22 | bucket, key | key row: events so far, newest and null version; outlives the versions. Bucket 0: subjects of events about the cluster itself |
//! | 30 | bucket, key, upload | upload row |
//! | 31 | upload, part number | part |
//! | 32 | upload | result of a completed upload |
//! | 33 | completion time, upload | index of 32 by age |
//! | 34 | bucket, token | result of a rename that a client's token names |
//! | 35 | time, bucket, token | index of 34 by age |
//! | 40 | PG, pack, owner | reference |
//! | 41 | pack | pack row |
//! | 42 | owner, pack | pack of an owner whose inline manifest does not name it |
//! | 43 | start epoch, owner | owner whose references were staged and not yet committed |
//! | 48 | bucket, key, !commit sequence | [`crate::rows::TrashRow`]: a removed version that can be brought back |
//! | 49 | time of removal, key in 48 without its tag | index of 48 by age |
//! | 4a | bucket | [`crate::rows::SpaceRow`]: what a bucket takes |
//! | 4b | pack | bucket whose write made the pack row |
//! | 50 | log, index | record and salt, or what is left of them; of an archived entry only if it was erased since |
//! | 51 | log, level, tile | hashes |
//! | 52 | chain name | [`crate::rows::ChainStateRow`]: what an anchor remembers of a chain |
//! | 53 | chain name, size | [`crate::rows::AnchorRow`]: a checkpoint that stands on the chain, and the proof |
//! | 54 | archive | [`crate::rows::ArchiveRow`]: an object that holds old entries of the log |
//! | 55 | chain name | [`crate::rows::AnchorsKeptRow`]: how many of its anchors have rows |
//! | 56 | chain name, size | [`crate::rows::AnchorArchiveRow`]: an object that holds its anchors up to this size |

use stele_types::ids::{
    BucketId, CommandSequence, CommitSeq, Epoch, LeaseId, LogIndex, NodeId, OwnerId, PackId, PgId, UploadId,
};

/// First byte of a key: which table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Tag {
    /// Singletons.
    Single = 0x01,
    /// Buckets by name.
    BucketName = 0x10,
    /// Buckets by id.
    Bucket = 0x11,
    /// Leases.
    Lease = 0x12,
    /// Remembered replies.
    Reply = 0x13,
    /// Join tokens.
    JoinToken = 0x14,
    /// Keys of answers to possession audits.
    AnswerKey = 0x15,
    /// Versions.
    Version = 0x20,
    /// Current versions, for listings.
    Current = 0x21,
    /// What outlives a key's versions.
    Key = 0x22,
    /// Uploads.
    Upload = 0x30,
    /// Parts.
    Part = 0x31,
    /// Results of completed uploads.
    Completed = 0x32,
    /// Completed uploads by age.
    CompletedAt = 0x33,
    /// Results of renames by their clients' tokens.
    Renamed = 0x34,
    /// Those by age.
    RenamedAt = 0x35,
    /// References.
    Reference = 0x40,
    /// Pack rows.
    Pack = 0x41,
    /// Packs by owner.
    OwnerPack = 0x42,
    /// Staged owners.
    Staged = 0x43,
    /// Removed versions.
    Trash = 0x48,
    /// Those by age.
    TrashAt = 0x49,
    /// What buckets take.
    Space = 0x4a,
    /// Buckets of packs.
    PackBucket = 0x4b,
    /// Records of the evidence log.
    Record = 0x50,
    /// Tiles of the evidence log.
    Tile = 0x51,
    /// Chains that checkpoints are taken to.
    Chain = 0x52,
    /// Anchors on them.
    Anchor = 0x53,
    /// Archives of the evidence log.
    Archive = 0x54,
    /// How many anchors of a chain have rows.
    AnchorsKept = 0x55,
    /// Archives of anchors.
    AnchorArchive = 0x56,
}

/// The one evidence log of the one group.
pub const LOG_ID: u32 = 0;

/// Applied state.
pub const APPLIED: [u8; 2] = [Tag::Single as u8, 1];
/// Group row.
pub const GROUP: [u8; 2] = [Tag::Single as u8, 2];
/// Root row.
pub const ROOT: [u8; 2] = [Tag::Single as u8, 3];
/// Data row.
pub const DATA: [u8; 2] = [Tag::Single as u8, 4];
/// Cluster map.
pub const MAP: [u8; 2] = [Tag::Single as u8, 5];

/// Newest checkpoint of the log.
pub const CHECKPOINT: [u8; 2] = [Tag::Single as u8, 6];

/// Audits that run by themselves.
pub const AUDITS: [u8; 2] = [Tag::Single as u8, 7];

/// Trust policies that anchors published last.
pub const POLICIES: [u8; 2] = [Tag::Single as u8, 8];

/// How long evidence is kept.
pub const RETENTION: [u8; 2] = [Tag::Single as u8, 9];

/// Archives of old entries of the log.
pub const ARCHIVES: [u8; 2] = [Tag::Single as u8, 10];

/// Garbage collection.
pub const GC: [u8; 2] = [Tag::Single as u8, 0x10];
/// Backups.
pub const BACKUPS: [u8; 2] = [Tag::Single as u8, 0x13];

/// The last restore.
pub const RESTORE: [u8; 2] = [Tag::Single as u8, 0x11];

/// Names under which the log was closed.
pub const ORIGINS: [u8; 2] = [Tag::Single as u8, 0x12];

/// Key that a node signs answers to possession audits with.
pub fn answer_key(node: NodeId) -> Vec<u8> {
    key(Tag::AnswerKey, &[&node.0.to_be_bytes()])
}

/// Node in a key of [`answer_key`].
pub fn answer_key_node(row_key: &[u8]) -> Option<NodeId> {
    row_key.last_chunk().map(|node| NodeId(u64::from_be_bytes(*node)))
}

/// Key of a join token.
pub fn join_token(id: &[u8; 16]) -> Vec<u8> {
    key(Tag::JoinToken, &[id])
}

/// Ends a name inside a key. Names escape 0x00 as 0x00 0xff, so the terminator sorts before every
/// longer name and no name contains it.
const TERMINATOR: [u8; 2] = [0x00, 0x01];

fn key(tag: Tag, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + parts.iter().map(|part| part.len()).sum::<usize>());
    out.push(tag as u8);
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// All rows of one table.
pub fn table(tag: Tag) -> (Vec<u8>, Vec<u8>) {
    (vec![tag as u8], vec![tag as u8 + 1])
}

/// The least key greater than every key that starts with `prefix`. Prefixes start with a tag, so
/// they are never all 0xff.
pub fn successor(prefix: &[u8]) -> Vec<u8> {
    let mut out = prefix.to_vec();
    while let Some(last) = out.pop() {
        if last < 0xff {
            out.push(last + 1);
            break;
        }
    }
    out
}

fn escape_into(out: &mut Vec<u8>, name: &str) {
    for byte in name.as_bytes() {
        out.push(*byte);
        if *byte == 0 {
            out.push(0xff);
        }
    }
}

/// Tag and bucket: all rows of a bucket in one table.
pub fn in_bucket(tag: Tag, bucket: BucketId) -> Vec<u8> {
    key(tag, &[&bucket.0.to_be_bytes()])
}

/// All rows whose name starts with `prefix`.
pub fn name_prefix(tag: Tag, bucket: BucketId, prefix: &str) -> Vec<u8> {
    let mut out = in_bucket(tag, bucket);
    escape_into(&mut out, prefix);
    out
}

/// All rows of exactly this name.
pub fn named(tag: Tag, bucket: BucketId, name: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + 27);
    out.push(tag as u8);
    out.extend_from_slice(&bucket.0.to_be_bytes());
    escape_into(&mut out, name);
    out.extend_from_slice(&TERMINATOR);
    out
}

/// What is remembered of a chain. Names have no zero byte.
pub fn chain(name: &str) -> Vec<u8> {
    key(Tag::Chain, &[name.as_bytes(), &TERMINATOR])
}

/// Name of a chain in its key.
pub fn chain_name(row_key: &[u8]) -> Option<&str> {
    std::str::from_utf8(row_key.get(1..)?.strip_suffix(&TERMINATOR)?).ok()
}

/// An anchor on a chain.
pub fn anchor(chain: &str, size: u64) -> Vec<u8> {
    key(Tag::Anchor, &[chain.as_bytes(), &TERMINATOR, &size.to_be_bytes()])
}

/// How many anchors of a chain have rows.
pub fn anchors_kept(chain: &str) -> Vec<u8> {
    key(Tag::AnchorsKept, &[chain.as_bytes(), &TERMINATOR])
}

/// An archive of anchors up to a size.
pub fn anchor_archive(chain: &str, size: u64) -> Vec<u8> {
    key(Tag::AnchorArchive, &[chain.as_bytes(), &TERMINATOR, &size.to_be_bytes()])
}

/// Size of an anchor in its key.
pub fn anchor_size(row_key: &[u8]) -> Option<u64> {
    row_key.last_chunk().map(|size| u64::from_be_bytes(*size))
}

/// Splits a key of a bucket's table into name and what follows it. `None` if it is not one.
pub fn split_name(row_key: &[u8]) -> Option<(std::borrow::Cow<'_, str>, &[u8])> {
    let body = row_key.get(9..)?;
    let first_zero = body.iter().position(|byte| *byte == 0)?;
    if body.get(first_zero + 1) == Some(&TERMINATOR[1]) {
        let name = std::str::from_utf8(&body[..first_zero]).ok()?;
        return Some((name.into(), &body[first_zero + 2..]));
    }
    let mut name = Vec::with_capacity(body.len());
    let mut rest = body;
    loop {
        match rest {
            [0x00, 0xff, tail @ ..] => {
                name.push(0);
                rest = tail;
            }
            [0x00, 0x01, tail @ ..] => return Some((String::from_utf8(name).ok()?.into(), tail)),
            [0x00, ..] | [] => return None,
            [byte, tail @ ..] => {
                name.push(*byte);
                rest = tail;
            }
        }
    }
}

/// Bucket by name.
pub fn bucket_name(name: &str) -> Vec<u8> {
    key(Tag::BucketName, &[name.as_bytes()])
}

/// Bucket by id.
pub fn bucket(id: BucketId) -> Vec<u8> {
    key(Tag::Bucket, &[&id.0.to_be_bytes()])
}

/// Lease.
pub fn lease(id: LeaseId) -> Vec<u8> {
    key(Tag::Lease, &[&id.0.to_be_bytes()])
}

/// Remembered reply.
pub fn reply(lease: LeaseId, sequence: CommandSequence) -> Vec<u8> {
    key(Tag::Reply, &[&lease.0.to_be_bytes(), &sequence.0.to_be_bytes()])
}

/// All remembered replies of a lease.
pub fn replies(lease: LeaseId) -> Vec<u8> {
    key(Tag::Reply, &[&lease.0.to_be_bytes()])
}

/// Version.
pub fn version(bucket: BucketId, name: &str, seq: CommitSeq) -> Vec<u8> {
    let mut out = named(Tag::Version, bucket, name);
    out.extend_from_slice(&(!seq.0).to_be_bytes());
    out
}

/// Commit sequence from what follows the name in a version's key.
pub fn version_seq(rest: &[u8]) -> Option<CommitSeq> {
    Some(CommitSeq(!u64::from_be_bytes(rest.try_into().ok()?)))
}

/// Upload.
pub fn upload(bucket: BucketId, name: &str, id: UploadId) -> Vec<u8> {
    let mut out = named(Tag::Upload, bucket, name);
    out.extend_from_slice(id.as_bytes());
    out
}

/// Upload id from what follows the name in an upload's key.
pub fn upload_id(rest: &[u8]) -> Option<UploadId> {
    Some(UploadId::from_bytes(rest.try_into().ok()?))
}

/// Part.
pub fn part(upload: UploadId, number: u16) -> Vec<u8> {
    key(Tag::Part, &[upload.as_bytes(), &number.to_be_bytes()])
}

/// All parts of an upload.
pub fn parts(upload: UploadId) -> Vec<u8> {
    key(Tag::Part, &[upload.as_bytes()])
}

/// Result of a completed upload.
pub fn completed(upload: UploadId) -> Vec<u8> {
    key(Tag::Completed, &[upload.as_bytes()])
}

/// Index of completed uploads by age.
pub fn completed_at(time: u64, upload: UploadId) -> Vec<u8> {
    key(Tag::CompletedAt, &[&time.to_be_bytes(), upload.as_bytes()])
}

/// Reads back [`completed_at`].
pub fn split_completed_at(row_key: &[u8]) -> Option<(u64, UploadId)> {
    let (time, upload) = row_key.get(1..)?.split_at_checked(8)?;
    Some((u64::from_be_bytes(time.try_into().ok()?), UploadId::from_bytes(upload.try_into().ok()?)))
}

/// Result of a rename.
pub fn renamed(bucket: BucketId, token: &[u8; 32]) -> Vec<u8> {
    key(Tag::Renamed, &[&bucket.0.to_be_bytes(), token])
}

/// Index of results of renames by age.
pub fn renamed_at(time: u64, bucket: BucketId, token: &[u8; 32]) -> Vec<u8> {
    key(Tag::RenamedAt, &[&time.to_be_bytes(), &bucket.0.to_be_bytes(), token])
}

/// Time, and key of the result, of a key of [`renamed_at`].
pub fn split_renamed_at(row_key: &[u8]) -> Option<(u64, Vec<u8>)> {
    let (time, named) = row_key.get(1..)?.split_at_checked(8)?;
    Some((u64::from_be_bytes(time.try_into().ok()?), key(Tag::Renamed, &[named])))
}

/// Reference.
pub fn reference(pg: PgId, pack: &PackId, owner: &OwnerId) -> Vec<u8> {
    key(Tag::Reference, &[&pg.0.to_be_bytes(), pack.as_bytes(), owner.as_bytes()])
}

/// All references to a pack.
pub fn references(pg: PgId, pack: &PackId) -> Vec<u8> {
    key(Tag::Reference, &[&pg.0.to_be_bytes(), pack.as_bytes()])
}

/// All references within a PG.
pub fn references_of(pg: PgId) -> Vec<u8> {
    key(Tag::Reference, &[&pg.0.to_be_bytes()])
}

/// Pack from the key of a reference.
pub fn referenced_pack(row_key: &[u8]) -> Option<PackId> {
    Some(PackId::from_bytes(row_key.get(5..37)?.try_into().ok()?))
}

/// Pack row.
pub fn pack(id: &PackId) -> Vec<u8> {
    key(Tag::Pack, &[id.as_bytes()])
}

/// Pack of an owner.
pub fn owner_pack(owner: &OwnerId, pack: &PackId) -> Vec<u8> {
    key(Tag::OwnerPack, &[owner.as_bytes(), pack.as_bytes()])
}

/// All packs listed for an owner.
pub fn owner_packs(owner: &OwnerId) -> Vec<u8> {
    key(Tag::OwnerPack, &[owner.as_bytes()])
}

/// Pack from the key of an owner's pack.
pub fn pack_of_owner(row_key: &[u8]) -> Option<PackId> {
    Some(PackId::from_bytes(row_key.get(17..)?.try_into().ok()?))
}

/// Staged owner.
pub fn staged(epoch: Epoch, owner: &OwnerId) -> Vec<u8> {
    key(Tag::Staged, &[&epoch.0.to_be_bytes(), owner.as_bytes()])
}

/// Owner from the key of a staged owner.
pub fn staged_owner(row_key: &[u8]) -> Option<OwnerId> {
    Some(OwnerId::from_bytes(row_key.get(9..)?.try_into().ok()?))
}

/// A removed version.
pub fn trash(bucket: BucketId, name: &str, seq: CommitSeq) -> Vec<u8> {
    let mut out = named(Tag::Trash, bucket, name);
    out.extend_from_slice(&(!seq.0).to_be_bytes());
    out
}

/// Bucket in a key of a bucket's table.
pub fn bucket_in(row_key: &[u8]) -> Option<BucketId> {
    Some(BucketId(u64::from_be_bytes(row_key.get(1..9)?.try_into().ok()?)))
}

/// Index of a removed version by age.
pub fn trash_at(removed: u64, trash_key: &[u8]) -> Vec<u8> {
    key(Tag::TrashAt, &[&removed.to_be_bytes(), trash_key.get(1..).unwrap_or_default()])
}

/// Time, and key of the removed version, of a key of [`trash_at`].
pub fn split_trash_at(row_key: &[u8]) -> Option<(u64, Vec<u8>)> {
    let (time, rest) = row_key.get(1..)?.split_at_checked(8)?;
    Some((u64::from_be_bytes(time.try_into().ok()?), key(Tag::Trash, &[rest])))
}

/// What a bucket takes.
pub fn space(bucket: BucketId) -> Vec<u8> {
    in_bucket(Tag::Space, bucket)
}

/// Bucket whose write made a pack row.
pub fn pack_bucket(id: &PackId) -> Vec<u8> {
    key(Tag::PackBucket, &[id.as_bytes()])
}

/// Record.
pub fn record(index: LogIndex) -> Vec<u8> {
    key(Tag::Record, &[&LOG_ID.to_be_bytes(), &index.0.to_be_bytes()])
}

/// Index of a record in its key.
pub fn record_index(row_key: &[u8]) -> Option<LogIndex> {
    row_key.last_chunk().map(|index| LogIndex(u64::from_be_bytes(*index)))
}

/// Archive of the log.
pub fn archive(number: u64) -> Vec<u8> {
    key(Tag::Archive, &[&number.to_be_bytes()])
}

/// Tile.
pub fn tile(level: u8, index: u64) -> Vec<u8> {
    key(Tag::Tile, &[&LOG_ID.to_be_bytes(), &[level], &index.to_be_bytes()])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};
    use proptest::test_runner::RngSeed;

    use super::*;

    #[test]
    fn successors() {
        assert_eq!(successor(&[1, 2]), [1, 3]);
        assert_eq!(successor(&[1, 0xff, 0xff]), [2]);
    }

    #[test]
    fn damaged_names_are_refused() {
        let b = BucketId(1);
        let good = named(Tag::Version, b, "a\0b");
        assert_eq!(split_name(&good).unwrap(), ("a\0b".into(), &[][..]));
        for cut in 0..good.len() {
            assert!(split_name(&good[..cut]).is_none(), "cut at {cut}");
        }
        let mut not_utf8 = in_bucket(Tag::Version, b);
        not_utf8.extend_from_slice(&[0xff, 0x00, 0x01]);
        assert!(split_name(&not_utf8).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

        #[test]
        fn names_keep_their_order(a in "[\0\u{1}a-c\u{ff}\u{10ffff}]{0,6}", b in "[\0\u{1}a-c\u{ff}\u{10ffff}]{0,6}") {
            let row = |name: &str, seq| version(BucketId(3), name, CommitSeq(seq));
            prop_assert_eq!(row(&a, 5).cmp(&row(&b, 5)), a.as_bytes().cmp(b.as_bytes()));
            prop_assert!(row(&a, 6) < row(&a, 5), "newest first");
            prop_assert_eq!(row(&a, 1).starts_with(&name_prefix(Tag::Version, BucketId(3), &b)), a.starts_with(b.as_str()));
            let key = row(&a, 5);
            let (name, rest) = split_name(&key).unwrap();
            prop_assert_eq!(name.as_ref(), a.as_str());
            prop_assert_eq!(version_seq(rest), Some(CommitSeq(5)));
        }
    }
}
