//! Ends that may take their time: librdkafka may wait for brokers when a client is destroyed.

use std::ops::Deref;
use std::thread;

use tracing::warn;

/// Runs `work` on a thread of its own that nobody waits for.
pub(super) fn aside(name: &str, work: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(work);
    if let Err(cause) = thread {
        warn!(target: "kafka", "no thread `{name}`: {cause}");
    }
}

/// A client that is dropped on a thread of its own.
pub(super) struct Aside<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> Aside<T> {
    pub(super) fn new(client: T) -> Self {
        Self(Some(client))
    }
}

impl<T: Send + 'static> Deref for Aside<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("only `drop` takes it")
    }
}

impl<T: Send + 'static> Drop for Aside<T> {
    fn drop(&mut self) {
        let client = self.0.take();
        aside("kafka-end", move || drop(client));
    }
}
