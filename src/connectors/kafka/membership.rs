//! Who runs a job: whoever is the member of the group that has the job's name.
//!
//! A process that was stopped keeps its locks, but its membership ends when its session does. The
//! group reads nothing; that somebody is in it says that somebody is alive.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use tracing::debug;

use super::admin::{Probe, reason};
use super::context::Context;
use super::options::KafkaOptions;
use crate::error::{Error, Result};

/// How long a member that does not answer is one.
const SESSION: Duration = Duration::from_secs(10);
/// How often the client is asked what it has to say; it keeps its session by itself.
const LISTEN: Duration = Duration::from_millis(200);

/// Who is in group `group`; `None`: nobody.
///
/// # Errors
/// The cluster does not tell.
pub(super) fn owner(group: &str, options: &Arc<KafkaOptions>) -> Result<Option<String>> {
    let probe = Probe::new(options)?;
    let found = probe
        .client()
        .fetch_group_list(Some(group), options.patience());
    let found = found.map_err(|cause| {
        Error::operating(format!("group `{group}` is not told")).because(reason(&cause))
    })?;
    let group = found.groups().iter().find(|found| found.name() == group);
    let member = group.and_then(|group| group.members().first());
    Ok(member.map(|member| format!("{} at {}", member.client_id(), member.client_host())))
}

/// Being a member, as long as it lives.
#[derive(Debug)]
pub(super) struct Membership {
    over: Arc<AtomicBool>,
}

impl Membership {
    /// Joins `group` as `who`.
    ///
    /// # Errors
    /// No client, or no thread.
    pub(super) fn join(
        group: &str,
        topic: &str,
        who: &str,
        options: &KafkaOptions,
    ) -> Result<Self> {
        let mut config = options.client();
        config.set("group.id", group);
        config.set("client.id", who);
        config.set("session.timeout.ms", SESSION.as_millis().to_string());
        config.set("enable.auto.commit", "false");
        let consumer: BaseConsumer<Context> = config
            .create_with_context(Context::default())
            .map_err(|cause| options.refused(&cause))?;
        let failed = |cause: String| {
            Error::operating(format!("group `{group}` cannot be joined")).because(cause)
        };
        consumer
            .subscribe(&[topic])
            .map_err(|cause| failed(reason(&cause)))?;
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        let listen = move || {
            while !ended.load(SeqCst) {
                // What it reads is of no interest, and its complaints are in the log.
                let _ = consumer.poll(LISTEN);
            }
            consumer.unsubscribe();
            debug!(target: "kafka", "left the group");
        };
        let thread = thread::Builder::new()
            .name("kafka-member".to_owned())
            .spawn(listen);
        thread.map_err(|cause| failed(cause.to_string()))?;
        Ok(Self { over })
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.over.store(true, SeqCst);
    }
}
