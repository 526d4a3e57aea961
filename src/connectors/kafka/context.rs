//! What librdkafka says on its own account: log lines, errors of a client, fates of commits.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;
use tracing::{debug, info, warn};

/// Hands librdkafka's words on to the log and remembers the last complaint.
#[derive(Debug, Default)]
pub(super) struct Context {
    complaint: Mutex<Option<String>>,
    /// Why the cluster does not let this client in.
    refusal: Mutex<Option<String>>,
    /// There was an answer once. Until then whoever waits for it says what is wrong, and later
    /// nobody does but the log.
    connected: AtomicBool,
    down: AtomicBool,
    /// Connections that ended.
    breaks: AtomicUsize,
}

impl Context {
    /// The last thing that went wrong with a connection.
    pub(super) fn complaint(&self) -> Option<String> {
        let complaint = self
            .complaint
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        complaint.clone()
    }

    /// Why the cluster does not let this client in, if it does not.
    pub(super) fn refusal(&self) -> Option<String> {
        let refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner);
        refusal.clone()
    }

    /// There was an answer.
    pub(super) fn connected(&self) {
        self.connected.store(true, Ordering::Relaxed);
    }

    fn tell(&self, line: &str) {
        if self.connected.load(Ordering::Relaxed) {
            warn!(target: "kafka", "{line}");
        } else {
            info!(target: "kafka", "{line}");
        }
    }

    /// Whether no broker was reachable when last heard of.
    pub(super) fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// How many connections have ended so far.
    pub(super) fn breaks(&self) -> usize {
        self.breaks.load(Ordering::Relaxed)
    }

    /// Something arrived from a broker.
    pub(super) fn heard(&self) {
        if self.is_down() {
            self.down.store(false, Ordering::Relaxed);
        }
    }

    fn complain(&self, line: &str) {
        let said = gist(line);
        let mut complaint = self
            .complaint
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *complaint = Some(said.to_owned());
    }
}

/// What a line of librdkafka says.
fn gist(line: &str) -> &str {
    // `[thrd:host:port/1]: host:port/1: Connect to … failed: … (after 0ms in state CONNECT)`:
    // neither the thread nor the state says more.
    let said = match line.split_once("]: ") {
        Some((_, said)) if line.starts_with("[thrd:") => said,
        _ => line,
    };
    said.split_once(" (after ").map_or(said, |(said, _)| said)
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => {
                // The client says it again as an error.
                if matches!(facility, "FAIL" | "ERROR") {
                    self.breaks.fetch_add(1, Ordering::Relaxed);
                    self.complain(line);
                    return debug!(target: "kafka", "{line}");
                }
                // A producer's property is given to consumers too; every client would say so.
                if facility == "CONFWARN" {
                    debug!(target: "kafka", "{line}");
                } else {
                    self.tell(line);
                }
            }
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => info!(target: "kafka", "{line}"),
            RDKafkaLogLevel::Debug => debug!(target: "kafka", "{facility}: {line}"),
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        info!(target: "kafka", "statistics: {}", String::from_utf8_lossy(statistics));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            // The end of a partition is no error.
            Some(RDKafkaErrorCode::PartitionEOF) => {}
            Some(RDKafkaErrorCode::AllBrokersDown) => {
                // Said at each attempt to connect.
                if !self.down.swap(true, Ordering::Relaxed) {
                    self.tell("no broker is reachable: waiting for one");
                }
            }
            code => {
                use RDKafkaErrorCode::{Authentication, SSL, SaslAuthenticationFailed};
                self.breaks.fetch_add(1, Ordering::Relaxed);
                if matches!(code, Some(Authentication | SaslAuthenticationFailed | SSL)) {
                    let mut refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner);
                    *refusal = Some(gist(reason).to_owned());
                }
                self.complain(reason);
                self.tell(reason);
            }
        }
    }
}

impl ConsumerContext for Context {
    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        if let Err(cause) = result {
            debug!(target: "kafka", "offsets for lag tools were not taken: {cause}");
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    // Reports are read from the event queue, whole batches at a time: see `client`.
    fn delivery(&self, _result: &DeliveryResult<'_>, (): ()) {}
}
