//! Questions to the cluster, asked before anything runs: partitions, offsets, configurations.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Wake};
use std::thread::{self, Thread};
use std::time::Duration;

use rdkafka::client::Client;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};

use super::aside::Aside;
use super::checks::NotFound;
use super::client::describe_topic;
use super::context::Context;
use super::options::KafkaOptions;
use crate::connectors::Start;
use crate::error::{Error, Result};
use crate::observe::now;
use crate::time::EventTime;

/// How often a topic that is not there is looked for again: one that was created a moment ago is
/// not known to every broker yet.
const LOOKS: u32 = 3;
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How long one question may take before the client is asked whether it was refused.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A client that only asks.
pub(super) struct Probe {
    client: Aside<BaseConsumer<Context>>,
    pub(super) options: Arc<KafkaOptions>,
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
        let count = partitions(client.client(), topic, &self.options, || listen(client));
        count.map_err(|missing| missing.explain(topic, client.context(), &self.options))
    }

    /// The number of partitions of `topic`, if it exists.
    pub(super) fn find(&self, topic: &str) -> Result<Option<u32>, NotFound> {
        let client = &*self.client;
        match partitions(client.client(), topic, &self.options, || listen(client)) {
            Ok(count) => Ok(Some(count)),
            Err(Missing::Topic) => Ok(None),
            Err(Missing::Refused(RDKafkaErrorCode::TopicAuthorizationFailed)) => {
                Err(NotFound::Refused)
            }
            Err(missing) => {
                let error = missing.explain(topic, client.context(), &self.options);
                Err(NotFound::Error(error))
            }
        }
    }

    /// The offset behind the last record of a partition that may be read, if a broker answers.
    pub(super) fn end(&self, topic: &str, partition: u32, patience: Duration) -> Option<u64> {
        let number = partition.cast_signed();
        let ends = self.client().fetch_watermarks(topic, number, patience);
        ends.ok().map(|(_, end)| end.cast_unsigned())
    }

    /// What tells `topic` from an earlier one of its name; empty: the cluster does not tell.
    pub(super) fn topic_id(&self, topic: &str) -> String {
        let name = CString::new(topic).unwrap_or_default();
        let facts = describe_topic(self.client(), &name, self.options.patience());
        facts.ok().and_then(|facts| facts.id).unwrap_or_default()
    }

    /// Why the cluster does not let this client in, if it does not.
    pub(super) fn refusal(&self) -> Option<String> {
        listen(&self.client);
        self.client.context().refusal()
    }

    /// The client itself.
    pub(super) fn client(&self) -> &Client<Context> {
        self.client.client()
    }

    /// The number of partitions of `topic`, 0 if it does not exist, asked once and without ado;
    /// `None`: no answer.
    pub(super) fn look(&self, topic: &str, wait: Duration) -> Option<u32> {
        let client = &*self.client;
        let metadata = client.fetch_metadata(Some(topic), wait);
        listen(client);
        let metadata = metadata.ok()?;
        client.context().heard();
        let found = metadata
            .topics()
            .iter()
            .find(|found| found.name() == topic)?;
        match found.error() {
            Some(error) if !is_absent(error) => None,
            _ => u32::try_from(found.partitions().len()).ok(),
        }
    }

    /// Where the partitions of `topic` begin. Those without a leader are left out: librdkafka waits
    /// for it, and answers for none meanwhile.
    pub(super) fn begins(&self, topic: &str, wait: Duration) -> KafkaResult<BTreeMap<u32, u64>> {
        let metadata = self.client.fetch_metadata(Some(topic), wait)?;
        let mut led = TopicPartitionList::new();
        let partitions = metadata
            .topics()
            .iter()
            .flat_map(|topic| topic.partitions());
        for partition in partitions.filter(|partition| partition.leader() >= 0) {
            led.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
        }
        let found = self.client.offsets_for_times(led, wait)?;
        let known = |place: &TopicPartitionListElem<'_>| {
            place.error().ok()?;
            let begin = u64::try_from(place.offset().to_raw()?).ok()?;
            Some((u32::try_from(place.partition()).ok()?, begin))
        };
        let places = found.elements_for_topic(topic);
        Ok(places.iter().filter_map(known).collect())
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
            .offsets_for_times(list, self.options.patience())
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
            Self::Topic => options.absent(topic),
            Self::Refused(code) => Error::operating(format!(
                "topic `{topic}` at `{bootstrap}` is not accessible to {}: {}",
                options.principal(),
                describe(*code)
            )),
            Self::Cluster(cause) => {
                if let Some(refusal) = context.refusal() {
                    let security = options.security();
                    let why = format!("Kafka at `{bootstrap}` refuses this client ({security})");
                    return Error::operating(why).because(refusal);
                }
                let cause = context.complaint().unwrap_or_else(|| reason(cause));
                Error::operating(format!("no answer from Kafka at `{bootstrap}`")).because(cause)
            }
        }
    }
}

/// The number of partitions of `topic`; `client` then knows their leaders. `listen` lets the client
/// say what it has to: whom the cluster refuses need not wait.
pub(super) fn partitions(
    client: &Client<Context>,
    topic: &str,
    options: &KafkaOptions,
    listen: impl Fn(),
) -> Result<u32, Missing> {
    let mut looks = 0;
    loop {
        let metadata = patient_metadata(client, topic, options, &listen)?;
        client.context().connected();
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
        if looks == LOOKS || matches!(refusal, Some(code) if is_forbidden(code)) {
            return Err(refusal.map_or(Missing::Topic, |code| Missing::Refused(code.into())));
        }
        thread::sleep(LOOK_AGAIN);
    }
}

/// Asks until there is an answer, or the cluster has refused this client, or it takes too long.
fn patient_metadata(
    client: &Client<Context>,
    topic: &str,
    options: &KafkaOptions,
    listen: &impl Fn(),
) -> Result<Metadata, Missing> {
    let start = now();
    loop {
        let left = options.patience().saturating_sub(start.elapsed());
        let asked = client.fetch_metadata(Some(topic), left.min(ASK_AGAIN));
        let why = match asked {
            Ok(metadata) => return Ok(metadata),
            Err(why) => why,
        };
        listen();
        if client.context().refusal().is_some() || start.elapsed() >= options.patience() {
            return Err(Missing::Cluster(why));
        }
        if why.rdkafka_error_code() != Some(RDKafkaErrorCode::OperationTimedOut) {
            thread::sleep(LOOK_AGAIN);
        }
    }
}

fn is_forbidden(error: RDKafkaRespErr) -> bool {
    error == RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED
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
