//! The events of a key, as fields 13 and 14 of their records chain them: a later event that was left out
//! of a bundle leaves a hole that nobody can paint over.

use std::collections::BTreeMap;

use stele_types::ids::{BucketId, LogIndex};

use crate::bundle::claims::{Claim, Question, Text};
use crate::record::Record;

/// One event of a key, proven to be in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Link {
    event: u64,
    previous: Option<LogIndex>,
    index: u64,
    /// Object of the bundle.
    number: usize,
}

/// The events of all keys in a bundle.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Chains {
    keys: BTreeMap<(BucketId, String), Vec<Link>>,
}

impl Chains {
    /// Adds an event whose entry was proven to stand in the log.
    pub(super) fn push(&mut self, record: &Record, index: u64, number: usize) {
        let link = Link { event: record.key_event, previous: record.previous, index, number };
        self.keys.entry((record.bucket_id, record.key.clone())).or_default().push(link);
    }

    /// One claim for each key, with its last object.
    pub(super) fn claims(mut self) -> Vec<Claim> {
        let mut claims = Vec::new();
        for links in self.keys.values_mut() {
            links.sort_by_key(|link| (link.event, link.index));
            let number = links.last().map(|link| link.number);
            claims.push(Claim { object: number, ..judge(links).of("", "record fields 13 and 14") });
        }
        claims
    }
}

fn judge(links: &[Link]) -> Claim {
    let differs = |en: String, zh: String| Claim::differs(Question::Chain, Text::new(en, zh));
    for link in links {
        let Link { event, index, .. } = *link;
        let before = link.previous.map(|previous| previous.0);
        if (event == 0) != before.is_none() || before.is_some_and(|before| before >= index) {
            return differs(
                format!("the record at log index {index} contradicts itself on the event before it"),
                format!("日志序号 {index} 的记录对前一事件的陈述自相矛盾"),
            );
        }
    }
    for pair in links.windows(2) {
        let [a, b] = pair else { continue };
        if a.event == b.event {
            return differs(
                format!("log indices {} and {} both claim to be event {}", a.index, b.index, a.event),
                format!("日志序号 {} 与 {} 均自称第 {} 号事件", a.index, b.index, a.event),
            );
        }
        if b.event - a.event > 1 {
            let (first, last) = (a.event + 1, b.event - 1);
            return differs(
                format!(
                    "events {first} to {last}, between log indices {} and {}, are not in the bundle",
                    a.index, b.index
                ),
                format!("证据包缺少第 {first} 至 {last} 号事件（日志序号 {} 与 {} 之间）", a.index, b.index),
            );
        }
        if b.previous != Some(LogIndex(a.index)) {
            return differs(
                format!("event {} does not follow the entry at log index {}", b.event, a.index),
                format!("第 {} 号事件并非接续日志序号 {} 的条目", b.event, a.index),
            );
        }
    }
    match links {
        [only] if only.event > 0 => Claim::not_checked(
            Question::Chain,
            Text::new(
                format!("the bundle holds event {} of this key only; those before it are not in it", only.event),
                format!("证据包仅含该键的第 {} 号事件，不含此前事件", only.event),
            ),
        ),
        [first, .., last] if first.event > 0 => Claim::agrees(
            Question::Chain,
            Text::new(
                format!("events {} to {} are all here; those before are not in the bundle", first.event, last.event),
                format!("第 {} 至 {} 号事件齐全；此前事件不在证据包内", first.event, last.event),
            ),
        ),
        _ => {
            let last = links.last().map_or(0, |link| link.event);
            Claim::agrees(
                Question::Chain,
                Text::new(
                    format!("every event of this key from the first (0) to event {last} is here"),
                    format!("该键自首个事件（第 0 号）至第 {last} 号事件齐全"),
                ),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::claims::Outcome;

    fn link(event: u64, previous: Option<u64>, index: u64) -> Link {
        Link { event, previous: previous.map(LogIndex), index, number: 1 }
    }

    #[test]
    fn holes_and_contradictions_show() {
        let good = [link(0, None, 4), link(1, Some(4), 9), link(2, Some(9), 10)];
        assert_eq!(judge(&good).outcome, Outcome::Agrees);
        assert_eq!(judge(&good[..1]).outcome, Outcome::Agrees);
        assert_eq!(judge(&good[1..2]).outcome, Outcome::Open);
        let later = judge(&good[1..]);
        assert!(later.outcome == Outcome::Agrees && later.detail.en.contains("before are not in the bundle"));
        for (bad, says) in [
            (vec![good[0], good[2]], "events 1 to 1, between log indices 4 and 10"),
            (vec![good[0], link(1, Some(3), 9)], "does not follow the entry at log index 4"),
            (vec![good[0], link(0, None, 5)], "both claim to be event 0"),
            (vec![link(0, Some(1), 4)], "contradicts itself"),
            (vec![link(1, None, 4)], "contradicts itself"),
            (vec![link(1, Some(4), 4)], "contradicts itself"),
        ] {
            let claim = judge(&bad);
            assert!(claim.outcome == Outcome::Differs && claim.detail.en.contains(says), "{}", claim.detail.en);
        }
    }
}
