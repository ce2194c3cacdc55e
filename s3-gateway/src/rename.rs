//! RenameObject: an object gets another key, in one commit. No bytes and no references move.
//!
//! Conditions are decided here, on versions that were read; the commit names these versions and is refused
//! if one of them is not current any more. Then both are read anew. So the conditions hold at the commit.

use std::sync::Arc;

use stele_rpc::client::unexpected;
use stele_rpc::error::Code;
use stele_rpc::meta::{Command, Committed, Expected, MetaReply, RenameKey, RenameToken};
use stele_types::ids::{CommitSeq, Salt, VersionId};
use stele_types::object::{Version, Versioning};
use stele_types::seam::random_bytes;

use crate::api::{EtagCondition, GetRequest, ReadConditions, RenameRequest};
use crate::bucket::{guard_of, lookup, with_bucket};
use crate::conditions::check_conditions;
use crate::error::GatewayError;
use crate::gateway::Gateway;
use crate::get::head_object;
use crate::lease::WriteStart;
use crate::put::{VersionIds, begin, check_key};

/// How often a rename begins anew because one of its keys changed meanwhile.
const TRIES: usize = 8;
/// Most characters of a client's token.
const TOKEN_MAX: usize = 64;

/// Renames an object within its bucket.
///
/// # Durability
/// Ok: committed, for both keys at once.
///
/// # Errors
/// `NoSuchKey` for the source; `PreconditionFailed` for a condition on either key; `InvalidRequest` in a
/// bucket with versions, and for a rename to itself; `TokenReused`; `Conflict` if other writes keep
/// overtaking it; `Unavailable`: the outcome is unknown, ask again with the same token.
pub async fn rename_object(gw: &Arc<Gateway>, request: RenameRequest) -> Result<Committed, GatewayError> {
    check_key(&request.source)?;
    check_key(&request.destination)?;
    if request.source == request.destination {
        return Err(GatewayError::InvalidRequest { what: "an object can't be renamed to its own key".into() });
    }
    let token = request.token.as_deref().map(|token| token_of(token, &request)).transpose()?;
    if lookup(gw, &request.bucket).await?.versioning != Versioning::Unset {
        let what = "Renaming needs a bucket whose versioning was never set; copy the object and delete it instead.";
        return Err(GatewayError::InvalidRequest { what: what.into() });
    }
    let start = begin(gw, &request.bucket).await?;
    let ids = (VersionIds::draw(gw), Salt::from_bytes(random_bytes(gw.rng.as_ref())));
    for _ in 0..TRIES {
        let (seen, refused) = match look(gw, &request).await {
            Ok(seen) => (seen, None),
            // It may be this very rename, asked for before, that took the source away.
            Err(error) if token.is_some() && is_decision(&error) => (Seen::default(), Some(error)),
            Err(error) => return Err(error),
        };
        if let Some(committed) = commit(gw, &start, (&request, token), (&seen, &ids)).await? {
            return Ok(committed);
        }
        if let Some(error) = refused {
            return Err(error);
        }
        tracing::debug!(key = request.source, "another write overtook a rename, which looks again");
    }
    Err(GatewayError::Conflict { what: "other writes keep overtaking the rename".into() })
}

/// Versions that the conditions were decided on.
struct Seen {
    moved: VersionId,
    replaced: Expected,
}

impl Default for Seen {
    /// A version that never is, so that only an earlier result can be the answer.
    fn default() -> Self {
        Self { moved: VersionId { commit_seq: CommitSeq(0), nonce: 0 }, replaced: Expected::Any }
    }
}

/// What an earlier result may contradict.
const fn is_decision(error: &GatewayError) -> bool {
    matches!(error, GatewayError::NoSuchKey { .. } | GatewayError::PreconditionFailed)
}

async fn look(gw: &Arc<Gateway>, request: &RenameRequest) -> Result<Seen, GatewayError> {
    let get = |key: &str| GetRequest::current(&request.bucket, key);
    let source = head_object(gw, get(&request.source)).await?.version;
    holds(&request.source_conditions, &source)?;
    let conditions = &request.destination_conditions;
    if *conditions == ReadConditions::default() {
        return Ok(Seen { moved: source.id, replaced: Expected::Any });
    }
    let replaced = match head_object(gw, get(&request.destination)).await {
        Ok(reply) => {
            holds(conditions, &reply.version)?;
            Expected::Version(reply.version.id)
        }
        // What does not exist has no ETag, was not modified, and is not unlike anything.
        Err(GatewayError::NoSuchKey { .. }) => {
            if conditions.if_match.is_some() || conditions.if_modified_since.is_some() {
                return Err(GatewayError::PreconditionFailed);
            }
            Expected::Absent
        }
        Err(error) => return Err(error),
    };
    Ok(Seen { moved: source.id, replaced })
}

/// A rename knows no 304.
fn holds(conditions: &ReadConditions, version: &Version) -> Result<(), GatewayError> {
    match check_conditions(conditions, version) {
        Err(GatewayError::NotModified { .. }) => Err(GatewayError::PreconditionFailed),
        other => other,
    }
}

/// `None` if one of the keys changed since it was looked at.
async fn commit(
    gw: &Gateway,
    start: &WriteStart,
    (request, token): (&RenameRequest, Option<RenameToken>),
    (seen, (ids, moved_salt)): (&Seen, &(VersionIds, Salt)),
) -> Result<Option<Committed>, GatewayError> {
    with_bucket(gw, &request.bucket, |row| {
        let command = Command::RenameKey(Box::new(RenameKey {
            guard: guard_of(&row, start.epoch()),
            source: request.source.clone(),
            destination: request.destination.clone(),
            moved: seen.moved,
            replaced: seen.replaced,
            nonce: ids.nonce,
            salt: ids.salt,
            replaced_salt: ids.replaced_salt,
            moved_salt: *moved_salt,
            token,
        }));
        let origin = request.origin.clone();
        async move {
            match gw.leases.command(origin, command).await {
                Ok(MetaReply::Committed(committed)) => Ok(Some(committed)),
                Ok(_) => Err(unexpected("no commit to a rename")),
                Err(error) if error.code == Code::StaleVersion => Ok(None),
                Err(error) => Err(error),
            }
        }
    })
    .await
}

/// Digests of a client's token, and of all that it stands for.
fn token_of(token: &str, request: &RenameRequest) -> Result<RenameToken, GatewayError> {
    if token.is_empty() || token.len() > TOKEN_MAX || !token.bytes().all(|byte| (33..=126).contains(&byte)) {
        let what = format!("a client token has 1 to {TOKEN_MAX} printable ASCII characters without spaces");
        return Err(GatewayError::InvalidArgument { what });
    }
    let mut hasher = blake3::Hasher::new();
    let mut feed = |text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    feed(&request.source);
    feed(&request.destination);
    for conditions in [&request.source_conditions, &request.destination_conditions] {
        for etags in [&conditions.if_match, &conditions.if_none_match] {
            match etags {
                None => feed("none"),
                Some(EtagCondition::Any) => feed("any"),
                Some(EtagCondition::Tags(tags)) => feed(&format!("tags {}", tags.join(","))),
            }
        }
        for date in [conditions.if_modified_since, conditions.if_unmodified_since] {
            feed(&date.map_or_else(|| "none".to_owned(), |date| date.to_string()));
        }
    }
    let request = *hasher.finalize().as_bytes();
    Ok(RenameToken { id: *blake3::hash(token.as_bytes()).as_bytes(), request })
}
