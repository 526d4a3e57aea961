//! Questions to the cluster, asked before anything runs: partitions, offsets, configurations.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Wake};
use std::thread::{self, Thread};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::Client;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};

use super::aside::{Aside, aside};
use super::context::Context;
use super::options::KafkaOptions;
use crate::connectors::Start;
use crate::error::{Error, Result};
use crate::time::EventTime;

/// How often a topic that is not there is looked for again: one that was created a moment ago is
/// not known to every broker yet.
const LOOKS: u32 = 3;
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A client that only asks.
pub(super) struct Probe {
    client: Aside<BaseConsumer<Context>>,
    options: Arc<KafkaOptions>,
}

impl Probe {
    /// Checks the options and makes the client; it connects when it is asked something.
    pub(super) fn new(options: &Arc<KafkaOptions>) -> Result<Self> {
        options.check()?;
        let client = options
            .client()
            .create_with_context(Context::default())
            .map_err(|cause| options.refused(&cause))?;
        Ok(Self {
            client: Aside::new(client),
            options: Arc::clone(options),
        })
    }

    /// The number of partitions of `topic`.
    pub(super) fn partitions(&self, topic: &str) -> Result<u32> {
        let client = &*self.client;
        let count = partitions(client.client(), topic, &self.options);
        listen(client);
        count.map_err(|missing| missing.explain(topic, client.context(), &self.options))
    }

    /// The number of partitions of `topic`, asked once and without ado.
    pub(super) fn look(&self, topic: &str, wait: Duration) -> Option<u32> {
        let client = &*self.client;
        let metadata = client.fetch_metadata(Some(topic), wait);
        listen(client);
        let metadata = metadata.ok()?;
        let found = metadata
            .topics()
            .iter()
            .find(|found| found.name() == topic)?;
        u32::try_from(found.partitions().len()).ok()
    }

    /// For each of the first `partitions` of `topic`, the offset at which `start` lies.
    pub(super) fn offsets(&self, topic: &str, partitions: u32, start: Start) -> Result<Vec<u64>> {
        let asked = match start {
            Start::Earliest => Offset::Beginning,
            Start::Latest => Offset::End,
            // Negative times have other meanings in the protocol.
            Start::Timestamp(time) => Offset::Offset(time.max(EventTime::from(0)).millis()),
        };
        let mut list = TopicPartitionList::with_capacity(partitions as usize);
        for partition in 0..partitions.cast_signed() {
            list.add_partition_offset(topic, partition, asked)
                .map_err(|cause| self.no_offsets(topic, None, &cause))?;
        }
        let found = self
            .client
            .offsets_for_times(list, self.options.broker_timeout)
            .map_err(|cause| self.no_offsets(topic, None, &cause))?;
        let mut ends = None;
        let mut offsets = vec![0; partitions as usize];
        for place in found.elements_for_topic(topic) {
            let partition = place.partition();
            place
                .error()
                .map_err(|cause| self.no_offsets(topic, Some(partition), &cause))?;
            let index = usize::try_from(partition).unwrap_or(usize::MAX);
            let offset = match place.offset().to_raw().map(u64::try_from) {
                Some(Ok(offset)) => offset,
                // No record is that late: start behind the last one.
                _ if matches!(start, Start::Timestamp(_)) => {
                    let ends = match &mut ends {
                        Some(ends) => ends,
                        none => none.insert(self.offsets(topic, partitions, Start::Latest)?),
                    };
                    ends.get(index).copied().unwrap_or(0)
                }
                _ => {
                    let cause = KafkaError::OffsetFetch(RDKafkaErrorCode::UnknownPartition);
                    return Err(self.no_offsets(topic, Some(partition), &cause));
                }
            };
            if let Some(slot) = offsets.get_mut(index) {
                *slot = offset;
            }
        }
        Ok(offsets)
    }

    fn no_offsets(&self, topic: &str, partition: Option<i32>, cause: &KafkaError) -> Error {
        let place = partition.map_or_else(String::new, |partition| format!("[{partition}]"));
        Error::operating(format!(
            "offsets of `{topic}{place}` at `{}` are not to be had",
            self.options.bootstrap
        ))
        .because(reason(cause))
    }
}

/// Lets `client` say why something failed. A poll that handled a log line looks like one that found
/// nothing, so their number is fixed: more than the lines of a client whose every `debug` is on.
pub(super) fn listen(client: &BaseConsumer<Context>) {
    for _ in 0..1_000 {
        let _ = client.poll(Duration::ZERO);
    }
}

/// Why the partitions of a topic are not known.
pub(super) enum Missing {
    /// The cluster does not know the topic.
    Topic,
    /// The cluster refuses to speak about the topic.
    Refused(RDKafkaErrorCode),
    /// The cluster does not answer.
    Cluster(KafkaError),
}

impl Missing {
    /// The sentence for a user.
    pub(super) fn explain(&self, topic: &str, context: &Context, options: &KafkaOptions) -> Error {
        let bootstrap = &options.bootstrap;
        match self {
            Self::Topic => Error::usage(format!(
                "topic `{topic}` does not exist; create it: kafka-topics.sh --bootstrap-server \
                 {bootstrap} --create --topic {topic} --partitions N, or run the job with \
                 --create-topics"
            )),
            Self::Refused(code) => Error::operating(format!(
                "topic `{topic}` at `{bootstrap}` is not accessible: {}",
                describe(*code)
            )),
            Self::Cluster(cause) => {
                let cause = context.complaint().unwrap_or_else(|| reason(cause));
                Error::operating(format!("no answer from Kafka at `{bootstrap}`")).because(cause)
            }
        }
    }
}

/// The number of partitions of `topic`; `client` then knows their leaders.
pub(super) fn partitions(
    client: &Client<Context>,
    topic: &str,
    options: &KafkaOptions,
) -> Result<u32, Missing> {
    let mut looks = 0;
    loop {
        let metadata = client
            .fetch_metadata(Some(topic), options.broker_timeout)
            .map_err(Missing::Cluster)?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let refusal = match found {
            None => None,
            Some(found) => match found.error() {
                None if !found.partitions().is_empty() => {
                    return Ok(u32::try_from(found.partitions().len()).unwrap_or(u32::MAX));
                }
                error => error.filter(|error| !is_absent(*error)),
            },
        };
        looks += 1;
        if looks == LOOKS {
            return Err(refusal.map_or(Missing::Topic, |code| Missing::Refused(code.into())));
        }
        thread::sleep(LOOK_AGAIN);
    }
}

fn is_absent(error: RDKafkaRespErr) -> bool {
    matches!(
        error,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
            | RDKafkaRespErr::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC
    )
}

/// What librdkafka says about `error`, without the name of the call.
pub(super) fn reason(error: &KafkaError) -> String {
    match error.rdkafka_error_code() {
        Some(code) => describe(code),
        None => error.to_string(),
    }
}

/// librdkafka's words for `code`, without the name of its constant.
pub(super) fn describe(code: RDKafkaErrorCode) -> String {
    let both = code.to_string();
    let words = both
        .split_once(" (")
        .and_then(|(_, words)| words.strip_suffix(')'));
    words.map_or_else(|| both.clone(), str::to_owned)
}

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
    let admin: AdminClient<Context> = options
        .client()
        .create_with_context(Context::default())
        .map_err(|cause| options.refused(&cause))?;
    let wait = AdminOptions::new().request_timeout(Some(options.broker_timeout));
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
    let resource = answer
        .map_err(|cause| unknown(reason(&cause)))?
        .into_iter()
        .next()
        .ok_or_else(|| unknown("empty answer".into()))?
        .map_err(|code| unknown(describe(code)))?;
    let number = |name: &str| -> Option<u64> {
        let value = resource.get(name)?.value.as_deref()?;
        // No limit is written as the largest number, or as -1.
        value.parse().ok().filter(|value| *value < i64::MAX as u64)
    };
    Ok(TopicLimits {
        timestamp_after_max: number("message.timestamp.after.max.ms").map(Duration::from_millis),
        retention: number("retention.ms").map(Duration::from_millis),
        max_message_bytes: number("max.message.bytes"),
    })
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future that another thread completes.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut context = TaskContext::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
