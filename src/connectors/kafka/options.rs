//! What a user may say about a Kafka client, and what the engine keeps for itself.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

use super::client::Right;
use super::names::check_property;
use crate::connectors::Start;
use crate::error::{Error, Result};

/// How long brokers may be gone before a run is given up.
const BROKER_TIMEOUT: Duration = Duration::from_mins(5);
/// How long a start, or an end, waits for them at most: somebody is waiting for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// How to reach Kafka, and how much of a topic to read.
#[derive(Clone)]
pub struct KafkaOptions {
    /// Brokers to ask first: `host:port`, separated by commas.
    pub bootstrap: String,
    /// Properties for librdkafka, in the order given; a later one wins over an earlier one. Those
    /// that the engine owns are refused by name when the connector is prepared.
    pub properties: Vec<(String, String)>,
    /// Names of properties whose values are never shown, beside those that are secret by name.
    pub secrets: Vec<String>,
    /// The job's id. Offsets are shown to lag tools under the group `<id>.lag`, and never read.
    pub group: String,
    /// Whether a source ends at the end offsets that it sees at its start. Default: it does not.
    pub bounded: bool,
    /// Where a source starts. Default: at the earliest record.
    pub start: Start,
    /// How long no broker may answer before a run ends with an error. A start waits for an answer,
    /// and an end for an acknowledgement, no longer than that and no longer than 30 s. Default: 5
    /// minutes.
    pub broker_timeout: Duration,
    /// How far event times may lie past the stamps of their records: a topic for results must take
    /// stamps that lie so far ahead. `None`: any. Default: 10 minutes.
    pub max_ahead: Option<Duration>,
    /// The partitions of the source with the most, as far as they are known: shared by all ports of
    /// a job.
    pub(crate) most: Arc<AtomicU32>,
}

impl KafkaOptions {
    /// The options of job `group` at the brokers `bootstrap`; everything else is the default.
    pub fn new(bootstrap: impl Into<String>, group: impl Into<String>) -> Self {
        Self {
            bootstrap: bootstrap.into(),
            properties: Vec::new(),
            secrets: Vec::new(),
            group: group.into(),
            bounded: false,
            start: Start::Earliest,
            broker_timeout: BROKER_TIMEOUT,
            max_ahead: Some(Duration::from_mins(10)),
            most: Arc::default(),
        }
    }

    /// How long a start or an end waits for brokers.
    pub(super) fn patience(&self) -> Duration {
        self.broker_timeout.min(PATIENCE)
    }

    /// Who this client is to the cluster, as far as that is known here.
    pub(super) fn principal(&self) -> String {
        match self.property(&["sasl.username"]) {
            Some(name) => format!("User:{name}"),
            None if self.security().starts_with("PLAINTEXT") => "User:ANONYMOUS".to_owned(),
            None => "this client".to_owned(),
        }
    }

    /// The protocol and the mechanism by which the cluster is reached: `SASL_SSL, SCRAM-SHA-512`.
    pub(super) fn security(&self) -> String {
        let protocol = self.property(&["security.protocol"]).unwrap_or("plaintext");
        let protocol = protocol.to_uppercase();
        let mechanism = self.property(&["sasl.mechanisms", "sasl.mechanism"]);
        match mechanism {
            Some(mechanism) if protocol.starts_with("SASL") => format!("{protocol}, {mechanism}"),
            _ => protocol,
        }
    }

    pub(super) fn property(&self, names: &[&str]) -> Option<&str> {
        let mut given = self.properties.iter().rev();
        let (_, value) = given.find(|(name, _)| names.contains(&name.as_str()))?;
        Some(value)
    }

    /// That this client lacks `right` to `topic`.
    pub(super) fn lacks(&self, topic: &str, right: Right) -> Error {
        self.lacks_to(&format!("topic `{topic}`"), right)
    }

    /// That this client lacks `right` to `what`.
    pub(super) fn lacks_to(&self, what: &str, right: Right) -> Error {
        let who = self.principal();
        Error::operating(format!("{what}: right {right:?} is missing for {who}"))
    }

    /// A source of the job has so many partitions.
    pub(super) fn saw(&self, partitions: u32) {
        self.most.fetch_max(partitions, Relaxed);
    }

    /// That `topic` is not there, and how to make it.
    pub(super) fn absent(&self, topic: &str) -> Error {
        let partitions = self.most.load(Relaxed).max(1);
        let config = if self.security() == "PLAINTEXT" {
            ""
        } else {
            " --command-config client.properties"
        };
        Error::usage(format!(
            "topic `{topic}` does not exist; create it: kafka-topics.sh --bootstrap-server {}\
             {config} --create --topic {topic} --partitions {partitions}, or run the job with \
             --create-topics",
            self.bootstrap
        ))
    }

    /// Refuses what the engine owns and what librdkafka does not know.
    pub(super) fn check(&self) -> Result {
        for (name, _) in &self.properties {
            check_property(name)?;
        }
        self.consumer(1, 1)
            .create_native_config()
            .map(drop)
            .map_err(|cause| self.refused(&cause))
    }

    /// A client that only asks: metadata, offsets, configurations.
    pub(super) fn client(&self) -> ClientConfig {
        // Before librdkafka does it in its own way: a process that ends while a client still
        // connects would crash.
        #[cfg(feature = "ssl")]
        openssl_sys::init();
        let mut config = ClientConfig::new();
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config.set("bootstrap.servers", &self.bootstrap);
        config.set("allow.auto.create.topics", "false");
        // Ends and starts mean the last stable offset, not the high watermark.
        config.set("isolation.level", "read_committed");
        self.default(&mut config, &["client.id"], &self.group);
        self.default(&mut config, &["socket.keepalive.enable"], "true");
        // The first answer makes librdkafka drop the connection that it came by, in favour of one
        // to the broker's proper name, and it waits for half of this between two connections.
        self.default(&mut config, &["reconnect.backoff.ms"], "20");
        self.default(&mut config, &["reconnect.backoff.max.ms"], "1000");
        self.default(&mut config, &["log.connection.close"], "false");
        let talks = self.properties.iter().any(|(name, _)| name == "debug");
        config.set_log_level(if talks {
            RDKafkaLogLevel::Debug
        } else {
            RDKafkaLogLevel::Info
        });
        config
    }

    /// A consumer of `partitions` partitions that may hold `bytes` in its buffers.
    pub(super) fn consumer(&self, bytes: usize, partitions: usize) -> ClientConfig {
        // The budget holds for each partition queue, so it is divided. librdkafka counts payloads
        // only and stops behind the limit, by one answer of the broker: half of the share is for
        // the queue, a quarter for the answer, the rest for what each message costs beside its
        // bytes.
        let share = bytes / partitions.max(1);
        let queued = (share / 2 / 1024).clamp(64, 2_000_000);
        let answer = (share / 4).clamp(64 << 10, 1 << 20);
        let messages = (share / 1024).clamp(1_000, 100_000);

        let mut config = self.client();
        config.set("group.id", format!("{}.lag", self.group));
        config.set("enable.auto.commit", "false");
        config.set("enable.auto.offset.store", "false");
        config.set("enable.partition.eof", "true");
        config.set("auto.offset.reset", "error");
        let tuned: [(&[&str], String); 5] = [
            (&["fetch.wait.max.ms"], "20".into()),
            (&["fetch.queue.backoff.ms"], "5".into()),
            (&["queued.max.messages.kbytes"], queued.to_string()),
            (&["queued.min.messages"], messages.to_string()),
            (
                &["fetch.message.max.bytes", "max.partition.fetch.bytes"],
                answer.to_string(),
            ),
        ];
        for (names, value) in tuned {
            self.default(&mut config, names, &value);
        }
        config
    }

    /// The producer of a sink. Its writers bound what is in flight, so its own queue does not,
    /// unless a property says so.
    pub(super) fn producer(&self) -> ClientConfig {
        let mut config = self.client();
        config.set("enable.idempotence", "true");
        config.set("acks", "all");
        let tuned: [(&[&str], &str); 4] = [
            (&["linger.ms", "queue.buffering.max.ms"], "5"),
            // A broker that is gone is waited for, however long.
            (&["message.timeout.ms", "delivery.timeout.ms"], "0"),
            (&["queue.buffering.max.messages"], "0"),
            (&["queue.buffering.max.kbytes"], "2147483647"),
        ];
        for (names, value) in tuned {
            self.default(&mut config, names, value);
        }
        config
    }

    /// Sets a property, unless the user has set it under one of its names.
    fn default(&self, config: &mut ClientConfig, names: &[&str], value: &str) {
        let given = |(name, _): &(String, String)| names.contains(&name.as_str());
        if !self.properties.iter().any(given) {
            config.set(names[0], value);
        }
    }

    /// Why no client can be made with these options.
    pub(super) fn refused(&self, cause: &KafkaError) -> Error {
        match cause {
            KafkaError::ClientConfig(_, _, name, _) if self.is_secret(name) => {
                // The reason quotes the value.
                Error::usage(format!("Kafka property `{name}`: its value is refused"))
            }
            KafkaError::ClientConfig(_, why, name, _) => {
                Error::usage(format!("Kafka property `{name}`: {why}"))
            }
            KafkaError::ClientCreation(why) => Error::usage(format!(
                "no Kafka client for `{}` with these properties: {}",
                self.bootstrap,
                self.without_secrets(why)
            )),
            other => Error::operating(format!("no Kafka client for `{}`", self.bootstrap))
                .because(other.to_string()),
        }
    }
}

impl KafkaOptions {
    fn is_secret(&self, name: &str) -> bool {
        is_secret(name) || self.secrets.iter().any(|secret| secret == name)
    }

    /// What librdkafka says may quote a value.
    fn without_secrets(&self, text: &str) -> String {
        let secrets = self.properties.iter().filter(|(name, value)| {
            let told = self.secrets.contains(name) || name.contains("password");
            told && !value.is_empty()
        });
        secrets.fold(text.to_owned(), |text, (_, value)| {
            text.replace(value, "***")
        })
    }
}

/// Whether the value of property `name` is not for the eyes of a log's reader.
fn is_secret(name: &str) -> bool {
    let parts = ["password", "key", "token", "secret"];
    name.starts_with("sasl.") || parts.iter().any(|part| name.contains(part))
}

impl fmt::Debug for KafkaOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<_> = self
            .properties
            .iter()
            .map(|(name, value)| (name, if self.is_secret(name) { "***" } else { value }))
            .collect();
        f.debug_struct("KafkaOptions")
            .field("bootstrap", &self.bootstrap)
            .field("properties", &shown)
            .field("group", &self.group)
            .field("bounded", &self.bounded)
            .field("start", &self.start)
            .field("broker_timeout", &self.broker_timeout)
            .field("max_ahead", &self.max_ahead)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_for_a_missing_topic_can_be_run() {
        let mut options = KafkaOptions::new("there:1", "job");
        let command = |options: &KafkaOptions| {
            let said = options.absent("out").to_string();
            let (_, command) = said.split_once("create it: ").unwrap();
            command.split_once(", or run").unwrap().0.to_owned()
        };
        let plain = "kafka-topics.sh --bootstrap-server there:1 --create --topic out --partitions";
        assert_eq!(command(&options), format!("{plain} 1"));
        // What one port has seen all know.
        options.clone().saw(3);
        options.clone().saw(2);
        assert_eq!(command(&options), format!("{plain} 3"));
        let secure = ("security.protocol".to_owned(), "sasl_ssl".to_owned());
        options.properties.push(secure);
        let with = plain.replace(" --create", " --command-config client.properties --create");
        assert_eq!(command(&options), format!("{with} 3"));
    }

    #[test]
    fn neither_errors_nor_debug_show_a_secret() {
        for (name, told) in [
            ("linger.ms", true),
            ("security.protocol", true),
            ("client.id", true),
            ("sasl.password", false),
            ("ssl.key.password", false),
        ] {
            let mut options = KafkaOptions::new("127.0.0.1:1", "job");
            options.properties = vec![(name.to_owned(), "hush-hush".to_owned())];
            options.secrets.extend(told.then(|| name.to_owned()));
            let error = options
                .check()
                .map_or_else(|error| error.to_string(), |()| String::new());
            let creation = KafkaError::ClientCreation("bad hush-hush".to_owned());
            let refused = options.refused(&creation).to_string();
            for text in [error, refused, format!("{options:?}")] {
                assert!(!text.contains("hush"), "{name}: {text}");
            }
        }
    }
}
