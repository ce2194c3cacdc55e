//! What a judgement of a bundle is made of: single claims, each with what was found, how it is known and
//! whom one has to trust for it. An assertion of the operator is never shown as something verified.

use serde::{Serialize, Serializer};

/// A text in English and Chinese.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Text {
    /// English.
    pub en: String,
    /// Chinese.
    pub zh: String,
}

impl Text {
    /// Both texts.
    pub fn new(en: impl Into<String>, zh: impl Into<String>) -> Self {
        Self { en: en.into(), zh: zh.into() }
    }
}

/// How a claim is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Computed just now from the bundle and what the auditor brought.
    Verified,
    /// Somebody who runs the store says so.
    Asserted,
    /// Nobody looked.
    NotChecked,
}

impl Class {
    /// English.
    pub const fn en(self) -> &'static str {
        match self {
            Self::Verified => "verified now",
            Self::Asserted => "asserted by the operator",
            Self::NotChecked => "not checked",
        }
    }

    /// Chinese.
    pub const fn zh(self) -> &'static str {
        match self {
            Self::Verified => "本次离线核验",
            Self::Asserted => "运营方声明",
            Self::NotChecked => "未核验",
        }
    }
}

impl Serialize for Class {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.en())
    }
}

/// What was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Consistent.
    Agrees,
    /// Inconsistent.
    Differs,
    /// There is nothing that could agree or differ.
    Open,
}

impl Outcome {
    /// English.
    pub const fn en(self) -> &'static str {
        match self {
            Self::Agrees => "consistent",
            Self::Differs => "INCONSISTENT",
            Self::Open => "-",
        }
    }

    /// Chinese, as courts put it.
    pub const fn zh(self) -> &'static str {
        match self {
            Self::Agrees => "一致",
            Self::Differs => "不一致",
            Self::Open => "—",
        }
    }
}

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(match self {
            Self::Agrees => "agrees",
            Self::Differs => "differs",
            Self::Open => "open",
        })
    }
}

/// What a claim is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Question {
    /// The bag is whole and unchanged.
    Bag,
    /// Whose trust policy was used.
    Policy,
    /// All proofs lead to one checkpoint.
    OneCheckpoint,
    /// When the checkpoint existed.
    Time,
    /// The log shows everyone the same.
    NonEquivocation,
    /// A chain recorded a size and root of the log.
    Anchor,
    /// A time-stamping authority stamped a checkpoint of the log.
    Timestamp,
    /// The events of a key are complete.
    Chain,
    /// The record says what the contents say.
    Record,
    /// The checkpoint is signed as the policy asks.
    Checkpoint,
    /// The entry stands in the log.
    Inclusion,
    /// When the event happened.
    EventTime,
    /// The object root follows from the chunks.
    Root,
    /// The bytes are the object's.
    Bytes,
    /// A digest of the record is that of the bytes.
    Digest,
    /// What happened after the events of the bundle, before or after its checkpoint.
    Later,
    /// The store has the bytes.
    Possession,
    /// What happened before the store got the bytes.
    BeforeIngest,
}

impl Question {
    /// A name for machines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bag => "bag",
            Self::Policy => "policy",
            Self::OneCheckpoint => "one-checkpoint",
            Self::Time => "time",
            Self::NonEquivocation => "non-equivocation",
            Self::Anchor => "anchor",
            Self::Timestamp => "timestamp",
            Self::Chain => "chain",
            Self::Record => "record",
            Self::Checkpoint => "checkpoint",
            Self::Inclusion => "inclusion",
            Self::EventTime => "event-time",
            Self::Root => "root",
            Self::Bytes => "bytes",
            Self::Digest => "digest",
            Self::Later => "later-events",
            Self::Possession => "possession",
            Self::BeforeIngest => "before-ingest",
        }
    }

    /// English.
    pub const fn en(self) -> &'static str {
        match self {
            Self::Bag => "The bundle is whole and unchanged",
            Self::Policy => "Whose trust policy was used",
            Self::OneCheckpoint => "All proofs lead to one checkpoint",
            Self::Time => "The checkpoint existed at the stated time",
            Self::NonEquivocation => "The log shows everyone the same history",
            Self::Anchor => "A chain recorded the log at this time",
            Self::Timestamp => "A time-stamping authority stamped the log at this time",
            Self::Chain => "The events of this key have no gap",
            Self::Record => "The record says what the bundle says of it",
            Self::Checkpoint => "The checkpoint is signed as the trust policy asks",
            Self::Inclusion => "The record's entry stands in the log",
            Self::EventTime => "The event happened at the stated time",
            Self::Root => "The object root follows from the chunks",
            Self::Bytes => "The bytes are those of the object",
            Self::Digest => "A digest in the record is that of the bytes",
            Self::Later => "Events after the checkpoint, or after the last one in the bundle",
            Self::Possession => "The store still holds the bytes",
            Self::BeforeIngest => "What happened before the bytes were received",
        }
    }

    /// Chinese.
    pub const fn zh(self) -> &'static str {
        match self {
            Self::Bag => "证据包完整且未被改动",
            Self::Policy => "所用信任策略的来源",
            Self::OneCheckpoint => "全部证明指向同一检查点",
            Self::Time => "检查点在所述时间已存在",
            Self::NonEquivocation => "日志对各方呈现同一历史",
            Self::Anchor => "区块链于所述时间记载了该日志",
            Self::Timestamp => "时间戳机构于所述时间为该日志加盖时间戳",
            Self::Chain => "该键的事件链无缺失",
            Self::Record => "记录与证据包目录所述相符",
            Self::Checkpoint => "检查点签名符合信任策略",
            Self::Inclusion => "记录对应的条目已收入日志",
            Self::EventTime => "事件发生在所述时间",
            Self::Root => "对象根由各分块推得",
            Self::Bytes => "数据字节即该对象的字节",
            Self::Digest => "记录所载校验值与数据相符",
            Self::Later => "检查点之后或证据包末事件之后的事件",
            Self::Possession => "存储方目前仍持有数据",
            Self::BeforeIngest => "数据接收之前的情况",
        }
    }
}

impl Serialize for Question {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.name())
    }
}

/// One claim and its verdict.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Claim {
    /// Object it is about, from 1; none for claims on the whole bundle.
    pub object: Option<usize>,
    /// What it is about.
    pub question: Question,
    /// How it is known.
    pub class: Class,
    /// What was found.
    pub outcome: Outcome,
    /// What exactly; of a failure what differs, and where.
    pub detail: Text,
    /// The file that was looked at; empty if none.
    pub file: String,
    /// With what it was computed; empty if nothing was.
    pub algorithm: &'static str,
    /// Whom one has to trust for it.
    pub trusted: Text,
    /// UTC; empty if no time belongs to it.
    pub time: String,
}

impl Claim {
    fn new(question: Question, class: Class, outcome: Outcome, detail: Text) -> Self {
        let trusted = match class {
            Class::Verified => Text::new("nobody", "无需信任任何一方"),
            Class::Asserted => Text::new("the operator", "运营方"),
            Class::NotChecked => Text::new("-", "—"),
        };
        let (file, algorithm, time) = (String::new(), "", String::new());
        Self { object: None, question, class, outcome, detail, file, algorithm, trusted, time }
    }

    /// It was computed now, and holds.
    pub(crate) fn agrees(question: Question, detail: Text) -> Self {
        Self::new(question, Class::Verified, Outcome::Agrees, detail)
    }

    /// It was computed now, and does not hold.
    pub(crate) fn differs(question: Question, detail: Text) -> Self {
        Self::new(question, Class::Verified, Outcome::Differs, detail)
    }

    /// It is the operator's word.
    pub(crate) fn asserted(question: Question, detail: Text) -> Self {
        Self::new(question, Class::Asserted, Outcome::Open, detail)
    }

    /// Nobody looked.
    pub(crate) fn not_checked(question: Question, detail: Text) -> Self {
        Self::new(question, Class::NotChecked, Outcome::Open, detail)
    }

    #[must_use]
    pub(crate) fn of(mut self, file: &str, algorithm: &'static str) -> Self {
        file.clone_into(&mut self.file);
        self.algorithm = algorithm;
        self
    }

    #[must_use]
    pub(crate) fn trusting(mut self, en: &str, zh: &str) -> Self {
        self.trusted = Text::new(en, zh);
        self
    }

    #[must_use]
    pub(crate) fn at(mut self, time: String) -> Self {
        self.time = time;
        self
    }
}
