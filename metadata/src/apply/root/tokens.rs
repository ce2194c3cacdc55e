//! Join tokens: made by an operator, used once, forgotten when they expire. Rows hold a hash of the secret.

use stele_rpc::error::Code;
use stele_rpc::meta::{MetaReply, NewNode, TokenRow};
use stele_types::role::Role;

use super::acts;
use crate::apply::data::date;
use crate::apply::{Batch, Context, Outcome, refuse};
use crate::keyspace::{self, Tag};
use crate::kv::KvResult;
use crate::rows::{decode, load};

/// Tokens that are kept at once.
const TOKENS_MAX: usize = 1000;

/// One answer for every wrong token: a stranger learns nothing about which exist.
const NOT_VALID: &str = "this join token is not valid: it is unknown, used up or expired; ask for a new one";

/// What the log calls a token: its id is no secret.
fn subject(id: &[u8; 16]) -> String {
    format!("token/{}", hex::encode(id))
}

impl Batch<'_> {
    pub(crate) fn create_join_token(
        &mut self,
        cx: Context<'_>,
        id: [u8; 16],
        secret_hash: [u8; 32],
        (role, ttl_ms): (Role, u64),
    ) -> Outcome<MetaReply> {
        self.drop_expired_tokens(cx)?;
        if let Some(known) = load::<TokenRow>(self.rows, &keyspace::join_token(&id))? {
            let same = known.secret_hash == secret_hash && known.role == role;
            return if same { Ok(MetaReply::Done) } else { refuse(Code::Malformed, "a token with this id exists") };
        }
        if self.collect(&[Tag::JoinToken as u8], TOKENS_MAX)?.len() >= TOKENS_MAX {
            return refuse(
                Code::Malformed,
                format!("{TOKENS_MAX} join tokens are open: revoke some, or let them expire"),
            );
        }
        let row = TokenRow { id, secret_hash, role, expires: cx.now.saturating_add(ttl_ms), used: None };
        self.put_row(&keyspace::join_token(&id), &row)?;
        let detail = format!("a join token for the role {role} was made; it expires at {}", date(row.expires));
        self.log_act(cx, &subject(&id), &detail)?;
        Ok(MetaReply::Done)
    }

    pub(crate) fn revoke_join_token(&mut self, cx: Context<'_>, id: [u8; 16]) -> Outcome<MetaReply> {
        let at = keyspace::join_token(&id);
        let Some(row) = load::<TokenRow>(self.rows, &at)? else { return Ok(MetaReply::Done) };
        self.rows.delete(&at)?;
        let used = row.used.map_or_else(|| "it was not used".to_owned(), |(node, _)| format!("node {node} used it"));
        self.log_act(cx, &subject(&id), &format!("the join token for the role {} was dropped; {used}", row.role))?;
        Ok(MetaReply::Done)
    }

    pub(crate) fn redeem_join_token(
        &mut self,
        cx: Context<'_>,
        id: [u8; 16],
        secret_hash: [u8; 32],
        node: &NewNode,
    ) -> Outcome<MetaReply> {
        let key = keyspace::join_token(&id);
        let known = load::<TokenRow>(self.rows, &key)?;
        let valid = |row: &TokenRow| row.secret_hash == secret_hash && row.expires > cx.now;
        let Some(mut row) = known.filter(valid) else { return refuse(Code::Forbidden, NOT_VALID) };
        if row.role != node.role {
            let detail = format!("this join token is for the role {}, not for {}", row.role, node.role);
            return refuse(Code::Forbidden, detail);
        }
        if let Some((id, key)) = row.used {
            // The answer was lost, or somebody else found the token.
            return if key == node.key { Ok(MetaReply::Node(id)) } else { refuse(Code::Forbidden, NOT_VALID) };
        }
        let token = id;
        let admitted = self.admit_node(node)?;
        let id = admitted.id;
        row.used = Some((id, node.key));
        self.put_row(&key, &row)?;
        self.log_act(cx, &format!("node/{id}"), &acts::node_joined(&admitted, &token))?;
        Ok(MetaReply::Node(id))
    }

    fn drop_expired_tokens(&mut self, cx: Context<'_>) -> KvResult<()> {
        for (key, value) in self.collect(&[Tag::JoinToken as u8], TOKENS_MAX)? {
            if decode::<TokenRow>(&key, &value)?.expires <= cx.now {
                self.rows.delete(&key)?;
            }
        }
        Ok(())
    }
}
