//! The broker as a value: configured, started, stopped.

use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

use super::config::TopicConfig;
use super::server::Server;
use super::state::Broker;
use crate::error::{Error, ErrorKind, Result};

const ANY_PORT: &str = "127.0.0.1:0";
const DEFAULT_MEMORY: usize = 512 << 20;
/// Less holds no batch of ordinary size in each of a few partitions.
const LEAST_MEMORY: usize = 1 << 20;

/// A Kafka broker inside this process, for development and tests.
///
/// It speaks Kafka's protocol on the loopback, to any client: producers (idempotent and
/// transactional ones too), consumers and groups, admin clients. It keeps **everything in memory**:
/// what was written is gone when the broker is. Dropping it stops it and waits for its threads.
///
/// # Memory
/// Record batches of all topics together stay within [`memory`](DevBrokerBuilder::memory). When it
/// is full, the oldest segments of topics with `cleanup.policy=delete` go first, whatever their
/// retention: the start of such a log moves, as it does under Kafka's retention. A compacted topic
/// is compacted and never shortened; when nothing else is left to drop, writes are refused with
/// `KAFKA_STORAGE_ERROR`. Beside that, each connection holds one request (up to 100 MiB while its
/// bytes come in) and one answer (up to 16 MiB).
///
/// # What differs from Apache Kafka 4.1
/// One node, no replication, no security; no fetch sessions, quotas, ACLs, share groups or the new
/// consumer protocol; topics are not created by asking for them, unless
/// [`auto_create`](DevBrokerBuilder::auto_create) is set; transactions time out within a tenth of a
/// second, not ten; batches are stored as they came (`compression.type` is always `producer`).
///
/// # Example
/// ```
/// use anabranch::broker::DevBroker;
///
/// let broker = DevBroker::builder().topic("orders", 3).start()?;
/// let bootstrap = broker.bootstrap(); // for any Kafka client: "127.0.0.1:…"
/// assert!(bootstrap.starts_with("127.0.0.1:"));
/// broker.stop();
/// # Ok::<(), anabranch::Error>(())
/// ```
#[derive(Debug)]
pub struct DevBroker {
    server: Server,
}

/// What a broker is started with.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing before `start`"]
pub struct DevBrokerBuilder {
    listen: String,
    remote: bool,
    memory: usize,
    auto_create: bool,
    topics: Vec<NewTopic>,
}

#[derive(Clone, Debug)]
struct NewTopic {
    name: String,
    partitions: usize,
    config: Vec<(String, String)>,
}

impl DevBroker {
    /// Starts a broker without topics on a free port of the loopback.
    ///
    /// # Errors
    /// [`ErrorKind::Operating`] if the system gives no port or no thread.
    pub fn start() -> Result<Self> {
        Self::builder().start()
    }

    /// What can be told to a broker before it starts.
    pub fn builder() -> DevBrokerBuilder {
        DevBrokerBuilder {
            listen: ANY_PORT.to_owned(),
            remote: false,
            memory: DEFAULT_MEMORY,
            auto_create: false,
            topics: Vec::new(),
        }
    }

    /// What a client is given as `bootstrap.servers`.
    pub fn bootstrap(&self) -> String {
        self.address().to_string()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Creates a topic with default configuration.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if there is one of that name, or the name or the number is not valid.
    pub fn create_topic(&self, name: &str, partitions: usize) -> Result {
        self.create_topic_with(name, partitions, [])
    }

    /// Creates a topic with Kafka's configurations of a topic, as `("cleanup.policy", "compact")`.
    ///
    /// # Errors
    /// As [`create_topic`](Self::create_topic); also for names that Kafka does not know, and values
    /// that it would refuse.
    pub fn create_topic_with<'a>(
        &self,
        name: &str,
        partitions: usize,
        config: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result {
        let refused = |why: String| Error::usage(format!("topic `{name}`: {why}"));
        if partitions == 0 {
            return Err(refused("it needs a partition".to_owned()));
        }
        let config = TopicConfig::new(config).map_err(|refusal| refused(refusal.to_string()))?;
        let topics = &self.server.broker.topics;
        let created = topics.create(name, partitions, config, false);
        created
            .map(|_| ())
            .map_err(|refusal| refused(refusal.to_string()))
    }

    /// Bytes that record batches hold now.
    pub fn memory_used(&self) -> usize {
        self.server.broker.topics.budget.used()
    }

    /// Closes all connections and waits until every thread has ended; as dropping does.
    pub fn stop(mut self) {
        self.server.stop();
    }
}

impl DevBrokerBuilder {
    /// Listens on this address; default: a free port of `127.0.0.1`.
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen = address.into();
        self
    }

    /// Lets it listen beyond the loopback. There is no security: whoever reaches it may do all.
    pub fn allow_remote(mut self, allow: bool) -> Self {
        self.remote = allow;
        self
    }

    /// Bytes that record batches of all topics may hold together; default 512 MiB, at least 1 MiB.
    pub fn memory(mut self, bytes: usize) -> Self {
        self.memory = bytes;
        self
    }

    /// Whether a topic that a client asks for is created, with one partition; default: it is not,
    /// for a mistyped name would hide.
    pub fn auto_create(mut self, create: bool) -> Self {
        self.auto_create = create;
        self
    }

    /// A topic that is there from the start, with default configuration.
    pub fn topic(self, name: impl Into<String>, partitions: usize) -> Self {
        self.topic_with(name, partitions, [])
    }

    /// A topic that is there from the start, with Kafka's configurations of a topic.
    pub fn topic_with<'a>(
        mut self,
        name: impl Into<String>,
        partitions: usize,
        config: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let config = config.into_iter();
        self.topics.push(NewTopic {
            name: name.into(),
            partitions,
            config: config
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        });
        self
    }

    /// Starts it: when this returns, clients can connect and the topics are there.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for an address that is none or lies beyond the loopback without
    /// [`allow_remote`](Self::allow_remote), too little memory, or a topic that cannot be;
    /// [`ErrorKind::Operating`] if the address is taken or the system gives no thread.
    pub fn start(self) -> Result<DevBroker> {
        let listener = bind(&self.listen, self.remote)?;
        if self.memory < LEAST_MEMORY {
            let why = format!(
                "a broker needs at least {LEAST_MEMORY} bytes, not {}",
                self.memory
            );
            return Err(Error::usage(why));
        }
        let broker = Broker::new(self.memory, self.auto_create);
        let started = Server::start(listener, broker);
        let server = started.map_err(|error| {
            Error::operating(format!("the broker on {} cannot start", self.listen)).because(error)
        })?;
        let broker = DevBroker { server };
        for topic in &self.topics {
            let config = topic.config.iter().map(|(name, value)| (&**name, &**value));
            broker.create_topic_with(&topic.name, topic.partitions, config)?;
        }
        Ok(broker)
    }
}

fn bind(listen: &str, remote: bool) -> Result<TcpListener> {
    let addresses = listen.to_socket_addrs().map_err(|error| {
        Error::usage(format!("`{listen}` is no address: expected HOST:PORT")).because(error)
    })?;
    let addresses: Vec<SocketAddr> = addresses.collect();
    if !remote && addresses.iter().any(|address| !address.ip().is_loopback()) {
        return Err(Error::new(
            ErrorKind::Usage,
            format!(
                "the broker has no security, and `{listen}` lies beyond the loopback: it listens \
                 there only when told to (--allow-remote)"
            ),
        ));
    }
    TcpListener::bind(&addresses[..])
        .map_err(|error| Error::operating(format!("cannot listen on {listen}")).because(error))
}
