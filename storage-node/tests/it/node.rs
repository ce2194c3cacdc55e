//! What a node answers and refuses, on model drives and on real directories with threads.

use std::sync::Arc;

use bytes::Bytes;
use stele_rpc::error::Code;
use stele_rpc::storage::{PgRef, StorageReply, StorageRequest};
use stele_storage_node::exec::Executor;
use stele_storage_node::identity::{DriveIdentity, format};
use stele_storage_node::media::Media;
use stele_storage_node::media::file::{DirectIo, FileMedia};
use stele_types::ids::{Epoch, PgEpoch, PgId};

use crate::world::{CLUSTER, World, drive_id, formatted_disk, small_drive, test_pack, test_pack_at, virtual_time};

#[test]
fn stores_with_an_old_map_get_the_newer_row() {
    virtual_time(async {
        let disk = formatted_disk(0, 1 << 30, 1).await;
        let world = World::on(&disk, small_drive()).await;
        let pack = test_pack(1, 1000);
        let send = |pg: u32, epoch: u64, drive: u8| {
            let StorageRequest::StoreShard { pack, preimage, encoding, shard, .. } = World::store_request(0, &pack)
            else {
                panic!("a store")
            };
            let pg = PgRef { pg: PgId(pg), epoch: PgEpoch(epoch) };
            StorageRequest::StoreShard { drive: drive_id(drive), pg, pack, preimage, encoding, shard }
        };
        let stale = world.ask(send(0, 2, 0), pack.shard.clone()).await.unwrap_err();
        assert_eq!((stale.code, stale.newer_pg.map(|row| row.epoch)), (Code::StalePg, Some(PgEpoch(3))));
        let unknown = world.ask(send(9, 3, 0), pack.shard.clone()).await.unwrap_err();
        assert_eq!(unknown.code, Code::StalePg);
        let elsewhere = world.ask(send(0, 3, 5), pack.shard.clone()).await.unwrap_err();
        assert_eq!(elsewhere.code, Code::NoSuchDrive);
        world.ask(send(0, 3, 0), pack.shard.clone()).await.unwrap();
    });
}

#[test]
fn a_drive_takes_only_shards_of_its_slot() {
    virtual_time(async {
        let (one, two) = (formatted_disk(0, 1 << 30, 1).await, formatted_disk(1, 1 << 30, 2).await);
        let world = World::open(vec![one.media(), two.media()], small_drive(), Executor::Tasks).await;
        let pack = test_pack(1, 1000);
        let StorageRequest::StoreShard { pg, preimage, encoding, .. } = World::store_request(0, &pack) else {
            panic!("a store")
        };
        let wrong = StorageRequest::StoreShard { drive: drive_id(1), pg, pack: pack.id, preimage, encoding, shard: 0 };
        assert_eq!(world.ask(wrong, pack.shard.clone()).await.unwrap_err().code, Code::Malformed);
    });
}

#[test]
fn lies_about_a_pack_are_refused() {
    virtual_time(async {
        let disk = formatted_disk(0, 1 << 30, 1).await;
        let world = World::on(&disk, small_drive()).await;
        let good = test_pack(1, 1000);
        let mut other_id = good.clone();
        other_id.id = test_pack(2, 1000).id;
        let mut short = good.clone();
        short.shard = short.shard.slice(..8192);
        let mut other_bytes = good.clone();
        other_bytes.shard = Bytes::from(vec![1; good.shard.len()]);
        let mut no_root = good.clone();
        no_root.encoding.roots.clear();
        let mut endless = good.clone();
        endless.preimage.payload_len = u32::MAX;
        for lie in [other_id, short, other_bytes, no_root, endless] {
            assert_eq!(world.store(&lie).await.unwrap_err().code, Code::Malformed);
        }
        assert_eq!(world.inventory().await, vec![]);
    });
}

#[test]
fn repeating_a_store_is_harmless_and_costs_nothing() {
    virtual_time(async {
        let disk = formatted_disk(0, 1 << 30, 1).await;
        let world = World::on(&disk, small_drive()).await;
        let pack = test_pack(1, 1000);
        let twice = futures::future::join_all([world.store(&pack), world.store(&pack)]).await;
        assert!(twice.iter().all(Result::is_ok));
        world.store(&pack).await.unwrap();
        assert_eq!(world.metrics.stores.get(), 1);
        assert_eq!(world.inventory().await.len(), 1);
    });
}

#[test]
fn ranges_are_exact_and_bounded() {
    virtual_time(async {
        let disk = formatted_disk(0, 1 << 30, 1).await;
        let world = World::on(&disk, small_drive()).await;
        let pack = test_pack(1, 900_000);
        world.store(&pack).await.unwrap();
        let len = pack.shard.len();
        for (offset, want) in
            [(0, 1), (65_535, 2), (0, len), (len - 1, 1), (131_072, 65_536), (70_000, 500_000), (len, 0)]
        {
            let bytes = world.read(&pack, offset, want).await.unwrap();
            assert_eq!(bytes, pack.shard.slice(offset..offset + want), "{offset}+{want}");
        }
        let before = disk.traffic().read_bytes;
        world.read(&pack, 400_000, 10).await.unwrap();
        assert!(disk.traffic().read_bytes - before <= 65_536 + 4096, "one CRC block and the header");
        assert_eq!(world.read(&pack, len, 1).await.unwrap_err().code, Code::Malformed);
        assert_eq!(world.read(&test_pack(2, 10), 0, 1).await.unwrap_err().code, Code::NoSuchPack);
    });
}

#[test]
fn sweeping_needs_a_verdict_and_respects_the_fence() {
    virtual_time(async {
        let disk = formatted_disk(0, 1 << 30, 1).await;
        let world = World::on(&disk, small_drive()).await;
        let (old, new) = (test_pack_at(1, 1000, Epoch(5)), test_pack_at(2, 1000, Epoch(7)));
        for pack in [&old, &new] {
            world.store(pack).await.unwrap();
        }
        assert_eq!(world.delete(vec![old.id]).await.unwrap(), vec![], "not condemned");
        assert_eq!(world.condemn(Epoch(6), vec![old.id, new.id]).await.unwrap(), vec![old.id]);
        assert_eq!(world.condemn(Epoch(9), vec![old.id]).await.unwrap(), vec![old.id]);
        let row = world.inventory().await.into_iter().find(|r| r.pack == old.id).unwrap();
        assert_eq!(row.condemned, Some(Epoch(6)), "the first verdict counts");
        world.pardon(vec![old.id]).await.unwrap();
        assert_eq!(world.delete(vec![old.id]).await.unwrap(), vec![], "pardoned");
        world.condemn(Epoch(6), vec![old.id]).await.unwrap();
        assert_eq!(world.delete(vec![old.id, new.id]).await.unwrap(), vec![old.id]);
        assert_eq!(world.read_all(&old).await.unwrap_err().code, Code::NoSuchPack);
        assert_eq!(world.read_all(&new).await.unwrap(), new.shard);
    });
}

#[test]
fn real_directories_with_threads_keep_and_rebuild_everything() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        for direct in [DirectIo::Auto, DirectIo::Never] {
            let dir = tempfile::tempdir().unwrap();
            let media = || -> Arc<dyn Media> { Arc::new(FileMedia::new(dir.path(), direct)) };
            format(&*media(), DriveIdentity { drive: drive_id(0), cluster: CLUSTER }).await.unwrap();
            let world = Arc::new(World::open(vec![media()], small_drive(), Executor::Threads).await);
            let packs: Vec<_> = (0..64).map(|n| test_pack(n, 3000 * usize::try_from(n).unwrap() + 1)).collect();
            let mut tasks = tokio::task::JoinSet::new();
            for pack in packs.clone() {
                let world = Arc::clone(&world);
                tasks.spawn(async move { world.store(&pack).await });
            }
            assert!(tasks.join_all().await.into_iter().all(|r| r.is_ok()));
            assert!(world.metrics.fsyncs.get() < 64, "{} syncs for 64 stores at once", world.metrics.fsyncs.get());
            let gone: Vec<_> = packs[..32].iter().map(|p| p.id).collect();
            assert_eq!(world.destroy(gone.clone()).await.unwrap(), gone);
            world.reclaim().await;
            for lose_caches in [false, true] {
                world.node.close().await;
                if lose_caches {
                    remove_summaries(&*media()).await;
                }
                let world = World::open(vec![media()], small_drive(), Executor::Threads).await;
                assert_eq!(world.inventory().await.len(), 32, "{:?}", world.node.drives());
                for pack in &packs[32..] {
                    assert_eq!(world.read_all(pack).await.unwrap(), pack.shard);
                }
                assert!(matches!(
                    world.ask(StorageRequest::Drives, Bytes::new()).await,
                    Ok((StorageReply::Drives(d), _)) if d.len() == 1 && d[0].healthy
                ));
                world.node.close().await;
            }
        }
    });
}

async fn remove_summaries(media: &dyn Media) {
    media.lock().await.unwrap();
    for name in media.list().await.unwrap().iter().filter(|n| n.starts_with("sum-")) {
        media.remove(name).await.unwrap();
    }
}
