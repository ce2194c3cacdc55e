//! The events of a key, as fields 13 and 14 of their records chain them: a later event that was left out
//! of a bundle leaves a hole that nobody can paint over. Only an erasure that is itself in the log explains one, and
//! then nothing is known of what was there.

use std::collections::BTreeMap;

use stele_types::ids::{BucketId, LogIndex};

use super::erased::Erasures;
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
    erasures: Erasures,
}

impl Chains {
    /// Adds an event whose entry was proven to stand in the log.
    pub(super) fn push(&mut self, record: &Record, index: u64, number: usize) {
        if self.erasures.take(record, index, number) {
            return;
        }
        let link = Link { event: record.key_event, previous: record.previous, index, number };
        self.keys.entry((record.bucket_id, record.key.clone())).or_default().push(link);
    }

    /// One claim for each key, with its last object.
    pub(super) fn claims(mut self) -> Vec<Claim> {
        let mut claims = Vec::new();
        for links in self.keys.values_mut() {
            links.sort_by_key(|link| (link.event, link.index));
            let number = links.last().map(|link| link.number);
            claims.push(Claim { object: number, ..judge(links, &self.erasures).of("", "record fields 13 and 14") });
        }
        if let Some(number) = self.erasures.number() {
            let claim = of_erasures(&self.erasures).of("", "record field 21");
            claims.push(Claim { object: Some(number), ..claim });
        }
        claims
    }
}

/// A bundle has the erasures that its holes need, so gaps between them say nothing.
fn of_erasures(erasures: &Erasures) -> Claim {
    if let Some(index) = erasures.contradiction() {
        let text = Text::new(
            format!("the erasure at log index {index} names entries that were not there yet"),
            format!("日志序号 {index} 的销毁事件所列条目在当时尚不存在"),
        );
        return Claim::differs(Question::Chain, text);
    }
    let text = Text::new(
        "the log has these erasures; whether it has others can't be seen from the bundle",
        "日志载有上述销毁事件；是否另有其他销毁事件，证据包不能显示",
    );
    Claim::not_checked(Question::Chain, text)
}

/// What is known of events that are missing in front of `next`, which stands behind `before` or begins the bundle.
fn erased(before: Option<&Link>, next: &Link, erasures: &Erasures) -> Option<Text> {
    let (first, from) = before.map_or((0, 0), |link| (link.event + 1, link.index + 1));
    let last = next.event.checked_sub(1).filter(|last| *last >= first)?;
    let found = erasures.explain(from..next.index, next.previous?, last - first + 1)?;
    let (en, zh) = (found.en(), found.zh());
    let place = match before {
        Some(link) => (
            format!("between log indices {} and {}", link.index, next.index),
            format!("日志序号 {} 与 {} 之间", link.index, next.index),
        ),
        None => (format!("before log index {}", next.index), format!("日志序号 {} 之前", next.index)),
    };
    Some(Text::new(
        format!(
            "events {first} to {last} of this key, {}, were erased by the operator {en}; what they said is not known",
            place.0
        ),
        format!("该键第 {first} 至 {last} 号事件（{}）已由运营方销毁：{zh}；其内容不可知", place.1),
    ))
}

fn judge(links: &[Link], erasures: &Erasures) -> Claim {
    let mut holes: Vec<Text> = links.first().and_then(|first| erased(None, first, erasures)).into_iter().collect();
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
        if let Some(hole) = erased(Some(a), b, erasures) {
            holes.push(hole);
            continue;
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
    if !holes.is_empty() {
        let join = |text: fn(&Text) -> &str| holes.iter().map(text).collect::<Vec<_>>().join("; ");
        return Claim::asserted(Question::Chain, Text::new(join(|text| &text.en), join(|text| &text.zh)));
    }
    complete(links)
}

/// A chain without a hole.
fn complete(links: &[Link]) -> Claim {
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
    use crate::bundle::claims::{Class, Outcome};
    use crate::bundle::verify::erased::erasures_of;

    fn judge(links: &[Link]) -> Claim {
        super::judge(links, &Erasures::default())
    }

    #[test]
    fn a_hole_that_an_erasure_names_is_shown_and_never_agrees() {
        let links = [link(0, None, 4), link(3, Some(9), 10), link(4, Some(10), 30)];
        let named = erasures_of(&[(20, &[(5, 1), (9, 1)])]);
        let claim = super::judge(&links, &named);
        assert_eq!((claim.outcome, claim.class), (Outcome::Open, Class::Asserted));
        let says = "events 1 to 2 of this key, between log indices 4 and 10, were erased by the operator on \
                    2026-11-22T00:00:00Z (erasures at log indices 20); what they said is not known";
        assert_eq!(claim.detail.en, says);
        assert!(claim.detail.zh.contains("已由运营方销毁"), "{}", claim.detail.zh);
        // At the beginning.
        let early = super::judge(&links[1..], &erasures_of(&[(20, &[(0, 10)])]));
        assert!(early.outcome == Outcome::Open && early.detail.en.contains("before log index 10"));
        // Erasures of other entries, of too few, of what is after the hole, and one that lies in time.
        for other in [&[(6u64, 3u64)][..], &[(9, 1)], &[(4, 1), (11, 5)]] {
            assert_eq!(super::judge(&links, &erasures_of(&[(20, other)])).outcome, Outcome::Differs, "{other:?}");
        }
        assert_eq!(super::judge(&links, &erasures_of(&[(9, &[(5, 1), (9, 1)])])).outcome, Outcome::Differs);
        // Another hole in the same chain is still one.
        let two = [links[0], links[1], link(6, Some(29), 30)];
        assert_eq!(super::judge(&two, &named).outcome, Outcome::Differs);
        // An event that is here and a hole that begins with a lie about what came before.
        let wrong = [links[0], link(3, Some(3), 10)];
        assert_eq!(super::judge(&wrong, &erasures_of(&[(20, &[(0, 10)])])).outcome, Outcome::Differs);
    }

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
