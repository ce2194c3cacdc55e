//! Requests of other origins: preflights are answered here, without signature, and every answer to a
//! request with an `Origin` says what the bucket's rules allow, errors too. A browser decides with it.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use s3s::path::check_bucket_name;
use stele_types::object::{Cors, CorsMethod, Granted};

use super::guard::Refusal;
use crate::error::GatewayError;
use crate::gateway::Gateway;

/// What the answer depends on, for caches between us and the browser.
pub(super) const fn depends() -> HeaderValue {
    HeaderValue::from_static("Origin, Access-Control-Request-Headers, Access-Control-Request-Method")
}

/// A request of another origin.
#[derive(Clone, Debug)]
pub(super) struct CrossOrigin {
    origin: HeaderValue,
    method: Option<CorsMethod>,
    bucket: Option<String>,
}

impl CrossOrigin {
    /// `None` for requests without `Origin`.
    pub(super) fn of(method: &Method, headers: &HeaderMap, bucket: impl FnOnce() -> Option<String>) -> Option<Self> {
        let origin = headers.get(ORIGIN)?.clone();
        Some(Self { origin, method: CorsMethod::parse(method.as_str()), bucket: bucket() })
    }

    /// Says on the answer what the bucket's rules allow the request's origin.
    pub(super) async fn decorate(self, gateway: &Gateway, headers: &mut HeaderMap) {
        headers.append(VARY, depends());
        let bucket = self.bucket.as_ref().filter(|name| check_bucket_name(name));
        let (Some(bucket), Some(method)) = (bucket, self.method) else { return };
        let Ok(row) = crate::bucket::lately(gateway, bucket).await else { return };
        if let Some(granted) = grant(&row.cors, &self.origin, method, "") {
            allow(headers, granted, &self.origin);
        }
    }
}

fn grant<'a>(cors: &'a Cors, origin: &HeaderValue, method: CorsMethod, asked: &str) -> Option<Granted<'a>> {
    let names = asked.split(',').map(str::trim).filter(|name| !name.is_empty());
    cors.grant(origin.to_str().ok()?, method, names)
}

/// Answers a preflight: the headers of the answer, whose body is empty.
///
/// # Errors
/// 400 for what is no preflight, 403 for what no rule allows; an unknown bucket is told like one without
/// rules. 503 if nobody could say.
pub(super) async fn preflight(
    gateway: &Gateway,
    request: &HeaderMap,
    bucket: Option<String>,
) -> Result<HeaderMap, Refusal> {
    let refuse = |status, code, message: &str| Refusal { status, code, message: message.to_owned() };
    let origin = request.get(ORIGIN);
    let origin = origin.ok_or_else(|| refuse(400, "BadRequest", "A preflight needs the Origin header."))?;
    let method = request.get(ACCESS_CONTROL_REQUEST_METHOD).and_then(|m| CorsMethod::parse(m.to_str().ok()?));
    let method = method.ok_or_else(|| {
        refuse(400, "BadRequest", "Access-Control-Request-Method must be one of GET, PUT, POST, DELETE and HEAD.")
    })?;
    let disabled = || refuse(403, "AccessForbidden", "CORSResponse: CORS is not enabled for this bucket.");
    let bucket = bucket.filter(|name| check_bucket_name(name)).ok_or_else(disabled)?;
    let row = crate::bucket::lately(gateway, &bucket).await.map_err(|error| match error {
        GatewayError::NoSuchBucket { .. } => disabled(),
        _ => refuse(503, "SlowDown", "The bucket's CORS rules can't be read now; try again."),
    })?;
    if row.cors.is_empty() {
        return Err(disabled());
    }
    let asked = request.get(ACCESS_CONTROL_REQUEST_HEADERS);
    let names = asked.map_or(Some(""), |asked| asked.to_str().ok());
    let granted = names.and_then(|names| grant(&row.cors, origin, method, names)).ok_or_else(|| {
        let message = "CORSResponse: No CORS rule of the bucket allows this origin, method and these headers.";
        refuse(403, "AccessForbidden", message)
    })?;
    let mut headers = HeaderMap::new();
    allow(&mut headers, granted, origin);
    if let Some(asked) = asked {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    Ok(headers)
}

fn allow(headers: &mut HeaderMap, granted: Granted<'_>, origin: &HeaderValue) {
    let rule = granted.rule;
    if granted.any_origin {
        // Whoever lets all origins in means the public: no origin may act with somebody's credentials.
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    } else {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    let mut list = |name: HeaderName, texts: Vec<&str>| {
        // The rules were checked when they were set, so this fits into a header.
        if let Ok(value) = HeaderValue::from_str(&texts.join(", ")) {
            headers.insert(name, value);
        }
    };
    list(ACCESS_CONTROL_ALLOW_METHODS, rule.methods.iter().map(|method| method.name()).collect());
    if !rule.expose.is_empty() {
        list(ACCESS_CONTROL_EXPOSE_HEADERS, rule.expose.iter().map(String::as_str).collect());
    }
    if let Some(seconds) = rule.max_age {
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(seconds));
    }
}
