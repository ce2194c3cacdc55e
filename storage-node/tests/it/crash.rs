//! Power loss at random moments: what was acknowledged is there and exact, what was deleted is not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use stele_rpc::error::Code;
use stele_storage_node::config::{DriveConfig, ReclaimConfig};
use stele_storage_node::media::model::{Faults, Latency, ModelDisk};
use stele_types::ids::PackId;

use crate::world::{TestPack, World, formatted_disk, small_drive, test_pack, virtual_time};

/// What a client knows.
#[derive(Default)]
struct Ledger {
    stored: BTreeMap<PackId, TestPack>,
    deleted: BTreeSet<PackId>,
    /// Asked for, outcome unknown.
    limbo: BTreeSet<PackId>,
    next: u64,
}

impl Ledger {
    async fn check(&self, world: &World, round: u64) {
        let listed: BTreeSet<PackId> = world.inventory().await.into_iter().map(|row| row.pack).collect();
        for (id, pack) in &self.stored {
            let found = world.read_all(pack).await;
            assert_eq!(found.as_ref(), Ok(&pack.shard), "round {round}: acknowledged pack {id}");
            assert!(listed.contains(id), "round {round}: acknowledged pack {id} is not listed");
        }
        for id in &self.deleted {
            assert!(!listed.contains(id), "round {round}: deleted pack {id} came back");
        }
        for id in &listed {
            let known = self.stored.contains_key(id) || self.limbo.contains(id);
            assert!(known, "round {round}: pack {id} from nowhere");
        }
    }

    /// Some stores and deletions at once; then the power fails somewhere in the middle.
    async fn burst(&mut self, world: &World, disk: &ModelDisk, rng: &mut ChaCha8Rng) {
        let mut tasks = tokio::task::JoinSet::new();
        let node = std::sync::Arc::clone(&world.node);
        for _ in 0..rng.random_range(1..20) {
            let pack = test_pack(self.next, rng.random_range(1..200_000));
            self.next += 1;
            self.limbo.insert(pack.id);
            let world = World { node: node.clone(), metrics: world.metrics.clone() };
            tasks.spawn(async move { (pack.id, world.store(&pack).await.is_ok(), Some(pack)) });
        }
        for id in self.stored.keys().copied().collect::<Vec<_>>() {
            if rng.random_bool(0.3) {
                self.limbo.insert(id);
                self.stored.remove(&id);
                let world = World { node: node.clone(), metrics: world.metrics.clone() };
                tasks.spawn(async move { (id, world.destroy(vec![id]).await == Ok(vec![id]), None) });
            }
        }
        let mut left = rng.random_range(0..=tasks.len());
        while left > 0 {
            let (id, done, pack) = tasks.join_next().await.unwrap().unwrap();
            left -= 1;
            if done {
                self.limbo.remove(&id);
                match pack {
                    Some(pack) => drop(self.stored.insert(id, pack)),
                    None => drop(self.deleted.insert(id)),
                }
            }
        }
        disk.crash();
        // Answers that were on their way count: they were given before the power failed.
        while let Some(result) = tasks.join_next().await {
            let (id, done, pack) = result.unwrap();
            if done {
                self.limbo.remove(&id);
                match pack {
                    Some(pack) => drop(self.stored.insert(id, pack)),
                    None => drop(self.deleted.insert(id)),
                }
            }
        }
    }
}

fn config() -> DriveConfig {
    let reclaim =
        ReclaimConfig { interval: Duration::from_millis(7), garbage_bytes_min: 100_000, ..ReclaimConfig::default() };
    DriveConfig { reclaim, ..small_drive() }
}

async fn live_through(seed: u64, rounds: u64, config: DriveConfig, faults: &Faults) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let disk = formatted_disk(0, 1 << 30, seed).await;
    let mut ledger = Ledger::default();
    for round in 0..rounds {
        let latency = |rng: &mut ChaCha8Rng| Duration::from_micros(rng.random_range(0..3000));
        disk.set_latency(Latency { read: latency(&mut rng), write: latency(&mut rng), sync: latency(&mut rng) });
        if rng.random_bool(0.3) {
            // A lost cache costs a scan, nothing else.
            disk.files().iter().filter(|n| n.starts_with("sum-")).for_each(|n| disk.remove_file(n));
        }
        let world = World::on(&disk, config).await;
        assert!(world.node.drives()[0].healthy, "seed {seed}: {}", world.node.drives()[0].reason);
        ledger.check(&world, round).await;
        if rng.random_bool(0.5) {
            world.reclaim().await;
            ledger.check(&world, round).await;
        }
        disk.set_faults(faults.clone());
        ledger.burst(&world, &disk, &mut rng).await;
        disk.set_faults(Faults::default());
    }
    let world = World::on(&disk, config).await;
    ledger.check(&world, rounds).await;
}

#[test]
fn acknowledged_shards_survive_power_loss_and_deleted_ones_stay_away() {
    for seed in 0..30 {
        virtual_time(live_through(seed, 12, config(), &Faults::default()));
    }
}

#[test]
fn neither_do_io_errors_before_the_power_loss_change_that() {
    let faults = Faults { sync_eio: 100_000, write_eio: 50_000, ..Faults::default() };
    for seed in 100..130 {
        virtual_time(live_through(seed, 12, config(), &faults));
    }
}

#[cfg(feature = "sabotage")]
#[test]
fn acknowledging_before_the_sync_is_found() {
    let mut config = config();
    config.sabotage.acknowledge_before_sync = true;
    let found = (0..10).any(|seed| {
        let run = std::panic::AssertUnwindSafe(|| virtual_time(live_through(seed, 6, config, &Faults::default())));
        std::panic::catch_unwind(run).is_err()
    });
    assert!(found, "ten seeds did not show that unsynced shards were acknowledged");
}

#[test]
fn a_stopped_process_loses_nothing() {
    virtual_time(async {
        let disk = formatted_disk(0, 1 << 30, 3).await;
        let world = World::on(&disk, small_drive()).await;
        let packs: Vec<TestPack> = (0..40).map(|n| test_pack(n, 70_000)).collect();
        for pack in &packs {
            world.store(pack).await.unwrap();
        }
        disk.kill();
        let world = World::on(&disk, small_drive()).await;
        for pack in &packs {
            assert_eq!(world.read_all(pack).await.unwrap(), pack.shard);
        }
    });
}

#[test]
fn a_torn_record_is_not_held_and_its_repetition_is_stored_anew() {
    virtual_time(async {
        let disk = formatted_disk(0, 1 << 30, 4).await;
        let world = World::on(&disk, small_drive()).await;
        let (whole, torn) = (test_pack(1, 100_000), test_pack(2, 100_000));
        world.store(&whole).await.unwrap();
        world.store(&torn).await.unwrap();
        disk.kill();
        // The header of the second record survived, part of its payload did not.
        let record = 4096 + u64::try_from(whole.shard.len()).unwrap();
        disk.overwrite_with_garbage("seg-0000000001", 4096 + record + 4096 + 65_536, 4096);
        let world = World::on(&disk, small_drive()).await;
        assert_eq!(world.read_all(&whole).await.unwrap(), whole.shard);
        assert_eq!(world.read_all(&torn).await.unwrap_err().code, Code::NoSuchPack);
        assert!(world.metrics.skipped_blocks.get() > 0);
        world.store(&torn).await.unwrap();
        assert_eq!(world.read_all(&torn).await.unwrap(), torn.shard);
        assert!(disk.files().contains(&"seg-0000000002".to_owned()), "the writer starts a new segment");
    });
}
