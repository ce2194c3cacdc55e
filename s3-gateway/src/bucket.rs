//! Buckets: create, delete, look up, list; and the cache of bucket rows that the flows plan with.
//!
//! A cached row may be old. Every request that uses one carries its ids and epochs, so the metadata
//! service refuses an old one; [`with_bucket`] then fetches the row anew and tries again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stele_rpc::error::{Code, RpcError};
use stele_rpc::meta::{BucketChange, Command, ListPage, MetaReply, MetaRequest, Origin, RangeRef, WriteGuard};
use stele_types::ids::Epoch;
use stele_types::object::BucketRow;
use tokio::sync::Semaphore;

use crate::error::{GatewayError, unexpected_reply};
use crate::gateway::Gateway;

/// Rows kept; when full, the cache starts anew.
const CACHED_BUCKETS_MAX: usize = 4096;
/// How often a flow plans anew because the bucket changed under it.
const STALE_RETRIES: usize = 4;

/// Names whose rows [`lately`] remembers, also those of no bucket; when full, it starts anew.
const LATELY_MAX: usize = 1024;
/// How old a row may be where nobody is refused for its age: reads that no metadata guards.
const LATELY: Duration = Duration::from_secs(5);
/// Questions of anonymous requests at once. The others wait, so that strangers who ask for buckets of any
/// name cost the metadata nodes no more than this.
const ASKING_MAX: usize = 4;

/// When, and what was there: no row for no bucket.
type Sighting = (u64, Option<Arc<BucketRow>>);

/// Bucket rows by name.
#[derive(Debug)]
pub(crate) struct BucketCache {
    rows: Mutex<BTreeMap<String, Arc<BucketRow>>>,
    /// What [`lately`] saw, and when, in microseconds of the gateway's clock; `None`: no such bucket.
    lately: Mutex<BTreeMap<String, Sighting>>,
    asking: Semaphore,
}

impl Default for BucketCache {
    fn default() -> Self {
        Self { rows: Mutex::default(), lately: Mutex::default(), asking: Semaphore::new(ASKING_MAX) }
    }
}

impl BucketCache {
    fn get(&self, name: &str) -> Option<Arc<BucketRow>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub(crate) fn remember(&self, row: Arc<BucketRow>) {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        if rows.len() >= CACHED_BUCKETS_MAX {
            rows.clear();
        }
        rows.insert(row.name.clone(), row);
    }

    /// The row seen for `name` since `oldest`.
    fn seen_since(&self, name: &str, oldest: u64) -> Option<Option<Arc<BucketRow>>> {
        let lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        lately.get(name).filter(|(at, _)| *at >= oldest).map(|(_, row)| row.clone())
    }

    fn saw(&self, name: &str, now: u64, row: Option<Arc<BucketRow>>) {
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        if lately.len() >= LATELY_MAX {
            lately.clear();
        }
        lately.insert(name.to_owned(), (now, row));
    }

    fn forget(&self, name: &str) {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        self.lately.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

/// Where the keys of a bucket live.
pub(crate) fn range_of(row: &BucketRow) -> RangeRef {
    RangeRef { bucket: row.id, range: row.range, epoch: row.range_epoch }
}

/// Guards of a write planned with this row.
pub(crate) fn guard_of(row: &BucketRow, start_epoch: Epoch) -> WriteGuard {
    WriteGuard { range: range_of(row), config_epoch: row.config_epoch, start_epoch }
}

/// The bucket's row, cached or fetched.
pub(crate) async fn lookup(gw: &Gateway, name: &str) -> Result<Arc<BucketRow>, GatewayError> {
    match gw.buckets.get(name) {
        Some(row) => Ok(row),
        None => fetch(gw, name).await,
    }
}

/// The bucket's row as it was at most 5 s ago. For what anybody may ask, and no commit checks.
///
/// # Errors
/// `NoSuchBucket`, `Unavailable`.
pub(crate) async fn lately(gw: &Gateway, name: &str) -> Result<Arc<BucketRow>, GatewayError> {
    let absent = || GatewayError::NoSuchBucket { bucket: name.to_owned() };
    let oldest = || {
        let age = u64::try_from(LATELY.as_micros()).unwrap_or(u64::MAX);
        gw.clock.monotonic_micros().saturating_sub(age)
    };
    if let Some(seen) = gw.buckets.seen_since(name, oldest()) {
        return seen.ok_or_else(absent);
    }
    let _asking = gw.buckets.asking.acquire().await;
    // Somebody else may have asked meanwhile.
    if let Some(seen) = gw.buckets.seen_since(name, oldest()) {
        return seen.ok_or_else(absent);
    }
    // The row may be older than the question, never younger.
    let now = gw.clock.monotonic_micros();
    let fetched = fetch(gw, name).await;
    match &fetched {
        Ok(row) => gw.buckets.saw(name, now, Some(Arc::clone(row))),
        Err(GatewayError::NoSuchBucket { .. }) => gw.buckets.saw(name, now, None),
        Err(_) => {}
    }
    fetched
}

async fn fetch(gw: &Gateway, name: &str) -> Result<Arc<BucketRow>, GatewayError> {
    let request = MetaRequest::Bucket { name: name.to_owned() };
    match gw.read(request).await.map_err(|e| GatewayError::from_meta(e, name))? {
        MetaReply::Bucket(row) => {
            let row = Arc::new(*row);
            gw.buckets.remember(Arc::clone(&row));
            Ok(row)
        }
        _ => Err(unexpected_reply("Bucket")),
    }
}

const fn is_stale(code: Code) -> bool {
    matches!(code, Code::StaleConfig | Code::StaleRange | Code::NoSuchBucket)
}

/// Runs a request that depends on the bucket's row; with an old row, again with a fresh one.
///
/// # Errors
/// `NoSuchBucket`, what the request answered, or `Conflict` if the bucket keeps changing.
pub(crate) async fn with_bucket<T, F, R>(gw: &Gateway, name: &str, mut request: F) -> Result<T, GatewayError>
where
    F: FnMut(Arc<BucketRow>) -> R + Send,
    R: Future<Output = Result<T, RpcError>> + Send,
{
    let mut row = lookup(gw, name).await?;
    for _ in 0..STALE_RETRIES {
        match request(Arc::clone(&row)).await {
            Err(error) if is_stale(error.code) => {
                gw.buckets.forget(name);
                let fresh = fetch(gw, name).await?;
                if fresh == row {
                    return Err(GatewayError::from_meta(error, name));
                }
                row = fresh;
            }
            answer => return answer.map_err(|error| GatewayError::from_meta(error, name)),
        }
    }
    Err(GatewayError::Conflict { what: format!("the configuration of bucket {name} keeps changing") })
}

/// Creates a bucket; the name must be valid by S3's rules. With object lock it has versioning too.
///
/// # Durability
/// Ok: committed.
///
/// # Errors
/// `BucketAlreadyOwned`, `BucketExists`, `InvalidArgument`, `Unavailable`.
pub async fn create_bucket(
    gw: &Gateway,
    name: &str,
    object_lock: bool,
    origin: Origin,
) -> Result<BucketRow, GatewayError> {
    let command = Command::CreateBucket { name: name.to_owned(), object_lock };
    let answer = gw.leases.act(origin, gw.draw_salt(), command).await;
    match answer.map_err(|e| GatewayError::from_meta(e, name))? {
        MetaReply::Bucket(row) => {
            gw.buckets.forget(name);
            gw.buckets.remember(Arc::new((*row).clone()));
            Ok(*row)
        }
        _ => Err(unexpected_reply("CreateBucket")),
    }
}

/// Changes one setting of a bucket.
///
/// # Durability
/// Ok: committed, and in force for every write that commits later, through any gateway.
///
/// # Errors
/// `NoSuchBucket`, `BucketState`, `InvalidArgument`, `Unavailable`.
pub async fn configure_bucket(
    gw: &Gateway,
    name: &str,
    change: BucketChange,
    origin: Origin,
) -> Result<BucketRow, GatewayError> {
    let command = Command::ConfigureBucket { name: name.to_owned(), change };
    let answer = gw.leases.act(origin, gw.draw_salt(), command).await;
    gw.buckets.forget(name);
    match answer.map_err(|e| GatewayError::from_meta(e, name))? {
        MetaReply::Bucket(row) => {
            gw.buckets.remember(Arc::new((*row).clone()));
            Ok(*row)
        }
        _ => Err(unexpected_reply("ConfigureBucket")),
    }
}

/// Deletes an empty bucket.
///
/// # Durability
/// Ok: committed.
///
/// # Errors
/// `NoSuchBucket`, `BucketNotEmpty`, `Unavailable`.
pub async fn delete_bucket(gw: &Gateway, name: &str, origin: Origin) -> Result<(), GatewayError> {
    gw.buckets.forget(name);
    let command = Command::DeleteBucket { name: name.to_owned() };
    let answer = gw.leases.act(origin, gw.draw_salt(), command).await;
    gw.buckets.forget(name);
    answer.map_err(|e| GatewayError::from_meta(e, name)).map(|_| ())
}

/// The bucket's row, as of now.
///
/// # Errors
/// `NoSuchBucket`, `Unavailable`.
pub async fn head_bucket(gw: &Gateway, name: &str) -> Result<BucketRow, GatewayError> {
    let fetched = fetch(gw, name).await;
    if fetched.is_err() {
        gw.buckets.forget(name);
    }
    fetched.map(|row| (*row).clone())
}

/// One page of buckets by name.
///
/// # Errors
/// `Unavailable`.
pub async fn list_buckets(
    gw: &Gateway,
    prefix: &str,
    after: Option<&str>,
    max: u32,
) -> Result<ListPage<BucketRow>, GatewayError> {
    let request = MetaRequest::Buckets { prefix: prefix.to_owned(), after: after.map(str::to_owned), max };
    match gw.read(request).await.map_err(|e| GatewayError::from_meta(e, ""))? {
        MetaReply::Buckets(page) => Ok(page),
        _ => Err(unexpected_reply("Buckets")),
    }
}
