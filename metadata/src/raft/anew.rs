//! The first state of a group that is made from rows of another one: as if this node had been sent them as a snapshot. The
//! log is empty and purged up to the last command in the rows, so that a node that joins later is sent the rows, too.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use openraft::Membership;
use redb::{Builder, StorageBackend};

use super::log_store::{LogTuning, encode, identify};
use super::log_writer::{META, META_PURGED, META_VOTE};
use super::state_machine::AppliedRow;
use super::types::{LogId, Member, StoredMembership, Vote};
use crate::keyspace::APPLIED;
use crate::kv::{KvRead, KvResult, KvTxn};
use crate::media::Boxed;
use crate::rows::{self, load};

/// Term and index of the last command in the rows.
pub(crate) fn applied_of(rows: &dyn KvRead) -> KvResult<Option<(u64, u64)>> {
    Ok(last_of(rows)?.map(|last| (last.committed_leader_id().term, last.index)))
}

fn last_of(rows: &dyn KvRead) -> KvResult<Option<LogId>> {
    Ok(load::<AppliedRow>(rows, &APPLIED)?.and_then(|row| row.last))
}

/// Makes `node` the only member, in the rows.
pub(crate) fn sole_member(txn: &mut dyn KvTxn, node: u64, incarnation: u64) -> KvResult<()> {
    let last = last_of(&*txn)?;
    let nodes = BTreeMap::from([(node, Member { incarnation })]);
    let only = Membership::new(vec![BTreeSet::from([node])], nodes);
    let membership = only.map_err(|error| rows::corrupt(&APPLIED, error.to_string()))?;
    let row = AppliedRow { last, membership: StoredMembership::new(last, membership) };
    txn.put(&APPLIED, &rows::encode(&row))
}

/// Writes the log that goes with the rows, on media that hold nothing.
pub(crate) fn write_log(backend: Box<dyn StorageBackend>, tuning: LogTuning, rows: &dyn KvRead) -> io::Result<()> {
    let last = last_of(rows)?.ok_or_else(|| io::Error::other("the rows hold no command"))?;
    // The next election is in a later term than any command in the rows.
    let vote = Vote::new(last.committed_leader_id().term, tuning.node);
    create(backend, &tuning, &[(META_PURGED, encode(&last)), (META_VOTE, encode(&vote))]).map_err(io::Error::other)?
}

fn create(
    backend: Box<dyn StorageBackend>,
    tuning: &LogTuning,
    pointers: &[(u8, Vec<u8>)],
) -> Result<io::Result<()>, redb::Error> {
    let db = Builder::new().create_with_backend(Boxed(backend))?;
    if let Err(foreign) = identify(&db, tuning)? {
        return Ok(Err(foreign));
    }
    let txn = db.begin_write()?;
    {
        let mut meta = txn.open_table(META)?;
        for (what, bytes) in pointers {
            meta.insert((tuning.group, *what), bytes.as_slice())?;
        }
    }
    txn.commit()?;
    Ok(Ok(()))
}

/// Rows say that the last command had this term and index.
#[cfg(test)]
pub(crate) fn stand_at(txn: &mut dyn KvTxn, term: u64, index: u64) -> KvResult<()> {
    let last = Some(LogId::new(openraft::impls::leader_id_adv::LeaderId { term, node_id: 1 }, index));
    txn.put(&APPLIED, &rows::encode(&AppliedRow { last, membership: StoredMembership::default() }))
}
