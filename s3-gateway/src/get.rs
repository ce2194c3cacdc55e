//! GET and HEAD, from top to bottom. Called by the HTTP edge and the simulator.
//!
//! | step | does |
//! |---|---|
//! | G1 resolve | the version and rows of its first packs, linearizable |
//! | G2 range | conditions, then the range, against the resolved version |
//! | G3 manifest | pages the range needs, each verified against the object root |
//! | G4 plan | chunks of the range in order; the rows of their packs |
//! | G5 fetch | data shards of a chunk; hedge, decode from others (fetch.rs, rebuild.rs) |
//! | G6 verify | BLAKE3 of every chunk |
//! | G7 stream | chunks in order, read ahead within the memory budget |
//!
//! Every byte was verified against the manifest, and the manifest against the object root. The first
//! chunk is fetched before the answer begins, so that an unreadable object is an error and not a
//! broken body. A pack that has gone (compaction, sweep of an old version) makes the same version be
//! resolved again, and the stream goes on at its offset.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use stele_chunker::pages::{Located, ManifestError, ManifestWalk, Step as WalkStep};
use stele_rpc::client::unexpected;
use stele_rpc::error::RpcError;
use stele_rpc::meta::{MetaReply, MetaRequest, VersionSelector};
use stele_types::limits::{CHUNK_BYTES_MAX, MIB};
use stele_types::manifest::ChunkEntry;
use stele_types::object::Version;
use stele_types::pack::PackRow;
use tokio::sync::mpsc;
use tracing::Instrument;

use crate::api::{GetReply, GetRequest, HeadReply, ResolvedRange};
use crate::body_out::{charged, produced, ready};
use crate::bucket::{range_of, with_bucket};
use crate::budget::Charge;
use crate::cache::Pieces;
use crate::conditions::{check_conditions, resolve_range};
use crate::error::GatewayError;
use crate::fetch::{FetchError, RowBook, fetch_chunk};
use crate::gateway::Gateway;
use crate::metrics::Step;
use crate::task::OwnedTask;

/// Chunk bytes read ahead of the client.
const READ_AHEAD_BYTES: usize = 8 * MIB;
/// Chunks read ahead of the client.
const READ_AHEAD_CHUNKS: usize = 16;
/// How often one place of an object may be resolved again.
const RESOLVE_AGAIN_MAX: u32 = 3;
/// How often a read begins anew because the version it found was overwritten or deleted meanwhile.
const BEGIN_AGAIN_MAX: u32 = 8;

/// What is known of a version and its place in the store.
pub(crate) struct Resolved {
    pub(crate) version: Box<Version>,
    latest: bool,
    pub(crate) packs: Vec<PackRow>,
}

/// What is known of a version, and the range that GET would stream.
///
/// # Errors
/// As [`get_object`], without those of reading.
pub async fn head_object(gw: &Arc<Gateway>, request: GetRequest) -> Result<HeadReply, GatewayError> {
    let resolved = resolve(gw, &request.bucket, &request.key, request.version).await?; // G1
    let range = range(gw, &request, &resolved.version)?; // G2
    Ok(HeadReply { version: resolved.version, latest: resolved.latest, range })
}

/// Reads one object, or a range of it.
///
/// # Errors
/// `NoSuchBucket`, `NoSuchKey`, `NoSuchVersion`, `DeleteMarker`; conditions and ranges as
/// [`GatewayError`] says; `DrivesMissing`, `Corrupt`, `SlowDown`, `Unavailable`. Behind the first
/// chunk these end the body stream instead.
pub async fn get_object(gw: &Arc<Gateway>, request: GetRequest) -> Result<GetReply, GatewayError> {
    for _ in 0..BEGIN_AGAIN_MAX {
        if let Some(reply) = read_version(gw, &request).await? {
            return Ok(reply);
        }
        tracing::info!(key = request.key, "overwritten or deleted under a read; the read begins anew");
    }
    Err(GatewayError::SlowDown { what: "a key that is overwritten faster than it can be read" })
}

/// Reads the version that the request means now; `None` if it went before its first bytes were read, and
/// another one is meant since.
async fn read_version(gw: &Arc<Gateway>, request: &GetRequest) -> Result<Option<GetReply>, GatewayError> {
    let resolved = resolve(gw, &request.bucket, &request.key, request.version).await?; // G1
    let range = range(gw, request, &resolved.version)?; // G2
    let head = HeadReply { version: resolved.version, latest: resolved.latest, range };
    if range.len == 0 {
        return Ok(Some(GetReply { head, body: ready(Vec::new(), 0) }));
    }
    let mut reader = Reader::new(gw, request, &head, resolved.packs)?;
    // G3, G4, G5, G6
    let first = match reader.next_chunk().await {
        Err(GatewayError::NoSuchVersion) if !matches!(request.version, VersionSelector::Id(_)) => return Ok(None),
        first => first?,
    };
    let pieces = first.map(|chunk| chunk.into_pieces()).unwrap_or_default();
    gw.metrics.bytes_out.inc_by(range.len);
    if reader.is_done() {
        return Ok(Some(GetReply { head, body: ready(pieces, range.len) }));
    }
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(stream(reader, pieces, sender)); // G7
    Ok(Some(GetReply { head, body: produced(receiver, range.len) }))
}

/// The current version of a key, as G1 finds it.
///
/// # Errors
/// As [`head_object`].
pub(crate) async fn current_version(gw: &Gateway, bucket: &str, key: &str) -> Result<Box<Version>, GatewayError> {
    resolve(gw, bucket, key, VersionSelector::Current).await.map(|resolved| resolved.version)
}

/// G1.
///
/// # Errors
/// As [`head_object`].
pub(crate) async fn resolve(
    gw: &Gateway,
    bucket: &str,
    key: &str,
    version: VersionSelector,
) -> Result<Resolved, GatewayError> {
    let _timer = gw.metrics.time(Step::G1Resolve);
    let resolved = with_bucket(gw, bucket, |row| {
        let request = MetaRequest::Resolve { range: range_of(&row), key: key.to_owned(), version };
        async move { version_of(gw.read(request).await?) }
    });
    let resolved = resolved.instrument(tracing::debug_span!("get.g1_resolve")).await?;
    let found = &*resolved.version;
    if found.delete_marker {
        return Err(match version {
            VersionSelector::Current => GatewayError::NoSuchKey { marker: Some(found.into()) },
            _ => GatewayError::DeleteMarker { id: found.into(), modified: found.modified },
        });
    }
    Ok(resolved)
}

fn version_of(reply: MetaReply) -> Result<Resolved, RpcError> {
    match reply {
        MetaReply::Version { version, packs, latest } => Ok(Resolved { version, latest, packs }),
        _ => Err(unexpected("no version to a resolution")),
    }
}

/// G2.
fn range(gw: &Gateway, request: &GetRequest, version: &Version) -> Result<ResolvedRange, GatewayError> {
    let _timer = gw.metrics.time(Step::G2Range);
    let _span = tracing::debug_span!("get.g2_range").entered();
    check_conditions(&request.conditions, version)?;
    resolve_range(request.range, &version.attributes)
}

/// Verified bytes of one chunk that lie in the range.
struct Ready {
    pieces: Pieces,
    /// Bytes to leave out at the start and to take behind them.
    skip: usize,
    take: usize,
    charge: Arc<Charge>,
}

impl Ready {
    fn into_pieces(self) -> Vec<Bytes> {
        let (mut skip, mut take) = (self.skip, self.take);
        let mut out = Vec::with_capacity(self.pieces.len());
        for piece in self.pieces.iter() {
            let start = skip.min(piece.len());
            let len = take.min(piece.len() - start);
            skip -= start;
            take -= len;
            if len > 0 {
                out.push(charged(piece.slice(start..start + len), &self.charge));
            }
        }
        out
    }
}

/// One chunk that the range needs.
struct Planned {
    entry: ChunkEntry,
    /// Object offset of its first byte.
    offset: u64,
}

struct Reading {
    planned: Planned,
    charge: Arc<Charge>,
    fetch: Fetch,
}

enum Fetch {
    /// Goes on while the client is busy with an earlier chunk.
    Ahead(OwnedTask<Result<Pieces, FetchError>>),
    /// The only chunk: nothing to be ahead of, so it is fetched where it is waited for.
    Here,
}

/// Reads the chunks of a range in order, some ahead.
struct Reader {
    gw: Arc<Gateway>,
    bucket: String,
    key: String,
    version: Box<Version>,
    walk: ManifestWalk,
    rows: Arc<RowBook>,
    /// Object bytes still to deliver.
    next: u64,
    end: u64,
    /// Planned, not yet being read.
    ahead: Option<Planned>,
    reading: VecDeque<Reading>,
    reading_bytes: usize,
    resolved_again: u32,
}

fn damaged(error: ManifestError) -> GatewayError {
    GatewayError::Corrupt { what: format!("manifest: {error}") }
}

fn walk_from(version: &Version, from: u64, end: u64) -> Result<ManifestWalk, GatewayError> {
    ManifestWalk::new(&version.attributes.root, &version.manifest, from..end).map_err(damaged)
}

impl Reader {
    fn new(
        gw: &Arc<Gateway>,
        request: &GetRequest,
        head: &HeadReply,
        packs: Vec<PackRow>,
    ) -> Result<Self, GatewayError> {
        let (next, end) = (head.range.first, head.range.first + head.range.len);
        let rows = RowBook::default();
        rows.learn(packs);
        Ok(Self {
            gw: Arc::clone(gw),
            bucket: request.bucket.clone(),
            key: request.key.clone(),
            walk: walk_from(&head.version, next, end)?,
            version: head.version.clone(),
            rows: Arc::new(rows),
            next,
            end,
            ahead: None,
            reading: VecDeque::new(),
            reading_bytes: 0,
            resolved_again: 0,
        })
    }

    fn is_done(&self) -> bool {
        self.next >= self.end
    }

    /// The next chunk of the range; `None` behind its end.
    async fn next_chunk(&mut self) -> Result<Option<Ready>, GatewayError> {
        while !self.is_done() {
            match self.try_next().await {
                Ok(ready) => return Ok(Some(ready)),
                Err(FetchError::Failed(error)) => return Err(error),
                Err(FetchError::PackGone(pack)) if self.resolved_again < RESOLVE_AGAIN_MAX => {
                    tracing::info!(%pack, offset = self.next, "pack gone; version resolved again");
                    self.resolve_again().await?;
                }
                Err(FetchError::PackGone(pack)) => {
                    let what = format!("pack {pack} is gone, and the version still names it");
                    return Err(GatewayError::Corrupt { what });
                }
            }
        }
        Ok(None)
    }

    async fn try_next(&mut self) -> Result<Ready, FetchError> {
        self.read_ahead().await?;
        let Some(reading) = self.reading.pop_front() else {
            let what = format!("the manifest ends at {} of {} bytes", self.next, self.end);
            return Err(GatewayError::Corrupt { what }.into());
        };
        let len = reading.planned.entry.len;
        self.reading_bytes -= len as usize;
        let pieces = match reading.fetch {
            Fetch::Ahead(task) => task.finish().await??,
            Fetch::Here => fetch_chunk(&self.gw, &self.rows, &reading.planned.entry).await?,
        };
        let chunk_end = reading.planned.offset + u64::from(len);
        let stop = chunk_end.min(self.end);
        let (skip, take) = (self.next - reading.planned.offset, stop - self.next);
        self.next = stop;
        self.resolved_again = 0;
        let inside = |n: u64| usize::try_from(n).unwrap_or(CHUNK_BYTES_MAX);
        Ok(Ready { pieces, skip: inside(skip), take: inside(take), charge: reading.charge })
    }

    /// Starts reads until enough is on its way. Waits for memory only if nothing is.
    async fn read_ahead(&mut self) -> Result<(), FetchError> {
        loop {
            if self.ahead.is_none() {
                self.ahead = self.plan().await?;
            }
            let Some(planned) = &self.ahead else { return Ok(()) };
            let bytes = planned.entry.len as usize;
            let Some(charge) = self.charge(bytes).await? else { return Ok(()) };
            let Some(planned) = self.ahead.take() else { return Ok(()) };
            let is_last = planned.offset + u64::from(planned.entry.len) >= self.end;
            let only = is_last && self.reading.is_empty();
            let fetch = if only { Fetch::Here } else { self.fetch_ahead(planned.entry.clone()) };
            self.reading_bytes += bytes;
            self.reading.push_back(Reading { planned, charge: Arc::new(charge), fetch });
        }
    }

    /// Memory for the next chunk; `None` if enough is on its way already.
    async fn charge(&self, bytes: usize) -> Result<Option<Charge>, GatewayError> {
        if self.reading.is_empty() {
            return self.gw.budget.charge(bytes).await.map(Some);
        }
        let enough = self.reading.len() >= READ_AHEAD_CHUNKS || self.reading_bytes + bytes > READ_AHEAD_BYTES;
        Ok(if enough { None } else { self.gw.budget.charge_if_spare(bytes) })
    }

    fn fetch_ahead(&self, entry: ChunkEntry) -> Fetch {
        let (gw, rows) = (Arc::clone(&self.gw), Arc::clone(&self.rows));
        Fetch::Ahead(OwnedTask::spawn(async move { fetch_chunk(&gw, &rows, &entry).await }))
    }

    /// G3 and G4: the next chunk of the range, after the pages that lead to it.
    async fn plan(&mut self) -> Result<Option<Planned>, FetchError> {
        loop {
            let planning = self.gw.metrics.time(Step::G4Plan);
            let step = self.walk.next_step();
            drop(planning);
            match step {
                WalkStep::Done => return Ok(None),
                WalkStep::Chunk(Located { offset, item }) => {
                    return Ok(Some(Planned { entry: item, offset }));
                }
                WalkStep::NeedPage(entry) => {
                    let _timer = self.gw.metrics.time(Step::G3Manifest);
                    let span = tracing::debug_span!("get.g3_manifest");
                    let page = fetch_chunk(&self.gw, &self.rows, &entry).instrument(span).await?;
                    self.walk.page(&page.concat()).map_err(damaged)?;
                    self.ask_for_rows().await?;
                }
            }
        }
    }

    /// Rows of the packs that the walk is about to lead to, in one question.
    async fn ask_for_rows(&self) -> Result<(), FetchError> {
        let mut packs = Vec::new();
        let mut upcoming = self.walk.clone();
        while let WalkStep::Chunk(Located { item, .. }) = upcoming.next_step() {
            if self.rows.lacks(&item.pack) && !packs.contains(&item.pack) {
                packs.push(item.pack);
            }
        }
        if packs.is_empty() {
            return Ok(());
        }
        Ok(self.rows.ask(&self.gw, packs).await?)
    }

    async fn resolve_again(&mut self) -> Result<(), GatewayError> {
        self.gw.metrics.re_resolved.inc();
        self.resolved_again += 1;
        let selector = VersionSelector::Id(self.version.id);
        let resolved = resolve(&self.gw, &self.bucket, &self.key, selector).await?;
        if resolved.version.attributes.root != self.version.attributes.root {
            let what = "a version changed its object root".to_owned();
            return Err(GatewayError::Corrupt { what });
        }
        self.version = resolved.version;
        self.walk = walk_from(&self.version, self.next, self.end)?;
        self.rows = Arc::new(RowBook::default());
        self.rows.learn(resolved.packs);
        self.ahead = None;
        self.reading.clear();
        self.reading_bytes = 0;
        Ok(())
    }
}

/// G7: sends chunk after chunk until the client has all of them or is gone. A chunk is taken only
/// when there is room for it, so that a client that does not read holds as little as possible.
async fn stream(mut reader: Reader, first: Vec<Bytes>, sender: mpsc::Sender<Result<Bytes, GatewayError>>) {
    let mut pieces = first;
    loop {
        for piece in pieces.drain(..) {
            let timer = reader.gw.metrics.time(Step::G7Stream);
            if sender.send(Ok(piece)).await.is_err() {
                return;
            }
            drop(timer);
        }
        let Ok(room) = sender.reserve().await else { return };
        let next = tokio::select! {
            biased;
            () = sender.closed() => return,
            next = reader.next_chunk() => next,
        };
        drop(room);
        match next {
            Ok(Some(chunk)) => pieces = chunk.into_pieces(),
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "body cut off");
                // A client that has gone does not need to know.
                sender.send(Err(error)).await.ok();
                return;
            }
        }
    }
}
