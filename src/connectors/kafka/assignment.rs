//! The partitions that one worker reads, and the client that reads them.

use std::ffi::CString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use super::admin;
use super::client::{Consumer, Queue};
use super::context::Context;
use super::options::KafkaOptions;
use super::stalled::Silent;
use crate::connectors::Share;
use crate::error::{Error, Result};

/// What of a partition is read: `[start, end)`, without an end if the source is live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u64,
    pub(super) end: Option<u64>,
}

impl Span {
    /// Whether there is nothing to read, ever.
    pub(super) fn is_empty(self) -> bool {
        self.end.is_some_and(|end| end <= self.start)
    }
}

/// The client of one reader. The scout adds partitions from a thread of its own, so that the worker
/// need not wait for brokers when a topic grows.
pub(super) struct Assignment {
    pub(super) topic: Arc<str>,
    pub(super) options: Arc<KafkaOptions>,
    pub(super) share: Share,
    inner: Mutex<Inner>,
    has_grown: AtomicBool,
    silent: Mutex<Silent>,
    /// Why nothing can be read any more.
    failed: OnceLock<String>,
}

#[derive(Default)]
struct Inner {
    consumer: Option<Arc<Consumer>>,
    grown: Vec<(u32, Queue)>,
    closed: bool,
}

impl Assignment {
    pub(super) fn new(topic: &Arc<str>, options: &Arc<KafkaOptions>, share: Share) -> Self {
        Self {
            topic: Arc::clone(topic),
            options: Arc::clone(options),
            share,
            inner: Mutex::default(),
            has_grown: AtomicBool::new(false),
            silent: Mutex::default(),
            failed: OnceLock::new(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts to fetch `partitions`, each from its offset. May wait for brokers.
    pub(super) fn add(&self, partitions: &[(u32, u64)]) -> Result<Vec<(u32, Queue)>> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let known = self.consumer();
        let consumer = match known {
            Some(consumer) => consumer,
            None => Arc::new(self.connect(partitions.len())?),
        };
        // A fetch starts at once only if the client knows the leader; else after half a second.
        let client = consumer.base.client();
        let listen = || admin::listen(&consumer.base);
        admin::partitions(client, &self.topic, &self.options, listen)
            .map_err(|missing| missing.explain(&self.topic, client.context(), &self.options))?;

        let mut queues = Vec::with_capacity(partitions.len());
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for &(partition, offset) in partitions {
            let number = partition.cast_signed();
            list.add_partition_offset(&self.topic, number, Offset::Offset(offset.cast_signed()))
                .map_err(|cause| self.not_assigned(partition, &cause))?;
            let waker = self.share.waker.clone();
            let queue = Queue::new(&consumer, number, waker).ok_or_else(|| {
                self.not_assigned(partition, &KafkaError::Subscription("no queue".into()))
            })?;
            queues.push((partition, queue));
        }
        consumer
            .base
            .incremental_assign(&list)
            .map_err(|cause| self.not_assigned(partitions[0].0, &cause))?;
        let mut inner = self.inner();
        if !inner.closed {
            inner.consumer = Some(consumer);
        }
        Ok(queues)
    }

    /// As [`Self::add`], and lets the reader find them at its next look.
    pub(super) fn grow(&self, partitions: &[(u32, u64)]) -> Result {
        let queues = self.add(partitions)?;
        if !queues.is_empty() {
            self.inner().grown.extend(queues);
            self.has_grown.store(true, Ordering::Release);
            self.share.waker.wake();
        }
        Ok(())
    }

    /// Partitions that were added since the last call.
    pub(super) fn grown(&self) -> Vec<(u32, Queue)> {
        if self.has_grown.load(Ordering::Acquire) {
            let mut inner = self.inner();
            self.has_grown.store(false, Ordering::Release);
            std::mem::take(&mut inner.grown)
        } else {
            Vec::new()
        }
    }

    /// Partitions that the reader hears nothing of.
    pub(super) fn silent(&self) -> MutexGuard<'_, Silent> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing can be read any more: the reader says so at its next look.
    pub(super) fn fail(&self, why: &str) {
        let _ = self.failed.set(why.to_owned());
        self.share.waker.wake();
    }

    /// Whether reading may go on.
    ///
    /// # Errors
    /// What [`Self::fail`] was told.
    pub(super) fn check(&self) -> Result {
        self.failed
            .get()
            .map_or(Ok(()), |why| Err(Error::operating(why)))
    }

    /// The client, if there is anything to read.
    pub(super) fn consumer(&self) -> Option<Arc<Consumer>> {
        self.inner().consumer.clone()
    }

    /// The reader is gone.
    pub(super) fn close(&self) {
        let mut inner = self.inner();
        inner.closed = true;
        std::mem::take(&mut inner.grown);
        inner.consumer = None;
    }

    fn connect(&self, partitions: usize) -> Result<Consumer> {
        let base: BaseConsumer<Context> = self
            .options
            .consumer(self.share.buffer_bytes, partitions)
            .create_with_context(Context::default())
            .map_err(|cause| self.options.refused(&cause))?;
        let topic = CString::new(&*self.topic)
            .map_err(|_| Error::usage(format!("`{}` is no name of a topic", self.topic)))?;
        Ok(Consumer::new(base, topic, self.share.waker.clone()))
    }

    fn not_assigned(&self, partition: u32, cause: &KafkaError) -> Error {
        Error::operating(format!("`{}[{partition}]` cannot be read", self.topic))
            .because(admin::reason(cause))
    }
}
