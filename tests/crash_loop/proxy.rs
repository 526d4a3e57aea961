//! The network between the job and the broker, with all that may befall it.
//!
//! A client goes where the broker says that it is. So the proxy reads frames, and in the answers
//! that name an address (`Metadata`, `FindCoordinator`, `DescribeCluster`) it puts its own port in
//! place of the broker's: both are on 127.0.0.1, so no length changes. It knows `EndTxn` too, and
//! can hold back the request or the answer, which leaves the client in doubt about its commit.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::clock::now;

const HOST: &[u8] = b"127.0.0.1";
/// Requests by their number in Kafka's protocol.
const NAMES_BROKERS: [i16; 3] = [3, 10, 60];
const END_TRANSACTION: i16 = 26;

/// What befalls the next end of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Its answer comes so much later.
    Answer(Duration),
    /// Its answer never comes: after that time the connection is cut.
    AnswerLost(Duration),
    /// The connection is cut before the request has arrived, and it arrives so much later, when its
    /// sender has long sent another.
    Request(Duration),
}

#[derive(Debug, Default)]
struct Weather {
    /// Each frame comes so much later, until then.
    slow: Option<(Duration, Instant)>,
    /// Nothing passes until then, and no connection says so.
    dark: Option<Instant>,
    hold: Option<Hold>,
    /// Ends of transactions that were held.
    held: usize,
    /// Sockets of all connections.
    open: HashMap<u64, [TcpStream; 2]>,
    next: u64,
}

#[derive(Debug, Default)]
struct Shared {
    weather: Mutex<Weather>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Weather> {
        self.weather.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits as long as a frame has to.
    fn pass(&self) {
        let mut weather = self.lock();
        loop {
            let until = match (weather.dark, weather.slow) {
                (Some(until), _) if now() < until => until,
                (_, Some((delay, until))) if now() < until => {
                    drop(weather);
                    return thread::sleep(delay);
                }
                _ => return,
            };
            let left = until.saturating_duration_since(now());
            let waited = self.changed.wait_timeout(weather, left);
            weather = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Stands before a broker on this machine for as long as the process lives.
#[derive(Debug)]
pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Before the broker at `bootstrap`, which is `127.0.0.1:PORT`.
    pub(crate) fn start(bootstrap: &str) -> Result<Self, String> {
        let broker = bootstrap.strip_prefix("127.0.0.1:").map(str::parse::<u16>);
        let Some(Ok(broker)) = broker else {
            return Err(format!("no proxy can stand before {bootstrap}"));
        };
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
        let port = listener
            .local_addr()
            .map_err(|error| error.to_string())?
            .port();
        let shared = Arc::new(Shared::default());
        let of = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                connect(&of, client, broker, port);
            }
        });
        Ok(Self { port, shared })
    }

    /// Where it is reached.
    pub(crate) fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Cuts all connections.
    pub(crate) fn cut(&self) {
        let mut weather = self.shared.lock();
        for stream in weather.open.drain().flat_map(|(_, both)| both) {
            // It may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
        drop(weather);
        self.shared.changed.notify_all();
    }

    /// Each frame takes `delay` longer, for a while.
    pub(crate) fn slow(&self, delay: Duration, time: Duration) {
        self.shared.lock().slow = Some((delay, now() + time));
    }

    /// Connections stay open, and nothing passes any more; after `time` they are cut.
    pub(crate) fn darken(&self, time: Duration) {
        self.shared.lock().dark = Some(now() + time);
        thread::sleep(time);
        self.cut();
        self.shared.lock().dark = None;
    }

    /// Has the next end of a transaction held.
    pub(crate) fn hold(&self, hold: Hold) {
        self.shared.lock().hold = Some(hold);
    }

    /// How many were held so far.
    pub(crate) fn held(&self) -> usize {
        self.shared.lock().held
    }

    /// Lets all pass again.
    pub(crate) fn clear(&self) {
        let mut weather = self.shared.lock();
        (weather.hold, weather.slow, weather.dark) = (None, None, None);
        drop(weather);
        self.shared.changed.notify_all();
    }
}

/// One connection: two sockets and what was asked on them.
struct Connection {
    shared: Arc<Shared>,
    number: u64,
    ports: (u16, u16),
    /// What the answers to these requests have to be looked at for, by correlation id.
    asked: Mutex<HashMap<i32, i16>>,
    /// The client was cut off, and the broker was not.
    is_orphan: Mutex<bool>,
}

fn connect(shared: &Arc<Shared>, client: TcpStream, broker: u16, own: u16) {
    // Without a broker the client is turned away, as the broker's own port would do.
    let Ok(upstream) = TcpStream::connect(("127.0.0.1", broker)) else {
        return;
    };
    let handles = || -> io::Result<[TcpStream; 4]> {
        client.set_nodelay(true)?;
        upstream.set_nodelay(true)?;
        Ok([
            client.try_clone()?,
            upstream.try_clone()?,
            client.try_clone()?,
            upstream.try_clone()?,
        ])
    };
    let Ok([to_client, from_broker, a, b]) = handles() else {
        return;
    };
    let mut weather = shared.lock();
    let number = weather.next;
    weather.next += 1;
    weather.open.insert(number, [a, b]);
    drop(weather);
    let connection = Arc::new(Connection {
        shared: Arc::clone(shared),
        number,
        ports: (broker, own),
        asked: Mutex::default(),
        is_orphan: Mutex::default(),
    });
    let other = Arc::clone(&connection);
    thread::spawn(move || {
        // The connection ends; how does not matter.
        let _ = connection.requests(client, upstream);
        connection.close();
    });
    thread::spawn(move || {
        let _ = other.answers(from_broker, to_client);
        other.close();
    });
}

impl Connection {
    fn close(&self) {
        if *lock(&self.is_orphan) {
            return;
        }
        if let Some(both) = self.shared.lock().open.remove(&self.number) {
            for stream in both {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }

    fn requests(&self, mut client: TcpStream, mut broker: TcpStream) -> io::Result<()> {
        loop {
            let frame = read_frame(&mut client, 8)?;
            let (key, id) = (number_at(&frame, 4), correlation(&frame, 8));
            if NAMES_BROKERS.contains(&key) || key == END_TRANSACTION {
                lock(&self.asked).insert(id, key);
            }
            self.shared.pass();
            if key == END_TRANSACTION
                && let Some(time) = self.takes_request()
            {
                *lock(&self.is_orphan) = true;
                client.shutdown(Shutdown::Both)?;
                thread::sleep(time);
                broker.write_all(&frame)?;
                // The broker reads it before it sees the end.
                thread::sleep(Duration::from_millis(500));
                *lock(&self.is_orphan) = false;
                return Ok(());
            }
            broker.write_all(&frame)?;
        }
    }

    fn answers(&self, mut broker: TcpStream, mut client: TcpStream) -> io::Result<()> {
        loop {
            let mut frame = read_frame(&mut broker, 4)?;
            let key = lock(&self.asked).remove(&correlation(&frame, 4));
            if key.is_some_and(|key| NAMES_BROKERS.contains(&key)) {
                rename(&mut frame, self.ports);
            }
            self.shared.pass();
            if key == Some(END_TRANSACTION)
                && let Some(hold) = self.takes_answer()
            {
                match hold {
                    Hold::Answer(time) => thread::sleep(time),
                    Hold::AnswerLost(time) | Hold::Request(time) => {
                        thread::sleep(time);
                        return Ok(());
                    }
                }
            }
            if let Err(error) = client.write_all(&frame)
                && !*lock(&self.is_orphan)
            {
                return Err(error);
            }
        }
    }

    fn takes_request(&self) -> Option<Duration> {
        let mut weather = self.shared.lock();
        let Some(Hold::Request(time)) = weather.hold else {
            return None;
        };
        weather.hold = None;
        weather.held += 1;
        Some(time)
    }

    fn takes_answer(&self) -> Option<Hold> {
        let mut weather = self.shared.lock();
        let hold = weather
            .hold
            .filter(|hold| !matches!(hold, Hold::Request(_)))?;
        weather.hold = None;
        weather.held += 1;
        Some(hold)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A frame with its length before it, of at least so many bytes.
fn read_frame(from: &mut TcpStream, least: usize) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let bytes = usize::try_from(i32::from_be_bytes(length)).map_err(io::Error::other)?;
    let mut frame = length.to_vec();
    let read = from.take(bytes as u64).read_to_end(&mut frame)?;
    if read < bytes.max(least) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(frame)
}

fn number_at(frame: &[u8], at: usize) -> i16 {
    i16::from_be_bytes([frame[at], frame[at + 1]])
}

fn correlation(frame: &[u8], at: usize) -> i32 {
    i32::from_be_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]])
}

/// Puts the second port in place of the first wherever it follows the host.
fn rename(frame: &mut [u8], (broker, own): (u16, u16)) {
    let (from, to) = (
        u32::from(broker).to_be_bytes(),
        u32::from(own).to_be_bytes(),
    );
    let length = HOST.len() + from.len();
    for at in 0..frame.len().saturating_sub(length - 1) {
        let (host, port) = frame[at..at + length].split_at_mut(HOST.len());
        if host == HOST && port == from {
            port.copy_from_slice(&to);
        }
    }
}
