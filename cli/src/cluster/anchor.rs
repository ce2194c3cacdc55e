//! `stele anchor`: closes and signs the evidence log of a cluster.

use std::process::ExitCode;
use std::sync::Arc;

use stele_types::role::Role;
use stele_types::seam::{Clock, Rng};

use super::follow::Follower;
use super::join::member;
use super::node_dir::NodeDir;
use super::process::{NoService, Running, start_admin};
use super::wire::Wire;
use crate::admin::metrics::Metrics;
use crate::admin::view::View;
use crate::anchor::chains::Host;
use crate::anchor::{self, AnchorDir, stamps};
use crate::config::Config;
use crate::dev::signals::StopSignals;
use crate::real::{OsRng, RealClock};

/// Runs until a signal.
///
/// # Errors
/// Says what can't be opened, or who refused this node.
pub(crate) async fn run(config: Config, token: Option<String>, json: bool) -> anyhow::Result<ExitCode> {
    let mut signals = StopSignals::new()?;
    let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
    let rng: Arc<dyn Rng> = Arc::new(OsRng);
    let (pages, admin, admin_addr) = start_admin(&config).await?;
    let dir = Arc::new(NodeDir::open(&config.data).await?);
    let member = tokio::select! {
        biased;
        _ = signals.wait() => return Ok(ExitCode::SUCCESS),
        member = member(&dir, Role::Anchor, token.as_deref(), &config, &clock) => member?,
    };
    let credentials = dir.papers().await?.credentials()?;
    let wire = Wire::of_node(&config, &member, credentials, Arc::clone(&clock), Arc::clone(&rng))?;
    let meta = wire.meta(&member);
    let anchor_dir = AnchorDir::open(&config.data.join("anchor")).await?;
    let host = Host {
        meta: meta.clone(),
        node: member.node,
        cluster: member.cluster,
        clock: Arc::clone(&clock),
        rng: Arc::clone(&rng),
    };
    let mut running = Running::new(wire.clone());
    running.server = Some(wire.serve(Arc::new(NoService("an anchor")), None));
    let follower = Follower::new(&config, (&wire, &meta), &dir, &member, &clock);
    let registered = tokio::select! {
        biased;
        signal = signals.wait() => { tracing::info!(signal, "stopping"); None }
        registered = follower.register(&[]) => Some(registered),
    };
    if let Some(registered) = registered {
        registered?;
        let anchor = anchor_dir.anchor(&config.anchor, &host).await?;
        running.background.push(tokio::spawn(follower.run()));
        let mut chains = anchor_dir.chains(&config.anchor.chains, &host).await?;
        running.background.append(&mut chains.tasks);
        running.background.append(&mut stamps::start(&config.anchor, &Arc::new(host)).await?);
        running.background.push(tokio::spawn(anchor::run(anchor, chains, config.anchor.interval.duration())));
        pages.opened(View::of_node(&meta, &wire, None), Metrics::new(|_| {}));
        running.tell_ready(&member, &[("admin", format!("http://{admin_addr}"))], json)?;
        let signal = signals.wait().await;
        tracing::info!(signal, "stopping");
    }
    admin.abort();
    running.stop().await;
    Ok(ExitCode::SUCCESS)
}
