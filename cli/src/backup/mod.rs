//! `stele backup`: the operator's key, and backups of a cluster's metadata: having one made, listing, verifying, drilling.
//! Restoring is `stele cluster restore`.

mod drill;
pub(crate) mod make;
pub(crate) mod place;
pub(crate) mod rebuild;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand};
use serde_json::json;
use stele_metadata::backup::{self, Facts, SecretKey};
use stele_rpc::meta::BackupMade;

use crate::cluster::command::{AdminArgs, say};
use crate::web;
use place::{Listed, Place};

/// A key file is three lines.
const KEY_BYTES_MAX: usize = 4096;

/// Which backup, and where.
#[derive(Args)]
pub(crate) struct FromArgs {
    /// Where backups are: file:///dir, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, or one backup there.
    #[arg(long = "from", value_name = "URL", env = "STELE_BACKUP_URL")]
    url: String,
    /// Its name, as `stele backup list` prints it [default: the newest].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

/// `stele backup`.
#[derive(Subcommand)]
pub(crate) enum BackupCommand {
    /// Draw the operator's key pair. The file is the secret half: keep it, and a copy of it, away from the cluster.
    Keygen {
        /// Where the secret half goes; nothing is replaced.
        #[arg(short, long, value_name = "FILE")]
        out: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Have a backup made now, and wait until it was read back.
    Now {
        #[command(flatten)]
        admin: AdminArgs,
        /// Give up after so long.
        #[arg(long, value_name = "TIME", default_value = "1h")]
        timeout: crate::config::Span,
    },
    /// Say that no backups are made any more, so that no pack waits for one. Remove backup.url from the configuration first.
    Stop {
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// List backups, oldest first.
    List {
        #[command(flatten)]
        from: FromArgs,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Read a backup to its end: every hash is compared; with the key, every row is read, too.
    Verify {
        #[command(flatten)]
        from: FromArgs,
        /// The operator's key file.
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Restore a backup into a scratch directory, without a network, and say what a restore would give.
    Drill {
        #[command(flatten)]
        from: FromArgs,
        /// The operator's key file.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// An empty or missing directory, with as much room as the metadata needs. It is left as it is.
        #[arg(long, value_name = "DIR")]
        scratch: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

impl FromArgs {
    /// The place, and the backup in it.
    ///
    /// # Errors
    /// There is none.
    pub(crate) async fn find(&self) -> anyhow::Result<(Place, Listed)> {
        let place = Place::open(&self.url)?;
        let listed = place.choose(self.name.as_deref()).await?;
        Ok((place, listed))
    }
}

/// Reads the operator's key file.
///
/// # Errors
/// It can't be read, everyone may read it, or it is none.
pub(crate) async fn read_key(path: &Path) -> anyhow::Result<SecretKey> {
    use std::os::unix::fs::PermissionsExt as _;
    let what = || format!("key file {}", path.display());
    let facts = std::fs::metadata(path).with_context(what)?;
    ensure!(
        facts.permissions().mode() & 0o007 == 0,
        "{} may be read by everyone; run chmod o-rwx on it",
        path.display()
    );
    let text = String::from_utf8(web::read_small(path, KEY_BYTES_MAX).await?).with_context(what)?;
    SecretKey::parse(&text).with_context(what)
}

#[expect(clippy::disallowed_methods, reason = "an operator's file is no data of ours")]
fn write_key(path: &Path, key: &SecretKey) -> anyhow::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let what = || format!("writing the key file {}; nothing is replaced", path.display());
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path).with_context(what)?;
    file.write_all(key.to_text().as_bytes()).and_then(|()| file.sync_all()).with_context(what)
}

/// What a backup says of itself, for people.
fn told(name: &str, facts: &Facts) -> String {
    let signed = facts.signed.as_ref().map_or_else(|| "nothing".to_owned(), |signed| format!("size {}", signed.size));
    format!(
        "{name}\n  cluster {}, up to command {} at {} ms, {} rows\n  evidence log of {} entries, signed: {signed}\n  sealed to {}",
        facts.cluster, facts.index, facts.time, facts.rows, facts.log_size, facts.recipient
    )
}

impl BackupCommand {
    /// Does it.
    ///
    /// # Errors
    /// Says what was refused, and by whom.
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Keygen { out, json } => {
                let key = SecretKey::generate()?;
                write_key(&out, &key)?;
                let recipient = key.recipient().to_string();
                say(json, &json!({ "recipient": recipient, "key": out }), || {
                    format!(
                        "{recipient}\nset it as backup.recipient; keep {}: without it no backup opens",
                        out.display()
                    )
                });
            }
            Self::Now { admin, timeout } => now(&admin, timeout.duration()).await?,
            Self::Stop { admin } => {
                let operator = admin.open()?;
                let stopped = operator.stop_backups().await;
                operator.close().await;
                stopped?;
                say(admin.json(), &json!({ "interval_ms": null }), || "no backups are made any more".to_owned());
            }
            Self::List { from, json } => list(&from, json).await?,
            Self::Verify { from, key, json } => verify(&from, key.as_deref(), json).await?,
            Self::Drill { from, key, scratch, json } => return drill::run(&from, &key, &scratch, json).await,
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn now(admin: &AdminArgs, timeout: Duration) -> anyhow::Result<()> {
    let operator = admin.open()?;
    let made = operator.backup_now(timeout).await;
    operator.close().await;
    let BackupMade { name, hash, bytes, rows, .. } = made?;
    let hash = hex::encode(hash);
    say(admin.json(), &json!({ "name": name, "blake3": hash, "bytes": bytes, "rows": rows }), || {
        format!("{name}: {rows} rows, {bytes} bytes, BLAKE3 {hash}, read back")
    });
    Ok(())
}

async fn list(from: &FromArgs, as_json: bool) -> anyhow::Result<()> {
    let place = Place::open(&from.url)?;
    let (mut lines, mut rows) = (Vec::new(), Vec::new());
    for listed in place.list().await?.into_iter().filter(|one| from.name.as_ref().is_none_or(|name| one.name == *name))
    {
        let facts = place.get_head(&listed, |source| Ok(backup::read_facts(source)?)).await;
        let Listed { name, bytes, superseded } = &listed;
        let mark = if *superseded { "\n  SUPERSEDED: packs that it needs may be gone" } else { "" };
        match facts {
            Ok(facts) => {
                lines.push(format!("{}\n  {bytes} bytes{mark}", told(name, &facts)));
                rows.push(json!({ "name": name, "bytes": bytes, "superseded": superseded, "facts": facts }));
            }
            Err(error) => {
                lines.push(format!("{name}\n  UNREADABLE: {error:#}"));
                rows.push(json!({ "name": name, "bytes": bytes, "error": format!("{error:#}") }));
            }
        }
    }
    say(as_json, &json!(rows), || {
        if lines.is_empty() { format!("no backups at {}", place.shown()) } else { lines.join("\n") }
    });
    Ok(())
}

async fn verify(from: &FromArgs, key: Option<&Path>, as_json: bool) -> anyhow::Result<()> {
    let key = match key {
        Some(path) => Some(read_key(path).await?),
        None => None,
    };
    let (place, listed) = from.find().await?;
    let opened = key.is_some();
    let proven = place
        .get(&listed.name, move |source| {
            Ok(match key {
                Some(key) => backup::open_rows(source, &key)?,
                None => backup::prove(source)?,
            })
        })
        .await?;
    let hash = hex::encode(proven.hash);
    let seen = json!({ "name": listed.name, "blake3": hash, "bytes": proven.bytes, "rows_read": opened, "facts": proven.facts });
    say(as_json, &seen, || {
        let how = if opened { "whole, and every row was read" } else { "whole; its rows need the key (--key)" };
        format!("{}\n  {} bytes, BLAKE3 {hash}: {how}", told(&listed.name, &proven.facts), proven.bytes)
    });
    Ok(())
}
