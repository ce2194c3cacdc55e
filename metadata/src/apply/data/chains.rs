//! Chains that checkpoints are taken to. What an anchor remembers of one stands in a row that is replaced by
//! compare-and-swap, so that of two anchors one goes on, and a signed transaction is kept before it is sent.

use stele_rpc::error::Code;
use stele_rpc::meta::{
    ANCHOR_PROOF_BYTES_MAX, CHAIN_NAME_BYTES_MAX, CHAIN_STATE_BYTES_MAX, CHAINS_MAX, ChainRow, KeptAnchor, LogReply,
    MetaReply,
};

use crate::apply::{Batch, Outcome, refuse};
use crate::keyspace::{self, CHECKPOINT, Tag};
use crate::rows::{AnchorRow, AnchorsKeptRow, ChainStateRow, CheckpointRow, HashRow, load};

fn check_name(chain: &str) -> Outcome<()> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if (1..=CHAIN_NAME_BYTES_MAX).contains(&chain.len()) && chain.bytes().all(plain) {
        return Ok(());
    }
    let detail = format!("a chain's name has 1 to {CHAIN_NAME_BYTES_MAX} small letters, digits and '-', not {chain:?}");
    refuse(Code::Malformed, detail)
}

impl Batch<'_> {
    pub(crate) fn save_chain(&mut self, chain: &str, expected: u64, state: &bytes::Bytes) -> Outcome<MetaReply> {
        check_name(chain)?;
        if state.len() > CHAIN_STATE_BYTES_MAX {
            return refuse(Code::Malformed, format!("a chain's row has at most {CHAIN_STATE_BYTES_MAX} bytes"));
        }
        let key = keyspace::chain(chain);
        let row: Option<ChainStateRow> = load(self.rows, &key)?;
        let sequence = row.as_ref().map_or(0, |row| row.sequence);
        if sequence != expected {
            return refuse(Code::StaleCheckpoint, format!("the row of chain {chain} has sequence {sequence}"));
        }
        if row.is_none() && self.chains()? >= CHAINS_MAX {
            return refuse(Code::Malformed, format!("a log has at most {CHAINS_MAX} chains"));
        }
        let newest = row.map_or(0, |row| row.newest);
        let row = ChainStateRow { sequence: sequence + 1, state: state.clone(), newest };
        self.put_row(&key, &row)?;
        let saved = ChainRow { sequence: row.sequence, state: row.state };
        Ok(MetaReply::Log(LogReply::Chain(Some(saved))))
    }

    fn chains(&self) -> crate::kv::KvResult<usize> {
        let (from, to) = keyspace::table(Tag::Chain);
        let mut count = 0;
        self.rows.scan(&from, &to, &mut |_, _| {
            count += 1;
            std::ops::ControlFlow::Continue(())
        })?;
        Ok(count)
    }

    pub(crate) fn keep_anchor(&mut self, anchor: &KeptAnchor) -> Outcome<MetaReply> {
        check_name(&anchor.chain)?;
        if anchor.proof.len() > ANCHOR_PROOF_BYTES_MAX {
            return refuse(Code::Malformed, format!("a proof has at most {ANCHOR_PROOF_BYTES_MAX} bytes"));
        }
        let checkpoint: Option<CheckpointRow> = load(self.rows, &CHECKPOINT)?;
        let closed = checkpoint.map_or(0, |row| row.size);
        if anchor.head.size == 0 || anchor.head.size > closed {
            let detail = format!("size {} was never closed; the newest checkpoint has {closed}", anchor.head.size);
            return refuse(Code::Malformed, detail);
        }
        let key = keyspace::anchor(&anchor.chain, anchor.head.size);
        let row: Option<AnchorRow> = load(self.rows, &key)?;
        match row {
            Some(row) if row.root.0 != anchor.head.root => {
                refuse(Code::Malformed, format!("size {} is kept with another root", anchor.head.size))
            }
            Some(_) => Ok(MetaReply::Done),
            None => {
                if self.archived_anchor(&anchor.chain, anchor.head.size)? {
                    return Ok(MetaReply::Done);
                }
                let row = AnchorRow { root: HashRow(anchor.head.root), proof: anchor.proof.clone() };
                self.put_row(&key, &row)?;
                let counted = keyspace::anchors_kept(&anchor.chain);
                let kept: AnchorsKeptRow = load(self.rows, &counted)?.unwrap_or_default();
                let (count, bytes) = (kept.count + 1, kept.bytes + anchor.proof.len() as u64);
                self.put_row(&counted, &AnchorsKeptRow { count, bytes })?;
                let chain = keyspace::chain(&anchor.chain);
                if let Some(row) = load::<ChainStateRow>(self.rows, &chain)? {
                    let newest = row.newest.max(anchor.head.size);
                    self.put_row(&chain, &ChainStateRow { newest, ..row })?;
                }
                Ok(MetaReply::Done)
            }
        }
    }
}
