//! P6: one sealed pack onto the drives of one placement group.
//!
//! Success means that all k' + m shards are on stable media. A drive that does not take its shard is
//! avoided for a while, and the pack is encoded anew, under the next generation, for the drives that
//! are left. The generation tells the attempts apart, so that a drive never mixes their shards up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use stele_chunker::buffer::BufferPool;
use stele_chunker::pack::SealedPack;
use stele_chunker::shards::{Coder, CoderError, EncodedPack};
use stele_rpc::error::{Code, RpcError};
use stele_rpc::storage::{PgRef, StorageRequest};
use stele_types::ids::DriveId;
use stele_types::pack::{Encoding, PackRow};
use stele_types::scheme::Scheme;

use crate::error::GatewayError;
use crate::gateway::Gateway;
use crate::map::{DriveAt, Target};
use crate::metrics::Step;

/// Encodings tried for one pack. More than m of the widest scheme, so that the loss of any m drives
/// in the middle of a write still ends in a stored pack.
const ATTEMPTS_MAX: u32 = 6;
/// After one shard failed, how long the others may take to fail too, so that several dead drives
/// cost one attempt.
const FAILURE_GRACE: Duration = Duration::from_millis(20);
/// Refusals of an old PG row that one pack survives. Not counted as attempts: nothing is wrong with
/// the drives, and many rows may have changed at once.
const STALE_MAX: u32 = 16;
/// Pause after a node refused a PG without telling a newer row.
const STALE_PAUSE: Duration = Duration::from_millis(50);
/// Attempts of one shard while its drive says that its queue is full.
const BUSY_RETRIES: u32 = 8;

/// Witness: every shard of the pack is on stable media.
#[derive(Clone, Debug)]
pub(crate) struct StoredPack(PackRow);

impl StoredPack {
    pub(crate) fn row(&self) -> &PackRow {
        &self.0
    }
}

struct Refusal {
    at: DriveAt,
    error: RpcError,
}

/// Stores a pack.
///
/// # Durability
/// Ok: all shards are on stable media. Err: some may be; nothing refers to them and a sweep takes them.
///
/// # Errors
/// `DrivesMissing` names the drives; `StoreFull`, `SlowDown`, `Unavailable`.
pub(crate) async fn store_pack(gw: &Gateway, pack: SealedPack) -> Result<StoredPack, GatewayError> {
    let _timer = gw.metrics.time(Step::P6Store);
    let draw = gw.random_u64();
    let mut encoded: Option<(Scheme, EncodedPack)> = None;
    let mut refusals = Vec::new();
    let (mut failures, mut stale) = (0, 0);
    let mut behind = BTreeSet::new();
    while failures < ATTEMPTS_MAX && stale < STALE_MAX {
        let generation = failures + stale;
        let target = gw.placement.pick(&pack.id, pack.payload_len(), draw)?;
        let shards = match encoded.take() {
            Some((scheme, shards)) if scheme == target.scheme => shards,
            _ => encode_for(gw, &pack, target.scheme).await?,
        };
        refusals = ship(gw, &pack, &target, &shards, generation).await;
        if refusals.is_empty() {
            gw.metrics.packs_stored.inc();
            return Ok(StoredPack(row_of(&pack, &target, generation)));
        }
        gw.metrics.packs_reencoded.inc();
        if refusals.iter().any(|refusal| refusal.error.code != Code::StalePg) {
            failures += 1;
        } else {
            stale += 1;
        }
        for refusal in &refusals {
            note(gw, refusal, &mut behind).await;
        }
        encoded = Some((target.scheme, shards));
    }
    Err(give_up(gw, &refusals))
}

async fn encode_for(gw: &Gateway, pack: &SealedPack, scheme: Scheme) -> Result<EncodedPack, GatewayError> {
    let coder = gw.coders.get(scheme)?;
    let pack = pack.clone();
    let encoded = gw.cpu.run(pack.payload_len(), move || coder.encode(&pack)).await?;
    encoded.map_err(coder_failed)
}

fn coder_failed(error: CoderError) -> GatewayError {
    GatewayError::Internal { what: format!("erasure coder: {error}") }
}

/// Coders by scheme: making one inverts matrices, so each is made once.
#[derive(Debug)]
pub(crate) struct Coders {
    made: Mutex<BTreeMap<Scheme, Arc<Coder>>>,
    pool: BufferPool,
}

impl Coders {
    pub(crate) fn new(pool: &BufferPool) -> Self {
        Self { made: Mutex::default(), pool: pool.clone() }
    }

    pub(crate) fn get(&self, scheme: Scheme) -> Result<Arc<Coder>, GatewayError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(coder) = made.get(&scheme) {
            return Ok(Arc::clone(coder));
        }
        let coder = Arc::new(Coder::new(scheme).map_err(coder_failed)?.with_pool(&self.pool));
        made.insert(scheme, Arc::clone(&coder));
        Ok(coder)
    }
}

fn row_of(pack: &SealedPack, target: &Target, generation: u32) -> PackRow {
    PackRow {
        pack: pack.id,
        pg: target.pg.id,
        scheme: target.scheme,
        generation,
        payload_len: pack.preimage.payload_len,
        slots: target.slots.iter().map(|(slot, _)| *slot).collect(),
        start_epoch: pack.preimage.start_epoch,
    }
}

/// Sends every shard; empty if all are stored.
async fn ship(gw: &Gateway, pack: &SealedPack, target: &Target, shards: &EncodedPack, generation: u32) -> Vec<Refusal> {
    let encoding = Encoding {
        generation,
        scheme: target.scheme,
        slots: target.slots.iter().map(|(slot, _)| *slot).collect(),
        roots: shards.roots.clone(),
    };
    let request = |shard: u8, at: &DriveAt| StorageRequest::StoreShard {
        drive: at.drive,
        pg: PgRef { pg: target.pg.id, epoch: target.pg.epoch },
        pack: pack.id,
        preimage: pack.preimage.clone(),
        encoding: encoding.clone(),
        shard,
    };
    let mut running: FuturesUnordered<_> = (0u8..)
        .zip(target.slots.iter().zip(&shards.shards))
        .map(|(shard, ((_, at), bytes))| store_shard(gw, *at, request(shard, at), bytes.clone()))
        .collect();
    let mut refusals = Vec::new();
    while let Some(outcome) = running.next().await {
        if let Err(refusal) = outcome {
            refusals.push(refusal);
            break;
        }
    }
    if !refusals.is_empty() {
        let rest = async {
            while let Some(outcome) = running.next().await {
                refusals.extend(outcome.err());
            }
        };
        // The attempt has failed in any case: who is still busy after the grace is not at fault.
        tokio::time::timeout(FAILURE_GRACE, rest).await.ok();
    }
    refusals
}

async fn store_shard(gw: &Gateway, at: DriveAt, request: StorageRequest, bytes: Bytes) -> Result<(), Refusal> {
    let asked_at = gw.clock.monotonic_micros();
    let mut pause = Duration::from_millis(5);
    let mut busy = 0;
    loop {
        let answer = gw.nodes.call(at.node, request.clone(), bytes.clone(), gw.config.store_timeout).await;
        match answer {
            Ok(_) => {
                gw.placement.trust(at.drive, asked_at);
                return Ok(());
            }
            Err(error) if error.code == Code::Busy && busy < BUSY_RETRIES => {
                busy += 1;
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            Err(error) => return Err(Refusal { at, error }),
        }
    }
}

/// Draws the consequence of a refusal for the next attempt. `behind`: drives whose node had an older
/// map than this gateway.
async fn note(gw: &Gateway, refusal: &Refusal, behind: &mut BTreeSet<DriveId>) {
    let error = &refusal.error;
    tracing::debug!(drive = %refusal.at.drive, %error, "shard refused");
    if error.code == Code::StalePg {
        let known = gw.placement.epoch();
        match &error.newer_pg {
            Some(row) => {
                if !gw.placement.take_row(row) {
                    gw.placement.refresh_or_warn(known).await;
                }
            }
            // Still behind after its moment: others take the shard meanwhile.
            None if !behind.insert(refusal.at.drive) => {
                gw.placement.suspect(refusal.at.drive, &error.to_string());
            }
            None => {
                gw.placement.refresh_or_warn(known).await;
                // The node's map may be the older one: it needs a moment to fetch its own.
                tokio::time::sleep(STALE_PAUSE).await;
            }
        }
    } else if error.code != Code::Busy && gw.nodes.away(refusal.at.node).is_none() {
        gw.placement.suspect(refusal.at.drive, &error.to_string());
    }
}

fn give_up(gw: &Gateway, refusals: &[Refusal]) -> GatewayError {
    let of = |code: Code| !refusals.is_empty() && refusals.iter().all(|r| r.error.code == code);
    if of(Code::Busy) {
        return GatewayError::SlowDown { what: "the drives' write queues" };
    }
    if of(Code::DriveFull) {
        let drives: Vec<String> = refusals.iter().map(|r| r.at.drive.to_string()).collect();
        return GatewayError::StoreFull { what: format!("drives {}", drives.join(", ")) };
    }
    let drives = gw.placement.avoided().into_iter().map(|(name, why)| format!("{name} ({why})")).collect();
    GatewayError::DrivesMissing { what: "a write", drives }
}
