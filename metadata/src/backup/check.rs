//! Whether the rows of a backup fit each other: what a drill and a restore ask before anything else. Reads every row once.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use stele_evidence::record::Entry;
use stele_evidence::tiles::{TileSource as _, range_root};
use stele_evidence::tree::leaf_hash;
use stele_types::ids::{LogIndex, PackId, PgId};
use stele_types::manifest::Manifest;
use stele_types::map::ClusterMap;
use stele_types::object::BucketRow;
use stele_types::pack::PackRow;

use super::BackupError;
use crate::apply::{TileRows, edge_of};
use crate::archives::Archives;
use crate::keyspace::{self, CHECKPOINT, DATA, MAP, ROOT, Tag};
use crate::kv::{KvRead, KvResult};
use crate::rows::{CheckpointRow, DataRow, RecordRow, RootRow, VersionRow, corrupt, decode, load};

/// Findings that are told by name; the others are counted.
const TOLD: usize = 20;
/// Hashes in a tile.
const TILE: u64 = 256;

/// What a restore would give.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Buckets.
    pub buckets: u64,
    /// Versions, delete markers included.
    pub versions: u64,
    /// Bytes of all versions.
    pub logical_bytes: u64,
    /// Packs.
    pub packs: u64,
    /// References to them.
    pub references: u64,
    /// Drives that the packs are on.
    pub drives: u64,
    /// Entries of the evidence log that have rows.
    pub entries: u64,
    /// Entries before them, which stand in archives: objects on the drives.
    pub archived: u64,
    /// What does not fit; none in a sound backup.
    pub problems: Vec<String>,
    /// Further findings that are not told by name.
    pub untold: u64,
}

impl Report {
    fn note(&mut self, problem: impl FnOnce() -> String) {
        if self.problems.len() < TOLD {
            self.problems.push(problem());
        } else {
            self.untold += 1;
        }
    }

    /// Whether everything fits.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Looks at every row.
///
/// # Errors
/// The store failed, or a row can't be decoded.
pub fn check(rows: &dyn KvRead) -> Result<Report, BackupError> {
    let mut report = Report::default();
    buckets(rows, &mut report)?;
    references(rows, &mut report)?;
    packs(rows, &mut report)?;
    versions(rows, &mut report)?;
    log(rows, &mut report)?;
    Ok(report)
}

/// Visits a table; the first error ends it.
fn each(rows: &dyn KvRead, tag: Tag, mut visit: impl FnMut(&[u8], &[u8]) -> KvResult<()>) -> KvResult<()> {
    let (from, to) = keyspace::table(tag);
    let mut failed = Ok(());
    rows.scan(&from, &to, &mut |key, value| match visit(key, value) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failed = Err(error);
            ControlFlow::Break(())
        }
    })?;
    failed
}

fn buckets(rows: &dyn KvRead, report: &mut Report) -> KvResult<()> {
    let mut names: BTreeMap<String, BucketRow> = BTreeMap::new();
    each(rows, Tag::Bucket, |key, value| {
        let row: BucketRow = decode(key, value)?;
        names.insert(row.name.clone(), row);
        Ok(())
    })?;
    report.buckets = names.len() as u64;
    let noted = load::<RootRow>(rows, &ROOT)?.unwrap_or_default().buckets;
    if noted != report.buckets {
        report.note(|| format!("there are {} buckets, and {noted} were counted", names.len()));
    }
    for name in names.keys() {
        if rows.get(&keyspace::bucket_name(name))?.is_none() {
            report.note(|| format!("bucket {name} is not found by its name"));
        }
    }
    Ok(())
}

/// Every reference names a pack that has a row, in the placement group that the row says.
fn references(rows: &dyn KvRead, report: &mut Report) -> KvResult<()> {
    let mut last: Option<(PgId, PackId)> = None;
    each(rows, Tag::Reference, |key, _| {
        report.references += 1;
        let pg = key.get(1..5).and_then(|pg| pg.try_into().ok()).map(u32::from_be_bytes);
        let (Some(pg), Some(pack)) = (pg.map(PgId), keyspace::referenced_pack(key)) else {
            return Err(corrupt(key, "a reference's key"));
        };
        if last.replace((pg, pack)) == Some((pg, pack)) {
            return Ok(());
        }
        match load::<PackRow>(rows, &keyspace::pack(&pack))? {
            Some(row) if row.pg == pg => {}
            Some(row) => {
                let other = row.pg;
                report.note(|| format!("pack {pack} is referred to in placement group {pg}, and stands in {other}"));
            }
            None => report.note(|| format!("pack {pack} is referred to, and has no row")),
        }
        Ok(())
    })
}

/// Every pack has a reference, and stands in a placement group whose drives are known.
fn packs(rows: &dyn KvRead, report: &mut Report) -> KvResult<()> {
    let map: ClusterMap = load(rows, &MAP)?.unwrap_or_default();
    let mut used = BTreeSet::new();
    each(rows, Tag::Pack, |key, value| {
        report.packs += 1;
        let row: PackRow = decode(key, value)?;
        let (pack, pg) = (row.pack, row.pg);
        let prefix = keyspace::references(pg, &pack);
        let mut referenced = false;
        rows.scan(&prefix, &keyspace::successor(&prefix), &mut |_, _| {
            referenced = true;
            ControlFlow::Break(())
        })?;
        if !referenced {
            report.note(|| format!("nothing refers to pack {pack}, which has a row"));
        }
        match map.pg(pg) {
            Some(row) => used.extend(row.slots.iter().flat_map(|slot| slot.holders())),
            None => report.note(|| format!("pack {pack} stands in placement group {pg}, which the map lacks")),
        }
        Ok(())
    })?;
    report.drives = used.len() as u64;
    for drive in used.iter().filter(|drive| map.drive(**drive).is_none()) {
        report.note(|| format!("drive {drive} is in a placement group, and the map lacks it"));
    }
    Ok(())
}

/// Every version refers to the packs that its manifest names, and they are counted right.
fn versions(rows: &dyn KvRead, report: &mut Report) -> KvResult<()> {
    each(rows, Tag::Version, |key, value| {
        let row: VersionRow = decode(key, value)?;
        report.versions += 1;
        report.logical_bytes = report.logical_bytes.saturating_add(row.len);
        let packs: BTreeSet<PackId> = match &row.manifest {
            Manifest::Inline(entries) => entries.iter().map(|entry| entry.pack).collect(),
            Manifest::Paged { root, .. } => BTreeSet::from([root.page.pack]),
        };
        for pack in packs {
            let pg = load::<PackRow>(rows, &keyspace::pack(&pack))?.map(|row| row.pg);
            let referred = pg.map(|pg| rows.get(&keyspace::reference(pg, &pack, &row.owner))).transpose()?;
            if referred.flatten().is_none() {
                let owner = row.owner;
                report.note(|| format!("the version of owner {owner} needs pack {pack}, and does not refer to it"));
            }
        }
        Ok(())
    })?;
    let data: DataRow = load(rows, &DATA)?.unwrap_or_default();
    let (found, noted) = ((report.versions, report.logical_bytes), (data.versions, data.logical_bytes));
    if found != noted {
        report.note(|| format!("versions and their bytes are {found:?}, and {noted:?} were counted"));
    }
    Ok(())
}

/// The log's root is that of its tiles, its checkpoint is its own, and every record is what its leaf commits to.
fn log(rows: &dyn KvRead, report: &mut Report) -> KvResult<()> {
    let data: DataRow = load(rows, &DATA)?.unwrap_or_default();
    let (size, tiles) = (data.log_size, TileRows(rows));
    let root_at = |size: u64| range_root(&tiles, 0, size).map_err(|error| corrupt(&DATA, error.to_string()));
    if size > 0 && root_at(size)? != edge_of(&data)?.root() {
        report.note(|| format!("the evidence log has another root at {size} than its tiles"));
    }
    let checkpoint: Option<CheckpointRow> = load(rows, &CHECKPOINT)?;
    let signed = checkpoint.iter().filter_map(|row| row.published.as_ref()).map(|row| (row.size, row.root.0));
    let heads = checkpoint.iter().map(|row| (row.size, row.root.0)).chain(signed);
    for (head, root) in heads.collect::<BTreeSet<_>>() {
        if head > size || (head > 0 && root_at(head)? != root) {
            report.note(|| format!("the checkpoint of size {head} is not one of this log"));
        }
    }
    let begin = Archives::load(rows)?.end().0;
    (report.archived, report.entries) = (begin, size.saturating_sub(begin));
    let mut tile = (u64::MAX, Vec::new());
    for index in begin..size {
        if tile.0 != index / TILE {
            tile = (index / TILE, tiles.tile(0, index / TILE)?);
        }
        let leaf = usize::try_from(index % TILE).ok().and_then(|at| tile.1.get(at));
        let row: Option<RecordRow> = load(rows, &keyspace::record(LogIndex(index)))?;
        let entry = row.and_then(|row| match (row.erased, row.salt) {
            (Some(erased), _) => Some(erased.entry.0),
            (None, Some(salt)) => Some(Entry::new(&salt, &row.record).0),
            (None, None) => None,
        });
        if entry.map(|entry| leaf_hash(&entry)).as_ref() != leaf {
            report.note(|| format!("entry {index} of the evidence log is not what its leaf commits to"));
        }
    }
    Ok(())
}
