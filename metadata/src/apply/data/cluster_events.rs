//! What the evidence log says of the cluster itself: possession audits, and what was done to nodes and keys. Such an
//! event has a subject in place of a key, and the events of a subject are chained as those of a key are.

use stele_evidence::record::{CLUSTER, CLUSTER_ID, Event, Record, Run};
use stele_rpc::error::Code;
use stele_rpc::meta::{ANSWER_KEY_BYTES_MAX, AuditStep, AuditStepKind, LogReply, MetaReply};
use stele_types::ids::{CommitSeq, LogIndex, NodeId, VersionId};

use crate::apply::{Batch, Context, Outcome, refuse};
use crate::keyspace::{self, AUDITS, Tag};
use crate::kv::KvResult;
use crate::rows::{AnswerKeyRow, AuditsRow, KeyRow, RecordRow, corrupt, load};

/// An event about the cluster itself.
#[derive(Clone, Debug)]
pub(crate) struct ClusterEvent<'a> {
    pub(crate) event: Event,
    /// What it is about, as `node/3`.
    pub(crate) subject: &'a str,
    pub(crate) digest: Option<[u8; 32]>,
    pub(crate) detail: String,
    pub(crate) erased: Vec<Run>,
}

impl Batch<'_> {
    /// Appends the event, and notes it with its subject.
    pub(crate) fn log_cluster_event(&mut self, cx: Context<'_>, event: ClusterEvent<'_>) -> Outcome<LogIndex> {
        let salt = cx.salt()?;
        let at = keyspace::named(Tag::Key, CLUSTER_ID, event.subject);
        let mut subject: KeyRow = load(self.rows, &at)?.unwrap_or_default();
        let record = Record {
            event: event.event,
            bucket: CLUSTER.to_owned(),
            bucket_id: CLUSTER_ID,
            key: event.subject.to_owned(),
            version: VersionId { commit_seq: CommitSeq(0), nonce: 0 },
            null_version: false,
            root: None,
            len: 0,
            time: cx.now,
            principal: cx.origin.principal.clone(),
            source: cx.origin.source.clone(),
            node: cx.origin.node,
            key_event: subject.events,
            previous: subject.last_entry,
            body_hash: None,
            digests: Vec::new(),
            retention: None,
            legal_hold: false,
            digest: event.digest,
            detail: event.detail,
            erased: event.erased,
        };
        let index = self.append_entry(&record.encode(), salt)?;
        subject.events += 1;
        subject.last_entry = Some(index);
        self.put_row(&at, &subject)?;
        Ok(index)
    }

    /// Newest event of a subject.
    fn newest_of(&self, subject: &str) -> KvResult<Option<(LogIndex, Record)>> {
        let row: Option<KeyRow> = load(self.rows, &keyspace::named(Tag::Key, CLUSTER_ID, subject))?;
        let Some(index) = row.and_then(|row| row.last_entry) else { return Ok(None) };
        let at = keyspace::record(index);
        let Some(row) = load::<RecordRow>(self.rows, &at)? else { return Ok(None) };
        let record = Record::decode(&row.record).map_err(|error| corrupt(&at, error.to_string()))?;
        Ok(Some((index, record)))
    }

    pub(crate) fn log_audit(&mut self, cx: Context<'_>, step: &AuditStep) -> Outcome<MetaReply> {
        cx.salt()?;
        let subject = format!("audit/{}", hex::encode(step.audit));
        let newest = self.newest_of(&subject)?;
        let event = match step.kind {
            AuditStepKind::Begun { .. } => Event::AuditBegun,
            AuditStepKind::Report => Event::AuditReport,
        };
        if let Some((index, newest)) = &newest
            && newest.event == event
            && newest.digest == Some(step.digest)
        {
            return Ok(MetaReply::Log(LogReply::Logged(*index)));
        }
        match step.kind {
            AuditStepKind::Begun { .. } if newest.is_some() => {
                return refuse(Code::Malformed, format!("{subject} was begun already: draw another id"));
            }
            AuditStepKind::Report if newest.is_none() => {
                return refuse(Code::Malformed, format!("{subject} was not begun, so it has no report"));
            }
            AuditStepKind::Begun { spacing_ms: Some(spacing) } => {
                let last: Option<AuditsRow> = load(self.rows, &AUDITS)?;
                let free = last.map_or(0, |row| row.last_by_itself.saturating_add(spacing));
                if cx.now < free {
                    return refuse(Code::Busy, format!("the next audit is due in {} ms", free - cx.now));
                }
                self.put_row(&AUDITS, &AuditsRow { last_by_itself: cx.now })?;
            }
            AuditStepKind::Begun { spacing_ms: None } | AuditStepKind::Report => {}
        }
        let (subject, digest) = (subject.as_str(), Some(step.digest));
        let logged = ClusterEvent { event, subject, digest, detail: String::new(), erased: Vec::new() };
        Ok(MetaReply::Log(LogReply::Logged(self.log_cluster_event(cx, logged)?)))
    }

    /// The first key stays: another one would let a node disown what it signed.
    pub(crate) fn set_answer_key(&mut self, cx: Context<'_>, node: NodeId, key: &str) -> Outcome<MetaReply> {
        cx.salt()?;
        if !(1..=ANSWER_KEY_BYTES_MAX).contains(&key.len()) || key.chars().any(char::is_control) {
            let detail = format!("a node's key is one line of 1 to {ANSWER_KEY_BYTES_MAX} bytes");
            return refuse(Code::Malformed, detail);
        }
        let at = keyspace::answer_key(node);
        match load::<AnswerKeyRow>(self.rows, &at)? {
            Some(known) if known.key == key => return Ok(MetaReply::Done),
            Some(known) => {
                let detail = format!(
                    "node {node} signs answers with {} and can't change to {key}: restore its directory, or let it \
                     join as a new node",
                    known.key
                );
                return refuse(Code::Forbidden, detail);
            }
            None => {}
        }
        self.put_row(&at, &AnswerKeyRow { key: key.to_owned() })?;
        let (subject, detail) = (format!("node/{node}"), format!("signs answers to possession audits with {key}"));
        let act = ClusterEvent { event: Event::Act, subject: &subject, digest: None, detail, erased: Vec::new() };
        self.log_cluster_event(cx, act)?;
        Ok(MetaReply::Done)
    }
}
