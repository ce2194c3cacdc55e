//! One suite for both stores.

use std::ops::ControlFlow;

use super::*;
use crate::model_disk::ModelDisk;

fn all(rows: &(impl KvRead + ?Sized)) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut out = Vec::new();
    rows.scan(&[], &KEYS_END, &mut |key, value| {
        out.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    })
    .unwrap();
    out
}

fn suite(kv: &dyn MetaKv) {
    kv.write(&mut |txn| {
        for key in [&b"b"[..], b"a", b"c", b"a\0"] {
            txn.put(key, key)?;
        }
        txn.delete(b"missing")?;
        txn.put(b"b", b"2")?;
        assert_eq!(txn.get(b"b")?, Some(b"2".to_vec()), "a batch sees its own writes");
        txn.delete(b"c")?;
        assert_eq!(txn.get(b"c")?, None);
        assert_eq!(all(txn).len(), 3);
        Ok(())
    })
    .unwrap();
    let before = kv.view().unwrap();
    assert_eq!(all(&*before).into_iter().map(|(key, _)| key).collect::<Vec<_>>(), [&b"a"[..], b"a\0", b"b"]);
    let failed = kv.write(&mut |txn| {
        txn.put(b"z", b"z")?;
        Err(KvError::Closed)
    });
    assert!(failed.is_err());
    assert_eq!(kv.view().unwrap().get(b"z").unwrap(), None, "a failed batch leaves nothing");
    kv.write(&mut |txn| txn.put(b"d", b"d")).unwrap();
    assert_eq!(all(&*before).len(), 3, "a view outlives later writes");
    let mut seen = Vec::new();
    kv.view()
        .unwrap()
        .scan(b"a\0", b"d", &mut |key, _| {
            seen.push(key.to_vec());
            if seen.len() < 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
        .unwrap();
    assert_eq!(seen, [&b"a\0"[..], b"b"], "from is included, to is not, breaking stops");
    kv.view().unwrap().scan(b"z", b"a", &mut |_, _| panic!("nothing lies between")).unwrap();
    kv.replace_all(&*before).unwrap();
    assert_eq!(all(&*kv.view().unwrap()), all(&*before));
    kv.sync().unwrap();
}

#[test]
fn memory_passes_the_suite() {
    suite(&MemoryKv::default());
}

#[test]
fn redb_passes_the_suite_and_keeps_what_was_synced() {
    let disk = ModelDisk::new(1);
    let kv = RedbKv::open(Box::new(disk.file("state")), 1 << 20).unwrap();
    suite(&kv);
    kv.write(&mut |txn| txn.put(b"unsynced", b"")).unwrap();
    let expected = all(&*kv.view().unwrap());
    disk.crash();
    drop(kv);
    let kv = RedbKv::open(Box::new(disk.file("state")), 1 << 20).unwrap();
    let left = all(&*kv.view().unwrap());
    assert!(left == expected[..expected.len() - 1] || left == expected, "all batches up to some point");
    assert!(left.len() >= 3);
    kv.close();
    assert!(matches!(kv.view(), Err(KvError::Closed)));
}

#[test]
fn redb_loses_only_a_suffix_of_batches() {
    for seed in 0..20 {
        let disk = ModelDisk::new(seed);
        let kv = RedbKv::open(Box::new(disk.file("state")), 1 << 20).unwrap();
        let synced = 10 + seed;
        for n in 0..40u64 {
            kv.write(&mut |txn| txn.put(&n.to_be_bytes(), &[7; 900])).unwrap();
            if n + 1 == synced {
                kv.sync().unwrap();
            }
        }
        disk.crash();
        drop(kv);
        let kv = RedbKv::open(Box::new(disk.file("state")), 1 << 20).unwrap();
        let left: Vec<u64> = all(&*kv.view().unwrap())
            .iter()
            .map(|(key, _)| u64::from_be_bytes(key.as_slice().try_into().unwrap()))
            .collect();
        let expected: Vec<u64> = (0..left.len() as u64).collect();
        assert_eq!(left, expected, "seed {seed}: no holes");
        assert!(left.len() as u64 >= synced, "seed {seed}: synced batches stay");
    }
}
