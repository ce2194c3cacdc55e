//! `stele cluster init`: a new cluster's CA, its first metadata node, and the operator's file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use stele_rpc::tls::authority::{ClusterCa, NodeKey, Validity};
use stele_rpc::tls::identity::Identity;
use stele_types::ids::{ClusterId, NodeId};
use stele_types::role::Role;
use stele_types::seam::{Clock, Rng, random_bytes};

use super::admin_file::{AdminFile, MetadataAddress};
use super::node_dir::{Member, NodeDir, Papers, check_address};

/// The first metadata node; every other id is drawn by the metadata service.
pub(crate) const FIRST_NODE: NodeId = NodeId(1);
/// Certificates of operators name no node.
const NO_NODE: NodeId = NodeId(0);
const DAY: u64 = 24 * 3600;
/// A cluster's CA outlives what it proves.
const CA_LIFETIME: Duration = Duration::from_secs(30 * 365 * DAY);
/// Node certificates are renewed long before.
pub(crate) const NODE_LIFETIME: Duration = Duration::from_secs(90 * DAY);
const ADMIN_LIFETIME: Duration = Duration::from_secs(365 * DAY);

/// Where the new cluster's things go.
#[derive(Debug)]
pub(crate) struct Init<'a> {
    /// Directory of the first metadata node.
    pub(crate) data: &'a Path,
    /// Where other nodes reach it.
    pub(crate) advertise: Vec<String>,
    /// The operator's file; by default `admin.toml` in the directory.
    pub(crate) admin_file: Option<PathBuf>,
}

/// Founds a cluster: writes, but starts nothing. Returns its id and where the operator's file is.
///
/// # Errors
/// If the directory holds a node already, or something can't be written.
pub(crate) async fn init(init: Init<'_>, clock: &dyn Clock, rng: &dyn Rng) -> anyhow::Result<(ClusterId, PathBuf)> {
    ensure!(!init.advertise.is_empty(), "say where other nodes reach this one: --advertise HOST:PORT");
    init.advertise.iter().try_for_each(|address| check_address(address))?;
    let dir = NodeDir::open(init.data).await?;
    if let Some(member) = dir.member().await? {
        bail!("{} is node {} of cluster {} already", dir.path().display(), member.node, member.cluster);
    }
    let cluster = ClusterId::from_bytes(random_bytes(rng));
    let first = Papered { cluster, node: FIRST_NODE, founded: false };
    let admin = papers_of_first(&dir, first, (init.advertise, init.admin_file), (clock, rng)).await?;
    Ok((cluster, admin))
}

/// A node that gets the papers of a new CA.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Papered {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    /// The cluster's first rows are there.
    pub(crate) founded: bool,
}

/// Makes a CA, the operator's file, and the papers of the first metadata node under it. Who the node is, is written last.
/// Returns where the operator's file is.
///
/// # Errors
/// Something can't be written.
pub(crate) async fn papers_of_first(
    dir: &NodeDir,
    first: Papered,
    (advertise, admin_file): (Vec<String>, Option<PathBuf>),
    (clock, rng): (&dyn Clock, &dyn Rng),
) -> anyhow::Result<PathBuf> {
    let Papered { cluster, node, founded } = first;
    let now = clock.unix_millis();
    let ca = ClusterCa::create(cluster, Validity { now, lifetime: CA_LIFETIME }, rng)?;
    let (certificate, key) = issue(&ca, Role::Metadata, node, Validity { now, lifetime: NODE_LIFETIME }, rng)?;
    let (admin, admin_key) = issue(&ca, Role::Admin, NO_NODE, Validity { now, lifetime: ADMIN_LIFETIME }, rng)?;
    let admin_path = admin_file.unwrap_or_else(|| dir.path().join("admin.toml"));
    let operator = AdminFile {
        cluster: cluster.to_string(),
        metadata: vec![MetadataAddress { node: node.0, addresses: advertise.clone() }],
        ca: ca.certificate_pem().to_owned(),
        certificate: admin,
        key: admin_key,
    };
    operator.write(&admin_path).context("choose another with --admin-file")?;
    let member = Member {
        cluster,
        node,
        role: Role::Metadata,
        advertise: advertise.clone(),
        metadata: BTreeMap::from([(node, advertise)]),
        founded,
    };
    let papers = Papers {
        issued: now,
        ca_pem: ca.certificate_pem().to_owned(),
        certificate_pem: certificate,
        key_pem: key,
        ca_key_pem: Some(ca.key_pem()),
    };
    dir.found(&member, &papers).await?;
    Ok(admin_path)
}

/// A new key and its certificate, as text.
fn issue(
    ca: &ClusterCa,
    role: Role,
    node: NodeId,
    validity: Validity,
    rng: &dyn Rng,
) -> anyhow::Result<(String, String)> {
    let key = NodeKey::generate()?;
    let identity = Identity { cluster: ca.cluster(), role, node };
    Ok((ca.issue(identity, &key.signing_request()?, validity, rng)?, key.key_pem()))
}
