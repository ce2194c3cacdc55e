//! `check`: reads every key of a ledger and lists its prefix; each must be what the ledger allows.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, bail};

use super::CheckArgs;
use super::report::{CheckReport, Verdict};
use super::verify::{ReadEnd, Want, read};
use crate::ledger::Ledger;
use crate::ledger::history::{History, Seen};
use crate::s3::S3;

/// Compares a store with a ledger.
///
/// # Errors
/// If a key can't be read or listed at all; wrong reads are in the report.
pub(crate) async fn check(args: CheckArgs) -> anyhow::Result<CheckReport> {
    let ledger = Arc::new(Ledger::open(&args.ledger, None).await?);
    let target = args.target.target(&ledger.origin.bucket)?;
    let keys = Arc::new(ledger.keys(&ledger.origin.prefix));
    let mut readers = tokio::task::JoinSet::new();
    let step = args.clients.max(1) as usize;
    for first in 0..step {
        let (ledger, keys, mut s3) = (Arc::clone(&ledger), Arc::clone(&keys), S3::new(&target));
        readers.spawn(async move {
            let mut verdict = Verdict::default();
            for (key, _) in keys.iter().skip(first).step_by(step) {
                read_one(&mut s3, &ledger, key, &mut verdict).await?;
            }
            anyhow::Ok(verdict)
        });
    }
    let mut report = CheckReport { acknowledged: ledger.acked(), ..CheckReport::default() };
    while let Some(verdict) = readers.join_next().await {
        report.verdict.merge(verdict.context("a reader failed")??);
    }
    let listed = S3::new(&target).list_all(&ledger.origin.prefix).await.map_err(anyhow::Error::msg)?;
    let listed: BTreeMap<String, u64> = listed.into_iter().map(|row| (row.key, row.size)).collect();
    compare_listing(&keys, &listed, &mut report);
    Ok(report)
}

async fn read_one(s3: &mut S3, ledger: &Ledger, key: &str, verdict: &mut Verdict) -> anyhow::Result<()> {
    match read(s3, ledger, key, Want::Whole, verdict).await {
        ReadEnd::Answered(_) => {}
        ReadEnd::Error(why) => verdict.mismatch(format!("{key}: can't be read: {why}")),
        ReadEnd::Failed(why) => bail!("reading {key}: {why}"),
    }
    Ok(())
}

fn compare_listing(keys: &[(String, History)], listed: &BTreeMap<String, u64>, report: &mut CheckReport) {
    report.keys = keys.len() as u64;
    report.present = listed.len() as u64;
    for (key, history) in keys {
        let size = listed.get(key);
        match history.certain() {
            None => report.unknown += 1,
            Some(Seen::Nothing) if size.is_some() => {
                report.verdict.mismatch(format!("{key}: listed, but it was deleted or never written"));
            }
            Some(Seen::Object { len, .. }) if size != Some(&len) => {
                report.verdict.mismatch(format!("{key}: {len} bytes were acknowledged, the listing shows {size:?}"));
            }
            Some(_) => {}
        }
    }
    for key in listed.keys() {
        if keys.binary_search_by(|(known, _)| known.cmp(key)).is_err() {
            report.verdict.mismatch(format!("{key}: listed, but nobody wrote it"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::history::{Effect, Outcome};

    fn history(steps: &[(Effect, Outcome)]) -> History {
        let mut history = History::default();
        for (effect, outcome) in steps {
            let generation = history.begin(*effect);
            history.settle(generation, *outcome);
        }
        history
    }

    #[test]
    fn a_listing_may_neither_lack_nor_invent_keys() {
        let keys = vec![
            ("a".to_owned(), history(&[(Effect::Put(3), Outcome::Acked)])),
            ("b".to_owned(), history(&[(Effect::Put(3), Outcome::Acked), (Effect::Delete, Outcome::Acked)])),
            ("c".to_owned(), history(&[(Effect::Put(3), Outcome::Open)])),
        ];
        let verdict = |listed: &[(&str, u64)]| {
            let listed = listed.iter().map(|(k, n)| ((*k).to_owned(), *n)).collect();
            let mut report = CheckReport::default();
            compare_listing(&keys, &listed, &mut report);
            report.verdict.mismatches
        };
        assert_eq!(verdict(&[("a", 3)]), 0);
        assert_eq!(verdict(&[("a", 3), ("c", 3)]), 0);
        assert_eq!(verdict(&[]), 1, "lost");
        assert_eq!(verdict(&[("a", 2)]), 1, "wrong size");
        assert_eq!(verdict(&[("a", 3), ("b", 3)]), 1, "risen from the dead");
        assert_eq!(verdict(&[("a", 3), ("d", 1)]), 1, "phantom");
    }
}
