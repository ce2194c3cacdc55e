//! `stele gc`: what an operator sees of garbage collection. docs/gc.md.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use stele_rpc::meta::{BucketSpace, GcRun, GcStatus, PackCount};
use stele_types::seam::Clock as _;

use crate::cluster::operator::Operator;
use crate::config::Span;
use crate::real::RealClock;
use crate::status_command::{human, page};

/// `stele gc`.
#[derive(Subcommand)]
pub(crate) enum GcCommand {
    /// Show what the last run did, what waits, and what space is used for.
    Status(GcArgs),
}

/// Whom to ask.
#[derive(Args)]
pub(crate) struct GcArgs {
    /// The operator's papers of a cluster, from `stele cluster init`.
    #[arg(long, value_name = "FILE", env = "STELE_ADMIN_FILE", conflicts_with = "admin_addr")]
    admin: Option<PathBuf>,
    /// Admin address of a running process [default: 127.0.0.1:9001].
    #[arg(long, value_name = "ADDR")]
    admin_addr: Option<SocketAddr>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

const HERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9001);

impl GcCommand {
    /// Does it.
    ///
    /// # Errors
    /// Nobody answers.
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let Self::Status(args) = self;
        let status = args.status().await?;
        let shown =
            if args.json { serde_json::to_string(&status)? } else { render(&status, RealClock::new().unix_millis()) };
        crate::print(shown);
        Ok(ExitCode::SUCCESS)
    }
}

impl GcArgs {
    async fn status(&self) -> anyhow::Result<GcStatus> {
        if let Some(file) = &self.admin {
            let operator = Operator::open(file)?;
            let status = operator.gc_status().await;
            operator.close().await;
            return status;
        }
        let at = self.admin_addr.unwrap_or(HERE);
        let body = page(at, "/gc").await?;
        match serde_json::from_str(&body).with_context(|| format!("{at} answered: {}", body.trim())) {
            Ok(status) => Ok(status),
            Err(error) => bail!(error),
        }
    }
}

fn of_bucket(bucket: &BucketSpace) -> String {
    let name = if bucket.name.is_empty() { format!("deleted bucket #{}", bucket.bucket) } else { bucket.name.clone() };
    let (logical, unique, stored) =
        (human(bucket.logical_bytes), human(bucket.unique.bytes), human(bucket.stored_bytes));
    format!("{name:<24} {} versions, {logical} logical, {unique} unique, {stored} stored", bucket.versions)
}

fn count(count: PackCount) -> String {
    format!("{} packs, {}", count.packs, human(count.bytes))
}

fn ago(now: u64, then: u64) -> String {
    format!("{} ago", Span(now.saturating_sub(then) / 1000 * 1000))
}

/// For people. `now`: milliseconds since 1970.
fn render(status: &GcStatus, now: u64) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        let written = writeln!(out, "{text}");
        debug_assert!(written.is_ok(), "writing to a String can't fail");
    };
    line(format!(
        "space     {} logical, {} unique in {} packs, {} stored with parity",
        human(status.logical_bytes),
        human(status.unique.bytes),
        status.unique.packs,
        human(status.stored_bytes)
    ));
    for bucket in &status.buckets {
        line(format!("  {}", of_bucket(bucket)));
    }
    if status.more_buckets {
        line("  and more buckets, which are not listed".to_owned());
    }
    if let Some(window) = status.trash_window_ms {
        let (versions, bytes) = (status.trash_versions, human(status.trash_bytes));
        line(format!("trash     {versions} removed versions of {bytes}, each kept for {}", Span(window)));
    }
    let oldest = status.oldest_upload.map(|at| format!(", the oldest begun {}", ago(now, at))).unwrap_or_default();
    let at_least = if status.more_uploads { "at least " } else { "" };
    line(format!("uploads   {at_least}{} neither completed nor aborted{oldest}", status.uploads));
    line(format!("epoch     {}, fence {}", status.epoch, status.fence));
    let totals = &status.totals;
    line(format!(
        "all runs  {} ended; {} packs condemned, {} deleted, {} pardoned",
        totals.runs,
        totals.condemned,
        count(totals.deleted),
        totals.pardoned
    ));
    match (&status.last, status.last_begun) {
        (Some(run), _) => last(run, now, &mut line),
        (None, Some(begun)) => line(format!("last run  began {}, and none has ended yet", ago(now, begun))),
        (None, None) => line("last run  none yet".to_owned()),
    }
    out.trim_end().to_owned()
}

fn last(run: &GcRun, now: u64, line: &mut impl FnMut(String)) {
    line(format!("last run  number {}, ended {}, fence {}", run.number, ago(now, run.ended), run.fence));
    line(format!("  groups     {} swept, {} left as they were", run.pgs, run.void));
    line(format!("  referenced {}", count(run.referenced)));
    line(format!("  young      {}", count(run.young)));
    line(format!("  condemned  {}", count(run.condemned)));
    line(format!("  waiting    {}", count(run.waiting)));
    line(format!("  deleted    {}", count(run.deleted)));
    let strays = &run.strays;
    if strays.found.packs > 0 || strays.unasked > 0 {
        line(format!(
            "  strays     {}; {} condemned, {} waiting, {} deleted, {} kept",
            count(strays.found),
            strays.condemned,
            strays.waiting,
            strays.deleted.packs,
            strays.kept.packs
        ));
        if strays.unasked > 0 {
            line(format!("! {} drives could not be asked: what they hold is not known", strays.unasked));
        }
        if strays.kept.packs > 0 {
            line(format!(
                "! {} strays are needed where they are: the drives that should hold their shards do not",
                strays.kept.packs
            ));
        }
    }
    if run.pardoned > 0 {
        line(format!(
            "! {} condemned packs were found referenced and pardoned: this should not happen, tell us",
            run.pardoned
        ));
    }
    for (pg, why) in &run.voided {
        line(format!("! placement group {pg} was left as it was: {why}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stele_types::ids::{Epoch, PgId};

    #[test]
    fn what_needs_an_eye_is_told_and_the_rest_is_short() {
        assert!(render(&GcStatus::default(), 0).ends_with("last run  none yet"));
        let mut run = GcRun { number: 3, fence: Epoch(7), ended: 1000, pardoned: 1, ..GcRun::default() };
        run.leave(PgId(4), "2 slots did not answer");
        run.strays.kept.add(5);
        run.strays.found.add(5);
        let status = GcStatus { last: Some(run), ..GcStatus::default() };
        let shown = render(&status, 61_000);
        for part in
            ["number 3, ended 1min ago, fence 7", "1 condemned packs", "placement group 4", "1 strays are needed"]
        {
            assert!(shown.contains(part), "{part:?} is missing in:\n{shown}");
        }
        let text = serde_json::to_string(&status).unwrap();
        assert_eq!(serde_json::from_str::<GcStatus>(&text).unwrap(), status);
    }
}
