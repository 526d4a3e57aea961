//! Randomness from a seed, and the many ways to write one and the same string or time.

use std::fmt::Write;

use super::time::{self, Unit};

/// Splitmix64: small, seeded, the same everywhere.
#[derive(Clone, Debug)]
pub struct Rng(pub u64);

impl Rng {
    /// Sixty-four random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).expect("a size fits");
        usize::try_from(self.bits() % end).expect("below a size")
    }

    /// A number in `[from, to]`.
    pub fn between(&mut self, from: i64, to: i64) -> i64 {
        let span = usize::try_from(to - from + 1).expect("a range is not empty");
        from + i64::try_from(self.below(span)).expect("below a size")
    }

    /// True once in `n`.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of several.
    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }
}

/// A string in JSON, each character in one of the ways in which it may be written.
pub fn string(rng: &mut Rng, text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        let short = match c {
            '"' => Some("\\\""),
            '\\' => Some("\\\\"),
            '\n' => Some("\\n"),
            '\r' => Some("\\r"),
            '\t' => Some("\\t"),
            '\x08' => Some("\\b"),
            '\x0c' => Some("\\f"),
            '/' if rng.one_in(2) => Some("\\/"),
            _ => None,
        };
        match short {
            _ if c < ' ' && short.is_none() || rng.one_in(12) => unicode(rng, c, &mut out),
            Some(short) => out.push_str(short),
            None => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A character as `\u`, above U+FFFF as two halves.
fn unicode(rng: &mut Rng, c: char, out: &mut String) {
    for half in c.encode_utf16(&mut [0; 2]) {
        let written = if rng.one_in(2) {
            write!(out, "\\u{half:04x}")
        } else {
            write!(out, "\\u{half:04X}")
        };
        written.expect("a string takes all");
    }
}

/// A time as an integer in `unit`, as near as the unit and 64 bits allow.
pub fn integer(rng: &mut Rng, millis: i64, unit: Unit) -> i64 {
    let finer = |factor: i64, more: i64| millis.saturating_mul(factor).saturating_add(more);
    match unit {
        Unit::Seconds => millis.div_euclid(1_000),
        Unit::Microseconds => finer(1_000, rng.between(0, 999)),
        Unit::Nanoseconds => finer(1_000_000, rng.between(0, 999_999)),
        Unit::Auto if millis.unsigned_abs() < 100_000_000_000 => millis.div_euclid(1_000),
        Unit::Auto if millis % 1_000 == 0 && rng.one_in(2) => {
            let seconds = millis / 1_000;
            if seconds.unsigned_abs() < 100_000_000_000 {
                seconds
            } else {
                millis
            }
        }
        Unit::Milliseconds | Unit::Auto => millis,
    }
}

/// A time in JSON, as an integer where that is exact, or in any form of RFC 3339.
pub fn stamp(rng: &mut Rng, millis: i64, unit: Unit) -> String {
    let number = integer(rng, millis, unit);
    if unit.millis(number) == Some(millis) && rng.one_in(2) {
        number.to_string()
    } else {
        format!("\"{}\"", rfc3339(rng, millis))
    }
}

/// A time in RFC 3339, local to a random offset.
pub fn rfc3339(rng: &mut Rng, millis: i64) -> String {
    let offset = rng.pick(&[0, 0, 60, -60, 330, -570, 1_439, -1_439, 1]);
    let local = millis + offset * 60_000;
    // What is in range may be outside the four-digit years where it was written.
    let (local, offset) = if (time::FIRST..=time::LAST).contains(&local) {
        (local, offset)
    } else {
        (millis, 0)
    };
    let (year, month, day) = time::date(local.div_euclid(86_400_000));
    let of_day = local.rem_euclid(86_400_000);
    let (seconds, fraction) = (of_day / 1_000, of_day % 1_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let t = rng.pick(&['T', 't', ' ']);
    let mut out = format!("{year:04}-{month:02}-{day:02}{t}{hour:02}:{minute:02}:{second:02}");
    let mut add = |more: &str| out.push_str(more);
    match fraction {
        0 if rng.one_in(2) => {}
        _ if fraction % 100 == 0 && rng.one_in(2) => add(&format!(".{}", fraction / 100)),
        // The further digits are cut off, also before 1970.
        _ => {
            let more = rng.pick(&["", "0", "9", "999", "999999999999999999999"]);
            add(&format!(".{fraction:03}{more}"));
        }
    }
    let (hours, minutes) = (offset.abs() / 60, offset.abs() % 60);
    match offset {
        0 => add(rng.pick(&["Z", "z", "", "+00:00", "-00:00"])),
        _ if offset > 0 => add(&format!("+{hours:02}:{minutes:02}")),
        _ => add(&format!("-{hours:02}:{minutes:02}")),
    }
    out
}
