//! Guards that every write to a key passes first, and preconditions.

use stele_rpc::error::{Code, RpcError};
use stele_rpc::meta::WriteGuard;
use stele_types::limits::KEY_BYTES_MAX;
use stele_types::object::{BucketRow, Facts, Precondition, TagError, Verdict};
#[cfg(feature = "sabotage")]
use stele_types::object::{Cors, Tags, Versioning};

use super::{Batch, Outcome, refuse};

impl Batch<'_> {
    /// The bucket of a write whose lease, range, configuration and epoch still hold.
    pub(crate) fn admit(&mut self, guard: &WriteGuard) -> Outcome<BucketRow> {
        let bucket = self.admit_bucket(guard)?;
        if guard.start_epoch <= self.root.fence && !self.options.accepts_fenced() {
            let detail = format!(
                "start epoch {} is at or below the fence {}: begin the write anew",
                guard.start_epoch, self.root.fence
            );
            return refuse(Code::Fenced, detail);
        }
        if guard.start_epoch > self.root.epoch {
            let detail =
                format!("start epoch {} lies ahead of the current epoch {}", guard.start_epoch, self.root.epoch);
            return refuse(Code::Malformed, detail);
        }
        Ok(bucket)
    }

    /// The bucket, if it is as it was when the write was planned. Ids of buckets are not reused, so a
    /// write planned for a deleted bucket never lands in its successor of the same name.
    fn admit_bucket(&mut self, guard: &WriteGuard) -> Outcome<BucketRow> {
        let found = self.bucket(guard.range.bucket)?;
        #[cfg(feature = "sabotage")]
        if self.options.stale_bucket_configuration_accepted {
            return Ok(self.as_planned(found, guard));
        }
        let Some(bucket) = found else {
            return refuse(Code::NoSuchBucket, format!("bucket {} does not exist", guard.range.bucket));
        };
        if bucket.range != guard.range.range || bucket.range_epoch != guard.range.epoch {
            let detail = format!("the range of bucket {} moved: read the bucket again, then retry", bucket.name);
            return refuse(Code::StaleRange, detail);
        }
        if bucket.config_epoch != guard.config_epoch {
            let detail = format!("the configuration of bucket {} changed: read it again, then retry", bucket.name);
            return refuse(Code::StaleConfig, detail);
        }
        Ok(bucket)
    }

    /// Sabotage: whatever became of the bucket, the write goes where it was planned to.
    #[cfg(feature = "sabotage")]
    fn as_planned(&mut self, found: Option<BucketRow>, guard: &WriteGuard) -> BucketRow {
        found.unwrap_or_else(|| {
            self.recall_bucket(BucketRow {
                id: guard.range.bucket,
                name: format!("deleted bucket {}", guard.range.bucket),
                created: 0,
                config_epoch: guard.config_epoch,
                range: guard.range.range,
                range_epoch: guard.range.epoch,
                versioning: Versioning::Unset,
                owner: String::new(),
                tags: Tags::default(),
                object_lock: None,
                cors: Cors::default(),
            })
        })
    }
}

/// Refuses keys that no gateway should let through.
pub(crate) fn check_key(key: &str) -> Result<(), RpcError> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        let detail = format!("a key has 1 to {KEY_BYTES_MAX} bytes, this one {}", key.len());
        return Err(RpcError::new(Code::Malformed, detail));
    }
    Ok(())
}

/// Refuses tags that no gateway should let through.
pub(crate) fn bad_tags(error: TagError) -> RpcError {
    RpcError::new(Code::Malformed, error.to_string())
}

/// Decides a condition against the current version, if there is one.
pub(crate) fn check_precondition(condition: &Precondition, key: &str, current: Option<&Facts>) -> Result<(), RpcError> {
    match condition.verdict(current) {
        Verdict::Holds => Ok(()),
        Verdict::NoKey => Err(RpcError::new(Code::PreconditionNoKey, format!("{key:?} does not exist"))),
        Verdict::Fails => {
            let found = current.map(|now| format!("the ETag of {key:?} is {}", now.etag)).unwrap_or_default();
            Err(RpcError::new(Code::PreconditionFailed, found))
        }
    }
}
