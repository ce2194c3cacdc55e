//! Archives of old anchors: a chain that takes a checkpoint every few seconds would fill the rows with proofs.

use stele_evidence::anchor_archive::{ANCHORS_MAX, BYTES_MAX, MAGIC, encode_to};
use stele_rpc::error::Code;
use stele_rpc::meta::{AnchorsMade, LOG_BUCKET, MetaReply};

use crate::apply::{Batch, Outcome, refuse};
use crate::archives::anchors_are_many;
use crate::keyspace;
use crate::kv::KvResult;
use crate::rows::{AnchorArchiveRow, AnchorRow, AnchorsKeptRow, HashRow, decode, load};

/// What a gateway should have stored.
struct File {
    bytes: Vec<u8>,
    /// Size, and bytes of its proof, of each anchor in it.
    sizes: Vec<(u64, u64)>,
}

impl Batch<'_> {
    pub(crate) fn archive_anchors(&mut self, made: &AnchorsMade) -> Outcome<MetaReply> {
        let (chain, object) = (&made.chain, &made.object);
        let at = keyspace::anchor_archive(chain, made.last);
        if load::<AnchorArchiveRow>(self.rows, &at)?.is_some_and(|row| row.version == object.version) {
            return Ok(MetaReply::Done);
        }
        let counted = keyspace::anchors_kept(chain);
        let kept: AnchorsKeptRow = load(self.rows, &counted)?.unwrap_or_default();
        if !anchors_are_many(kept) {
            return refuse(Code::Malformed, format!("chain {chain} has only {} anchors: they stay", kept.count));
        }
        if object.bucket != LOG_BUCKET || !self.version_exists(&object.bucket, &object.key, object.version)? {
            let detail =
                format!("{}/{} has no version {}: it is no archive", object.bucket, object.key, object.version);
            return refuse(Code::Malformed, detail);
        }
        let File { bytes: file, sizes } = self.anchors_up_to(chain, made.last)?;
        let newest = sizes.last().map(|(size, _)| *size);
        if newest != Some(made.last) || file.len() > BYTES_MAX || *blake3::hash(&file).as_bytes() != made.hash {
            let detail = format!("the file does not hold the anchors of chain {chain} up to size {}", made.last);
            return refuse(Code::Malformed, detail);
        }
        for (size, _) in &sizes {
            self.rows.delete(&keyspace::anchor(chain, *size))?;
        }
        let bytes: u64 = sizes.iter().map(|(_, bytes)| bytes).sum();
        let count = kept.count.saturating_sub(sizes.len() as u64);
        self.put_row(&counted, &AnchorsKeptRow { count, bytes: kept.bytes.saturating_sub(bytes) })?;
        let (bucket, key) = (object.bucket.clone(), object.key.clone());
        self.put_row(&at, &AnchorArchiveRow { bucket, key, version: object.version, hash: HashRow(made.hash) })?;
        Ok(MetaReply::Done)
    }

    /// The file that holds them, and size and bytes of each; of too many only the first ones.
    fn anchors_up_to(&self, chain: &str, last: u64) -> KvResult<File> {
        let (from, to) = (keyspace::anchor(chain, 0), keyspace::anchor(chain, last.saturating_add(1)));
        let (mut file, mut sizes, mut broken) = (MAGIC.to_vec(), Vec::new(), None);
        self.rows.scan(&from, &to, &mut |key, value| {
            match (keyspace::anchor_size(key), decode::<AnchorRow>(key, value)) {
                (Some(size), Ok(row)) => {
                    encode_to(size, &row.root.0, &row.proof, &mut file);
                    sizes.push((size, row.proof.len() as u64));
                }
                (_, Err(error)) => broken = Some(error),
                (None, Ok(_)) => {}
            }
            match broken.is_some() || sizes.len() >= ANCHORS_MAX || file.len() > BYTES_MAX {
                true => std::ops::ControlFlow::Break(()),
                false => std::ops::ControlFlow::Continue(()),
            }
        })?;
        broken.map_or(Ok(File { bytes: file, sizes }), Err)
    }

    /// Whether an archive holds all that were kept at this size.
    pub(crate) fn archived_anchor(&self, chain: &str, size: u64) -> KvResult<bool> {
        let (from, to) = (keyspace::anchor_archive(chain, size), keyspace::anchor_archive(chain, u64::MAX));
        let mut found = false;
        self.rows.scan(&from, &to, &mut |_, _| {
            found = true;
            std::ops::ControlFlow::Break(())
        })?;
        Ok(found)
    }
}
