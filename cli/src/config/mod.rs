//! Configuration: defaults < TOML file < STELE_* environment < flags. Unknown keys are errors.

mod backup;
mod chains;
mod layers;
mod unit;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use stele_metadata::{REPLACE_AFTER, SETTLE};
use stele_rpc::meta::LOG_BUCKET;
use stele_s3_gateway::http::target::Hosts;
use stele_s3_gateway::possession::Schedule;
use stele_storage_node::repair::RepairConfig;
use stele_storage_node::sweep::SweepConfig;

pub(crate) use backup::Backup;
pub(crate) use chains::{ChainSettings, Kind as ChainKind, TSA_PREFIX};
pub(crate) use layers::{Flags, NodeFlags, PortFlags, load, load_node};
pub(crate) use unit::{ByteSize, Span};

use crate::real;

/// Everything an operator can choose.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Directory that holds everything of this store.
    pub(crate) data: PathBuf,
    /// Drives made at the first start; later the drives are what they are.
    pub(crate) drives: u16,
    /// Where S3 is served; port 0 takes any free one.
    pub(crate) s3_addr: SocketAddr,
    /// Where health, metrics and status are served.
    pub(crate) admin_addr: SocketAddr,
    /// What clients sign for and buckets say.
    pub(crate) region: String,
    /// Domains below which a host's name begins with a bucket.
    pub(crate) s3_domains: Vec<String>,
    pub(crate) s3_tls: S3Tls,
    pub(crate) rpc: Rpc,
    pub(crate) place: Place,
    pub(crate) storage: Storage,
    pub(crate) root: Root,
    pub(crate) memory: Memory,
    pub(crate) gc: Gc,
    pub(crate) repair: Repair,
    pub(crate) healing: Healing,
    pub(crate) backup: Backup,
    pub(crate) log: Log,
    pub(crate) audit: Audit,
    pub(crate) possession: Possession,
    pub(crate) anchor: Anchor,
    pub(crate) limits: Limits,
    pub(crate) bench: Bench,
}

/// HTTPS on the S3 port. Without files and without `local` it speaks HTTP.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct S3Tls {
    /// PEM: the server's certificate, then those above it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cert_file: Option<PathBuf>,
    /// PEM: its key; not readable by others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key_file: Option<PathBuf>,
    /// `stele dev` makes a certificate for this machine by itself.
    pub(crate) local: bool,
}

/// How this process meets the others of its cluster. Unused by `stele dev`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Rpc {
    /// UDP address that is served.
    pub(crate) addr: SocketAddr,
    /// Where others reach it, `HOST:PORT`; empty: as given when it joined.
    pub(crate) advertise: Vec<String>,
    /// Largest UDP payload that is tried, bytes.
    pub(crate) mtu_cap: u16,
}

/// Where this process stands: its failure domains. Unused by `stele dev`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Place {
    /// Name an operator knows the node by; empty: its first address.
    pub(crate) name: String,
    pub(crate) zone: String,
    pub(crate) rack: String,
}

/// What a storage node has. Unused by `stele dev`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Storage {
    /// One directory per drive, each on a device of its own.
    pub(crate) drives: Vec<PathBuf>,
}

/// The root credentials. Without them a pair is made once and kept in the data directory.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Root {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) access_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) secret_key: Option<String>,
    /// A file that holds the secret key; not readable by others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) secret_key_file: Option<PathBuf>,
}

/// Memory.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Memory {
    /// Bodies, packs and cached chunks together. Past it requests wait, then get SlowDown.
    pub(crate) budget: ByteSize,
    /// Part of the budget that holds verified chunks for reading again.
    pub(crate) cache: ByteSize,
}

/// Deletion of what nothing refers to.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Gc {
    /// Pause between two runs.
    pub(crate) interval: Span,
    /// Least time between condemning a pack and deleting it.
    pub(crate) grace: Span,
    /// Packs deleted a second; 0: as many as it can.
    pub(crate) deletes_per_second: u32,
}

impl Gc {
    /// As a sweep takes it.
    pub(crate) fn settings(&self) -> SweepConfig {
        let (grace, deletes_per_second) = (self.grace.duration(), self.deletes_per_second);
        SweepConfig { grace, deletes_per_second, ..SweepConfig::default() }
    }
}

/// Missing shards.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Repair {
    /// From one look at what is missing to the next; a change of the cluster map is looked at sooner.
    pub(crate) interval: Span,
    /// Bytes a second that a storage node reads and writes for it; 0: as many as it can.
    pub(crate) rate: ByteSize,
}

impl Repair {
    /// As a worker takes it.
    pub(crate) fn settings(self) -> RepairConfig {
        RepairConfig { rate: self.rate.0, ..RepairConfig::default() }
    }
}

impl Default for Repair {
    fn default() -> Self {
        Self { interval: Span(600_000), rate: ByteSize(64 << 20) }
    }
}

/// What is done about drives that are lost or came. Unused by `stele dev`.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Healing {
    /// A drive that does not serve for so long is replaced in its placement groups.
    pub(crate) replace_after: Span,
    /// Groups are rebalanced once no drive has come or gone for so long.
    pub(crate) settle: Span,
}

/// What is logged, to stderr.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    /// As `info` or `stele_s3_gateway=debug,info`.
    pub(crate) level: String,
    pub(crate) format: LogFormat,
}

/// Form of log lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// One JSON line per S3 request.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Audit {
    /// File that lines are appended to; `-` is stdout, empty is nowhere.
    pub(crate) log: String,
    /// Requests are refused while their line could be lost.
    pub(crate) strict: bool,
}

/// Possession audits that run by themselves.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Possession {
    /// From the beginning of one to that of the next; `0s`: none.
    pub(crate) interval: Span,
    /// Shards that each storage node is asked for.
    pub(crate) sample: u32,
    /// Bucket for the reports.
    pub(crate) bucket: String,
}

impl Possession {
    /// What gateways run, if anything.
    pub(crate) fn schedule(&self) -> Option<Schedule> {
        let interval = self.interval.duration();
        let schedule = || Schedule { interval, sample: u64::from(self.sample), bucket: self.bucket.clone() };
        (!interval.is_zero()).then(schedule)
    }
}

/// Closing and signing the evidence log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Anchor {
    /// Pause between two checkpoints; there is none where nothing was written.
    pub(crate) interval: Span,
    /// Go on where an anchor ended whose memory is gone for good.
    pub(crate) adopt: bool,
    /// Chains that checkpoints are taken to.
    pub(crate) chains: Vec<ChainSettings>,
    /// File with the witnesses whose cosignatures a checkpoint needs: `witness`, `group` and `quorum` lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) policy: Option<PathBuf>,
    /// URLs of time-stamping authorities (RFC 3161).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tsa: Vec<String>,
    /// Least time between two time stamps of one authority.
    pub(crate) tsa_interval: Span,
    /// PEM: root certificates that the authorities' answers must lead to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tsa_roots: Option<PathBuf>,
}

/// How much clients may ask for at once.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// S3 connections open at once; others wait.
    pub(crate) connections: u32,
    /// S3 requests under way at once; others get SlowDown.
    pub(crate) requests: u32,
    /// S3 requests per second of one access key; more get SlowDown. 0: any number.
    pub(crate) requests_per_second: u32,
    /// Longest wait for the header of a request, and longest life of a connection without one.
    pub(crate) header_timeout: Span,
    /// Longest pause of a client within a body that it sends or reads.
    pub(crate) idle_timeout: Span,
}

/// For benchmarks only.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Bench {
    /// Every sync of a drive takes this much longer: stands in for slower devices.
    pub(crate) drive_sync_latency: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("./stele-data"),
            drives: 6,
            s3_addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 9000)),
            admin_addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 9001)),
            region: "us-east-1".into(),
            s3_domains: Vec::new(),
            s3_tls: S3Tls::default(),
            rpc: Rpc::default(),
            place: Place::default(),
            storage: Storage::default(),
            root: Root::default(),
            memory: Memory::default(),
            gc: Gc::default(),
            repair: Repair::default(),
            healing: Healing::default(),
            backup: Backup::default(),
            log: Log::default(),
            audit: Audit::default(),
            possession: Possession::default(),
            anchor: Anchor::default(),
            limits: Limits::default(),
            bench: Bench::default(),
        }
    }
}

impl Default for Rpc {
    fn default() -> Self {
        let mtu_cap = stele_rpc::quic::config::QuicConfig::default().mtu_cap;
        Self { addr: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 9100)), advertise: Vec::new(), mtu_cap }
    }
}

impl Default for Memory {
    fn default() -> Self {
        const MOST: u64 = 1 << 30;
        const LEAST: u64 = 128 << 20;
        let budget = real::machine_memory().map_or(MOST, |all| all / 4).clamp(LEAST, MOST);
        // Whole MiB, so that `config show` prints what can be written into a file.
        let budget = budget >> 20 << 20;
        Self { budget: ByteSize(budget), cache: ByteSize(budget / 4) }
    }
}

impl Default for Gc {
    fn default() -> Self {
        let deletes_per_second = SweepConfig::default().deletes_per_second;
        Self { interval: Span(3_600_000), grace: Span(86_400_000), deletes_per_second }
    }
}

impl Default for Healing {
    fn default() -> Self {
        let span = |time: std::time::Duration| Span(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        Self { replace_after: span(REPLACE_AFTER), settle: span(SETTLE) }
    }
}

impl Default for Log {
    fn default() -> Self {
        // openraft tells every step of its engine at info, s3s every mistake of a client as an error.
        Self { level: "info,openraft=error,s3s=off".into(), format: LogFormat::Text }
    }
}

impl Default for Possession {
    fn default() -> Self {
        Self { interval: Span(86_400_000), sample: 32, bucket: "stele-audits".into() }
    }
}

impl Default for Anchor {
    fn default() -> Self {
        Self {
            interval: Span(10_000),
            adopt: false,
            chains: chains::by_default(),
            policy: None,
            tsa: Vec::new(),
            tsa_interval: Span(3_600_000),
            tsa_roots: None,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            requests: 1024,
            requests_per_second: 0,
            header_timeout: Span(75_000),
            idle_timeout: Span(60_000),
        }
    }
}

impl Default for Bench {
    fn default() -> Self {
        Self { drive_sync_latency: Span(0) }
    }
}

impl Config {
    /// TOML of what is in force, without the secret.
    pub(crate) fn redacted_toml(&self) -> Result<String, toml::ser::Error> {
        let mut shown = self.clone();
        if shown.root.secret_key.is_some() {
            shown.root.secret_key = Some("(set, not shown)".into());
        }
        toml::to_string(&shown)
    }

    /// Hosts whose name holds a bucket.
    ///
    /// # Errors
    /// A domain is none; [`load`] has refused such a configuration.
    pub(crate) fn hosts(&self) -> anyhow::Result<Hosts> {
        Ok(Hosts::new(&self.s3_domains)?)
    }

    fn check(&self) -> Result<(), String> {
        // The gateway needs 64 MiB besides a cache of at most half.
        const BUDGET_MIN: u64 = 128 << 20;
        if self.drives == 0 || self.drives > 64 {
            return Err(format!("drives = {}: 1 to 64 drives are possible", self.drives));
        }
        if self.memory.budget.0 < BUDGET_MIN {
            return Err(format!("memory.budget = {}: at least 128MiB are needed", self.memory.budget));
        }
        if self.memory.cache.0 > self.memory.budget.0 / 2 {
            let (cache, budget) = (self.memory.cache, self.memory.budget);
            return Err(format!("memory.cache = {cache} is over half of memory.budget = {budget}; lower it"));
        }
        for (name, value) in [("connections", self.limits.connections), ("requests", self.limits.requests)] {
            if !(1..=1_000_000).contains(&value) {
                return Err(format!("limits.{name} = {value}: 1 to 1000000 are possible"));
            }
        }
        let times = [
            ("limits.header_timeout", self.limits.header_timeout),
            ("limits.idle_timeout", self.limits.idle_timeout),
            ("anchor.interval", self.anchor.interval),
            ("anchor.tsa_interval", self.anchor.tsa_interval),
        ];
        for (name, value) in times {
            if !(1_000..=86_400_000).contains(&value.0) {
                return Err(format!("{name} = {value}: 1s to 1d are possible"));
            }
        }
        let Healing { replace_after, settle } = self.healing;
        for (name, value) in [("replace_after", replace_after), ("settle", settle)] {
            if !(1_000..=86_400_000 * 366).contains(&value.0) {
                return Err(format!("healing.{name} = {value}: 1s to 366d are possible"));
            }
        }
        self.backup.check()?;
        let Possession { interval, sample, bucket } = &self.possession;
        if interval.0 != 0 && !(1_000..=86_400_000 * 366).contains(&interval.0) {
            return Err(format!("possession.interval = {interval}: 1s to 366d are possible, or 0s for none"));
        }
        if !(1..=4096).contains(sample) {
            return Err(format!("possession.sample = {sample}: 1 to 4096 are possible"));
        }
        if !(3..=63).contains(&bucket.len()) {
            return Err(format!("possession.bucket = {bucket:?} is no name for a bucket"));
        }
        if bucket == LOG_BUCKET {
            return Err(format!(
                "possession.bucket = {bucket:?}: that bucket is for archives of the evidence log alone"
            ));
        }
        chains::check(&self.anchor.chains, self.anchor.tsa.len())?;
        Hosts::new(&self.s3_domains).map_err(|e| format!("s3_domains: {e}"))?;
        let S3Tls { cert_file, key_file, local } = &self.s3_tls;
        if cert_file.is_some() != key_file.is_some() {
            return Err("s3_tls.cert_file and s3_tls.key_file belong together; set both or neither".into());
        }
        if *local && cert_file.is_some() {
            return Err("s3_tls.local makes a certificate, s3_tls.cert_file names one; keep one".into());
        }
        let Root { access_key, secret_key, secret_key_file } = &self.root;
        let secrets = usize::from(secret_key.is_some()) + usize::from(secret_key_file.is_some());
        if secrets > 1 {
            return Err("root.secret_key and root.secret_key_file are both set; keep one".into());
        }
        if access_key.is_some() != (secrets == 1) {
            return Err("root.access_key and root.secret_key belong together; set both or neither".into());
        }
        Ok(())
    }
}
