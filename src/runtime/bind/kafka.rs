//! Topics as sources and sinks.

use std::sync::Arc;

use super::{Binding, Uri};
use crate::connectors::{Sink, Source, Transactions};
use crate::error::{Error, Result};
use crate::runtime::settings::{Bound, Settings};
use crate::stream::{Description, Port, PortKind};

#[cfg(not(feature = "kafka"))]
pub(super) fn kafka_source(_: &Binding<'_>, port: &Port, _: &Uri<'_>) -> Result<Arc<dyn Source>> {
    Err(Error::usage(format!(
        "port `{}`: this program was built without Kafka",
        port.name
    )))
}

#[cfg(not(feature = "kafka"))]
pub(super) fn kafka_sink(_: &Binding<'_>, port: &Port, _: &Uri<'_>) -> Result<Arc<dyn Sink>> {
    Err(Error::usage(format!(
        "port `{}`: this program was built without Kafka",
        port.name
    )))
}

#[cfg(feature = "kafka")]
use crate::connectors::{KafkaOptions, KafkaSink, KafkaSource};
#[cfg(feature = "kafka")]
use crate::runtime::settings::Property;

#[cfg(feature = "kafka")]
pub(super) fn kafka_source(
    all: &Binding<'_>,
    port: &Port,
    uri: &Uri<'_>,
) -> Result<Arc<dyn Source>> {
    if let Some((key, _)) = uri.options.first() {
        return Err(Error::usage(format!(
            "port `{}`: unknown option `{key}`",
            port.name
        )));
    }
    let mut options = kafka_options(all.job, port, all.settings)?;
    options.most = Arc::clone(&all.most);
    Ok(Arc::new(KafkaSource::new(uri.path, options)))
}

#[cfg(feature = "kafka")]
pub(super) fn kafka_sink(all: &Binding<'_>, port: &Port, uri: &Uri<'_>) -> Result<Arc<dyn Sink>> {
    let mut stamp_at_write = false;
    for (key, value) in &uri.options {
        if let ("timestamp", "write") = (*key, *value) {
            stamp_at_write = true;
        } else {
            let why = format!("port `{}`: unknown option `{key}={value}`", port.name);
            return Err(Error::usage(format!("{why}; expected timestamp=write")));
        }
    }
    let mut options = kafka_options(all.job, port, all.settings)?;
    options.most = Arc::clone(&all.most);
    let sink = KafkaSink::new(uri.path, options, stamp_at_write);
    Ok(Arc::new(sink.within(all.commit.cloned())))
}

/// The transactions in which all Kafka sinks of a job write; `None`: there are none, or they need
/// not be exactly once.
///
/// # Errors
/// The job has no id of its own; or a property is for one of the sinks only.
#[cfg(feature = "kafka")]
pub(crate) fn transaction(
    description: &Description,
    settings: &Settings,
) -> Result<Option<Arc<Transactions>>> {
    let sinks = description
        .ports
        .iter()
        .filter(|port| port.kind == PortKind::Sink);
    let is_kafka = |port: &&Port| match settings.sinks.get(&port.name) {
        Some(Bound::Uri(uri)) => uri.starts_with("kafka:"),
        Some(Bound::To(_)) => false,
        None => settings.output_dir.is_none() && settings.bootstrap.is_some(),
    };
    let sinks: Vec<_> = sinks.filter(is_kafka).collect();
    let Some(first) = sinks.first() else {
        return Ok(None);
    };
    if !settings.exactly_once() {
        return Ok(None);
    }
    let Some(id) = &settings.job_id else {
        return Err(Error::usage(
            "exactly-once into Kafka needs --job-id ID: transactions, progress and group are of \
             this name",
        ));
    };
    check_sinks(&sinks, settings)?;
    let options = kafka_options(id, first, settings)?;
    let interval = settings.checkpoint_interval;
    let transactions = Transactions::new(options, id, interval)?;
    Ok(Some(Arc::new(transactions)))
}

/// Whether all of `sinks` have the same properties: they write by one producer.
///
/// # Errors
/// Names a property that is for some of them only.
#[cfg(feature = "kafka")]
fn check_sinks(sinks: &[&Port], settings: &Settings) -> Result {
    // The last one given wins.
    let value = |sink: &Port, name: &str| {
        let mut given = settings.properties.iter().rev();
        let found = given.find(|property| property.name == name && is_for(property, sink));
        found.map(|property| property.value.clone())
    };
    for property in &settings.properties {
        let Some(port) = property.port.as_deref() else {
            continue;
        };
        let name = &*property.name;
        let differs = |sink: &&Port| value(sink, name) != value(sinks[0], name);
        let other = sinks.iter().find(|sink| differs(sink));
        if let (true, Some(other)) = (sinks.iter().any(|sink| sink.name == port), other) {
            let (one, other) = (&sinks[0].name, &other.name);
            return Err(Error::usage(format!(
                "property `{port}:{name}`: exactly-once has one producer for all Kafka sinks, and \
                 `{one}` and `{other}` would differ: give it to each of them, or to all ports by \
                 `-X {name}=..`"
            )));
        }
    }
    Ok(())
}

#[cfg(feature = "kafka")]
fn is_for(property: &Property, port: &Port) -> bool {
    property.port.as_ref().is_none_or(|name| *name == port.name)
}

#[cfg(not(feature = "kafka"))]
#[expect(clippy::unnecessary_wraps, reason = "as with Kafka")]
pub(crate) fn transaction(_: &Description, _: &Settings) -> Result<Option<Arc<Transactions>>> {
    Ok(None)
}

#[cfg(feature = "kafka")]
fn kafka_options(job: &str, port: &Port, settings: &Settings) -> Result<KafkaOptions> {
    let Some(servers) = &settings.bootstrap else {
        let why = format!("port `{}`: kafka: needs --bootstrap HOST:PORT", port.name);
        return Err(Error::usage(why));
    };
    let mut options = KafkaOptions::new(servers, job);
    let all = settings.properties.iter();
    for property in all.filter(|property| is_for(property, port)) {
        let (name, value) = (property.name.clone(), property.value.clone());
        if property.secret {
            options.secrets.push(name.clone());
        }
        options.properties.push((name, value));
    }
    options.bounded = settings.bounded;
    options.start = settings.start;
    options.max_ahead = settings.max_ahead;
    options.broker_timeout = settings.broker_timeout;
    Ok(options)
}
