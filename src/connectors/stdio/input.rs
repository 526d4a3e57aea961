//! Standard input as a source.

use std::io::{self, ErrorKind, Read};
use std::mem;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::thread;

use crate::connectors::file::{Filled, Lines};
use crate::connectors::{Fetched, Found, Reader, Share, Source, Waker};
use crate::error::{Error, Result};
use crate::event::{Origin, RECORD_BYTES_MAX, Record};

/// What is read at once: enough to hide the system call.
const PIECE: usize = 256 << 10;
/// The same where memory is scarce.
const PIECE_MIN: usize = 4 << 10;

/// Lines of standard input: partition 0, named `-`.
///
/// Lines are cut as those of files are, including those that are too long. The source counts as
/// live, since nobody knows when it ends; yet it ends when the input does. Its buffers, with those
/// of its thread, take [`Share::buffer_bytes`], but 16 KiB at least and 1 MiB at most, and more
/// only around a line that needs it.
///
/// # Errors
/// An operating error with the number of the line when the system cannot read.
#[derive(Clone, Copy, Debug, Default)]
pub struct StdinSource;

impl StdinSource {
    /// Standard input of this process. Only one source of a process gets its lines.
    pub fn new() -> Self {
        Self
    }
}

impl Source for StdinSource {
    fn place(&self) -> Option<String> {
        Some("standard input".to_owned())
    }

    fn describe(&self) -> String {
        "stdin".to_owned()
    }

    fn bounded(&self) -> bool {
        false
    }

    fn grows(&self) -> bool {
        false // but it ends
    }

    fn prepare(&self) -> Result {
        Ok(())
    }

    fn open(&self, share: Share) -> Result<Box<dyn Reader>> {
        if !share.owns(0) {
            return Ok(Box::new(StdinReader {
                lines: None,
                discovered: true,
            }));
        }
        Ok(Box::new(StdinReader::new(io::stdin(), &share)?))
    }
}

struct StdinReader {
    /// `None` on the workers that do not own the partition.
    lines: Option<Lines<Arrivals>>,
    discovered: bool,
}

impl StdinReader {
    fn new(input: impl Read + Send + 'static, share: &Share) -> Result<Self> {
        // One piece at each end of the channel, one in it, and the buffer of the lines.
        let piece = (share.buffer_bytes / 4).clamp(PIECE_MIN, PIECE);
        let (pieces, arriving) = sync_channel(1);
        let (emptied, empty) = channel();
        let waker = share.waker.clone();
        let pump = move || pump(input, piece, &empty, &pieces, &waker);
        let thread = thread::Builder::new().name("stdin".to_owned());
        thread
            .spawn(pump)
            .map_err(|cause| Error::operating("stdin").because(cause))?;
        let arrivals = Arrivals {
            arriving,
            emptied,
            piece: Piece::default(),
            at: 0,
        };
        let lines = Lines::new(arrivals, piece, RECORD_BYTES_MAX);
        Ok(Self {
            lines: Some(lines),
            discovered: false,
        })
    }
}

impl Reader for StdinReader {
    fn discover(&mut self) -> Result<Vec<Found>> {
        if mem::replace(&mut self.discovered, true) {
            return Ok(Vec::new());
        }
        Ok(vec![Found {
            partition: 0,
            origin: Origin::File("-".into()),
        }])
    }

    fn fetch<'a>(
        &'a mut self,
        _partition: u32,
        max: usize,
        records: &mut Vec<Record<'a>>,
    ) -> Result<Fetched> {
        let Some(lines) = &mut self.lines else {
            return Ok(Fetched::End);
        };
        let filled = lines.fill();
        let about =
            |cause| Error::operating(format!("stdin, line {}", lines.number())).because(cause);
        Ok(match filled.map_err(about)? {
            Filled::Wait => Fetched::Wait,
            Filled::End => Fetched::End,
            Filled::Lines => {
                lines.take(max, records);
                Fetched::Some
            }
        })
    }
}

/// Bytes that were read: the first `length` of `bytes`, none at the end of the input.
#[derive(Default)]
struct Piece {
    bytes: Vec<u8>,
    length: usize,
}

/// Reads pieces of `size` until the input ends or nobody wants them any more.
fn pump(
    mut input: impl Read,
    size: usize,
    empty: &Receiver<Vec<u8>>,
    pieces: &SyncSender<io::Result<Piece>>,
    waker: &Waker,
) {
    loop {
        let mut bytes = empty.try_recv().unwrap_or_default();
        bytes.resize(size, 0);
        let read = match input.read(&mut bytes) {
            Err(cause) if cause.kind() == ErrorKind::Interrupted => continue,
            read => read,
        };
        let goes_on = matches!(read, Ok(1..));
        if pieces
            .send(read.map(|length| Piece { bytes, length }))
            .is_err()
        {
            return;
        }
        waker.wake();
        if !goes_on {
            return;
        }
    }
}

/// The pieces as one input that never blocks.
struct Arrivals {
    arriving: Receiver<io::Result<Piece>>,
    emptied: Sender<Vec<u8>>,
    piece: Piece,
    /// Bytes of the piece that were taken.
    at: usize,
}

impl Read for Arrivals {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.length {
            let piece = match self.arriving.try_recv() {
                Ok(piece) => piece?,
                Err(TryRecvError::Empty) => return Err(ErrorKind::WouldBlock.into()),
                Err(TryRecvError::Disconnected) => {
                    return Err(io::Error::other("it could not be read before"));
                }
            };
            self.at = 0;
            let used = mem::replace(&mut self.piece, piece);
            // After the last piece nobody needs it.
            drop(self.emptied.send(used.bytes));
        }
        let count = buffer.len().min(self.piece.length - self.at);
        buffer[..count].copy_from_slice(&self.piece.bytes[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    fn share(buffer_bytes: usize) -> (Share, Arc<AtomicUsize>) {
        let woken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&woken);
        let waker = Waker::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
        });
        (
            Share {
                worker: 0,
                workers: 1,
                port: 0,
                buffer_bytes,
                waker,
            },
            woken,
        )
    }

    fn patiently(mut done: impl FnMut() -> bool) {
        for _ in 0..2_000 {
            if done() {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("it did not happen");
    }

    #[test]
    fn input_that_is_not_there_is_waited_for_and_its_end_is_the_end() {
        let (input, mut typist) = io::pipe().unwrap();
        let (share, woken) = share(1 << 20);
        let mut reader = StdinReader::new(input, &share).unwrap();
        let found = reader.discover().unwrap();
        assert_eq!(
            (found[0].partition, found[0].origin.to_string()),
            (0, "-".to_owned())
        );
        assert_eq!(reader.fetch(0, 9, &mut Vec::new()).unwrap(), Fetched::Wait);
        let mut numbers = Vec::new();
        for (text, expected) in [("1\n", 1), ("2", 1), ("2\r\n\n3\n4", 3)] {
            let before = woken.load(Ordering::SeqCst);
            typist.write_all(text.as_bytes()).unwrap();
            patiently(|| woken.load(Ordering::SeqCst) > before);
            loop {
                let mut records = Vec::new();
                let fetched = reader.fetch(0, 9, &mut records).unwrap();
                numbers.extend(
                    records
                        .iter()
                        .map(|it| (it.offset, it.value.unwrap().to_vec())),
                );
                if fetched == Fetched::Wait {
                    break;
                }
                assert_eq!(fetched, Fetched::Some);
            }
            assert_eq!(numbers.len(), expected);
        }
        drop(typist);
        patiently(|| {
            let mut records = Vec::new();
            let fetched = reader.fetch(0, 9, &mut records).unwrap();
            numbers.extend(
                records
                    .iter()
                    .map(|it| (it.offset, it.value.unwrap().to_vec())),
            );
            fetched == Fetched::End
        });
        let expected = [(0, &b"1"[..]), (1, b"22"), (3, b"3"), (4, b"4")];
        assert_eq!(numbers, expected.map(|(line, text)| (line, text.to_vec())));
    }

    #[test]
    fn input_pauses_while_nobody_takes_it_and_comes_whole() {
        struct Counted(Arc<AtomicUsize>);
        impl Read for Counted {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let read = self.0.load(Ordering::SeqCst);
                let count = buffer.len().min(4_000_000 - read);
                buffer[..count].fill(b'x');
                buffer[..count]
                    .iter_mut()
                    .step_by(10)
                    .for_each(|byte| *byte = b'\n');
                self.0.fetch_add(count, Ordering::SeqCst);
                Ok(count)
            }
        }
        let read = Arc::new(AtomicUsize::new(0));
        let (share, _) = share(1);
        let mut reader = StdinReader::new(Counted(Arc::clone(&read)), &share).unwrap();
        patiently(|| read.load(Ordering::SeqCst) >= PIECE_MIN);
        thread::sleep(Duration::from_millis(50));
        assert!(read.load(Ordering::SeqCst) <= 3 * PIECE_MIN);
        let mut bytes = 0;
        patiently(|| {
            loop {
                let mut records = Vec::new();
                match reader.fetch(0, 99, &mut records).unwrap() {
                    Fetched::Wait => return false,
                    Fetched::End => return true,
                    _ => bytes += records.iter().map(|it| it.len() + 1).sum::<usize>(),
                }
            }
        });
        assert_eq!(read.load(Ordering::SeqCst), 4_000_000);
        assert!((3_990_000..=4_000_001).contains(&bytes), "{bytes}");
    }

    #[test]
    fn an_input_error_names_the_line_and_stays() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let (share, _) = share(1);
        let mut reader = StdinReader::new(b"1\n2".chain(Broken), &share).unwrap();
        let mut errors = Vec::new();
        patiently(|| {
            errors.extend(reader.fetch(0, 9, &mut Vec::new()).err());
            errors.len() == 2
        });
        assert_eq!(errors[0].to_string(), "stdin, line 2: broken");
        assert_eq!(errors[1].exit_code(), 1);
    }

    #[test]
    fn only_one_worker_reads_standard_input_and_it_has_no_known_end() {
        let (share, _) = share(1);
        let source = StdinSource::new();
        assert!(!source.bounded());
        let mut other = source
            .open(Share {
                worker: 1,
                workers: 2,
                ..share
            })
            .unwrap();
        assert!(other.discover().unwrap().is_empty());
    }
}
