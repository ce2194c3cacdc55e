//! The S3 edge: s3s types in, the gateway's own API behind. No s3s type leaves this folder and
//! [`crate::http`].
//!
//! | module | holds |
//! |---|---|
//! | [`auth`] | keys and the one authorisation function |
//! | `audited` | the keys of a bulk deletion, for the audit log |
//! | [`service`] | s3s with our configuration |
//! | `operations` | which operations exist; everything else is 501 |
//! | `objects`, `attributes`, `copy`, `part_copy`, `rename`, `multipart`, `buckets`, `listing` | one translation per operation |
//! | `post` | browser uploads |
//! | `evidence`, `possession` | bundles for auditors, possession audits |
//! | `probes`, `unset` | reads of configuration that a bucket does not have |
//! | `versioning` | whether a bucket keeps versions |
//! | `tagging` | tags of objects and buckets |
//! | `lock` | object lock: retention and legal hold |
//! | `log_bucket` | the bucket with archives of the evidence log, which clients only read |
//! | `cors` | rules for requests of other origins |
//! | `checksums`, `headers`, `conditions`, `body` | parts of requests and responses |
//! | `errors` | [`crate::error::GatewayError`] to S3 codes |

mod attributes;
mod audited;
pub mod auth;
mod body;
mod buckets;
pub(crate) mod checksums;
mod conditions;
mod copy;
mod cors;
mod errors;
mod evidence;
mod headers;
mod listing;
mod lock;
mod log_bucket;
mod multipart;
mod objects;
mod operations;
mod part_copy;
mod possession;
mod post;
mod probes;
mod rename;
pub mod service;
mod tagging;
#[cfg(test)]
mod tests;
mod unset;
mod unsupported;
mod versioning;

use std::sync::Arc;

use s3s::{S3Error, S3Request};
use stele_rpc::meta::Origin;
use stele_types::object::Versioning;

use crate::api::{GatewayError, Shown};
use crate::gateway::Gateway;
use crate::http::request_id::RequestId;
use crate::http::server::PeerAddr;

/// The gateway as s3s sees it.
#[derive(Clone, Debug)]
pub(crate) struct S3Edge {
    pub(crate) gateway: Arc<Gateway>,
    /// What `x-amz-bucket-region` says.
    pub(crate) region: Arc<str>,
}

impl S3Edge {
    /// `x-amz-version-id` of a version: none in a bucket whose versioning was never set.
    async fn version_id(&self, bucket: &str, version: Shown) -> Option<String> {
        let kept = !version.null
            || crate::bucket::lookup(&self.gateway, bucket).await.is_ok_and(|row| row.versioning != Versioning::Unset);
        kept.then(|| version.to_string())
    }
}

/// Who asks: principal from the verified signature, address from the socket.
fn origin<T>(edge: &S3Edge, req: &S3Request<T>) -> Origin {
    Origin {
        principal: req.credentials.as_ref().map(|c| c.access_key.clone()).unwrap_or_default(),
        source: req.extensions.get::<PeerAddr>().map(|p| p.0.ip().to_string()).unwrap_or_default(),
        node: edge.gateway.node(),
    }
}

/// Translates a failure and ties it to the request.
fn fail<T>(req: &S3Request<T>, error: GatewayError) -> S3Error {
    fail_as(req.extensions.get::<RequestId>().copied(), error)
}

/// As [`fail`], for code that has taken the request apart.
fn fail_as(id: Option<RequestId>, error: GatewayError) -> S3Error {
    let text = id.map(|id| id.to_string()).unwrap_or_default();
    let mut error = errors::to_s3(error, &text);
    error.set_request_id(text);
    error
}

/// A field of a form, for the fuzz target: tags that are taken mean the same as a header.
pub(crate) fn fuzz_field(name: &str, value: &str) {
    drop(post::check_field(name));
    if let Ok(header) = post::tag_header(value) {
        assert!(tagging::header(Some(&header)).is_ok());
    }
}

/// Values of headers and queries, for the fuzz target: what is taken means the same when written back.
pub(crate) fn fuzz_value(text: &str) {
    if let Ok(after) = listing::token_after(text) {
        assert_eq!(listing::token_after(&listing::token(&after)).ok(), Some(after));
    }
    assert_eq!(listing::token_after(&listing::token(text)).ok().as_deref(), Some(text));
    if let Ok(algorithm) = checksums::by_name(text) {
        assert!(checksums::name(algorithm).eq_ignore_ascii_case(text));
    }
    for algorithm in checksums::algorithms() {
        if let Ok(found) = checksums::declared([(algorithm, Some(text.to_owned()))]) {
            assert_eq!(found.len(), 1);
        }
    }
    let kept = headers::without_aws_chunked(Some(text.to_owned()));
    assert_eq!(headers::without_aws_chunked(kept.clone()), kept);
    if let Ok(tags) = tagging::header(Some(text)) {
        assert!(tags.check(stele_types::limits::OBJECT_TAGS_MAX).is_ok());
    }
}
