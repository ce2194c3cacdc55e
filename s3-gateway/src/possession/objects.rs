//! A1 and A5 for objects: which chunks they have, and whether this gateway can still read them from the drives. The
//! read cache does not count.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use stele_chunker::pages::Located;
use stele_chunker::tree::{Leaf, RangeProof, RangeProver};
use stele_evidence::audit::answer::{Answer, Challenge};
use stele_evidence::audit::challenge::Scope;
use stele_evidence::audit::inventory::{Inventory, Row};
use stele_rpc::meta::{ListQuery, MetaReply, MetaRequest, VersionSelector};
use stele_types::ids::{ObjectRoot, PackId};
use stele_types::manifest::ChunkEntry;

use super::{CHALLENGES_MAX, Found, Holder, refused};
use crate::bucket::{range_of, with_bucket};
use crate::error::GatewayError;
use crate::fetch::{FetchError, RowBook, fetch_stored};
use crate::gateway::Gateway;
use crate::get::resolve;
use crate::walk::ChunkWalk;

/// Chunks of one audit.
const CHUNKS_MAX: usize = 262_144;
/// Memory of a chunk: its row, its place in the tree, and where it lies.
const CHUNK_BYTES: usize = 320;
/// Keys of one page.
const KEYS_PER_CALL: u32 = 1000;

/// An object whose chunks are asked for.
#[derive(Debug)]
struct Object {
    chunks: Vec<Located<ChunkEntry>>,
    rows: RowBook,
}

/// Where the chunks of the audited objects are.
#[derive(Debug, Default)]
pub(crate) struct Places(BTreeMap<ObjectRoot, Arc<Object>>);

/// All chunks of a version, or of the current versions in a bucket. Objects of the same content count once.
pub(super) async fn chunks(
    gw: &Arc<Gateway>,
    bucket: &str,
    key: Option<&(String, VersionSelector)>,
    sample: Option<u64>,
) -> Result<Found, GatewayError> {
    let mut collected = Collected::default();
    match key {
        Some((key, version)) => collected.add(gw, bucket, key, *version).await?,
        None => {
            let mut after = None;
            loop {
                let page = keys(gw, bucket, after).await?;
                for key in page.rows {
                    match collected.add(gw, bucket, &key.key, VersionSelector::Id(key.id)).await {
                        // It went since the page was read.
                        Ok(()) | Err(GatewayError::NoSuchKey { .. } | GatewayError::NoSuchVersion) => {}
                        Err(error) => return Err(error),
                    }
                }
                after = page.next_after.filter(|_| page.truncated);
                if after.is_none() {
                    break;
                }
            }
        }
    }
    let mut rows = Vec::with_capacity(collected.count);
    for (object, found) in &collected.objects {
        rows.extend(found.chunks.iter().map(|chunk| Row::Chunk {
            object: ObjectRoot::from_bytes(*object.as_bytes()),
            offset: chunk.offset,
            id: chunk.item.id,
            len: chunk.item.len,
        }));
    }
    let scope = match sample {
        Some(rows) => Scope::Sample(rows.min(CHALLENGES_MAX)),
        None => Scope::Rows { first: 0, count: u64::MAX },
    };
    let inventory = Inventory::new(gw.node(), rows).map_err(|error| refused(&error))?;
    let holders = vec![Holder { inventory, key: gw.answer_vkey()? }];
    Ok(Found { holders, scope, next: None, objects: Places(collected.objects), _charges: collected.charges })
}

async fn keys(
    gw: &Gateway,
    bucket: &str,
    after: Option<String>,
) -> Result<stele_rpc::meta::ListPage<stele_rpc::meta::ListedKey>, GatewayError> {
    with_bucket(gw, bucket, |row| {
        let query = ListQuery { after: after.clone(), max: KEYS_PER_CALL, ..ListQuery::default() };
        let range = range_of(&row);
        async move {
            match gw.read(MetaRequest::List { range, query }).await? {
                MetaReply::Keys(page) => Ok(page),
                _ => Err(stele_rpc::client::unexpected("no keys to List")),
            }
        }
    })
    .await
}

#[derive(Default)]
struct Collected {
    objects: BTreeMap<ObjectRoot, Arc<Object>>,
    count: usize,
    charges: Vec<crate::budget::Charge>,
}

impl Collected {
    async fn add(
        &mut self,
        gw: &Arc<Gateway>,
        bucket: &str,
        key: &str,
        version: VersionSelector,
    ) -> Result<(), GatewayError> {
        let resolved = resolve(gw, bucket, key, version).await?;
        let (attributes, manifest) = (&resolved.version.attributes, &resolved.version.manifest);
        let count = usize::try_from(manifest.chunks()).unwrap_or(usize::MAX);
        if count == 0 || self.objects.contains_key(&attributes.root) {
            return Ok(());
        }
        self.count = self.count.saturating_add(count);
        if self.count > CHUNKS_MAX {
            let what = format!(
                "these objects have more than {CHUNKS_MAX} chunks, and an audit of objects has room for no more; name \
                 a key, or audit shards with a sample"
            );
            return Err(GatewayError::InvalidRequest { what });
        }
        self.charges.push(gw.budget.charge(count * CHUNK_BYTES).await?);
        let rows = RowBook::default();
        rows.learn(resolved.packs);
        let mut walk = ChunkWalk::new(&attributes.root, manifest, 0..attributes.len)?;
        let mut chunks = Vec::with_capacity(count);
        loop {
            match walk.next(gw, &rows).await {
                Ok(Some(chunk)) => chunks.push(chunk),
                Ok(None) => break,
                Err(error) => return Err(unlisted(gw, (bucket, key), error).await),
            }
        }
        self.objects.insert(ObjectRoot::from_bytes(*attributes.root.as_bytes()), Arc::new(Object { chunks, rows }));
        Ok(())
    }
}

/// Why the chunks of an object can't be listed. Without its manifest nobody knows what to ask for.
async fn unlisted(gw: &Gateway, (bucket, key): (&str, &str), error: FetchError) -> GatewayError {
    match error {
        FetchError::Failed(error) => error,
        FetchError::PackGone(pack) if is_lost(gw, pack).await => {
            let what = format!(
                "the manifest of {key:?} in {bucket} can't be read, as no drive has pack {pack}: the object is lost, \
                 unless drives come back"
            );
            GatewayError::NoSuchEvidence { what }
        }
        FetchError::PackGone(_) => GatewayError::NoSuchVersion,
    }
}

/// Something still refers to a pack that no drive has. Without a row its object went meanwhile.
async fn is_lost(gw: &Gateway, pack: PackId) -> bool {
    RowBook::default().row(gw, pack).await.is_ok()
}

impl Places {
    fn find(&self, object: ObjectRoot, offset: u64) -> Result<(&Arc<Object>, ChunkEntry), GatewayError> {
        let entry = |found: &Object| {
            let at = found.chunks.binary_search_by_key(&offset, |chunk| chunk.offset).ok()?;
            found.chunks.get(at).map(|chunk| chunk.item.clone())
        };
        let found = self.0.get(&object).and_then(|found| Some((found, entry(found)?)));
        found.ok_or_else(|| GatewayError::Internal { what: "a chunk of no audited object was drawn".to_owned() })
    }

    /// That the chunk at `offset` stands there in the object.
    pub(super) async fn prove(&self, object: ObjectRoot, offset: u64) -> Result<RangeProof, GatewayError> {
        let (found, entry) = self.find(object, offset)?;
        let found = Arc::clone(found);
        let proven = tokio::task::spawn_blocking(move || {
            let mut prover = RangeProver::new(offset..offset.saturating_add(u64::from(entry.len)));
            for chunk in &found.chunks {
                prover.push(&Leaf { id: chunk.item.id, len: u64::from(chunk.item.len) });
            }
            prover.finish().map_err(|error| error.to_string())
        });
        proven.await.unwrap_or_else(|error| Err(error.to_string())).map_err(|what| GatewayError::Internal { what })
    }

    /// This gateway's own answer: a slice of the chunk as it can be read from the drives now, or that it can't.
    /// `None` if nothing can be said.
    pub(super) async fn answer(
        &self,
        gw: &Gateway,
        challenge: &Challenge,
    ) -> Result<Option<(Answer, Bytes)>, GatewayError> {
        let Row::Chunk { object, offset, .. } = challenge.row else {
            return Err(GatewayError::Internal { what: "a gateway was asked for a shard".to_owned() });
        };
        let (found, entry) = self.find(object, offset)?;
        let slice = match fetch_stored(gw, &found.rows, &entry).await {
            Ok(pieces) => {
                let (bytes, challenge) = (pieces.concat(), *challenge);
                let sliced = tokio::task::spawn_blocking(move || challenge.slice_of(&bytes).ok()).await;
                sliced.unwrap_or(None)
            }
            Err(FetchError::Failed(GatewayError::Corrupt { .. } | GatewayError::DrivesMissing { .. })) => None,
            Err(FetchError::PackGone(pack)) if is_lost(gw, pack).await => None,
            Err(_) => return Ok(None),
        };
        let answer = Answer::sign(challenge, slice.as_deref(), gw.clock.unix_millis(), gw.answer_key()?);
        let answer = answer.map_err(|error| GatewayError::Internal { what: error.to_string() })?;
        Ok(Some((answer, slice.unwrap_or_default().into())))
    }
}
