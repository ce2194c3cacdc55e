//! The gateway's licence to write: lease, start epochs still open, and command sequences.
//!
//! Every write begins with [`Leases::begin`], keeps the start epoch it got, and sends its commands
//! through [`Leases::command`], which retries with the same envelope, so that a lost reply never
//! makes a command apply twice. The lease is renewed in the background; a lease that is gone is
//! replaced. Nothing here decides whether a commit is allowed: the metadata service does, by lease and
//! fence. But a gateway that could not renew for as long as the lease lives begins nothing under it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use stele_rpc::client::MetaClient;
use stele_rpc::error::{Code, RpcError};
use stele_rpc::meta::{Command, CommandEnvelope, Lease, MetaReply, Origin};
use stele_types::ids::{CommandSequence, Epoch, LeaseId, MapEpoch, NodeId, Salt};
use tokio::time::Instant;

use crate::api::GatewayConfig;

/// First pause between attempts of one command; doubled each time.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// Longest pause between attempts.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Held {
    lease: Lease,
    next_sequence: u64,
    open_sequences: BTreeSet<u64>,
    /// Lowest open start epoch as last reported.
    reported: Epoch,
    /// Counted from before the request, so that it never lies behind the true end.
    ends: Instant,
    /// A commit was refused because its start epoch is fenced; so would be the next one at this epoch.
    fenced: bool,
}

impl Held {
    fn lives(&self) -> bool {
        Instant::now() < self.ends
    }
}

impl State {
    /// The lowest start epoch still open, or the current one. Epochs at or below the fence were open
    /// under a lease that was lost: the fence has decided about them.
    fn lowest_open(&self, lease: &Lease) -> Epoch {
        let above_fence = self.open_epochs.range((Bound::Excluded(lease.fence), Bound::Unbounded)).next();
        above_fence.map_or(lease.epoch, |(epoch, _)| *epoch).min(lease.epoch)
    }
}

#[derive(Debug, Default)]
struct State {
    held: Option<Held>,
    open_epochs: BTreeMap<Epoch, u64>,
}

/// The lease of this gateway and what is open under it.
#[derive(Debug)]
pub(crate) struct Leases {
    meta: MetaClient,
    node: NodeId,
    ttl: Duration,
    ttl_ms: u64,
    meta_timeout: Duration,
    command_deadline: Duration,
    state: Mutex<State>,
    granting: tokio::sync::Mutex<()>,
    taken: prometheus_client::metrics::counter::Counter,
}

/// A write in progress: keeps its start epoch open until dropped.
#[derive(Debug)]
pub(crate) struct WriteStart {
    leases: Arc<Leases>,
    epoch: Epoch,
}

impl WriteStart {
    /// The start epoch e.
    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }
}

impl Drop for WriteStart {
    fn drop(&mut self) {
        let mut state = self.leases.lock();
        if let Some(count) = state.open_epochs.get_mut(&self.epoch) {
            *count -= 1;
            if *count == 0 {
                state.open_epochs.remove(&self.epoch);
            }
        }
    }
}

/// A command's place in its lease: open until dropped.
struct OpenCommand<'a> {
    leases: &'a Leases,
    lease: LeaseId,
    sequence: u64,
    lowest_open: u64,
}

impl Drop for OpenCommand<'_> {
    fn drop(&mut self) {
        if let Some(held) = &mut self.leases.lock().held
            && held.lease.id == self.lease
        {
            held.open_sequences.remove(&self.sequence);
        }
    }
}

impl Leases {
    pub(crate) fn new(
        meta: MetaClient,
        node: NodeId,
        config: &GatewayConfig,
        taken: prometheus_client::metrics::counter::Counter,
    ) -> Self {
        Self {
            meta,
            node,
            ttl: config.lease_ttl,
            ttl_ms: u64::try_from(config.lease_ttl.as_millis()).unwrap_or(u64::MAX),
            meta_timeout: config.meta_timeout,
            command_deadline: config.command_deadline,
            state: Mutex::default(),
            granting: tokio::sync::Mutex::default(),
            taken,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A lease is held and lives, as far as this process knows.
    pub(crate) fn is_held(&self) -> bool {
        self.lock().held.as_ref().is_some_and(Held::lives)
    }

    /// P2: opens a write at the current epoch.
    ///
    /// # Errors
    /// What the metadata service answered to the request for a lease.
    pub(crate) async fn begin(self: &Arc<Self>) -> Result<WriteStart, RpcError> {
        loop {
            if let Some(start) = self.try_begin() {
                return Ok(start);
            }
            self.renew().await?;
        }
    }

    fn try_begin(self: &Arc<Self>) -> Option<WriteStart> {
        let mut state = self.lock();
        let epoch = state.held.as_ref().filter(|held| held.lives() && !held.fenced)?.lease.epoch;
        *state.open_epochs.entry(epoch).or_default() += 1;
        Some(WriteStart { leases: Arc::clone(self), epoch })
    }

    /// Takes a lease unless one is held.
    pub(crate) async fn grant(&self) -> Result<(), RpcError> {
        // Who waits here waits for another's request, and no longer than for one of its own.
        let turn = tokio::time::timeout(self.meta_timeout, self.granting.lock()).await;
        let no_answer = |_| RpcError::new(Code::DeadlineExceeded, "a request for a lease is not answered");
        let _turn = turn.map_err(no_answer)?;
        if self.lock().held.is_some() {
            return Ok(());
        }
        let ends = Instant::now() + self.ttl;
        let command = Command::GrantLease { node: self.node, ttl_ms: self.ttl_ms };
        let lease = self.lease_command(command).await?;
        self.taken.inc();
        tracing::info!(lease = %lease.id, epoch = %lease.epoch, "lease taken");
        let reported = lease.epoch;
        let open_sequences = BTreeSet::new();
        self.lock().held = Some(Held { lease, next_sequence: 1, open_sequences, reported, ends, fenced: false });
        Ok(())
    }

    /// Extends the lease, reporting the lowest start epoch still open; takes a new one if it is gone.
    /// Returns the newest map epoch.
    pub(crate) async fn renew(&self) -> Result<MapEpoch, RpcError> {
        let request = {
            let state = self.lock();
            state.held.as_ref().map(|held| (held.lease.id, state.lowest_open(&held.lease)))
        };
        let Some((lease, lowest_open)) = request else {
            return self.grant_anew().await;
        };
        let ends = Instant::now() + self.ttl;
        let command = Command::RenewLease { lease, ttl_ms: self.ttl_ms, lowest_open };
        match self.lease_command(command).await {
            Ok(renewed) => {
                let mut state = self.lock();
                if let Some(held) = &mut state.held
                    && held.lease.id == renewed.id
                {
                    held.lease = renewed;
                    held.reported = lowest_open;
                    held.ends = ends;
                    held.fenced = false;
                }
                Ok(renewed.map_epoch)
            }
            Err(error) if matches!(error.code, Code::NoLease | Code::Fenced) => {
                self.forget(lease);
                self.grant_anew().await
            }
            Err(error) => Err(error),
        }
    }

    async fn grant_anew(&self) -> Result<MapEpoch, RpcError> {
        self.grant().await?;
        Ok(self.lock().held.as_ref().map(|held| held.lease.map_epoch).unwrap_or_default())
    }

    /// The next write asks for the epoch before it begins: the one known here is fenced.
    fn doubt_epoch(&self, lease: LeaseId) {
        if let Some(held) = self.lock().held.as_mut().filter(|held| held.lease.id == lease) {
            held.fenced = true;
        }
    }

    /// A renewal would report a higher epoch than the last one did, so that a fence may rise.
    fn has_news(&self) -> bool {
        let state = self.lock();
        state.held.as_ref().is_some_and(|held| state.lowest_open(&held.lease) > held.reported)
    }

    /// Gives the lease back.
    pub(crate) async fn release(&self) {
        let Some(held) = self.lock().held.take() else { return };
        let command = Command::ReleaseLease { lease: held.lease.id };
        if let Err(error) = self.meta.command(self.own(command), self.meta_timeout).await {
            tracing::warn!(%error, "lease not given back; it will expire");
        }
    }

    fn forget(&self, lease: LeaseId) {
        let mut state = self.lock();
        if state.held.as_ref().is_some_and(|held| held.lease.id == lease) {
            tracing::warn!(%lease, "lease lost");
            state.held = None;
        }
    }

    fn own(&self, command: Command) -> CommandEnvelope {
        CommandEnvelope {
            lease: None,
            sequence: CommandSequence(0),
            lowest_open: CommandSequence(0),
            origin: Origin { node: self.node, ..Origin::default() },
            salt: None,
            command,
        }
    }

    /// Sends a command about the cluster itself, which is idempotent by nature, until it is answered.
    ///
    /// # Errors
    /// What the metadata service answered. `DeadlineExceeded`: the outcome is unknown.
    pub(crate) async fn of_cluster(&self, origin: Origin, salt: Salt, command: Command) -> Result<MetaReply, RpcError> {
        let envelope = CommandEnvelope { origin, salt: Some(salt), ..self.own(command) };
        self.send(envelope, Instant::now() + self.command_deadline).await.0
    }

    async fn lease_command(&self, command: Command) -> Result<Lease, RpcError> {
        match self.meta.command(self.own(command), self.meta_timeout).await? {
            MetaReply::Lease(lease) => Ok(lease),
            _ => Err(stele_rpc::client::unexpected("no lease to a lease command")),
        }
    }

    fn open_command(&self) -> Option<OpenCommand<'_>> {
        let mut state = self.lock();
        let held = state.held.as_mut()?;
        let sequence = held.next_sequence;
        held.next_sequence += 1;
        held.open_sequences.insert(sequence);
        let lowest_open = held.open_sequences.first().copied().unwrap_or(sequence);
        Some(OpenCommand { leases: self, lease: held.lease.id, sequence, lowest_open })
    }

    /// Sends a command under the lease until it is answered or the deadline has passed.
    ///
    /// # Errors
    /// What the metadata service answered. `DeadlineExceeded`: the outcome is unknown.
    pub(crate) async fn command(&self, origin: Origin, command: Command) -> Result<MetaReply, RpcError> {
        self.under_lease(origin, None, command).await
    }

    /// Sends a command about a bucket itself, as [`Leases::command`] does; the log takes it with this salt.
    ///
    /// # Errors
    /// As [`Leases::command`].
    pub(crate) async fn act(&self, origin: Origin, salt: Salt, command: Command) -> Result<MetaReply, RpcError> {
        self.under_lease(origin, Some(salt), command).await
    }

    async fn under_lease(&self, origin: Origin, salt: Option<Salt>, command: Command) -> Result<MetaReply, RpcError> {
        let deadline = Instant::now() + self.command_deadline;
        let mut fresh_leases = 0;
        loop {
            let Some(open) = self.open_command() else {
                self.grant().await?;
                continue;
            };
            let lease = open.lease;
            let envelope = CommandEnvelope {
                lease: Some(lease),
                sequence: CommandSequence(open.sequence),
                lowest_open: CommandSequence(open.lowest_open),
                origin: origin.clone(),
                salt,
                command: command.clone(),
            };
            match self.send(envelope, deadline).await {
                // Only a command that certainly never applied may go under another lease.
                (Err(error), Certainty::NotApplied) if error.code == Code::NoLease && fresh_leases < 2 => {
                    self.forget(lease);
                    fresh_leases += 1;
                }
                (Err(error), _) if error.code == Code::NoLease => {
                    self.forget(lease);
                    return Err(unknown(&error));
                }
                (answer, _) => {
                    if answer.as_ref().is_err_and(|error| error.code == Code::Fenced) {
                        self.doubt_epoch(lease);
                    }
                    return answer;
                }
            }
        }
    }

    /// Sends one envelope, again and again while the outcome is unknown.
    async fn send(&self, envelope: CommandEnvelope, deadline: Instant) -> (Result<MetaReply, RpcError>, Certainty) {
        let mut certainty = Certainty::NotApplied;
        let mut pause = RETRY_PAUSE;
        loop {
            let answer = self.meta.command(envelope.clone(), self.meta_timeout).await;
            let Err(error) = &answer else { return (answer, certainty) };
            match error.code {
                Code::DeadlineExceeded => certainty = Certainty::Unknown,
                Code::Unreachable | Code::NotLeader | Code::Busy => {}
                Code::Forgotten => return (Err(unknown(error)), Certainty::Unknown),
                _ => return (answer, certainty),
            }
            if Instant::now() + pause >= deadline {
                return (answer, certainty);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_PAUSE_MAX);
        }
    }
}

/// Whether an earlier attempt of an envelope may have been applied.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Certainty {
    NotApplied,
    Unknown,
}

fn unknown(error: &RpcError) -> RpcError {
    RpcError::new(
        Code::DeadlineExceeded,
        format!("the outcome of the command is unknown ({}); read before writing again", error.detail),
    )
}

/// Renews the lease until the gateway is gone. Calls `on_map` with the newest map epoch.
pub(crate) async fn renew_forever<F>(leases: Weak<Leases>, ttl: Duration, mut on_map: F)
where
    F: FnMut(MapEpoch) + Send,
{
    let mut pause = ttl / 3;
    loop {
        tokio::time::sleep(pause).await;
        let Some(leases) = leases.upgrade() else { return };
        match leases.renew().await {
            Ok(map_epoch) => {
                on_map(map_epoch);
                pause = if leases.has_news() { ttl / 60 } else { ttl / 3 };
            }
            Err(error) => {
                tracing::warn!(%error, "lease not renewed");
                pause = ttl / 12;
            }
        }
    }
}
