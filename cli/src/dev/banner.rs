//! What `stele dev` tells a person once it serves.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::data_dir::RootKeys;
use crate::config::Config;

/// Addresses that are served, with the real ports.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    pub(crate) s3: SocketAddr,
    /// S3 is served over HTTPS.
    pub(crate) https: bool,
    /// File of the CA that clients must trust, where Stele made the certificate.
    pub(crate) ca: Option<PathBuf>,
    pub(crate) admin: SocketAddr,
}

impl Addresses {
    fn s3_url(&self) -> String {
        format!("{}://{}", if self.https { "https" } else { "http" }, self.s3)
    }
}

/// The line that programs read.
pub(crate) fn ready_line(addresses: &Addresses) -> String {
    let admin = addresses.admin;
    let mut line =
        serde_json::json!({ "event": "ready", "s3": addresses.s3_url(), "admin": format!("http://{admin}") });
    if let Some(ca) = &addresses.ca {
        line["s3_ca"] = ca.display().to_string().into();
    }
    line.to_string()
}

/// The text that people read.
pub(crate) fn text(config: &Config, addresses: &Addresses, keys: &RootKeys, problems: &[String]) -> String {
    let (s3, admin) = (addresses.s3_url(), addresses.admin);
    let trust = addresses.ca.as_ref().map(|ca| format!("    export AWS_CA_BUNDLE={}\n", ca.display()));
    let trust = trust.unwrap_or_default();
    let RootKeys { access_key, secret_key } = keys;
    let mut out = format!(
        "\n  Stele serves {data}\n\n  S3       {s3}\n  Admin    http://{admin}/status  /metrics  /health/ready\n  \
         Access   {access_key}\n  Secret   {secret_key}\n\n  A first session with aws cli:\n\n    \
         export AWS_ACCESS_KEY_ID={access_key} AWS_SECRET_ACCESS_KEY={secret_key} AWS_DEFAULT_REGION=us-east-1\n    \
         export AWS_ENDPOINT_URL={s3}\n{trust}    \
         aws s3 mb s3://first\n    aws s3 cp README.md s3://first/\n    aws s3 ls s3://first\n\n  Ctrl-C stops it.\n",
        data = config.data.display(),
    );
    for problem in problems {
        out.push_str(&format!("\n  ! {problem}"));
    }
    out
}
