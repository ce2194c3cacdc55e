//! The cluster of a run: devices that outlive power losses, and the processes of the phase at hand.
//!
//! A process that dies is unbound from the network and its devices' handles fail; its tasks stay until
//! the phase ends, but reach nothing any more. See `boot.rs` for how processes start.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stele_metadata::MetadataNode;
use stele_metadata::model_disk::ModelDisk as MetaDisk;
use stele_rpc::client::MetaClient;
use stele_storage_node::media::model::{Faults, ModelDisk};
use stele_storage_node::node::StorageNode;
use stele_types::ids::{ClusterId, DriveId, NodeId};
use stele_types::seam::random_bytes;
use tokio::sync::watch;

use crate::env::Env;
use crate::faults::DRIVE_BYTES;
use crate::net::{Alive, SimNet};
use crate::plan::{DRIVES, Plan, STORAGE_NODES};
use crate::sabotage::Sabotage;
use crate::seed::SimRng;

/// The metadata service.
pub const METADATA: NodeId = NodeId(1);
/// Sweeps, set-up and checks.
pub const OPERATOR: NodeId = NodeId(2);

/// The node of a storage process.
pub fn storage_node(index: usize) -> NodeId {
    NodeId(10 + index as u64)
}

/// The node of a gateway.
pub fn gateway_node(place: usize) -> NodeId {
    NodeId(20 + place as u64)
}

/// The storage node that serves a drive.
pub fn node_of_drive(drive: usize) -> usize {
    drive % STORAGE_NODES
}

/// A process that serves requests.
#[derive(Debug)]
pub(crate) struct Running<T> {
    pub(crate) service: Arc<T>,
    pub(crate) alive: Alive,
}

/// Processes of the phase at hand.
#[derive(Debug, Default)]
pub(crate) struct Processes {
    pub(crate) net: Option<Arc<SimNet>>,
    pub(crate) metadata: Option<Running<MetadataNode>>,
    pub(crate) storage: Vec<Option<Running<StorageNode>>>,
    pub(crate) gateways: Vec<Option<(Alive, watch::Sender<bool>)>>,
}

/// The cluster.
#[derive(Debug)]
pub struct World {
    plan: Plan,
    rng: SimRng,
    env: Arc<Env>,
    drives: Vec<ModelDisk>,
    pub(crate) drive_ids: Vec<DriveId>,
    pub(crate) meta_disk: MetaDisk,
    pub(crate) cluster: ClusterId,
    #[cfg_attr(not(feature = "sabotage"), expect(dead_code, reason = "read where sabotage is compiled in"))]
    pub(crate) sabotage: Option<Sabotage>,
    processes: Mutex<Processes>,
}

impl World {
    /// Devices without a cluster on them; the first boot founds it.
    pub fn new(rng: &SimRng, plan: Plan, env: Arc<Env>, sabotage: Option<Sabotage>) -> Arc<Self> {
        let ids = rng.stream("identities");
        let drive = |index: usize| {
            ModelDisk::new(format!("drive-{index}"), DRIVE_BYTES, rng.stream(&format!("drive {index}")).number())
        };
        Arc::new(Self {
            drives: (0..DRIVES).map(drive).collect(),
            drive_ids: (0..DRIVES).map(|_| DriveId::from_bytes(random_bytes(&ids))).collect(),
            meta_disk: MetaDisk::new(rng.stream("metadata disk").number()),
            cluster: ClusterId::from_bytes(random_bytes(&ids)),
            rng: rng.stream("world"),
            processes: Mutex::default(),
            plan,
            env,
            sabotage,
        })
    }

    /// What the seed decided.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(crate) fn env(&self) -> &Arc<Env> {
        &self.env
    }

    pub(crate) fn rng(&self) -> &SimRng {
        &self.rng
    }

    pub(crate) fn drive(&self, index: usize) -> &ModelDisk {
        &self.drives[index]
    }

    pub(crate) fn processes(&self) -> MutexGuard<'_, Processes> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The network of this phase.
    pub fn net(&self) -> Arc<SimNet> {
        self.processes().net.clone().expect("boot makes the network before anything asks for it")
    }

    /// Something that is not part of the cluster's processes talks to the metadata service.
    pub(crate) fn operator(&self) -> MetaClient {
        MetaClient::new(self.net().transport(OPERATOR, Arc::new(AtomicBool::new(true))), METADATA)
    }

    /// Every process is gone and every device has lost what it had not synced.
    pub fn power_loss(&self) {
        for drive in &self.drives {
            drive.crash();
            // A read error that nobody has met yet would take this drive away at the next start, while as
            // many as the scheme may lose are gone already.
            drive.set_faults(Faults::default());
        }
        self.meta_disk.crash();
        *self.processes() = Processes::default();
    }

    /// Takes drives away for the last phase, up to as many as may be lost.
    pub fn take_drives_away(&self) {
        for drive in &self.plan.taken_away {
            self.env.trace.line(format_args!("drive {drive} is taken away"));
            self.drives[*drive].set_dead(true);
        }
    }

    pub(crate) fn lose_drive(&self, drive: usize) {
        self.drives[drive].set_dead(true);
    }

    pub(crate) fn kill_gateway(&self, place: usize) {
        self.env.gateways.set(place, None);
        let gateway = self.processes().gateways.get_mut(place).and_then(Option::take);
        if let Some((alive, killed)) = gateway {
            alive.store(false, Ordering::Relaxed);
            killed.send_replace(true);
        }
    }

    pub(crate) fn kill_storage(&self, node: usize) {
        self.net().unbind(storage_node(node));
        let running = self.processes().storage.get_mut(node).and_then(Option::take);
        if let Some(running) = running {
            running.alive.store(false, Ordering::Relaxed);
        }
        for drive in (0..DRIVES).filter(|drive| node_of_drive(*drive) == node) {
            self.drives[drive].kill();
        }
    }

    /// The machine of the metadata service loses power. False if it was down already.
    pub(crate) fn kill_metadata(&self) -> bool {
        let Some(running) = self.processes().metadata.take() else { return false };
        self.net().unbind(METADATA);
        self.meta_disk.crash();
        running.alive.store(false, Ordering::Relaxed);
        // Its media are dead already, so that nothing it still does is kept.
        tokio::spawn(async move { running.service.abandon().await });
        true
    }
}
