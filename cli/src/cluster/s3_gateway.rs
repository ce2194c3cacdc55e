//! `stele s3-gateway`: S3 for clients. Holds nothing durable but who it is.

use std::process::ExitCode;
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use stele_rpc::client::MetaClient;
use stele_s3_gateway::api::{Cpu, GatewayDeps};
use stele_s3_gateway::gateway::Gateway;
use stele_s3_gateway::http::server::{HttpConfig, serve};
use stele_s3_gateway::log_archive::run_archiver;
use stele_s3_gateway::possession::run_schedule;
use stele_s3_gateway::s3::auth::RootKeys as GatewayKeys;
use stele_s3_gateway::s3::service;
use stele_types::map::ClusterMap;
use stele_types::role::Role;
use stele_types::seam::{Clock, Rng};
use tokio::sync::watch;

use super::follow::Follower;
use super::join::member;
use super::node_dir::{Member, NodeDir};
use super::process::{NoService, Running, start_admin};
use super::wire::Wire;
use crate::admin::metrics::Metrics;
use crate::admin::view::View;
use crate::answer_key;
use crate::config::Config;
use crate::dev::data_dir::configured_keys;
use crate::dev::listen;
use crate::dev::signals::StopSignals;
use crate::dev::store::gateway_config;
use crate::front::Front;
use crate::real::{self, OsRng, RealClock};
use crate::s3_tls;

/// Pause between two attempts to start.
const PAUSE: Duration = Duration::from_secs(1);
/// While the cluster does not answer, that is said so often.
const SAY_EVERY: u32 = 10;

/// Runs until a signal.
///
/// # Errors
/// Says what can't be opened, or who refused this node.
pub(crate) async fn run(config: Config, token: Option<String>, json: bool) -> anyhow::Result<ExitCode> {
    let mut signals = StopSignals::new()?;
    let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
    let rng: Arc<dyn Rng> = Arc::new(OsRng);
    let keys = configured_keys(&config.root)?.context(
        "set the root credentials, the same on every gateway: STELE_ROOT_ACCESS_KEY and STELE_ROOT_SECRET_KEY_FILE",
    )?;
    let front = Front::open(&config, &keys.access_key, &clock)?;
    let keys = GatewayKeys::new(&keys.access_key, &keys.secret_key)?;
    ensure!(!config.s3_tls.local, "only stele dev makes a certificate; set s3_tls.cert_file and s3_tls.key_file");
    let (tls, following) = s3_tls::open(&config.s3_tls).await?.unzip();
    let (s3, s3_addr) = listen(config.s3_addr, "--s3-addr").await?;
    let (pages, admin, admin_addr) = start_admin(&config).await?;
    let dir = Arc::new(NodeDir::open(&config.data).await?);
    let starting = start(&config, token.as_deref(), &dir, &clock, &rng);
    let (member, wire, meta, follower, gateway) = tokio::select! {
        biased;
        _ = signals.wait() => return Ok(ExitCode::SUCCESS),
        started = starting => started?,
    };
    let mut running = Running::new(wire.clone());
    running.server = Some(wire.serve(Arc::new(NoService("an S3 gateway")), None));
    running.background.extend(following);
    running.background.push(tokio::spawn(follower.run()));
    running.background.push(tokio::spawn(pass_maps_on(wire.map.subscribe(), Arc::downgrade(&gateway))));
    running.background.push(tokio::spawn(run_archiver(Arc::downgrade(&gateway))));
    running.background.extend(
        config.possession.schedule().map(|schedule| tokio::spawn(run_schedule(Arc::downgrade(&gateway), schedule))),
    );
    let view = View::of_node(&meta, &wire, Some(Arc::clone(&gateway)));
    pages.opened(
        view,
        Metrics::new(|registry| {
            gateway.register_metrics(registry);
            front.register(registry);
        }),
    );
    let (stop, stopped) = watch::channel(false);
    let s3_service = service::build(Arc::clone(&gateway), &keys, &config.region, config.hosts()?);
    let scheme = if tls.is_some() { "https" } else { "http" };
    let http = HttpConfig { tls, ..front.http.clone() };
    let serving = tokio::spawn(serve(s3, s3_service, rng, http, stopped));
    let addresses = [("s3", format!("{scheme}://{s3_addr}")), ("admin", format!("http://{admin_addr}"))];
    running.tell_ready(&member, &addresses, json)?;
    let signal = signals.wait().await;
    tracing::info!(signal, "stopping");
    stop.send_replace(true);
    serving.await.context("the S3 server failed")?;
    front.close().await;
    admin.abort();
    gateway.stop().await;
    running.stop().await;
    Ok(ExitCode::SUCCESS)
}

async fn start(
    config: &Config,
    token: Option<&str>,
    dir: &Arc<NodeDir>,
    clock: &Arc<dyn Clock>,
    rng: &Arc<dyn Rng>,
) -> anyhow::Result<(Member, Wire, MetaClient, Follower, Arc<Gateway>)> {
    let member = member(dir, Role::S3Gateway, token, config, clock).await?;
    let credentials = dir.papers().await?.credentials()?;
    let wire = Wire::of_node(config, &member, credentials, Arc::clone(clock), Arc::clone(rng))?;
    let meta = wire.meta(&member);
    let follower = Follower::new(config, (&wire, &meta), dir, &member, clock);
    follower.register(&[]).await?;
    let signer = dir.answer_key(&member, &**rng).await?;
    let key_known = answer_key::tell(&meta, member.node, &signer).await;
    let mut attempt = 0u32;
    let gateway = loop {
        let deps = GatewayDeps {
            node: member.node,
            meta: meta.clone(),
            storage: wire.storage(),
            clock: Arc::clone(clock),
            rng: Arc::clone(rng),
            cpu: Cpu::Threads(real::processors()),
        };
        match Gateway::start(gateway_config(config)?, deps).await {
            Ok(gateway) => break gateway,
            Err(error @ stele_s3_gateway::api::StartError::Meta { .. }) => {
                if attempt.is_multiple_of(SAY_EVERY) {
                    tracing::warn!(%error, "waiting for the metadata nodes");
                }
                attempt += 1;
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(error.into()),
        }
    };
    if key_known {
        gateway.answer_audits(signer);
    }
    Ok((member, wire, meta, follower, gateway))
}

/// Tells the gateway of every new map. It asks by itself only when it renews its lease; until then it would refuse
/// writes for drives that are back.
async fn pass_maps_on(mut maps: watch::Receiver<ClusterMap>, gateway: Weak<Gateway>) {
    while maps.changed().await.is_ok() {
        maps.mark_unchanged();
        loop {
            let Some(gateway) = gateway.upgrade() else { return };
            match gateway.refresh_map().await {
                Ok(()) => break,
                Err(error) => tracing::debug!(%error, "the map could not be fetched; trying again"),
            }
            drop(gateway);
            tokio::time::sleep(PAUSE).await;
        }
    }
}
