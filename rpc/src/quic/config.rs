//! Limits, times and windows of the transport. Every number that was measured says where.

use std::sync::Arc;
use std::time::Duration;

use quinn::{AckFrequencyConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};
use stele_types::limits::{MIB, RPC_BODY_BYTES_MAX, RPC_HEADER_BYTES_MAX};

use crate::transport::Class;

/// Smallest UDP payload that every path must carry; QUIC asks for it (RFC 9000, 14).
pub const MTU_MIN: u16 = 1200;
/// Largest UDP payload ever tried. From 6,553 on ten segments of one send exceed 65,535 bytes, which the
/// socket layer reports as sent (quinn issues 2199, 2201): the connection hangs.
pub const MTU_CAP_MAX: u16 = 6500;

// Windows, bytes. Measured on loopback against quinn's defaults, which suit 100 Mbit/s at 100 ms: lost
// packets from 29,000 to none, 40 % fewer acknowledgements.
const STREAM_WINDOW: u32 = 16 * MIB as u32;
const CONNECTION_WINDOW: u32 = 64 * MIB as u32;
const SEND_WINDOW: u64 = 64 * MIB as u64;
/// Before a peer has shown who it is, it may make this node hold so many bytes.
const STRANGER_WINDOW: u32 = 32 * 1024;
/// Bytes of repair on their way to one peer, in one direction. Priority orders only what is not sent yet;
/// behind megabytes under way, foreground reads kept 20 % of their throughput (`bench_transport`). So
/// repair has a connection of its own, with a window so small that it can't fill the path.
const REPAIR_WINDOW: u32 = 32 * 1024;
/// Kernel buffers of the socket, bytes: drops there are invisible to congestion control.
pub(super) const SOCKET_BUFFER: usize = 8 * MIB;
/// Round trip assumed before the first sample; quinn's 333 ms are for the open Internet.
const INITIAL_RTT: Duration = Duration::from_millis(1);
/// Packets and time after which an acknowledgement is due.
const ACK_THRESHOLD: u32 = 20;
const ACK_DELAY: Duration = Duration::from_millis(2);
/// After a black hole the path's MTU is left alone for so long.
const BLACK_HOLE_COOLDOWN: Duration = Duration::from_secs(600);

const fn window(class: Class) -> u32 {
    match class {
        Class::Foreground => CONNECTION_WINDOW,
        Class::Repair => REPAIR_WINDOW,
    }
}

/// What an operator may set. Defaults fit a storage node of a mid-size cluster.
#[derive(Clone, Debug)]
pub struct QuicConfig {
    /// Largest UDP payload that discovery tries, bytes; [`MTU_MIN`] to [`MTU_CAP_MAX`]. 1452 fits
    /// Ethernet and most overlays; raise it to 6500 only where the whole network carries jumbo frames.
    pub mtu_cap: u16,
    /// Most calls under way on one connection; past it `Busy`.
    pub in_flight_max: u32,
    /// Most [`crate::transport::Class::Repair`] calls under way to one peer; further ones wait their turn.
    pub repair_in_flight_max: u32,
    /// Memory for headers and bodies being received, bytes, on each side; past it receivers wait.
    pub receive_budget_bytes: usize,
    /// Most connections that are served at once.
    pub connections_max: u32,
    /// For dialling one address, handshakes included.
    pub connect_timeout: Duration,
    /// A connection on which nothing arrives for so long is dead.
    pub idle_timeout: Duration,
    /// How often an idle connection shows that it lives.
    pub keep_alive: Duration,
    /// How long a request may take to arrive once its stream is open.
    pub receive_timeout: Duration,
    /// Longest deadline that is kept; longer ones are shortened to it.
    pub call_timeout_max: Duration,
    /// Join requests answered per second, for all callers together.
    pub joins_per_second: u32,
}

impl Default for QuicConfig {
    fn default() -> Self {
        Self {
            mtu_cap: 1452,
            in_flight_max: 1024,
            repair_in_flight_max: 2,
            receive_budget_bytes: 512 * MIB,
            connections_max: 4096,
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(3),
            receive_timeout: Duration::from_secs(30),
            call_timeout_max: Duration::from_secs(3600),
            joins_per_second: 5,
        }
    }
}

/// A configuration that can't work.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("transport configuration: {0}")]
pub struct ConfigError(pub(super) String);

impl QuicConfig {
    /// Checks each value and the relations between them.
    ///
    /// # Errors
    /// [`ConfigError`]: which value is wrong and what it may be.
    pub fn check(&self) -> Result<(), ConfigError> {
        let refuse = |problem: String| Err(ConfigError(problem));
        if !(MTU_MIN..=MTU_CAP_MAX).contains(&self.mtu_cap) {
            return refuse(format!("mtu_cap is {}; choose {MTU_MIN} to {MTU_CAP_MAX}", self.mtu_cap));
        }
        let least = RPC_HEADER_BYTES_MAX + RPC_BODY_BYTES_MAX;
        if self.receive_budget_bytes < least || self.receive_budget_bytes > 1 << 40 {
            return refuse(format!("receive_budget_bytes is below {least}, the largest call, or above 1 TiB"));
        }
        if self.in_flight_max == 0 || self.in_flight_max > 1 << 16 || self.repair_in_flight_max == 0 {
            return refuse("in_flight_max must be 1 to 65536, repair_in_flight_max at least 1".to_owned());
        }
        if self.connections_max == 0 || self.connections_max > 1 << 20 || self.joins_per_second == 0 {
            return refuse("connections_max must be 1 to 1048576, joins_per_second at least 1".to_owned());
        }
        if self.keep_alive >= self.idle_timeout || IdleTimeout::try_from(self.idle_timeout).is_err() {
            return refuse("keep_alive must be shorter than idle_timeout".to_owned());
        }
        Ok(())
    }

    /// Streams a peer may have open: as many as calls, and as many again that are being refused.
    pub(super) fn streams_max(&self) -> VarInt {
        VarInt::from_u32(self.in_flight_max.saturating_mul(2).saturating_add(16))
    }

    /// The full windows of a connection whose peer is known.
    pub(super) fn open_windows(&self, connection: &quinn::Connection, class: Class) {
        connection.set_receive_window(VarInt::from_u32(window(class)));
        connection.set_max_concurrent_bi_streams(self.streams_max());
    }

    fn transport(&self, mtu_cap: u16) -> TransportConfig {
        let mut mtu = MtuDiscoveryConfig::default();
        mtu.upper_bound(mtu_cap).black_hole_cooldown(BLACK_HOLE_COOLDOWN);
        let mut ack = AckFrequencyConfig::default();
        ack.ack_eliciting_threshold(VarInt::from_u32(ACK_THRESHOLD)).max_ack_delay(Some(ACK_DELAY));
        let mut out = TransportConfig::default();
        out.stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
            .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
            .send_window(SEND_WINDOW)
            // Streams of one priority are sent one after the other: a body that is complete at the other
            // end is worth more than two halves.
            .send_fairness(false)
            .initial_rtt(INITIAL_RTT)
            .ack_frequency_config(Some(ack))
            .mtu_discovery_config(Some(mtu))
            .keep_alive_interval(Some(self.keep_alive))
            .max_idle_timeout(IdleTimeout::try_from(self.idle_timeout).ok())
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .datagram_receive_buffer_size(None);
        out
    }

    /// For connections that are dialled: the other side opens no streams on them.
    pub(super) fn dialling(&self, mtu_cap: u16, class: Class) -> Arc<TransportConfig> {
        let mut out = self.transport(mtu_cap);
        out.receive_window(VarInt::from_u32(window(class))).max_concurrent_bidi_streams(VarInt::from_u32(0));
        Arc::new(out)
    }

    /// For connections that are answered: one stream and a small window, until the peer is known.
    pub(super) fn answering(&self) -> Arc<TransportConfig> {
        let mut out = self.transport(self.mtu_cap);
        out.receive_window(VarInt::from_u32(STRANGER_WINDOW)).max_concurrent_bidi_streams(VarInt::from_u32(1));
        Arc::new(out)
    }
}
