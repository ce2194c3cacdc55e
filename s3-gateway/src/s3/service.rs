//! s3s with our limits. Both authentication and access are always set: without them s3s would serve
//! anonymous requests.

use std::sync::Arc;

use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use stele_types::limits::PUT_BODY_BYTES_MAX;

use super::S3Edge;
use super::auth::{RootAccess, RootKeys};
use super::evidence::EvidenceRoute;
use crate::gateway::Gateway;
use crate::http::document::DOCUMENT_BYTES_MAX;
use crate::http::target::Hosts;

/// What the HTTP server serves: s3s, and what it needs itself before s3s.
#[derive(Clone)]
pub struct Endpoint {
    pub(crate) service: S3Service,
    /// For forms. It knows no other signature, as it takes older ones.
    pub(crate) forms: S3Service,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) hosts: Arc<Hosts>,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

/// Builds the S3 service over a running gateway.
pub fn build(gateway: Arc<Gateway>, keys: &RootKeys, region: &str, hosts: Hosts) -> Endpoint {
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
    config.post_object_max_file_size = PUT_BODY_BYTES_MAX;
    config.allow_post_signature = false;
    let mut forms = config.clone();
    forms.allow_post_signature = true;
    forms.allow_presigned_url = false;
    // A form is signed when its page is made and sent when somebody is done with it: the policy says until when.
    // A signing key holds for seven days.
    forms.presigned_url_max_skew_time_secs = 7 * 24 * 3600;
    let edge = S3Edge { gateway: Arc::clone(&gateway), region: Arc::from(region) };
    let hosts = Arc::new(hosts);
    let service = |config: S3Config| {
        let mut builder = S3ServiceBuilder::new(edge.clone());
        builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
        builder.set_auth(keys.clone());
        builder.set_access(RootAccess { gateway: Arc::clone(&gateway) });
        // Without domains s3s knows no virtual hosts, and says so to clients that try.
        if !hosts.is_empty() {
            builder.set_host(Hosts::clone(&hosts));
        }
        builder.set_route(EvidenceRoute { edge: edge.clone(), hosts: Arc::clone(&hosts) });
        builder.build()
    };
    let (service, forms) = (service(config), service(forms));
    Endpoint { service, forms, gateway, hosts }
}
