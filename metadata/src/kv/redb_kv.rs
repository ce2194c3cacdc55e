//! [`MetaKv`] over redb: one table holds the whole key space. Batches commit without durability;
//! [`MetaKv::sync`] commits durably, with the allocator state saved, so that opening after a crash
//! does not walk the database.

use std::ops::ControlFlow;
use std::sync::{PoisonError, RwLock};

use redb::{
    Builder, Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, StorageBackend, Table,
    TableDefinition, WriteTransaction,
};

use super::{BatchFn, KEYS_END, KvError, KvRead, KvResult, KvTxn, MetaKv, View, Visit};

const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
/// Rows of a snapshot while it is received.
const STAGED: TableDefinition<'_, &'static [u8], &'static [u8]> = TableDefinition::new("staged");

/// Rows in a redb database.
#[derive(Debug)]
pub struct RedbKv {
    db: RwLock<Option<Database>>,
}

fn engine<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> KvError {
    move |error| KvError::Engine { what, cause: error.to_string() }
}

impl RedbKv {
    /// Opens or creates the database on `backend`, caching up to `cache_bytes`.
    ///
    /// # Errors
    /// The backend failed or holds something else.
    pub fn open(backend: Box<dyn StorageBackend>, cache_bytes: usize) -> KvResult<Self> {
        let db = Builder::new()
            .set_cache_size(cache_bytes)
            .create_with_backend(crate::media::Boxed(backend))
            .map_err(engine("opening the state database"))?;
        let kv = Self { db: RwLock::new(Some(db)) };
        // The table must exist before the first view.
        kv.with_txn(Durability::Immediate, |txn| {
            txn.open_table(ROWS).map_err(engine("creating the table"))?;
            Ok(())
        })?;
        Ok(kv)
    }

    fn with_db<T>(&self, run: impl FnOnce(&Database) -> KvResult<T>) -> KvResult<T> {
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        run(db.as_ref().ok_or(KvError::Closed)?)
    }

    fn with_txn(&self, durability: Durability, run: impl FnOnce(&WriteTransaction) -> KvResult<()>) -> KvResult<()> {
        self.with_db(|db| {
            let mut txn = db.begin_write().map_err(engine("beginning a batch"))?;
            txn.set_durability(durability).map_err(engine("choosing durability"))?;
            if matches!(durability, Durability::Immediate) {
                txn.set_quick_repair(true);
            }
            run(&txn)?;
            txn.commit().map_err(engine("committing a batch"))
        })
    }
}

struct RedbView(ReadOnlyTable<&'static [u8], &'static [u8]>);

fn get(table: &impl ReadableTable<&'static [u8], &'static [u8]>, key: &[u8]) -> KvResult<Option<Vec<u8>>> {
    let guard = table.get(key).map_err(engine("reading a row"))?;
    Ok(guard.map(|guard| guard.value().to_vec()))
}

fn scan(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    from: &[u8],
    to: &[u8],
    visit: &mut Visit<'_>,
) -> KvResult<()> {
    if from >= to {
        return Ok(());
    }
    for row in table.range(from..to).map_err(engine("starting a scan"))? {
        let (key, value) = row.map_err(engine("scanning"))?;
        if let ControlFlow::Break(()) = visit(key.value(), value.value()) {
            break;
        }
    }
    Ok(())
}

impl KvRead for RedbView {
    fn get(&self, key: &[u8]) -> KvResult<Option<Vec<u8>>> {
        get(&self.0, key)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> KvResult<()> {
        scan(&self.0, from, to, visit)
    }
}

struct RedbTxn<'txn>(Table<'txn, &'static [u8], &'static [u8]>);

impl KvRead for RedbTxn<'_> {
    fn get(&self, key: &[u8]) -> KvResult<Option<Vec<u8>>> {
        get(&self.0, key)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> KvResult<()> {
        scan(&self.0, from, to, visit)
    }
}

impl KvTxn for RedbTxn<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> KvResult<()> {
        self.0.insert(key, value).map_err(engine("writing a row"))?;
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> KvResult<()> {
        self.0.remove(key).map_err(engine("removing a row"))?;
        Ok(())
    }
}

impl MetaKv for RedbKv {
    fn view(&self) -> KvResult<View> {
        self.with_db(|db| {
            let txn = db.begin_read().map_err(engine("beginning a read"))?;
            Ok(Box::new(RedbView(txn.open_table(ROWS).map_err(engine("opening the table"))?)) as View)
        })
    }

    fn write(&self, batch: &mut BatchFn<'_>) -> KvResult<()> {
        self.with_txn(Durability::None, |txn| {
            let mut table = RedbTxn(txn.open_table(ROWS).map_err(engine("opening the table"))?);
            batch(&mut table)
        })
    }

    fn sync(&self) -> KvResult<()> {
        self.with_txn(Durability::Immediate, |_| Ok(()))
    }

    fn replace_all(&self, rows: &dyn KvRead) -> KvResult<()> {
        self.with_txn(Durability::Immediate, |txn| {
            txn.delete_table(ROWS).map_err(engine("dropping the table"))?;
            let mut table = RedbTxn(txn.open_table(ROWS).map_err(engine("creating the table"))?);
            let mut failed = None;
            rows.scan(&[], &KEYS_END, &mut |key, value| match table.put(key, value) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            })?;
            failed.map_or(Ok(()), Err)
        })
    }

    fn clear_staged(&self) -> KvResult<()> {
        self.with_txn(Durability::Immediate, |txn| {
            txn.delete_table(STAGED).map_err(engine("dropping a received snapshot"))?;
            Ok(())
        })
    }

    fn stage(&self, rows: &[(&[u8], &[u8])]) -> KvResult<()> {
        self.with_txn(Durability::Immediate, |txn| {
            let mut table = txn.open_table(STAGED).map_err(engine("opening the staged table"))?;
            for (key, value) in rows {
                table.insert(*key, *value).map_err(engine("staging a row"))?;
            }
            Ok(())
        })
    }

    fn install_staged(&self, batch: &mut BatchFn<'_>) -> KvResult<()> {
        self.with_txn(Durability::Immediate, |txn| {
            // It exists also where the snapshot has no rows.
            drop(txn.open_table(STAGED).map_err(engine("opening the staged table"))?);
            txn.delete_table(ROWS).map_err(engine("dropping the table"))?;
            txn.rename_table(STAGED, ROWS).map_err(engine("swapping the tables"))?;
            let mut table = RedbTxn(txn.open_table(ROWS).map_err(engine("opening the table"))?);
            batch(&mut table)
        })
    }

    fn close(&self) {
        drop(self.db.write().unwrap_or_else(PoisonError::into_inner).take());
    }
}
