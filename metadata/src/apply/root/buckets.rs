//! Buckets: names are unique, ids never reused, and only an empty bucket is deleted.

use stele_rpc::error::{Code, RpcError};
use stele_rpc::meta::{BucketChange, MetaReply};
use stele_types::ids::{BucketId, ConfigEpoch, RangeEpoch, RangeId};
use stele_types::limits::BUCKET_TAGS_MAX;
use stele_types::object::{BucketRow, Cors, ObjectLock, Tags, Versioning};

use super::acts;
use crate::apply::data::check_default;
use crate::apply::guard::bad_tags;
use crate::apply::{Batch, Context, Outcome, refuse};
use crate::keyspace::{self, Tag};
use crate::kv::KvResult;
use crate::rows::load;

/// Bytes of a bucket's name; what characters it may have is the gateway's business.
const NAME_BYTES: std::ops::RangeInclusive<usize> = 1..=255;

/// What the log calls a bucket. One that is made again goes on in the same chain, under another id.
fn subject(name: &str) -> String {
    format!("bucket/{name}")
}

impl Batch<'_> {
    fn bucket_by_name(&mut self, name: &str) -> KvResult<Option<BucketRow>> {
        match load::<BucketId>(self.rows, &keyspace::bucket_name(name))? {
            Some(id) => self.bucket(id),
            None => Ok(None),
        }
    }

    pub(crate) fn create_bucket(&mut self, cx: Context<'_>, name: &str, object_lock: bool) -> Outcome<MetaReply> {
        if !NAME_BYTES.contains(&name.len()) {
            return refuse(Code::Malformed, format!("a bucket's name has 1 to 255 bytes, this one {}", name.len()));
        }
        if let Some(existing) = self.bucket_by_name(name)? {
            if existing.owner == cx.origin.principal {
                return refuse(Code::BucketAlreadyOwned, format!("bucket {name} exists and is yours"));
            }
            return refuse(Code::BucketExists, format!("bucket {name} exists: choose another name"));
        }
        let id = BucketId(self.root.next_bucket);
        self.root.next_bucket += 1;
        self.root.buckets += 1;
        let row = BucketRow {
            id,
            name: name.to_owned(),
            created: cx.now,
            config_epoch: ConfigEpoch(1),
            range: RangeId(id.0),
            range_epoch: RangeEpoch(1),
            versioning: if object_lock { Versioning::Enabled } else { Versioning::Unset },
            owner: cx.origin.principal.clone(),
            tags: Tags::default(),
            object_lock: object_lock.then(ObjectLock::default),
            cors: Cors::default(),
        };
        self.put_row(&keyspace::bucket_name(name), &id)?;
        self.put_bucket(&row)?;
        self.log_act(cx, &subject(name), &acts::bucket_created(&row))?;
        Ok(MetaReply::Bucket(Box::new(row)))
    }

    /// A new configuration has a new epoch, so that a write that was planned with the old one is refused.
    pub(crate) fn configure_bucket(
        &mut self,
        cx: Context<'_>,
        name: &str,
        change: &BucketChange,
    ) -> Outcome<MetaReply> {
        let Some(mut bucket) = self.bucket_by_name(name)? else {
            return refuse(Code::NoSuchBucket, format!("bucket {name} does not exist"));
        };
        let before = bucket.clone();
        match change {
            BucketChange::Versioning(Versioning::Unset) => {
                return refuse(Code::Malformed, "versioning can be enabled or suspended, not unset");
            }
            BucketChange::Versioning(Versioning::Suspended) if bucket.object_lock.is_some() => {
                let detail = format!("bucket {name} has object lock: its versioning can't be suspended");
                return refuse(Code::BucketState, detail);
            }
            BucketChange::Versioning(versioning) => bucket.versioning = *versioning,
            BucketChange::Tags(tags) => {
                tags.check(BUCKET_TAGS_MAX).map_err(bad_tags)?;
                bucket.tags = tags.clone();
            }
            BucketChange::ObjectLock(_) if bucket.versioning != Versioning::Enabled => {
                return refuse(
                    Code::BucketState,
                    format!("object lock needs versioning: enable it on bucket {name} first"),
                );
            }
            BucketChange::ObjectLock(lock) => {
                check_default(lock.default)?;
                bucket.object_lock = Some(*lock);
            }
            BucketChange::Cors(cors) => {
                cors.check().map_err(|error| RpcError::new(Code::Malformed, error.to_string()))?;
                bucket.cors = cors.clone();
            }
        }
        if bucket != before {
            bucket.config_epoch = ConfigEpoch(bucket.config_epoch.0 + 1);
            self.put_bucket(&bucket)?;
            self.log_act(cx, &subject(name), &acts::bucket_changed(change, &before, &bucket))?;
        }
        Ok(MetaReply::Bucket(Box::new(bucket)))
    }

    pub(crate) fn delete_bucket(&mut self, cx: Context<'_>, name: &str) -> Outcome<MetaReply> {
        let Some(bucket) = self.bucket_by_name(name)? else {
            return refuse(Code::NoSuchBucket, format!("bucket {name} does not exist"));
        };
        for (tag, what) in [(Tag::Version, "versions or delete markers"), (Tag::Upload, "multipart uploads")] {
            if self.any(&keyspace::in_bucket(tag, bucket.id))? {
                return refuse(Code::BucketNotEmpty, format!("bucket {name} still has {what}: remove them first"));
            }
        }
        self.rows.delete(&keyspace::bucket_name(name))?;
        self.remove_bucket(bucket.id)?;
        self.root.buckets = self.root.buckets.saturating_sub(1);
        self.log_act(cx, &subject(name), &format!("the bucket with id {} was deleted", bucket.id))?;
        Ok(MetaReply::Done)
    }
}
