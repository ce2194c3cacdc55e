//! What `stele dev` tells a person once it serves.

use std::net::SocketAddr;

use super::data_dir::RootKeys;
use crate::config::Config;

/// Addresses that are served, with the real ports.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) s3: SocketAddr,
    pub(crate) admin: SocketAddr,
}

/// The line that programs read.
pub(crate) fn ready_line(addresses: Addresses) -> String {
    let Addresses { s3, admin } = addresses;
    serde_json::json!({ "event": "ready", "s3": format!("http://{s3}"), "admin": format!("http://{admin}") })
        .to_string()
}

/// The text that people read.
pub(crate) fn text(config: &Config, addresses: Addresses, keys: &RootKeys, problems: &[String]) -> String {
    let Addresses { s3, admin } = addresses;
    let RootKeys { access_key, secret_key } = keys;
    let mut out = format!(
        "\n  Stele serves {data}\n\n  S3       http://{s3}\n  Admin    http://{admin}/status  /metrics  /health/ready\n  \
         Access   {access_key}\n  Secret   {secret_key}\n\n  A first session with aws cli:\n\n    \
         export AWS_ACCESS_KEY_ID={access_key} AWS_SECRET_ACCESS_KEY={secret_key} AWS_DEFAULT_REGION=us-east-1\n    \
         export AWS_ENDPOINT_URL=http://{s3}\n    \
         aws s3 mb s3://first\n    aws s3 cp README.md s3://first/\n    aws s3 ls s3://first\n\n  Ctrl-C stops it.\n",
        data = config.data.display(),
    );
    for problem in problems {
        out.push_str(&format!("\n  ! {problem}"));
    }
    out
}
