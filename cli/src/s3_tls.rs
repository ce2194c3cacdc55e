//! The certificate of the S3 port: read from files at the start, again at SIGHUP, and again when the
//! files have changed. A new one that can't be used is logged, and the old one stays.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use stele_s3_gateway::http::tls::Tls;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

use crate::config::S3Tls;

/// Between two looks at the files.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// A chain is a few KiB.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Chain and key as they stand in the files.
type Pair = (Vec<u8>, Vec<u8>);

/// A certificate and the files it came from.
struct Watched {
    tls: Arc<Tls>,
    cert_file: PathBuf,
    key_file: PathBuf,
    /// What was last seen in the files, whether it could be used or not.
    seen: Pair,
}

/// Serves the configured certificate, if there is one, and follows its files until the task is dropped.
///
/// # Errors
/// Names the file that can't be read or used.
pub(crate) async fn open(config: &S3Tls) -> anyhow::Result<Option<(Arc<Tls>, JoinHandle<()>)>> {
    let (Some(cert_file), Some(key_file)) = (&config.cert_file, &config.key_file) else { return Ok(None) };
    // From here on SIGHUP asks for a look and ends nothing.
    let hangup = signal(SignalKind::hangup()).context("listening for signals")?;
    let watched = Watched::open(cert_file, key_file).await?;
    Ok(Some((Arc::clone(&watched.tls), tokio::spawn(watched.follow(hangup)))))
}

impl Watched {
    async fn open(cert_file: &Path, key_file: &Path) -> anyhow::Result<Self> {
        let seen = read(cert_file, key_file).await?;
        let tls = Tls::from_pem(&seen.0, &seen.1).with_context(|| files(cert_file, key_file))?;
        Ok(Self { tls: Arc::new(tls), cert_file: cert_file.to_owned(), key_file: key_file.to_owned(), seen })
    }

    async fn follow(mut self, mut hangup: Signal) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = hangup.recv() => {}
            }
            match self.look().await {
                Ok(false) => {}
                Ok(true) => tracing::info!("the certificate of the S3 port was replaced"),
                Err(error) => tracing::error!("{error:#}; the S3 port keeps its old certificate"),
            }
        }
    }

    /// Takes what is new in the files; false if nothing is.
    async fn look(&mut self) -> anyhow::Result<bool> {
        let found = read(&self.cert_file, &self.key_file).await?;
        if found == self.seen {
            return Ok(false);
        }
        let taken = self.tls.replace(&found.0, &found.1);
        self.seen = found;
        taken.with_context(|| files(&self.cert_file, &self.key_file))?;
        Ok(true)
    }
}

fn files(cert_file: &Path, key_file: &Path) -> String {
    format!("s3_tls.cert_file {} and s3_tls.key_file {}", cert_file.display(), key_file.display())
}

async fn read(cert_file: &Path, key_file: &Path) -> anyhow::Result<Pair> {
    let mode =
        tokio::fs::metadata(key_file).await.with_context(|| format!("s3_tls.key_file {}", key_file.display()))?;
    let shown = key_file.display();
    ensure!(mode.permissions().mode() & 0o007 == 0, "{shown} may be read by everyone; run chmod o-rwx on it");
    Ok((read_one("s3_tls.cert_file", cert_file).await?, read_one("s3_tls.key_file", key_file).await?))
}

async fn read_one(setting: &str, path: &Path) -> anyhow::Result<Vec<u8>> {
    let what = || format!("{setting} {}", path.display());
    let len = tokio::fs::metadata(path).await.with_context(what)?.len();
    ensure!(len <= FILE_BYTES_MAX, "{}: {len} bytes are no certificate", what());
    tokio::fs::read(path).await.with_context(what)
}

#[cfg(test)]
mod tests {
    use stele_rpc::tls::authority::Validity;
    use stele_rpc::tls::local::LocalCertificate;
    use stele_types::seam::Clock as _;

    use super::*;
    use crate::real::{OsRng, RealClock};

    async fn write(dir: &Path, pair: (&str, &str)) {
        tokio::fs::write(dir.join("cert"), pair.0).await.unwrap();
        tokio::fs::write(dir.join("key"), pair.1).await.unwrap();
        tokio::fs::set_permissions(dir.join("key"), std::fs::Permissions::from_mode(0o600)).await.unwrap();
    }

    fn certificate() -> LocalCertificate {
        let validity = Validity { now: RealClock::new().unix_millis(), lifetime: Duration::from_secs(3600) };
        LocalCertificate::create(&["localhost".to_owned()], validity, &OsRng).unwrap()
    }

    #[tokio::test]
    async fn a_changed_certificate_is_taken_once_and_a_broken_one_never() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (certificate(), certificate());
        write(dir.path(), (&first.certificate_pem, &first.key_pem)).await;
        let mut watched = Watched::open(&dir.path().join("cert"), &dir.path().join("key")).await.unwrap();
        assert!(!watched.look().await.unwrap());
        // Between the writes of a tool that renews, the two files do not belong together.
        write(dir.path(), (&second.certificate_pem, &first.key_pem)).await;
        let error = format!("{:#}", watched.look().await.unwrap_err());
        assert!(error.contains("can't be used together") && error.contains("s3_tls.cert_file"), "{error}");
        assert!(!watched.look().await.unwrap(), "said once");
        write(dir.path(), (&second.certificate_pem, &second.key_pem)).await;
        assert!(watched.look().await.unwrap());
        write(dir.path(), ("no certificate", &second.key_pem)).await;
        assert!(format!("{:#}", watched.look().await.unwrap_err()).contains("holds none"));
        tokio::fs::remove_file(dir.path().join("cert")).await.unwrap();
        assert!(watched.look().await.is_err());
    }

    #[tokio::test]
    async fn a_key_that_everyone_may_read_and_files_that_are_not_there_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let made = certificate();
        write(dir.path(), (&made.certificate_pem, &made.key_pem)).await;
        let (cert, key) = (dir.path().join("cert"), dir.path().join("key"));
        assert!(Watched::open(&cert, &dir.path().join("none")).await.is_err());
        tokio::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).await.unwrap();
        let error = Watched::open(&cert, &key).await.err().unwrap().to_string();
        assert!(error.contains("chmod"), "{error}");
    }
}
