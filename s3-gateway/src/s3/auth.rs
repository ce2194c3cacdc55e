//! Keys and authorisation. There is one root key pair; users and policies come later, and their
//! place is [`authorise`].

use std::sync::Arc;

use http::{Extensions, HeaderMap, HeaderValue, Uri};
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::dto::PostObjectInput;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result, s3_error};

use super::{log_bucket, post};
use crate::gateway::Gateway;
use crate::http::audit::watch::Note;
use crate::http::door::Allowance;

/// The root key pair.
#[derive(Clone)]
pub struct RootKeys {
    access_key: String,
    secret_key: SecretKey,
}

impl std::fmt::Debug for RootKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RootKeys").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

/// A key that can't be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadRootKeys {
    /// Access key of a wrong shape.
    #[error("the root access key must be 3 to 128 letters, digits, '-' or '_'")]
    AccessKey,
    /// Secret key too short.
    #[error("the root secret key must have at least 8 characters")]
    SecretKey,
}

impl RootKeys {
    /// Checks the shape of both keys.
    ///
    /// # Errors
    /// [`BadRootKeys`] says which key is wrong and what would be right.
    pub fn new(access_key: &str, secret_key: &str) -> Result<Self, BadRootKeys> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if !(3..=128).contains(&access_key.len()) || !access_key.bytes().all(plain) {
            return Err(BadRootKeys::AccessKey);
        }
        if secret_key.len() < 8 {
            return Err(BadRootKeys::SecretKey);
        }
        Ok(Self { access_key: access_key.to_owned(), secret_key: SecretKey::from(secret_key.to_owned()) })
    }
}

#[async_trait::async_trait]
impl S3Auth for RootKeys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if access_key == self.access_key {
            Ok(self.secret_key.clone())
        } else {
            Err(s3_error!(InvalidAccessKeyId, "The access key does not exist in this store."))
        }
    }
}

/// Applies [`authorise`] to every request, before its input is read.
#[derive(Clone, Debug)]
pub(super) struct RootAccess {
    pub(super) gateway: Arc<Gateway>,
}

#[async_trait::async_trait]
impl S3Access for RootAccess {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        if let Some(note) = cx.extensions_mut().get::<Note>().cloned() {
            note.operation(cx);
        }
        let signer = cx.credentials().map(|c| c.access_key.clone());
        admit(signer.as_deref(), cx.headers(), cx.uri())?;
        count(signer, cx.extensions_mut())?;
        log_bucket::admit(&self.gateway, cx.s3_op().name(), cx.s3_path()).await
    }

    async fn post_object(&self, req: &mut S3Request<PostObjectInput>) -> S3Result<()> {
        post::check(req)
    }
}

/// Whether a request may be carried out that its verified signature says is of `signer`.
pub(super) fn admit(signer: Option<&str>, headers: &HeaderMap, uri: &Uri) -> S3Result<()> {
    let token = headers.contains_key("x-amz-security-token")
        || uri.query().is_some_and(|q| q.to_ascii_lowercase().contains("x-amz-security-token="));
    authorise(signer, token, headers.get("x-amz-expected-bucket-owner"))
}

/// Takes one request of the signer's allowance.
pub(super) fn count(signer: Option<String>, extensions: &Extensions) -> S3Result<()> {
    let signer = signer.unwrap_or_default();
    match extensions.get::<Allowance>() {
        Some(allowance) => allowance.take(&signer).map_err(|seconds| slow_down(&signer, seconds)),
        None => Ok(()),
    }
}

fn slow_down(access_key: &str, seconds: u64) -> S3Error {
    let message = format!("The access key {access_key} makes too many requests. Please reduce your request rate.");
    let mut error = S3Error::with_message(S3ErrorCode::SlowDown, message);
    let mut headers = HeaderMap::new();
    headers.insert(http::header::RETRY_AFTER, HeaderValue::from(seconds));
    error.set_headers(headers);
    error
}

/// The one place that allows or denies. The root key may do everything; nobody else exists.
fn authorise(signer: Option<&str>, session_token: bool, expected_owner: Option<&HeaderValue>) -> S3Result<()> {
    let Some(signer) = signer else {
        return Err(s3_error!(AccessDenied, "Anonymous requests are not allowed; sign the request."));
    };
    if session_token {
        // Permanent keys have no session: a token means that the client is confused about its keys.
        return Err(s3_error!(InvalidToken, "The root key has no session token; remove x-amz-security-token."));
    }
    check_owner(signer, expected_owner.map(HeaderValue::as_bytes))
}

/// Every bucket belongs to the root key.
pub(super) fn check_owner(signer: &str, expected: Option<&[u8]>) -> S3Result<()> {
    if expected.is_some_and(|owner| owner != signer.as_bytes()) {
        return Err(s3_error!(AccessDenied, "The bucket's owner is not the expected one."));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_root_key_without_token_and_with_the_right_owner_passes() {
        let owner = |name: &'static str| HeaderValue::from_static(name);
        assert!(authorise(Some("root"), false, None).is_ok());
        assert!(authorise(Some("root"), false, Some(&owner("root"))).is_ok());
        assert!(authorise(Some("root"), false, Some(&owner("other"))).is_err());
        assert!(authorise(Some("root"), true, None).is_err());
        assert!(authorise(None, false, None).is_err());
    }

    #[test]
    fn weak_keys_are_refused_and_debug_hides_the_secret() {
        assert_eq!(RootKeys::new("a", "long enough").err(), Some(BadRootKeys::AccessKey));
        assert_eq!(RootKeys::new("root/key", "long enough").err(), Some(BadRootKeys::AccessKey));
        assert_eq!(RootKeys::new("root", "short").err(), Some(BadRootKeys::SecretKey));
        let keys = RootKeys::new("root", "very-secret-key").unwrap();
        assert!(!format!("{keys:?}").contains("very-secret"));
    }
}
