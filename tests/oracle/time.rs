//! Times as producers write them: integers in a unit, or RFC 3339. The calendar is counted out, not
//! looked up.

/// 0000-01-01T00:00:00.000Z in milliseconds since 1970.
pub const FIRST: i64 = -62_167_219_200_000;
/// 9999-12-31T23:59:59.999Z.
pub const LAST: i64 = 253_402_300_799_999;

/// Days from 0000-01-01 to 1970-01-01.
const DAYS_TO_1970: i64 = 719_528;

/// The unit of an integer that is a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Seconds,
    Milliseconds,
    Microseconds,
    Nanoseconds,
    /// Seconds below 100,000,000,000 in size, milliseconds from there on.
    Auto,
}

impl Unit {
    /// As `timestamp-unit` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Seconds => "s",
            Unit::Milliseconds => "ms",
            Unit::Microseconds => "us",
            Unit::Nanoseconds => "ns",
            Unit::Auto => "auto",
        }
    }

    /// Milliseconds, what is finer cut off toward the past; none outside the years 0000 to 9999.
    pub fn millis(self, number: i64) -> Option<i64> {
        let millis = match self {
            Unit::Seconds => number.checked_mul(1_000)?,
            Unit::Microseconds => number.div_euclid(1_000),
            Unit::Nanoseconds => number.div_euclid(1_000_000),
            Unit::Auto if number.unsigned_abs() < 100_000_000_000 => number * 1_000,
            Unit::Milliseconds | Unit::Auto => number,
        };
        in_range(millis)
    }
}

fn in_range(millis: i64) -> Option<i64> {
    (FIRST..=LAST).contains(&millis).then_some(millis)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970 of a date in the years 0000 to 9999, Gregorian throughout.
pub fn days(year: i64, month: i64, day: i64) -> i64 {
    // Leap years before `year`; year 0 is one, and stands before the year 1.
    let leaps = match year - 1 {
        -1 => 0,
        past => 1 + past / 4 - past / 100 + past / 400,
    };
    let months: i64 = (1..month).map(|m| days_in_month(year, m)).sum();
    365 * year + leaps + months + (day - 1) - DAYS_TO_1970
}

/// Year, month and day of a day since 1970, in the years 0000 to 9999.
pub fn date(day: i64) -> (i64, i64, i64) {
    let mut year = ((day + DAYS_TO_1970) / 366).min(9_999);
    while year < 9_999 && days(year + 1, 1, 1) <= day {
        year += 1;
    }
    let mut month = 1;
    while month < 12 && days(year, month + 1, 1) <= day {
        month += 1;
    }
    (year, month, day - days(year, month, 1) + 1)
}

/// Takes digits and separators off the front of a text.
struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn take(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// A number of exactly so many digits that lies in the range.
    fn number(&mut self, digits: usize, from: i64, to: i64) -> Option<i64> {
        let mut value = 0;
        for _ in 0..digits {
            let digit = self.take().filter(u8::is_ascii_digit)?;
            value = value * 10 + i64::from(digit - b'0');
        }
        (from..=to).contains(&value).then_some(value)
    }

    fn one_of(&mut self, allowed: &[u8]) -> Option<u8> {
        self.take().filter(|byte| allowed.contains(byte))
    }

    /// The first three digits of a fraction that has at least one.
    fn fraction(&mut self) -> Option<i64> {
        let digits = self.rest.iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        let mut millis = 0;
        for i in 0..digits.max(3) {
            let digit = if i < digits {
                i64::from(self.take()? - b'0')
            } else {
                0
            };
            if i < 3 {
                millis = millis * 10 + digit;
            }
        }
        Some(millis)
    }
}

/// Milliseconds of an RFC 3339 time; no zone means UTC. None where it is written in any other way,
/// or falls outside the years 0000 to 9999 once its offset is taken off.
pub fn rfc3339(text: &str) -> Option<i64> {
    let mut reader = Reader {
        rest: text.as_bytes(),
    };
    let year = reader.number(4, 0, 9_999)?;
    reader.one_of(b"-")?;
    let month = reader.number(2, 1, 12)?;
    reader.one_of(b"-")?;
    let day = reader.number(2, 1, days_in_month(year, month))?;
    reader.one_of(b"Tt ")?;
    let hour = reader.number(2, 0, 23)?;
    reader.one_of(b":")?;
    let minute = reader.number(2, 0, 59)?;
    reader.one_of(b":")?;
    let second = reader.number(2, 0, 59)?;
    // Cutting digits off a fraction goes toward the past on both sides of 1970: it is always added.
    let millis = if reader.rest.first() == Some(&b'.') {
        reader.take();
        reader.fraction()?
    } else {
        0
    };
    let offset = match reader.take() {
        None | Some(b'Z' | b'z') => 0,
        Some(sign @ (b'+' | b'-')) => {
            let hours = reader.number(2, 0, 23)?;
            reader.one_of(b":")?;
            let minutes = reader.number(2, 0, 59)?;
            (hours * 60 + minutes) * if sign == b'+' { 1 } else { -1 }
        }
        Some(_) => return None,
    };
    if !reader.rest.is_empty() {
        return None;
    }
    let minutes = days(year, month, day) * 1_440 + hour * 60 + minute - offset;
    in_range((minutes * 60 + second) * 1_000 + millis)
}
