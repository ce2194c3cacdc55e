//! The judgement of a bundle, and its three forms: text for terminals, JSON for programs, and a page for
//! people to print. None of them says more than the claims.

use serde::Serialize;

use super::claims::{Claim, Outcome, Text};

mod html;
mod text;

pub use text::visible;

/// One object of the bundle, as its record says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ObjectFacts {
    /// From 1, as in the contents.
    pub number: usize,
    /// Name of the bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The version, hexadecimal.
    pub version: String,
    /// What happened.
    pub event: &'static str,
    /// When, as the operator says; UTC.
    pub time: String,
    /// Bytes of the version.
    pub len: u64,
    /// Index of the entry in the log.
    pub index: u64,
    /// What it is, and the digest in hexadecimal.
    pub digests: Vec<(String, String)>,
}

/// A judgement.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Report {
    /// Name and version of the verifier.
    pub verifier: &'static str,
    /// What made the bundle, as it says itself; empty if its contents can't be believed.
    pub tool: String,
    /// When, as it says itself.
    pub created: String,
    /// Origin of the log.
    pub origin: String,
    /// The policy was the auditor's own.
    pub own_policy: bool,
    /// What the auditor's file is called, if there was one.
    pub file: Option<String>,
    /// The objects.
    pub objects: Vec<ObjectFacts>,
    /// The claims: those on the whole bundle first, then by object.
    pub claims: Vec<Claim>,
    /// Digests of the whole bundle: what it is, and hexadecimal.
    pub digests: Vec<(String, String)>,
}

/// Name and version of the verifier.
pub const VERIFIER: &str = concat!("stele-verify ", env!("CARGO_PKG_VERSION"));

impl Report {
    /// Whether nothing that was checked differs.
    pub fn consistent(&self) -> bool {
        self.claims.iter().all(|claim| claim.outcome != Outcome::Differs)
    }

    /// The conclusion in one sentence.
    pub fn verdict(&self) -> Text {
        if !self.consistent() {
            return Text::new(
                "INCONSISTENT: at least one claim does not hold; see below which",
                "不一致：至少有一项核验不符，详见下表",
            );
        }
        if self.own_policy {
            Text::new("CONSISTENT: every claim that was checked holds", "一致：所有已核验事项均相符")
        } else {
            Text::new(
                "CONSISTENT WITHIN ITSELF: every claim that was checked holds, but only by the trust policy that came with \
                 the bundle, which proves nothing about who signed",
                "自身一致：所有已核验事项均相符，但仅依据证据包自带的信任策略，该策略不能证明签名者的身份",
            )
        }
    }

    /// For programs. Pretty-printed, ends with LF.
    pub fn to_json(&self) -> String {
        /// The judgement in front of what it rests on.
        #[derive(Serialize)]
        struct Judged<'a> {
            consistent: bool,
            verdict: Text,
            #[serde(flatten)]
            report: &'a Report,
        }
        let judged = Judged { consistent: self.consistent(), verdict: self.verdict(), report: self };
        // Texts, numbers and lists can always be written; the text keeps a program from reading nothing as good.
        let json = serde_json::to_string_pretty(&judged);
        json.unwrap_or_else(|error| format!("{{\"consistent\": false, \"error\": \"{error}\"}}")) + "\n"
    }
}
