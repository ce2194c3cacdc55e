//! How large a snapshot is while the log grows and nothing else does.

use std::path::Path;

use stele_evidence::log_archive::{Height, Section, encode_kept};
use stele_metadata::apply::ApplyOptions;
use stele_metadata::{keyspace, reads, snapshot};
use stele_rpc::meta::{
    ArchiveMade, ArchiveObject, ArchivePlan, Command, LOG_BUCKET, LOG_ENTRIES_MAX, LogCommand, LogItem, LogRead,
    LogReply, MetaReply, MetaRequest, SignedNote,
};
use stele_types::ids::LogIndex;

use super::{Failure, ROUND, Side, apply_one};
use stele_metadata::kv::MetaKv;

/// Objects of the store, all the time.
const KEYS: u64 = 1000;
/// Entries at which a snapshot is written.
const SIZES: [u64; 4] = [100_000, 300_000, 600_000, 1_000_000];

impl Side {
    fn ask(&self, asked: LogRead) -> Result<LogReply, Failure> {
        match reads::read(&*self.kv.view()?, &MetaRequest::Log(asked))? {
            MetaReply::Log(reply) => Ok(reply),
            other => Err(format!("{other:?}").into()),
        }
    }

    fn send(&self, command: LogCommand) -> Result<(), Failure> {
        apply_one(&self.kv, self.options, Command::Log(command)).map(drop)
    }

    /// Has a checkpoint of the log as it is signed, as far as a state machine can tell.
    fn publish(&self) -> Result<u64, Failure> {
        let LogReply::Head(head) = self.ask(LogRead::Head)? else { return Err("no head".into()) };
        let previous = head.checkpoint.map(|checkpoint| checkpoint.head);
        self.send(LogCommand::CommitCheckpoint { previous, next: head.now })?;
        let (note, policy) = (b"note".to_vec().into(), b"quorum none\n".to_vec().into());
        self.send(LogCommand::PublishNote(SignedNote { head: head.now, note, policy }))?;
        Ok(head.now.size)
    }

    fn plan(&self) -> Result<ArchivePlan, Failure> {
        match self.ask(LogRead::ArchivePlan)? {
            LogReply::ArchivePlan(plan) => Ok(*plan),
            other => Err(format!("{other:?}").into()),
        }
    }

    fn section(&self, first: LogIndex, entries: usize) -> Result<Vec<u8>, Failure> {
        let (mut bytes, mut got) = (Vec::new(), 0);
        while got < entries {
            let from = LogIndex(first.0 + got as u64);
            let LogReply::Items(items) = self.ask(LogRead::Items { from, max: LOG_ENTRIES_MAX })? else {
                return Err("no items".into());
            };
            for item in items.into_iter().take(entries - got) {
                let LogItem::Kept { record, salt } = item else { return Err("an erased record".into()) };
                encode_kept(&salt, &record, &mut bytes);
                got += 1;
            }
        }
        Ok(bytes)
    }

    /// What a gateway does about archives, but for the object, of which there is only a row. Bytes of it.
    fn archive(&mut self) -> Result<u64, Failure> {
        let mut stored = 0;
        loop {
            let plan = self.plan()?;
            let height = Height::from_level(plan.level).ok_or("height")?;
            if let Some((number, section)) = plan.moving {
                self.send(LogCommand::MoveToArchive { number, section })?;
                continue;
            }
            let Some(number) = plan.next else { return Ok(stored) };
            let mut sections = Vec::new();
            for at in 0..height.sections() {
                let bytes = self.section(height.first_of(number, at).ok_or("section")?, height.section_entries())?;
                sections.push(Section::of(&bytes).hash);
                stored += bytes.len() as u64;
            }
            let key = format!("log/{number:020}-00000000");
            let version = self.put_at(LOG_BUCKET, &key)?;
            let object = ArchiveObject { bucket: LOG_BUCKET.to_owned(), key, version };
            let made = ArchiveMade { number, object, sections, replaces: None, folded: Vec::new() };
            self.send(LogCommand::Archive(Box::new(made)))?;
        }
    }
}

/// Counts bytes.
#[derive(Default)]
struct Counter(u64);

impl std::io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Snapshots of one store at several sizes of its log.
pub(super) fn snapshots(dir: &Path) -> Result<(), Failure> {
    let mut side = Side::open(dir, ApplyOptions::default())?;
    side.keys = KEYS;
    let create = Command::CreateBucket { name: LOG_BUCKET.to_owned(), object_lock: false };
    apply_one(&side.kv, side.options, create)?;
    let mut archived = 0;
    for size in SIZES {
        let mut entries = 0;
        while entries < size {
            side.some(ROUND.min((size - entries).div_ceil(2)))?;
            entries = side.publish()?;
            archived += side.archive()?;
        }
        let mut bytes = Counter::default();
        let rows = snapshot::write(&*side.kv.view()?, &mut bytes)?;
        let mut records = 0u64;
        let (from, to) = keyspace::table(keyspace::Tag::Record);
        side.kv.view()?.scan(&from, &to, &mut |_, _| {
            records += 1;
            std::ops::ControlFlow::Continue(())
        })?;
        let line = serde_json::json!({
            "bench": "snapshot", "log_entries": entries, "objects": KEYS, "snapshot_bytes": bytes.0, "rows": rows,
            "entries_in_rows": records, "bytes_in_archives": archived,
        });
        println!("{line}");
    }
    Ok(())
}
