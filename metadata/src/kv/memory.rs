//! [`MetaKv`] in memory, for property tests and models. Views are copies; nothing is durable.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use super::{BatchFn, KEYS_END, KvRead, KvResult, KvTxn, MetaKv, View, Visit};

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// Rows in a map.
#[derive(Debug, Default)]
pub struct MemoryKv {
    rows: Mutex<Arc<Rows>>,
    staged: Mutex<Rows>,
}

impl MemoryKv {
    fn current(&self) -> Arc<Rows> {
        Arc::clone(&self.rows.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, rows: Rows) {
        *self.rows.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(rows);
    }
}

struct MemoryView(Arc<Rows>);

fn scan(rows: &Rows, from: &[u8], to: &[u8], visit: &mut Visit<'_>) {
    if from >= to {
        return;
    }
    for (key, value) in rows.range(from.to_vec()..to.to_vec()) {
        if let ControlFlow::Break(()) = visit(key, value) {
            return;
        }
    }
}

impl KvRead for MemoryView {
    fn get(&self, key: &[u8]) -> KvResult<Option<Vec<u8>>> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> KvResult<()> {
        scan(&self.0, from, to, visit);
        Ok(())
    }
}

struct MemoryTxn(Rows);

impl KvRead for MemoryTxn {
    fn get(&self, key: &[u8]) -> KvResult<Option<Vec<u8>>> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> KvResult<()> {
        scan(&self.0, from, to, visit);
        Ok(())
    }
}

impl KvTxn for MemoryTxn {
    fn put(&mut self, key: &[u8], value: &[u8]) -> KvResult<()> {
        self.0.insert(key.to_vec(), value.to_vec());
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> KvResult<()> {
        self.0.remove(key);
        Ok(())
    }
}

impl MetaKv for MemoryKv {
    fn view(&self) -> KvResult<View> {
        Ok(Box::new(MemoryView(self.current())))
    }

    fn write(&self, batch: &mut BatchFn<'_>) -> KvResult<()> {
        let mut txn = MemoryTxn((*self.current()).clone());
        batch(&mut txn)?;
        self.replace(txn.0);
        Ok(())
    }

    fn sync(&self) -> KvResult<()> {
        Ok(())
    }

    fn replace_all(&self, rows: &dyn KvRead) -> KvResult<()> {
        let mut all = Rows::new();
        rows.scan(&[], &KEYS_END, &mut |key, value| {
            all.insert(key.to_vec(), value.to_vec());
            ControlFlow::Continue(())
        })?;
        self.replace(all);
        Ok(())
    }

    fn clear_staged(&self) -> KvResult<()> {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(())
    }

    fn stage(&self, rows: &[(&[u8], &[u8])]) -> KvResult<()> {
        let mut staged = self.staged.lock().unwrap_or_else(PoisonError::into_inner);
        staged.extend(rows.iter().map(|(key, value)| (key.to_vec(), value.to_vec())));
        Ok(())
    }

    fn install_staged(&self, batch: &mut BatchFn<'_>) -> KvResult<()> {
        let mut staged = self.staged.lock().unwrap_or_else(PoisonError::into_inner);
        let mut txn = MemoryTxn(staged.clone());
        batch(&mut txn)?;
        self.replace(txn.0);
        staged.clear();
        Ok(())
    }

    fn close(&self) {}
}
