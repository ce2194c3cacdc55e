//! C2SP tlog-policy: which logs are known, which witnesses, and how many of them must have cosigned.
//! The auditor brings the policy; one that comes with the evidence proves nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::keys::{KeyError, SignatureType, TrustedKey};
use crate::lines::{parse_decimal, split_line};
use crate::note::{Note, Verified, VerifyError};
use crate::vkey::VerifierKey;

/// Largest policy in bytes; an ML-DSA-44 key takes 1,752 of them.
pub const POLICY_MAX: usize = 1024 * 1024;
/// Most logs, most witnesses and most groups. The specification asks for 32 of each.
pub const ENTRIES_MAX: usize = 64;

/// Why bytes are not a policy: where, and what is wrong there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct PolicyError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub reason: PolicyFault,
}

/// What is wrong with a line of a policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PolicyFault {
    /// The policy has more than [`POLICY_MAX`] bytes.
    #[error("the policy is larger than {POLICY_MAX} bytes")]
    TooLarge,
    /// More than [`ENTRIES_MAX`] logs, witnesses or groups.
    #[error("more than {ENTRIES_MAX} entries of a kind")]
    TooMany,
    /// A control character other than tab and line feed.
    #[error("a control character")]
    Byte,
    /// The last line has no line feed, as in a file that was cut.
    #[error("the line does not end with a line feed")]
    Unterminated,
    /// The first word is none of log, witness, group and quorum.
    #[error("a line begins with log, witness, group, quorum or #")]
    Keyword,
    /// Too few or too many words.
    #[error("too few or too many words")]
    Words,
    /// The key can't be read.
    #[error("the key is not valid: {0}")]
    Key(#[from] KeyError),
    /// The key makes signatures of another kind than logs or witnesses make.
    #[error("keys of type {0:#04x} do not sign this")]
    KeyType(u8),
    /// The same public key stands in another line, under whatever name.
    #[error("the public key is listed twice")]
    DuplicateKey,
    /// Two keys have the same name and identifier, so that signatures don't say whose they are.
    #[error("another key has the same name and identifier")]
    AmbiguousKey,
    /// `none` can't be defined and can't be a member.
    #[error("the name none is reserved")]
    Reserved,
    /// The name is defined already.
    #[error("the name is defined twice")]
    DuplicateName,
    /// The name is not defined on an earlier line.
    #[error("the name is not defined on an earlier line")]
    UnknownName,
    /// The name is a member of a group already.
    #[error("a name may be a member of one group, and once")]
    SecondMembership,
    /// Not all, any, or a number from 1 to the number of members.
    #[error("a threshold is all, any, or a number from 1 to the number of members")]
    Threshold,
    /// There is a quorum line already.
    #[error("a second quorum line")]
    SecondQuorum,
    /// There is no quorum line.
    #[error("the policy has no quorum line")]
    NoQuorum,
}

/// A log or a witness of a policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Party {
    /// A witness's name in the policy, any bytes; a log has none.
    pub name: Vec<u8>,
    /// Its key. The name of a log's key is its origin.
    pub key: VerifierKey,
    /// Where it can be reached, as the policy says; any bytes.
    pub url: Option<Vec<u8>>,
}

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Member {
    Witness(usize),
    Group(usize),
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Group {
    /// How many members must have witnessed.
    threshold: usize,
    /// Defined earlier, each once.
    members: Vec<Member>,
}

/// The policy that trusts these keys of a log and asks for no witness.
pub fn of_log<'k>(keys: impl Iterator<Item = &'k VerifierKey>) -> String {
    keys.map(|key| format!("log {key}\n")).chain(["quorum none\n".to_owned()]).collect()
}

/// A policy that keeps all rules.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Keys of the logs, then of the witnesses.
    keys: Vec<TrustedKey>,
    logs: Vec<Party>,
    witnesses: Vec<Party>,
    groups: Vec<Group>,
    /// `None`: no witness is needed.
    quorum: Option<Member>,
}

/// Who signed, and when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedBy {
    /// Log or witness, as the policy lists it.
    pub party: Party,
    /// Earliest time in POSIX seconds that its signatures state. Plain Ed25519 states none, and
    /// ML-DSA may leave it out.
    pub time: Option<u64>,
}

/// What a policy finds in a checkpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Evaluation {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// The log's keys that signed it, in the policy's order; at least one.
    pub logs: Vec<SignedBy>,
    /// The witnesses that cosigned it, in the policy's order.
    pub witnesses: Vec<SignedBy>,
}

/// Why a policy does not accept a checkpoint.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// The note's text is not a checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The policy lists no log with this origin.
    #[error("the policy lists no log {origin:?}")]
    UnknownOrigin {
        /// Origin of the checkpoint.
        origin: String,
    },
    /// A signature is wrong, or no known key signed.
    #[error(transparent)]
    Signatures(#[from] VerifyError),
    /// No listed key of this log signed.
    #[error("the log did not sign the checkpoint")]
    NotSigned,
    /// Too few of the witnesses cosigned. Everything else is in order.
    #[error("too few witnesses cosigned: {} did", .0.witnesses.len())]
    NoQuorum(Box<Evaluation>),
}

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    /// The first line that breaks a rule.
    pub fn parse(bytes: &[u8]) -> Result<Self, PolicyError> {
        if bytes.len() > POLICY_MAX {
            return Err(PolicyError { line: 1, reason: PolicyFault::TooLarge });
        }
        let mut draft = Draft::default();
        let (mut rest, mut line) = (bytes, 0);
        while !rest.is_empty() {
            line += 1;
            let at = |reason| PolicyError { line, reason };
            let (text, behind) = split_line(rest).ok_or(at(PolicyFault::Unterminated))?;
            rest = behind;
            draft.line(text).map_err(at)?;
        }
        let quorum = draft.quorum.ok_or(PolicyError { line: line + 1, reason: PolicyFault::NoQuorum })?;
        let keys = [draft.log_keys, draft.witness_keys].concat();
        Ok(Self { keys, logs: draft.logs, witnesses: draft.witnesses, groups: draft.groups, quorum })
    }

    /// The logs it lists.
    pub fn logs(&self) -> &[Party] {
        &self.logs
    }

    /// The witnesses it lists.
    pub fn witnesses(&self) -> &[Party] {
        &self.witnesses
    }

    /// Accepts a checkpoint, or says why not. Any key listed for the checkpoint's origin will do as
    /// the log's; a wrong signature of any listed key refuses the note.
    ///
    /// # Errors
    /// Why the checkpoint is not accepted.
    pub fn evaluate(&self, note: &Note) -> Result<Evaluation, Refusal> {
        let checkpoint = Checkpoint::parse(note.text())?;
        let origin = checkpoint.origin();
        if !self.logs.iter().any(|log| log.key.name().as_str() == origin) {
            return Err(Refusal::UnknownOrigin { origin: origin.to_owned() });
        }
        let verified = note.verify(&self.keys)?;
        let mut logs = signed_by(&self.logs, &verified);
        logs.retain(|log| log.party.key.name().as_str() == origin);
        if logs.is_empty() {
            return Err(Refusal::NotSigned);
        }
        let witnesses = signed_by(&self.witnesses, &verified);
        let reached = self.reached(&witnesses);
        let evaluation = Evaluation { checkpoint, logs, witnesses };
        if reached { Ok(evaluation) } else { Err(Refusal::NoQuorum(Box::new(evaluation))) }
    }

    /// Whether these witnesses are a quorum.
    fn reached(&self, signed: &[SignedBy]) -> bool {
        let cosigned: Vec<bool> =
            self.witnesses.iter().map(|witness| signed.iter().any(|by| by.party.key == witness.key)).collect();
        // Groups only name earlier ones, so one pass in their order settles all.
        let mut settled: Vec<bool> = Vec::with_capacity(self.groups.len());
        for group in &self.groups {
            let count = group.members.iter().filter(|member| has_witnessed(**member, &cosigned, &settled)).count();
            settled.push(count >= group.threshold);
        }
        self.quorum.is_none_or(|member| has_witnessed(member, &cosigned, &settled))
    }
}

fn has_witnessed(member: Member, cosigned: &[bool], settled: &[bool]) -> bool {
    match member {
        Member::Witness(at) => cosigned.get(at).copied().unwrap_or_default(),
        Member::Group(at) => settled.get(at).copied().unwrap_or_default(),
    }
}

/// The parties among whose keys a verified line is, each once.
fn signed_by(parties: &[Party], verified: &[Verified<'_>]) -> Vec<SignedBy> {
    let mut signed = Vec::new();
    for party in parties {
        let mut lines = verified.iter().filter(|line| *line.key.vkey() == party.key).peekable();
        if lines.peek().is_some() {
            signed.push(SignedBy { party: party.clone(), time: lines.filter_map(|line| line.time).min() });
        }
    }
    signed
}

/// What the lines read so far say.
#[derive(Default)]
struct Draft {
    log_keys: Vec<TrustedKey>,
    witness_keys: Vec<TrustedKey>,
    logs: Vec<Party>,
    witnesses: Vec<Party>,
    groups: Vec<Group>,
    quorum: Option<Option<Member>>,
    names: BTreeMap<Vec<u8>, Member>,
    members: BTreeSet<Vec<u8>>,
}

impl Draft {
    fn line(&mut self, line: &[u8]) -> Result<(), PolicyFault> {
        if line.iter().any(|byte| !matches!(byte, b'\t' | 0x20..=0x7e | 0x80..)) {
            return Err(PolicyFault::Byte);
        }
        let words: Vec<&[u8]> =
            line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty()).collect();
        match words.as_slice() {
            [] => Ok(()),
            [word, ..] if word.starts_with(b"#") => Ok(()),
            [b"log", key] => self.log(key, None),
            [b"log", key, url] => self.log(key, Some(url.to_vec())),
            [b"witness", name, key] => self.witness(name, key, None),
            [b"witness", name, key, url] => self.witness(name, key, Some(url.to_vec())),
            [b"group", name, threshold, members @ ..] if !members.is_empty() => self.group(name, threshold, members),
            [b"quorum", name] => self.quorum(name),
            [b"log" | b"witness" | b"group" | b"quorum", ..] => Err(PolicyFault::Words),
            _ => Err(PolicyFault::Keyword),
        }
    }

    fn log(&mut self, key: &[u8], url: Option<Vec<u8>>) -> Result<(), PolicyFault> {
        let key = self.new_key(key, &[SignatureType::Ed25519, SignatureType::SubtreeMlDsa44])?;
        if self.logs.len() == ENTRIES_MAX {
            return Err(PolicyFault::TooMany);
        }
        self.logs.push(Party { name: Vec::new(), key: key.vkey().clone(), url });
        self.log_keys.push(key);
        Ok(())
    }

    fn witness(&mut self, name: &[u8], key: &[u8], url: Option<Vec<u8>>) -> Result<(), PolicyFault> {
        let key = self.new_key(key, &[SignatureType::TimedEd25519, SignatureType::SubtreeMlDsa44])?;
        if self.witnesses.len() == ENTRIES_MAX {
            return Err(PolicyFault::TooMany);
        }
        self.define(name, Member::Witness(self.witnesses.len()))?;
        self.witnesses.push(Party { name: name.to_vec(), key: key.vkey().clone(), url });
        self.witness_keys.push(key);
        Ok(())
    }

    fn group(&mut self, name: &[u8], threshold: &[u8], names: &[&[u8]]) -> Result<(), PolicyFault> {
        if self.groups.len() == ENTRIES_MAX {
            return Err(PolicyFault::TooMany);
        }
        let mut members = Vec::with_capacity(names.len());
        for member in names {
            members.push(self.resolve(member)?);
            if !self.members.insert(member.to_vec()) {
                return Err(PolicyFault::SecondMembership);
            }
        }
        let threshold = match threshold {
            b"all" => members.len(),
            b"any" => 1,
            digits => parse_decimal(digits)
                .and_then(|number| usize::try_from(number).ok())
                .filter(|number| (1..=members.len()).contains(number))
                .ok_or(PolicyFault::Threshold)?,
        };
        self.define(name, Member::Group(self.groups.len()))?;
        self.groups.push(Group { threshold, members });
        Ok(())
    }

    fn quorum(&mut self, name: &[u8]) -> Result<(), PolicyFault> {
        if self.quorum.is_some() {
            return Err(PolicyFault::SecondQuorum);
        }
        self.quorum = Some(if name == b"none" { None } else { Some(self.resolve(name)?) });
        Ok(())
    }

    /// Reads a key that no line has yet. A key that is log and witness at once is refused too, though
    /// the specification does not ask for it: such a log would be its own witness.
    fn new_key(&self, text: &[u8], types: &[SignatureType]) -> Result<TrustedKey, PolicyFault> {
        // A name that is not UTF-8 is no key name.
        let text = std::str::from_utf8(text).map_err(|_| KeyError::Vkey(crate::vkey::VkeyError::Name))?;
        let key = TrustedKey::parse(text)?;
        if !types.contains(&key.signature_type()) {
            return Err(PolicyFault::KeyType(key.vkey().signature_type()));
        }
        for known in self.log_keys.iter().chain(&self.witness_keys).map(TrustedKey::vkey) {
            if known.public_key() == key.vkey().public_key() {
                return Err(PolicyFault::DuplicateKey);
            }
            if known.name() == key.vkey().name() && known.id() == key.vkey().id() {
                return Err(PolicyFault::AmbiguousKey);
            }
        }
        Ok(key)
    }

    fn define(&mut self, name: &[u8], member: Member) -> Result<(), PolicyFault> {
        if name == b"none" {
            return Err(PolicyFault::Reserved);
        }
        match self.names.insert(name.to_vec(), member) {
            None => Ok(()),
            Some(_) => Err(PolicyFault::DuplicateName),
        }
    }

    fn resolve(&self, name: &[u8]) -> Result<Member, PolicyFault> {
        if name == b"none" {
            return Err(PolicyFault::Reserved);
        }
        self.names.get(name).copied().ok_or(PolicyFault::UnknownName)
    }
}

#[cfg(test)]
pub(crate) mod tests;
