//! What a bundle holds from others than the log's operator, joined with its checkpoint: which objects it is
//! about, and what it dates.

use std::io;

use super::Unusable;
use super::log::LogView;
use crate::bundle::CONSISTENCY_MAX;
use crate::bundle::claims::{Claim, Question, Text};
use crate::bundle::contents::Contents;
use crate::bundle::files::{Source, read_all};
use crate::bundle::join::join;
use crate::proof::Head;

/// A time by which the objects under some size existed, and who vouches for it.
pub(super) struct Dated {
    /// Seconds since the Unix epoch.
    pub(super) time: u64,
    /// Whom one has to trust.
    pub(super) trusted: Text,
}

/// Where things are looked up while outside evidence is judged.
pub(super) struct Outside<'a> {
    pub(super) source: &'a dyn Source,
    pub(super) contents: &'a Contents,
    pub(super) log: &'a LogView<'a>,
    pub(super) claims: Vec<Claim>,
    /// Digests for the report.
    pub(super) digests: Vec<(String, String)>,
    /// Times that hold for every object of the bundle.
    pub(super) dated: Vec<Dated>,
    /// Believed chains that take one history only, and the size they have; every object is below it.
    pub(super) chains: Vec<(String, u64)>,
}

/// A file that can't be used, in words for the report.
pub(super) type Unread = Text;

impl<'a> Outside<'a> {
    pub(super) fn new(source: &'a dyn Source, contents: &'a Contents, log: &'a LogView<'a>) -> Self {
        Self { source, contents, log, claims: Vec::new(), digests: Vec::new(), dated: Vec::new(), chains: Vec::new() }
    }

    /// Reads a small file; a missing or overlong one is a finding, a failing drive is not.
    pub(super) fn load(&self, name: &str, max: usize) -> Result<Result<Vec<u8>, Unread>, Unusable> {
        match read_all(self.source, name, max) {
            Ok(Some(bytes)) => Ok(Ok(bytes)),
            Ok(None) => {
                Ok(Err(Text::new(format!("the file is larger than {max} bytes"), format!("文件超过 {max} 字节"))))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(Err(Text::new("the file is missing", "文件缺失")))
            }
            Err(error) => Err(Unusable::Io { name: name.to_owned(), error }),
        }
    }

    /// Whether this size and root belong to the log of the bundle's checkpoint.
    pub(super) fn joined(&self, theirs: Head, file: Option<&String>) -> Result<Result<(), Text>, Unusable> {
        let Some(ours) = self.log.head() else { return Ok(Err(no_checkpoint())) };
        let proof = match file {
            None => None,
            Some(name) => match self.load(name, CONSISTENCY_MAX)? {
                Ok(bytes) => Some(bytes),
                Err(why) => return Ok(Err(Text::new(format!("{name}: {}", why.en), format!("{name}：{}", why.zh)))),
            },
        };
        Ok(join(ours, theirs, proof.as_deref()).map_err(|error| {
            Text::new(
                format!("size {} does not join the bundle's checkpoint: {error}", theirs.size),
                format!("大小 {} 与证据包的检查点不能衔接：{error}", theirs.size),
            )
        }))
    }

    /// How many objects of the bundle stand below this size, and the words for it.
    pub(super) fn covered(&self, size: u64) -> (Covered, Text) {
        let all = self.contents.objects.len();
        let below = self.contents.objects.iter().filter(|object| object.index < size).count();
        match below {
            0 => (
                Covered::None,
                Text::new(
                    format!("it was made at size {size}, before any object of this bundle was logged"),
                    format!("其对应日志大小为 {size}，早于本证据包任何对象的记录"),
                ),
            ),
            below if below == all => {
                (Covered::All, Text::new("it covers every object of this bundle", "涵盖本证据包全部对象"))
            }
            below => (
                Covered::Some,
                Text::new(
                    format!("of {all} objects it covers the {below} whose log index is below {size}"),
                    format!("在 {all} 个对象中涵盖日志序号小于 {size} 的 {below} 个"),
                ),
            ),
        }
    }

    /// A claim on nothing, as no object is covered.
    pub(super) fn covers_none(&mut self, question: Question, file: &str, covered: Text) {
        self.claims.push(Claim::not_checked(question, covered).of(file, ""));
    }
}

/// Which objects are below a size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Covered {
    None,
    Some,
    All,
}

fn no_checkpoint() -> Text {
    Text::new(
        "no checkpoint of the bundle was accepted that it could be joined with",
        "证据包无被接受的检查点可与之衔接",
    )
}
