//! Which bytes differ: ranges of an object, joined where they touch, few enough to be shown.

use std::fmt;
use std::ops::Range;

/// Most ranges that are kept.
const KEPT: usize = 8;

/// Ranges of bytes, added in ascending order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Spans {
    kept: Vec<Range<u64>>,
    /// Bytes of ranges that were not kept.
    more: u64,
}

impl Spans {
    pub(super) fn push(&mut self, span: Range<u64>) {
        if span.is_empty() {
            return;
        }
        let full = self.kept.len() == KEPT;
        match self.kept.last_mut() {
            Some(last) if self.more == 0 && last.end == span.start => last.end = span.end,
            _ if full => self.more = self.more.saturating_add(span.end - span.start),
            _ => self.kept.push(span),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}

impl fmt::Display for Spans {
    /// First and last bytes included.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, span) in self.kept.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{}-{}", span.start, span.end.saturating_sub(1))?;
        }
        if self.more > 0 {
            write!(f, ", and {} bytes more", self.more)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_joined_and_the_rest_is_counted() {
        let mut spans = Spans::default();
        assert!(spans.is_empty());
        spans.push(3..3);
        spans.push(3..5);
        spans.push(5..9);
        assert_eq!(spans.to_string(), "3-8");
        for n in 1..10u64 {
            spans.push(n * 100..n * 100 + 10);
        }
        spans.push(910..911);
        assert!(spans.to_string().ends_with("700-709, and 21 bytes more"), "{spans}");
    }
}
