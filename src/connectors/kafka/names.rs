//! Names of properties: which are the engine's, which are the Java client's, which there are.

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;

use crate::error::{Error, Result, nearest};

/// Properties that decide correctness: the engine sets them, whatever a user would like.
const OWNED: &[&str] = &[
    "acks",
    "allow.auto.create.topics",
    "auto.commit.enable",
    "auto.commit.interval.ms",
    "auto.offset.reset",
    "bootstrap.servers",
    "delivery.report.only.error",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "group.protocol.type",
    "group.remote.assignor",
    "isolation.level",
    "log.queue",
    "metadata.broker.list",
    "offset.store.method",
    "partition.assignment.strategy",
    "partitioner",
    "request.required.acks",
    "transactional.id",
];

/// What the Java client knows and librdkafka does not, and what librdkafka has instead.
const JAVA: &[(&str, &str)] = &[
    ("auto.include.jmx.reporter", "nothing: take it out"),
    ("buffer.memory", "`queue.buffering.max.kbytes`"),
    (
        "config.providers",
        "`${env:NAME}` and `${file:PATH}` in a value",
    ),
    ("default.api.timeout.ms", "`socket.timeout.ms`"),
    ("exclude.internal.topics", "nothing: take it out"),
    ("fetch.max.wait.ms", "`fetch.wait.max.ms`"),
    ("interceptor.classes", "nothing: take it out"),
    ("key.deserializer", "nothing: take it out, the job decodes"),
    ("key.serializer", "nothing: take it out, the job encodes"),
    (
        "max.block.ms",
        "nothing: take it out, a full queue is waited for",
    ),
    (
        "max.poll.records",
        "nothing: take it out, batches are the engine's",
    ),
    ("max.request.size", "`message.max.bytes`"),
    ("metric.reporters", "nothing: take it out"),
    ("metrics.num.samples", "nothing: take it out"),
    ("metrics.recording.level", "nothing: take it out"),
    ("metrics.sample.window.ms", "nothing: take it out"),
    (
        "partitioner.class",
        "nothing: take it out, the engine partitions as the Java client does",
    ),
    ("receive.buffer.bytes", "`socket.receive.buffer.bytes`"),
    (
        "sasl.client.callback.handler.class",
        "`sasl.oauthbearer.method=oidc`",
    ),
    ("sasl.jaas.config", "`sasl.username` and `sasl.password`"),
    (
        "sasl.login.callback.handler.class",
        "`sasl.oauthbearer.method=oidc`",
    ),
    ("sasl.login.class", "nothing: take it out"),
    ("security.providers", "nothing: take it out"),
    ("send.buffer.bytes", "`socket.send.buffer.bytes`"),
    (
        "ssl.enabled.protocols",
        "nothing: take it out, OpenSSL decides",
    ),
    ("ssl.engine.factory.class", "nothing: take it out"),
    ("ssl.keymanager.algorithm", "nothing: take it out"),
    ("ssl.keystore.certificate.chain", "`ssl.certificate.pem`"),
    ("ssl.keystore.key", "`ssl.key.pem`"),
    (
        "ssl.keystore.type",
        "nothing: take it out, `ssl.keystore.location` is PKCS#12",
    ),
    ("ssl.protocol", "nothing: take it out, OpenSSL decides"),
    ("ssl.provider", "nothing: take it out"),
    ("ssl.secure.random.implementation", "nothing: take it out"),
    ("ssl.trustmanager.algorithm", "nothing: take it out"),
    ("ssl.truststore.certificates", "`ssl.ca.pem`"),
    (
        "ssl.truststore.location",
        "`ssl.ca.location`, a file of certificates in PEM's form",
    ),
    (
        "ssl.truststore.password",
        "nothing: take it out, `ssl.ca.location` needs none",
    ),
    (
        "ssl.truststore.type",
        "nothing: take it out, `ssl.ca.location` is in PEM's form",
    ),
    (
        "value.deserializer",
        "nothing: take it out, the job decodes",
    ),
    ("value.serializer", "nothing: take it out, the job encodes"),
];

/// What users set, for hints only: what there is, librdkafka decides.
const OFTEN: &str = "\
    acks allow.auto.create.topics batch.num.messages batch.size broker.address.family \
    broker.address.ttl check.crcs client.dns.lookup client.id client.rack compression.codec \
    compression.level compression.type connections.max.idle.ms debug delivery.timeout.ms \
    enable.metrics.push enable.ssl.certificate.verification fetch.error.backoff.ms \
    fetch.max.bytes fetch.message.max.bytes fetch.min.bytes fetch.queue.backoff.ms \
    fetch.wait.max.ms heartbeat.interval.ms https.ca.location https.ca.pem linger.ms \
    log.connection.close max.in.flight max.in.flight.requests.per.connection \
    max.partition.fetch.bytes message.max.bytes message.timeout.ms metadata.max.age.ms \
    queue.buffering.max.kbytes queue.buffering.max.messages queue.buffering.max.ms \
    queued.max.messages.kbytes queued.min.messages receive.message.max.bytes \
    reconnect.backoff.max.ms reconnect.backoff.ms request.timeout.ms retries \
    retry.backoff.max.ms retry.backoff.ms sasl.kerberos.keytab sasl.kerberos.kinit.cmd \
    sasl.kerberos.principal sasl.kerberos.service.name sasl.mechanism sasl.mechanisms \
    sasl.oauthbearer.client.id sasl.oauthbearer.client.secret sasl.oauthbearer.config \
    sasl.oauthbearer.method sasl.oauthbearer.scope sasl.oauthbearer.token.endpoint.url \
    sasl.password sasl.username security.protocol session.timeout.ms \
    socket.connection.setup.timeout.ms socket.keepalive.enable socket.nagle.disable \
    socket.receive.buffer.bytes socket.send.buffer.bytes socket.timeout.ms \
    ssl.ca.certificate.stores ssl.ca.location ssl.ca.pem ssl.certificate.location \
    ssl.certificate.pem ssl.cipher.suites ssl.crl.location ssl.curves.list \
    ssl.endpoint.identification.algorithm ssl.key.location ssl.key.password ssl.key.pem \
    ssl.keystore.location ssl.keystore.password ssl.sigalgs.list statistics.interval.ms \
    sticky.partitioning.linger.ms topic.metadata.refresh.interval.ms transaction.timeout.ms";

/// Refuses what the engine owns and what librdkafka does not know.
///
/// # Errors
/// Usage errors that name the property and, where there is one, what to write instead.
pub(crate) fn check_property(name: &str) -> Result {
    let refused = |why: String| Err(Error::usage(why));
    if name == "bootstrap.servers" || name == "metadata.broker.list" {
        return refused(format!(
            "property `{name}` is not settable: brokers are given by --bootstrap"
        ));
    }
    if OWNED.contains(&name) {
        return refused(format!(
            "property `{name}` is not settable: the engine owns it"
        ));
    }
    if let Some((_, instead)) = JAVA.iter().find(|(java, _)| *java == name) {
        return refused(format!(
            "property `{name}` is the Java client's; librdkafka has {instead}"
        ));
    }
    if is_known(name) {
        return Ok(());
    }
    let hint = nearest(name, OFTEN.split_whitespace());
    refused(format!("no Kafka property `{name}`{hint}"))
}

fn is_known(name: &str) -> bool {
    let tried = ClientConfig::new().set(name, "").create_native_config();
    !matches!(
        tried,
        Err(KafkaError::ClientConfig(
            RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN,
            ..
        ))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::KafkaOptions;

    #[test]
    fn what_is_offered_and_what_is_owned_is_known_to_librdkafka() {
        for name in OFTEN.split_whitespace().chain(OWNED.iter().copied()) {
            assert!(is_known(name), "{name}");
        }
        for (name, _) in JAVA {
            let tried = ClientConfig::new().set(*name, "x").create_native_config();
            assert!(tried.is_err(), "{name} is librdkafka's too");
        }
    }

    #[test]
    fn what_the_engine_sets_is_owned_or_left_as_the_user_wants_it() {
        let mut options = KafkaOptions::new("127.0.0.1:1", "job");
        let engine = |options: &KafkaOptions| {
            let of = |config: ClientConfig| -> Vec<(String, String)> {
                let all = config.config_map().into_iter();
                all.map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect()
            };
            [of(options.consumer(1 << 20, 1)), of(options.producer())].concat()
        };
        for (name, _) in engine(&options) {
            if check_property(&name).is_err() {
                continue;
            }
            options.properties = vec![(name.clone(), "the user's".to_owned())];
            for (other, value) in engine(&options) {
                assert!(other != name || value == "the user's", "{name} is neither");
            }
        }
    }

    #[test]
    fn a_wrong_name_is_answered_with_the_right_one() {
        for (name, says) in [
            ("sasl.jaas.config", "`sasl.username` and `sasl.password`"),
            ("key.deserializer", "the Java client's"),
            ("ssl.truststore.location", "`ssl.ca.location`"),
            ("sasl.pasword", "did you mean `sasl.password`?"),
            ("enable.auto.commit", "the engine owns it"),
            ("bootstrap.servers", "--bootstrap"),
        ] {
            let error = check_property(name).unwrap_err().to_string();
            assert!(
                error.contains(&format!("`{name}`")) && error.contains(says),
                "{error}"
            );
        }
        assert!(check_property("linger.ms").is_ok() && check_property("ssl.ca.pem").is_ok());
    }
}
