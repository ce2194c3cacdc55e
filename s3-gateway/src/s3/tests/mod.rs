//! The whole edge over sockets, with metadata and storage in memory: what a client may do wrong ends
//! in the right S3 error and leaves nothing behind.

mod catalogue;
mod client;
mod complete;
mod cors;
mod door;
mod ends;
mod expect;
mod https;
mod log_bucket;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;

use super::auth::RootKeys;
use super::service;
use crate::http::server::{HttpConfig, serve};
use crate::http::target::Hosts;
use crate::tests::{Cluster, cluster};

use client::{ACCESS, Ask, SECRET};

struct Edge {
    addr: SocketAddr,
    cluster: Cluster,
    _stop: watch::Sender<bool>,
}

async fn edge() -> Edge {
    edge_with(HttpConfig::default()).await
}

/// With the bucket `box`, unless the port speaks HTTPS.
async fn edge_with(config: HttpConfig) -> Edge {
    edge_over(cluster().await, config).await
}

async fn edge_over(cluster: Cluster, config: HttpConfig) -> Edge {
    let keys = &RootKeys::new(ACCESS, SECRET).unwrap();
    let service = service::build(Arc::clone(&cluster.gw), keys, "us-east-1", Hosts::new(["s3.test"]).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(serve(listener, service, Arc::clone(&cluster.gw.rng), config.clone(), stopped));
    if config.tls.is_none() {
        assert_eq!(Ask::new("PUT", "/box").send(addr).await.status, 200);
    }
    Edge { addr, cluster, _stop: stop }
}

async fn keys(edge: &Edge) -> String {
    let listing = Ask::new("GET", "/box").query("list-type=2").send(edge.addr).await;
    assert_eq!(listing.status, 200, "{listing:?}");
    let text = String::from_utf8(listing.body).unwrap();
    text.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next()).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn a_body_goes_in_and_comes_out() {
    let edge = edge().await;
    let put =
        Ask::put("/box/k", b"hello").with("x-amz-meta-a", "b").with("content-type", "text/x").send(edge.addr).await;
    assert_eq!(put.status, 200, "{put:?}");
    assert_eq!(put.header("etag"), Some("\"5d41402abc4b2a76b9719d911017c592\""));
    assert_eq!(put.header("x-stele-object-root").map(str::len), Some(64));
    assert!(put.header("x-stele-log").is_some_and(|log| log.starts_with("0/")));
    let get = Ask::new("GET", "/box/k").send(edge.addr).await;
    assert_eq!((get.status, get.body.as_slice()), (200, b"hello".as_slice()));
    assert_eq!((get.header("x-amz-meta-a"), get.header("content-type")), (Some("b"), Some("text/x")));
    assert_eq!((get.header("content-length"), get.header("server")), (Some("5"), Some("stele")));
    let ids: Vec<_> = [&put, &get].iter().filter_map(|a| a.header("x-amz-request-id")).collect();
    assert!(ids.len() == 2 && ids[0] != ids[1], "{ids:?}");
    let part = Ask::new("HEAD", "/box/k").with("range", "bytes=1-2").send(edge.addr).await;
    assert_eq!((part.status, part.header("content-range")), (206, Some("bytes 1-2/5")));
    assert_eq!(part.header("content-length"), Some("2"));
}

/// Requests that must fail, with status and code.
fn wrong() -> Vec<(&'static str, Ask, u16, &'static str)> {
    let put = || Ask::put("/box/no", b"x");
    let long = format!("/box/{}", "k".repeat(1025));
    let complete = |body: &[u8]| Ask { body: body.to_vec(), ..Ask::new("POST", "/box/no").query("uploadId=0") };
    let delete = |body: &[u8]| Ask { body: body.to_vec(), ..Ask::new("POST", "/box").query("delete=") };
    let md5_of_x = "ndTkYSaMgDT1yFZOFVxnpg==";
    vec![
        ("wrong secret", Ask { secret: Some("root-secres"), ..put() }, 403, "SignatureDoesNotMatch"),
        ("unknown key", Ask { access: "nobody", ..put() }, 403, "InvalidAccessKeyId"),
        ("anonymous", Ask { secret: None, ..put() }, 403, "AccessDenied"),
        ("clock ahead", Ask { ahead: 1200, ..put() }, 403, "RequestTimeTooSkewed"),
        ("clock behind", Ask { ahead: -1200, ..put() }, 403, "RequestTimeTooSkewed"),
        ("session token", put().with("x-amz-security-token", "t"), 400, "InvalidToken"),
        ("other owner", put().with("x-amz-expected-bucket-owner", "other"), 403, "AccessDenied"),
        ("unsigned copy source", put().late("x-amz-copy-source", "/box/k"), 403, "AccessDenied"),
        ("unsigned metadata", put().late("x-amz-meta-a", "b"), 403, "AccessDenied"),
        ("another body", Ask { payload: Some(ZERO_SHA256), ..put() }, 400, "XAmzContentSHA256Mismatch"),
        ("short body", Ask { length: Some(Some(100)), payload: Some("UNSIGNED-PAYLOAD"), ..put() }, 0, ""),
        ("no length", Ask { length: Some(None), ..put() }, 411, "MissingContentLength"),
        ("over 5 GiB", Ask { length: Some(Some(6 << 30)), ..put() }, 400, "EntityTooLarge"),
        ("wrong MD5", put().with("content-md5", "XUFAKrxLKna5cZ2REBfFkg=="), 400, "BadDigest"),
        ("no MD5", put().with("content-md5", "nonsense"), 400, "InvalidDigest"),
        ("wrong CRC", put().with("x-amz-checksum-crc32c", "AAAAAA=="), 400, "BadDigest"),
        ("short CRC", put().with("x-amz-checksum-crc32c", "AAAA"), 400, "InvalidRequest"),
        ("promised checksum", put().with("x-amz-sdk-checksum-algorithm", "SHA256"), 400, "InvalidRequest"),
        ("framing", put().with("content-encoding", "aws-chunked"), 400, "InvalidRequest"),
        ("encryption", put().with("x-amz-server-side-encryption", "AES256"), 501, "NotImplemented"),
        ("tags twice", put().with("x-amz-tagging", "a=b&a=c"), 400, "InvalidTag"),
        ("tags that are no query", put().with("x-amz-tagging", "a=%4"), 400, "InvalidArgument"),
        ("public", put().with("x-amz-acl", "public-read"), 400, "AccessControlListNotSupported"),
        ("storage class", put().with("x-amz-storage-class", "GLACIER"), 400, "InvalidStorageClass"),
        ("metadata", put().with("x-amz-meta-a", "v".repeat(2048)), 400, "MetadataTooLarge"),
        ("etag on creation", put().with("if-none-match", "\"e\""), 501, "NotImplemented"),
        ("if-match on nothing", put().with("if-match", "\"e\""), 404, "NoSuchKey"),
        ("long key", Ask { path: long, ..put() }, 400, "KeyTooLongError"),
        ("bucket name", Ask { path: "/UPPER".into(), ..Ask::new("PUT", "") }, 400, "InvalidBucketName"),
        ("no bucket", Ask::put("/missing-bucket/k", b"x"), 404, "NoSuchBucket"),
        ("no key", Ask::new("GET", "/box/absent"), 404, "NoSuchKey"),
        ("range", Ask::new("GET", "/box/kept").with("range", "bytes=9-"), 416, "InvalidRange"),
        ("foreign sub-resource", Ask::new("DELETE", "/box/kept").query("acl="), 501, "NotImplemented"),
        ("preflight", Ask { secret: None, ..Ask::new("OPTIONS", "/box/kept") }, 400, "BadRequest"),
        ("no upload", complete(b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>e</ETag></Part></CompleteMultipartUpload>"), 404, "NoSuchUpload"),
        ("malformed XML", complete(b"<CompleteMultipartUpload><Part>"), 400, "MalformedXML"),
        ("bulk deletion without digest", delete(b"<Delete><Object><Key>kept</Key></Object></Delete>"), 400, "InvalidRequest"),
        ("bulk deletion of other bytes", delete(b"<Delete/>").with("content-md5", md5_of_x), 400, "BadDigest"),
        ("bulk deletion of nothing", delete(b"x").with("content-md5", md5_of_x), 400, "MalformedXML"),
    ]
}

const ZERO_SHA256: &str = "0000000000000000000000000000000000000000000000000000000000000000";

#[tokio::test]
async fn wrong_requests_get_the_right_error_and_change_nothing() {
    let edge = edge().await;
    assert_eq!(Ask::put("/box/kept", b"kept").send(edge.addr).await.status, 200);
    for (name, ask, status, code) in wrong() {
        let answer = ask.send(edge.addr).await;
        if status == 0 {
            assert_ne!(answer.status, 200, "{name}: {answer:?}");
            continue;
        }
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{name}: {answer:?}");
        let id = answer.header("x-amz-request-id").unwrap_or_default().to_uppercase();
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(!id.is_empty() && body.contains(&format!("<RequestId>{id}</RequestId>")), "{name}: {answer:?}");
    }
    assert_eq!(keys(&edge).await, "kept");
}

#[tokio::test]
async fn garbage_ends_in_an_error_and_the_next_request_is_served() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let edge = edge().await;
    let garbage: [&[u8]; 5] = [
        b"GARBAGE\r\n\r\n",
        &[0; 64],
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff",
    ];
    for bytes in garbage {
        let mut stream = tokio::net::TcpStream::connect(edge.addr).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok();
        assert!(!answer.starts_with(b"HTTP/1.1 2") && !answer.starts_with(b"HTTP/1.1 5"), "{bytes:?}");
    }
    assert_eq!(keys(&edge).await, "");
}

#[tokio::test]
async fn a_bucket_in_the_host_is_guarded_as_one_in_the_path() {
    let edge = edge().await;
    let ask = |ask: Ask| async move {
        let stream = tokio::net::TcpStream::connect(edge.addr).await.unwrap();
        ask.send_over(stream, "box.s3.test:9000").await
    };
    assert_eq!(ask(Ask::put("/k", b"hello")).await.status, 200);
    assert_eq!(ask(Ask::new("GET", "/k")).await.body, b"hello");
    assert_eq!(Ask::new("GET", "/box/k").send(edge.addr).await.body, b"hello");
    // Beside the bucket, its keys: what is a bucket's sub-resource must not reach an object's plain operation.
    for (name, wrong, status, code) in [
        ("an object's policy", Ask::put("/k", b"x").query("policy="), 501, "NotImplemented"),
        ("with an escaped slash", Ask::put("/k%2Fl", b"x").query("policy="), 501, "NotImplemented"),
        ("an object's acl", Ask::new("DELETE", "/k").query("acl="), 501, "NotImplemented"),
        ("without length", Ask { length: Some(None), ..Ask::put("/k", b"x") }, 411, "MissingContentLength"),
        (
            "a document unlike its digest",
            Ask { body: b"<Delete/>".to_vec(), ..Ask::new("POST", "/").query("delete=") }
                .with("content-md5", "ndTkYSaMgDT1yFZOFVxnpg=="),
            400,
            "BadDigest",
        ),
    ] {
        let answer = ask(wrong).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{name}: {answer:?}");
    }
    let stream = tokio::net::TcpStream::connect(edge.addr).await.unwrap();
    assert_eq!(Ask::new("PUT", "/").send_over(stream, "made.s3.test").await.status, 200);
    assert_eq!(Ask::new("HEAD", "/made").send(edge.addr).await.status, 200);
    // Foreign hosts are no buckets.
    let stream = tokio::net::TcpStream::connect(edge.addr).await.unwrap();
    assert_eq!(Ask::new("GET", "/box/k").send_over(stream, "gateway").await.body, b"hello");
    assert_eq!(keys(&edge).await, "k");
}
