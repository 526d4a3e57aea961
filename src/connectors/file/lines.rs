//! Lines out of a stream of bytes: found in one reused buffer, lent as records, never copied.
//!
//! The buffer holds `from..to` of what was read. [`Lines::fill`] reads until a whole line lies at
//! `from`; [`Lines::take`] lends what lines there are and moves `from` behind them; the rest of a
//! line moves to the front at the next `fill`.
//!
//! The buffer has its ordinary size unless one line needs more, and goes back to it behind that
//! line. It never holds more of a line than a record may have: of a longer one it keeps the
//! beginning, and the rest is counted and thrown away as it comes, so that a line of gigabytes
//! costs time but no memory.

use std::fmt;
use std::io::{self, ErrorKind, Read};

use memchr::memchr;

use crate::event::Record;

/// Stands at the start of a file that some editors write; no part of its first line.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What [`Lines::fill`] has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// At least one whole line can be taken.
    Lines,
    /// The input says [`ErrorKind::WouldBlock`]; what is there of a line is kept.
    Wait,
    /// The input has ended, and every line was taken.
    End,
}

/// A line longer than a record may be; its beginning lies at `from` in the buffer.
#[derive(Clone, Copy, Debug)]
struct Cut {
    /// Bytes of the line so far; without its end when that was found.
    length: u64,
    /// Whether it is whitespace so far.
    blank: bool,
    /// The last byte so far.
    last: u8,
    /// Where the next line begins in the buffer; 0 while the end was not found.
    next: usize,
}

/// The lines of `input`, numbered from 0.
///
/// A line ends with `\n` or `\r\n`, the last one also with the input; a `\r` anywhere else is data.
/// A byte order mark at the start of the input is skipped. Lines of spaces, tabs and `\r` only have
/// a number but are not given. A line of more than `longest` bytes is given as its first
/// `longest + 1` bytes; [`Record::full_len`] holds its true length where that is a cut.
pub(crate) struct Lines<R> {
    input: R,
    buffer: Vec<u8>,
    from: usize,
    to: usize,
    /// Bytes from `from` on that are known to hold no newline.
    seen: usize,
    /// Lines that lie before `from`.
    line: u64,
    cut: Option<Cut>,
    begun: bool,
    ended: bool,
    chunk: usize,
    longest: usize,
}

impl<R: Read> Lines<R> {
    /// Reads `input` through a buffer of `chunk` bytes, which must not be 0.
    pub(crate) fn new(input: R, chunk: usize, longest: usize) -> Self {
        Self {
            input,
            buffer: Vec::new(),
            from: 0,
            to: 0,
            seen: 0,
            line: 0,
            cut: None,
            begun: false,
            ended: false,
            chunk,
            longest,
        }
    }

    /// The number of the line that comes next, from 1, as people count.
    pub(crate) fn number(&self) -> u64 {
        self.line + 1
    }

    /// Reads until there is a line to take, the input ends or has nothing for now.
    ///
    /// # Errors
    /// What the input says. The lines before that place were all given.
    pub(crate) fn fill(&mut self) -> io::Result<Filled> {
        loop {
            if self.begun {
                if self.line_is_whole() {
                    return Ok(Filled::Lines);
                }
                if self.ended {
                    return Ok(Filled::End);
                }
            }
            match self.read() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Filled::Wait),
                Err(error) => return Err(error),
                Ok(()) => {}
            }
            if !self.begun {
                self.begin();
            }
        }
    }

    /// Lends up to `max` of the lines that the buffer holds.
    pub(crate) fn take<'a>(&'a mut self, max: usize, records: &mut Vec<Record<'a>>) {
        self.seen = 0;
        let cut = if max == 0 { None } else { self.cut.take() };
        let Self {
            buffer,
            from,
            to,
            line,
            ended,
            longest,
            ..
        } = self;
        let buffer: &'a [u8] = buffer;
        let enough = records.len().saturating_add(max);
        if let Some(cut) = cut {
            if !cut.blank {
                let value = &buffer[*from..=*from + *longest];
                let full_len = Some(cut.length);
                records.push(Record {
                    full_len,
                    ..Record::line(*line, value)
                });
            }
            *from = cut.next;
            *line += 1;
        }
        while records.len() < enough {
            let rest = &buffer[*from..*to];
            let (text, passed) = match memchr(b'\n', rest) {
                Some(end) => (
                    rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]),
                    end + 1,
                ),
                None if *ended && !rest.is_empty() => (rest, rest.len()),
                None => break,
            };
            if !is_blank(text) {
                records.push(record(*line, text, *longest));
            }
            *from += passed;
            *line += 1;
        }
    }

    /// Skips a byte order mark, as soon as enough is there to know one.
    fn begin(&mut self) {
        let held = &self.buffer[self.from..self.to];
        if held.starts_with(BYTE_ORDER_MARK) {
            self.from += BYTE_ORDER_MARK.len();
            self.begun = true;
        } else {
            self.begun = self.ended || !BYTE_ORDER_MARK.starts_with(held);
        }
    }

    /// Whether a line can be taken; looks only at what came since it was last asked.
    fn line_is_whole(&mut self) -> bool {
        if self.cut.is_none() {
            if memchr(b'\n', &self.buffer[self.from + self.seen..self.to]).is_some() {
                return true;
            }
            self.seen = self.to - self.from;
            if self.ended {
                return self.seen > 0;
            }
            // With `\r\n` behind it, a line may be this long and yet whole in `longest + 1`.
            if self.seen <= self.longest + 2 {
                return false;
            }
            let start = &self.buffer[self.from..=self.from + self.longest];
            let (length, blank) = (start.len() as u64, is_blank(start));
            self.cut = Some(Cut {
                length,
                blank,
                last: b'\n',
                next: 0,
            });
        }
        self.cut_is_whole()
    }

    /// Whether the end of the line that is cut was found; throws away what is not.
    fn cut_is_whole(&mut self) -> bool {
        let kept = self.from + self.longest + 1;
        let Some(cut) = self.cut.as_mut().filter(|cut| cut.next == 0) else {
            return true;
        };
        let rest = &self.buffer[kept..self.to];
        let end = memchr(b'\n', rest);
        let rest = &rest[..end.unwrap_or(rest.len())];
        cut.length += rest.len() as u64;
        cut.blank &= is_blank(rest);
        cut.last = rest.last().copied().unwrap_or(cut.last);
        if end.is_some() {
            cut.length -= u64::from(cut.last == b'\r');
            cut.next = kept + rest.len() + 1;
        } else {
            self.to = kept;
            cut.next = if self.ended { kept } else { 0 };
        }
        cut.next != 0
    }

    /// Reads once, behind what is held.
    fn read(&mut self) -> io::Result<()> {
        self.make_room();
        let room = self.buffer.len().min(self.to + self.chunk);
        loop {
            match self.input.read(&mut self.buffer[self.to..room]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(read) => {
                    self.to += read;
                    self.ended = read == 0;
                    return Ok(());
                }
            }
        }
    }

    /// Moves what is held to the front of the buffer, and gives the buffer the size it needs.
    fn make_room(&mut self) {
        if self.from > 0 {
            self.buffer.copy_within(self.from..self.to, 0);
            self.to -= self.from;
            self.from = 0;
        }
        let size = self.buffer.len();
        let most = self.longest + 2 + self.chunk;
        if self.cut.is_some() {
            self.resize(most);
        } else if self.to == size {
            self.resize((2 * size).clamp(self.chunk, most));
        } else if self.to < self.chunk && size > self.chunk {
            self.resize(self.chunk);
        }
    }

    fn resize(&mut self, size: usize) {
        self.buffer
            .reserve_exact(size.saturating_sub(self.buffer.len()));
        self.buffer.resize(size, 0);
        self.buffer.shrink_to_fit();
    }
}

impl<R> fmt::Debug for Lines<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines")
            .field("line", &self.line)
            .finish_non_exhaustive()
    }
}

/// The record of line `line`; of a text that is too long, its beginning.
fn record(line: u64, text: &[u8], longest: usize) -> Record<'_> {
    if text.len() <= longest + 1 {
        return Record::line(line, text);
    }
    Record {
        full_len: Some(text.len() as u64),
        ..Record::line(line, &text[..=longest])
    }
}

fn is_blank(text: &[u8]) -> bool {
    text.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Line = (u64, Vec<u8>, Option<u64>);

    /// Gives `step` bytes at a time, and now and then nothing.
    struct Drops<'a>(&'a [u8], usize, bool);

    impl Read for Drops<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.2 = !self.2;
            if self.2 && self.1.is_multiple_of(2) {
                return Err(ErrorKind::WouldBlock.into());
            }
            if self.2 && self.1.is_multiple_of(3) {
                return Err(ErrorKind::Interrupted.into());
            }
            let count = self.1.min(buffer.len()).min(self.0.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn read(text: &[u8], step: usize, chunk: usize, longest: usize, max: usize) -> Vec<Line> {
        let mut lines = Lines::new(Drops(text, step, false), chunk, longest);
        let mut all = Vec::new();
        loop {
            match lines.fill().unwrap() {
                Filled::End => return all,
                Filled::Wait => {}
                Filled::Lines => {
                    let mut records = Vec::new();
                    lines.take(max, &mut records);
                    assert!(records.len() <= max);
                    let value = |record: &Record<'_>| record.value.unwrap().to_vec();
                    all.extend(records.iter().map(|it| (it.offset, value(it), it.full_len)));
                    assert!(lines.buffer.capacity() <= longest + 2 + chunk);
                }
            }
        }
    }

    /// The same from the whole text, as a sentence of the contract each.
    fn naive(text: &[u8], longest: usize) -> Vec<Line> {
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        let mut texts: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
        let last = texts.pop().unwrap();
        let mut texts: Vec<_> = texts
            .iter()
            .map(|text| text.strip_suffix(b"\r").unwrap_or(text))
            .collect();
        texts.push(last);
        let numbered = (0..).zip(texts);
        let full = numbered.filter(|(_, text)| text.iter().any(|byte| !b" \t\r".contains(byte)));
        full.map(|(line, text)| {
            let full_len = (text.len() > longest + 1).then_some(text.len() as u64);
            (line, text[..text.len().min(longest + 1)].to_vec(), full_len)
        })
        .collect()
    }

    const TEXTS: [&[u8]; 14] = [
        b"",
        b"\n",
        b"{}",
        b"1\n",
        b"a\nbb\r\nccc",
        b"\xef\xbb\xbf{\"a\":1}\n\xef\xbb\xbf2\n",
        b"\xef\xbb",
        b"\xef\xbb\xbf",
        b"\n\n \t\r\n\r\n \na\rb\r\r\n\r\n c \n\r",
        b"x\r",
        b"1234567890\n12345678901\n123456789012\n1234567890123\n12345678901234\n",
        b"1234567890\r\n12345678901\r\n123456789012\r\n1234567890123\r\n12345678901234\r\n",
        b"                                                  \n                     x    \r\nx",
        b"a long line is cut, and what follows it is not\r\r\nb\na long line without an end\r",
    ];

    #[test]
    fn cuts_lines_as_a_naive_splitter_does_wherever_the_buffer_ends() {
        for (text, longest) in TEXTS
            .iter()
            .flat_map(|text| [4, 10, 20, 99].map(|most| (text, most)))
        {
            let expected = naive(text, longest);
            for (chunk, step) in (1..=64).flat_map(|chunk| [1, 2, 3, 5, 64].map(|it| (chunk, it))) {
                for max in [1, 3, usize::MAX] {
                    let got = read(text, step, chunk, longest, max);
                    let text = text.escape_ascii();
                    assert_eq!(got, expected, "{text}: {longest} {chunk} {step} {max}");
                }
            }
        }
    }

    #[test]
    fn random_bytes_are_cut_as_the_naive_splitter_cuts_them() {
        let alphabet = b"ab \t\r\n\r\n\xef\xbb\xbf";
        let mut seed = 1_u64;
        for _ in 0..4_000 {
            let mut next = |below: usize| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                usize::try_from(seed >> 33).unwrap() % below
            };
            let text: Vec<u8> = (0..next(200))
                .map(|_| alphabet[next(alphabet.len())])
                .collect();
            let (step, chunk, longest, max) =
                (1 + next(40), 1 + next(64), 1 + next(30), 1 + next(9));
            let got = read(&text, step, chunk, longest, max);
            assert_eq!(got, naive(&text, longest), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn a_line_of_gigabytes_is_passed_in_bounded_memory() {
        let endless = io::repeat(b'x').take(3 << 30).chain(&b"\r\nnext"[..]);
        let mut lines = Lines::new(endless, 1 << 18, 900_000);
        let mut got = Vec::new();
        while lines.fill().unwrap() == Filled::Lines {
            assert!(lines.buffer.capacity() < 1_200_000);
            let mut records = Vec::new();
            lines.take(9, &mut records);
            got.extend(records.iter().map(|it| (it.offset, it.len(), it.full_len)));
        }
        assert_eq!(got, [(0, 900_001, Some(3 << 30)), (1, 4, None)]);
    }

    #[test]
    fn a_buffer_that_grew_for_one_line_goes_back() {
        let text = [&[b'x'; 5_000][..], b"\n", &b"short\n".repeat(1_000)].concat();
        let mut lines = Lines::new(&text[..], 64, 10_000);
        let mut sizes = Vec::new();
        while lines.fill().unwrap() != Filled::End {
            lines.take(1, &mut Vec::new());
            sizes.push(lines.buffer.capacity());
        }
        assert!(sizes[0] >= 5_000);
        assert_eq!(sizes.last(), Some(&64));
    }

    #[test]
    fn an_error_comes_after_the_lines_before_it() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let mut lines = Lines::new(b"a\nb\nhalf".chain(Broken), 4, 10);
        let mut count = 0;
        while lines.fill().is_ok() {
            let mut records = Vec::new();
            lines.take(1, &mut records);
            count += records.len();
        }
        assert_eq!((count, lines.number()), (2, 3));
    }
}
