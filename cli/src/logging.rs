//! What may be logged, whatever the operator asks for.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing::{Level, Metadata};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, filter, fmt};

use crate::config::{Config, LogFormat};

/// Libraries that see requests before their signature is checked, and what they may say at most. At debug level s3s
/// writes the signature it computed and the fields of forms, and HTTP libraries may write headers. Directives can't do
/// this: one for `s3s::ops` outweighs one for `s3s`.
const CAPPED: [(&str, Option<Level>); 5] = [
    ("s3s", None),
    ("h2", Some(Level::INFO)),
    ("hyper", Some(Level::INFO)),
    ("hyper_util", Some(Level::INFO)),
    ("tower", Some(Level::INFO)),
];

fn allowed(target: &str, level: Level) -> bool {
    let library = target.split("::").next().unwrap_or(target);
    let family = |name: &str| library == name || library.strip_prefix(name).is_some_and(|rest| rest.starts_with('_'));
    CAPPED.iter().find(|(name, _)| family(name)).is_none_or(|(_, most)| most.is_some_and(|most| level <= most))
}

/// Starts logging to stderr.
///
/// # Errors
/// If the level is not a filter.
pub(crate) fn start(config: &Config) -> anyhow::Result<()> {
    let wanted = EnvFilter::try_new(&config.log.level).with_context(|| {
        format!("log.level = {:?} is not a filter, as info or stele_metadata=debug", config.log.level)
    })?;
    let cap = filter::filter_fn(|metadata: &Metadata<'_>| allowed(metadata.target(), *metadata.level()));
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let lines = match config.log.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    tracing_subscriber::registry().with(wanted).with(cap).with(lines).init();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_that_see_signatures_are_capped_whatever_is_asked_for() {
        for target in ["s3s", "s3s::ops::signature", "s3s_sigv4::v4", "s3s::http::multipart"] {
            assert!(!allowed(target, Level::ERROR), "{target}");
        }
        for target in ["h2::codec::framed_read", "hyper::proto::h1::io", "hyper_util::server", "tower::buffer"] {
            assert!(allowed(target, Level::INFO) && !allowed(target, Level::DEBUG), "{target}");
        }
        for target in ["stele_s3_gateway::put", "openraft", "h3", "s3sink", ""] {
            assert!(allowed(target, Level::TRACE), "{target}");
        }
    }
}
