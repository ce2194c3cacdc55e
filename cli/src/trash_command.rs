//! `stele trash`: removed versions that an operator can bring back. docs/gc.md.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use stele_rpc::meta::{Committed, RestoreVersion, TRASH_PAGE_MAX, TrashCommand as Change, TrashQuery, TrashedVersion};
use stele_types::ids::{BucketId, Salt, VersionId};
use stele_types::seam::random_bytes;

use crate::cluster::operator::Operator;
use crate::config::Span;
use crate::real::OsRng;
use crate::status_command::human;

/// `stele trash`.
#[derive(Subcommand)]
pub(crate) enum TrashCommand {
    /// Say how long removed versions are kept, so that they can be brought back.
    Keep {
        #[command(flatten)]
        admin: Admin,
        /// A time as 24h, or off.
        #[arg(value_name = "TIME")]
        time: Keeping,
    },
    /// List removed versions that can be brought back.
    List {
        #[command(flatten)]
        admin: Admin,
        /// Only of this bucket.
        #[arg(long, value_name = "NAME")]
        bucket: Option<String>,
        /// Only keys that begin so.
        #[arg(long, value_name = "TEXT", default_value = "", requires = "bucket")]
        prefix: String,
    },
    /// Bring a removed version back, as a new version of its key.
    Restore {
        #[command(flatten)]
        admin: Admin,
        /// Its bucket.
        #[arg(long, value_name = "NAME")]
        bucket: String,
        /// Its key.
        #[arg(long, value_name = "KEY")]
        key: String,
        /// Its id, as `list` prints it [default: the version that was removed last].
        #[arg(long, value_name = "ID")]
        version: Option<String>,
        /// In a bucket that keeps no versions: remove what has the key now.
        #[arg(long)]
        replace: bool,
    },
    /// Give removed versions of a key up at once, where they must not be kept.
    Purge {
        #[command(flatten)]
        admin: Admin,
        /// Their bucket; of a deleted one its id, as `list` prints it.
        #[arg(long, value_name = "NAME")]
        bucket: String,
        /// Their key.
        #[arg(long, value_name = "KEY")]
        key: String,
        /// Only this one.
        #[arg(long, value_name = "ID")]
        version: Option<String>,
    },
}

/// How an operator is known.
#[derive(Args)]
pub(crate) struct Admin {
    /// The operator's papers, from `stele cluster init`.
    #[arg(long, value_name = "FILE", env = "STELE_ADMIN_FILE")]
    admin: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// How long removed versions are kept; `None`: not at all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keeping(Option<Span>);

impl std::str::FromStr for Keeping {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self(None)),
            time => time.parse().map(|span| Self(Some(span))).map_err(|error| format!("{error}, or off")),
        }
    }
}

impl TrashCommand {
    /// Does it.
    ///
    /// # Errors
    /// Says what the cluster refused.
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let admin = self.admin();
        let (operator, as_json) = (Operator::open(&admin.admin)?, admin.json);
        let done = self.carry_out(&operator).await;
        operator.close().await;
        let (value, text) = done?;
        crate::print(if as_json { value.to_string() } else { text });
        Ok(ExitCode::SUCCESS)
    }

    const fn admin(&self) -> &Admin {
        match self {
            Self::Keep { admin, .. }
            | Self::List { admin, .. }
            | Self::Restore { admin, .. }
            | Self::Purge { admin, .. } => admin,
        }
    }

    async fn carry_out(&self, operator: &Operator) -> anyhow::Result<(Value, String)> {
        match self {
            Self::Keep { time, .. } => {
                let window_ms = time.0.map(|span| u64::try_from(span.duration().as_millis()).unwrap_or(u64::MAX));
                operator.change_trash(Change::Keep { window_ms }).await?;
                let text = match time.0 {
                    Some(span) => format!("removed versions are kept for {span}"),
                    None => "removed versions are not kept; the next sweep gives up what is there".to_owned(),
                };
                Ok((json!({ "trash_window_ms": window_ms }), text))
            }
            Self::List { bucket, prefix, .. } => list(operator, bucket.as_deref(), prefix).await,
            Self::Restore { bucket, key, version, replace, .. } => {
                let bucket_id = operator.bucket(bucket).await?;
                let found = choose(operator, (bucket_id, key), version.as_deref()).await?;
                let restore = RestoreVersion {
                    bucket: bucket_id,
                    key: key.clone(),
                    version: found.id,
                    replace: *replace,
                    nonce: u64::from_le_bytes(random_bytes(&OsRng)),
                    salt: Salt::from_bytes(random_bytes(&OsRng)),
                };
                let Committed { id, log_index, .. } = operator.restore(restore).await?;
                let value =
                    json!({ "bucket": bucket, "key": key, "version": id.to_string(), "log_index": log_index.0 });
                Ok((value, format!("{bucket}/{key} is back as version {id}, log entry {log_index}")))
            }
            Self::Purge { bucket, key, version, .. } => {
                let bucket = match bucket.strip_prefix('#').and_then(|id| id.parse().ok()) {
                    Some(id) => BucketId(id),
                    None => operator.bucket(bucket).await?,
                };
                let version = version.as_deref().map(version_id).transpose()?;
                let purged = purge(operator, (bucket, key), version).await?;
                ensure!(purged > 0, "nothing of {key:?} is in the trash: stele trash list shows what is");
                Ok((json!({ "purged": purged }), format!("{purged} removed versions of {key:?} are given up")))
            }
        }
    }
}

fn version_id(text: &str) -> anyhow::Result<VersionId> {
    VersionId::parse(text).with_context(|| format!("{text:?} is no version id: stele trash list prints them"))
}

/// All of a key goes in steps of a bounded number.
async fn purge(
    operator: &Operator,
    (bucket, key): (BucketId, &str),
    version: Option<VersionId>,
) -> anyhow::Result<u64> {
    let mut all = 0;
    loop {
        let some = operator.purge(Change::Purge { bucket, key: key.to_owned(), version }).await?;
        all += some;
        if some < u64::from(TRASH_PAGE_MAX) {
            return Ok(all);
        }
    }
}

/// The version that is meant.
async fn choose(
    operator: &Operator,
    (bucket, key): (BucketId, &str),
    wanted: Option<&str>,
) -> anyhow::Result<TrashedVersion> {
    let wanted = wanted.map(version_id).transpose()?;
    let mut query = TrashQuery { bucket: Some(bucket), prefix: key.to_owned(), after: None, max: TRASH_PAGE_MAX };
    let mut last: Option<TrashedVersion> = None;
    loop {
        let page = operator.trash(query.clone()).await?;
        query.after = page.rows.last().map(|row| (row.bucket, row.key.clone(), row.id));
        for row in page.rows.into_iter().filter(|row| row.key == key && wanted.is_none_or(|id| row.id == id)) {
            if last.as_ref().is_none_or(|last| (row.removed, row.id.commit_seq) > (last.removed, last.id.commit_seq)) {
                last = Some(row);
            }
        }
        if !page.more {
            break;
        }
    }
    match last {
        Some(row) => Ok(row),
        None => bail!("no such removed version of {key:?} is in the trash: stele trash list shows what is"),
    }
}

async fn list(operator: &Operator, bucket: Option<&str>, prefix: &str) -> anyhow::Result<(Value, String)> {
    let bucket = match bucket {
        Some(name) => Some(operator.bucket(name).await?),
        None => None,
    };
    let mut query = TrashQuery { bucket, prefix: prefix.to_owned(), after: None, max: TRASH_PAGE_MAX };
    let (mut rows, mut lines) = (Vec::new(), Vec::new());
    let window = loop {
        let page = operator.trash(query.clone()).await?;
        query.after = page.rows.last().map(|row| (row.bucket, row.key.clone(), row.id));
        for row in &page.rows {
            let expires = row.removed.saturating_add(page.window_ms.unwrap_or(0));
            rows.push(shown(row, expires));
            let (bucket, id, how) = (place(row), row.id, if row.overwritten { "overwritten" } else { "deleted" });
            lines.push(format!(
                "{bucket}/{}  {id}  {}  {how} at {} ms, kept until {expires} ms",
                row.key,
                human(row.len),
                row.removed
            ));
        }
        if !page.more {
            break page.window_ms;
        }
    };
    if lines.is_empty() {
        lines.push(match window {
            Some(window) => format!("nothing; removed versions are kept for {}", Span(window)),
            None => "nothing; removed versions are not kept: stele trash keep 24h changes that".to_owned(),
        });
    }
    Ok((json!({ "trash_window_ms": window, "versions": rows }), lines.join("\n")))
}

/// Name of the bucket, or its id if it is gone.
fn place(row: &TrashedVersion) -> String {
    if row.bucket_name.is_empty() { format!("#{}", row.bucket) } else { row.bucket_name.clone() }
}

fn shown(row: &TrashedVersion, expires: u64) -> Value {
    json!({
        "bucket": place(row),
        "key": row.key,
        "version": row.id.to_string(),
        "bytes": row.len,
        "root": row.root.to_string(),
        "modified": row.modified,
        "removed": row.removed,
        "expires": expires,
        "overwritten": row.overwritten,
    })
}
