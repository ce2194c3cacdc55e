//! Every S3 operation and what becomes of it. The list writes the table of docs/s3-compatibility.md and is
//! compared with the code: `STELE_WRITE_DOCS=1 cargo test -p stele-s3-gateway catalogue` writes the page anew.
//! The acceptance suite calls every operation of the service model against the table.

use std::collections::BTreeSet;
use std::path::Path;

use Support::{Differs, Fixed, Refused, Works};

/// What a client gets.
#[derive(Clone, Copy, Debug)]
pub(super) enum Support {
    /// What S3 documents.
    Works,
    /// Works, with this difference.
    Differs(&'static str),
    /// One answer, as nothing can be configured.
    Fixed(&'static str),
    /// 501 NotImplemented; nothing is changed.
    Refused,
}

pub(super) const OPERATIONS: &[(&str, Support)] = &[
    ("AbortMultipartUpload", Works),
    ("CompleteMultipartUpload", Differs("a repeat with the same list gets the first answer")),
    ("CopyObject", Differs("moves no bytes; keeps ETag and checksums of the source")),
    ("CreateBucket", Differs("repeating it succeeds in us-east-1 and is 409 elsewhere")),
    ("CreateMultipartUpload", Works),
    ("DeleteBucket", Works),
    ("DeleteBucketCors", Works),
    ("DeleteBucketTagging", Works),
    ("DeleteObject", Differs("conditions on size and date in every bucket; no MFA delete")),
    ("DeleteObjectTagging", Works),
    ("DeleteObjects", Differs("as DeleteObject")),
    ("GetBucketAccelerateConfiguration", Fixed("not set")),
    ("GetBucketAnalyticsConfiguration", Fixed("404 NoSuchConfiguration")),
    ("GetBucketIntelligentTieringConfiguration", Fixed("404 NoSuchConfiguration")),
    ("GetBucketInventoryConfiguration", Fixed("404 NoSuchConfiguration")),
    ("GetBucketMetricsConfiguration", Fixed("404 NoSuchConfiguration")),
    ("GetBucketAcl", Fixed("the owner has full control")),
    ("GetBucketCors", Works),
    ("GetBucketEncryption", Fixed("404 ServerSideEncryptionConfigurationNotFoundError")),
    ("GetBucketLifecycleConfiguration", Fixed("404 NoSuchLifecycleConfiguration")),
    ("GetBucketLocation", Works),
    ("GetBucketLogging", Fixed("off")),
    ("GetBucketNotificationConfiguration", Fixed("none")),
    ("GetBucketOwnershipControls", Fixed("BucketOwnerEnforced")),
    ("GetBucketPolicy", Fixed("404 NoSuchBucketPolicy")),
    ("GetBucketPolicyStatus", Fixed("404 NoSuchBucketPolicy")),
    ("GetBucketReplication", Fixed("404 ReplicationConfigurationNotFoundError")),
    ("GetBucketRequestPayment", Fixed("BucketOwner")),
    ("GetBucketTagging", Works),
    ("GetBucketVersioning", Works),
    ("GetBucketWebsite", Fixed("404 NoSuchWebsiteConfiguration")),
    ("GetObject", Differs("several ranges in one request are ignored")),
    ("GetObjectAcl", Fixed("the owner has full control")),
    ("GetObjectAttributes", Works),
    ("GetObjectLegalHold", Works),
    ("GetObjectLockConfiguration", Works),
    ("GetObjectRetention", Works),
    ("GetObjectTagging", Works),
    ("GetPublicAccessBlock", Fixed("404 NoSuchPublicAccessBlockConfiguration")),
    ("HeadBucket", Works),
    ("HeadObject", Works),
    ("ListBucketAnalyticsConfigurations", Fixed("none")),
    ("ListBucketIntelligentTieringConfigurations", Fixed("none")),
    ("ListBucketInventoryConfigurations", Fixed("none")),
    ("ListBucketMetricsConfigurations", Fixed("none")),
    ("ListBuckets", Works),
    ("ListMultipartUploads", Works),
    ("ListObjectVersions", Works),
    ("ListObjects", Differs("NextMarker in every truncated page")),
    ("ListObjectsV2", Works),
    ("ListParts", Works),
    ("PostObject", Differs("Location is a path; needs a Content-Length")),
    ("PutBucketCors", Works),
    ("PutBucketTagging", Works),
    ("PutBucketVersioning", Differs("without MFA delete")),
    ("PutObject", Differs("If-Unmodified-Since is honoured; appending in every bucket without versioning")),
    ("PutObjectLegalHold", Works),
    ("PutObjectLockConfiguration", Works),
    ("PutObjectRetention", Works),
    ("PutObjectTagging", Works),
    ("RenameObject", Differs("in every bucket without versioning")),
    ("UploadPart", Works),
    ("UploadPartCopy", Differs("the part's ETag is not the MD5 of its bytes")),
    ("CreateBucketMetadataConfiguration", Refused),
    ("CreateBucketMetadataTableConfiguration", Refused),
    ("CreateSession", Refused),
    ("DeleteBucketAnalyticsConfiguration", Refused),
    ("DeleteBucketEncryption", Refused),
    ("DeleteBucketIntelligentTieringConfiguration", Refused),
    ("DeleteBucketInventoryConfiguration", Refused),
    ("DeleteBucketLifecycle", Refused),
    ("DeleteBucketMetadataConfiguration", Refused),
    ("DeleteBucketMetadataTableConfiguration", Refused),
    ("DeleteBucketMetricsConfiguration", Refused),
    ("DeleteBucketOwnershipControls", Refused),
    ("DeleteBucketPolicy", Refused),
    ("DeleteBucketReplication", Refused),
    ("DeleteBucketWebsite", Refused),
    ("DeleteObjectAnnotation", Refused),
    ("DeletePublicAccessBlock", Refused),
    ("GetBucketAbac", Refused),
    ("GetBucketMetadataConfiguration", Refused),
    ("GetBucketMetadataTableConfiguration", Refused),
    ("GetObjectAnnotation", Refused),
    ("GetObjectTorrent", Refused),
    ("ListDirectoryBuckets", Refused),
    ("ListObjectAnnotations", Refused),
    ("PutBucketAbac", Refused),
    ("PutBucketAccelerateConfiguration", Refused),
    ("PutBucketAcl", Refused),
    ("PutBucketAnalyticsConfiguration", Refused),
    ("PutBucketEncryption", Refused),
    ("PutBucketIntelligentTieringConfiguration", Refused),
    ("PutBucketInventoryConfiguration", Refused),
    ("PutBucketLifecycleConfiguration", Refused),
    ("PutBucketLogging", Refused),
    ("PutBucketMetricsConfiguration", Refused),
    ("PutBucketNotificationConfiguration", Refused),
    ("PutBucketOwnershipControls", Refused),
    ("PutBucketPolicy", Refused),
    ("PutBucketReplication", Refused),
    ("PutBucketRequestPayment", Refused),
    ("PutBucketWebsite", Refused),
    ("PutObjectAcl", Refused),
    ("PutObjectAnnotation", Refused),
    ("PutPublicAccessBlock", Refused),
    ("RestoreObject", Refused),
    ("SelectObjectContent", Refused),
    ("UpdateBucketMetadataAnnotationTableConfiguration", Refused),
    ("UpdateBucketMetadataInventoryTableConfiguration", Refused),
    ("UpdateBucketMetadataJournalTableConfiguration", Refused),
    ("UpdateObjectEncryption", Refused),
    ("WriteGetObjectResponse", Refused),
];

const BEGIN: &str = "<!-- begin operations -->\n";
const END: &str = "<!-- end operations -->";

/// `getBucketAcl` and `get_bucket_acl` are the same operation.
fn folded(name: &str) -> String {
    name.replace('_', "").to_ascii_lowercase()
}

pub(super) fn answered(support: Support) -> bool {
    !matches!(support, Refused)
}

/// Operations that the edge has code for.
fn in_code() -> BTreeSet<String> {
    // s3s runs PutObject for PostObject, behind a check of its own.
    let source = [include_str!("../operations.rs"), include_str!("../auth.rs")].concat();
    let source = source.replace("async fn check(", "").replace("async fn get_secret_key(", "");
    let names = source.split("async fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next());
    names.map(folded).collect()
}

fn table() -> String {
    let rows = OPERATIONS.iter().map(|(name, support)| match support {
        Works => format!("| {name} | supported | |\n"),
        Differs(how) => format!("| {name} | with a difference | {how} |\n"),
        Fixed(answer) => format!("| {name} | one answer | {answer} |\n"),
        Refused => format!("| {name} | refused | 501 NotImplemented |\n"),
    });
    format!("| operation | | |\n|---|---|---|\n{}", rows.collect::<String>())
}

#[test]
fn the_catalogue_of_operations_is_what_the_code_does() {
    let listed: BTreeSet<String> = OPERATIONS.iter().map(|(name, _)| folded(name)).collect();
    assert_eq!(listed.len(), OPERATIONS.len(), "an operation is listed twice");
    let wanted: BTreeSet<String> =
        OPERATIONS.iter().filter(|(_, support)| answered(*support)).map(|(name, _)| folded(name)).collect();
    assert_eq!(wanted, in_code(), "listed on the left, in operations.rs on the right");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the page, on request; no file of the store")]
fn the_page_has_the_catalogue_of_operations() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/s3-compatibility.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page has a place for the table");
    let (found, after) = rest.split_once(END).expect("the table ends");
    if std::env::var_os("STELE_WRITE_DOCS").is_some() {
        std::fs::write(&path, [before, BEGIN, &table(), END, after].concat()).unwrap();
        return;
    }
    assert_eq!(found, table(), "write it with STELE_WRITE_DOCS=1");
}
