//! Audits that run by themselves: a sample of shards from every storage node, from time to time. Whichever gateway comes
//! first begins one; the log keeps the others away. Each question makes a drive read a whole shard, so that sample and
//! interval are the budget.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use stele_evidence::audit::progress::Verdict;
use stele_rpc::meta::{MetaReply, MetaRequest, Origin};
use stele_types::object::{Lock, Precondition, StoredHeaders, Tags};
use stele_types::seam::random_bytes;

use super::{Asked, Ended, Standing, Subject, begin, go_on, millis, standing};
use crate::api::{BodyRequest, PutRequest};
use crate::bucket::create_bucket;
use crate::error::{GatewayError, unexpected_reply};
use crate::gateway::Gateway;
use crate::put::put_object;

/// Between two looks at whether an audit is due, or has got further.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A store that was just started has other things to do.
const SETTLE: Duration = Duration::from_secs(600);
/// How long an audit waits for a checkpoint, and for its answers.
const PATIENCE: Duration = Duration::from_secs(3600);
/// Who runs it, in the log.
const PRINCIPAL: &str = "stele";

/// When, how much, and where the reports go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Schedule {
    /// From the beginning of one audit to that of the next.
    pub interval: Duration,
    /// Shards of each storage node.
    pub sample: u64,
    /// Bucket for the reports; made if there is none.
    pub bucket: String,
}

/// Runs audits while the gateway lives.
pub async fn run_schedule(gw: Weak<Gateway>, schedule: Schedule) {
    tokio::time::sleep(SETTLE.min(schedule.interval)).await;
    loop {
        tokio::time::sleep(LOOK_EVERY.min(schedule.interval)).await;
        let Some(gw) = gw.upgrade() else { return };
        match due(&gw, &schedule).await {
            Ok(true) => {}
            Ok(false) => continue,
            Err(error) => {
                tracing::debug!(%error, "whether a possession audit is due is not known");
                continue;
            }
        }
        match run_one(&gw, &schedule).await {
            Ok(ended) => told(&gw, &ended),
            // Another gateway was faster.
            Err(GatewayError::SlowDown { .. }) => {}
            Err(error) => tracing::warn!(%error, "possession audit not run; the next one tries again"),
        }
    }
}

/// A cheap look, before anything is collected. The log decides.
async fn due(gw: &Gateway, schedule: &Schedule) -> Result<bool, GatewayError> {
    let reply = gw.read(MetaRequest::Status).await.map_err(|error| GatewayError::from_meta(error, ""))?;
    let MetaReply::Status(status) = reply else { return Err(unexpected_reply("Status")) };
    let free = status.last_audit.map_or(0, |last| last.saturating_add(millis(schedule.interval)));
    // Without an object there is nothing to ask for.
    Ok(status.versions > 0 && gw.clock.unix_millis() >= free)
}

async fn run_one(gw: &Arc<Gateway>, schedule: &Schedule) -> Result<Arc<Ended>, GatewayError> {
    let origin = Origin { principal: PRINCIPAL.to_owned(), source: String::new(), node: gw.node() };
    let asked = Asked {
        subject: Subject::Sample(schedule.sample),
        groups_per_row: 1,
        spacing: Some(schedule.interval),
        origin: origin.clone(),
    };
    let fixed = begin(gw, asked).await?;
    let id = fixed.id;
    let covered = wait(gw, id, |standing| matches!(standing, Standing::Fixed(Some(_)))).await;
    covered.ok_or_else(|| GatewayError::Unavailable { what: "no checkpoint covers the audit".to_owned() })?;
    let beacon: [u8; 32] = random_bytes(gw.rng.as_ref());
    go_on(gw, id, (format!("drawn by gateway {}", gw.node()), beacon.to_vec())).await?;
    let over = wait(gw, id, |standing| matches!(standing, Standing::Ended(_) | Standing::Failed(_))).await;
    let ended = match over {
        Some(Standing::Ended(ended)) => ended,
        Some(Standing::Failed(why)) => return Err(GatewayError::Unavailable { what: why }),
        _ => return Err(GatewayError::Unavailable { what: "the audit does not come to its end".to_owned() }),
    };
    keep(gw, schedule, &hex::encode(id.0), &ended, &origin).await?;
    Ok(ended)
}

async fn wait(gw: &Gateway, id: super::AuditId, until: impl Fn(&Standing) -> bool) -> Option<Standing> {
    let looked = async {
        loop {
            if let Ok((_, standing)) = standing(gw, id).await
                && until(&standing)
            {
                return standing;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(PATIENCE, looked).await.ok()
}

/// Puts report, keys and slices into the bucket for reports, as one archive.
async fn keep(
    gw: &Arc<Gateway>,
    schedule: &Schedule,
    id: &str,
    ended: &Ended,
    origin: &Origin,
) -> Result<(), GatewayError> {
    match create_bucket(gw, &schedule.bucket, false, origin.clone()).await {
        Ok(_) | Err(GatewayError::BucketAlreadyOwned | GatewayError::BucketExists) => {}
        Err(error) => return Err(error),
    }
    let request = PutRequest {
        bucket: schedule.bucket.clone(),
        key: format!("audits/{id}.tar"),
        body: BodyRequest::from_bytes(Bytes::from(ended.archive()?)),
        headers: StoredHeaders { content_type: Some("application/x-tar".to_owned()), ..StoredHeaders::default() },
        tags: Tags::default(),
        lock: Lock::default(),
        precondition: Precondition::None,
        origin: origin.clone(),
    };
    put_object(gw, request).await.map(drop)
}

fn told(gw: &Gateway, ended: &Ended) {
    gw.metrics.audits.inc();
    let count = |verdict| ended.checked.count(verdict);
    let (ok, failed) = (count(Verdict::Ok), count(Verdict::Failed));
    let silent = count(Verdict::Offline) + count(Verdict::Contained);
    gw.metrics.audit_failures.inc_by(failed as u64);
    gw.metrics.audit_silences.inc_by(silent as u64);
    if failed == 0 {
        tracing::info!(ok, silent, "possession audit");
        return;
    }
    for (place, challenges) in &ended.checked.failed {
        tracing::error!("possession audit: {place} failed {} of its challenges", challenges.len());
    }
}
