//! Clients that are broken or mean: the broker closes their connection, holds no memory for them,
//! and serves the others.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use anabranch::broker::DevBroker;

use super::client::{DEADLINE, Kafka, until, write};
use super::raw::{Batch, Raw, string};

/// Numbers without a pattern, the same in each run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

fn start() -> (DevBroker, Kafka) {
    let broker = DevBroker::builder().topic("t", 1).start().unwrap();
    let kafka = Kafka::at(broker.bootstrap());
    (broker, kafka)
}

/// Sends bytes and no more, and waits until the broker has closed the connection.
fn closed_after(kafka: &Kafka, bytes: &[u8]) {
    let mut stream = TcpStream::connect(&kafka.bootstrap).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    // It may be closed before all is sent.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut sink = Vec::new();
    match stream.read_to_end(&mut sink) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
    }
}

fn frame(key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend((body.len() as i32 + 13).to_be_bytes());
    out.extend(key.to_be_bytes());
    out.extend(version.to_be_bytes());
    out.extend(7_i32.to_be_bytes());
    string(&mut out, "raw");
    out.extend(body);
    out
}

fn still_serves(kafka: &Kafka) {
    let before = kafka.watermarks("t", 0).1;
    write(kafka, "t", &["x"]);
    assert_eq!(kafka.watermarks("t", 0).1, before + 1);
}

#[test]
fn garbage_ends_the_connection_and_nothing_else() {
    let (broker, kafka) = start();
    let mut noise = Noise(0x5eed);
    for round in 0..300 {
        let length = 1 + noise.next() as usize % 2_000;
        closed_after(&kafka, &noise.bytes(length));
        if round % 100 == 0 {
            still_serves(&kafka);
        }
    }
    still_serves(&kafka);
    broker.stop();
}

#[test]
fn requests_with_garbage_inside_are_refused() {
    let (broker, kafka) = start();
    let mut noise = Noise(0xbad);
    for key in 0..76_i16 {
        for version in 0..18 {
            let length = noise.next() as usize % 60;
            let mut body = noise.bytes(length);
            closed_after(&kafka, &frame(key, version, &body));
            // Mostly zeros is nearer to a request, and large counts are the mean ones.
            for byte in &mut body {
                if *byte < 200 {
                    *byte = 0;
                }
            }
            closed_after(&kafka, &frame(key, version, &body));
        }
    }
    still_serves(&kafka);
    broker.stop();
}

#[test]
fn counts_that_lie_cost_nothing() {
    let (broker, kafka) = start();
    // Metadata 1, DeleteTopics 1, Fetch 4, Produce 3: then an array of two thousand million.
    let lie = i32::MAX.to_be_bytes();
    let fetch = [&(-1_i32).to_be_bytes()[..], &[0; 12], &[0], &lie].concat();
    let produce = [
        &(-1_i16).to_be_bytes()[..],
        &(-1_i16).to_be_bytes(),
        &[0; 4],
        &lie,
    ]
    .concat();
    for (key, version, body) in [
        (3, 1, &lie[..]),
        (20, 1, &lie),
        (1, 4, &fetch),
        (0, 3, &produce),
    ] {
        closed_after(&kafka, &frame(key, version, body));
    }
    // Metadata 9 and Produce 9, where counts are varints.
    let tags = [0_u8];
    let lie = [0xff, 0xff, 0xff, 0xff, 0x0f];
    let metadata = [&tags[..], &lie].concat();
    let produce = [&tags[..], &[0, 0xff, 0xff, 0, 0, 0, 0], &lie].concat();
    // A number that does not end would be read in another way than it was checked.
    let endless = [
        &tags[..],
        &[0x80, 0x80, 0x80, 0x80, 0x80, 0xff, 0xff, 0xff, 0x7f],
    ]
    .concat();
    for (key, version, body) in [(3, 9, &metadata), (0, 9, &produce), (3, 9, &endless)] {
        closed_after(&kafka, &frame(key, version, body));
    }
    still_serves(&kafka);
    broker.stop();
}

#[test]
fn a_length_that_no_request_has_ends_the_connection_at_once() {
    let (broker, kafka) = start();
    for length in [-1, 0, 3, i32::MAX, i32::MIN, 200 << 20] {
        let mut raw = Raw::connect(&kafka.bootstrap);
        raw.stream.write_all(&i32::to_be_bytes(length)).unwrap();
        raw.stream.write_all(&[0, 3, 0, 1]).unwrap();
        // It does not wait for what was announced.
        let mut byte = [0];
        let read = raw.stream.read(&mut byte);
        assert!(matches!(read, Ok(0) | Err(_)), "{length}: {read:?}");
    }
    // Not everything may be as large as what produces.
    let mut raw = Raw::connect(&kafka.bootstrap);
    raw.stream.write_all(&i32::to_be_bytes(50 << 20)).unwrap();
    raw.stream.write_all(&[0, 3, 0, 1]).unwrap();
    assert!(matches!(raw.stream.read(&mut [0]), Ok(0) | Err(_)));
    still_serves(&kafka);
    broker.stop();
}

#[test]
fn half_open_connections_hold_nobody_up() {
    let (broker, kafka) = start();
    let silent: Vec<_> = (0..50)
        .map(|_| TcpStream::connect(&kafka.bootstrap).unwrap())
        .collect();
    let begun: Vec<_> = (0..50)
        .map(|_| {
            let mut stream = TcpStream::connect(&kafka.bootstrap).unwrap();
            stream.write_all(&i32::to_be_bytes(90 << 20)).unwrap();
            stream.write_all(&[0, 0, 0, 7]).unwrap();
            stream
        })
        .collect();
    still_serves(&kafka);
    let start = super::client::now();
    broker.stop();
    assert!(start.elapsed() < Duration::from_secs(5));
    drop((silent, begun));
}

#[test]
fn a_client_that_does_not_read_holds_nobody_up() {
    let broker = DevBroker::builder().topic_with("t", 1, [("max.message.bytes", "2000000")]);
    let broker = broker.start().unwrap();
    let kafka = Kafka::at(broker.bootstrap());
    let mut raw = Raw::connect(&kafka.bootstrap);
    let large = "x".repeat(50);
    let many: Vec<&str> = std::iter::repeat_n(large.as_str(), 60).collect();
    for _ in 0..2_000 {
        assert_eq!(raw.produce(None, "t", &Batch::new(&many).bytes()).0, 0);
    }
    // Fetch 4 of everything there is, again and again, and no byte of it is read.
    let mut body = Vec::new();
    for number in [-1_i32, 0, 0, i32::MAX] {
        body.extend(number.to_be_bytes());
    }
    body.push(0);
    body.extend(1_i32.to_be_bytes());
    string(&mut body, "t");
    for number in [1_i32, 0] {
        body.extend(number.to_be_bytes());
    }
    body.extend(0_i64.to_be_bytes());
    body.extend(i32::MAX.to_be_bytes());
    let greedy = TcpStream::connect(&kafka.bootstrap).unwrap();
    greedy.set_nonblocking(true).unwrap();
    let request = frame(1, 4, &body);
    let mut stuck = 0;
    until("the broker takes no more of its requests", || {
        match (&greedy).write(&request) {
            Ok(_) => stuck = 0,
            Err(_) => stuck += 1,
        }
        stuck > 1_000
    });
    still_serves(&kafka);
    let start = super::client::now();
    broker.stop();
    assert!(start.elapsed() < Duration::from_secs(5));
}
