//! A checked report in words, for people: what was found, how far it is proven, and what it does not show.

use std::fmt::Write as _;

use super::detection::{REPLICAS, SHARES};
use super::progress::Verdict;
use super::verify::{Checked, Coverage, Place, Standing};

/// Most places that the text names; the others are counted.
const NAMED_MAX: usize = 100;

impl Standing {
    /// How it is put in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Proven => "proven by a signed answer",
            Self::Signed => "signed by the node; the slice was not at hand",
            Self::Asserted => "asserted by whoever ran the audit",
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Drive(node, drive) => write!(f, "drive {drive} of node {node}"),
            Self::Object(node, object) => write!(f, "object {object}, asked of node {node}"),
        }
    }
}

impl Checked {
    /// The report as plain text.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let mut line = |words: std::fmt::Arguments<'_>| writeln!(text, "{words}").unwrap_or_default();
        for verdict in Verdict::ALL {
            line(format_args!("{}: {}", verdict.name(), self.count(verdict)));
            for ((_, standing), count) in self.counts.iter().filter(|((found, _), _)| *found == verdict) {
                line(format_args!("  {count} {}", standing.name()));
            }
        }
        for (place, outcomes) in self.failed.iter().take(NAMED_MAX) {
            line(format_args!("FAILED: {place}: {} challenges", outcomes.len()));
        }
        if self.failed.len() > NAMED_MAX {
            line(format_args!("FAILED: {} more places", self.failed.len() - NAMED_MAX));
        }
        for node in &self.coverage {
            line(format_args!("{node}"));
        }
        let covered = if self.complete { "Every row of every inventory was" } else { "Not every row was" };
        line(format_args!(
            "{covered} asked for. That the inventories list all that the nodes should hold is asserted."
        ));
        line(format_args!("{REPLICAS}"));
        text
    }
}

impl std::fmt::Display for Coverage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "node {}: {} of {} rows asked for", self.node, self.asked, self.rows)?;
        let Some(detection) = self.detection else {
            return f.write_str("; the rows were chosen, so this says nothing of the others");
        };
        f.write_str("; chance that at least one was asked for:")?;
        for (at, (share, (lost, found))) in SHARES.into_iter().zip(detection).enumerate() {
            let comma = if at == 0 { "" } else { "," };
            // Rounded down: a text that says 100 % is certain.
            let found = (found * 1e6).floor() / 1e4;
            write!(f, "{comma} {found} % of {lost} lost rows ({} %)", (share * 1e6).round() / 1e4)?;
        }
        Ok(())
    }
}
