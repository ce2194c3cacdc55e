//! Keys and authorisation. There is one root key pair; users and policies come later, and their
//! place is [`authorise`].

use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3Result, s3_error};

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
#[derive(Clone, Copy, Debug)]
pub struct RootAccess;

#[async_trait::async_trait]
impl S3Access for RootAccess {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let token = cx.headers().contains_key("x-amz-security-token")
            || cx.uri().query().is_some_and(|q| q.to_ascii_lowercase().contains("x-amz-security-token="));
        authorise(cx.credentials().is_some(), token)
    }
}

/// The one place that allows or denies. The root key may do everything; nobody else exists.
fn authorise(signed: bool, session_token: bool) -> S3Result<()> {
    if !signed {
        return Err(s3_error!(AccessDenied, "Anonymous requests are not allowed; sign the request."));
    }
    if session_token {
        // Permanent keys have no session: a token means that the client is confused about its keys.
        return Err(s3_error!(InvalidToken, "The root key has no session token; remove x-amz-security-token."));
    }
    Ok(())
}
