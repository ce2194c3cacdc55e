//! The judgement for a terminal.

use std::fmt::Write as _;

use super::Report;
use crate::bundle::claims::Claim;

/// Characters that turn the direction of text around or can't be seen. A key with one of them could
/// be made to look like another key.
const fn deceives(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A text from the bundle as it may be shown: whatever controls a terminal or turns text around is
/// written as its number.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || deceives(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

impl Report {
    /// For terminals and log files. Ends with LF.
    pub fn to_text(&self) -> String {
        let verdict = self.verdict();
        let mut out = format!("{}\n{}\n\n", verdict.zh, verdict.en);
        line(&mut out, "log", &self.origin);
        line(&mut out, "bundle made", &format!("{} by {}", self.created, self.tool));
        line(
            &mut out,
            "trust policy",
            if self.own_policy { "the auditor's own" } else { "the bundle's (proves nothing)" },
        );
        line(&mut out, "verifier", self.verifier);
        out.push('\n');
        self.claims.iter().filter(|claim| claim.object.is_none()).for_each(|claim| print(&mut out, claim));
        for object in &self.objects {
            out.push('\n');
            let head = format!("object {}: {} {}/{}", object.number, object.event, object.bucket, object.key);
            out.push_str(&visible(&head));
            out.push('\n');
            line(&mut out, "version", &object.version);
            line(&mut out, "log index", &object.index.to_string());
            line(&mut out, "bytes", &object.len.to_string());
            self.claims
                .iter()
                .filter(|claim| claim.object == Some(object.number))
                .for_each(|claim| print(&mut out, claim));
        }
        out
    }
}

fn line(out: &mut String, label: &str, value: &str) {
    // Writing to a String can't fail.
    let _ignored = writeln!(out, "  {label:<14}{}", visible(value));
}

fn print(out: &mut String, claim: &Claim) {
    let head = format!("{} {} [{}]", claim.outcome.zh(), claim.question.en(), claim.class.en());
    let file = if claim.file.is_empty() { String::new() } else { format!(" ({})", visible(&claim.file)) };
    let _ignored = writeln!(out, "{head}{file}\n      {}", visible(&claim.detail.en));
}
