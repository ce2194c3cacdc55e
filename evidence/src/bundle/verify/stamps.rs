//! Time stamps: what an authority that the log's operator does not run dates. Its certificate proves who it is
//! only if it leads to a root that the auditor brought.

use super::Unusable;
use super::outside::{Covered, Dated, Outside};
use crate::bundle::calendar::utc;
use crate::bundle::claims::{Claim, Question, Text};
use crate::bundle::contents::BundleTimestamp;
use crate::checkpoint::Checkpoint;
use crate::note::{NOTE_MAX, Note};
use crate::proof::Head;
use crate::timestamp::response::Response;
use crate::timestamp::roots::Roots;
use crate::timestamp::{RESPONSE_MAX, Stamped};

impl Outside<'_> {
    /// Judges every time stamp.
    pub(super) fn timestamps(&mut self, roots: &Roots) -> Result<(), Unusable> {
        let contents = self.contents;
        for timestamp in &contents.timestamps {
            let found = match self.stamped(timestamp, roots)? {
                Ok((stamped, head)) => {
                    self.joined(head, timestamp.consistency.as_ref())?.map(|()| (stamped, head.size))
                }
                Err(why) => Err(why),
            };
            match found {
                Ok((stamped, size)) => self.stamp_holds(timestamp, &stamped, size),
                Err(why) => {
                    let claim = Claim::differs(Question::Timestamp, why);
                    self.claims.push(claim.of(&timestamp.response, "RFC 3161"));
                }
            }
        }
        Ok(())
    }

    /// What the token shows, and size and root of the checkpoint that it shows it of.
    fn stamped(&self, timestamp: &BundleTimestamp, roots: &Roots) -> Result<Result<(Stamped, Head), Text>, Unusable> {
        let response = match self.load(&timestamp.response, RESPONSE_MAX)? {
            Ok(bytes) => bytes,
            Err(why) => return Ok(Err(why)),
        };
        let (content, head) = match &timestamp.checkpoint {
            None => match (self.log.note(), self.log.head()) {
                (Some(note), Some(head)) => (note.as_bytes().to_vec(), head),
                _ => {
                    return Ok(Err(Text::new(
                        "no checkpoint was accepted that it could be of",
                        "无被接受的检查点可与之对应",
                    )));
                }
            },
            Some(name) => match self.load(name, NOTE_MAX)? {
                Ok(bytes) => match self.checkpoint(&bytes) {
                    Ok(head) => (bytes, head),
                    Err(why) => return Ok(Err(Text::new(format!("{name}: {why}"), format!("{name}：{why}")))),
                },
                Err(why) => return Ok(Err(Text::new(format!("{name}: {}", why.en), format!("{name}：{}", why.zh)))),
            },
        };
        let stamped = Response::parse(&response).and_then(|response| response.verify(&content, roots, None));
        Ok(stamped.map(|stamped| (stamped, head)).map_err(|error| {
            Text::new(format!("the time stamp does not hold: {error}"), format!("时间戳不成立：{error}"))
        }))
    }

    /// Size and root of a stamped checkpoint of our log. Its signatures don't matter for its age.
    fn checkpoint(&self, bytes: &[u8]) -> Result<Head, String> {
        let note = Note::parse(bytes).map_err(|error| error.to_string())?;
        let checkpoint = Checkpoint::parse(note.text()).map_err(|error| error.to_string())?;
        if checkpoint.origin() == self.contents.origin {
            Ok(checkpoint.head())
        } else {
            Err(format!("a checkpoint of the log {:?}", checkpoint.origin()))
        }
    }

    fn stamp_holds(&mut self, timestamp: &BundleTimestamp, stamped: &Stamped, size: u64) {
        let (covered, words) = self.covered(size);
        let (at, Stamped { authority, policy, serial, .. }) = (utc(stamped.latest), stamped);
        let (rooted_en, rooted_zh) = if stamped.rooted {
            ("its certificates lead to a root of yours", "其证书可追溯至审核方提供的根证书")
        } else {
            (
                "nobody vouches for its certificate: bring the authority's root with --tsa-root",
                "其证书无人担保：请以 --tsa-root 提供该机构的根证书",
            )
        };
        let detail = Text::new(
            format!(
                "{authority} stamped the log of {size} entries, which so existed by {at} at the latest (policy {policy}, \
                 serial {serial}); {rooted_en}; {}",
                words.en
            ),
            format!(
                "{authority} 为含 {size} 条的日志加盖时间戳，证明其最迟于 {at} 已存在（策略 {policy}，序列号 {serial}）；\
                 {rooted_zh}；{}",
                words.zh
            ),
        );
        if covered == Covered::None {
            return self.covers_none(Question::Timestamp, &timestamp.response, detail);
        }
        let trusted = Text::new(format!("the authority {authority}"), format!("时间戳机构 {authority}"));
        let claim = if stamped.rooted {
            Claim::agrees(Question::Timestamp, detail).trusting(&trusted.en, &trusted.zh)
        } else {
            Claim::asserted(Question::Timestamp, detail)
        };
        self.claims.push(claim.of(&timestamp.response, "RFC 3161, SHA-256").at(at));
        if stamped.rooted && covered == Covered::All {
            self.dated.push(Dated { time: stamped.latest, trusted });
        }
    }
}
