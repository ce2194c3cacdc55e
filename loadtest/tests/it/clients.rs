//! The public functions of `object_store::integration` that object_store's own tests of its AWS
//! client call, with the same client against this store.

use object_store::aws::{AmazonS3Builder, Checksum, S3ConditionalPut};
use object_store::integration;
use object_store::path::Path;
use object_store::{Certificate, ClientOptions, ObjectStoreExt as _, PutPayload};

use crate::server::{ACCESS_KEY, SECRET_KEY, Server, report};

const BUCKET: &str = "suite";
const MISSING: &str = "this-does-not-exist";

pub(crate) fn builder(server: &Server) -> AmazonS3Builder {
    let mut options = ClientOptions::new().with_allow_http(server.ca.is_none());
    if let Some(ca) = &server.ca {
        options = options.with_root_certificate(Certificate::from_pem(&std::fs::read(ca).unwrap()).unwrap());
    }
    AmazonS3Builder::new()
        .with_endpoint(&server.s3)
        .with_client_options(options)
        .with_region("us-east-1")
        .with_bucket_name(BUCKET)
        .with_access_key_id(ACCESS_KEY)
        .with_secret_access_key(SECRET_KEY)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
}

/// object_store has no call that makes a bucket; a run without operations makes its own.
pub(crate) fn make_bucket(server: &Server, dir: &std::path::Path) {
    let mut command = server.loadtest("run", &dir.join("ledger"));
    report(command.args(["--bucket", BUCKET, "--ops", "0"]).output());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn object_store_suite() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data);
    make_bucket(&server, dir.path());
    suite(&server).await;
    assert!(server.terminate().success());
    suite(&Server::start_https(&data)).await;
}

async fn suite(server: &Server) {
    let store = builder(server).build().unwrap();
    integration::put_get_delete_list(&store).await;
    integration::list_with_offset_exclusivity(&store).await;
    integration::get_opts(&store).await;
    integration::list_uses_directories_correctly(&store).await;
    integration::list_with_delimiter(&store).await;
    integration::rename_and_copy(&store).await;
    integration::stream_get(&store).await;
    integration::multipart(&store, &store).await;
    integration::multipart_with_opts(&store, &store).await;
    integration::multipart_put_part_out_of_order(&store, &store).await;
    integration::multipart_race_condition(&store, true).await;
    integration::multipart_out_of_order(&store).await;
    integration::put_get_attributes(&store).await;
    integration::list_paginated(&store, &store).await;
    integration::put_opts(&store, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payloads_unsigned_and_with_each_checksum() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    make_bucket(&server, dir.path());
    let unsigned = builder(&server).with_unsigned_payload(true);
    let sha256 = builder(&server).with_checksum_algorithm(Checksum::SHA256);
    let crc64 = builder(&server).with_checksum_algorithm(Checksum::CRC64NVME);
    for variant in [unsigned, sha256, crc64] {
        integration::put_get_delete_list(&variant.build().unwrap()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_buckets_and_keys_are_not_found() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let store = builder(&server).build().unwrap();
    make_bucket(&server, dir.path());
    let missing = Path::from_iter([MISSING]);
    let not_found =
        |error: object_store::Error| assert!(matches!(error, object_store::Error::NotFound { .. }), "{error}");
    not_found(integration::get_nonexistent_object(&store, Some(missing.clone())).await.unwrap_err());
    store.delete(&missing).await.unwrap();
    let elsewhere = builder(&server).with_bucket_name(MISSING).build().unwrap();
    not_found(elsewhere.get(&missing).await.unwrap_err());
    not_found(elsewhere.put(&missing, PutPayload::from("arbitrary data")).await.unwrap_err());
    not_found(elsewhere.delete(&missing).await.unwrap_err());
}
