//! The bytes of an object against its record. Bytes and chunks files, which may have any length, are read
//! as streams, one buffer at a time.

use std::ops::Range;

use super::object::Case;
use super::spans::Spans;
use super::{Brought, Unusable};
use crate::bundle::claims::{Claim, Question, Text};
use crate::record::Record;

pub(super) const TREE: &str = "BLAKE3 object tree";
pub(super) const SLICES: &str = "BLAKE3, bao slices of 16 KiB groups";

impl Case<'_> {
    /// Claims on the bytes of an event whose record is `record`.
    pub(super) fn body_claims(
        &mut self,
        record: &Record,
        in_log: bool,
        brought: Option<Brought<'_>>,
    ) -> Result<(), Unusable> {
        let object = self.object;
        let extent = object.chunks.is_some() || object.range.is_some();
        let Some(root) = record.root else {
            if extent {
                let text = Text::new("the record is of a version without bytes", "该记录所述版本没有数据");
                self.push(Claim::differs(Question::Root, text));
            }
            return Ok(());
        };
        if extent && !in_log {
            let text = Text::new(
                "the record is not proven to be in the log, so bytes were not compared with it",
                "记录未被证明已收入日志，故未与数据比对",
            );
            self.push(Claim::not_checked(Question::Bytes, text));
            return Ok(());
        }
        match (&object.chunks, &object.range) {
            (Some(chunks), _) => self.whole(record, chunks, brought),
            (None, Some(range)) => self.part(record, &root, range, brought),
            (None, None) => {
                let text = Text::new("the bundle holds no chunks and no range of it", "证据包不含该对象的分块或区间");
                self.push(Claim::not_checked(Question::Bytes, text));
                Ok(())
            }
        }
    }

    /// The bytes asked about, within those that can be proven.
    pub(super) fn wanted(&self, provable: Range<u64>) -> Result<Range<u64>, Unusable> {
        let Some(range) = self.range else { return Ok(provable) };
        let wanted = range.offsets();
        if provable.start <= wanted.start && wanted.end <= provable.end {
            return Ok(wanted);
        }
        let (start, end) = (provable.start, provable.end.saturating_sub(1));
        Err(Unusable::Range { first: range.first, last: range.last, start, end })
    }
}

/// What is wrong with bytes.
pub(super) struct Faults {
    pub(super) wrong: Spans,
    pub(super) absent: Spans,
    /// Bytes behind the end.
    pub(super) extra: u64,
}

impl Faults {
    pub(super) fn claim(&self, range: &Range<u64>, checked: u64) -> Claim {
        let (mut en, mut zh) = (Vec::new(), Vec::new());
        if !self.wrong.is_empty() {
            en.push(format!("bytes {} differ", self.wrong));
            zh.push(format!("字节 {} 不一致", self.wrong));
        }
        if !self.absent.is_empty() {
            en.push(format!("bytes {} are missing", self.absent));
            zh.push(format!("字节 {} 缺失", self.absent));
        }
        if self.extra > 0 {
            en.push(format!("{} bytes follow behind the end", self.extra));
            zh.push(format!("末尾多出 {} 字节", self.extra));
        }
        if !en.is_empty() {
            return Claim::differs(Question::Bytes, Text::new(en.join("; "), zh.join("；")));
        }
        if range.is_empty() {
            return Claim::agrees(Question::Bytes, Text::new("no bytes, as the record says", "零字节，与记录相符"));
        }
        let (first, last) = (range.start, range.end.saturating_sub(1));
        Claim::agrees(
            Question::Bytes,
            Text::new(
                format!("bytes {first}-{last}; {checked} bytes were compared"),
                format!("字节 {first}-{last}；共比对 {checked} 字节"),
            ),
        )
    }
}

pub(super) fn no_chunks() -> Text {
    Text::new("the chunks are not those of the record, so bytes can't be compared", "分块与记录不符，无法比对数据")
}
