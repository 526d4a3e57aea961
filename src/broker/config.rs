//! The configuration of a topic: Kafka's names, Kafka's defaults, checked as Kafka checks them.
//!
//! Every name that Kafka has is taken and shown again. What has no meaning in memory (flushes,
//! remote storage, followers) has no effect. A codec to compress again with is refused: the broker
//! passes batches through as they came.

use std::collections::BTreeMap;
use std::time::Duration;

use super::refusal::{Answer, Code, Refusal};

/// What a value may be.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Number { least: i64 },
    Float,
    Switch,
    One(&'static [&'static str]),
    Some(&'static [&'static str]),
    Text,
}

/// A name, what it may be, and its default.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    kind: Kind,
    pub(super) default: &'static str,
}

const fn key(name: &'static str, kind: Kind, default: &'static str) -> Key {
    Key {
        name,
        kind,
        default,
    }
}

const COUNT: Kind = Kind::Number { least: 0 };
const ONE: Kind = Kind::Number { least: 1 };
const UNBOUNDED: Kind = Kind::Number { least: -1 };
const ANY: Kind = Kind::Number { least: i64::MIN };
const FOREVER: &str = "9223372036854775807";
const STAMPS: &[&str] = &["CreateTime", "LogAppendTime"];

/// All names, in the order of the alphabet.
pub(super) const KEYS: [Key; 28] = [
    key(
        "cleanup.policy",
        Kind::Some(&["compact", "delete"]),
        "delete",
    ),
    key("compression.gzip.level", ANY, "-1"),
    key("compression.lz4.level", ANY, "9"),
    key("compression.type", Kind::One(&["producer"]), "producer"),
    key("compression.zstd.level", ANY, "3"),
    key("delete.retention.ms", COUNT, "86400000"),
    key("file.delete.delay.ms", COUNT, "60000"),
    key("flush.messages", ONE, FOREVER),
    key("flush.ms", COUNT, FOREVER),
    key("follower.replication.throttled.replicas", Kind::Text, ""),
    key("index.interval.bytes", COUNT, "4096"),
    key("leader.replication.throttled.replicas", Kind::Text, ""),
    key("local.retention.bytes", ANY, "-2"),
    key("local.retention.ms", ANY, "-2"),
    key("max.compaction.lag.ms", ONE, FOREVER),
    key("max.message.bytes", COUNT, "1048588"),
    key("message.timestamp.after.max.ms", COUNT, "3600000"),
    key("message.timestamp.before.max.ms", COUNT, FOREVER),
    key("message.timestamp.type", Kind::One(STAMPS), "CreateTime"),
    key("min.cleanable.dirty.ratio", Kind::Float, "0.5"),
    key("min.compaction.lag.ms", COUNT, "0"),
    key("min.insync.replicas", ONE, "1"),
    key("preallocate", Kind::Switch, "false"),
    key("remote.storage.enable", Kind::Switch, "false"),
    key("retention.bytes", UNBOUNDED, "-1"),
    key("retention.ms", UNBOUNDED, "604800000"),
    key("segment.bytes", ONE, "1073741824"),
    key("segment.ms", ONE, "604800000"),
];

/// Other names that Kafka knows and that say nothing here.
const SILENT: [&str; 4] = [
    "segment.index.bytes",
    "segment.jitter.ms",
    "unclean.leader.election.enable",
    "remote.log.copy.disable",
];

/// What a topic is told, and what follows from it.
#[derive(Clone, Debug)]
pub(super) struct TopicConfig {
    set: BTreeMap<&'static str, String>,
    pub(super) compact: bool,
    /// Whether its oldest records may be dropped.
    pub(super) delete: bool,
    pub(super) retention: Option<Duration>,
    pub(super) retention_bytes: Option<usize>,
    pub(super) segment_bytes: usize,
    pub(super) segment_age: Duration,
    pub(super) tombstone_age: Duration,
    pub(super) dirty_ratio: f64,
    pub(super) max_message_bytes: usize,
    pub(super) append_time: bool,
    pub(super) before_max: i64,
    pub(super) after_max: i64,
}

impl TopicConfig {
    /// Reads names and values.
    pub(super) fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Answer<Self> {
        let mut set = BTreeMap::new();
        for (name, value) in pairs {
            if SILENT.contains(&name) {
                continue;
            }
            set.insert(check(name, value)?.name, value.to_owned());
        }
        Ok(Self::of(set))
    }

    fn of(set: BTreeMap<&'static str, String>) -> Self {
        let text = |name: &str| -> &str {
            let default = || find(name).map_or("", |key| key.default);
            set.get(name).map_or_else(default, String::as_str)
        };
        let number = |name| text(name).trim().parse::<i64>().unwrap_or(-1);
        let bytes = |name| usize::try_from(number(name)).ok();
        let time = |name| u64::try_from(number(name)).ok().map(Duration::from_millis);
        let policy = text("cleanup.policy");
        Self {
            compact: policy.contains("compact"),
            delete: policy.contains("delete"),
            retention: time("retention.ms"),
            retention_bytes: bytes("retention.bytes"),
            segment_bytes: bytes("segment.bytes").unwrap_or(usize::MAX),
            segment_age: time("segment.ms").unwrap_or(Duration::MAX),
            tombstone_age: time("delete.retention.ms").unwrap_or(Duration::MAX),
            dirty_ratio: text("min.cleanable.dirty.ratio")
                .trim()
                .parse()
                .unwrap_or(0.5),
            max_message_bytes: bytes("max.message.bytes").unwrap_or(usize::MAX),
            append_time: text("message.timestamp.type") == "LogAppendTime",
            before_max: number("message.timestamp.before.max.ms"),
            after_max: number("message.timestamp.after.max.ms"),
            set,
        }
    }

    /// The same with one value changed; nothing stands for the default.
    pub(super) fn with(&self, name: &str, value: Option<&str>) -> Answer<Self> {
        let mut set = self.set.clone();
        if SILENT.contains(&name) {
            return Ok(self.clone());
        }
        match value {
            Some(value) => set.insert(check(name, value)?.name, value.to_owned()),
            None => set.remove(known(name)?.name),
        };
        Ok(Self::of(set))
    }

    /// The value, and whether it was set.
    pub(super) fn value<'a>(&'a self, key: &Key) -> (&'a str, bool) {
        match self.set.get(key.name) {
            Some(value) => (value, true),
            None => (key.default, false),
        }
    }

    /// What was set of a list, to add to it or to take from it.
    pub(super) fn list(&self, name: &str) -> Answer<Vec<String>> {
        let key = known(name)?;
        if !matches!(key.kind, Kind::Some(_) | Kind::Text) {
            return Err(Refusal::new(
                Code::InvalidConfig,
                format!("{name} is no list"),
            ));
        }
        let values = self
            .value(key)
            .0
            .split(',')
            .filter(|value| !value.is_empty());
        Ok(values.map(str::to_owned).collect())
    }
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self::of(BTreeMap::new())
    }
}

impl Key {
    /// Kafka's number for the type of the value.
    pub(super) fn type_code(&self) -> i8 {
        match self.kind {
            Kind::Switch => 1,
            Kind::One(_) | Kind::Text => 2,
            Kind::Number { .. } => 5,
            Kind::Float => 6,
            Kind::Some(_) => 7,
        }
    }
}

fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

fn known(name: &str) -> Answer<&'static Key> {
    find(name).ok_or_else(|| {
        Refusal::new(
            Code::InvalidConfig,
            format!("Unknown topic config name: {name}"),
        )
    })
}

fn check(name: &str, value: &str) -> Answer<&'static Key> {
    let key = known(name)?;
    let value = value.trim();
    let good = match key.kind {
        Kind::Number { least } => value.parse::<i64>().is_ok_and(|number| number >= least),
        Kind::Float => value
            .parse::<f64>()
            .is_ok_and(|part| (0.0..=1.0).contains(&part)),
        Kind::Switch => ["true", "false"].contains(&value),
        Kind::One(of) => of.contains(&value),
        Kind::Some(of) => value.split(',').all(|one| of.contains(&one.trim())),
        Kind::Text => true,
    };
    if good {
        return Ok(key);
    }
    let why = format!("Invalid value {value} for configuration {name}");
    Err(Refusal::new(Code::InvalidConfig, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_defaults_are_valid() {
        assert!(KEYS.is_sorted_by_key(|key| key.name));
        for key in &KEYS {
            check(key.name, key.default).unwrap();
        }
    }

    #[test]
    fn refuses_what_is_unknown_or_out_of_range() {
        for (name, value) in [
            ("retention.msec", "1"),
            ("retention.ms", "-2"),
            ("retention.ms", "soon"),
            ("cleanup.policy", "shred"),
            ("min.cleanable.dirty.ratio", "1.5"),
            ("message.timestamp.type", "Never"),
            ("compression.type", "zstd"),
        ] {
            let refusal = TopicConfig::new([(name, value)]).unwrap_err();
            assert_eq!(refusal.code, Code::InvalidConfig, "{name}={value}");
            assert!(refusal.to_string().contains(name), "{refusal}");
        }
    }

    #[test]
    fn what_was_set_is_in_force_until_it_is_removed() {
        let config = TopicConfig::new([("cleanup.policy", "compact"), ("retention.ms", "-1")]);
        let config = config.unwrap();
        assert!(config.compact && !config.delete);
        assert_eq!(config.retention, None);
        let config = config.with("cleanup.policy", None).unwrap();
        assert!(!config.compact && config.delete);
    }
}
