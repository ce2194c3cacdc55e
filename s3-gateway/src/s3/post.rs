//! PostObject: what a form must say besides what s3s checks, and what a browser is told. s3s has verified the
//! signature and the policy's conditions, and runs PutObject with the fields it knows behind this.

use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use s3s::dto::{PostObjectInput, PutObjectOutput, Tagging};
use s3s::xml::{Deserialize, Deserializer};
use s3s::{S3Request, S3Result, s3_error};

use super::auth::check_owner;
use super::errors::custom;
use super::listing::percent_encode;
use super::tagging;
use super::unsupported::canned_acl;
use crate::http::audit::watch::Note;
use crate::http::form::Head;

/// Marks the request of a form; holds where its object will be, unless the browser goes elsewhere.
#[derive(Clone, Debug)]
pub(super) struct Form {
    location: Option<HeaderValue>,
}

impl Form {
    /// What a form's answer says in headers, as it has no other place for it.
    pub(super) fn tell(&self, headers: &mut HeaderMap, output: &PutObjectOutput) {
        let text = |value: &str| HeaderValue::from_str(value).ok();
        let etag = output.e_tag.as_ref().and_then(|etag| text(&format!("\"{}\"", etag.value())));
        headers.extend(self.location.clone().map(|location| (http::header::LOCATION, location)));
        headers.extend(etag.map(|etag| (http::header::ETAG, etag)));
        if let Some(version) = output.version_id.as_deref().and_then(text) {
            headers.insert("x-amz-version-id", version);
        }
    }
}

/// Decides about a form whose policy holds. Nothing of the file has been read.
pub(super) fn check(req: &mut S3Request<PostObjectInput>) -> S3Result<()> {
    if let Some(note) = req.extensions.get::<Note>() {
        note.key(&req.input.key);
    }
    let signer = req.credentials.as_ref().map(|signer| signer.access_key.as_str()).unwrap_or_default();
    check_owner(signer, req.input.expected_bucket_owner.as_deref().map(str::as_bytes))?;
    if req.input.key.is_empty() {
        return Err(s3_error!(InvalidArgument, "User key must have a length greater than 0."));
    }
    if let Some(redirect) = &req.input.success_action_redirect {
        check_redirect(redirect)?;
    }
    let fields = req.extensions.get::<Head>().and_then(|head| head.fields(&req.headers)).ok_or_else(|| {
        let message = "Your POST request fields preceding the upload file were too large.";
        custom("MaxPostPreDataLengthExceeded", StatusCode::BAD_REQUEST, message)
    })?;
    let mut tags = None;
    for (name, value) in fields {
        match name.as_str() {
            "acl" => canned_acl(Some(&value))?,
            "tagging" => tags = Some(tag_header(&value)?),
            _ => check_field(&name)?,
        }
    }
    if let Some(tags) = tags {
        if req.input.tagging.is_some() {
            return Err(s3_error!(InvalidArgument, "A form has either the field tagging or x-amz-tagging."));
        }
        req.input.tagging = Some(tags);
    }
    let path = format!("/{}/{}", req.input.bucket, percent_encode(&req.input.key).replace('+', "%20"));
    let location = HeaderValue::from_str(&path).ok().filter(|_| req.input.success_action_redirect.is_none());
    req.extensions.insert(Form { location });
    Ok(())
}

/// s3s would look at it when the object is stored already.
fn check_redirect(redirect: &str) -> S3Result<()> {
    let uri = redirect.parse::<Uri>().ok();
    let web = uri.is_some_and(|uri| uri.authority().is_some() && matches!(uri.scheme_str(), Some("http" | "https")));
    if web && redirect.is_ascii() {
        return Ok(());
    }
    Err(s3_error!(InvalidArgument, "success_action_redirect must be a whole http or https URL."))
}

/// Refuses fields that mean something to S3 and would be lost. Other unknown fields mean nothing to S3 either.
pub(super) fn check_field(field: &str) -> S3Result<()> {
    const KNOWN: [&str; 12] = [
        "x-amz-acl",
        "x-amz-algorithm",
        "x-amz-credential",
        "x-amz-date",
        "x-amz-expected-bucket-owner",
        "x-amz-request-payer",
        "x-amz-sdk-checksum-algorithm",
        "x-amz-signature",
        "x-amz-storage-class",
        "x-amz-tagging",
        "x-amz-website-redirect-location",
        "x-amz-write-offset-bytes",
    ];
    const FAMILIES: [&str; 5] =
        ["x-amz-checksum-", "x-amz-grant-", "x-amz-meta-", "x-amz-object-lock-", "x-amz-server-side-encryption"];
    if field == "x-amz-security-token" {
        return Err(s3_error!(InvalidToken, "The root key has no session token; remove x-amz-security-token."));
    }
    let known = KNOWN.contains(&field) || FAMILIES.iter().any(|family| field.starts_with(family));
    if !field.starts_with("x-amz-") || known {
        return Ok(());
    }
    Err(s3_error!(NotImplemented, "The field {} is not implemented; nothing was stored.", field))
}

/// The field `tagging`, an XML document, as the header `x-amz-tagging`.
pub(super) fn tag_header(document: &str) -> S3Result<String> {
    let mut reader = Deserializer::new(document.as_bytes());
    let read = Tagging::deserialize(&mut reader).and_then(|tagging| reader.expect_eof().map(|()| tagging));
    let tagging = read.map_err(|_| s3_error!(MalformedXML, "The field tagging is not a Tagging document."))?;
    tagging::as_header(tagging.tag_set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_go_to_whole_web_addresses() {
        for good in ["http://a.example", "https://a.example:8443/done?x=1"] {
            assert!(check_redirect(good).is_ok(), "{good}");
        }
        for bad in ["", "/done", "a.example/done", "javascript:alert(1)", "ftp://a.example/", "http://a.example/\u{e9}"]
        {
            assert!(check_redirect(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn fields_that_would_be_lost_are_refused() {
        for field in [
            "key",
            "name",
            "x-ignore-me",
            "x-amz-meta-a",
            "x-amz-date",
            "x-amz-checksum-sha256",
            "success_action_status",
        ] {
            assert!(check_field(field).is_ok(), "{field}");
        }
        for field in ["x-amz-security-token", "x-amz-anything-new"] {
            assert!(check_field(field).is_err(), "{field}");
        }
    }

    #[test]
    fn a_tagging_document_becomes_the_header() {
        let document = "<Tagging><TagSet><Tag><Key>a b</Key><Value>c+d=\u{fc}</Value></Tag></TagSet></Tagging>";
        let header = tag_header(document).unwrap();
        let tags = tagging::header(Some(&header)).unwrap();
        assert_eq!(tags.iter().collect::<Vec<_>>(), [("a b", "c+d=\u{fc}")]);
        for bad in ["", "<Tagging>", "<Other/>", "<Tagging><TagSet/></Tagging><Tagging/>"] {
            assert!(tag_header(bad).is_err(), "{bad}");
        }
    }
}
