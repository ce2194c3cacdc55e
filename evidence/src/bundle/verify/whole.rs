//! A whole object: the chunks file against the object root, and bytes against the chunks as they pass.

use std::io::{self, SeekFrom};
use std::ops::Range;

use stele_chunker::tree::{Leaf, Subtree, TreeBuilder};

use super::body::{Faults, TREE, no_chunks};
use super::digests::BodyDigests;
use super::object::{Case, Unread, missing};
use super::spans::Spans;
use super::{Brought, Unusable};
use crate::bundle::BUFFER;
use crate::bundle::chunks_file::{ChunksFile, ChunksFileError};
use crate::bundle::claims::{Claim, Question, Text};
use crate::bundle::files::{ReadSeek, read_full};
use crate::record::Record;

/// Bytes that are compared with chunks as these pass.
struct Look<'a> {
    bytes: &'a mut dyn ReadSeek,
    /// The bytes asked about; chunks that touch them are read whole.
    range: Range<u64>,
    digests: Option<BodyDigests>,
    /// Where the reader stands.
    at: u64,
    checked: u64,
    wrong: Spans,
    absent: Spans,
    buffer: Vec<u8>,
}

/// Bytes that were compared.
enum Walked {
    /// The chunks were read to their end.
    To(Subtree),
    /// The chunks file is malformed.
    Malformed(ChunksFileError),
}

impl Look<'_> {
    /// Compares one chunk that begins at `offset`.
    fn chunk(&mut self, offset: u64, leaf: &Leaf) -> io::Result<()> {
        let end = offset.saturating_add(leaf.len);
        if end <= self.range.start || self.range.end <= offset {
            return Ok(());
        }
        if self.at != offset {
            self.bytes.seek(SeekFrom::Start(offset))?;
            self.at = offset;
        }
        let mut hasher = blake3::Hasher::new();
        while self.at < end {
            let wanted = usize::try_from(end - self.at).unwrap_or(BUFFER).min(self.buffer.len());
            let room = self.buffer.get_mut(..wanted).unwrap_or_default();
            let count = read_full(self.bytes, room)?;
            let part = room.get(..count).unwrap_or_default();
            hasher.update(part);
            if let Some(digests) = &mut self.digests {
                digests.update(part);
            }
            self.at = self.at.saturating_add(count as u64);
            if count < wanted {
                break;
            }
        }
        if self.at < end {
            self.absent.push(self.at..end);
        } else if hasher.finalize().as_bytes() != leaf.id.as_bytes() {
            self.wrong.push(offset..end);
        }
        self.checked = self.checked.saturating_add(leaf.len);
        Ok(())
    }
}

impl Case<'_> {
    pub(super) fn whole(
        &mut self,
        record: &Record,
        chunks: &str,
        brought: Option<Brought<'_>>,
    ) -> Result<(), Unusable> {
        let why = self.walk(chunks, None)?.and_then(|walked| fits(&walked, record));
        match why {
            Ok(top) => {
                let text = Text::new(
                    format!("{} bytes in {} chunks lead to the object root of the record", top.bytes, top.chunks),
                    format!("由 {} 个分块（共 {} 字节）计算所得的对象根与记录所载一致", top.chunks, top.bytes),
                );
                self.push(Claim::agrees(Question::Root, text).of(chunks, TREE));
            }
            Err(why) => {
                self.push(Claim::differs(Question::Root, why).of(chunks, TREE));
                self.push(Claim::not_checked(Question::Bytes, no_chunks()));
                return Ok(());
            }
        }
        let range = self.wanted(0..record.len)?;
        let mut looked = false;
        if let Some((name, bytes)) = brought {
            self.compare(record, name, bytes, &range)?;
            looked = true;
        }
        if let Some(name) = &self.object.payload {
            let source = self.source;
            match source.open(name) {
                Ok(mut bytes) => self.compare(record, name, &mut *bytes, &range)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.push(Claim::differs(Question::Bytes, missing()).of(name, TREE));
                }
                Err(error) => return Err(Unusable::Io { name: name.clone(), error }),
            }
            looked = true;
        }
        if !looked {
            let text = Text::new(
                "no bytes were given, neither as FILE nor in the bundle",
                "未提供数据：既无送检文件，证据包内亦无",
            );
            self.push(Claim::not_checked(Question::Bytes, text));
        }
        Ok(())
    }

    /// Reads the chunks file, and compares bytes with it as it passes.
    fn walk(&self, chunks: &str, mut look: Option<(&str, &mut Look<'_>)>) -> Result<Result<Walked, Unread>, Unusable> {
        let failed = |error| Unusable::Io { name: chunks.to_owned(), error };
        let reader = match self.source.open(chunks) {
            Ok(reader) => reader,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Err(missing())),
            Err(error) => return Err(failed(error)),
        };
        let mut file = match ChunksFile::open(reader) {
            Ok(file) => file,
            Err(ChunksFileError::Io(error)) => return Err(failed(error)),
            Err(error) => return Ok(Ok(Walked::Malformed(error))),
        };
        let (mut tree, mut offset) = (TreeBuilder::default(), 0u64);
        loop {
            match file.next_leaf() {
                Ok(Some(leaf)) => {
                    tree.push(&leaf);
                    if let Some((name, look)) = &mut look {
                        look.chunk(offset, &leaf).map_err(|error| Unusable::Io { name: (*name).to_owned(), error })?;
                    }
                    offset = offset.saturating_add(leaf.len);
                }
                Ok(None) => return Ok(Ok(Walked::To(tree.top()))),
                Err(ChunksFileError::Io(error)) => return Err(failed(error)),
                Err(error) => return Ok(Ok(Walked::Malformed(error))),
            }
        }
    }

    fn compare(
        &mut self,
        record: &Record,
        name: &str,
        bytes: &mut dyn ReadSeek,
        range: &Range<u64>,
    ) -> Result<(), Unusable> {
        let failed = |error| Unusable::Io { name: name.to_owned(), error };
        let whole = *range == (0..record.len);
        let len = bytes.seek(SeekFrom::End(0)).map_err(failed)?;
        bytes.seek(SeekFrom::Start(0)).map_err(failed)?;
        let mut look = Look {
            bytes,
            range: range.clone(),
            digests: (whole && !self.root_only).then(|| BodyDigests::new(record)),
            at: 0,
            checked: 0,
            wrong: Spans::default(),
            absent: Spans::default(),
            buffer: vec![0; BUFFER],
        };
        let chunks = self.object.chunks.as_deref().unwrap_or_default();
        // The file is read a second time, and could have been changed since the first.
        let again = self.walk(chunks, Some((name, &mut look)))?.and_then(|walked| fits(&walked, record));
        if let Err(why) = again {
            self.push(Claim::differs(Question::Root, why).of(chunks, TREE));
            return Ok(());
        }
        let mut faults = Faults { wrong: look.wrong, absent: look.absent, extra: len.saturating_sub(record.len) };
        if !whole && len >= record.len {
            faults.extra = 0;
        }
        self.push(faults.claim(range, look.checked).of(name, TREE));
        if let Some(digests) = look.digests {
            digests.claims(name).into_iter().for_each(|claim| self.push(claim));
        } else if record.body_hash.is_some() || !record.digests.is_empty() {
            let text = if whole {
                Text::new(
                    "left out, as asked for; the object root, which was checked, covers every byte",
                    "依审核方要求未予计算；已核验的对象根覆盖全部字节",
                )
            } else {
                Text::new(
                    "other digests cover all bytes, and a part was looked at",
                    "其他校验值覆盖全部数据，而本次仅核验部分",
                )
            };
            self.push(Claim::not_checked(Question::Digest, text));
        }
        Ok(())
    }
}

/// Whether the chunks are those of the record.
fn fits(walked: &Walked, record: &Record) -> Result<Subtree, Unread> {
    match walked {
        Walked::Malformed(error) => {
            Err(Text::new(format!("the chunks file {error}"), format!("分块文件无效：{error}")))
        }
        Walked::To(top) if top.bytes != record.len => Err(Text::new(
            format!("the chunks have {} bytes, and the record says {}", top.bytes, record.len),
            format!("分块共 {} 字节，而记录为 {} 字节", top.bytes, record.len),
        )),
        Walked::To(top) if Some(top.object_root()) != record.root => Err(Text::new(
            format!("the chunks lead to the object root {}, which is not that of the record", top.object_root()),
            format!("由分块计算所得的对象根为 {}，与记录不符", top.object_root()),
        )),
        Walked::To(top) => Ok(*top),
    }
}
