//! Parts of multipart uploads: rows with their references, replaced when a number is uploaded again.

use stele_rpc::error::Code;
use stele_rpc::meta::MetaReply;
use stele_types::ids::UploadId;
use stele_types::limits::{PART_BYTES_MIN, PART_NUMBER_MAX};
use stele_types::object::Part;
use stele_types::pack::PackRow;

use super::UploadAt;
use super::references::owner_in_use;
use crate::apply::guard::check_key;
use crate::apply::{Batch, Context, Outcome, refuse};
use crate::keyspace;
use crate::kv::KvResult;
use crate::rows::{decode, encode, load};

impl Batch<'_> {
    pub(crate) fn put_part(
        &mut self,
        cx: Context<'_>,
        at: UploadAt<'_>,
        part: &Part,
        packs: &[PackRow],
    ) -> Outcome<MetaReply> {
        check_key(at.key)?;
        let bucket = self.admit(at.guard)?;
        if part.number == 0 || part.number > PART_NUMBER_MAX {
            return refuse(Code::Malformed, format!("part number {} is not in 1..={PART_NUMBER_MAX}", part.number));
        }
        if part.manifest.total_len() != part.len {
            return refuse(Code::Malformed, "the part's manifest and length differ");
        }
        self.require_upload(&bucket, at)?;
        self.check_packs(&part.manifest, packs, &[part.owner])?;
        let key = keyspace::part(at.upload, part.number);
        let replaced: Option<Part> = load(self.rows, &key)?;
        if replaced.as_ref().is_some_and(|old| old.owner == part.owner) {
            return Err(owner_in_use(&part.owner));
        }
        self.add_references((bucket.id, &part.owner), packs, Some(&part.manifest))?;
        self.unstage(at.guard, &part.owner)?;
        let generation = replaced.as_ref().map_or(1, |old| old.generation + 1);
        if let Some(old) = replaced {
            self.drop_references(&old.owner, &old.manifest)?;
        }
        let row = Part { generation, modified: cx.now, ..part.clone() };
        self.rows.put(&key, &encode(&row))?;
        Ok(MetaReply::Part(Box::new(row)))
    }

    /// All parts of an upload by number.
    pub(crate) fn parts_of(&self, upload: UploadId) -> KvResult<Vec<Part>> {
        let rows = self.collect(&keyspace::parts(upload), usize::MAX)?;
        rows.iter().map(|(key, value)| decode(key, value)).collect()
    }

    /// The listed parts, if each stands as the gateway saw it and all but the last are large enough.
    pub(crate) fn chosen_parts(&self, upload: UploadId, listed: &[(u16, u64)]) -> Outcome<Vec<Part>> {
        if listed.is_empty() || !listed.is_sorted_by(|a, b| a.0 < b.0) {
            return refuse(Code::Malformed, "a completion lists at least one part, in ascending order");
        }
        let mut chosen = Vec::with_capacity(listed.len());
        for (at, (number, generation)) in listed.iter().enumerate() {
            let Some(part) = load::<Part>(self.rows, &keyspace::part(upload, *number))? else {
                return refuse(Code::InvalidPart, format!("part {number} of upload {upload} does not exist"));
            };
            if part.generation != *generation {
                let detail =
                    format!("part {number} of upload {upload} was uploaded again: read the parts, then repeat");
                return refuse(Code::StaleUpload, detail);
            }
            if at + 1 < listed.len() && part.len < PART_BYTES_MIN {
                let detail = format!("part {number} has {} bytes; all but the last need {PART_BYTES_MIN}", part.len);
                return refuse(Code::PartTooSmall, detail);
            }
            chosen.push(part);
        }
        Ok(chosen)
    }
}
