//! Where to dial each node: replaceable while the process runs, resolved at each dial.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use stele_types::ids::NodeId;

/// Node id -> addresses as `host:port`, tried in order. Clones share one table.
#[derive(Clone, Debug, Default)]
pub struct AddressBook {
    table: Arc<ArcSwap<BTreeMap<NodeId, Vec<String>>>>,
}

impl AddressBook {
    /// A book with these entries.
    pub fn new(table: BTreeMap<NodeId, Vec<String>>) -> Self {
        let book = Self::default();
        book.replace(table);
        book
    }

    /// Replaces all entries. Connections that live are kept; the next dial uses the new addresses.
    pub fn replace(&self, table: BTreeMap<NodeId, Vec<String>>) {
        self.table.store(Arc::new(table));
    }

    /// Sets the addresses of one node.
    pub fn set(&self, node: NodeId, addresses: Vec<String>) {
        self.table.rcu(|table| {
            let mut table = BTreeMap::clone(table);
            table.insert(node, addresses.clone());
            table
        });
    }

    /// The addresses of one node; none if it is unknown.
    pub fn addresses(&self, node: NodeId) -> Vec<String> {
        self.table.load().get(&node).cloned().unwrap_or_default()
    }
}
