//! Who runs a job: whoever is a member of the group that has the job's name.
//!
//! A process that was stopped keeps its locks, but its membership ends when its session does. The
//! group reads nothing; that somebody is in it says that somebody is alive.

use std::ffi::CString;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
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

/// What to do about a refusal that lasts; `None`: it is none.
fn remedy(code: RDKafkaErrorCode) -> Option<&'static str> {
    use RDKafkaErrorCode as Code;
    Some(match code {
        Code::GroupAuthorizationFailed => "grant it the right Read",
        Code::InvalidSessionTimeout => {
            "its session has 10 s, which the brokers' group.min.session.timeout.ms and \
             group.max.session.timeout.ms have to allow"
        }
        Code::GroupMaxSizeReached => "raise the brokers' group.max.size, or end other members",
        Code::InconsistentGroupProtocol => {
            "another program is in it: give that one another group, or the job another --job-id"
        }
        Code::InvalidGroupId => "give the job another --job-id",
        _ => return None,
    })
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
    /// Why the cluster does not let it in.
    refused: Arc<OnceLock<RDKafkaErrorCode>>,
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
        let refused = Arc::new(OnceLock::new());
        let (ended, told) = (Arc::clone(&over), Arc::clone(&refused));
        let listen = move || {
            while !ended.load(SeqCst) {
                // What it reads is of no interest, and its other complaints are in the log.
                let said = consumer.poll(LISTEN).and_then(Result::err);
                let code = said.and_then(|said| said.rdkafka_error_code());
                if let Some(code) = code.filter(|code| remedy(*code).is_some()) {
                    told.get_or_init(|| code);
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
    /// Why it may not, and what to do: whoever comes next would take it for dead.
    pub(super) fn check(&self, group: &str, options: &KafkaOptions) -> Result {
        let Some(code) = self.refused.get() else {
            return Ok(());
        };
        if *code == RDKafkaErrorCode::GroupAuthorizationFailed {
            return Err(lacks(group, options));
        }
        let remedy = remedy(*code).unwrap_or_default();
        let what = format!("group `{group}` does not let this run in: {remedy}");
        Err(Error::operating(what).because(describe(*code)))
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
    #[cfg(feature = "dev-broker")]
    use crate::observe::since;

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

    #[test]
    fn what_is_over_in_a_moment_is_no_refusal() {
        use RDKafkaErrorCode as Code;
        for code in [
            Code::GroupAuthorizationFailed,
            Code::InvalidSessionTimeout,
            Code::GroupMaxSizeReached,
            Code::InconsistentGroupProtocol,
            Code::InvalidGroupId,
        ] {
            assert!(remedy(code).is_some(), "{code}");
        }
        for code in [
            Code::BrokerTransportFailure,
            Code::OperationTimedOut,
            Code::NotCoordinator,
            Code::UnknownMemberId,
            Code::RebalanceInProgress,
            Code::UnknownTopicOrPartition,
        ] {
            assert_eq!(remedy(code), None, "{code}");
        }
    }

    #[cfg(feature = "dev-broker")]
    #[test]
    fn a_run_that_is_not_let_into_its_group_is_told_why() {
        let builder = crate::broker::DevBroker::builder().topic("job.progress", 1);
        let broker = builder.start().unwrap();
        let options = Arc::new(KafkaOptions::new(broker.bootstrap(), "job"));
        // Another program is in it, and shares partitions out in another way.
        let mut other = options.client();
        other.set("group.id", "job");
        other.set("partition.assignment.strategy", "cooperative-sticky");
        let other: BaseConsumer = other.create().unwrap();
        other.subscribe(&["job.progress"]).unwrap();
        let began = now();
        let wait = |what: &str, holds: &dyn Fn() -> bool| {
            while !holds() {
                drop(other.poll(AGAIN));
                assert!(since(began) < Duration::from_secs(30), "never: {what}");
            }
        };
        wait("a member", &|| {
            members("job", &options).is_ok_and(|all| all.len() == 1)
        });
        let member = Membership::join("job", "job.progress", "process 1", &options).unwrap();
        wait("a refusal", &|| member.check("job", &options).is_err());
        let said = member.check("job", &options).unwrap_err().to_string();
        for part in ["group `job` does not let this run in", "--job-id"] {
            assert!(said.contains(part), "{said}");
        }
    }
}
