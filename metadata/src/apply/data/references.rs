//! References: rows (PG, pack, owner), written and removed in the same apply as their owner. A pack
//! without references is garbage: its pack row goes with the last one, and a sweep may take it.
//!
//! An inline manifest names its packs, so their owner needs no list. Whatever else an owner refers
//! to is listed in (owner, pack) rows.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use stele_rpc::error::{Code, RpcError};
use stele_rpc::meta::{MetaReply, WriteGuard};
use stele_types::ids::{BucketId, OwnerId, PackId};
use stele_types::manifest::Manifest;
use stele_types::pack::PackRow;

use crate::apply::{Batch, Failure, Outcome, refuse};
use crate::keyspace;
use crate::kv::KvResult;
use crate::rows::{corrupt, encode, load};

/// Packs that the manifest itself names.
pub(crate) fn named_packs(manifest: &Manifest) -> BTreeSet<PackId> {
    match manifest {
        Manifest::Inline(entries) => entries.iter().map(|entry| entry.pack).collect(),
        Manifest::Paged { root, .. } => BTreeSet::from([root.page.pack]),
    }
}

fn inline_packs(manifest: &Manifest) -> BTreeSet<PackId> {
    match manifest {
        Manifest::Inline(_) => named_packs(manifest),
        Manifest::Paged { .. } => BTreeSet::new(),
    }
}

impl Batch<'_> {
    /// Checks that every pack the manifest names is given or was referenced by one of `sources`
    /// (staged owner, parts) before.
    pub(crate) fn check_packs(&self, manifest: &Manifest, packs: &[PackRow], sources: &[OwnerId]) -> Outcome<()> {
        let given: BTreeSet<PackId> = packs.iter().map(|row| row.pack).collect();
        for pack in named_packs(manifest) {
            if given.contains(&pack) {
                continue;
            }
            if !self.referenced_by_any(&pack, sources)? {
                let detail = format!("the manifest names pack {pack}, which is neither given nor staged");
                return refuse(Code::Malformed, detail);
            }
        }
        for row in packs {
            let known = load::<PackRow>(self.rows, &keyspace::pack(&row.pack))?;
            if known.is_some_and(|known| known.pg != row.pg) {
                return refuse(Code::Malformed, format!("pack {} belongs to another placement group", row.pack));
            }
        }
        Ok(())
    }

    pub(crate) fn referenced_by_any(&self, pack: &PackId, owners: &[OwnerId]) -> KvResult<bool> {
        let Some(row) = load::<PackRow>(self.rows, &keyspace::pack(pack))? else {
            return Ok(false);
        };
        for owner in owners {
            if self.rows.get(&keyspace::reference(row.pg, pack, owner))?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Makes `owner` refer to `packs`, of which those its inline manifest names are not listed. New ones count for
    /// `bucket`.
    pub(crate) fn add_references(
        &mut self,
        (bucket, owner): (BucketId, &OwnerId),
        packs: &[PackRow],
        manifest: Option<&Manifest>,
    ) -> KvResult<()> {
        let inline = manifest.map(inline_packs).unwrap_or_default();
        for row in packs {
            let key = keyspace::pack(&row.pack);
            let known: Option<PackRow> = load(self.rows, &key)?;
            match &known {
                None => {
                    self.count_new_pack(row, bucket)?;
                    self.rows.put(&key, &encode(row))?;
                }
                Some(known) if known.generation < row.generation => {
                    self.count_other_encoding(known, row)?;
                    self.rows.put(&key, &encode(row))?;
                }
                Some(_) => {}
            }
            self.rows.put(&keyspace::reference(row.pg, &row.pack, owner), &[])?;
            if !inline.contains(&row.pack) {
                self.rows.put(&keyspace::owner_pack(owner, &row.pack), &[])?;
            }
        }
        Ok(())
    }

    /// Drops every reference of an owner.
    pub(crate) fn drop_references(&mut self, owner: &OwnerId, manifest: &Manifest) -> KvResult<()> {
        // A pack staged ahead may be listed and named inline as well.
        let mut packs = inline_packs(manifest);
        for pack in self.listed_packs(owner, usize::MAX)? {
            self.rows.delete(&keyspace::owner_pack(owner, &pack))?;
            packs.insert(pack);
        }
        for pack in packs {
            self.drop_reference(owner, &pack)?;
        }
        Ok(())
    }

    /// Makes an owner's references those of a longer manifest: the packs that the old one named inline and
    /// the new one does not are listed from now on, and `added` are new.
    pub(crate) fn extend_references(
        &mut self,
        (bucket, owner): (BucketId, &OwnerId),
        (old, new): (&Manifest, &Manifest),
        added: &[PackRow],
    ) -> KvResult<()> {
        for pack in inline_packs(old).difference(&inline_packs(new)) {
            self.rows.put(&keyspace::owner_pack(owner, pack), &[])?;
        }
        self.add_references((bucket, owner), added, Some(new))
    }

    /// Drops an owner's references to packs that its manifest does not name any more.
    pub(crate) fn release_packs(&mut self, owner: &OwnerId, packs: &[PackId]) -> KvResult<()> {
        for pack in packs {
            self.rows.delete(&keyspace::owner_pack(owner, pack))?;
            self.drop_reference(owner, pack)?;
        }
        Ok(())
    }

    /// Drops at most `max` references that are listed for an owner; returns how many.
    pub(crate) fn drop_listed_packs(&mut self, owner: &OwnerId, max: usize) -> KvResult<usize> {
        let packs = self.listed_packs(owner, max)?;
        for pack in &packs {
            self.drop_reference(owner, pack)?;
            self.rows.delete(&keyspace::owner_pack(owner, pack))?;
        }
        Ok(packs.len())
    }

    fn listed_packs(&self, owner: &OwnerId, max: usize) -> KvResult<Vec<PackId>> {
        let prefix = keyspace::owner_packs(owner);
        let mut keys = Vec::new();
        self.rows.scan(&prefix, &keyspace::successor(&prefix), &mut |key, _| {
            if keys.len() == max {
                return ControlFlow::Break(());
            }
            keys.push(key.to_vec());
            ControlFlow::Continue(())
        })?;
        let pack = |key: &Vec<u8>| keyspace::pack_of_owner(key).ok_or_else(|| corrupt(key, "an owner's pack"));
        keys.iter().map(pack).collect()
    }

    fn drop_reference(&mut self, owner: &OwnerId, pack: &PackId) -> KvResult<()> {
        let pack_key = keyspace::pack(pack);
        let Some(row) = load::<PackRow>(self.rows, &pack_key)? else {
            return Err(corrupt(&pack_key, format!("pack {pack} is referenced but has no row")));
        };
        self.rows.delete(&keyspace::reference(row.pg, pack, owner))?;
        if !self.any(&keyspace::references(row.pg, pack))? {
            self.count_pack_out(&row)?;
            self.rows.delete(&pack_key)?;
        }
        Ok(())
    }

    /// Moves every reference of a part to the version that takes it over.
    pub(crate) fn move_references(&mut self, from: (&OwnerId, &Manifest), to: (&OwnerId, &Manifest)) -> KvResult<()> {
        let mut packs = inline_packs(from.1);
        let listed = self.listed_packs(from.0, usize::MAX)?;
        for pack in &listed {
            self.rows.delete(&keyspace::owner_pack(from.0, pack))?;
        }
        packs.extend(listed);
        let inline = inline_packs(to.1);
        for pack in packs {
            let pack_key = keyspace::pack(&pack);
            let Some(row) = load::<PackRow>(self.rows, &pack_key)? else {
                return Err(corrupt(&pack_key, format!("pack {pack} is referenced but has no row")));
            };
            self.rows.put(&keyspace::reference(row.pg, &pack, to.0), &[])?;
            self.rows.delete(&keyspace::reference(row.pg, &pack, from.0))?;
            if !inline.contains(&pack) {
                self.rows.put(&keyspace::owner_pack(to.0, &pack), &[])?;
            }
        }
        Ok(())
    }

    /// References ahead of the command that names their owner. Dropped by a fence that passes the
    /// start epoch before that command came.
    pub(crate) fn stage_references(
        &mut self,
        guard: &WriteGuard,
        owner: &OwnerId,
        packs: &[PackRow],
    ) -> Outcome<MetaReply> {
        self.admit(guard)?;
        self.check_packs(&Manifest::Inline(Vec::new()), packs, &[])?;
        self.rows.put(&keyspace::staged(guard.start_epoch, owner), &[])?;
        self.add_references((guard.range.bucket, owner), packs, None)?;
        Ok(MetaReply::Done)
    }

    /// The staged owner has committed: its references stay.
    pub(crate) fn unstage(&mut self, guard: &WriteGuard, owner: &OwnerId) -> KvResult<()> {
        self.rows.delete(&keyspace::staged(guard.start_epoch, owner))
    }
}

/// Refuses an owner id that is in use: owners are random and never reused.
pub(crate) fn owner_in_use(owner: &OwnerId) -> Failure {
    Failure::Refused(RpcError::new(Code::Malformed, format!("owner {owner} is in use: draw a new one")))
}
