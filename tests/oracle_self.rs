//! The oracle is held to answers that were worked out by hand: a wrong oracle would bless a wrong
//! engine.
//!
//! Caught here: an edge of lateness or retention off by one, a tie decided by arrival, a calendar
//! that slips.

mod oracle;

use oracle::text::Rng;
use oracle::time::{Unit, rfc3339};
use oracle::{At, Counts, FilePart, Input, Letter, Params, TopicPart, TopicRecord};
use oracle::{activity, bids, flights, text, time};

fn files(files: &[(&str, &str)]) -> Input {
    let part = |(name, text): &(&str, &str)| FilePart {
        name: (*name).to_owned(),
        bytes: text.as_bytes().to_vec(),
    };
    Input::Files(files.iter().map(part).collect())
}

fn bid(auction: i64, price: i64, time: i64) -> String {
    format!(
        "{{\"auction\":{auction},\"bidder\":1,\"price\":{price},\"channel\":\"\",\
         \"date_time\":{time}}}\n"
    )
}

fn event(id: &str, user: &str, kind: &str, time: &str) -> String {
    format!(
        "{{\"eventId\":\"{id}\",\"eventType\":\"{kind}\",\"userId\":\"{user}\",\
         \"timestamp\":{time},\"data\":{{}}}}\n"
    )
}

#[test]
fn a_bid_is_late_from_the_instant_at_which_its_window_closes() {
    // lag 2000: a bid at 12000 puts W_p at 10000, which closes [0, 10000); one at 11999 does not.
    let closed = [bid(1, 5, 12_000), bid(1, 7, 9_999), bid(1, 8, 10_000)].concat();
    let open = [
        bid(1, 5, 11_999),
        bid(1, 7, 0),
        bid(1, i64::MAX, 1),
        bid(1, i64::MAX, 2),
    ]
    .concat();
    let input = files(&[("b.jsonl", &open), ("a.jsonl", &closed)]);
    let outcome = bids::run(&input, &Params::bid_stats());
    let sum = 7 + 2 * i128::from(i64::MAX);
    let expected = [
        format!(
            "{{\"auction\":1,\"window_start\":0,\"cnt\":3,\"sum_price\":{sum},\"max_price\":{}}}",
            i64::MAX
        ),
        "{\"auction\":1,\"window_start\":10000,\"cnt\":3,\"sum_price\":18,\"max_price\":8}"
            .to_owned(),
    ];
    assert_eq!(outcome.results, expected);
    let late = Letter {
        at: At::File {
            file: "a.jsonl".to_owned(),
            line: 2,
        },
        source: "bids".to_owned(),
        reason: "late".to_owned(),
        event_time: Some(9_999),
        watermark: Some(10_000),
        raw: Some(bid(1, 7, 9_999).trim().as_bytes().to_vec()),
        raw_bytes: None,
    };
    assert_eq!(outcome.late, [late]);
    let summary = "read 7 = used 6 + duplicates 0 + late 1 + dead 0 · results 2";
    assert_eq!(outcome.counts.summary(), summary);
    let patient = Params {
        allowed_lateness: 1,
        ..Params::bid_stats()
    };
    assert_eq!(bids::run(&input, &patient).late, []);
}

#[test]
fn windows_before_1970_begin_below_their_events() {
    let text = [bid(1, -4, -10_000), bid(1, -3, -1), bid(1, 2, 0)].concat();
    let outcome = bids::run(&files(&[("a", &text)]), &Params::bid_stats());
    let expected = [
        "{\"auction\":1,\"window_start\":-10000,\"cnt\":2,\"sum_price\":-7,\"max_price\":-3}",
        "{\"auction\":1,\"window_start\":0,\"cnt\":1,\"sum_price\":2,\"max_price\":2}",
    ];
    assert_eq!(outcome.results, expected);
}

#[test]
fn an_event_before_dedup_is_late_below_the_horizon() {
    // lag 5000: after 100000 s the horizon is 99995 s; that instant is in time, one millisecond
    // before is not.
    let stamp = |text: &str| event(text, "u", "t", &format!("\"1970-01-02T{text}Z\""));
    let text = [stamp("03:46:40"), stamp("03:46:35"), stamp("03:46:34.9999")].concat();
    let outcome = activity::run(&files(&[("a", &text)]), &Params::user_activity());
    let late: Vec<_> = outcome
        .late
        .iter()
        .map(|l| (l.event_time, l.watermark))
        .collect();
    assert_eq!(late, [(Some(99_994_999), Some(99_995_000))]);
    assert_eq!((outcome.counts.used, outcome.counts.read), (2, 3));
}

#[test]
fn a_kept_event_shadows_its_id_for_less_than_the_retention() {
    let params = Params {
        retention: 10_000,
        lag: 60_000,
        ..Params::user_activity()
    };
    // 0 is kept; 9.999 repeats it; 10 is kept, although the dropped one is near; 15 repeats that.
    let text = [
        event("a", "u", "D", "15"),
        event("a", "u", "B", "\"1970-01-01T00:00:09.999\""),
        event("a", "u", "C", "10"),
        event("a", "u", "A", "0"),
    ]
    .concat();
    let outcome = activity::run(&files(&[("a", &text)]), &params);
    assert_eq!((outcome.counts.used, outcome.counts.duplicates), (2, 2));
    let expected = "{\"userId\":\"u\",\"window_start\":0,\"window_end\":60000,\"events\":2,\
                    \"by_type\":{\"A\":1,\"C\":1},\"first_event_id\":\"a\",\
                    \"last_event_id\":\"a\"}";
    assert_eq!(outcome.results, [expected]);
}

#[test]
fn ties_are_decided_by_partition_and_then_by_line() {
    let first = [
        event("p2", "u", "b", "7"),
        event("p1", "u", "B", "7"),
        event("p3", "u", "b", "7"),
        event("p4", "u", "b", "7"),
    ]
    .concat();
    let second = [
        event("q", "\\u0075", "\u{fffd}", "7"),
        event("p2", "u", "dropped", "7"),
        event("p0", "u", "😀", "7"),
    ]
    .concat();
    let input = files(&[("p", &second), ("P2", &first)]);
    let outcome = activity::run(&input, &Params::user_activity());
    let expected = "{\"userId\":\"u\",\"window_start\":0,\"window_end\":60000,\"events\":6,\
                    \"by_type\":{\"B\":1,\"b\":3,\"\u{fffd}\":1,\"😀\":1},\
                    \"first_event_id\":\"p2\",\"last_event_id\":\"p0\"}";
    assert_eq!(outcome.results, [expected]);
}

#[test]
fn lines_are_numbered_and_only_white_space_is_skipped() {
    let text = format!("\u{feff}\r\n \t\r\n{}\u{feff}{{}}\n\n{{}}\r", bid(1, 1, 1));
    let outcome = bids::run(
        &files(&[("a", &text), ("b", ""), ("c", "\u{feff}")]),
        &Params::bid_stats(),
    );
    let raws: Vec<_> = outcome
        .dead
        .iter()
        .map(|l| (l.at.clone(), l.raw.clone()))
        .collect();
    let at = |line| At::File {
        file: "a".to_owned(),
        line,
    };
    let bom = "\u{feff}{}".as_bytes().to_vec();
    assert_eq!(raws, [(at(4), Some(bom)), (at(6), Some(b"{}\r".to_vec()))]);
    assert_eq!((outcome.counts.read, outcome.counts.used), (3, 1));
    assert_eq!(
        bids::run(&Input::Files(Vec::new()), &Params::bid_stats()).counts,
        Counts::default()
    );
}

#[test]
fn a_topics_dead_letters_move_no_clock() {
    let record = |offset: i64, timestamp, value: Option<String>| TopicRecord {
        offset,
        timestamp,
        key: None,
        value: value.map(String::into_bytes),
        headers: Vec::new(),
    };
    let short = bid(1, 1, 1);
    let long = short.trim().to_owned() + &" ".repeat(900_001 - short.trim().len());
    let records = vec![
        record(0, Some(1), Some(bid(1, 1, 600_002))),
        record(1, Some(1), Some(bid(1, 1, 0))),
        record(2, Some(1), Some(bid(1, 1, 600_001))),
        record(3, Some(1), Some(bid(1, 1, 0))),
        record(4, None, Some(bid(1, 1, 700_000))),
        record(5, Some(1), None),
        record(6, Some(1), Some(long.clone())),
        record(7, Some(1), Some(long[..900_000].to_owned())),
    ];
    let input = Input::Topic {
        name: "bids".to_owned(),
        partitions: vec![TopicPart { number: 3, records }],
    };
    let outcome = bids::run(&input, &Params::bid_stats());
    let offset = |letter: &Letter| match &letter.at {
        At::Topic { offset, .. } => *offset,
        At::File { .. } => -1,
    };
    let dead: Vec<_> = outcome
        .dead
        .iter()
        .map(|l| (offset(l), l.reason.as_str()))
        .collect();
    assert_eq!(
        dead,
        [(0, "too-far-ahead"), (5, "null-value"), (6, "too-large")]
    );
    assert_eq!(
        outcome.dead[2].raw.as_deref(),
        Some(&long.as_bytes()[..1_024])
    );
    assert_eq!(outcome.dead[2].raw_bytes, Some(900_001));
    assert_eq!(outcome.late.iter().map(offset).collect::<Vec<_>>(), [3, 7]);
    assert_eq!(outcome.counts.used, 3);
}

#[test]
fn times_are_read_as_written() {
    let good = [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-01-02T03:04:05.678+01:00", 1_767_319_445_678),
        ("2000-02-29 23:59:59", 951_868_799_000),
        ("1969-12-31t23:59:59.9999z", -1),
        ("1969-12-31T23:59:59.0009-00:00", -1_000),
        ("0000-01-01T00:00:00Z", -62_167_219_200_000),
        ("0000-02-29T00:00:00Z", -62_162_121_600_000),
        ("9999-12-31T23:59:59.99999", 253_402_300_799_999),
        ("1900-03-01T00:00:00+23:59", -2_203_977_540_000),
        ("2013-01-01T10:00:00.5Z", 1_357_034_400_500),
    ];
    for (text, millis) in good {
        assert_eq!(rfc3339(text), Some(millis), "{text}");
    }
    let units = [
        (Unit::Seconds, -1, Some(-1_000)),
        (Unit::Seconds, 253_402_300_800, None),
        (Unit::Seconds, i64::MAX, None),
        (Unit::Milliseconds, time::LAST + 1, None),
        (Unit::Milliseconds, time::FIRST, Some(time::FIRST)),
        (Unit::Microseconds, -1, Some(-1)),
        (Unit::Nanoseconds, -1_000_001, Some(-2)),
        (Unit::Auto, 99_999_999_999, Some(99_999_999_999_000)),
        (Unit::Auto, 100_000_000_000, Some(100_000_000_000)),
        (Unit::Auto, -99_999_999_999, None),
        (Unit::Auto, -100_000_000_000, Some(-100_000_000_000)),
        (Unit::Auto, i64::MIN, None),
    ];
    for (unit, number, millis) in units {
        assert_eq!(unit.millis(number), millis, "{number} {}", unit.name());
    }
    let mut rng = Rng(1);
    for _ in 0..20_000 {
        let millis = rng.between(time::FIRST, time::LAST);
        let written = text::rfc3339(&mut rng, millis);
        assert_eq!(rfc3339(&written), Some(millis), "{written}");
    }
}

#[test]
fn flights_stand_in_order_of_schedule_and_leave_when_they_leave() {
    let csv = "year,dep_delay,carrier,flight,origin,distance,minute,time_hour\n\
               2013,-4,UA,1545,EWR,1400,15,2013-01-01T10:00:00Z\n\
               2013,NA,AA,7,EWR,90,14,2013-01-01T10:00:00Z\n\
               2013,60,B6,8,JFK,91,0,2013-01-01T10:00:00Z\n";
    let input = flights::bids(csv).expect("it is as expected");
    let ewr = "{\"auction\":7,\"bidder\":0,\"price\":90,\"channel\":\"AA\",\"date_time\":null}\n\
               {\"auction\":1545,\"bidder\":0,\"price\":1400,\"channel\":\"UA\",\
               \"date_time\":1357035060000}\n";
    let jfk = "{\"auction\":8,\"bidder\":0,\"price\":91,\"channel\":\"B6\",\
               \"date_time\":1357038000000}\n";
    assert_eq!(input, files(&[("EWR.jsonl", ewr), ("JFK.jsonl", jfk)]));
    assert_eq!(bids::run(&input, &Params::bid_stats()).counts.dead, 1);
    assert!(flights::bids("a,b\n").is_err());
}
