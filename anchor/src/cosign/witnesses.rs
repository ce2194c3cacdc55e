//! All witnesses of a policy, asked at once.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};
use reqwest::Client;
use stele_evidence::keys::TrustedKey;
use stele_evidence::note::{Note, SignatureLine};
use stele_evidence::policy::{Party, Policy};
use tokio::time::{Instant, timeout, timeout_at};

use super::site::{NoCosignature, Proves, Site};
use crate::http::{Address, client};

/// How long the others are waited for once enough have cosigned.
pub const GRACE: Duration = Duration::from_secs(2);

/// Why the witnesses of a policy can't be asked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WitnessesError {
    /// A witness has no address.
    #[error(
        "the policy gives no http or https URL for the witness {0:?}: it is the fourth word of its line, and where its \
         add-checkpoint is found"
    )]
    NoUrl(String),
    /// A key can't be used.
    #[error("the key of the witness {0:?} can't be used")]
    Key(String),
    /// No HTTP client.
    #[error("the HTTP client can't be made: {0}")]
    Client(String),
}

/// What a round of questions brought.
#[derive(Debug)]
pub struct Collected {
    /// Verified cosignatures, in the policy's order of witnesses.
    pub lines: Vec<SignatureLine>,
    /// Who gave none, by names in the policy and host; or not with all keys.
    pub absent: Vec<(String, NoCosignature)>,
}

impl Collected {
    /// True if a witness says that there is another history of the log, or a longer one.
    pub fn is_alarm(&self) -> bool {
        self.absent.iter().any(|(_, why)| why.is_alarm())
    }
}

/// The witnesses of a policy, and what each has seen.
#[derive(Debug)]
pub struct Witnesses {
    http: Client,
    sites: Vec<Site>,
    timeout: Duration,
}

impl Witnesses {
    /// Those of a policy; keys with one URL are one witness. Nothing is asked yet. `timeout`: for the conversation with
    /// one of them.
    ///
    /// # Errors
    /// [`WitnessesError`].
    pub fn from_policy(policy: &Policy, timeout: Duration) -> Result<Self, WitnessesError> {
        let mut order: Vec<String> = Vec::new();
        let mut by_url: BTreeMap<String, Vec<&Party>> = BTreeMap::new();
        for party in policy.witnesses() {
            let url = party.url.as_deref().and_then(|url| std::str::from_utf8(url).ok());
            let url = url.ok_or_else(|| WitnessesError::NoUrl(party_name(party)))?.trim_end_matches('/').to_owned();
            let parties = by_url.entry(url.clone()).or_default();
            if parties.is_empty() {
                order.push(url);
            }
            parties.push(party);
        }
        let site = |url: &String| site(url, by_url.get(url).map(Vec::as_slice).unwrap_or_default());
        let sites = order.iter().map(site).collect::<Result<_, _>>()?;
        Ok(Self { http: client(timeout).map_err(WitnessesError::Client)?, sites, timeout })
    }

    /// Asks all of them for cosignatures of `note`, the checkpoint of `size` leaves. Once `enough` says so of what has
    /// come, the others have [`GRACE`] left.
    pub async fn collect(
        &self,
        (note, size): (&Note, u64),
        proofs: &dyn Proves,
        enough: &(dyn Fn(&[SignatureLine]) -> bool + Sync),
    ) -> Collected {
        let mut asked: FuturesUnordered<_> = (self.sites.iter().enumerate())
            .map(|(at, site)| async move {
                let asked = timeout(self.timeout, site.ask(&self.http, (note, size), proofs)).await;
                (at, asked.unwrap_or(Err(NoCosignature::Slow)))
            })
            .collect();
        let mut outcomes = BTreeMap::new();
        let mut deadline = enough(&[]).then(|| Instant::now() + GRACE);
        loop {
            let next = match deadline {
                Some(at) => timeout_at(at, asked.next()).await.unwrap_or(None),
                None => asked.next().await,
            };
            let Some((at, outcome)) = next else { break };
            outcomes.insert(at, outcome);
            if deadline.is_none() {
                let lines: Vec<_> = outcomes.values().flatten().flatten().cloned().collect();
                deadline = enough(&lines).then(|| Instant::now() + GRACE);
            }
        }
        self.sum_up(outcomes)
    }

    fn sum_up(&self, mut outcomes: BTreeMap<usize, Result<Vec<SignatureLine>, NoCosignature>>) -> Collected {
        let mut collected = Collected { lines: Vec::new(), absent: Vec::new() };
        for (at, site) in self.sites.iter().enumerate() {
            match outcomes.remove(&at).unwrap_or(Err(NoCosignature::Slow)) {
                Ok(lines) => {
                    if let Some(key) = site.silent_key(&lines) {
                        collected.absent.push((site.label.clone(), NoCosignature::Key(key)));
                    }
                    collected.lines.extend(lines);
                }
                Err(error) => collected.absent.push((site.label.clone(), error)),
            }
        }
        collected
    }
}

fn party_name(party: &Party) -> String {
    String::from_utf8_lossy(&party.name).into_owned()
}

fn site(url: &str, parties: &[&Party]) -> Result<Site, WitnessesError> {
    let names: Vec<String> = parties.iter().map(|party| party_name(party)).collect();
    let names = names.join(", ");
    let address = Address::parse(&format!("{url}/add-checkpoint"));
    let address = address.ok_or_else(|| WitnessesError::NoUrl(names.clone()))?;
    let key = |party: &&Party| TrustedKey::new(party.key.clone()).map_err(|_| WitnessesError::Key(party_name(party)));
    let keys = parties.iter().map(key).collect::<Result<_, _>>()?;
    Ok(Site { label: format!("{names} ({})", address.host()), address, keys, size: AtomicU64::new(0) })
}
