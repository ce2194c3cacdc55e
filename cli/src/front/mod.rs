//! What stands before a gateway: limits of requests and connections, and the audit log. The same for `stele dev`
//! and `stele s3-gateway`.

mod audit_file;

use std::sync::Arc;

use anyhow::Context as _;
use prometheus_client::registry::Registry;
use stele_s3_gateway::http::audit::writer::{AuditConfig, Auditor};
use stele_s3_gateway::http::door::{Door, RequestLimits};
use stele_s3_gateway::http::rate::Rate;
use stele_s3_gateway::http::server::HttpConfig;
use stele_types::seam::Clock;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use crate::config::Config;
use audit_file::AuditFile;

/// The limits and the audit log in force.
pub(crate) struct Front {
    pub(crate) http: HttpConfig,
    auditor: Option<Auditor>,
    reopening: Option<JoinHandle<()>>,
}

impl Front {
    /// Opens the audit log, if there is to be one. From then on SIGHUP has it opened anew.
    ///
    /// # Errors
    /// Says what can't be opened.
    pub(crate) fn open(config: &Config, access_key: &str, clock: &Arc<dyn Clock>) -> anyhow::Result<Self> {
        // Without a listener SIGHUP would end the process, whether there is an audit log or not.
        let mut hangups = signal(SignalKind::hangup()).context("listening for SIGHUP")?;
        let auditor = match config.audit.log.as_str() {
            "" => None,
            place => {
                let file = AuditFile::open(place).with_context(|| {
                    format!(
                        "audit.log = {place:?} can't be opened for appending; name a file in a folder that exists, or -"
                    )
                })?;
                let audit = AuditConfig { strict: config.audit.strict, known_keys: vec![access_key.to_owned()] };
                Some(Auditor::start(audit, Arc::clone(clock), file).context("starting the audit log")?)
            }
        };
        let reopened = auditor.clone();
        let reopening = tokio::spawn(async move {
            while hangups.recv().await.is_some() {
                if let Some(auditor) = &reopened {
                    tracing::info!("SIGHUP: opening the audit log anew");
                    auditor.reopen();
                }
            }
        });
        let door = Door::new(request_limits(config), Arc::clone(clock), auditor.clone());
        let limits = &config.limits;
        let http = HttpConfig {
            connections_max: limits.connections as usize,
            header_timeout: limits.header_timeout.duration(),
            idle_max: limits.idle_timeout.duration(),
            door,
            ..HttpConfig::default()
        };
        Ok(Self { http, auditor, reopening: Some(reopening) })
    }

    /// Adds the front's metrics to a registry.
    pub(crate) fn register(&self, registry: &mut Registry) {
        self.http.door.register(registry);
    }

    /// Writes what is left of the audit log. Call it when nothing is served any more.
    pub(crate) async fn close(mut self) {
        if let Some(task) = self.reopening.take() {
            task.abort();
        }
        if let Some(auditor) = self.auditor.take()
            && tokio::task::spawn_blocking(move || auditor.close()).await.is_err()
        {
            tracing::error!("the audit log could not be closed");
        }
    }
}

fn request_limits(config: &Config) -> RequestLimits {
    let limits = &config.limits;
    let per_second = limits.requests_per_second;
    RequestLimits {
        in_flight_max: limits.requests as usize,
        // A second's worth at once: clients send in bursts.
        per_key: (per_second > 0).then_some(Rate { per_second, burst: per_second }),
    }
}
