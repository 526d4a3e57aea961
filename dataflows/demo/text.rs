//! Numbers and times as people read them, and lines as terminals take them.

/// A count with its thousands set apart: `5,000,000`.
pub(super) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The time of day, UTC, of milliseconds since 1970: `12:04:58`.
pub(super) fn time_of_day(millis: i64) -> String {
    let seconds = millis.div_euclid(1_000);
    let part = |unit: i64, of: i64| seconds.div_euclid(unit).rem_euclid(of);
    format!(
        "{:02}:{:02}:{:02}",
        part(3_600, 24),
        part(60, 60),
        part(1, 60)
    )
}

/// Milliseconds as seconds: `3.4 s`.
pub(super) fn seconds(millis: i64) -> String {
    format!("{}.{} s", millis / 1_000, millis.abs() % 1_000 / 100)
}

/// Text as a terminal may show it: one line, no control characters, at most `most` characters.
pub(super) fn shown(text: &str, most: usize) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut out: String = text.chars().map(plain).take(most).collect();
    if text.chars().nth(most).is_some() {
        out.push('…');
    }
    out
}

/// The lines of `text` that are at most `width` characters wide, broken between words; a word that
/// is wider is cut in pieces.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let (mut lines, mut line) = (Vec::new(), String::new());
    for word in text.split(' ') {
        let length = line.chars().count();
        let fits = length == 0 || length + 1 + word.chars().count() <= width;
        if !fits {
            lines.push(std::mem::take(&mut line));
        }
        if fits && length > 0 {
            line.push(' ');
        }
        for c in word.chars() {
            if line.chars().count() == width {
                lines.push(std::mem::take(&mut line));
            }
            line.push(c);
        }
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_read_well() {
        assert_eq!(
            [0, 999, 1_000, 1_234_567].map(grouped),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(time_of_day(1_714_137_600_123), "13:20:00");
        assert_eq!(time_of_day(-1), "23:59:59");
        assert_eq!([0, 99, 3_450].map(seconds), ["0.0 s", "0.0 s", "3.4 s"]);
    }

    #[test]
    fn what_others_wrote_cannot_steer_the_terminal() {
        assert_eq!(shown("a\u{1b}[2Jb\n", 9), "a [2Jb ");
        assert_eq!(shown("élan vital", 4), "élan…");
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("a abcdefgh i", 3), ["a", "abc", "def", "gh", "i"]);
        assert_eq!(wrapped("", 3), [""]);
        for width in 1..20 {
            let lines = wrapped("read 1,204 = used 7 + late 3 · held by events[2]", width);
            assert!(lines.iter().all(|line| line.chars().count() <= width));
        }
    }
}
