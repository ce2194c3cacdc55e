//! What the server spent: CPU time of its processes from /proc, sync counters from its metrics.

use std::collections::BTreeMap;
use std::str::FromStr;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt as _;
use tokio::time::Instant;

use crate::latency::Latencies;
use crate::s3::connection::{Address, Connection, authority};
use crate::s3::payload::Payload;

/// Clock ticks per second in /proc: fixed at 100 for user space on Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process of the server: `PID`, or `NAME=PID` where it has several.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ServerProcess {
    name: String,
    pid: u32,
}

impl FromStr for ServerProcess {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (name, pid) = text.split_once('=').unwrap_or(("server", text));
        let pid = pid.parse().with_context(|| format!("{text:?} is neither PID nor NAME=PID"))?;
        Ok(Self { name: name.to_owned(), pid })
    }
}

/// Where the figures come from.
#[derive(Debug)]
pub(crate) struct Server {
    processes: Vec<ServerProcess>,
    metrics: Option<(String, String)>,
}

/// Figures at one instant.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    /// By name of the process; those of one name together.
    cpu_seconds: BTreeMap<String, f64>,
    counters: BTreeMap<String, f64>,
}

impl Server {
    pub(crate) fn new(processes: Vec<ServerProcess>, metrics: Option<&str>) -> anyhow::Result<Self> {
        let metrics = metrics
            .map(|url| {
                let uri: http::Uri = url.parse().with_context(|| format!("not a URL: {url:?}"))?;
                anyhow::Ok((authority(url)?, uri.path().to_owned()))
            })
            .transpose()?;
        Ok(Self { processes, metrics })
    }

    /// Takes the figures now.
    ///
    /// # Errors
    /// If a source that was asked for can't be read.
    pub(crate) async fn sample(&self) -> anyhow::Result<Sample> {
        let mut spent = BTreeMap::new();
        for process in &self.processes {
            *spent.entry(process.name.clone()).or_default() += cpu_seconds(process.pid).await?;
        }
        let counters = match &self.metrics {
            Some((authority, path)) => sync_counters(&scrape(authority, path).await?),
            None => BTreeMap::new(),
        };
        Ok(Sample { cpu_seconds: spent, counters })
    }
}

/// Requests of one measurement of the empty round trip.
const PINGS: u32 = 2000;

impl Server {
    /// Latencies of an HTTP request that does nothing: `/health/live` beside the metrics, on one
    /// connection. What any operation costs at least. `None` without metrics.
    ///
    /// # Errors
    /// If the address does not answer.
    pub(crate) async fn ping(&self) -> anyhow::Result<Option<Latencies>> {
        let Some((authority, _)) = &self.metrics else { return Ok(None) };
        let mut connection = Connection::new(Address::plain(authority.clone()));
        let mut latencies = Latencies::default();
        for _ in 0..PINGS {
            let started = Instant::now();
            call(&mut connection, authority, "/health/live").await?;
            latencies.record(started.elapsed());
        }
        Ok(Some(latencies))
    }
}

impl Sample {
    /// CPU seconds spent between two samples, by name of the process.
    pub(crate) fn cpu_between(before: &Self, after: &Self) -> BTreeMap<String, f64> {
        growth(&before.cpu_seconds, &after.cpu_seconds)
    }

    /// Growth of each counter between two samples.
    pub(crate) fn counters_between(before: &Self, after: &Self) -> BTreeMap<String, f64> {
        growth(&before.counters, &after.counters)
    }
}

fn growth(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    let grown = |(name, now): (&String, &f64)| (name.clone(), now - before.get(name).copied().unwrap_or_default());
    after.iter().map(grown).collect()
}

async fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = tokio::fs::read_to_string(&path).await.with_context(|| format!("reading {path}"))?;
    parse_cpu(&stat).with_context(|| format!("{path} has an unknown form"))
}

fn parse_cpu(stat: &str) -> Option<f64> {
    // The command name may hold blanks; fields are counted behind its closing parenthesis.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some((ticks(11)? + ticks(12)?) as f64 / TICKS_PER_SECOND)
}

async fn scrape(authority: &str, path: &str) -> anyhow::Result<String> {
    let body = call(&mut Connection::new(Address::plain(authority.to_owned())), authority, path).await?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

async fn call(connection: &mut Connection, authority: &str, path: &str) -> anyhow::Result<Bytes> {
    let request = Request::get(path).header("host", authority).body(Payload::default())?;
    let response = connection.send(request).await.map_err(|e| anyhow::anyhow!("{path}: {e}"))?;
    ensure!(response.status().is_success(), "{path}: status {}", response.status());
    Ok(response.into_body().collect().await?.to_bytes())
}

/// Sums the samples of every counter whose name contains `fsyncs`, over its labels.
fn sync_counters(text: &str) -> BTreeMap<String, f64> {
    let mut counters = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let name = series.split('{').next().unwrap_or(series);
        if name.contains("fsyncs")
            && let Ok(value) = value.parse::<f64>()
        {
            *counters.entry(name.to_owned()).or_insert(0.0) += value;
        }
    }
    counters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_a_name_with_blanks() {
        let stat = "42 (a (b) c) S 1 1 1 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 9 0 100 1 1";
        assert_eq!(parse_cpu(stat), Some(2.0));
        assert_eq!(parse_cpu("42"), None);
    }

    #[test]
    fn processes_may_have_names() {
        let named = |name: &str| ServerProcess { name: name.to_owned(), pid: 42 };
        assert_eq!("42".parse::<ServerProcess>().unwrap(), named("server"));
        assert_eq!("s3-gateway=42".parse::<ServerProcess>().unwrap(), named("s3-gateway"));
        assert!("s3-gateway".parse::<ServerProcess>().is_err());
    }

    #[test]
    fn sync_counters_are_summed_over_labels() {
        let text =
            "# TYPE a counter\nx_fsyncs_total{drive=\"0\"} 3\nx_fsyncs_total{drive=\"1\"} 4\ny_sync_seconds_total 9\n";
        assert_eq!(sync_counters(text), BTreeMap::from([("x_fsyncs_total".to_owned(), 7.0)]));
    }
}
