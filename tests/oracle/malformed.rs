//! Records that are wrong in one way each, and records that look wrong and are not.
//!
//! An [`Edit`] changes one thing of a good record. [`wrong`] and [`odd`] list all edits of a job; a
//! test of the oracle holds every single one to its list, so a generator may draw from them
//! blindly.

use super::Job;

/// The members of a record, name and value in JSON.
pub type Members = Vec<(String, String)>;

/// One change to a good record.
#[derive(Clone, Copy, Debug)]
pub enum Edit {
    /// The member is missing.
    Drop(usize),
    /// The member stands there a second time; there its name may be written with an escape.
    Twice(usize, bool),
    /// The first letter of the name is written as an escape, which is the same name.
    Escaped(usize),
    /// The name in another case, which is another name.
    Capital(usize),
    /// The member with this value.
    Value(usize, &'static [u8]),
    /// One more member, at the end.
    More(&'static [u8]),
    /// So many arrays around nothing: opened, closed.
    Deep(usize, usize),
    /// The record between these.
    Around(&'static [u8], &'static [u8]),
    /// Only this.
    Only(&'static [u8]),
    /// The record ends after the member.
    Cut(usize),
    /// This between names, values and members.
    Space(&'static str),
}

/// No integer of 64 bits, for one reason or another; most are no JSON either.
#[rustfmt::skip] // Else one line each.
const NO_INTEGERS: [&[u8]; 32] = [
    b"12.0", b"5e0", b"5E0", b"1e2", b"-0.0", b"0.5", b"\"12\"", b"null", b"true", b"[]", b"{}",
    b"[1]", b"9223372036854775808", b"-9223372036854775809", b"1e400", b"+1", b"01", b"-01", b"-",
    b"--1", b".5", b"1.", b"1.e3", b"1e", b"1e+", b"0x10", b"NaN", b"Infinity", b"-Infinity",
    b"1_000", b"", "\u{661}".as_bytes(),
];

/// No JSON at all, wherever it stands as a value.
#[rustfmt::skip] // Else one line each.
const NO_VALUES: [&[u8]; 65] = [
    b"", b"01", b"-", b"+1", b".5", b"1.", b"1e", b"0x1", b"NaN", b"-Infinity", b"tru", b"True",
    b"nul", b"nulll", b"undefined", b"'x'", b"x", b"\"x", b"\"\\x\"", b"\"\\'\"", b"\"\\u12\"",
    b"\"\\u12G4\"", b"\"\\U0041\"", b"\"\\u{41}\"", b"\"\\u+041\"", b"\"\\ud800\"", b"\"\\udc00\"",
    b"\"\\ud83dx\"", b"\"\\ud83d\\u0041\"", b"\"\\udc00\\ud800\"", b"\"\\\"", b"\"\x00\"",
    b"\"\x01\"", b"\"\x1f\"", b"\"\t\"", b"\"\r\"", b"\"\xff\"", b"\"\x80\"", b"\"\xc0\xaf\"",
    b"\"\xc1\xbf\"", b"\"\xe0\x80\xaf\"", b"\"\xe0\x9f\xbf\"", b"\"\xf0\x80\x80\x80\"",
    b"\"\xf0\x8f\xbf\xbf\"", b"\"\xed\xa0\x80\"", b"\"\xed\xbf\xbf\"", b"\"\xf4\x90\x80\x80\"",
    b"\"\xf8\x88\x80\x80\x80\"", b"\"\xe2\x82\"", b"\"\xe2\x28\xa1\"", b"\xff", b"{", b"[", b"[}",
    b"{]", b"[1,]", b"[,1]", b"[1 2]", b"{\"a\"}", b"{\"a\":1,}", b"{,}", b"{a:1}", b"{\"a\" 1}",
    b"{\"a\":1 \"b\":2}", b"{\"a\":\"\xff\"}",
];

/// Valid members that no job asks for.
#[rustfmt::skip] // Else one line each.
const MORE: [&[u8]; 18] = [
    b"\"x\":1,\"x\":2,\"x\":null", b"\"\":\"\"", b"\"x\":1e400", b"\"x\":-1E-400",
    b"\"x\":123456789012345678901234567890123456789012345678901234567890",
    b"\"x\":0.1234567890123456789012345678901234567890e+07", b"\"x\":-0",
    b"\"Auction\":\"no\",\"EVENTID\":1,\"auction \":[],\"eventId\\u0000\":{}",
    b"\"x\":{\"auction\":\"1\",\"auction\":2,\"eventId\":3,\"eventId\":[4],\"data\":5}",
    b"\"x\":\"\\u0000\\\"\\\\\\/\\b\\f\\n\\r\\t\\ud83d\\ude00\\uD83D\\uDE00\\uffff\"",
    b"\"x\":\"\x7f\xc2\x80\xe2\x80\xa8\xef\xbb\xbf\xef\xbf\xbf\xf4\x8f\xbf\xbf\"",
    b"\"\\ud83d\\ude00\":\"{[}],:\\\"\"", b"\"x\":[true,false,null,[],{},[[]],[{}],\"\"]",
    b"\"x\" :\t[ 1 ,\r2 ]\t", b"\"x\":{\"a\":{\"a\":{\"a\":[{\"a\":1}]}}}",
    b"\"date_time_\":0,\"timestamps\":null", b"\"x\":\"\\\\\"", b"\"x\":\"\\\\\\\\\\\"\"",
];

/// No time, or none in the years 0000 to 9999, under any unit of integers but nanoseconds.
#[rustfmt::skip] // Else one line each.
const NO_TIMES: [&[u8]; 49] = [
    b"9223372036854775807", b"-9223372036854775808", b"\"\"", b"\"1700000000000\"",
    b"\"1700000000\"", b"\"2026-01-02\"", b"\"2026-01-02T03:04\"", b"\"2026-01-02T03:04Z\"",
    b"\"2026-01-02T03Z\"", b"\"2026-01-02T03:04:60Z\"", b"\"2016-12-31T23:59:60Z\"",
    b"\"2026-01-02T24:00:00Z\"", b"\"2026-01-02T03:60:00Z\"", b"\"2026-01-02T03:04:05+0100\"",
    b"\"2026-01-02T03:04:05+01\"", b"\"2026-01-02T03:04:05+24:00\"",
    b"\"2026-01-02T03:04:05+01:60\"", b"\"2026-01-02T03:04:05 Z\"", b"\"2026-01-02T03:04:05Z \"",
    b"\" 2026-01-02T03:04:05Z\"", b"\"2026-01-02T03:04:05.Z\"", b"\"2026-01-02T03:04:05,5Z\"",
    b"\"2026-01-02T03:04:05.5.5Z\"", b"\"2026-01-02T03:04:05ZZ\"",
    b"\"2026-01-02T03:04:05Z+01:00\"", b"\"2026-01-02T03:04:05[UTC]\"",
    b"\"2026-01-02T03:04:05UTC\"", b"\"2026-01-02_03:04:05Z\"", b"\"2026-01-02  03:04:05Z\"",
    b"\"20260102T030405Z\"", b"\"2026-1-2T3:4:5Z\"", b"\"26-01-02T03:04:05Z\"",
    b"\"02026-01-02T03:04:05Z\"", b"\"+2026-01-02T03:04:05Z\"", b"\"-0001-01-02T03:04:05Z\"",
    b"\"10000-01-01T00:00:00Z\"", b"\"2026-00-02T03:04:05Z\"", b"\"2026-13-02T03:04:05Z\"",
    b"\"2026-01-00T03:04:05Z\"", b"\"2026-01-32T03:04:05Z\"", b"\"2026-04-31T03:04:05Z\"",
    b"\"2026-02-29T03:04:05Z\"", b"\"1900-02-29T03:04:05Z\"",
    b"\"2026-01-02T03:04:0\xef\xbc\x95Z\"", b"\"2026-W01-5T03:04:05Z\"",
    b"\"0000-01-01T00:59:59.999+01:00\"", b"\"9999-12-31T23:00:00-01:00\"",
    b"\"2026-01-02T03:04:05\xe2\x88\x9201:00\"", b"\"2026-01-02T03:04:+5Z\"",
];

/// White space in JSON is four bytes and nothing else.
const NO_SPACES: [&str; 6] = ["\x0b", "\x0c", "\0", "\u{a0}", "\u{feff}", "/**/"];

#[rustfmt::skip] // Else one line each.
const AROUND_WRONG: [(&[u8], &[u8]); 18] = [
    (b"", b"x"), (b"", b"}"), (b"", b"]"), (b"", b","), (b"", b"\0"), (b"", b"{}"), (b"", b" null"),
    (b"", b"\xff"), (b"", b"//"), (b"", b" #"), (b"", b"\""), (b"x", b""), (b"{", b""),
    (b"[", b"]"), (b"\xef\xbb\xbf\xef\xbb\xbf", b""), (b"\xff", b""), (b"{\"x\":", b"}"),
    (b"\"", b"\""),
];

#[rustfmt::skip] // Else one line each.
const ONLY: [&[u8]; 12] = [
    b"null", b"true", b"1", b"\"x\"", b"[]", b"{}", b"{", b"}", b"[", b"\"", b"{\"\":0}", b"\x00",
];

/// The integers and strings among the members, by index; the time comes after.
fn shapes(job: Job) -> (&'static [usize], &'static [usize], usize) {
    match job {
        Job::BidStats => (&[0, 1, 2, 4], &[3], 5),
        Job::UserActivity => (&[], &[0, 1, 2], 5),
    }
}

/// The members of a good record.
pub fn members(job: Job) -> Members {
    let pairs = match job {
        Job::BidStats => [
            ("auction", "1"),
            ("bidder", "2"),
            ("price", "3"),
            ("channel", "\"c\""),
            ("date_time", "4"),
        ],
        Job::UserActivity => [
            ("eventId", "\"e\""),
            ("eventType", "\"t\""),
            ("userId", "\"u\""),
            ("timestamp", "4"),
            ("data", "{\"k\":1}"),
        ],
    };
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
}

/// Edits after which a good record is a dead letter, whatever its values were.
pub fn wrong(job: Job) -> Vec<Edit> {
    let (integers, strings, members) = shapes(job);
    let mut edits = Vec::new();
    for i in 0..members {
        edits.extend([Edit::Drop(i), Edit::Capital(i), Edit::Cut(i)]);
        edits.extend([false, true].map(|escaped| Edit::Twice(i, escaped)));
        edits.extend(NO_VALUES.map(|value| Edit::Value(i, value)));
        let others: &[&[u8]] = &[b"null", b"true", b"[]", b"[{}]"];
        edits.extend(others.iter().map(|value| Edit::Value(i, value)));
    }
    for i in integers {
        edits.extend(NO_INTEGERS.map(|value| Edit::Value(*i, value)));
    }
    for i in strings {
        edits.extend([b"1" as &[u8], b"{}", b"-0.5", b"false"].map(|v| Edit::Value(*i, v)));
    }
    if job == Job::BidStats {
        edits.extend(NO_TIMES[..2].iter().map(|value| Edit::Value(4, value)));
    } else {
        edits.extend(NO_TIMES.map(|value| Edit::Value(3, value)));
        edits.extend([b"12.0" as &[u8], b"5e0", b"1e400", b"{}"].map(|v| Edit::Value(3, v)));
        edits.extend([b"1" as &[u8], b"\"{}\"", b"[{}]", b"\"\""].map(|v| Edit::Value(4, v)));
    }
    let unnamed: &[&[u8]] = &[
        b"\"x\"",
        b"\"x\":",
        b"x:1",
        b"'x':1",
        b"1:1",
        b"null:1",
        b"\"x\" 1",
        b"\"x\"::1",
        b"",
        b",",
        b"\"\xff\":1",
        b"\"\xc0\x80\":1",
        b"\"\x01\":1",
        b"\"\\x\":1",
        b"\"\\ud800\":1",
        b"\"x\":1,",
        b"\"x\":\"\xed\xa0\x80\xed\xb0\x80\"",
        b"\"x\":\"a\xffb\"",
        b"\"x\":[\"\x02\"]",
        b"\"x\":{\"\t\":1}",
        b"\"x\":[01]",
        b"\"x\":{\"a\":.5}",
        b"\"x\":[\"\\udfff\"]",
        b"\"x\":[\"\xf5\x80\x80\x80\"]",
    ];
    edits.extend(unnamed.iter().map(|member| Edit::More(member)));
    edits
        .extend([(100, 99), (99, 100), (100_000, 0), (0, 1), (1, 2)].map(|d| Edit::Deep(d.0, d.1)));
    edits.extend(AROUND_WRONG.map(|(before, after)| Edit::Around(before, after)));
    edits.extend(ONLY.map(Edit::Only));
    edits.extend(NO_SPACES.map(Edit::Space));
    edits
}

/// Edits after which a good record is still good, if not with the same values.
pub fn odd(job: Job) -> Vec<Edit> {
    let (_, strings, members) = shapes(job);
    let mut edits: Vec<Edit> = (0..members).map(Edit::Escaped).collect();
    edits.extend(MORE.map(Edit::More));
    // With the record's own braces, 128 levels; more are not promised.
    edits.extend([Edit::Deep(1, 1), Edit::Deep(100, 100), Edit::Deep(127, 127)]);
    edits.extend(
        [
            (b" " as &[u8], b"" as &[u8]),
            (b"\t \r", b"\t \t"),
            (b"", b"  "),
        ]
        .map(around),
    );
    edits.extend([" ", "\t", "\r", " \t\r "].map(Edit::Space));
    let texts: &[&[u8]] = &[
        b"\"\"",
        b"\" \"",
        b"\"\\u0000\"",
        b"\"\\u0022\\\\\"",
        b"\"\x7f\"",
    ];
    for i in strings {
        edits.extend(texts.iter().map(|text| Edit::Value(*i, text)));
    }
    let values: &[&[u8]] = &[b"-0", b"0", b"9223372036854775807", b"-9223372036854775808"];
    let data: &[&[u8]] = &[
        b"{\"a\":{\"a\":1e999}}",
        b"{\"a\":1,\"a\":2,\"eventId\":3}",
        b"{ }",
    ];
    match job {
        Job::BidStats => {
            edits.extend((0..3).flat_map(|i| values.iter().map(move |v| Edit::Value(i, v))));
        }
        Job::UserActivity => edits.extend(data.iter().map(|v| Edit::Value(4, v))),
    }
    edits
}

fn around((before, after): (&'static [u8], &'static [u8])) -> Edit {
    Edit::Around(before, after)
}

/// A record without any change.
pub fn plain(members: &[(String, String)]) -> Vec<u8> {
    apply(Edit::Around(b"", b""), members)
}

/// The record after the change.
pub fn apply(edit: Edit, members: &[(String, String)]) -> Vec<u8> {
    let space = if let Edit::Space(space) = edit {
        space
    } else {
        ""
    };
    let mut parts: Vec<Vec<u8>> = Vec::new();
    for (i, (name, value)) in members.iter().enumerate() {
        let escaped = format!("\\u{:04x}{}", name.as_bytes()[0], &name[1..]);
        let capital = name[..1].to_uppercase() + &name[1..];
        let (name, value) = match edit {
            Edit::Drop(at) if at == i => continue,
            Edit::Escaped(at) if at == i => (escaped.as_str(), value.as_bytes()),
            Edit::Capital(at) if at == i => (capital.as_str(), value.as_bytes()),
            Edit::Value(at, value) if at == i => (name.as_str(), value),
            _ => (name.as_str(), value.as_bytes()),
        };
        let head = format!("{space}\"{name}\"{space}:{space}");
        parts.push([head.as_bytes(), value, space.as_bytes()].concat());
        match edit {
            Edit::Twice(at, by_escape) if at == i => {
                let again = if by_escape { &escaped } else { name };
                parts.push([format!("\"{again}\":").as_bytes(), value].concat());
            }
            Edit::Cut(at) if at == i => {
                return [b"{" as &[u8], &parts.join(b",".as_slice())].concat();
            }
            _ => {}
        }
    }
    match edit {
        Edit::More(member) => parts.push(member.to_vec()),
        Edit::Deep(open, close) => {
            parts.push(format!("\"x\":{}{}", "[".repeat(open), "]".repeat(close)).into_bytes());
        }
        Edit::Only(bytes) => return bytes.to_vec(),
        _ => {}
    }
    let (before, after): (&[u8], &[u8]) = match edit {
        Edit::Around(before, after) => (before, after),
        _ => (space.as_bytes(), space.as_bytes()),
    };
    [before, b"{", &parts.join(b",".as_slice()), b"}", after].concat()
}
