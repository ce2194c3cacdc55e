//! The bucket with archives of the evidence log: everybody who signs reads it, nobody changes it.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use stele_rpc::meta::{LOG_BUCKET, Origin};
use tokio::net::TcpStream;

use super::catalogue::{OPERATIONS, answered};
use super::client::{ACCESS, Answer, Ask, SECRET, hmac, stamp};
use super::{edge_over, edge_with};
use crate::bucket::create_bucket;
use crate::http::server::HttpConfig;
use crate::log_archive::pages::{Found, LogSource, find};
use crate::tests::archives::archived;
use crate::tests::cluster;

/// Operations that write: method, what stands behind the bucket, query, and a header.
type Write = (&'static str, &'static str, &'static str, &'static str, Option<(&'static str, &'static str)>);

const WRITES: &[Write] = &[
    ("AbortMultipartUpload", "DELETE", "/k", "uploadId=x", None),
    ("CompleteMultipartUpload", "POST", "/k", "uploadId=x", None),
    ("CopyObject", "PUT", "/k", "", Some(("x-amz-copy-source", "/box/there"))),
    ("CreateBucket", "PUT", "", "", None),
    ("CreateMultipartUpload", "POST", "/k", "uploads=", None),
    ("DeleteBucket", "DELETE", "", "", None),
    ("DeleteBucketCors", "DELETE", "", "cors=", None),
    ("DeleteBucketTagging", "DELETE", "", "tagging=", None),
    ("DeleteObject", "DELETE", "/k", "", None),
    ("DeleteObjectTagging", "DELETE", "/k", "tagging=", None),
    ("DeleteObjects", "POST", "", "delete=", None),
    ("PutBucketCors", "PUT", "", "cors=", None),
    ("PutBucketTagging", "PUT", "", "tagging=", None),
    ("PutBucketVersioning", "PUT", "", "versioning=", None),
    ("PutObject", "PUT", "/k", "", None),
    ("PutObjectLegalHold", "PUT", "/k", "legal-hold=", None),
    ("PutObjectLockConfiguration", "PUT", "", "object-lock=", None),
    ("PutObjectRetention", "PUT", "/k", "retention=", None),
    ("PutObjectTagging", "PUT", "/k", "tagging=", None),
    ("RenameObject", "PUT", "/k", "renameObject=", Some(("x-amz-rename-source", "/k2"))),
    ("UploadPart", "PUT", "/k", "partNumber=1&uploadId=x", None),
    ("UploadPartCopy", "PUT", "/k", "partNumber=1&uploadId=x", Some(("x-amz-copy-source", "/box/there"))),
];

fn is_refused(answer: &Answer) -> bool {
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    answer.status == 403 && answer.code() == "AccessDenied" && text.contains("bucket stele-log belongs to the store")
}

async fn send(write: &Write, bucket: &str, to: SocketAddr) -> Answer {
    let (_, method, rest, query, header) = *write;
    // Documents need a digest before anybody looks at them; this one is of nothing.
    let mut ask =
        Ask::new(method, &format!("/{bucket}{rest}")).query(query).with("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==");
    if let Some((name, value)) = header {
        ask = ask.with(name, value);
    }
    ask.send(to).await
}

/// A browser's upload, signed by the root key.
fn form(bucket: &str) -> Ask {
    let (stamp, day) = (stamp(0), stamp(0)[..8].to_owned());
    let credential = format!("{ACCESS}/{day}/us-east-1/s3/aws4_request");
    let conditions = format!(
        r#"[{{"bucket":"{bucket}"}},{{"key":"k"}},{{"x-amz-credential":"{credential}"}},{{"x-amz-date":"{stamp}"}},{{"x-amz-algorithm":"AWS4-HMAC-SHA256"}}]"#
    );
    let policy = format!(r#"{{"expiration":"2999-01-01T00:00:00.000Z","conditions":{conditions}}}"#);
    let policy = base64::engine::general_purpose::STANDARD.encode(policy);
    let key = [day.as_str(), "us-east-1", "s3", "aws4_request"]
        .iter()
        .fold(format!("AWS4{SECRET}").into_bytes(), |key, part| hmac(&key, part.as_bytes()));
    let signature = hex::encode(hmac(&key, policy.as_bytes()));
    let fields = [
        ("key", "k"),
        ("policy", policy.as_str()),
        ("x-amz-algorithm", "AWS4-HMAC-SHA256"),
        ("x-amz-credential", credential.as_str()),
        ("x-amz-date", stamp.as_str()),
        ("x-amz-signature", signature.as_str()),
    ];
    let part = |(name, value): &(&str, &str)| {
        format!("--edge\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let head: String = fields.iter().map(part).collect();
    let body = format!(
        "{head}--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\nhello\r\n--edge--\r\n"
    );
    let ask = Ask { secret: None, body: body.into_bytes(), ..Ask::new("POST", &format!("/{bucket}")) };
    ask.late("content-type", "multipart/form-data; boundary=edge")
}

#[tokio::test]
async fn no_operation_changes_the_bucket_of_the_log() {
    let edge = edge_over(archived().await, HttpConfig::default()).await;
    assert_eq!(Ask::put("/box/there", b"x").send(edge.addr).await.status, 200);
    let listed = |bucket: &str| Ask::new("GET", &format!("/{bucket}")).query("list-type=2");
    let before = listed(LOG_BUCKET).send(edge.addr).await;
    let mut left: Vec<&str> = WRITES.iter().map(|write| write.0).chain(["PostObject"]).collect();
    for (name, support) in OPERATIONS {
        let reads = ["Get", "Head", "List"].iter().any(|verb| name.starts_with(verb));
        if reads || !answered(*support) {
            continue;
        }
        let at = left.iter().position(|known| known == name);
        left.remove(at.unwrap_or_else(|| panic!("{name} writes: say above how it is asked for")));
        let Some(write) = WRITES.iter().find(|write| write.0 == *name) else { continue };
        let answer = send(write, LOG_BUCKET, edge.addr).await;
        assert!(is_refused(&answer), "{name}: {answer:?}");
        // Deleting it would end the comparison.
        if *name != "DeleteBucket" {
            assert!(!is_refused(&send(write, "box", edge.addr).await), "{name} of a client's bucket");
        }
    }
    assert_eq!(left, [""; 0], "these are no operations");
    let answer = form(LOG_BUCKET).send(edge.addr).await;
    assert!(is_refused(&answer), "PostObject: {answer:?}");
    let answer = form("box").send(edge.addr).await;
    assert_eq!(answer.status, 204, "PostObject of a client's bucket: {answer:?}");
    let by_host = TcpStream::connect(edge.addr).await.unwrap();
    let answer = Ask::put("/k", b"x").send_over(by_host, "stele-log.s3.test").await;
    assert!(is_refused(&answer), "by the host's name: {answer:?}");
    assert_eq!(listed(LOG_BUCKET).send(edge.addr).await.body, before.body);
}

#[tokio::test]
async fn the_bucket_of_the_log_is_the_stores_before_it_is_there() {
    let edge = edge_with(HttpConfig::default()).await;
    assert!(is_refused(&Ask::new("PUT", "/stele-log").send(edge.addr).await));
    assert_eq!(Ask::new("HEAD", "/stele-log").send(edge.addr).await.status, 404);
    assert_eq!(Ask::new("GET", "/stele-log/checkpoint").send(edge.addr).await.code(), "NoSuchKey");
}

#[tokio::test]
async fn a_bucket_that_a_client_had_before_stays_the_clients() {
    let cluster = cluster().await;
    let client = Origin { principal: ACCESS.to_owned(), ..Origin::default() };
    create_bucket(&cluster.gw, LOG_BUCKET, false, client).await.unwrap();
    let edge = edge_over(cluster, HttpConfig::default()).await;
    assert_eq!(Ask::put("/stele-log/checkpoint", b"mine").send(edge.addr).await.status, 200);
    assert_eq!(Ask::new("GET", "/stele-log/checkpoint").send(edge.addr).await.body, b"mine");
    assert_eq!(Ask::new("DELETE", "/stele-log/checkpoint").send(edge.addr).await.status, 204);
    assert_eq!(Ask::new("DELETE", "/stele-log").send(edge.addr).await.status, 204);
    assert!(is_refused(&Ask::new("PUT", "/stele-log").send(edge.addr).await), "and then it is the store's");
}

#[tokio::test]
async fn archives_and_pages_of_the_log_are_read_like_objects() {
    let edge = edge_over(archived().await, HttpConfig::default()).await;
    let get = |key: &str| Ask::new("GET", &format!("/stele-log/{key}"));
    let listing = Ask::new("GET", "/stele-log").query("list-type=2").send(edge.addr).await;
    let listing = String::from_utf8(listing.body).unwrap();
    let keys: Vec<&str> = listing.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next()).collect();
    assert!(keys.len() == 3 && keys.iter().all(|key| key.starts_with("log/0000")), "{keys:?}");
    let archive = get(keys[0]).send(edge.addr).await;
    assert!(archive.status == 200 && archive.body.starts_with(b"STELELA1"), "{}", archive.head);
    assert!(archive.header("x-stele-object-root").is_some());

    let log = LogSource::Gateway(Arc::clone(&edge.cluster.gw));
    for page in ["checkpoint", "policy", "tile/0/000", "tile/1/000.p/4", "tile/entries/002", "tile/0/004.p/76"] {
        let found = find(&log, page).await.unwrap();
        let (Found::Text(bytes) | Found::Tile(bytes)) = &found else { panic!("{page}") };
        let whole = get(page).send(edge.addr).await;
        assert_eq!((whole.status, whole.body.as_slice()), (200, &bytes[..]), "{page}");
        assert_eq!(whole.header("content-type"), Some(found.headers().0));
        assert!(whole.header("last-modified").is_some() && whole.header("x-stele-log").is_none());
        let etag = whole.header("etag").unwrap().to_owned();
        assert_eq!(get(page).with("if-none-match", etag.clone()).send(edge.addr).await.status, 304);
        assert_eq!(get(page).with("if-match", "\"0\"").send(edge.addr).await.status, 412);
        let head = Ask { method: "HEAD", ..get(page) }.send(edge.addr).await;
        assert_eq!((head.status, head.header("etag")), (200, Some(etag.as_str())), "{page}");
        assert_eq!(head.header("content-length"), Some(bytes.len().to_string().as_str()));
        let part = get(page).with("range", "bytes=1-3").send(edge.addr).await;
        assert_eq!((part.status, part.body.as_slice()), (206, &bytes[1..4]), "{page}");
    }
    for nothing in ["tile/0/900", "tile/0/0", "tile/9/000", "readme"] {
        assert_eq!(get(nothing).send(edge.addr).await.code(), "NoSuchKey", "{nothing}");
    }
    assert_eq!(Ask { secret: None, ..get("checkpoint") }.send(edge.addr).await.status, 403, "only for who signs");
}
