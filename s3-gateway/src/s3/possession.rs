//! Possession audits over the S3 port, signed like any request. docs/audits.md.
//!
//! | request | does |
//! |---|---|
//! | `POST /?possession-audit` with a JSON document | fixes the inventories and logs them |
//! | `GET /?possession-audit=ID` | where the audit stands, as JSON; also the checkpoint, once one covers the entry |
//! | `POST /?possession-audit=ID` with a beacon | draws the questions and asks them |
//! | `GET /?possession-audit=ID&report` | report, keys and slices as a tar archive, once it ended |

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderValue, Method, Uri};
use http_body_util::BodyExt;
use s3s::{Body, S3Request, S3Response, S3Result, s3_error};
use serde::{Deserialize, Serialize};
use stele_evidence::audit::challenge::{AuditId, BEACON_MAX, BEACON_NAME_MAX, GROUPS_PER_ROW_MAX};
use stele_evidence::audit::progress::Verdict;

use super::evidence::parameter;
use super::objects::version_selector;
use super::{S3Edge, fail, origin};
use crate::http::guard::query_keys;
use crate::possession::{Asked, Cursor, Fixed, Standing, Subject, begin, go_on, standing};

const NAME: &str = "possession-audit";

/// Whether a request is about possession audits.
pub(super) fn is_asked(uri: &Uri) -> bool {
    query_keys(uri).any(|key| key == NAME)
}

/// Which audit; none to begin one.
fn id(uri: &Uri) -> S3Result<Option<AuditId>> {
    match parameter(uri, NAME) {
        None | Some("") => Ok(None),
        Some(text) => match hex::decode(text).ok().and_then(|bytes| <[u8; 16]>::try_from(bytes).ok()) {
            Some(bytes) => Ok(Some(AuditId(bytes))),
            None => Err(s3_error!(InvalidArgument, "{:?} is no audit: an id has 32 hexadecimal digits.", text)),
        },
    }
}

/// The document that begins an audit.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Document {
    /// So many shards of each storage node; with a bucket, so many chunks.
    sample: Option<u64>,
    /// All shards, from a place on.
    shards: Option<Place>,
    bucket: Option<String>,
    key: Option<String>,
    version_id: Option<String>,
    groups_per_row: Option<u8>,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Place {
    group: u64,
    row: u64,
}

fn read(bytes: &[u8]) -> S3Result<(Subject, u8)> {
    let document: Document = serde_json::from_slice(bytes)
        .map_err(|error| s3_error!(InvalidRequest, "The document does not describe an audit: {}.", error))?;
    let groups = document.groups_per_row.unwrap_or(1);
    if !(1..=GROUPS_PER_ROW_MAX).contains(&groups) {
        return Err(s3_error!(InvalidRequest, "groupsPerRow is 1 to {}.", GROUPS_PER_ROW_MAX));
    }
    let version = version_selector(document.version_id.as_deref())?;
    let Document { sample, shards, bucket, key, version_id, .. } = document;
    if sample == Some(0) {
        return Err(s3_error!(InvalidRequest, "sample is at least 1."));
    }
    let subject = match (sample, shards, bucket, key) {
        (Some(rows), None, None, None) if version_id.is_none() => Subject::Sample(rows),
        (None, Some(Place { group, row }), None, None) if version_id.is_none() => {
            Subject::Shards(Cursor { group, row })
        }
        (sample, None, Some(bucket), key) if key.is_some() || version_id.is_none() => {
            Subject::Objects { bucket, key: key.map(|key| (key, version)), sample }
        }
        _ => {
            return Err(s3_error!(
                InvalidRequest,
                "An audit is of a sample, of shards, or of a bucket with or without a key and version."
            ));
        }
    };
    Ok((subject, groups))
}

/// The document that carries an audit on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Beacon {
    beacon_name: String,
    /// Hexadecimal digits.
    beacon: String,
}

fn read_beacon(bytes: &[u8]) -> S3Result<(String, Vec<u8>)> {
    let document: Beacon = serde_json::from_slice(bytes)
        .map_err(|error| s3_error!(InvalidRequest, "The document is no beacon: {}.", error))?;
    let beacon = hex::decode(&document.beacon).unwrap_or_default();
    if !(1..=BEACON_MAX).contains(&beacon.len()) || document.beacon_name.len() > BEACON_NAME_MAX {
        return Err(s3_error!(
            InvalidRequest,
            "A beacon is 1 to {} bytes in hexadecimal digits, and its name at most {} bytes.",
            BEACON_MAX,
            BEACON_NAME_MAX
        ));
    }
    Ok((document.beacon_name, beacon))
}

/// Answers one request about possession audits.
pub(super) async fn call(edge: &S3Edge, mut req: S3Request<Body>) -> S3Result<S3Response<Body>> {
    let gw = &edge.gateway;
    let asked = id(&req.uri)?;
    match (req.method == Method::POST, asked) {
        (true, None) => {
            let (subject, groups_per_row) = read(&body(&mut req).await?)?;
            let asked = Asked { subject, groups_per_row, spacing: None, origin: origin(edge, &req) };
            let fixed = begin(gw, asked).await.map_err(|error| fail(&req, error))?;
            Ok(json(described(&fixed, "fixed")))
        }
        (true, Some(id)) => {
            let beacon = read_beacon(&body(&mut req).await?)?;
            go_on(gw, id, beacon).await.map_err(|error| fail(&req, error))?;
            Ok(json(serde_json::json!({ "state": "asking" })))
        }
        (false, None) => Err(s3_error!(InvalidRequest, "Name the audit: possession-audit=ID.")),
        (false, Some(id)) => {
            let (fixed, standing) = standing(gw, id).await.map_err(|error| fail(&req, error))?;
            match standing {
                Standing::Ended(ended) if parameter(&req.uri, "report").is_some() => {
                    Ok(tar(ended.archive().map_err(|error| fail(&req, error))?))
                }
                standing => Ok(json(told(&fixed, &standing))),
            }
        }
    }
}

async fn body(req: &mut S3Request<Body>) -> S3Result<Bytes> {
    let body = std::mem::take(&mut req.input).collect().await;
    let body = body.map_err(|error| s3_error!(IncompleteBody, "The document could not be read: {}.", error))?;
    Ok(body.to_bytes())
}

fn described(fixed: &Fixed, state: &str) -> serde_json::Value {
    serde_json::json!({
        "id": hex::encode(fixed.id.0),
        "state": state,
        "entry": fixed.entry.0,
        "rows": fixed.rows,
        "challenges": fixed.challenges,
        "next": fixed.next.map(|Cursor { group, row }| Place { group, row }),
    })
}

fn told(fixed: &Fixed, standing: &Standing) -> serde_json::Value {
    let (state, more) = match standing {
        Standing::Fixed(covering) => {
            let head = covering.as_ref().map(|covering| covering.head);
            let head = head.map(|head| serde_json::json!({ "size": head.size, "root": hex::encode(head.root) }));
            ("fixed", serde_json::json!({ "checkpoint": head }))
        }
        Standing::Asking(answered) => ("asking", serde_json::json!({ "answered": answered })),
        Standing::Failed(error) => ("failed", serde_json::json!({ "error": error })),
        Standing::Ended(ended) => {
            let counts: BTreeMap<&str, usize> =
                Verdict::ALL.into_iter().map(|verdict| (verdict.name(), ended.checked.count(verdict))).collect();
            ("ended", serde_json::json!({ "reportEntry": ended.entry.0, "verdicts": counts }))
        }
    };
    let mut document = described(fixed, state);
    if let (Some(document), serde_json::Value::Object(more)) = (document.as_object_mut(), more) {
        document.extend(more);
    }
    document
}

fn json(document: serde_json::Value) -> S3Response<Body> {
    let mut response = S3Response::new(Body::from(document.to_string()));
    response.headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn tar(archive: Vec<u8>) -> S3Response<Body> {
    let mut response = S3Response::new(Body::from(Bytes::from(archive)));
    response.headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_strict() {
        let subject = |text: &str| read(text.as_bytes()).map(|(subject, _)| subject);
        assert_eq!(subject(r#"{"sample":9}"#).unwrap(), Subject::Sample(9));
        let place = Cursor { group: 3, row: 7 };
        assert_eq!(subject(r#"{"shards":{"group":3,"row":7}}"#).unwrap(), Subject::Shards(place));
        let all = Subject::Objects { bucket: "b".into(), key: None, sample: None };
        assert_eq!(subject(r#"{"bucket":"b"}"#).unwrap(), all);
        let keyed = subject(r#"{"bucket":"b","key":"k","versionId":"null","sample":4,"groupsPerRow":16}"#).unwrap();
        assert!(matches!(keyed, Subject::Objects { key: Some(_), sample: Some(4), .. }));
        for bad in [
            "",
            "{}",
            r#"{"sample":0}"#,
            r#"{"sample":1,"shards":{"group":0,"row":0}}"#,
            r#"{"shards":{"group":0}}"#,
            r#"{"key":"k"}"#,
            r#"{"bucket":"b","versionId":"null"}"#,
            r#"{"sample":1,"versionId":"null"}"#,
            r#"{"bucket":"b","shards":{"group":0,"row":0}}"#,
            r#"{"sample":1,"groupsPerRow":0}"#,
            r#"{"sample":1,"groupsPerRow":17}"#,
            r#"{"sample":1,"more":1}"#,
        ] {
            assert!(subject(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn beacons_and_ids_are_bounded() {
        assert_eq!(read_beacon(br#"{"beaconName":"dice","beacon":"00ff"}"#).unwrap(), ("dice".into(), vec![0, 255]));
        let long = format!(r#"{{"beaconName":"d","beacon":"{}"}}"#, "00".repeat(BEACON_MAX + 1));
        for bad in [r#"{"beaconName":"d","beacon":""}"#, r#"{"beaconName":"d","beacon":"xy"}"#, long.as_str(), "{}"] {
            assert!(read_beacon(bad.as_bytes()).is_err(), "{bad}");
        }
        let uri = |text: &str| text.parse::<Uri>().unwrap();
        assert!(is_asked(&uri("/?possession-audit")) && !is_asked(&uri("/?audit")));
        assert_eq!(id(&uri("/?possession-audit=")).unwrap(), None);
        let text = "/?possession-audit=000102030405060708090a0b0c0d0e0f";
        assert_eq!(id(&uri(text)).unwrap().unwrap().0[15], 15);
        for bad in ["/?possession-audit=00", "/?possession-audit=zz0102030405060708090a0b0c0d0e0f"] {
            assert!(id(&uri(bad)).is_err(), "{bad}");
        }
    }
}
