//! The listener, a thread for each connection, and one that looks after what is due.

use std::collections::HashMap;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::connection::{End, serve};
use super::state::Broker;
use super::sync::{Signal, lock, wait_until};
use crate::observe::{now, time_of_day};

/// Clients at a time.
const MAX_CONNECTIONS: usize = 1_000;
/// How often time-outs and compaction are looked at.
const TICK: Duration = Duration::from_millis(100);
/// How often retention by time is looked at, as Kafka's `log.retention.check.interval.ms`.
const RETENTION: Duration = Duration::from_mins(5);
/// How long the listener rests when the system has no more descriptors.
const REST: Duration = Duration::from_millis(50);

/// A connection that is open: the means to end it.
#[derive(Debug)]
struct Open {
    stream: TcpStream,
    signal: Arc<Signal>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Connections {
    open: Mutex<HashMap<u64, Open>>,
    next: AtomicU64,
}

/// A broker that listens.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) broker: Arc<Broker>,
    address: SocketAddr,
    connections: Arc<Connections>,
    /// Raised when the broker stops.
    stopped: Arc<(Mutex<bool>, Condvar)>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Listens, and serves from now on.
    pub(super) fn start(listener: TcpListener, broker: Broker) -> io::Result<Self> {
        let mut server = Self {
            broker: Arc::new(broker),
            address: listener.local_addr()?,
            connections: Arc::default(),
            stopped: Arc::default(),
            threads: Vec::new(),
        };
        let broker = Arc::clone(&server.broker);
        let connections = Arc::clone(&server.connections);
        server.spawn("broker-accept", move || {
            accept(&listener, &broker, &connections);
        })?;
        let broker = Arc::clone(&server.broker);
        let stopped = Arc::clone(&server.stopped);
        server.spawn("broker-due", move || look_after(&broker, &stopped))?;
        Ok(server)
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(work)?;
        self.threads.push(thread);
        Ok(())
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all connections and waits until their threads have ended.
    pub(super) fn stop(&mut self) {
        if self.broker.is_stopping() {
            return;
        }
        self.broker.stop();
        *lock(&self.stopped.0) = true;
        self.stopped.1.notify_all();
        // The listener waits for a client: it gets one.
        let knock = TcpStream::connect_timeout(&reachable(self.address), TICK);
        if let Err(error) = knock {
            tracing::debug!(%error, "the listener of the broker is left to itself");
            self.threads.remove(0);
        }
        for thread in self.threads.drain(..) {
            join(thread);
        }
        let open: Vec<_> = lock(&self.connections.open).drain().collect();
        for (_, connection) in &open {
            // It may have ended by itself.
            drop(connection.stream.shutdown(Shutdown::Both));
            connection.signal.raise();
        }
        self.broker.groups.notify_all();
        for thread in open
            .into_iter()
            .filter_map(|(_, connection)| connection.thread)
        {
            join(thread);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A thread of the broker that stops it does so only by mistake; it is not waited for.
fn join(thread: JoinHandle<()>) {
    if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
        tracing::error!("a thread of the broker panicked");
    }
}

/// Who listens on all addresses is reached on the loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

fn accept(listener: &TcpListener, broker: &Arc<Broker>, connections: &Arc<Connections>) {
    while !broker.is_stopping() {
        match listener.accept() {
            Ok(_) if broker.is_stopping() => return,
            Ok((stream, _)) => {
                if let Err(error) = open(stream, broker, connections) {
                    tracing::warn!(%error, "a client of the broker was turned away");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the broker cannot take a client");
                std::thread::sleep(REST);
            }
        }
    }
}

fn open(stream: TcpStream, broker: &Arc<Broker>, connections: &Arc<Connections>) -> io::Result<()> {
    let id = connections.next.fetch_add(1, Ordering::Relaxed);
    let signal = Arc::new(Signal::default());
    let handle = stream.try_clone()?;
    let mut all = lock(&connections.open);
    if all.len() >= MAX_CONNECTIONS {
        return Err(io::Error::other(format!("{MAX_CONNECTIONS} are connected")));
    }
    let work = {
        let (broker, connections) = (Arc::clone(broker), Arc::clone(connections));
        let signal = Arc::clone(&signal);
        move || {
            run(&broker, stream, &signal);
            lock(&connections.open).remove(&id);
        }
    };
    // The table is locked, so the thread cannot take itself out before it is in.
    let thread = std::thread::Builder::new()
        .name("broker-client".to_owned())
        .spawn(work)?;
    all.insert(
        id,
        Open {
            stream: handle,
            signal,
            thread: Some(thread),
        },
    );
    Ok(())
}

/// Serves a client; a mistake of the broker ends this connection and no other.
fn run(broker: &Broker, stream: TcpStream, signal: &Arc<Signal>) {
    let peer = stream.peer_addr();
    let served = catch_unwind(AssertUnwindSafe(|| serve(broker, stream, signal)));
    match served {
        Ok(End::Closed) => {}
        Ok(End::Garbage) => tracing::debug!(?peer, "a client sent what is no request"),
        Ok(End::Io(error)) => tracing::debug!(?peer, %error, "a client was lost"),
        Err(_) => tracing::error!(?peer, "a request made the broker panic"),
    }
}

/// Ends transactions, members and records whose time is over.
fn look_after(broker: &Broker, stopped: &(Mutex<bool>, Condvar)) {
    let mut retained = now();
    let mut is_stopped = lock(&stopped.0);
    while !*is_stopped {
        is_stopped = wait_until(&stopped.1, is_stopped, now() + TICK);
        if *is_stopped {
            return;
        }
        let time = now();
        broker.transactions.expire(broker, time);
        broker.groups.expire(time);
        broker.compact(time);
        if time.saturating_duration_since(retained) >= RETENTION {
            broker.retain(time, time_of_day().millis());
            retained = time;
        }
    }
}
