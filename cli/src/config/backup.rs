//! Backups of a cluster's metadata.

use serde::{Deserialize, Serialize};
use stele_metadata::backup::Recipient;

use super::Span;

/// Backups of the metadata. Unused by `stele dev`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Backup {
    /// Where they go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<String>,
    /// The operator's public key, from `stele backup keygen`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) recipient: Option<String>,
    /// From one to the next.
    pub(crate) interval: Span,
    /// Backups that are kept; older ones are removed.
    pub(crate) keep: u32,
}

impl Default for Backup {
    fn default() -> Self {
        Self { url: None, recipient: None, interval: Span(3_600_000), keep: 48 }
    }
}

impl Backup {
    /// Whether it can be used.
    ///
    /// # Errors
    /// Says what is out of range.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.url.is_some() != self.recipient.is_some() {
            return Err("backup.url and backup.recipient belong together; set both or neither".into());
        }
        if let Some(recipient) = &self.recipient {
            recipient.parse::<Recipient>().map_err(|error| format!("backup.recipient: {error}"))?;
        }
        let interval = self.interval;
        if !(1_000..=86_400_000 * 31).contains(&interval.0) {
            return Err(format!("backup.interval = {interval}: 1s to 31d are possible"));
        }
        if !(1..=100_000).contains(&self.keep) {
            return Err(format!("backup.keep = {}: 1 to 100000 are possible", self.keep));
        }
        Ok(())
    }
}
