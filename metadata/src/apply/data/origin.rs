//! A log that was restored from before what was signed last is closed under its name and goes on under another. The first
//! entry under the new name says what was signed under the old one: docs/decisions/0014-what-a-restore-does.md.

use stele_rpc::error::Code;
use stele_rpc::meta::{ClosedLog, LogReply, MetaReply, TreeHead};

use super::ClusterEvent;
use crate::apply::{Batch, Context, Outcome, refuse};
use crate::keyspace::{self, CHECKPOINT, ORIGINS, RESTORE, Tag};
use crate::kv::KvResult;
use crate::rows::{OriginsRow, RestoreRow, load};
use stele_evidence::record::Event;

/// Subject of the entry.
const SUBJECT: &str = "log/origin";
/// Bytes of a name.
const NAME_BYTES_MAX: usize = 255;
/// Names a log may have had.
const CLOSED_MAX: usize = 64;

fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'+')
}

impl Batch<'_> {
    pub(crate) fn close_log(
        &mut self,
        cx: Context<'_>,
        head: TreeHead,
        (origin, next): (&str, &str),
    ) -> Outcome<MetaReply> {
        let mut known: OriginsRow = load(self.rows, &ORIGINS)?.unwrap_or_default();
        if let Some(done) = known.closed.iter().find(|closed| closed.origin == origin && closed.next == next) {
            return Ok(MetaReply::Log(LogReply::Logged(stele_types::ids::LogIndex(done.entry))));
        }
        if !is_name(origin) || !is_name(next) || known.closed.len() >= CLOSED_MAX {
            return refuse(Code::Malformed, format!("{origin:?} and {next:?} are no names of a log"));
        }
        let used = known.closed.iter().any(|closed| [origin, next].contains(&closed.origin.as_str()));
        if used || origin == next || known.closed.last().is_some_and(|closed| closed.next != origin) {
            return refuse(
                Code::Malformed,
                format!("the log was never called {origin}, or {next} was its name before"),
            );
        }
        let Some(restored) = load::<RestoreRow>(self.rows, &RESTORE)? else {
            return refuse(Code::Malformed, "a log is closed only after a restore from a backup");
        };
        let size = self.log_tail()?.edge.size();
        let lacks = head.size > restored.log.size && (head.size > size || self.log_root_at(head.size)? != head.root);
        if !lacks {
            return refuse(
                Code::StaleCheckpoint,
                format!("the log has the checkpoint of size {}: it goes on", head.size),
            );
        }
        let (last, root) = (head.size, hex::encode(head.root));
        let detail = format!(
            "the log {origin} is closed at its last signed checkpoint, size {last} and root {root}: what it held from {} on was \
             lost in a restore. It goes on as {next}",
            restored.log.size
        );
        let event = ClusterEvent { event: Event::Act, subject: SUBJECT, digest: None, detail, erased: Vec::new() };
        let entry = self.log_cluster_event(cx, event)?;
        known.closed.push(ClosedLog { origin: origin.to_owned(), head, next: next.to_owned(), entry: entry.0 });
        self.put_row(&ORIGINS, &known)?;
        self.forget_signatures()?;
        Ok(MetaReply::Log(LogReply::Logged(entry)))
    }

    /// The checkpoint, its note and its anchors name the old log. Bundles that were taken home have their own copies.
    fn forget_signatures(&mut self) -> KvResult<()> {
        self.rows.delete(&CHECKPOINT)?;
        for tag in [Tag::Chain, Tag::Anchor, Tag::AnchorsKept, Tag::AnchorArchive] {
            let (from, _) = keyspace::table(tag);
            for (key, _) in self.collect(&from, usize::MAX)? {
                self.rows.delete(&key)?;
            }
        }
        Ok(())
    }
}
