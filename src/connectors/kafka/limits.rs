//! What a topic does to the records that are written to it, and whether a job can live with it.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use humantime::format_duration;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use tracing::{debug, warn};

use super::admin::{block_on, describe, reason};
use super::aside::aside;
use super::context::Context;
use super::options::KafkaOptions;
use crate::error::{Error, Result};
use crate::observe::time_of_day;

/// What a topic does to the records that are written to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopicLimits {
    /// How far ahead of the broker's clock a stamp may lie; `None`: as far as it likes.
    pub timestamp_after_max: Option<Duration>,
    /// How long a record is kept after its stamp; `None`: for ever.
    pub retention: Option<Duration>,
    /// The largest batch of records that the topic takes, in bytes.
    pub max_message_bytes: Option<u64>,
}

/// Reads the limits of `topic` from the cluster.
pub(super) fn limits(topic: &str, options: &KafkaOptions) -> Result<TopicLimits> {
    config(topic, options).map(|config| limits_in(&config))
}

/// The `cleanup.policy` of `topic`; `None`: the cluster does not tell.
pub(super) fn cleanup(topic: &str, options: &KafkaOptions) -> Option<String> {
    let config = config(topic, options).ok()?;
    config.get("cleanup.policy")?.value.clone()
}

fn config(topic: &str, options: &KafkaOptions) -> Result<ConfigResource> {
    let admin: AdminClient<Context> = options
        .client()
        .create_with_context(Context::default())
        .map_err(|cause| options.refused(&cause))?;
    let wait = AdminOptions::new().request_timeout(Some(options.patience()));
    let topics = [ResourceSpecifier::Topic(topic)];
    let answer = block_on(admin.describe_configs(&topics, &wait));
    aside("kafka-admin-end", move || drop(admin));
    let unknown = |cause: String| {
        Error::operating(format!(
            "configuration of topic `{topic}` at `{}` is not to be had",
            options.bootstrap
        ))
        .because(cause)
    };
    answer
        .map_err(|cause| unknown(reason(&cause)))?
        .into_iter()
        .next()
        .ok_or_else(|| unknown("empty answer".into()))?
        .map_err(|code| unknown(describe(code)))
}

fn limits_in(resource: &ConfigResource) -> TopicLimits {
    let text = |name: &str| resource.get(name)?.value.as_deref();
    let number = |name: &str| -> Option<u64> {
        // No limit is written as the largest number, or as -1.
        text(name)?
            .parse()
            .ok()
            .filter(|value| *value < i64::MAX as u64)
    };
    // A topic that stamps records itself does not look at theirs.
    let looks = text("message.timestamp.type") != Some("LogAppendTime");
    let deletes = text("cleanup.policy").is_none_or(|policy| policy.contains("delete"));
    let millis = |name: &str, matters: bool| {
        let limit = number(name).map(Duration::from_millis);
        limit.filter(|_| matters)
    };
    TopicLimits {
        timestamp_after_max: millis("message.timestamp.after.max.ms", looks),
        retention: millis("retention.ms", looks && deletes),
        max_message_bytes: number("max.message.bytes"),
    }
}

/// What librdkafka's producer takes by default.
const MESSAGE_MAX: usize = 1_000_000;
/// A batch of one record: its header, lengths, and what the record holds besides key and value.
/// librdkafka counts a part of it against its own limit, too.
const BATCH_BYTES: usize = 128;

/// Bytes that a record with key, value and headers may have, for the producer and for the topic.
pub(super) fn record_max(limits: TopicLimits, options: &KafkaOptions) -> usize {
    let config = options.producer();
    let producer = config
        .get("message.max.bytes")
        .and_then(|text| text.parse().ok());
    let producer: usize = producer.unwrap_or(MESSAGE_MAX);
    let topic = limits.max_message_bytes.unwrap_or(u64::MAX);
    let topic = usize::try_from(topic).unwrap_or(usize::MAX);
    producer.min(topic).saturating_sub(BATCH_BYTES)
}

/// Whether stamps that `--max-ahead` lets in may be ones that `topic` refuses.
///
/// # Errors
/// A usage error that says what to change.
pub(super) fn check_stamps(topic: &str, limits: TopicLimits, options: &KafkaOptions) -> Result {
    let Some(takes) = limits.timestamp_after_max else {
        return Ok(());
    };
    let shown = format_duration(takes);
    match options.max_ahead {
        Some(ahead) if ahead <= takes => Ok(()),
        Some(ahead) => Err(Error::usage(format!(
            "topic `{topic}` takes stamps up to {shown} ahead (its \
             message.timestamp.after.max.ms), and --max-ahead is {}: raise the one, lower the \
             other, or have results stamped when they are written: kafka:{topic}?timestamp=write",
            format_duration(ahead)
        ))),
        None => {
            warn!(
                target: "kafka",
                "topic `{topic}` takes stamps up to {shown} ahead (its \
                 message.timestamp.after.max.ms), and with --max-ahead off they may lie further: \
                 such a result ends the run"
            );
            Ok(())
        }
    }
}

/// What to do where `topic` has refused the stamp of a result, which is an event time. It may lie
/// far ahead, since `--max-ahead` is about records of Kafka, and not of files. `or`: what else it
/// may be.
pub(super) fn stamp_refused(topic: &str, or: &str) -> String {
    format!(
        " ({or}its event time is farther from the broker's clock than the topic's \
         message.timestamp.after.max.ms or message.timestamp.before.max.ms: raise that, or have \
         results stamped when they are written: kafka:{topic}?timestamp=write)"
    )
}

/// Says once that results are older than what the topic keeps.
#[derive(Debug)]
pub(super) struct Retention {
    topic: String,
    kept: Duration,
    /// Milliseconds since 1970: what is stamped before it is deleted soon.
    oldest: i64,
    said: AtomicBool,
}

impl Retention {
    pub(super) fn of(topic: &str, limits: TopicLimits) -> Option<Self> {
        let kept = limits.retention?;
        let millis = i64::try_from(kept.as_millis()).unwrap_or(i64::MAX);
        Some(Self {
            topic: topic.to_owned(),
            kept,
            oldest: time_of_day().millis().saturating_sub(millis),
            said: AtomicBool::new(false),
        })
    }

    /// A record with this stamp is written.
    pub(super) fn look(&self, stamp: i64) {
        if stamp < self.oldest && !self.said.swap(true, Relaxed) {
            warn!(
                target: "kafka",
                "results for topic `{}` are older than the {} that it keeps records (its \
                 retention.ms): Kafka deletes them soon. Set retention.ms=-1, or have results \
                 stamped when they are written: kafka:{0}?timestamp=write",
                self.topic,
                format_duration(self.kept)
            );
        }
    }
}

/// The limits of `topic`, or none where the cluster does not tell: reading them is a right of its
/// own, which a job does not need.
pub(super) fn known_limits(topic: &str, options: &KafkaOptions) -> TopicLimits {
    limits(topic, options).unwrap_or_else(|why| {
        debug!(target: "kafka", "{why}");
        TopicLimits::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn judged(takes: Option<u64>, ahead: Option<u64>) -> Result {
        let limits = TopicLimits {
            timestamp_after_max: takes.map(Duration::from_secs),
            ..TopicLimits::default()
        };
        let mut options = KafkaOptions::new("x:1", "job");
        options.max_ahead = ahead.map(Duration::from_secs);
        check_stamps("out", limits, &options)
    }

    #[test]
    fn a_record_leaves_room_for_what_a_batch_takes_beside_it() {
        let max = |topic| {
            let limits = TopicLimits {
                max_message_bytes: topic,
                ..TopicLimits::default()
            };
            record_max(limits, &KafkaOptions::new("x:1", "job"))
        };
        // librdkafka's own limit, from which it takes 36 bytes and more.
        assert_eq!(max(None), 999_872);
        assert_eq!(max(Some(1_048_588)), 999_872);
        assert_eq!(max(Some(100_000)), 99_872);
    }

    #[test]
    fn a_topic_that_refuses_stamps_that_may_come_is_refused() {
        judged(None, Some(600)).unwrap();
        judged(Some(600), Some(600)).unwrap();
        judged(Some(600), None).unwrap();
        let error = judged(Some(599), Some(600)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        let said = error.to_string();
        for part in ["`out`", "9m 59s", "--max-ahead is 10m", "?timestamp=write"] {
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn stamps_older_than_retention_are_said_once() {
        let limits = TopicLimits {
            retention: Some(Duration::from_hours(1)),
            ..TopicLimits::default()
        };
        let retention = Retention::of("out", limits).unwrap();
        retention.look(time_of_day().millis() - 1_800_000);
        assert!(!retention.said.load(Relaxed));
        retention.look(time_of_day().millis() - 7_200_000);
        assert!(retention.said.load(Relaxed));
        assert!(Retention::of("out", TopicLimits::default()).is_none());
    }
}
