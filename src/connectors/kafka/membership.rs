//! Who runs a job: whoever is a member of the group that has the job's name.
//!
//! A process that was stopped keeps its locks, but its membership ends when its session does. The
//! group reads nothing; that somebody is in it says that somebody is alive.

use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use tracing::debug;

use super::admin::{Probe, describe, reason};
use super::client::{Right, describe_group};
use super::context::Context;
use super::options::KafkaOptions;
use crate::connectors::Member;
use crate::error::{Error, Result};
use crate::observe::now;

/// How long a member that does not answer is one.
const SESSION: Duration = Duration::from_secs(10);
/// How often a member says that it lives. Others take it for dead if it is missing for longer than
/// that needs, so no property changes it.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// How soon a question is asked again that the cluster cannot answer yet.
const AGAIN: Duration = Duration::from_millis(50);
/// How often the client is asked what it has to say; it keeps its session by itself.
const LISTEN: Duration = Duration::from_millis(200);

/// Who is in group `group`.
///
/// # Errors
/// The cluster does not tell, or does not let this client be one of them: whoever comes next would
/// take it for dead.
pub(super) fn members(group: &str, options: &Arc<KafkaOptions>) -> Result<Vec<Member>> {
    let probe = Probe::new(options)?;
    let name = CString::new(group)
        .map_err(|_| Error::usage(format!("--job-id: `{group}` is no name of a group")))?;
    let began = now();
    let found = loop {
        let found = describe_group(probe.client(), &name, options.patience());
        let moves = found.as_ref().is_err_and(|code| is_moving(*code));
        if !moves || began.elapsed() > options.patience() {
            break found;
        }
        thread::sleep(AGAIN);
    };
    let found = found.map_err(|code| {
        let refusal = probe.refusal();
        let why = refusal.unwrap_or_else(|| describe(code));
        Error::operating(format!("group `{group}` is not told")).because(why)
    })?;
    if found.may_join == Some(false) {
        return Err(lacks(group, options));
    }
    Ok(found.members)
}

/// Whether a cluster that is starting, or has lost a broker, tells soon who answers for groups.
fn is_moving(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{
        CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator, OperationTimedOut,
    };
    let moving = [
        CoordinatorLoadInProgress,
        CoordinatorNotAvailable,
        NotCoordinator,
        OperationTimedOut,
    ];
    moving.contains(&code)
}

fn lacks(group: &str, options: &KafkaOptions) -> Error {
    options.lacks_to(&format!("group `{group}`"), Right::Read)
}

fn config(group: &str, who: &str, options: &KafkaOptions) -> ClientConfig {
    let mut config = options.client();
    config.set("group.id", group);
    config.set("client.id", who);
    config.set("session.timeout.ms", SESSION.as_millis().to_string());
    config.set("heartbeat.interval.ms", HEARTBEAT.as_millis().to_string());
    config.set("enable.auto.commit", "false");
    config
}

/// Being a member, as long as it lives.
#[derive(Debug)]
pub(super) struct Membership {
    over: Arc<AtomicBool>,
    /// The cluster does not let it in.
    refused: Arc<AtomicBool>,
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
        let consumer: BaseConsumer<Context> = config(group, who, options)
            .create_with_context(Context::default())
            .map_err(|cause| options.refused(&cause))?;
        let failed = |cause: String| {
            Error::operating(format!("group `{group}` cannot be joined")).because(cause)
        };
        consumer
            .subscribe(&[topic])
            .map_err(|cause| failed(reason(&cause)))?;
        let over = Arc::new(AtomicBool::new(false));
        let refused = Arc::new(AtomicBool::new(false));
        let (ended, told) = (Arc::clone(&over), Arc::clone(&refused));
        let listen = move || {
            while !ended.load(SeqCst) {
                // What it reads is of no interest, and its other complaints are in the log.
                let said = consumer.poll(LISTEN).and_then(Result::err);
                let code = said.and_then(|said| said.rdkafka_error_code());
                if code == Some(RDKafkaErrorCode::GroupAuthorizationFailed) {
                    told.store(true, SeqCst);
                }
            }
            consumer.unsubscribe();
            debug!(target: "kafka", "left the group");
        };
        let thread = thread::Builder::new()
            .name("kafka-member".to_owned())
            .spawn(listen);
        thread.map_err(|cause| failed(cause.to_string()))?;
        Ok(Self { over, refused })
    }

    /// Whether it may be a member, as far as was heard: not every cluster tells before.
    ///
    /// # Errors
    /// The right that is missing.
    pub(super) fn check(&self, group: &str, options: &KafkaOptions) -> Result {
        if self.refused.load(SeqCst) {
            return Err(lacks(group, options));
        }
        Ok(())
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.over.store(true, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_property_makes_a_member_that_lives_look_dead() {
        let mut options = KafkaOptions::new("127.0.0.1:1", "job");
        for name in ["heartbeat.interval.ms", "session.timeout.ms"] {
            let slow = (name.to_owned(), "10000".to_owned());
            options.properties.push(slow);
        }
        options.check().unwrap();
        let config = config("job", "process 1", &options);
        assert_eq!(config.get("heartbeat.interval.ms"), Some("3000"));
        assert_eq!(config.get("session.timeout.ms"), Some("10000"));
    }
}
