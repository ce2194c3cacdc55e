//! Requests and replies of multipart uploads.

use stele_rpc::meta::Origin;
use stele_types::ids::UploadId;
use stele_types::object::{
    Checksum, ChecksumAlgorithm, ChecksumType, Lock, Part, Precondition, StoredHeaders, Tags, Upload, Version,
};

use super::{BodyRequest, GetRequest};

/// Begin a multipart upload.
#[derive(Clone, Debug)]
pub struct CreateUploadRequest {
    /// Bucket name.
    pub bucket: String,
    /// Key.
    pub key: String,
    /// Headers for the version.
    pub headers: StoredHeaders,
    /// Tags for the version.
    pub tags: Tags,
    /// Retention and legal hold for the version.
    pub lock: Lock,
    /// Checksum that every part must have, and what the object's will cover.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
    /// Who asks.
    pub origin: Origin,
}

/// Where an upload is.
#[derive(Clone, Debug)]
pub struct UploadRef {
    /// Bucket name.
    pub bucket: String,
    /// Key.
    pub key: String,
    /// Upload.
    pub upload: UploadId,
}

/// Store one part.
#[derive(Debug)]
pub struct PartRequest {
    /// The upload.
    pub upload: UploadRef,
    /// 1 to 10,000.
    pub number: u16,
    /// Body.
    pub body: BodyRequest,
    /// Who asks.
    pub origin: Origin,
}

/// Make a part of an object, or of a range of one.
#[derive(Clone, Debug)]
pub struct PartCopyRequest {
    /// The upload.
    pub upload: UploadRef,
    /// 1 to 10,000.
    pub number: u16,
    /// What is copied, and conditions on it. Its range must be `None`.
    pub source: GetRequest,
    /// First and last byte, both inside the source; `None` is all of it.
    pub range: Option<(u64, u64)>,
    /// Who asks.
    pub origin: Origin,
}

/// Answer to the copy of a part.
#[derive(Clone, Debug)]
pub struct PartCopyReply {
    /// The part as committed.
    pub part: Part,
    /// The version that was copied.
    pub source: Box<Version>,
}

/// One part as Complete lists it.
#[derive(Clone, Debug)]
pub struct ListedPart {
    /// Number; strictly rising in the list.
    pub number: u16,
    /// ETag that UploadPart answered, without quotes.
    pub etag: String,
    /// Checksums that the client repeats; compared with those stored.
    pub checksums: Vec<Checksum>,
}

/// Make an object of parts.
#[derive(Clone, Debug)]
pub struct CompleteRequest {
    /// The upload.
    pub upload: UploadRef,
    /// Its parts in order.
    pub parts: Vec<ListedPart>,
    /// x-amz-mp-object-size: refused if the parts' sum differs.
    pub declared_len: Option<u64>,
    /// Object checksums to compare: full-object value, or composite value without the `-N`.
    pub checksums: Vec<Checksum>,
    /// Decided at the commit.
    pub precondition: Precondition,
    /// Who asks.
    pub origin: Origin,
}

/// One page of an upload's parts.
#[derive(Clone, Debug)]
pub struct PartsPage {
    /// The upload.
    pub upload: Box<Upload>,
    /// Parts by number.
    pub parts: Vec<Part>,
    /// More follow behind the last one.
    pub truncated: bool,
}
