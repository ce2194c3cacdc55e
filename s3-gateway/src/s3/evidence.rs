//! Evidence over the S3 port, signed like any request: `GET /bucket/key?evidence`, and `POST /?evidence` with a
//! JSON document for several objects in one bundle. The answer is a bundle as a tar archive. docs/evidence.md.

use std::sync::Arc;

use http::{Extensions, HeaderMap, HeaderValue, Method, Uri, Version};
use http_body_util::BodyExt;
use s3s::dto::{GetObjectInput, GetObjectOutput, StreamingBlob};
use s3s::route::S3Route;
use s3s::{Body, S3Request, S3Response, S3Result, s3_error};
use serde::Deserialize;
use stele_evidence::bundle::OBJECTS_MAX;

use super::objects::version_selector;
use super::{S3Edge, auth, fail, possession};
use crate::api::{BodyStream, ByteRange};
use crate::evidence::{EvidenceOf, export};
use crate::http::audit::watch::Note;
use crate::http::guard::query_keys;
use crate::http::target::{Hosts, Level};

const TAR: &str = "application/x-tar";
const DISPOSITION: &str = "attachment; filename=\"evidence.tar\"";

/// Whether a GET of an object asks for its evidence.
pub(super) fn is_asked(uri: &Uri) -> bool {
    query_keys(uri).any(|key| key == "evidence")
}

/// Bytes of an object: `A-B`, both inclusive, `A-`, or `-N` for the last N.
fn range(text: &str) -> S3Result<ByteRange> {
    let number = |digits: &str| {
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse::<u64>().ok()).flatten()
    };
    let parsed = match text.split_once('-') {
        Some(("", last)) => number(last).map(ByteRange::Suffix),
        Some((first, "")) => number(first).map(|first| ByteRange::From { first, last: None }),
        Some((first, last)) => {
            number(first).zip(number(last)).map(|(first, last)| ByteRange::From { first, last: Some(last) })
        }
        None => None,
    };
    parsed.ok_or_else(|| s3_error!(InvalidArgument, "{:?} is no range; write first-last, first- or -count.", text))
}

/// The value of a parameter; empty without one.
pub(super) fn parameter<'u>(uri: &'u Uri, name: &str) -> Option<&'u str> {
    let pairs = uri.query().unwrap_or_default().split('&');
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn flag(uri: &Uri, name: &str) -> S3Result<bool> {
    match parameter(uri, name) {
        None | Some("false") => Ok(false),
        Some("" | "true") => Ok(true),
        Some(_) => Err(s3_error!(InvalidArgument, "{} is true or false.", name)),
    }
}

fn contradiction(of: &EvidenceOf) -> S3Result<()> {
    if of.range.is_some() && (of.all_versions || of.payload) {
        return Err(s3_error!(
            InvalidRequest,
            "A range is shown of one version, and its bytes are in its proof: leave out all-versions and payload."
        ));
    }
    Ok(())
}

/// The body of a bundle, whose length is not known before it was made.
fn streamed(body: BodyStream) -> StreamingBlob {
    StreamingBlob::wrap(body)
}

/// `GET /bucket/key?evidence[&versionId=ID][&range=A-B][&all-versions][&payload]`.
pub(super) async fn get(edge: &S3Edge, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
    if req.input.range.is_some() || req.input.part_number.is_some() {
        return Err(s3_error!(InvalidRequest, "Evidence of a range is asked for with the parameter range=first-last."));
    }
    let of = EvidenceOf {
        bucket: req.input.bucket.clone(),
        key: req.input.key.clone(),
        version: version_selector(req.input.version_id.as_deref())?,
        all_versions: flag(&req.uri, "all-versions")?,
        range: parameter(&req.uri, "range").map(range).transpose()?,
        payload: flag(&req.uri, "payload")?,
    };
    contradiction(&of)?;
    if let Some(note) = req.extensions.get::<Note>() {
        note.renamed("GetObjectEvidence");
    }
    let body = export(&edge.gateway, vec![of]).await.map_err(|error| fail(&req, error))?;
    Ok(S3Response::new(GetObjectOutput {
        body: Some(streamed(body)),
        content_type: Some(TAR.to_owned()),
        content_disposition: Some(DISPOSITION.to_owned()),
        ..GetObjectOutput::default()
    }))
}

/// The document of `POST /?evidence`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    objects: Vec<Asked>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Asked {
    bucket: String,
    key: String,
    version_id: Option<String>,
    range: Option<String>,
    #[serde(default)]
    all_versions: bool,
    #[serde(default)]
    payload: bool,
}

fn read(bytes: &[u8]) -> S3Result<Vec<EvidenceOf>> {
    let document: Document = serde_json::from_slice(bytes).map_err(|error| {
        s3_error!(InvalidRequest, "The document is not {{\"objects\": [{{\"bucket\", \"key\", ...}}]}}: {}.", error)
    })?;
    if document.objects.is_empty() || document.objects.len() > OBJECTS_MAX {
        return Err(s3_error!(InvalidRequest, "The document names 1 to {} objects.", OBJECTS_MAX));
    }
    document.objects.into_iter().map(Asked::read).collect()
}

impl Asked {
    fn read(self) -> S3Result<EvidenceOf> {
        let of = EvidenceOf {
            version: version_selector(self.version_id.as_deref())?,
            range: self.range.as_deref().map(range).transpose()?,
            bucket: self.bucket,
            key: self.key,
            all_versions: self.all_versions,
            payload: self.payload,
        };
        contradiction(&of)?;
        Ok(of)
    }
}

/// `POST /?evidence` and `/?possession-audit`, which s3s does not know.
pub(super) struct EvidenceRoute {
    pub(super) edge: S3Edge,
    pub(super) hosts: Arc<Hosts>,
}

#[async_trait::async_trait]
impl S3Route for EvidenceRoute {
    fn is_match(&self, method: &Method, uri: &Uri, headers: &HeaderMap, _: &mut Extensions) -> bool {
        // As HTTP/2, which names the host in the URI where there is no header.
        let posted = method == Method::POST && is_asked(uri);
        let audits = [Method::POST, Method::GET].contains(method) && possession::is_asked(uri);
        (posted || audits) && self.hosts.level(uri, headers, Version::HTTP_2) == Level::Store
    }

    async fn check_access(&self, req: &mut S3Request<Body>) -> S3Result<()> {
        let signer = req.credentials.as_ref().map(|signer| signer.access_key.clone());
        if let Some(note) = req.extensions.get::<Note>() {
            let name = if possession::is_asked(&req.uri) { "PossessionAudit" } else { "PostEvidence" };
            note.own_operation(name, signer.clone());
        }
        auth::admit(signer.as_deref(), &req.headers, &req.uri)?;
        auth::count(signer, &req.extensions)
    }

    async fn call(&self, mut req: S3Request<Body>) -> S3Result<S3Response<Body>> {
        if possession::is_asked(&req.uri) {
            return possession::call(&self.edge, req).await;
        }
        let body = std::mem::take(&mut req.input).collect().await;
        let bytes = body.map_err(|error| s3_error!(IncompleteBody, "The document could not be read: {}.", error))?;
        let of = read(&bytes.to_bytes())?;
        let body = export(&self.edge.gateway, of).await.map_err(|error| fail(&req, error))?;
        let mut response = S3Response::new(Body::from(streamed(body)));
        response.headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(TAR));
        response.headers.insert(http::header::CONTENT_DISPOSITION, HeaderValue::from_static(DISPOSITION));
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_strict() {
        assert_eq!(range("0-9").unwrap(), ByteRange::From { first: 0, last: Some(9) });
        assert_eq!(range("7-").unwrap(), ByteRange::From { first: 7, last: None });
        assert_eq!(range("-5").unwrap(), ByteRange::Suffix(5));
        for bad in ["", "-", "1", "+1-2", "1-+2", "1-2-3", " 1-2", "a-b", "18446744073709551616-"] {
            assert!(range(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn documents_are_strict() {
        let of = read(
            br#"{"objects":[{"bucket":"b","key":"k","range":"0-9"},{"bucket":"b","key":"x","allVersions":true}]}"#,
        );
        let of = of.unwrap();
        assert_eq!((of.len(), of[0].range.is_some(), of[1].all_versions), (2, true, true));
        for bad in [
            &b""[..],
            b"{}",
            br#"{"objects":[]}"#,
            br#"{"objects":[{"bucket":"b"}]}"#,
            br#"{"objects":[{"bucket":"b","key":"k","size":1}]}"#,
            br#"{"objects":[{"bucket":"b","key":"k","versionId":"?"}]}"#,
            br#"{"objects":[{"bucket":"b","key":"k","range":"1-2","payload":true}]}"#,
            br#"{"objects":[{"bucket":"b","key":"k"}],"more":1}"#,
        ] {
            assert!(read(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        let many = format!("{{\"objects\":[{}]}}", vec![r#"{"bucket":"b","key":"k"}"#; OBJECTS_MAX + 1].join(","));
        assert!(read(many.as_bytes()).is_err());
    }

    #[test]
    fn parameters_are_those_of_the_query() {
        let uri: Uri = "/b/k?evidence&range=1-2&all-versions=false&payload".parse().unwrap();
        assert!(is_asked(&uri) && flag(&uri, "payload").unwrap() && !flag(&uri, "all-versions").unwrap());
        assert_eq!(parameter(&uri, "range"), Some("1-2"));
        assert!(!is_asked(&"/b/evidence?x=evidence".parse().unwrap()));
        assert!(flag(&"/b/k?payload=yes".parse().unwrap(), "payload").is_err());
    }
}
