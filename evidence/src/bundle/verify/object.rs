//! One object of a bundle: its record, its place in the log, its bytes.

use std::io;

use super::chain::Chains;
use super::log::{LogView, Proof};
use super::{Brought, ByteRange, Unusable, digests};
use crate::bundle::RECORD_MAX;
use crate::bundle::calendar::utc_millis;
use crate::bundle::claims::{Claim, Outcome, Question, Text};
use crate::bundle::contents::BundleObject;
use crate::bundle::files::{Source, read_all};
use crate::bundle::report::ObjectFacts;
use crate::record::{Entry, Record};
use crate::tlog_proof::TLOG_PROOF_MAX;

/// One object while it is judged.
pub(super) struct Case<'a> {
    pub(super) source: &'a dyn Source,
    /// From 1.
    pub(super) number: usize,
    pub(super) object: &'a BundleObject,
    /// The bytes the auditor asked about.
    pub(super) range: Option<ByteRange>,
    /// The auditor wants no further digests.
    pub(super) root_only: bool,
    pub(super) claims: Vec<Claim>,
}

/// Why a file of the bundle can't be used, for people.
pub(super) type Unread = Text;

impl Case<'_> {
    /// Judges the object, and says what its record says.
    pub(super) fn judge(
        &mut self,
        log: &mut LogView<'_>,
        chains: &mut Chains,
        brought: Option<Brought<'_>>,
    ) -> Result<ObjectFacts, Unusable> {
        let bytes = match self.load(&self.object.record, RECORD_MAX)? {
            Ok(bytes) => bytes,
            Err(why) => {
                self.push(Claim::differs(Question::Record, why).of(&self.object.record, "CBOR"));
                return Ok(self.facts(None, &[]));
            }
        };
        let record = Record::decode(&bytes);
        self.record_claim(&record);
        let Ok(record) = record else { return Ok(self.facts(None, &bytes)) };
        let in_log = self.log_claims(&bytes, log)?;
        if in_log {
            chains.push(&record, self.object.index, self.number);
        }
        let time = utc_millis(record.time);
        let text =
            Text::new("commit time in the record, by the operator's clock", "记录所载提交时间，以运营方时钟为准");
        self.push(Claim::asserted(Question::EventTime, text).at(time));
        self.body_claims(&record, in_log, brought)?;
        Ok(self.facts(Some(&record), &bytes))
    }

    pub(super) fn push(&mut self, claim: Claim) {
        self.claims.push(Claim { object: Some(self.number), ..claim });
    }

    /// Reads a small file; a missing or overlong one is a finding, a failing drive is not.
    pub(super) fn load(&self, name: &str, max: usize) -> Result<Result<Vec<u8>, Unread>, Unusable> {
        match read_all(self.source, name, max) {
            Ok(Some(bytes)) => Ok(Ok(bytes)),
            Ok(None) => {
                Ok(Err(Text::new(format!("the file is larger than {max} bytes"), format!("文件超过 {max} 字节"))))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Err(missing())),
            Err(error) => Err(Unusable::Io { name: name.to_owned(), error }),
        }
    }

    fn record_claim(&mut self, record: &Result<Record, crate::cbor::CborError>) {
        let object = self.object;
        let claim = match record {
            Err(error) => {
                let text = Text::new(format!("not a record: {error}"), format!("不是有效记录：{error}"));
                Claim::differs(Question::Record, text)
            }
            Ok(record) => {
                let fields = [
                    ("bucket", record.bucket == object.bucket),
                    ("key", record.key == object.key),
                    ("version", record.version == object.version),
                    ("event", record.event == object.event),
                ];
                let wrong: Vec<&str> = fields.iter().filter(|(_, same)| !same).map(|(name, _)| *name).collect();
                let wrong = wrong.join(", ");
                if wrong.is_empty() {
                    let text = Text::new("bucket, key, version and event", "存储桶、键、版本与事件均相符");
                    Claim::agrees(Question::Record, text)
                } else {
                    let text = Text::new(
                        format!("the record is of another {wrong} than stele-bundle.json says"),
                        format!("记录与 stele-bundle.json 不符的字段：{wrong}"),
                    );
                    Claim::differs(Question::Record, text)
                }
            }
        };
        self.push(claim.of(&object.record, "CBOR (RFC 8949)"));
    }

    fn log_claims(&mut self, record: &[u8], log: &mut LogView<'_>) -> Result<bool, Unusable> {
        let object = self.object;
        let claims = match self.load(&object.proof, TLOG_PROOF_MAX)? {
            Ok(bytes) => {
                let proof =
                    Proof { number: self.number, file: &object.proof, index: object.index, salt: &object.salt, record };
                log.judge(&bytes, &proof)
            }
            Err(why) => vec![Claim::differs(Question::Inclusion, why).of(&object.proof, "")],
        };
        let holds = |question, claims: &[Claim]| {
            claims.iter().any(|claim| claim.question == question && claim.outcome == Outcome::Agrees)
        };
        let in_log = holds(Question::Inclusion, &claims) && holds(Question::Checkpoint, &claims);
        claims.into_iter().for_each(|claim| self.push(claim));
        Ok(in_log)
    }

    fn facts(&self, record: Option<&Record>, bytes: &[u8]) -> ObjectFacts {
        let object = self.object;
        let mut listed = Vec::new();
        if let Some(record) = record {
            if let Some(root) = record.root {
                listed.push(("object root (BLAKE3)".to_owned(), root.to_string()));
            }
            listed.extend(digests::listed(record));
            if let Some(digest) = record.digest {
                listed.push(("digest that was logged (SHA-256)".to_owned(), hex::encode(digest)));
            }
            if !record.detail.is_empty() {
                listed.push(("what was done".to_owned(), record.detail.clone()));
            }
            listed.push(("log entry (HMAC-SHA-256)".to_owned(), hex::encode(Entry::new(&object.salt, bytes).0)));
        }
        ObjectFacts {
            number: self.number,
            bucket: record.map_or(&object.bucket, |record| &record.bucket).clone(),
            key: record.map_or(&object.key, |record| &record.key).clone(),
            version: record.map_or(object.version, |record| record.version).to_string(),
            event: record.map_or(object.event, |record| record.event).name(),
            time: record.map(|record| utc_millis(record.time)).unwrap_or_default(),
            len: record.map_or(0, |record| record.len),
            index: object.index,
            digests: listed,
        }
    }
}

/// The bag check named it too.
pub(super) fn missing() -> Unread {
    Text::new("the file is missing", "文件缺失")
}
