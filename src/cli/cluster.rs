//! The Kafka that a command beside `run` looks into.

use std::path::PathBuf;

use clap::Args;

use super::args::pair;
#[cfg(feature = "kafka")]
use super::{config, secret};
#[cfg(feature = "kafka")]
use crate::connectors::KafkaOptions;
#[cfg(feature = "kafka")]
use crate::error::Result;

/// Where it is, and how it is spoken to.
#[derive(Debug, Args)]
#[expect(clippy::doc_markdown, reason = "these are help texts")]
#[cfg_attr(
    not(feature = "kafka"),
    allow(dead_code, reason = "there is nothing to look into")
)]
pub(super) struct Cluster {
    /// The Kafka that is asked
    #[arg(
        short,
        long,
        visible_alias = "bootstrap-server",
        value_name = "HOST:PORT,.."
    )]
    pub(super) bootstrap: Option<String>,
    /// Set a librdkafka property; ${env:X} and ${file:PATH} are secrets
    #[arg(
        short = 'X',
        long,
        value_name = "KEY=VALUE",
        value_parser = pair,
        requires = "bootstrap"
    )]
    property: Vec<(String, String)>,
    /// Read librdkafka properties from a .properties file; --property wins
    #[arg(long, value_name = "FILE", requires = "bootstrap")]
    kafka_config: Option<PathBuf>,
}

#[cfg(feature = "kafka")]
impl Cluster {
    /// How a client of this name speaks to it; `None`: nobody said where it is.
    ///
    /// # Errors
    /// A file or a secret that cannot be read.
    pub(super) fn options(&self, client: &str) -> Result<Option<KafkaOptions>> {
        let Some(servers) = &self.bootstrap else {
            return Ok(None);
        };
        let mut options = KafkaOptions::new(servers, client);
        options.bounded = true;
        let mut set = |about: &str, name: &str, value: &str| -> Result {
            let (value, substituted) = secret::substitute(about, value)?;
            if substituted || secret::is_secret(name) {
                secret::keep(&value);
                options.secrets.push(name.to_owned());
            }
            options.properties.push((name.to_owned(), value));
            Ok(())
        };
        if let Some(path) = &self.kafka_config {
            for given in config::read_properties(path)? {
                let name = given.key.as_deref().unwrap_or_default();
                set(&given.at, name, &given.value)?;
            }
        }
        for (name, value) in &self.property {
            set(&format!("property `{name}`"), name, value)?;
        }
        Ok(Some(options))
    }
}
