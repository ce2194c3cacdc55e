//! Commands under a lease: each takes effect once, and a repeat is answered from the remembered
//! reply, until the gateway says that it needs it no more.

use std::ops::ControlFlow;

use stele_rpc::error::{Code, RpcError};
use stele_rpc::meta::{CommandEnvelope, MetaReply};
use stele_types::ids::{CommandSequence, LeaseId};
use stele_types::seam::UnixMillis;

use super::{Batch, Context, Failure, Outcome, refuse};
use crate::keyspace;
use crate::kv::KvResult;
use crate::rows::{LeaseRow, ReplyRow, decode, encode_named};

impl Batch<'_> {
    pub(crate) fn apply_under_lease(
        &mut self,
        now: UnixMillis,
        lease: LeaseId,
        envelope: &CommandEnvelope,
    ) -> Outcome<MetaReply> {
        let Some(row) = self.lease(lease)? else {
            return refuse(Code::NoLease, format!("lease {lease} does not exist: take a new one"));
        };
        let sequence = envelope.sequence;
        if envelope.lowest_open > sequence {
            return refuse(Code::Malformed, format!("command {sequence} is below its own lowest open sequence"));
        }
        if sequence < row.lowest_sequence {
            let detail =
                format!("the reply to command {sequence} of lease {lease} is forgotten: read the state instead");
            return refuse(Code::Forgotten, detail);
        }
        let key = keyspace::reply(lease, sequence);
        if let Some(bytes) = self.rows.get(&key)? {
            return decode::<ReplyRow>(&key, &bytes)?.map_err(Failure::Refused);
        }
        if row.expires <= now {
            return refuse(Code::NoLease, format!("lease {lease} has expired: take a new one"));
        }
        self.forget_replies(lease, row, envelope.lowest_open)?;
        let outcome: Result<MetaReply, RpcError> =
            match self.dispatch(Context { now, origin: &envelope.origin, salt: envelope.salt }, &envelope.command) {
                Ok(reply) => Ok(reply),
                Err(Failure::Refused(error)) => Err(error),
                Err(broken) => return Err(broken),
            };
        if !self.options.forgets_replies() {
            self.rows.put(&key, &encode_named(&outcome))?;
        }
        outcome.map_err(Failure::Refused)
    }

    fn forget_replies(&mut self, lease: LeaseId, mut row: LeaseRow, lowest: CommandSequence) -> KvResult<()> {
        if lowest <= row.lowest_sequence {
            return Ok(());
        }
        let from = keyspace::reply(lease, row.lowest_sequence);
        let to = keyspace::reply(lease, lowest);
        self.delete_range(&from, &to)?;
        row.lowest_sequence = lowest;
        self.set_lease(lease, Some(row));
        Ok(())
    }

    /// Drops a lease and the replies remembered for it.
    pub(crate) fn drop_lease(&mut self, lease: LeaseId) -> KvResult<()> {
        self.set_lease(lease, None);
        let prefix = keyspace::replies(lease);
        self.delete_range(&prefix, &keyspace::successor(&prefix))
    }

    pub(crate) fn delete_range(&mut self, from: &[u8], to: &[u8]) -> KvResult<()> {
        let mut keys = Vec::new();
        self.rows.scan(from, to, &mut |key, _| {
            keys.push(key.to_vec());
            ControlFlow::Continue(())
        })?;
        for key in keys {
            self.rows.delete(&key)?;
        }
        Ok(())
    }
}
