//! Sweeps that run beside the clients all the time, with next to no grace.

use std::sync::Arc;
use std::time::Duration;

use stele_rpc::client::{MetaClient, StorageClient};
use stele_storage_node::sweep::{SweepConfig, SweepWorker};

use crate::world::World;

impl World {
    pub(crate) fn start_sweeps(self: &Arc<Self>) {
        let transport = self.operator_transport();
        let config = SweepConfig {
            grace: Duration::from_millis(self.rng().below(800)),
            page: u32::try_from(self.rng().between(1, 12)).unwrap_or(12),
            timeout: Duration::from_millis(1500),
            deletes_per_second: 200,
            sabotage: self.drive_sabotage(),
        };
        let meta = MetaClient::new(Arc::clone(&transport), self.meta_nodes());
        let clock = Arc::clone(&self.env().clock);
        let worker = SweepWorker::new(meta, StorageClient::new(transport), clock, config);
        let trace = self.env().trace.clone();
        tokio::spawn(worker.run(
            self.plan().sweep_every,
            || true,
            move |report| match report {
                Ok(report) => trace.line(format_args!("{report:?}")),
                Err(error) => trace.line(format_args!("no sweep: {error}")),
            },
        ));
    }
}
