//! `stele dev --tls`: HTTPS with a certificate made for this machine, kept in the data directory.
//!
//! | name | holds |
//! |---|---|
//! | `s3-tls.toml` | names, time of issue, certificate and key; mode 0600 |
//! | `s3-ca.pem` | what clients must trust |

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use stele_rpc::tls::authority::Validity;
use stele_rpc::tls::local::LocalCertificate;
use stele_s3_gateway::http::tls::Tls;
use stele_types::seam::{Clock, Rng, UnixMillis};

use super::data_dir::DataDir;
use crate::config::Config;

const TLS_FILE: &str = "s3-tls.toml";
const CA_FILE: &str = "s3-ca.pem";
/// Some clients take no certificate that lives longer.
const LIFETIME: Duration = Duration::from_secs(397 * 24 * 3600);
/// At a start, an older one is replaced.
const RENEW_AFTER: Duration = Duration::from_secs(300 * 24 * 3600);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    names: Vec<String>,
    issued: UnixMillis,
    certificate_pem: String,
    key_pem: String,
}

/// The certificate kept in the directory, or a new one where it is old or names other names; and the
/// file of the CA that clients must trust.
///
/// # Errors
/// If a file can't be read, understood or written.
pub(crate) async fn open(
    config: &Config,
    data: &DataDir,
    clock: &dyn Clock,
    rng: &dyn Rng,
) -> anyhow::Result<(Arc<Tls>, PathBuf)> {
    let (names, now) = (names(config), clock.unix_millis());
    let ca_file = std::path::absolute(data.named(CA_FILE)).context("where the data directory is")?;
    let damaged = || format!("{TLS_FILE} in the data directory is damaged; remove it to have a new one made");
    let kept =
        data.read(TLS_FILE).await?.map(|text| toml::from_str::<Kept>(&text)).transpose().with_context(damaged)?;
    let young = |kept: &Kept| u128::from(now.abs_diff(kept.issued)) < RENEW_AFTER.as_millis();
    if let Some(kept) = kept.filter(|kept| kept.names == names && young(kept) && ca_file.exists()) {
        let tls = Tls::from_pem(kept.certificate_pem.as_bytes(), kept.key_pem.as_bytes()).with_context(damaged)?;
        return Ok((Arc::new(tls), ca_file));
    }
    let made = LocalCertificate::create(&names, Validity { now, lifetime: LIFETIME }, rng)?;
    let tls = Tls::from_pem(made.certificate_pem.as_bytes(), made.key_pem.as_bytes())?;
    // The CA first: a crash in between leaves a CA that no certificate is of, and both are made anew.
    data.write(CA_FILE, made.ca_pem).await?;
    let LocalCertificate { certificate_pem, key_pem, .. } = made;
    data.write(TLS_FILE, toml::to_string(&Kept { names, issued: now, certificate_pem, key_pem })?).await?;
    Ok((Arc::new(tls), ca_file))
}

fn names(config: &Config) -> Vec<String> {
    let listening = config.s3_addr.ip();
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    let address = listening.to_string();
    if !listening.is_unspecified() && !names.contains(&address) {
        names.push(address);
    }
    for domain in &config.s3_domains {
        names.extend([domain.clone(), format!("*.{domain}")].into_iter().filter(|name| *name != "localhost"));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::real::{OsRng, RealClock};

    #[derive(Debug)]
    struct Later(RealClock, u64);

    impl Clock for Later {
        fn unix_millis(&self) -> UnixMillis {
            self.0.unix_millis() + self.1
        }

        fn monotonic_micros(&self) -> u64 {
            self.0.monotonic_micros()
        }
    }

    #[tokio::test]
    async fn the_certificate_is_kept_until_it_is_old_or_of_other_names() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).await.unwrap();
        let after = |days: u64| Later(RealClock::new(), days * 24 * 3_600_000);
        let mut config = Config::default();
        let mut seen = Vec::new();
        for (days, ip) in [(0, "127.0.0.1"), (299, "127.0.0.1"), (301, "127.0.0.1"), (301, "127.0.0.2")] {
            config.s3_addr.set_ip(ip.parse().unwrap());
            let (_, ca) = open(&config, &data, &after(days), &OsRng).await.unwrap();
            assert!(ca.is_absolute());
            seen.push(tokio::fs::read(ca).await.unwrap());
        }
        assert_eq!(seen[0], seen[1]);
        assert!(seen[1] != seen[2] && seen[2] != seen[3]);
        data.write(TLS_FILE, "names = 1".to_owned()).await.unwrap();
        assert!(open(&config, &data, &after(0), &OsRng).await.is_err());
    }
}
