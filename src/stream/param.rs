//! Types that a job's parameter can have.

use std::time::Duration;

use crate::event::checked::TimestampUnit;

/// A value that `--set NAME=VALUE` can give.
pub trait Param: Sized {
    /// What is expected, in words: `a duration such as 10s`.
    const KIND: &'static str;

    /// Reads it.
    ///
    /// # Errors
    /// Says what is wrong with `text`.
    fn parse(text: &str) -> Result<Self, String>;

    /// Writes it, in a form that [`Param::parse`] reads.
    fn show(&self) -> String;
}

impl Param for Duration {
    const KIND: &'static str = "a duration such as 250ms, 10s, 1h30m or 7d";
    fn parse(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text).map_err(|why| why.to_string())
    }
    fn show(&self) -> String {
        humantime::format_duration(*self)
            .to_string()
            .replace(' ', "")
    }
}

impl Param for bool {
    const KIND: &'static str = "true or false";
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "it is neither".to_owned())
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Param for String {
    const KIND: &'static str = "a text";
    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
    fn show(&self) -> String {
        self.clone()
    }
}

impl Param for TimestampUnit {
    const KIND: &'static str = "s, ms, us, ns or auto";
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "it is none of them".to_owned())
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Param for $number {
            const KIND: &'static str = "a number";
            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|why| format!("{why}"))
            }
            fn show(&self) -> String {
                self.to_string()
            }
        }
    )*};
}
numbers!(i32, i64, u32, u64, usize, f64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_they_are_written() {
        for text in ["0s", "250ms", "10s", "1m", "1h 30m", "7days"] {
            let duration = Duration::parse(text).unwrap();
            assert_eq!(Duration::parse(&duration.show()), Ok(duration), "{text}");
        }
        assert_eq!(Duration::parse("1h30m"), Ok(Duration::from_mins(90)));
        assert!(Duration::parse("5").is_err() && Duration::parse("-5s").is_err());
    }
}
