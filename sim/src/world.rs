//! The cluster of a run: devices that outlive power losses, and the processes of the phase at hand.
//!
//! A process that dies is unbound from the network and its devices' handles fail; its tasks stay until
//! the phase ends, but reach nothing any more. See `boot.rs` for how processes start.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stele_metadata::MetadataNode;
use stele_metadata::model_disk::ModelDisk as MetaDisk;
use stele_rpc::client::MetaClient;
use stele_rpc::transport::SharedTransport;
use stele_storage_node::media::model::{Faults, ModelDisk};
use stele_storage_node::node::StorageNode;
use stele_types::ids::{ClusterId, DriveId, NodeId};
use stele_types::seam::random_bytes;
use tokio::sync::watch;

use crate::anchors::AnchorDisk;
use crate::env::Env;
use crate::faults::DRIVE_BYTES;
use crate::net::{Alive, SimNet};
use crate::plan::Plan;
use crate::runtime::NodeClock;
use crate::sabotage::Sabotage;
use crate::seed::SimRng;
use crate::topology::{OPERATOR, Topology, gateway_node, storage_node, voter_node};

/// A process that serves requests.
#[derive(Debug)]
pub(crate) struct Running<T> {
    pub(crate) service: Arc<T>,
    pub(crate) alive: Alive,
}

/// What a metadata place has besides its process.
#[derive(Clone, Debug)]
pub(crate) struct Voter {
    pub(crate) node: NodeId,
    pub(crate) disk: MetaDisk,
    pub(crate) clock: Arc<NodeClock>,
}

/// Processes of the phase at hand.
#[derive(Debug, Default)]
pub(crate) struct Processes {
    pub(crate) net: Option<Arc<SimNet>>,
    pub(crate) voters: BTreeMap<usize, Running<MetadataNode>>,
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
    /// Disk and node of each metadata place; a wiped one gets others.
    voters: Mutex<Vec<Voter>>,
    pub(crate) cluster: ClusterId,
    #[cfg_attr(not(feature = "sabotage"), expect(dead_code, reason = "read where sabotage is compiled in"))]
    pub(crate) sabotage: Option<Sabotage>,
    operator_alive: Alive,
    anchor_disks: Vec<AnchorDisk>,
    processes: Mutex<Processes>,
}

impl World {
    /// Devices without a cluster on them; the first boot founds it.
    pub fn new(rng: &SimRng, plan: Plan, env: Arc<Env>, sabotage: Option<Sabotage>) -> Arc<Self> {
        let ids = rng.stream("identities");
        let drives = plan.topology.drives;
        let voter = |place: usize| Voter {
            node: voter_node(place),
            disk: MetaDisk::new(rng.stream(&format!("metadata disk {place}")).number()),
            clock: Arc::new(NodeClock::new(Arc::clone(&env.clock))),
        };
        let drive = |index: usize| {
            ModelDisk::new(format!("drive-{index}"), DRIVE_BYTES, rng.stream(&format!("drive {index}")).number())
        };
        Arc::new(Self {
            drives: (0..drives).map(drive).collect(),
            drive_ids: (0..drives).map(|_| DriveId::from_bytes(random_bytes(&ids))).collect(),
            voters: Mutex::new((0..plan.topology.voters).map(voter).collect()),
            cluster: ClusterId::from_bytes(random_bytes(&ids)),
            rng: rng.stream("world"),
            operator_alive: Arc::new(AtomicBool::new(true)),
            anchor_disks: vec![AnchorDisk::default(), AnchorDisk::default()],
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

    pub(crate) fn topology(&self) -> &Topology {
        &self.plan.topology
    }

    pub(crate) fn voters(&self) -> MutexGuard<'_, Vec<Voter>> {
        self.voters.lock().unwrap_or_else(PoisonError::into_inner)
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
        MetaClient::new(self.operator_transport(), self.meta_nodes())
    }

    pub(crate) fn operator_transport(&self) -> SharedTransport {
        self.net().transport(OPERATOR, Arc::clone(&self.operator_alive))
    }

    /// Every process is gone and every device has lost what it had not synced.
    pub fn power_loss(&self) {
        for drive in &self.drives {
            drive.crash();
            // A read error that nobody has met yet would take this drive away at the next start, while as
            // many as the scheme may lose are gone already.
            drive.set_faults(Faults::default());
        }
        self.voters().iter().for_each(|voter| voter.disk.crash());
        *self.processes() = Processes::default();
    }

    /// Takes drives away for the last phase, up to as many as may be lost.
    pub fn take_drives_away(&self) {
        for drive in &self.plan.taken_away {
            self.env.trace.line(format_args!("drive {drive} is taken away"));
            self.drives[*drive].set_dead(true);
        }
    }

    /// The disk of an anchor.
    pub(crate) fn anchor_disk(&self, at: usize) -> AnchorDisk {
        self.anchor_disks.get(at).cloned().unwrap_or_default()
    }

    pub(crate) fn lose_drive(&self, drive: usize) {
        self.drives[drive].set_dead(true);
    }

    /// The drives of a storage node.
    pub(crate) fn drives_of(&self, node: usize) -> Vec<usize> {
        (0..self.topology().drives).filter(|drive| self.topology().node_of(*drive) == node).collect()
    }

    /// False if it was down already.
    pub(crate) fn kill_gateway(&self, place: usize) -> bool {
        self.env.gateways.set(place, None);
        let gateway = self.processes().gateways.get_mut(place).and_then(Option::take);
        let Some((alive, killed)) = gateway else { return false };
        alive.store(false, Ordering::Relaxed);
        self.net().unbind(gateway_node(place));
        killed.send_replace(true);
        true
    }

    /// False if it was down already.
    pub(crate) fn kill_storage(&self, node: usize) -> bool {
        self.net().unbind(storage_node(node));
        let running = self.processes().storage.get_mut(node).and_then(Option::take);
        let ran = running.is_some();
        if let Some(running) = running {
            running.alive.store(false, Ordering::Relaxed);
        }
        for drive in self.drives_of(node) {
            self.drives[drive].kill();
        }
        ran
    }
}
