//! PutBucketCors, GetBucketCors, DeleteBucketCors. What the rules do to requests is `http/cors.rs`.

use http::StatusCode;
use s3s::dto::{
    CORSRule, DeleteBucketCorsInput, DeleteBucketCorsOutput, GetBucketCorsInput, GetBucketCorsOutput,
    PutBucketCorsInput, PutBucketCorsOutput,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};
use stele_rpc::meta::BucketChange;
use stele_types::object::{Cors, CorsMethod, CorsRule};

use super::{S3Edge, fail, origin};

fn rule_of(rule: CORSRule) -> S3Result<CorsRule> {
    let method = |name: String| {
        CorsMethod::parse(&name).ok_or_else(|| {
            let known = "GET, PUT, POST, DELETE and HEAD";
            s3_error!(InvalidRequest, "Found unsupported HTTP method in CORS config: {name:?}; methods are {known}.")
        })
    };
    let max_age = match rule.max_age_seconds {
        None => None,
        Some(seconds) => {
            Some(u32::try_from(seconds).map_err(|_| s3_error!(InvalidRequest, "MaxAgeSeconds must not be negative."))?)
        }
    };
    Ok(CorsRule {
        id: rule.id,
        origins: rule.allowed_origins,
        methods: rule.allowed_methods.into_iter().map(method).collect::<S3Result<_>>()?,
        headers: rule.allowed_headers.unwrap_or_default(),
        expose: rule.expose_headers.unwrap_or_default(),
        max_age,
    })
}

fn shown(rule: &CorsRule) -> CORSRule {
    let some = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
    CORSRule {
        allowed_headers: some(&rule.headers),
        allowed_methods: rule.methods.iter().map(|method| method.name().to_owned()).collect(),
        allowed_origins: rule.origins.clone(),
        expose_headers: some(&rule.expose),
        id: rule.id.clone(),
        max_age_seconds: rule.max_age.map(|seconds| i32::try_from(seconds).unwrap_or(i32::MAX)),
    }
}

async fn set<T>(edge: &S3Edge, req: &S3Request<T>, bucket: &str, cors: Cors) -> S3Result<()> {
    let change = BucketChange::Cors(cors);
    let changed = crate::bucket::configure_bucket(&edge.gateway, bucket, change, origin(edge, req)).await;
    changed.map(|_| ()).map_err(|e| fail(req, e))
}

pub(super) async fn put(
    edge: &S3Edge,
    mut req: S3Request<PutBucketCorsInput>,
) -> S3Result<S3Response<PutBucketCorsOutput>> {
    let rules = std::mem::take(&mut req.input.cors_configuration.cors_rules);
    let rules = rules.into_iter().map(rule_of).collect::<S3Result<_>>()?;
    let cors = Cors::new(rules).map_err(|e| s3_error!(InvalidRequest, "{}", e))?;
    set(edge, &req, &req.input.bucket, cors).await?;
    Ok(S3Response::new(PutBucketCorsOutput::default()))
}

pub(super) async fn get(
    edge: &S3Edge,
    req: S3Request<GetBucketCorsInput>,
) -> S3Result<S3Response<GetBucketCorsOutput>> {
    let row = crate::bucket::head_bucket(&edge.gateway, &req.input.bucket).await.map_err(|e| fail(&req, e))?;
    if row.cors.is_empty() {
        return Err(s3_error!(NoSuchCORSConfiguration, "The CORS configuration does not exist."));
    }
    let rules = row.cors.rules().iter().map(shown).collect();
    Ok(S3Response::new(GetBucketCorsOutput { cors_rules: Some(rules) }))
}

pub(super) async fn delete(
    edge: &S3Edge,
    req: S3Request<DeleteBucketCorsInput>,
) -> S3Result<S3Response<DeleteBucketCorsOutput>> {
    set(edge, &req, &req.input.bucket, Cors::default()).await?;
    let mut response = S3Response::new(DeleteBucketCorsOutput::default());
    response.status = Some(StatusCode::NO_CONTENT);
    Ok(response)
}
