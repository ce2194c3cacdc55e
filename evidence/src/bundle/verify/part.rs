//! A range of an object: the range file against the object root, slices against the chunks it proves, and
//! bytes against the slices.

use std::io::{self, SeekFrom};
use std::ops::Range;

use stele_chunker::slice::verify_slice;
use stele_chunker::tree::{VerifiedLeaf, verify_range};
use stele_types::ids::ObjectRoot;

use super::body::{Faults, SLICES, TREE, no_chunks};
use super::object::{Case, Unread};
use super::spans::Spans;
use super::{Brought, SLICE_MAX, Unusable};
use crate::bundle::BUFFER;
use crate::bundle::claims::{Claim, Question, Text};
use crate::bundle::contents::BundleRange;
use crate::bundle::files::{ReadSeek, read_full};
use crate::bundle::range_file::{RANGE_FILE_MAX, decode_range_proof};
use crate::record::Record;

/// Bytes the auditor brought, next to a range of an object.
struct Beside<'a> {
    bytes: &'a mut dyn ReadSeek,
    /// Object offset of the first byte.
    base: u64,
    wanted: Range<u64>,
    wrong: Spans,
    absent: Spans,
}

impl Beside<'_> {
    /// Compares with proven bytes that begin at object offset `offset`.
    fn compare(&mut self, offset: u64, proven: &[u8]) -> io::Result<()> {
        let end = offset.saturating_add(proven.len() as u64);
        let (start, end) = (self.wanted.start.max(offset), self.wanted.end.min(end));
        if start >= end {
            return Ok(());
        }
        let skip = usize::try_from(start - offset).unwrap_or(usize::MAX);
        let proven = proven.get(skip..).unwrap_or_default();
        self.bytes.seek(SeekFrom::Start(start.saturating_sub(self.base)))?;
        let (mut buffer, mut at) = (vec![0; BUFFER], start);
        for part in proven.chunks(BUFFER) {
            let wanted = usize::try_from(end.saturating_sub(at)).unwrap_or(BUFFER).min(part.len());
            let count = read_full(self.bytes, buffer.get_mut(..wanted).unwrap_or_default())?;
            for (place, (brought, proven)) in (at..).zip(buffer.iter().take(count).zip(part)) {
                if brought != proven {
                    self.wrong.push(place..place + 1);
                }
            }
            at = at.saturating_add(wanted as u64);
            self.absent.push(at.saturating_sub((wanted - count) as u64)..at);
        }
        Ok(())
    }
}

impl Case<'_> {
    pub(super) fn part(
        &mut self,
        record: &Record,
        root: &ObjectRoot,
        range: &BundleRange,
        brought: Option<Brought<'_>>,
    ) -> Result<(), Unusable> {
        let leaves = match self.range_leaves(record, root, range)? {
            Ok(leaves) => leaves,
            Err(why) => {
                self.push(Claim::differs(Question::Root, why).of(&range.proof, TREE));
                self.push(Claim::not_checked(Question::Bytes, no_chunks()));
                return Ok(());
            }
        };
        let text = Text::new(
            format!(
                "bytes {}-{} lie in {} of the chunks under the record's object root",
                range.first,
                range.end() - 1,
                leaves.len()
            ),
            format!("字节 {}-{} 位于记录所载对象根之下的 {} 个分块内", range.first, range.end() - 1, leaves.len()),
        );
        self.push(Claim::agrees(Question::Root, text).of(&range.proof, TREE));
        let wanted = self.wanted(range.first..range.end())?;
        let (name, mut beside) = match brought {
            None => ("", None),
            Some((name, bytes)) => match place(name, bytes, record.len, &wanted)? {
                Ok(beside) => (name, Some(beside)),
                Err(why) => {
                    self.push(Claim::differs(Question::Bytes, why).of(name, SLICES));
                    (name, None)
                }
            },
        };
        let wrong = self.slices(range, &leaves, name, &mut beside)?;
        let sound = wrong.is_empty();
        let faults = Faults { wrong, absent: Spans::default(), extra: 0 };
        let slices = range.slices.first().map_or("", String::as_str);
        self.push(faults.claim(&(range.first..range.end()), range.length).of(slices, SLICES));
        if let Some(beside) = beside {
            let faults = Faults { wrong: beside.wrong, absent: beside.absent, extra: 0 };
            let claim = faults.claim(&beside.wanted, beside.wanted.end - beside.wanted.start);
            if sound {
                self.push(claim.of(name, SLICES));
            } else {
                let text = Text::new(
                    "a slice of the bundle does not hold, so FILE can't be compared",
                    "证据包切片无效，无法与送检文件比对",
                );
                self.push(Claim::not_checked(Question::Bytes, text).of(name, SLICES));
            }
        }
        Ok(())
    }

    fn range_leaves(
        &self,
        record: &Record,
        root: &ObjectRoot,
        range: &BundleRange,
    ) -> Result<Result<Vec<VerifiedLeaf>, Unread>, Unusable> {
        let bytes = match self.load(&range.proof, RANGE_FILE_MAX)? {
            Ok(bytes) => bytes,
            Err(why) => return Ok(Err(why)),
        };
        let proof = match decode_range_proof(&bytes) {
            Ok(proof) => proof,
            Err(error) => return Ok(Err(Text::new(error.to_string(), format!("区间证明无效：{error}")))),
        };
        Ok(match verify_range(root, &proof, range.first..range.end()) {
            Err(error) => Err(Text::new(error.to_string(), format!("区间证明不成立：{error}"))),
            Ok(_) if proof.total_len != record.len => {
                Err(Text::new("the proof is of an object of another length", "区间证明的对象长度与记录不符"))
            }
            Ok(leaves) if leaves.len() != range.slices.len() => Err(Text::new(
                format!("the range touches {} chunks, and the bundle has {} slices", leaves.len(), range.slices.len()),
                format!("区间涉及 {} 个分块，而证据包有 {} 个切片", leaves.len(), range.slices.len()),
            )),
            Ok(leaves) => Ok(leaves),
        })
    }

    /// Checks every slice; what does not hold is returned.
    fn slices(
        &self,
        range: &BundleRange,
        leaves: &[VerifiedLeaf],
        name: &str,
        beside: &mut Option<Beside<'_>>,
    ) -> Result<Spans, Unusable> {
        let mut wrong = Spans::default();
        for (leaf, file) in leaves.iter().zip(&range.slices) {
            let start = range.first.max(leaf.offset);
            let end = range.end().min(leaf.offset.saturating_add(leaf.leaf.len));
            let inside = |offset: u64| u32::try_from(offset.saturating_sub(leaf.offset)).unwrap_or(u32::MAX);
            let len = u32::try_from(leaf.leaf.len).unwrap_or(u32::MAX);
            let slice = self.load(file, SLICE_MAX)?.unwrap_or_default();
            match verify_slice(&leaf.leaf.id, len, inside(start)..inside(end), &slice) {
                Err(_) => wrong.push(start..end),
                Ok(bytes) => {
                    if let Some(beside) = beside {
                        let failed = |error| Unusable::Io { name: name.to_owned(), error };
                        beside.compare(start, &bytes).map_err(failed)?;
                    }
                }
            }
        }
        Ok(wrong)
    }
}

/// A brought file holds the whole object, or exactly the bytes asked about; its length says which.
fn place<'a>(
    name: &str,
    bytes: &'a mut dyn ReadSeek,
    total: u64,
    wanted: &Range<u64>,
) -> Result<Result<Beside<'a>, Unread>, Unusable> {
    let len = bytes.seek(SeekFrom::End(0)).map_err(|error| Unusable::Io { name: name.to_owned(), error })?;
    let part = wanted.end.saturating_sub(wanted.start);
    let base = if len == total {
        0
    } else if len == part {
        wanted.start
    } else {
        return Ok(Err(Text::new(
            format!(
                "{len} bytes: neither the {total} of the whole object nor the {part} of bytes {}-{}",
                wanted.start,
                wanted.end - 1
            ),
            format!(
                "共 {len} 字节：既非完整对象的 {total} 字节，亦非字节 {}-{} 的 {part} 字节",
                wanted.start,
                wanted.end - 1
            ),
        )));
    };
    Ok(Ok(Beside { bytes, base, wanted: wanted.clone(), wrong: Spans::default(), absent: Spans::default() }))
}
