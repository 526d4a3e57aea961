//! One client: reads a request, has it answered, writes the answer, in order, until it goes.
//!
//! What a client can cost is bounded: a request by [`MAX_REQUEST`], and only a produce request may
//! be larger than [`MAX_SMALL`]; the memory for it grows as its bytes come. Who begins a request
//! and does not finish it, or does not read its answers, is cut off.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;

use super::api::{self, Caller};
use super::state::Broker;
use super::sync::Signal;
use super::wire::Broken;

/// As Kafka's `socket.request.max.bytes`.
const MAX_REQUEST: usize = 100 << 20;
/// No request but one that produces has a reason to be larger.
const MAX_SMALL: usize = 1 << 20;
/// Memory that a request gets before its bytes have come.
const FIRST: usize = 64 << 10;
/// How long a client may pause inside a request, or leave an answer unread.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often [`PATIENCE`] may pass between two requests: ten minutes, as in Kafka.
const IDLE: u32 = 20;
/// Buffers larger than this are not kept for the next answer.
const KEPT: usize = 1 << 20;

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// The client or the broker closed it.
    Closed,
    /// The client sent what is no request.
    Garbage,
    Io(io::Error),
}

impl From<Broken> for End {
    fn from(_: Broken) -> Self {
        Self::Garbage
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Serves a client until the connection ends.
pub(super) fn serve(broker: &Broker, mut stream: TcpStream, signal: &Arc<Signal>) -> End {
    let connect = || -> io::Result<Caller> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Caller {
            local: stream.local_addr()?,
            remote: stream.peer_addr()?,
            signal: Arc::clone(signal),
        })
    };
    let caller = match connect() {
        Ok(caller) => caller,
        Err(error) => return End::Io(error),
    };
    let mut out = BytesMut::new();
    loop {
        if let Err(end) = serve_one(broker, &mut stream, &caller, &mut out) {
            return end;
        }
        if out.capacity() > KEPT {
            out = BytesMut::new();
        }
    }
}

fn serve_one(
    broker: &Broker,
    stream: &mut TcpStream,
    caller: &Caller,
    out: &mut BytesMut,
) -> Result<(), End> {
    let frame = read_frame(broker, stream)?;
    out.clear();
    api::answer(broker, caller, frame, out)?;
    if out.is_empty() {
        return Ok(());
    }
    let length = i32::try_from(out.len() - 4).map_err(|_| End::Garbage)?;
    out[..4].copy_from_slice(&length.to_be_bytes());
    stream.write_all(out)?;
    Ok(())
}

fn read_frame(broker: &Broker, stream: &mut TcpStream) -> Result<Bytes, End> {
    // Length, key and version: enough to say whether so much may follow.
    let mut start = [0; 8];
    read_start(broker, stream, &mut start)?;
    let mut fields = &start[..];
    let length = usize::try_from(fields.get_i32()).map_err(|_| End::Garbage)?;
    let most = match fields.get_i16() {
        key if key == ApiKey::Produce as i16 => MAX_REQUEST,
        _ => MAX_SMALL,
    };
    if !(4..=most).contains(&length) {
        return Err(End::Garbage);
    }
    let mut frame = Vec::with_capacity(length.min(FIRST));
    frame.extend_from_slice(&start[4..]);
    let rest = length - 4;
    if rest > FIRST && rest <= MAX_SMALL * 2 {
        frame.reserve_exact(rest);
    }
    let read = stream.take(rest as u64).read_to_end(&mut frame)?;
    if read < rest {
        return Err(End::Closed);
    }
    Ok(frame.into())
}

/// Waits for the next request, and reads its first bytes.
fn read_start(broker: &Broker, stream: &mut TcpStream, start: &mut [u8; 8]) -> Result<(), End> {
    let (mut have, mut waited) = (0, 0);
    while have < start.len() {
        match stream.read(&mut start[have..]) {
            Ok(0) => return Err(End::Closed),
            Ok(bytes) => have += bytes,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if is_timeout(&error) && have == 0 && waited < IDLE => waited += 1,
            Err(error) => return Err(error.into()),
        }
        if broker.is_stopping() {
            return Err(End::Closed);
        }
    }
    Ok(())
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
