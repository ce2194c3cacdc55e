//! `stele dev`: a whole store in one process, over one directory.
//!
//! | module | holds |
//! |---|---|
//! | [`data_dir`] | the directory: lock, cluster file, root keys |
//! | [`founding`] | formatting drives once, finding them again |
//! | [`local_tls`] | the certificate of `--tls` |
//! | [`store`] | metadata, drives and gateway, wired |
//! | [`watch`] | drive states into the cluster map |
//! | [`slow_media`] | slower drives, for benchmarks |
//! | [`banner`] | what is said once it serves |
//! | [`signals`] | when to stop |

pub(crate) mod banner;
pub(crate) mod data_dir;
pub(crate) mod founding;
pub(crate) mod local_tls;
pub(crate) mod signals;
pub(crate) mod slow_media;
pub(crate) mod store;
pub(crate) mod watch;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use stele_s3_gateway::http::server::{HttpConfig, serve};
use stele_s3_gateway::http::tls::Tls;
use stele_s3_gateway::s3::auth::RootKeys as GatewayKeys;
use stele_s3_gateway::s3::service;
use stele_types::seam::{Clock, Rng};
use tokio::net::TcpListener;
use tokio::sync::watch as channel;

use crate::admin::metrics::Metrics;
use crate::admin::view::View;
use crate::admin::{self, Pages};
use crate::config::Config;
use crate::front::Front;
use crate::real::{OsRng, RealClock};
use crate::s3_tls;

use banner::Addresses;
use data_dir::DataDir;
use signals::StopSignals;
use store::Store;

/// Runs until a signal, or until the metadata can't go on.
///
/// # Errors
/// Says what can't be opened, or why the store had to stop.
pub(crate) async fn run(config: Config, json: bool) -> anyhow::Result<ExitCode> {
    let mut signals = StopSignals::new()?;
    let rng: Arc<dyn Rng> = Arc::new(OsRng);
    let data = DataDir::open(&config.data).await?;
    let keys = data.root_keys(&config.root, rng.as_ref()).await?;
    let gateway_keys = GatewayKeys::new(&keys.access_key, &keys.secret_key)?;
    let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
    let front = Front::open(&config, &keys.access_key, &clock)?;
    let (tls, ca) = certificate(&config, &data, clock.as_ref(), rng.as_ref()).await?;
    let (s3, s3_addr) = listen(config.s3_addr, "--s3-addr").await?;
    let (admin, admin_addr) = listen(config.admin_addr, "--admin-addr").await?;
    let pages = Arc::new(Pages::default());
    let admin = tokio::spawn(admin::serve(admin, Arc::clone(&pages)));

    let store = tokio::select! {
        biased;
        // Nothing has been acknowledged yet, so nothing needs an orderly end.
        _ = signals.wait() => return Ok(ExitCode::SUCCESS),
        store = Store::open(&config, &data, clock, Arc::clone(&rng)) => store?,
    };
    let (view, metrics) = show(&store, &front);
    pages.opened(view.clone(), metrics);
    let mut fatal = store.fatal();
    let (stop, stopped) = channel::channel(false);
    let s3_service = service::build(Arc::clone(&store.gateway), &gateway_keys, &config.region, config.hosts()?);
    let addresses = Addresses { s3: s3_addr, https: tls.is_some(), ca, admin: admin_addr };
    let http = HttpConfig { tls, ..front.http.clone() };
    let serving = tokio::spawn(serve(s3, s3_service, rng, http, stopped));

    let problems = view.status().await.problems;
    crate::print(if json {
        banner::ready_line(&addresses)
    } else {
        banner::text(&config, &addresses, &keys, &problems)
    });
    for problem in problems {
        tracing::warn!("{problem}");
    }

    tokio::select! {
        biased;
        why = fatal.wait_for(Option::is_some) => {
            let why = why.ok().and_then(|why| why.clone()).unwrap_or_else(|| "it ended".into());
            bail!("the metadata can't go on and nothing more is acknowledged: {why}; check its device, then start again");
        }
        signal = signals.wait() => tracing::info!(signal, "stopping"),
    }
    stop.send_replace(true);
    serving.await.context("the S3 server failed")?;
    front.close().await;
    admin.abort();
    store.close().await?;
    Ok(ExitCode::SUCCESS)
}

/// What the S3 port shows, if it speaks HTTPS; and the CA's file, where the certificate is our own.
async fn certificate(
    config: &Config,
    data: &DataDir,
    clock: &dyn Clock,
    rng: &dyn Rng,
) -> anyhow::Result<(Option<Arc<Tls>>, Option<PathBuf>)> {
    if config.s3_tls.local {
        let (tls, ca) = local_tls::open(config, data, clock, rng).await?;
        return Ok((Some(tls), Some(ca)));
    }
    // The task that follows the files ends with the process.
    Ok((s3_tls::open(&config.s3_tls).await?.map(|(tls, _)| tls), None))
}

pub(crate) async fn listen(addr: SocketAddr, flag: &str) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let bound = TcpListener::bind(addr).await;
    let listener = bound.with_context(|| format!("listening on {addr}; choose another address with {flag}"))?;
    let addr = listener.local_addr()?;
    Ok((listener, addr))
}

fn show(store: &Store, front: &Front) -> (View, Metrics) {
    let view = View {
        meta: store.meta_client.clone(),
        storage: store.storage_client.clone(),
        storage_nodes: vec![Store::storage_id()],
        gateway: Some(Arc::clone(&store.gateway)),
        wire: None,
    };
    let metrics = Metrics::new(|registry| {
        store.metadata.metrics().register(registry);
        store.storage_metrics.register(registry);
        store.gateway.register_metrics(registry);
        front.register(registry);
    });
    (view, metrics)
}
