//! s3s with our limits. Both authentication and access are always set: without them s3s would serve
//! anonymous requests.

use std::sync::Arc;

use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};

use super::S3Edge;
use super::auth::{RootAccess, RootKeys};
use crate::gateway::Gateway;
use crate::http::document::DOCUMENT_BYTES_MAX;
use crate::http::target::Hosts;

/// What the HTTP server serves: s3s, and what it needs itself before s3s.
#[derive(Clone)]
pub struct Endpoint {
    pub(crate) service: S3Service,
    pub(crate) hosts: Arc<Hosts>,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

/// Builds the S3 service over a running gateway.
pub fn build(gateway: Arc<Gateway>, keys: RootKeys, region: &str, hosts: Hosts) -> Endpoint {
    let mut config = S3Config::default();
    config.xml_max_body_size = DOCUMENT_BYTES_MAX;
    // The flows bound bodies themselves (PUT_BODY_BYTES_MAX) and answer EntityTooLarge.
    config.put_object_max_size = None;
    config.form_max_field_size = 64 * 1024;
    config.form_max_fields_size = 64 * 1024;
    config.form_max_parts = 100;
    // A signed chunk is buffered whole before its signature can be checked.
    config.aws_chunked_stream_max_chunk_size = 16 * 1024 * 1024;
    config.normalize_forward_slash_path = false;
    config.enable_sig_v2 = false;
    let mut builder = S3ServiceBuilder::new(S3Edge { gateway, region: Arc::from(region) });
    builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
    builder.set_auth(keys);
    builder.set_access(RootAccess);
    // Without domains s3s knows no virtual hosts, and says so to clients that try.
    if !hosts.is_empty() {
        builder.set_host(hosts.clone());
    }
    Endpoint { service: builder.build(), hosts: Arc::new(hosts) }
}
