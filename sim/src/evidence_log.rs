//! Replays the evidence log and compares it with what clients were told (I-4).
//!
//! Each creation and removal of a version must have one record, in an order that leads from an empty
//! bucket to the versions there are; every acknowledged commit must be the record it was told; no
//! value may have been created twice.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use stele_evidence::record::{CLUSTER_ID, Digest, Entry, Event, Record};
use stele_evidence::tree::{Edge, leaf_hash};
use stele_metadata::MetadataNode;
use stele_metadata::keyspace::{self, Tag};
use stele_metadata::kv::{KvRead, KvResult};
use stele_metadata::rows::{RecordRow, decode};
use stele_rpc::meta::MetaStatus;
use stele_types::ids::{LogIndex, VersionId};
use stele_types::object::ETag;
use stele_types::seam::UnixMillis;

use crate::anchors::judge_signed;
use crate::env::{Commit, Env};
use crate::keeper::VAULT;
use crate::runtime::EPOCH_UNIX_MILLIS;
use crate::world::World;

/// How far a commit time may be from true time, ms: the 2 s that a leader may be off, and the age of what
/// it knows of the others' clocks on slow links. One voter at most has a wrong clock in a run.
pub(crate) const CLOCK_SLACK: UnixMillis = 3_500;

/// What the log says of one key so far.
#[derive(Debug, Default)]
struct KeyLog {
    events: u64,
    last: Option<LogIndex>,
    current: Option<(VersionId, String)>,
}

/// The log as it is replayed.
#[derive(Debug, Default)]
struct Replay {
    keys: BTreeMap<String, KeyLog>,
    created: BTreeMap<String, LogIndex>,
    /// The last removal by a delete, and its ETag.
    removed: Option<(LogIndex, String)>,
    by_index: BTreeMap<LogIndex, (Event, String, VersionId)>,
    times: Vec<UnixMillis>,
    wrong: Vec<String>,
    /// Versions of the vault that were removed while they were kept.
    unkept: Vec<String>,
}

impl World {
    /// Replays the log of the metadata service that runs now.
    pub async fn check_log(&self) {
        let Some((service, status)) = self.leader().await else {
            self.env().findings.add("I-4", "no metadata service to read the log of");
            return;
        };
        let outcome = service.view().and_then(|view| replay(&*view, self.env(), &status));
        match outcome {
            Ok(Replay { wrong, unkept, .. }) => {
                if self.topology().voters > 1 && wrong.is_empty() {
                    self.compare_logs(&service);
                }
                wrong.into_iter().for_each(|what| self.env().findings.add("I-4", what));
                unkept.into_iter().for_each(|what| self.env().findings.add("I-6", what));
            }
            Err(error) => self.env().findings.add("I-4", format_args!("the log can't be read: {error}")),
        }
    }
}

impl World {
    /// Every metadata node has the same records, as far as it has them.
    fn compare_logs(&self, leader: &MetadataNode) {
        let found = |what: std::fmt::Arguments<'_>| self.env().findings.add("I-4", what);
        let records = |node: &MetadataNode| node.view().and_then(|view| all_records(&*view));
        let Ok(expected) = records(leader) else { return found(format_args!("the leader's log can't be read")) };
        let others: Vec<_> = self.processes().voters.values().map(|voter| Arc::clone(&voter.service)).collect();
        for other in others {
            match records(&other) {
                Ok(rows) if rows.iter().zip(&expected).all(|(a, b)| a == b) => {}
                Ok(_) => found(format_args!("{other:?} has other records than the leader")),
                Err(error) => found(format_args!("{other:?}: {error}")),
            }
        }
    }
}

fn all_records(rows: &dyn KvRead) -> KvResult<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut records = Vec::new();
    let (from, to) = keyspace::table(Tag::Record);
    rows.scan(&from, &to, &mut |key, value| {
        records.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    })?;
    Ok(records)
}

fn replay(rows: &dyn KvRead, env: &Env, status: &MetaStatus) -> KvResult<Replay> {
    let records = all_records(rows)?;
    let mut replay = Replay::default();
    let mut edge = Edge::default();
    let mut roots = BTreeMap::new();
    let signed = env.signed();
    for (number, (key, value)) in (0u64..).zip(&records) {
        let index = LogIndex(number);
        if *key != keyspace::record(index) {
            replay.wrong.push(format!("record {number} is missing"));
            break;
        }
        let row: RecordRow = decode(key, value)?;
        let Some(salt) = row.salt else {
            replay.wrong.push(format!("record {number} has no salt"));
            continue;
        };
        edge.push(leaf_hash(&Entry::new(&salt, &row.record).0));
        if signed.iter().any(|head| head.size == edge.size()) {
            roots.insert(edge.size(), edge.root());
        }
        match Record::decode(&row.record) {
            Ok(record) => replay.take(index, record),
            Err(error) => replay.wrong.push(format!("record {number}: {error}")),
        }
    }
    if edge.size() != status.log_size || edge.root() != status.log_root {
        replay.wrong.push(format!(
            "{} records give another root than the log of {} entries",
            edge.size(),
            status.log_size
        ));
    }
    replay.wrong.extend(judge_signed(&signed, &roots));
    replay.compare_with_clients(env);
    Ok(replay)
}

impl Replay {
    fn take(&mut self, index: LogIndex, record: Record) {
        let key = self.keys.entry(record.key.clone()).or_default();
        if record.key_event != key.events || record.previous != key.last {
            self.wrong.push(format!(
                "record {index} of {:?} is event {} after {:?}, not {} after {:?}",
                record.key, record.key_event, record.previous, key.events, key.last
            ));
        }
        key.events += 1;
        key.last = Some(index);
        if self.times.last().is_some_and(|before| record.time < *before) {
            self.wrong.push(format!("record {index} was committed before the one before it: time went back"));
        }
        self.times.push(record.time);
        if record.bucket_id == CLUSTER_ID {
            return;
        }
        if record.bucket == VAULT {
            return self.take_of_vault(index, &record);
        }
        let etag = etag_of(&record);
        match record.event {
            Event::Put => {
                if let Some((old, _)) = &key.current {
                    self.wrong.push(format!("record {index} creates {:?} over {old} without its removal", record.key));
                }
                key.current = Some((record.version, etag.clone()));
                // A rename removes a value at one key and creates it at another, in records that follow each other.
                let renamed = self
                    .removed
                    .take()
                    .is_some_and(|removed| removed == (LogIndex(index.0.wrapping_sub(1)), etag.clone()));
                if let Some(first) = self.created.insert(etag.clone(), index).filter(|_| !renamed) {
                    self.wrong.push(format!(
                        "the value {etag} of {:?} was created twice: records {first} and {index}",
                        record.key
                    ));
                }
            }
            Event::Delete | Event::Overwrite => {
                self.removed = (record.event == Event::Delete).then_some((index, etag));
                if key.current.take().is_none_or(|(current, _)| current != record.version) {
                    self.wrong.push(format!(
                        "record {index} removes {} of {:?}, which is not there",
                        record.version, record.key
                    ));
                }
            }
            Event::DeleteMarker => self.wrong.push(format!("record {index}: a delete marker without versioning")),
            Event::Retention | Event::LegalHold => self.wrong.push(format!("record {index}: a lock that nobody set")),
            Event::AuditBegun | Event::AuditReport | Event::Act | Event::Erasure => {
                self.wrong.push(format!("record {index}: an event about the cluster, of a bucket"));
            }
        }
        self.by_index.insert(index, (record.event, record.key, record.version));
    }

    /// Nothing in the vault is under governance retention, so no removal comes before its date.
    fn take_of_vault(&mut self, index: LogIndex, record: &Record) {
        let removed = matches!(record.event, Event::Delete | Event::Overwrite);
        if removed && (record.legal_hold || record.retention.is_some_and(|kept| kept.in_force(record.time))) {
            self.unkept.push(format!(
                "record {index} removes {} of {:?} at {}, which is kept: {:?}, hold {}",
                record.version, record.key, record.time, record.retention, record.legal_hold
            ));
        }
    }

    fn compare_with_clients(&mut self, env: &Env) {
        for Commit { key, id, log_index, between } in env.commits() {
            let time = usize::try_from(log_index.0).ok().and_then(|at| self.times.get(at)).copied();
            let (asked, told) = (EPOCH_UNIX_MILLIS + between.0 / 1000, EPOCH_UNIX_MILLIS + between.1 / 1000);
            if time.is_some_and(|time| time + CLOCK_SLACK < asked || told + CLOCK_SLACK < time) {
                self.wrong.push(format!(
                    "record {log_index} has the time {time:?}, but was asked for and told between {asked} and {told}"
                ));
            }
            match self.by_index.get(&log_index) {
                Some((Event::Put, logged, version)) if *logged == key && *version == id => {}
                other => {
                    self.wrong.push(format!("{key:?}: the commit {id} was told record {log_index}, which is {other:?}"))
                }
            }
        }
        for (key, log) in &self.keys {
            if let Some((_, etag)) = &log.current
                && env.values.by_etag(etag).is_none()
            {
                self.wrong.push(format!("{key:?} ends with an ETag that nobody wrote: {etag}"));
            }
        }
    }
}

fn etag_of(record: &Record) -> String {
    let etag = record.digests.iter().find_map(|digest| match digest {
        Digest::ETag { md5, parts } => Some(ETag { md5: u128::from_be_bytes(*md5), parts: *parts }),
        Digest::Checksum { .. } => None,
    });
    etag.map(|etag| etag.to_string()).unwrap_or_default()
}
