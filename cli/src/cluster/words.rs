//! Words of the command line that are not numbers or names.

use crate::config::Span;

/// `stele cluster rebalance`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Rebalance {
    /// Moves that have begun end, no others begin.
    Pause,
    /// Go on.
    Resume,
}

/// Ids of nodes, for people.
pub(super) fn listed(nodes: &[u64]) -> String {
    nodes.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}

/// How long evidence is kept; `None`: for ever.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keeping(pub(super) Option<Span>);

impl std::str::FromStr for Keeping {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "forever" => Ok(Self(None)),
            time => time.parse().map(|span| Self(Some(span))).map_err(|error| format!("{error}, or forever")),
        }
    }
}
