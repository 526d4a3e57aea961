//! Times as text: RFC 3339 in, RFC 3339 out.
//!
//! A time is an `i64` of milliseconds since 1970 UTC. Text is read in the forms that records may
//! hold and in no other: a wrong guess about a time goes unseen, a dead letter does not. A date
//! alone, a minute without seconds, a leap second, an offset without its colon are refused.
//!
//! Days are counted as Hinnant's `days_from_civil` does: years begin in March, so that the leap
//! day is the last of its year and a month's first day is a linear function of the month.
//!
//! # Source
//! RFC 3339, section 5.6; Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".

use std::fmt;

/// The first time there is: `0000-01-01T00:00:00.000Z`.
pub(crate) const MIN_MS: i64 = -62_167_219_200_000;

/// The last time there is: `9999-12-31T23:59:59.999Z`.
pub(crate) const MAX_MS: i64 = 253_402_300_799_999;

const MS_PER_DAY: i64 = 86_400_000;
const DAYS_PER_ERA: i64 = 146_097; // 400 years, after which the calendar repeats
const DAYS_BEFORE_1970: i64 = 719_468; // since 0000-03-01

/// Reads a time, or returns `None` if `text` is none.
///
/// A fraction is cut off at milliseconds, toward the past. A time without an offset is UTC. The
/// result lies between [`MIN_MS`] and [`MAX_MS`].
pub(crate) fn parse(text: &str) -> Option<i64> {
    let (head, rest) = text.as_bytes().split_first_chunk::<19>()?;
    let [
        ..,
        b'-',
        _,
        _,
        b'-',
        _,
        _,
        b'T' | b't' | b' ',
        _,
        _,
        b':',
        _,
        _,
        b':',
        _,
        _,
    ] = head
    else {
        return None;
    };
    let number = |at: usize| two_digits(head[at], head[at + 1]);
    let year = number(0)? * 100 + number(2)?;
    let (month, day) = (number(5)?, number(8)?);
    let (hour, minute, second) = (number(11)?, number(14)?, number(17)?);
    if day == 0 || day > days_in_month(year, month)? || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (fraction, rest) = parse_fraction(rest)?;
    let minutes = (days_from_civil(year, month, day) * 24 + hour) * 60 + minute;
    let ms = ((minutes - parse_offset(rest)?) * 60 + second) * 1000 + fraction;
    (MIN_MS..=MAX_MS).contains(&ms).then_some(ms)
}

/// Writes a time as `2026-01-02T03:04:05.678Z`.
///
/// Years beyond four digits, which only a defective program would show, have a sign.
pub(crate) fn format(ms: i64) -> impl fmt::Display {
    fmt::from_fn(move |f| {
        let (year, month, day) = civil_from_days(ms.div_euclid(MS_PER_DAY));
        match year {
            0..=9999 => write!(f, "{year:04}")?,
            _ => write!(f, "{year:+05}")?,
        }
        let fraction = ms.rem_euclid(1000);
        write!(f, "-{month:02}-{day:02}T{}.{fraction:03}Z", time_of_day(ms))
    })
}

/// Writes the time of day, UTC, as `03:04:05`.
pub(crate) fn time_of_day(ms: i64) -> impl fmt::Display {
    fmt::from_fn(move |f| {
        let seconds = ms.rem_euclid(MS_PER_DAY) / 1000;
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(f, "{hour:02}:{minute:02}:{second:02}")
    })
}

fn two_digits(tens: u8, ones: u8) -> Option<i64> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens <= 9 && ones <= 9).then(|| i64::from(tens * 10 + ones))
}

/// Takes `.` and its digits, if there, as milliseconds; returns what follows.
fn parse_fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let Some(text) = text.strip_prefix(b".") else {
        return Some((0, text));
    };
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (fraction, rest) = text.split_at(digits);
    let padded = fraction.iter().copied().chain([b'0', b'0']).take(3);
    let ms = padded.fold(0, |ms, digit| ms * 10 + i64::from(digit - b'0'));
    (digits > 0).then_some((ms, rest))
}

/// Reads an offset in minutes east of UTC.
fn parse_offset(text: &[u8]) -> Option<i64> {
    match *text {
        [] | [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (two_digits(h1, h2)?, two_digits(m1, m2)?);
            let offset = hours * 60 + minutes;
            let valid = hours <= 23 && minutes <= 59;
            valid.then_some(if sign == b'-' { -offset } else { offset })
        }
        _ => None,
    }
}

fn days_in_month(year: i64, month: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 => Some(if leap { 29 } else { 28 }),
        _ => None,
    }
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * DAYS_PER_ERA + day_of_era - DAYS_BEFORE_1970
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + DAYS_BEFORE_1970;
    let (era, day_of_era) = (days.div_euclid(DAYS_PER_ERA), days.rem_euclid(DAYS_PER_ERA));
    let leap_days = day_of_era / 1460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_every_form_that_a_record_may_hold() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T00:00:00", 0),
            ("1970-01-01t00:00:00z", 0),
            ("1970-01-01 00:00:00-00:00", 0),
            ("2026-01-02T03:04:05.678+01:00", 1_767_319_445_678),
            ("2024-04-26T13:20:00.123Z", 1_714_137_600_123),
            ("2024-04-26T13:20:00.1", 1_714_137_600_100),
            (
                "2024-04-26T13:20:00.1239999999999999999999Z",
                1_714_137_600_123,
            ),
            ("2024-02-29T00:00:00Z", 1_709_164_800_000),
            ("2000-02-29 23:59:59+23:59", 951_868_799_000 - 86_340_000),
            ("0000-01-01T00:00:00Z", MIN_MS),
            ("9999-12-31T23:59:59.9999Z", MAX_MS),
            ("0000-01-01T01:00:00+01:00", MIN_MS),
        ] {
            assert_eq!(parse(text), Some(ms), "{text}");
        }
    }

    #[test]
    fn cuts_fractions_toward_the_past_before_1970_too() {
        assert_eq!(parse("1969-12-31T23:59:59.9999Z"), Some(-1));
        assert_eq!(parse("1969-12-31T23:59:59.0009Z"), Some(-1000));
    }

    #[test]
    fn refuses_every_other_form() {
        for text in [
            "",
            "soon",
            "2026-01-02",
            "2026-01-02T03:04",
            "2026-01-02T03:04Z",
            "2026-01-02T03:04:05.Z",
            "2026-01-02T03:04:05,6Z",
            "2026-01-02T03:04:05+0100",
            "2026-01-02T03:04:05+01",
            "2026-01-02T03:04:05+24:00",
            "2026-01-02T03:04:05+01:60",
            "2026-01-02T03:04:05 +01:00",
            "2026-01-02T03:04:05Z ",
            " 2026-01-02T03:04:05Z",
            "2026-01-02T03:04:60Z",
            "2026-01-02T03:60:05Z",
            "2026-01-02T24:00:00Z",
            "2026-13-02T03:04:05Z",
            "2026-00-02T03:04:05Z",
            "2026-01-00T03:04:05Z",
            "2026-04-31T03:04:05Z",
            "2026-02-29T03:04:05Z",
            "1900-02-29T03:04:05Z",
            "2026-1-02T03:04:05Z",
            "2026/01/02T03:04:05Z",
            "2026-01-02_03:04:05Z",
            "+2026-01-02T03:04:05Z",
            "-001-01-02T03:04:05Z",
            "12026-01-02T03:04:05Z",
            "２026-01-02T03:04:05Z",
            "2026-01-02T03:04:05\u{2212}01:00",
            "1714137600123",
            "0000-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn counts_days_as_a_calendar_does() {
        let mut days = MIN_MS / MS_PER_DAY;
        for year in 0..=9999 {
            for month in 1..=12 {
                for day in 1..=days_in_month(year, month).unwrap() {
                    assert_eq!(days_from_civil(year, month, day), days);
                    assert_eq!(civil_from_days(days), (year, month, day));
                    days += 1;
                }
            }
        }
        assert_eq!(days * MS_PER_DAY - 1, MAX_MS);
    }

    #[test]
    fn writes_what_a_person_reads() {
        assert_eq!(
            format(1_714_137_600_123).to_string(),
            "2024-04-26T13:20:00.123Z"
        );
        assert_eq!(format(-1).to_string(), "1969-12-31T23:59:59.999Z");
        assert_eq!(time_of_day(1_714_137_599_999).to_string(), "13:19:59");
        assert_eq!(time_of_day(-1).to_string(), "23:59:59");
        assert_eq!(format(MIN_MS - 1).to_string(), "-0001-12-31T23:59:59.999Z");
        assert_eq!(format(MAX_MS + 1).to_string(), "+10000-01-01T00:00:00.000Z");
        assert_eq!(
            format(i64::MAX).to_string(),
            "+292278994-08-17T07:12:55.807Z"
        );
        assert_eq!(
            format(i64::MIN).to_string(),
            "-292275055-05-16T16:47:04.192Z"
        );
    }

    proptest! {
        #[test]
        fn reads_back_what_it_writes(ms in MIN_MS..=MAX_MS) {
            prop_assert_eq!(parse(&format(ms).to_string()), Some(ms));
        }

        #[test]
        fn an_offset_moves_the_instant(ms in -4_000_000_000_000..4_000_000_000_000_i64,
                                       hours in 0..24_i64, minutes in 0..60_i64) {
            let local = format(ms).to_string().replace('Z', "");
            let offset = (hours * 60 + minutes) * 60_000;
            let east = std::format!("{local}+{hours:02}:{minutes:02}");
            let west = std::format!("{local}-{hours:02}:{minutes:02}");
            prop_assert_eq!(parse(&east), Some(ms - offset));
            prop_assert_eq!(parse(&west), Some(ms + offset));
        }

        #[test]
        fn never_panics(text in "[0-9TtZz:. +-]{0,32}|.*") {
            let _ = parse(&text);
        }
    }
}
