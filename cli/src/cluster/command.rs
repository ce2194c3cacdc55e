//! The command line of a cluster: `stele cluster ...` and the roles.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::json;
use stele_types::ids::NodeId;
use stele_types::map::NodeState;
use stele_types::role::Role;
use stele_types::scheme::Scheme;
use toml::Value;

use super::operator::Operator;
use super::words::{Keeping, Rebalance, listed};
use super::{anchor, init, metadata, restore, s3_gateway, storage_node};
use crate::backup::FromArgs;
use crate::backup::rebuild::Rebuilt;
use crate::config::{Config, NodeFlags, PortFlags, Span, load_node};
use crate::dev::data_dir::secret_from;
use crate::real::{OsRng, RealClock};
use crate::status_command::kept_for;

/// What every role takes.
#[derive(Args)]
pub(crate) struct RoleArgs {
    #[command(flatten)]
    flags: NodeFlags,
    /// Token of `stele cluster token`; needed at the first start only.
    #[arg(long, value_name = "TOKEN", env = "STELE_JOIN_TOKEN", hide_env_values = true)]
    join: Option<String>,
    /// File that holds the token.
    #[arg(long, value_name = "FILE", conflicts_with = "join")]
    join_file: Option<PathBuf>,
    /// Print one JSON line on stdout once it serves, and nothing else.
    #[arg(long)]
    json: bool,
}

impl RoleArgs {
    fn token(&self) -> anyhow::Result<Option<String>> {
        let Some(path) = &self.join_file else { return Ok(self.join.clone()) };
        // After the first start nobody needs it: it may be gone.
        if !path.exists() {
            return Ok(None);
        }
        secret_from(path).map(Some)
    }
}

/// `stele storage-node`.
#[derive(Args)]
pub(crate) struct StorageArgs {
    #[command(flatten)]
    role: RoleArgs,
    /// Directory of one drive, on a device of its own; may be repeated.
    #[arg(long = "drive", value_name = "DIR")]
    drives: Vec<PathBuf>,
}

/// `stele s3-gateway`.
#[derive(Args)]
pub(crate) struct GatewayArgs {
    #[command(flatten)]
    role: RoleArgs,
    /// Where to serve S3 [default: 127.0.0.1:9000].
    #[arg(long, value_name = "ADDR")]
    s3_addr: Option<SocketAddr>,
    /// File to append one JSON line per S3 request to; - is stdout [default: none].
    #[arg(long, value_name = "FILE")]
    audit_log: Option<String>,
    #[command(flatten)]
    port: PortFlags,
}

/// `stele anchor`.
#[derive(Args)]
pub(crate) struct AnchorArgs {
    #[command(flatten)]
    role: RoleArgs,
    /// Go on where an anchor ended whose directory is gone for good. Its keys are lost: auditors need the new ones.
    #[arg(long)]
    adopt: bool,
}

/// `stele cluster`.
#[derive(Subcommand)]
pub(crate) enum ClusterCommand {
    /// Found a cluster: writes its CA, its first metadata node and the admin file. Starts nothing.
    Init {
        /// Directory of the first metadata node.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// Where other nodes will reach it; may be repeated.
        #[arg(long, value_name = "HOST:PORT", required = true)]
        advertise: Vec<String>,
        /// Where the operator's papers go [default: admin.toml in the directory].
        #[arg(long, value_name = "FILE")]
        admin_file: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a new first metadata node of a backup. Starts nothing. The other nodes then join anew, drives keep what they hold.
    Restore {
        #[command(flatten)]
        from: FromArgs,
        /// The operator's key file, from `stele backup keygen`.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// Directory of the new metadata node: empty or missing.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// Where other nodes will reach it; may be repeated.
        #[arg(long, value_name = "HOST:PORT", required = true)]
        advertise: Vec<String>,
        /// Where the operator's new papers go [default: admin.toml in the directory].
        #[arg(long, value_name = "FILE")]
        admin_file: Option<PathBuf>,
        /// Take a backup that is marked: packs that it needs may be gone.
        #[arg(long)]
        superseded: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// After a restore: end the comparison of references with drives, whatever is missing. Sweeps go on then.
    EndComparison {
        #[command(flatten)]
        admin: AdminArgs,
        /// Say that what is missing is lost for good.
        #[arg(long, required = true)]
        accept_loss: bool,
    },
    /// Make a join token for one node.
    Token {
        #[command(flatten)]
        admin: AdminArgs,
        /// What the node will be: metadata, storage-node, s3-gateway or anchor.
        #[arg(long, value_name = "ROLE", value_parser = parse_role)]
        role: Role,
        /// How long it may be used.
        #[arg(long, value_name = "TIME", default_value = "1h")]
        ttl: Span,
    },
    /// List join tokens that may still be used.
    Tokens {
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Drop a join token.
    Revoke {
        #[command(flatten)]
        admin: AdminArgs,
        /// Its id, as `tokens` prints it.
        id: String,
    },
    /// Compute placement groups for the drives there are. Existing ones stay as they are.
    Place {
        #[command(flatten)]
        admin: AdminArgs,
        /// Scheme, as rs-4-2 [default: by the number of nodes].
        #[arg(long, value_name = "SCHEME")]
        scheme: Option<Scheme>,
        /// Wait until so many storage nodes are there.
        #[arg(long, value_name = "N", default_value_t = 1)]
        nodes: usize,
    },
    /// Say how long the evidence log tells of a version after its removal; then records and salts are erased.
    KeepEvidence {
        #[command(flatten)]
        admin: AdminArgs,
        /// A time as 3650d, or forever.
        #[arg(value_name = "TIME")]
        time: Keeping,
    },
    /// Show the cluster. Exit code 0: all well, 1: problems, 2: not serving.
    Status {
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Move everything off storage nodes that are to leave. Refused where the scheme would break; stele plan drain tells
    /// before.
    Drain {
        #[command(flatten)]
        admin: AdminArgs,
        /// Their ids, as `status` prints them.
        #[arg(value_name = "NODE", required = true)]
        nodes: Vec<u64>,
        /// Wait until they are drained.
        #[arg(long)]
        wait: bool,
        /// Go on although fewer racks or zones could be lost afterwards.
        #[arg(long)]
        lower_tolerance: bool,
    },
    /// Take storage nodes that are draining or drained back into use.
    Undrain {
        #[command(flatten)]
        admin: AdminArgs,
        /// Their ids.
        #[arg(value_name = "NODE", required = true)]
        nodes: Vec<u64>,
    },
    /// Say that somebody works on a node: its drives are not replaced meanwhile, however silent it is.
    Maintenance {
        #[command(flatten)]
        admin: AdminArgs,
        /// Its id.
        node: u64,
        /// For how long, at most 7d; 0s ends it.
        #[arg(long = "for", value_name = "TIME")]
        time: Span,
    },
    /// Hold back, or let go on, that drives that came are given slots of placement groups there are.
    Rebalance {
        #[command(flatten)]
        admin: AdminArgs,
        /// What to do.
        what: Rebalance,
    },
    /// Remove a node for good: a metadata node or gateway, or a storage node that is drained or never held data.
    Remove {
        #[command(flatten)]
        admin: AdminArgs,
        /// Its id, as `status` prints it.
        node: u64,
    },
}

/// How an operator is known.
#[derive(Args)]
pub(crate) struct AdminArgs {
    /// The operator's papers, from `stele cluster init`.
    #[arg(long, value_name = "FILE", env = "STELE_ADMIN_FILE")]
    admin: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

fn parse_role(text: &str) -> Result<Role, String> {
    let role = Role::parse(text).filter(|role| *role != Role::Admin);
    role.ok_or_else(|| "one of metadata, storage-node, s3-gateway, anchor".to_owned())
}

fn configuration(role: &RoleArgs, more: Vec<(&'static [&'static str], Value)>) -> anyhow::Result<Config> {
    load_node(&role.flags, more, std::env::vars_os())
}

/// A role, ready to run.
pub(crate) enum Process {
    Metadata(RoleArgs),
    Storage(StorageArgs),
    Gateway(GatewayArgs),
    Anchor(AnchorArgs),
}

impl Process {
    /// Its configuration.
    ///
    /// # Errors
    /// As [`load_node`].
    pub(crate) fn config(&self) -> anyhow::Result<Config> {
        match self {
            Self::Metadata(args) => configuration(args, Vec::new()),
            Self::Anchor(args) => {
                let adopt = args.adopt.then_some((&["anchor", "adopt"] as &[_], Value::from(true)));
                configuration(&args.role, adopt.into_iter().collect())
            }
            Self::Storage(args) => {
                let text = |path: &PathBuf| path.to_str().map(Value::from).context("--drive is not UTF-8");
                let drives = args.drives.iter().map(text).collect::<anyhow::Result<Vec<_>>>()?;
                let some = (!drives.is_empty()).then_some((&["storage", "drives"] as &[_], Value::Array(drives)));
                configuration(&args.role, some.into_iter().collect())
            }
            Self::Gateway(args) => {
                let address = args.s3_addr.map(|addr| (&["s3_addr"] as &[_], Value::from(addr.to_string())));
                let audit = args.audit_log.clone().map(|place| (&["audit", "log"] as &[_], Value::from(place)));
                configuration(&args.role, args.port.settings()?.into_iter().chain(address).chain(audit).collect())
            }
        }
    }

    /// Runs until a signal.
    ///
    /// # Errors
    /// Says what can't be opened, or who refused this node.
    pub(crate) async fn run(self, config: Config) -> anyhow::Result<ExitCode> {
        match self {
            Self::Metadata(args) => Box::pin(metadata::run(config, args.token()?, args.json)).await,
            Self::Storage(args) => Box::pin(storage_node::run(config, args.role.token()?, args.role.json)).await,
            Self::Gateway(args) => Box::pin(s3_gateway::run(config, args.role.token()?, args.role.json)).await,
            Self::Anchor(args) => Box::pin(anchor::run(config, args.role.token()?, args.role.json)).await,
        }
    }
}

impl ClusterCommand {
    /// Does it.
    ///
    /// # Errors
    /// Says what the cluster or the machine refused.
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Init { data, advertise, admin_file, json } => {
                let plan = init::Init { data: &data, advertise, admin_file };
                let (cluster, file) = init::init(plan, &RealClock::new(), &OsRng).await?;
                let shown = json!({ "cluster": cluster.to_string(), "node": 1, "admin_file": file });
                say(json, &shown, || {
                    let (data, file) = (data.display(), file.display());
                    format!(
                        "cluster {cluster}: start its first node with\n  stele metadata --data {data}\nkeep {file}: it can do everything"
                    )
                });
                Ok(ExitCode::SUCCESS)
            }
            Self::Restore { from, key, data, advertise, admin_file, superseded, json } => {
                let plan = restore::Restore { data: &data, advertise, admin_file, key: &key, superseded };
                let (made, name, admin) = restore::restore(&from, plan, &RealClock::new(), &OsRng).await?;
                tell_restored(&made, (&name, &data, &admin), json);
                Ok(ExitCode::SUCCESS)
            }
            Self::Status { admin } => {
                let operator = admin.open()?;
                let code = operator.status(admin.json).await;
                operator.close().await;
                code
            }
            other => other.ask().await,
        }
    }

    async fn ask(self) -> anyhow::Result<ExitCode> {
        let Some(admin) = self.admin() else { return Ok(ExitCode::SUCCESS) };
        let (operator, as_json) = (admin.open()?, admin.json);
        let done = self.carry_out(&operator, as_json).await;
        operator.close().await;
        done.map(|()| ExitCode::SUCCESS)
    }

    const fn admin(&self) -> Option<&AdminArgs> {
        match self {
            Self::Init { .. } | Self::Restore { .. } => None,
            Self::EndComparison { admin, .. }
            | Self::Token { admin, .. }
            | Self::Tokens { admin }
            | Self::Revoke { admin, .. }
            | Self::Place { admin, .. }
            | Self::Status { admin }
            | Self::KeepEvidence { admin, .. }
            | Self::Drain { admin, .. }
            | Self::Undrain { admin, .. }
            | Self::Maintenance { admin, .. }
            | Self::Rebalance { admin, .. }
            | Self::Remove { admin, .. } => Some(admin),
        }
    }

    async fn carry_out(&self, operator: &Operator, as_json: bool) -> anyhow::Result<()> {
        match self {
            Self::Init { .. } | Self::Restore { .. } | Self::Status { .. } => {}
            Self::EndComparison { .. } => {
                operator.end_comparison().await?;
                say(as_json, &json!({ "ended": true }), || "the comparison is ended: sweeps go on".to_owned());
            }
            Self::Token { role, ttl, .. } => {
                let token = operator.token(*role, ttl.duration()).await?;
                say(as_json, &json!({ "token": token, "role": role.name() }), || token.clone());
            }
            Self::Tokens { .. } => {
                let tokens = operator.tokens().await?;
                let rows: Vec<_> = tokens
                    .iter()
                    .map(|(id, role, at)| json!({ "id": id, "role": role.name(), "expires": at }))
                    .collect();
                say(as_json, &json!(rows), || {
                    let line = |(id, role, at): &(String, Role, u64)| format!("{id}  {role}  expires at {at} ms");
                    tokens.iter().map(line).collect::<Vec<_>>().join("\n")
                });
            }
            Self::Revoke { id, .. } => {
                operator.revoke(id).await?;
                say(as_json, &json!({ "revoked": id }), || format!("token {id} is of no use any more"));
            }
            Self::Place { scheme, nodes, .. } => {
                let (groups, newest) = operator.place(*scheme, *nodes).await?;
                say(as_json, &json!({ "groups": groups, "scheme": newest }), || {
                    format!("{groups} placement groups, {newest}")
                });
            }
            Self::KeepEvidence { time, .. } => {
                let kept = time.0.map(|span| u64::try_from(span.duration().as_millis()).unwrap_or(u64::MAX));
                operator.keep_evidence(kept).await?;
                let told = || format!("evidence of removed versions is kept {}", kept_for(kept));
                say(as_json, &json!({ "evidence_kept_ms": kept }), told);
            }
            Self::Drain { .. } | Self::Undrain { .. } | Self::Maintenance { .. } | Self::Rebalance { .. } => {
                self.change_storage(operator, as_json).await?;
            }
            Self::Remove { node, .. } => {
                operator.remove(NodeId(*node)).await?;
                say(as_json, &json!({ "removed": node }), || format!("node {node} is removed: stop its process"));
            }
        }
        Ok(())
    }

    /// What concerns storage nodes.
    async fn change_storage(&self, operator: &Operator, as_json: bool) -> anyhow::Result<()> {
        match self {
            Self::Drain { nodes, wait, lower_tolerance, .. } => {
                let ids: BTreeSet<NodeId> = nodes.iter().copied().map(NodeId).collect();
                operator.drain(&ids, *lower_tolerance).await?;
                if *wait {
                    operator.wait_drained(&ids).await?;
                }
                let state = if *wait { "drained" } else { "draining" };
                let told = || format!("{state}: nodes {}; stele cluster remove takes one out for good", listed(nodes));
                say(as_json, &json!({ "nodes": nodes, "state": state }), told);
            }
            Self::Undrain { nodes, .. } => {
                for node in nodes {
                    operator.set_node_state(NodeId(*node), NodeState::Active).await?;
                }
                let told = || format!("in use again: nodes {}", listed(nodes));
                say(as_json, &json!({ "nodes": nodes, "state": "active" }), told);
            }
            Self::Maintenance { node, time, .. } => {
                operator.maintenance(NodeId(*node), time.duration()).await?;
                say(as_json, &json!({ "node": node, "maintenance_ms": time.0 }), || match time.0 {
                    0 => format!("node {node} is not under maintenance any more"),
                    _ => format!("node {node} is under maintenance for {time}: its drives are not replaced before"),
                });
            }
            Self::Rebalance { what, .. } => {
                let paused = *what == Rebalance::Pause;
                operator.pause_rebalancing(paused).await?;
                let told = if paused { "rebalancing is held back" } else { "rebalancing goes on" };
                say(as_json, &json!({ "rebalancing_paused": paused }), || told.to_owned());
            }
            _ => {}
        }
        Ok(())
    }
}

impl AdminArgs {
    /// A connection. Dials nobody yet.
    ///
    /// # Errors
    /// As [`Operator::open`].
    pub(crate) fn open(&self) -> anyhow::Result<Operator> {
        Operator::open(&self.admin)
    }

    /// Whether JSON is wanted.
    pub(crate) const fn json(&self) -> bool {
        self.json
    }
}

fn tell_restored(made: &Rebuilt, (name, data, admin): (&str, &Path, &Path), as_json: bool) {
    let Rebuilt { facts, report, cluster, node, hash } = made;
    let shown = json!({
        "cluster": cluster.to_string(), "node": node.0, "admin_file": admin, "backup": name, "blake3": hex::encode(hash),
        "until_ms": facts.time, "buckets": report.buckets, "versions": report.versions, "log_size": facts.log_size,
    });
    say(as_json, &shown, || {
        let (data, admin, buckets, versions) = (data.display(), admin.display(), report.buckets, report.versions);
        format!(
            "cluster {cluster} is restored from {name}: {buckets} buckets, {versions} versions, as of {} ms\nstart its first \
             node, which is node {node} now, with\n  stele metadata --data {data}\nthen let each storage node, gateway and \
             anchor join anew, in its old directory, with a token of\n  stele cluster token --admin {admin} --role ROLE",
            facts.time
        )
    });
}

/// Prints what a command found: JSON, or a text for people.
pub(crate) fn say(as_json: bool, value: &serde_json::Value, text: impl FnOnce() -> String) {
    crate::print(if as_json { value.to_string() } else { text() });
}
