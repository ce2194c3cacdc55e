//! Where configuration comes from, and which place wins.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;
use toml::{Table, Value};

use super::Config;

/// Flags that override every other place.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Flags {
    /// TOML configuration file; also STELE_CONFIG.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Directory that holds everything of this store [default: ./stele-data].
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Drives to make at the first start [default: 6].
    #[arg(long, value_name = "N")]
    pub(crate) drives: Option<u16>,
    /// Where to serve S3; port 0 takes any free one [default: 127.0.0.1:9000].
    #[arg(long, value_name = "ADDR")]
    pub(crate) s3_addr: Option<SocketAddr>,
    /// Where to serve health, metrics and status [default: 127.0.0.1:9001].
    #[arg(long, value_name = "ADDR")]
    pub(crate) admin_addr: Option<SocketAddr>,
    /// File to append one JSON line per S3 request to; - is stdout [default: none].
    #[arg(long, value_name = "FILE")]
    pub(crate) audit_log: Option<String>,
    /// Serve S3 over HTTPS with a certificate made for this machine; the ready line names the CA file.
    #[arg(long)]
    pub(crate) tls: bool,
    #[command(flatten)]
    pub(crate) port: PortFlags,
}

/// What the S3 port serves, of whatever process.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct PortFlags {
    /// Serve buckets as BUCKET.NAME too, beside /BUCKET; may be repeated.
    #[arg(long = "s3-domain", value_name = "NAME")]
    pub(crate) s3_domains: Vec<String>,
    /// Serve S3 over HTTPS with this certificate chain (PEM).
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Key of the certificate (PEM).
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_key: Option<PathBuf>,
}

impl PortFlags {
    /// The settings they stand for.
    ///
    /// # Errors
    /// A path that is not UTF-8.
    pub(crate) fn settings(&self) -> anyhow::Result<Vec<(&'static [&'static str], Value)>> {
        let text = |path: &Option<PathBuf>, flag: &'static str| {
            let text = path.as_ref().map(|path| path.to_str().with_context(|| format!("{flag} is not UTF-8")));
            text.transpose().map(|text| text.map(Value::from))
        };
        let (cert, key) = (text(&self.tls_cert, "--tls-cert")?, text(&self.tls_key, "--tls-key")?);
        let domains = (!self.s3_domains.is_empty()).then(|| Value::from(self.s3_domains.clone()));
        let all: [(&[&str], Option<Value>); 3] =
            [(&["s3_domains"], domains), (&["s3_tls", "cert_file"], cert), (&["s3_tls", "key_file"], key)];
        Ok(all.into_iter().filter_map(|(path, value)| value.map(|value| (path, value))).collect())
    }
}

/// Flags of a process of a cluster, which override every other place.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct NodeFlags {
    /// TOML configuration file; also STELE_CONFIG.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Directory of this node: who it is, and what it keeps besides drives [default: ./stele-data].
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// UDP address to serve the cluster on [default: 0.0.0.0:9100].
    #[arg(long, value_name = "ADDR")]
    pub(crate) rpc_addr: Option<SocketAddr>,
    /// Where other nodes reach this one; may be repeated.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) advertise: Vec<String>,
    /// Name of this node in status [default: its first address].
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Zone this node stands in.
    #[arg(long, value_name = "NAME")]
    pub(crate) zone: Option<String>,
    /// Rack this node stands in.
    #[arg(long, value_name = "NAME")]
    pub(crate) rack: Option<String>,
    /// Where to serve health, metrics and status [default: 127.0.0.1:9001].
    #[arg(long, value_name = "ADDR")]
    pub(crate) admin_addr: Option<SocketAddr>,
}

impl NodeFlags {
    fn layer(&self) -> anyhow::Result<Table> {
        let text = |value: &Option<String>| value.clone().map(Value::from);
        let address = |value: Option<SocketAddr>| value.map(|addr| Value::String(addr.to_string()));
        let data = self.data.as_ref().map(|path| path.to_str().context("--data is not UTF-8")).transpose()?;
        let advertise = (!self.advertise.is_empty()).then(|| Value::from(self.advertise.clone()));
        let settings: [(&[&str], Option<Value>); 7] = [
            (&["data"], data.map(Value::from)),
            (&["rpc", "addr"], address(self.rpc_addr)),
            (&["rpc", "advertise"], advertise),
            (&["place", "name"], text(&self.name)),
            (&["place", "zone"], text(&self.zone)),
            (&["place", "rack"], text(&self.rack)),
            (&["admin_addr"], address(self.admin_addr)),
        ];
        let mut table = Table::new();
        for (path, value) in settings {
            if let Some(value) = value {
                merge(&mut table, nested(path, value));
            }
        }
        Ok(table)
    }
}

/// Names the configuration file; not itself a setting.
const CONFIG_VARIABLE: &str = "STELE_CONFIG";
const PREFIX: &str = "STELE_";
/// Read by the commands that need them.
const NO_SETTINGS: [&str; 2] = ["STELE_JOIN_TOKEN", "STELE_ADMIN_FILE"];

#[derive(Clone, Copy)]
enum Shape {
    Text,
    Integer,
    /// `true` or `false`.
    Switch,
    /// Separated by commas.
    List,
}

/// Every variable, and the setting it stands for.
const VARIABLES: [(&str, &[&str], Shape); 51] = [
    ("STELE_DATA", &["data"], Shape::Text),
    ("STELE_DRIVES", &["drives"], Shape::Integer),
    ("STELE_S3_ADDR", &["s3_addr"], Shape::Text),
    ("STELE_ADMIN_ADDR", &["admin_addr"], Shape::Text),
    ("STELE_REGION", &["region"], Shape::Text),
    ("STELE_S3_DOMAINS", &["s3_domains"], Shape::List),
    ("STELE_S3_TLS_CERT_FILE", &["s3_tls", "cert_file"], Shape::Text),
    ("STELE_S3_TLS_KEY_FILE", &["s3_tls", "key_file"], Shape::Text),
    ("STELE_S3_TLS_LOCAL", &["s3_tls", "local"], Shape::Switch),
    ("STELE_RPC_ADDR", &["rpc", "addr"], Shape::Text),
    ("STELE_RPC_ADVERTISE", &["rpc", "advertise"], Shape::List),
    ("STELE_RPC_MTU_CAP", &["rpc", "mtu_cap"], Shape::Integer),
    ("STELE_NAME", &["place", "name"], Shape::Text),
    ("STELE_ZONE", &["place", "zone"], Shape::Text),
    ("STELE_RACK", &["place", "rack"], Shape::Text),
    ("STELE_STORAGE_DRIVES", &["storage", "drives"], Shape::List),
    ("STELE_ROOT_ACCESS_KEY", &["root", "access_key"], Shape::Text),
    ("STELE_ROOT_SECRET_KEY", &["root", "secret_key"], Shape::Text),
    ("STELE_ROOT_SECRET_KEY_FILE", &["root", "secret_key_file"], Shape::Text),
    ("STELE_MEMORY_BUDGET", &["memory", "budget"], Shape::Text),
    ("STELE_MEMORY_CACHE", &["memory", "cache"], Shape::Text),
    ("STELE_GC_INTERVAL", &["gc", "interval"], Shape::Text),
    ("STELE_GC_GRACE", &["gc", "grace"], Shape::Text),
    ("STELE_GC_DELETES_PER_SECOND", &["gc", "deletes_per_second"], Shape::Integer),
    ("STELE_REPAIR_INTERVAL", &["repair", "interval"], Shape::Text),
    ("STELE_REPAIR_RATE", &["repair", "rate"], Shape::Text),
    ("STELE_HEALING_REPLACE_AFTER", &["healing", "replace_after"], Shape::Text),
    ("STELE_HEALING_SETTLE", &["healing", "settle"], Shape::Text),
    ("STELE_BACKUP_URL", &["backup", "url"], Shape::Text),
    ("STELE_BACKUP_RECIPIENT", &["backup", "recipient"], Shape::Text),
    ("STELE_BACKUP_INTERVAL", &["backup", "interval"], Shape::Text),
    ("STELE_BACKUP_KEEP", &["backup", "keep"], Shape::Integer),
    ("STELE_LOG_LEVEL", &["log", "level"], Shape::Text),
    ("STELE_LOG_FORMAT", &["log", "format"], Shape::Text),
    ("STELE_AUDIT_LOG", &["audit", "log"], Shape::Text),
    ("STELE_AUDIT_STRICT", &["audit", "strict"], Shape::Switch),
    ("STELE_POSSESSION_INTERVAL", &["possession", "interval"], Shape::Text),
    ("STELE_POSSESSION_SAMPLE", &["possession", "sample"], Shape::Integer),
    ("STELE_POSSESSION_BUCKET", &["possession", "bucket"], Shape::Text),
    ("STELE_ANCHOR_ADOPT", &["anchor", "adopt"], Shape::Switch),
    ("STELE_ANCHOR_INTERVAL", &["anchor", "interval"], Shape::Text),
    ("STELE_ANCHOR_POLICY", &["anchor", "policy"], Shape::Text),
    ("STELE_ANCHOR_TSA", &["anchor", "tsa"], Shape::List),
    ("STELE_ANCHOR_TSA_INTERVAL", &["anchor", "tsa_interval"], Shape::Text),
    ("STELE_ANCHOR_TSA_ROOTS", &["anchor", "tsa_roots"], Shape::Text),
    ("STELE_LIMITS_CONNECTIONS", &["limits", "connections"], Shape::Integer),
    ("STELE_LIMITS_REQUESTS", &["limits", "requests"], Shape::Integer),
    ("STELE_LIMITS_REQUESTS_PER_SECOND", &["limits", "requests_per_second"], Shape::Integer),
    ("STELE_LIMITS_HEADER_TIMEOUT", &["limits", "header_timeout"], Shape::Text),
    ("STELE_LIMITS_IDLE_TIMEOUT", &["limits", "idle_timeout"], Shape::Text),
    ("STELE_BENCH_DRIVE_SYNC_LATENCY", &["bench", "drive_sync_latency"], Shape::Text),
];

/// Reads all layers. `environment` is what `std::env::vars_os` gives.
///
/// # Errors
/// Names the place and the key that is wrong, and what may stand there.
pub(crate) fn load(
    flags: &Flags,
    environment: impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
) -> anyhow::Result<Config> {
    layered(flags.config.as_ref(), flag_layer(flags)?, environment)
}

/// As [`load`], for a process of a cluster. `more` are flags of its role only.
///
/// # Errors
/// As [`load`].
pub(crate) fn load_node(
    flags: &NodeFlags,
    more: Vec<(&'static [&'static str], Value)>,
    environment: impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
) -> anyhow::Result<Config> {
    let mut over = flags.layer()?;
    for (path, value) in more {
        merge(&mut over, nested(path, value));
    }
    layered(flags.config.as_ref(), over, environment)
}

fn layered(
    file: Option<&PathBuf>,
    from_flags: Table,
    environment: impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
) -> anyhow::Result<Config> {
    let (from_environment, config_path) = environment_layer(environment)?;
    let mut table = match file.or(config_path.as_ref()) {
        Some(path) => file_layer(path)?,
        None => Table::new(),
    };
    merge(&mut table, from_environment);
    merge(&mut table, from_flags);
    // Each layer was checked by itself, so what fails here is a value out of range.
    let mut config: Config = Value::Table(table.clone()).try_into().context("configuration")?;
    let budget_set = table.get("memory").and_then(|memory| memory.get("budget")).is_some();
    let cache_set = table.get("memory").and_then(|memory| memory.get("cache")).is_some();
    if budget_set && !cache_set {
        config.memory.cache.0 = config.memory.budget.0 / 4;
    }
    config.check().map_err(|why| anyhow!("configuration: {why}"))?;
    Ok(config)
}

#[expect(clippy::disallowed_methods, reason = "the configuration file is no data of ours")]
fn file_layer(path: &Path) -> anyhow::Result<Table> {
    let bytes = std::fs::read(path).with_context(|| format!("configuration file {}", path.display()))?;
    let text = String::from_utf8(bytes).with_context(|| format!("configuration file {}", path.display()))?;
    toml::from_str::<Config>(&text).with_context(|| format!("configuration file {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("configuration file {}", path.display()))
}

fn environment_layer(
    environment: impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
) -> anyhow::Result<(Table, Option<PathBuf>)> {
    let mut table = Table::new();
    let mut config_path = None;
    for (name, value) in environment {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        if NO_SETTINGS.contains(&name) {
            continue;
        }
        if name == CONFIG_VARIABLE {
            config_path = Some(PathBuf::from(value));
            continue;
        }
        let known = VARIABLES.iter().find(|(variable, ..)| *variable == name);
        let (_, path, shape) = known.with_context(|| {
            let names: Vec<_> = VARIABLES.iter().map(|(variable, ..)| *variable).collect();
            format!("environment variable {name} is not a setting; settings are {}", names.join(", "))
        })?;
        let text = value.into_string().map_err(|_| anyhow!("environment variable {name} is not UTF-8"))?;
        let value = match shape {
            Shape::Text => Value::String(text),
            Shape::List => Value::from(text.split(',').map(str::trim).map(str::to_owned).collect::<Vec<_>>()),
            Shape::Switch => {
                let switch = text.parse::<bool>();
                Value::Boolean(switch.with_context(|| format!("environment variable {name}: neither true nor false"))?)
            }
            Shape::Integer => {
                let number = text.parse::<i64>();
                Value::Integer(number.with_context(|| format!("environment variable {name}: not a number"))?)
            }
        };
        let one = nested(path, value);
        Value::Table(one.clone()).try_into::<Config>().with_context(|| format!("environment variable {name}"))?;
        merge(&mut table, one);
    }
    Ok((table, config_path))
}

fn flag_layer(flags: &Flags) -> anyhow::Result<Table> {
    let mut table = Table::new();
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            table.insert(name.to_owned(), value);
        }
    };
    let data = flags.data.as_ref().map(|path| path.to_str().context("--data is not UTF-8")).transpose()?;
    set("data", data.map(Value::from));
    set("drives", flags.drives.map(|n| Value::Integer(i64::from(n))));
    set("s3_addr", flags.s3_addr.map(|addr| Value::String(addr.to_string())));
    set("admin_addr", flags.admin_addr.map(|addr| Value::String(addr.to_string())));
    if let Some(place) = &flags.audit_log {
        merge(&mut table, nested(&["audit", "log"], Value::from(place.clone())));
    }
    let local = flags.tls.then_some((&["s3_tls", "local"] as &[_], Value::Boolean(true)));
    for (path, value) in flags.port.settings()?.into_iter().chain(local) {
        merge(&mut table, nested(path, value));
    }
    Ok(table)
}

fn nested(path: &[&str], value: Value) -> Table {
    let mut table = Table::new();
    match path {
        [] => {}
        [last] => drop(table.insert((*last).to_owned(), value)),
        [first, rest @ ..] => drop(table.insert((*first).to_owned(), Value::Table(nested(rest, value)))),
    }
    table
}

fn merge(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => merge(under, over),
            (_, value) => drop(under.insert(key, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ByteSize, Span};

    fn vars(pairs: &[(&str, &str)]) -> std::vec::IntoIter<(std::ffi::OsString, std::ffi::OsString)> {
        pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect::<Vec<_>>().into_iter()
    }

    fn file(text: &str) -> (tempfile::NamedTempFile, Flags) {
        use std::io::Write as _;
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let flags = Flags { config: Some(file.path().to_owned()), ..Flags::default() };
        (file, flags)
    }

    #[test]
    fn each_layer_wins_over_the_one_before() {
        let (_file, mut flags) = file("drives = 8\n[gc]\ninterval = \"10s\"\n[memory]\nbudget = \"256MiB\"\n");
        let config = load(&flags, vars(&[])).unwrap();
        assert_eq!((config.drives, config.gc.interval), (8, Span(10_000)));
        assert_eq!(config.gc.grace, Span(86_400_000), "a key beside it keeps its default");
        assert_eq!(config.memory.cache, ByteSize(64 << 20));
        let environment = [("STELE_DRIVES", "9"), ("STELE_GC_INTERVAL", "5s"), ("HOME", "/")];
        let config = load(&flags, vars(&environment)).unwrap();
        assert_eq!((config.drives, config.gc.interval), (9, Span(5_000)));
        flags.drives = Some(12);
        let config = load(&flags, vars(&environment)).unwrap();
        assert_eq!((config.drives, config.gc.interval), (12, Span(5_000)));
    }

    #[test]
    fn what_is_unknown_or_out_of_range_is_an_error_that_names_its_place() {
        for (text, needle) in [
            ("drivez = 8\n", "drivez"),
            ("[gc]\nintervall = \"1h\"\n", "intervall"),
            ("[gc]\ninterval = 5\n", "interval"),
            ("[memory]\nbudget = \"1MiB\"\n", "memory.budget"),
            ("[root]\naccess_key = \"a\"\n", "secret_key"),
            ("[audit]\nfile = \"x\"\n", "file"),
            ("[healing]\nreplace_after = \"1ms\"\n", "healing.replace_after"),
            ("[healing]\nsettle = \"1ms\"\n", "healing.settle"),
            ("[limits]\nrequests = 0\n", "limits.requests"),
            ("[limits]\nidle_timeout = \"5ms\"\n", "limits.idle_timeout"),
            ("[s3_tls]\ncert_file = \"a\"\n", "s3_tls.key_file"),
            ("[s3_tls]\ncert_file = \"a\"\nkey_file = \"b\"\nlocal = true\n", "keep one"),
        ] {
            let (_file, flags) = file(text);
            let error = format!("{:#}", load(&flags, vars(&[])).unwrap_err());
            assert!(error.contains(needle), "{text}: {error}");
        }
        for (name, value) in
            [("STELE_DRIVEZ", "1"), ("STELE_DRIVES", "x"), ("STELE_AUDIT_STRICT", "yes"), ("STELE_S3_TLS_LOCAL", "1")]
        {
            let error = format!("{:#}", load(&Flags::default(), vars(&[(name, value)])).unwrap_err());
            assert!(error.contains(name), "{name}: {error}");
        }
        let missing = Flags { config: Some("/nonexistent/stele.toml".into()), ..Flags::default() };
        assert!(load(&missing, vars(&[])).is_err());
    }

    #[test]
    fn every_variable_stands_for_a_setting() {
        for (name, path, _) in VARIABLES {
            let error = Value::Table(nested(path, Value::Float(0.5))).try_into::<Config>().unwrap_err();
            assert!(!error.to_string().contains("unknown field"), "{name}: {error}");
        }
    }

    #[test]
    fn flags_of_a_node_win_and_lists_are_read() {
        let flags = NodeFlags { zone: Some("b".into()), advertise: vec!["n1:9100".into()], ..NodeFlags::default() };
        let environment =
            [("STELE_ZONE", "a"), ("STELE_RACK", "r"), ("STELE_STORAGE_DRIVES", "/a, /b"), ("STELE_JOIN_TOKEN", "x")];
        let more = vec![(&["s3_addr"] as &[_], Value::from("127.0.0.1:1"))];
        let config = load_node(&flags, more, vars(&environment)).unwrap();
        assert_eq!((config.place.zone.as_str(), config.place.rack.as_str()), ("b", "r"));
        assert_eq!(config.storage.drives, [PathBuf::from("/a"), PathBuf::from("/b")]);
        assert_eq!((config.rpc.advertise.join(","), config.s3_addr.port()), ("n1:9100".to_owned(), 1));
    }

    #[test]
    fn the_secret_is_never_shown() {
        let environment = [("STELE_ROOT_ACCESS_KEY", "root"), ("STELE_ROOT_SECRET_KEY", "hidden-secret")];
        let config = load(&Flags::default(), vars(&environment)).unwrap();
        let shown = config.redacted_toml().unwrap();
        assert!(shown.contains("root") && !shown.contains("hidden-secret"), "{shown}");
    }
}
