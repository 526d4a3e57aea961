//! What is asked of the cluster for `--check`, and made for `--create-topics`.

use std::ffi::CString;
use std::sync::Arc;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};

use super::admin::{Probe, block_on, describe, reason};
use super::aside::aside;
use super::client::{Right, describe_topic};
use super::context::Context;
use super::options::KafkaOptions;
use crate::connectors::Created;
use crate::error::{Error, Result};

/// Whether `topic` is there, and this client has `right` to it; what was found, in words.
///
/// # Errors
/// It is missing and not to be created, or the right is.
pub(super) fn check(
    topic: &str,
    options: &Arc<KafkaOptions>,
    right: Right,
    creates: bool,
) -> Result<String> {
    let probe = Probe::new(options)?;
    let Some(count) = probe.find(topic).map_err(|why| match why {
        NotFound::Refused => options.lacks(topic, right),
        NotFound::Error(error) => error,
    })?
    else {
        return if creates {
            Ok("does not exist; a run creates it".to_owned())
        } else {
            Err(options.absent(topic))
        };
    };
    if right == Right::Read {
        options.saw(count);
    }
    let name = CString::new(topic).map_err(|_| options.absent(topic))?;
    let found = describe_topic(probe.client(), &name, options.patience());
    match found.map(|facts| facts.has(right)) {
        Ok(Some(false)) => Err(options.lacks(topic, right)),
        Ok(Some(true)) => Ok(format!("{count} partitions, right {right:?}")),
        // An old cluster, or one that is not Kafka's own.
        Ok(None) | Err(_) => Ok(format!("{count} partitions, rights not told")),
    }
}

/// Why [`Probe::find`] knows nothing.
pub(super) enum NotFound {
    /// The topic may not be asked for.
    Refused,
    Error(Error),
}

/// Creates `topic`, unless it is there, with so many partitions or the cluster's default.
///
/// # Errors
/// It cannot be created.
pub(super) fn create(
    topic: &str,
    options: &Arc<KafkaOptions>,
    partitions: Option<u32>,
) -> Result<Created> {
    let probe = Probe::new(options)?;
    let found = probe.find(topic).map_err(|why| match why {
        NotFound::Refused => options.lacks(topic, Right::Write),
        NotFound::Error(error) => error,
    })?;
    if let Some(found) = found {
        return Ok(Created {
            partitions: Some(found),
            made: None,
        });
    }
    let admin: AdminClient<Context> = options
        .client()
        .create_with_context(Context::default())
        .map_err(|cause| options.refused(&cause))?;
    let wait = AdminOptions::new()
        .request_timeout(Some(options.patience()))
        .operation_timeout(Some(options.patience()));
    // -1: the cluster's default.
    let count = partitions.map_or(-1, |count| i32::try_from(count).unwrap_or(-1));
    let new = NewTopic::new(topic, count, TopicReplication::Fixed(-1));
    let answer = block_on(admin.create_topics(&[new], &wait));
    aside("kafka-admin-end", move || drop(admin));
    let failed = |cause: String| {
        let bootstrap = &options.bootstrap;
        Error::operating(format!(
            "topic `{topic}` cannot be created at `{bootstrap}`"
        ))
        .because(cause)
    };
    let made = answer.map_err(|cause| failed(reason(&cause)))?;
    if let Some(Err((_, code))) = made.into_iter().next() {
        return Err(failed(describe(code)));
    }
    let count = probe.partitions(topic)?;
    let like = match partitions {
        Some(_) => "as many as the sources have",
        None => "the cluster's default",
    };
    Ok(Created {
        partitions: Some(count),
        made: Some(format!(
            "created topic `{topic}` with {count} partitions ({like})"
        )),
    })
}
