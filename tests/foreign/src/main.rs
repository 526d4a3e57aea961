//! Somebody else's program: own codec, own aggregate, own operator, own connectors; and its tests
//! are made with the library's harness.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use anabranch::connectors::{
    Batch, Fetched, Found, Reader, Share, Sink, Source, Style, Writer, Written,
};
use anabranch::event::{Letter, Origin};
use anabranch::prelude::*;
use anabranch::{ErrorKind, embedded, testing};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Trade {
    symbol: String,
    price: i64,
    at: i64,
}

/// `SYMBOL PRICE TIME`
fn trade(record: &Record<'_>) -> Result<Trade, String> {
    let text = std::str::from_utf8(record.value()).map_err(|why| why.to_string())?;
    let mut words = text.split(' ');
    let mut next = |what: &str| words.next().ok_or_else(|| format!("no {what}"));
    let number = |text: &str| text.parse().map_err(|_| format!("`{text}` is no number"));
    Ok(Trade {
        symbol: next("symbol")?.to_owned(),
        price: number(next("price")?)?,
        at: number(next("time")?)?,
    })
}

/// The prices seen, and how often.
struct Prices;

impl Aggregate<Trade> for Prices {
    type Input = i64;
    type Acc = BTreeMap<i64, u64>;
    type Out = Vec<(i64, u64)>;
    fn input(&self, trade: &Trade) -> i64 {
        trade.price
    }
    fn init(&self) -> Self::Acc {
        BTreeMap::new()
    }
    fn add(&self, acc: &mut Self::Acc, price: i64) {
        *acc.entry(price).or_default() += 1;
    }
    fn merge(&self, acc: &mut Self::Acc, other: Self::Acc) {
        for (price, count) in other {
            *acc.entry(price).or_default() += count;
        }
    }
    fn finish(&self, acc: &Self::Acc) -> Self::Out {
        acc.iter().map(|(price, count)| (*price, *count)).collect()
    }
}

/// The change of each symbol's price; what falls to nothing is refused; a symbol is forgotten
/// when it was not traded for 100 ms.
struct Changes;

impl Process for Changes {
    type Key = String;
    type In = Trade;
    type Out = (String, i64);
    type State = Option<i64>;
    fn on_event(
        &self,
        last: &mut Option<i64>,
        event: &Event<Trade>,
        cx: &mut ProcessContext<'_, Self>,
    ) {
        let price = event.value.price;
        if price <= 0 {
            return cx.dead_letter("worth nothing");
        }
        if let Some(before) = last.replace(price) {
            let symbol = cx.key().clone();
            cx.emit((symbol, price - before));
        }
        cx.set_timer(cx.watermark().plus(100));
    }
    fn on_timer(&self, last: &mut Option<i64>, _: EventTime, cx: &mut ProcessContext<'_, Self>) {
        let symbol = cx.key().clone();
        cx.emit((symbol, 0));
        *last = None;
    }
    fn ttl(&self) -> Option<Duration> {
        Some(Duration::from_secs(1))
    }
}

fn trades(flow: &Flow<'_>) -> Result {
    let size = flow.param("size", Duration::from_millis(10), "length of a window")?;
    let trades = flow
        .source::<Trade>("trades")
        .decode(trade)
        .event_time(|trade| trade.at, Watermarks::lag(Duration::from_millis(5)))
        .late(|late| late.sink("late"))
        .dead(|dead| {
            dead.sink_as(
                "broken",
                |letter: Letter| letter.cause.to_string(),
                |s| s.json(),
            )
        });
    trades
        .clone()
        .key_by_ref(|trade| trade.symbol.as_str())
        .window(Tumbling::of(size))
        .aggregate(|a| (a.count(), a.custom(Prices)))
        .emit_final()
        .map(|w| (w.key, w.window.start, w.value))
        .sink("prices", |s| s.json().key_ref(|row| row.0.as_str()));
    trades
        .key_by(|trade| trade.symbol.clone())
        .process("changes", Changes)
        .sink("changes", |s| {
            s.encode(|row, out| {
                out.extend_from_slice(format!("{} {:+}", row.0, row.1).as_bytes());
                Ok::<_, Error>(())
            })
        });
    Ok(())
}

fn a_job_is_tested() {
    let answer = testing::run(Job::new("trades", trades))
        .source(
            "trades",
            [
                vec!["A 10 1", "A 12 3", "B 5 4", "A x 5", "A 9 12"],
                vec!["B 0 2"],
            ],
        )
        .workers(2)
        .answer(&["prices", "changes", "broken", "late", "dead"]);
    assert_eq!(
        answer.lines,
        [
            vec![
                r#"["A",0,[2,[[10,1],[12,1]]]]"#,
                r#"["A",10,[1,[[9,1]]]]"#,
                r#"["B",0,[2,[[0,1],[5,1]]]]"#
            ],
            vec!["A +0", "A +0", "A +0", "A +2", "A -3", "B +0"],
            vec![r#""decode: `x` is no number""#],
            vec![],
            vec![concat!(
                r#"{"source":"trades","topic":"trades","partition":1,"offset":0,"#,
                r#""reason":"processing","error":"worth nothing","#,
                r#""raw":"{\"symbol\":\"B\",\"price\":0,\"at\":2}"}"#
            )],
        ]
    );
    let trade = |price| Trade {
        symbol: String::new(),
        price,
        at: 0,
    };
    testing::assert_laws(&Prices, &[trade(1), trade(2), trade(1)]);
}

/// Counts down from a number: a source of one's own.
struct Countdown(u64);
struct CountdownReader(u64, Vec<String>, bool);

impl Source for Countdown {
    fn describe(&self) -> String {
        "countdown:".to_owned()
    }
    fn bounded(&self) -> bool {
        true
    }
    fn prepare(&self) -> Result {
        Ok(())
    }
    fn open(&self, share: Share) -> Result<Box<dyn Reader>> {
        let lines = (1..=self.0).rev().map(|n| format!("A {n} {}", self.0 - n));
        Ok(Box::new(CountdownReader(0, lines.collect(), share.owns(0))))
    }
}

impl Reader for CountdownReader {
    fn discover(&mut self) -> Result<Vec<Found>> {
        let origin = Origin::Memory("countdown".into(), 0);
        let found = std::mem::take(&mut self.2).then_some(Found {
            partition: 0,
            origin,
        });
        Ok(found.into_iter().collect())
    }
    fn fetch<'a>(
        &'a mut self,
        _: u32,
        max: usize,
        records: &mut Vec<Record<'a>>,
    ) -> Result<Fetched> {
        let from = self.0 as usize;
        for line in self.1[from..].iter().take(max) {
            records.push(Record::line(self.0, line.as_bytes()));
            self.0 += 1;
        }
        Ok(if self.0 as usize == self.1.len() {
            Fetched::End
        } else {
            Fetched::Some
        })
    }
}

/// A sink of one's own.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Sink for Lines {
    fn describe(&self) -> String {
        "lines:".to_owned()
    }
    fn style(&self) -> Style {
        Style::Lines
    }
    fn prepare(&self) -> Result {
        Ok(())
    }
    fn open(&self, _: Share) -> Result<Box<dyn Writer>> {
        Ok(Box::new(self.clone()))
    }
    fn finish(&self, complete: bool) -> Result {
        assert!(complete);
        Ok(())
    }
}

impl Writer for Lines {
    fn write(&mut self, batch: &Batch, from: usize) -> Result<Written> {
        let values = batch.records[from..]
            .iter()
            .filter_map(|record| batch.value(record));
        let lines = values.map(|value| String::from_utf8_lossy(value).into_owned());
        self.0.lock().expect("nobody panics").extend(lines);
        Ok(Written::All)
    }
    fn flush(&mut self) -> Result {
        Ok(())
    }
    fn close(&mut self) -> Result {
        Ok(())
    }
}

fn connectors_of_ones_own_serve() -> Result {
    let changes = Lines::default();
    let mut settings = Settings::new()
        .workers(2)
        .bind_source("trades", Countdown(4));
    settings = settings.bind_sink("changes", changes.clone());
    for port in ["prices", "broken", "late", "dead"] {
        settings = settings.sink_uri(port, "null:");
    }
    let summary = Job::new("trades", trades).run(settings)?;
    assert_eq!((summary.read, summary.used), (4, 4));
    assert_eq!(
        *changes.0.lock().expect("nobody panics"),
        ["A -1", "A -1", "A -1", "A +0", "A +0", "A +0", "A +0"]
    );
    Ok(())
}

fn a_job_runs_inside_a_program() -> Result {
    let (feed, source) = embedded::source(8);
    let (sink, mut changes) = embedded::sink::<(String, i64)>(8);
    let mut settings = Settings::new().workers(2).set("size", "1s");
    for port in ["prices", "broken", "late", "dead"] {
        settings = settings.sink_uri(port, "null:");
    }
    let job = Job::new("trades", trades).bind_source("trades", source);
    let job = job.bind_sink("changes", sink).start(settings)?;
    for (price, at) in [(3, 0), (5, 1), (4, 20)] {
        feed.blocking_send(Trade {
            symbol: "A".to_owned(),
            price,
            at,
        })?;
    }
    assert_eq!(changes.blocking_recv(), Some(("A".to_owned(), 2)));
    drop(feed);
    assert_eq!(changes.blocking_recv(), Some(("A".to_owned(), -1)));
    for _ in 0..3 {
        assert_eq!(changes.blocking_recv(), Some(("A".to_owned(), 0)));
    }
    assert_eq!(changes.blocking_recv(), None);
    assert_eq!(job.join()?.used, 3);
    Ok(())
}

fn what_is_not_built_in_is_said() {
    let unbound =
        Job::new("trades", trades).run(Settings::new().source_uri("trades", "kafka:trades"));
    let error = unbound.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("built without Kafka"), "{error}");
}

/// Microseconds around 1970, and the milliseconds that they are cut to: toward the past.
const TIMES: [(i64, i64); 4] = [(-1_500, -2), (-1_000, -1), (-1, -1), (1_999, 1)];

fn times_of_other_crates_are_times_of_events() {
    let of_chrono = |micros| {
        let time = chrono::DateTime::from_timestamp_micros(micros).expect("in range");
        let zone = chrono::FixedOffset::east_opt(18_000).expect("in range");
        [time.into(), time.with_timezone(&zone).into()]
    };
    let of_jiff = |micros| {
        let time = jiff::Timestamp::from_microsecond(micros).expect("in range");
        let zone = jiff::tz::TimeZone::fixed(jiff::tz::offset(5));
        [time.into(), time.to_zoned(zone).into()]
    };
    for (micros, millis) in TIMES {
        let times: [[EventTime; 2]; 2] = [of_chrono(micros), of_jiff(micros)];
        assert_eq!(times, [[EventTime::from_millis(millis); 2]; 2], "{micros}");
    }
    // As the time of an event, where the program has it as a text.
    let job = Job::new("stamps", |flow: &Flow<'_>| {
        let lines = |port| {
            flow.source::<String>(port)
                .decode(|record| String::from_utf8(record.value().to_vec()))
        };
        let marks = Watermarks::lag(Duration::from_secs(1));
        lines("chrono")
            .event_time(
                |text| {
                    let micros = text.parse().expect("a number");
                    chrono::DateTime::from_timestamp_micros(micros).expect("in range")
                },
                marks,
            )
            .union(lines("jiff").event_time(
                |text| text.parse::<jiff::Timestamp>().expect("a time"),
                marks,
            ))
            .key_by(|_| ())
            .window(Tumbling::of(Duration::from_millis(1)))
            .aggregate(|a| a.count())
            .emit_final()
            .map(|w| (w.window.start, w.value))
            .sink("counts", |s| s.json());
        Ok(())
    });
    testing::run(job)
        .source("chrono", [["-1500", "1999"]])
        .source("jiff", [["1969-12-31T23:59:59.9985Z"]])
        .workers(2)
        .expect("counts", ["[-2,2]", "[1,1]"]);
}

fn main() -> Result {
    a_job_is_tested();
    times_of_other_crates_are_times_of_events();
    connectors_of_ones_own_serve()?;
    a_job_runs_inside_a_program()?;
    what_is_not_built_in_is_said();
    Ok(())
}
