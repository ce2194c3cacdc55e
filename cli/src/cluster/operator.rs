//! What an operator does to a cluster from anywhere, with the file that `stele cluster init` wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use stele_rpc::client::{MetaClient, unexpected};
use stele_rpc::join::token::{ADDRESSES_MAX, JoinToken};
use stele_rpc::meta::{
    BackupCommand, BackupMade, BackupState, Command, Committed, Compared, GcStatus, LogCommand, MetaReply, MetaRequest,
    RestoreVersion, TrashCommand, TrashPage, TrashQuery,
};
use stele_rpc::quic::config::QuicConfig;
use stele_rpc::storage::DriveStatus;
use stele_rpc::tls::authority::fingerprint_of_pem;
use stele_types::ids::{BucketId, NodeId};
use stele_types::map::{ClusterMap, NodeRow, NodeState};
use stele_types::role::Role;
use stele_types::scheme::Scheme;
use stele_types::seam::random_bytes;

use super::admin_file::{AdminFile, MetadataAddress};
use super::metadata::OPERATOR;
use super::plan::Prospect;
use super::wire::Wire;
use crate::admin::view::{View, gc_status};
use crate::dev::watch::{cluster_command, cluster_map};
use crate::real::{OsRng, RealClock};
use crate::status_command;

const TIMEOUT: Duration = Duration::from_secs(10);
/// Between two looks at a cluster that is waited for.
const PAUSE: Duration = Duration::from_millis(500);

/// A connection of an operator.
pub(crate) struct Operator {
    file: AdminFile,
    path: PathBuf,
    wire: Wire,
    meta: MetaClient,
}

impl Operator {
    /// Reads the file and gets ready to ask. Dials nobody yet.
    ///
    /// # Errors
    /// The file is unusable.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let file = AdminFile::read(path)?;
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let credentials = file.credentials().context("the admin file")?;
        let mtu_cap = QuicConfig::default().mtu_cap;
        let wire = Wire::open(any, mtu_cap, credentials, Arc::new(RealClock::new()), Arc::new(OsRng))?;
        let nodes: BTreeMap<NodeId, Vec<String>> =
            file.metadata.iter().map(|one| (NodeId(one.node), one.addresses.clone())).collect();
        let meta = MetaClient::new(wire.transport(), nodes.keys().copied().collect::<Vec<_>>());
        wire.book.replace(nodes);
        Ok(Self { file, path: path.to_owned(), wire, meta })
    }

    /// The map, and with it where every node is: the file knows only the first ones.
    async fn map(&self) -> anyhow::Result<ClusterMap> {
        let asked =
            self.file.metadata.iter().flat_map(|one| one.addresses.iter()).cloned().collect::<Vec<_>>().join(", ");
        let first = self.file.metadata.iter().map(|one| NodeId(one.node));
        self.wire.ask_for_peers(&self.meta, first).await;
        let map = cluster_map(&self.meta).await;
        let map = map.with_context(|| format!("no metadata node answers at {asked}"))?;
        let known = map.metadata_nodes();
        if !known.is_empty() {
            self.wire.book.replace(map.nodes.iter().map(|node| (node.id, node.addresses.clone())).collect());
            self.meta.set_nodes(known.iter().map(|(node, _)| *node).collect::<Vec<_>>());
            self.remember(known);
        }
        Ok(map)
    }

    /// Keeps the file up to date, so that it outlives the nodes it was made with.
    fn remember(&self, known: Vec<(NodeId, Vec<String>)>) {
        let one = |(node, addresses): (NodeId, Vec<String>)| MetadataAddress { node: node.0, addresses };
        let metadata: Vec<MetadataAddress> = known.into_iter().map(one).collect();
        if metadata == self.file.metadata {
            return;
        }
        if let Err(error) = (AdminFile { metadata, ..self.file.clone() }).replace(&self.path) {
            tracing::warn!("the admin file still names old metadata nodes: {error:#}");
        }
    }

    async fn command(&self, command: Command) -> anyhow::Result<MetaReply> {
        Ok(self.meta.command(cluster_command(command, OPERATOR), TIMEOUT).await?)
    }

    /// Makes a join token for one node and returns its text.
    ///
    /// # Errors
    /// The cluster does not answer, or has too many tokens.
    pub(crate) async fn token(&self, role: Role, ttl: Duration) -> anyhow::Result<String> {
        ensure!(role != Role::Admin, "operators do not join: copy the admin file, or make another cluster's");
        let map = self.map().await?;
        let addresses: Vec<String> =
            map.metadata_nodes().into_iter().flat_map(|(_, at)| at).take(ADDRESSES_MAX).collect();
        let (id, secret) = (random_bytes(&OsRng), random_bytes(&OsRng));
        let ca = fingerprint_of_pem(&self.file.ca)?;
        let secret_hash = *blake3::hash(&secret).as_bytes();
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        self.command(Command::CreateJoinToken { id, secret_hash, role, ttl_ms }).await?;
        Ok(JoinToken { addresses, ca, id, secret }.print()?)
    }

    /// Tokens that may still be used: id, role, milliseconds since 1970 when each expires.
    ///
    /// # Errors
    /// The cluster does not answer.
    pub(crate) async fn tokens(&self) -> anyhow::Result<Vec<(String, Role, u64)>> {
        self.map().await?;
        match self.meta.call(MetaRequest::JoinTokens, TIMEOUT).await? {
            MetaReply::JoinTokens(rows) => {
                let open = rows.into_iter().filter(|row| row.used.is_none());
                Ok(open.map(|row| (hex::encode(row.id), row.role, row.expires)).collect())
            }
            _ => bail!(unexpected("to JoinTokens")),
        }
    }

    /// Drops a join token.
    ///
    /// # Errors
    /// The cluster does not answer, or the id is none.
    pub(crate) async fn revoke(&self, id: &str) -> anyhow::Result<()> {
        let bytes = hex::decode(id).ok().and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
        let id = bytes.with_context(|| format!("{id:?} is no token id: stele cluster tokens lists them"))?;
        self.map().await?;
        self.command(Command::RevokeJoinToken { id }).await.map(drop)
    }

    /// Waits until `nodes` storage nodes are there, then computes placement groups for their drives. Returns how
    /// many groups there are then, and of which scheme the newest are.
    ///
    /// # Errors
    /// There are too few drives.
    pub(crate) async fn place(&self, scheme: Option<Scheme>, nodes: usize) -> anyhow::Result<(usize, String)> {
        loop {
            let map = self.map().await?;
            let active = |node: &&NodeRow| node.role == Role::StorageNode && node.state == NodeState::Active;
            if map.nodes.iter().filter(active).count() >= nodes {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.command(Command::PlanPlacement { scheme }).await?;
        let map = self.map().await?;
        Ok((map.pgs.len(), map.pgs.last().map(|pg| pg.scheme.to_string()).unwrap_or_default()))
    }

    /// Removes a node for good.
    ///
    /// # Errors
    /// It still holds data, is the leader, or is unknown.
    pub(crate) async fn remove(&self, node: NodeId) -> anyhow::Result<()> {
        let map = self.map().await?;
        let row = map.node(node).with_context(|| format!("node {node} is not part of this cluster"))?;
        let voters = map.nodes.iter().filter(|n| n.role == Role::Metadata && n.state == NodeState::Active).count();
        ensure!(row.role != Role::Metadata || voters > 1, "node {node} is the only metadata node: add another first");
        self.command(Command::SetNodeState { node, state: NodeState::Removed }).await.map(drop)
    }

    /// The map, and what every storage node that answers says of its drives.
    ///
    /// # Errors
    /// No metadata node answers.
    pub(crate) async fn holdings(&self) -> anyhow::Result<(ClusterMap, Vec<DriveStatus>)> {
        let map = self.map().await?;
        let (drives, _silent) = View::of_node(&self.meta, &self.wire, None).drives(&map).await;
        Ok((map, drives))
    }

    /// Begins to move everything off storage nodes.
    ///
    /// # Errors
    /// It would break the scheme, or overfill drives; or fewer racks or zones could be lost, unless that is agreed to.
    pub(crate) async fn drain(&self, nodes: &BTreeSet<NodeId>, lower_tolerance: bool) -> anyhow::Result<()> {
        let (map, drives) = self.holdings().await?;
        let prospect = Prospect::drain(&map, &drives, nodes)?;
        if let Some(why) = prospect.refusal() {
            bail!("nothing was changed: {why}");
        }
        if let Some(lower) = prospect.lower().filter(|_| !lower_tolerance) {
            bail!("nothing was changed: {lower}; say --lower-tolerance if you agree");
        }
        for node in nodes {
            self.set_node_state(*node, NodeState::Draining).await?;
        }
        Ok(())
    }

    /// Waits until nodes are drained, and tells on stderr what is left.
    ///
    /// # Errors
    /// The cluster does not answer, or somebody took a node back into use.
    pub(crate) async fn wait_drained(&self, nodes: &BTreeSet<NodeId>) -> anyhow::Result<()> {
        let mut told = None;
        loop {
            let map = self.map().await?;
            let state = |node: &NodeId| map.node(*node).map(|row| row.state);
            if nodes.iter().all(|node| matches!(state(node), Some(NodeState::Drained | NodeState::Removed))) {
                return Ok(());
            }
            if let Some(node) = nodes.iter().find(|node| state(node) == Some(NodeState::Active)) {
                bail!("node {node} was taken back into use");
            }
            let mine = |drive| map.drive(drive).is_some_and(|drive| nodes.contains(&drive.node));
            let left = map.pgs.iter().flat_map(|pg| &pg.slots).filter(|slot| slot.holders().any(mine)).count();
            if told != Some(left) {
                tracing::info!("{left} slots are left");
                told = Some(left);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Changes what a node may be used for.
    ///
    /// # Errors
    /// The cluster refuses it and says why.
    pub(crate) async fn set_node_state(&self, node: NodeId, state: NodeState) -> anyhow::Result<()> {
        self.map().await?;
        self.command(Command::SetNodeState { node, state }).await.map(drop)
    }

    /// Puts a node under maintenance.
    ///
    /// # Errors
    /// The node is unknown, or the time too long.
    pub(crate) async fn maintenance(&self, node: NodeId, time: Duration) -> anyhow::Result<()> {
        self.map().await?;
        let ttl_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.command(Command::SetMaintenance { node, ttl_ms }).await.map(drop)
    }

    /// Holds rebalancing back, or lets it go on.
    ///
    /// # Errors
    /// The cluster does not answer.
    pub(crate) async fn pause_rebalancing(&self, paused: bool) -> anyhow::Result<()> {
        self.map().await?;
        self.command(Command::PauseRebalancing { paused }).await.map(drop)
    }

    /// Says how long evidence of removed versions is kept.
    ///
    /// # Errors
    /// The cluster does not answer.
    pub(crate) async fn keep_evidence(&self, keep_ms: Option<u64>) -> anyhow::Result<()> {
        self.map().await?;
        self.command(Command::Log(LogCommand::SetEvidenceRetention { keep_ms })).await.map(drop)
    }

    /// What garbage collection did.
    ///
    /// # Errors
    /// The cluster does not answer.
    pub(crate) async fn gc_status(&self) -> anyhow::Result<GcStatus> {
        self.map().await?;
        Ok(gc_status(&self.meta).await?)
    }

    /// The id of a bucket.
    ///
    /// # Errors
    /// There is none of that name.
    pub(crate) async fn bucket(&self, name: &str) -> anyhow::Result<BucketId> {
        self.map().await?;
        match self.meta.call(MetaRequest::Bucket { name: name.to_owned() }, TIMEOUT).await? {
            MetaReply::Bucket(row) => Ok(row.id),
            _ => bail!(unexpected("to Bucket")),
        }
    }

    /// Changes the trash.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses.
    pub(crate) async fn change_trash(&self, change: TrashCommand) -> anyhow::Result<MetaReply> {
        self.map().await?;
        self.command(Command::Trash(change)).await
    }

    /// Gives removed versions up; how many.
    ///
    /// # Errors
    /// As [`Self::change_trash`].
    pub(crate) async fn purge(&self, purge: TrashCommand) -> anyhow::Result<u64> {
        match self.change_trash(purge).await? {
            MetaReply::Purged(count) => Ok(count),
            _ => bail!(unexpected("to Trash(Purge)")),
        }
    }

    /// Brings a removed version back.
    ///
    /// # Errors
    /// It is not in the trash, its bucket is gone, or its key is taken.
    pub(crate) async fn restore(&self, restore: RestoreVersion) -> anyhow::Result<Committed> {
        match self.change_trash(TrashCommand::Restore(Box::new(restore))).await? {
            MetaReply::Committed(committed) => Ok(committed),
            _ => bail!(unexpected("to Trash(Restore)")),
        }
    }

    /// A page of the trash.
    ///
    /// # Errors
    /// The cluster does not answer.
    pub(crate) async fn trash(&self, query: TrashQuery) -> anyhow::Result<TrashPage> {
        self.map().await?;
        match self.meta.call(MetaRequest::Trash(query), TIMEOUT).await? {
            MetaReply::Trash(page) => Ok(page),
            _ => bail!(unexpected("to Trash")),
        }
    }

    /// Has a backup made and waits until it was read back.
    ///
    /// # Errors
    /// None is made: the cluster is not configured for it, or it takes longer than `timeout`.
    pub(crate) async fn backup_now(&self, timeout: Duration) -> anyhow::Result<BackupMade> {
        self.map().await?;
        let before = self.backups().await?.newest;
        self.command(Command::Backup(BackupCommand::Want)).await?;
        let made = async {
            loop {
                let newest = self.backups().await?.newest;
                match newest.filter(|newest| Some(newest) != before.as_ref()) {
                    Some(made) => return anyhow::Ok(made),
                    None => tokio::time::sleep(PAUSE).await,
                }
            }
        };
        let hint = "no backup was made in time; the log of the metadata node that leads says why";
        tokio::time::timeout(timeout, made).await.context(hint)?
    }

    async fn backups(&self) -> anyhow::Result<BackupState> {
        match self.meta.call(MetaRequest::Status, TIMEOUT).await? {
            MetaReply::Status(status) => Ok(status.backups),
            _ => bail!(unexpected("to Status")),
        }
    }

    /// Says that no backups are expected any more.
    ///
    /// # Errors
    /// The cluster does not answer.
    pub(crate) async fn stop_backups(&self) -> anyhow::Result<()> {
        self.map().await?;
        self.command(Command::Backup(BackupCommand::Expect { interval_ms: None })).await.map(drop)
    }

    /// Ends the comparison after a restore, whatever is missing.
    ///
    /// # Errors
    /// The cluster does not answer, or was not restored.
    pub(crate) async fn end_comparison(&self) -> anyhow::Result<()> {
        self.map().await?;
        let found = Compared { accepted: true, ..Compared::default() };
        self.command(Command::Backup(BackupCommand::EndComparison(found))).await.map(drop)
    }

    /// Prints the state of the cluster.
    ///
    /// # Errors
    /// No metadata node answers.
    pub(crate) async fn status(&self, json: bool) -> anyhow::Result<ExitCode> {
        self.map().await?;
        let status = View::of_node(&self.meta, &self.wire, None).status().await;
        crate::print(if json { serde_json::to_string(&status)? } else { status_command::render(&status) });
        Ok(status_command::exit_code(&status))
    }

    /// Tells the others that this connection ends.
    pub(crate) async fn close(&self) {
        self.wire.endpoint.close().await;
    }
}
