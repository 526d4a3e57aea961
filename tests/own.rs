//! What users bring with them, done wrong: each mistake ends the job with an error that names it,
//! or is found by the test of a job or of an aggregate.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use anabranch::connectors::{MemorySink, MemorySource, NullSink, Style};
use anabranch::prelude::*;
use anabranch::{ErrorKind, First, State, testing};

/// Passes on the projection of `first`, but without the event's place.
struct Around<F>(First<F>);

impl<F: Fn(&i64) -> i64 + 'static> Aggregate<i64> for Around<F> {
    type Input = <First<F> as Aggregate<i64>>::Input;
    type Acc = <First<F> as Aggregate<i64>>::Acc;
    type Out = i64;
    fn input(&self, value: &i64) -> Self::Input {
        self.0.input(value)
    }
    fn init(&self) -> Self::Acc {
        Aggregate::<i64>::init(&self.0)
    }
    fn add(&self, acc: &mut Self::Acc, input: Self::Input) {
        Aggregate::<i64>::add(&self.0, acc, input);
    }
    fn merge(&self, acc: &mut Self::Acc, other: Self::Acc) {
        Aggregate::<i64>::merge(&self.0, acc, other);
    }
    fn finish(&self, acc: &Self::Acc) -> i64 {
        Aggregate::<i64>::finish(&self.0, acc)
    }
}

/// A job that reads numbers.
fn job(describe: impl Fn(EventStream<'_, i64>) + Send + Sync + 'static) -> Job {
    Job::new("own", move |flow: &Flow<'_>| {
        let number = |record: &Record<'_>| String::from_utf8_lossy(record.value()).parse::<i64>();
        let numbers = flow.source::<i64>("numbers").decode(number);
        describe(numbers.event_time(|n| *n, Watermarks::lag(Duration::ZERO)));
        Ok(())
    })
}

/// The error of a job that reads the numbers 1 to 3.
fn error_of(describe: impl Fn(EventStream<'_, i64>) + Send + Sync + 'static) -> Error {
    let job = job(describe);
    let settings = Settings::new()
        .workers(2)
        .bind_source("numbers", MemorySource::new("numbers", [["1", "2", "3"]]))
        .bind_sink("out", MemorySink::new(Style::Lines))
        .bind_sink("late", NullSink::new())
        .bind_sink("dead", NullSink::new());
    job.run(settings).expect_err("it is done wrong")
}

#[test]
fn an_aggregate_around_first_has_to_hand_on_the_place() {
    let error = error_of(|numbers| {
        numbers
            .key_by(|_| 0u8)
            .window(Tumbling::of(Duration::from_secs(1)))
            .aggregate(|a| Around(a.first(|n| *n)))
            .emit_final()
            .map(|w| w.value)
            .sink("out", |s| s.json());
    });
    assert_eq!(error.kind(), ErrorKind::Panic);
    assert_eq!(
        error.to_string(),
        "operator `aggregate` panicked: `first` needs an event's place: an aggregate around it \
         has to hand on `input_of`"
    );
}

#[test]
fn what_an_encoder_cannot_write_is_not_lost_in_silence() {
    let error = error_of(|numbers| {
        numbers.sink("out", |s| {
            s.encode(|n, out| {
                out.extend_from_slice(b"a line\nand more");
                if *n < 3 { Ok(()) } else { Err("too large") }
            })
        });
    });
    assert_eq!(error.kind(), ErrorKind::Operating);
    let said = "sink `out`: a result cannot be encoded: it holds a line break";
    assert_eq!(error.to_string(), said);

    let error = error_of(|numbers| numbers.sink("out", |s| s.encode(|_, _| Err("too large"))));
    assert_eq!(
        error.to_string(),
        "sink `out`: a result cannot be encoded: too large"
    );
}

/// Comes back as one more.
#[derive(Clone, Debug, Default)]
struct More(i64);

impl Serialize for More {
    fn serialize<S: serde::Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}

impl<'a> Deserialize<'a> for More {
    fn deserialize<D: serde::Deserializer<'a>>(from: D) -> std::result::Result<Self, D::Error> {
        i64::deserialize(from).map(|n| Self(n + 1))
    }
}

/// Comes back as nothing, and its bytes do not show it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Forgets(bool, #[serde(skip)] i64);

/// Counts the events of a key, in a state of its own kind.
struct CountIn<S>(fn(&mut S) -> i64);

impl<S: State + Default> Process for CountIn<S> {
    type Key = u8;
    type In = i64;
    type Out = i64;
    type State = S;
    fn on_event(&self, state: &mut S, _: &Event<i64>, cx: &mut ProcessContext<'_, Self>) {
        let count = (self.0)(state);
        cx.emit(count);
    }
}

/// What a test says that has to fail.
fn said_by(test: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(test)).expect_err("it is done wrong");
    *panic.downcast::<String>().expect("it says why")
}

/// What the test of a job with that operator says.
fn test_of<S: State + Default>(count: fn(&mut S) -> i64) -> String {
    let job = job(move |numbers| {
        let counted = numbers.key_by(|_| 0u8).process("count", CountIn(count));
        counted.sink("out", |s| s.json());
    });
    said_by(move || {
        let numbers = [["1", "2", "3", "4"]];
        testing::run(job)
            .source("numbers", numbers)
            .expect("out", ["1", "2", "3", "4"]);
    })
}

#[test]
fn a_test_finds_state_that_does_not_come_back() {
    let said = test_of::<More>(|state| {
        state.0 += 1;
        state.0
    });
    assert!(said.contains("More"), "{said}");
    assert!(said.contains("comes back as another value"), "{said}");
    let said = test_of::<Forgets>(|state| {
        (state.0, state.1) = (true, state.1 + 1);
        state.1
    });
    assert!(said.contains("Records(1)"), "a run that differs: {said}");
}

/// What the test of a job over two partitions says.
fn test_of_two(describe: impl Fn(EventStream<'_, i64>) + Send + Sync + 'static) -> String {
    let job = job(describe);
    said_by(move || {
        let test = testing::run(job).source("numbers", [["1", "3", "5"], ["2", "4", "6"]]);
        _ = test.answer(&["out"]);
    })
}

#[test]
fn a_test_finds_an_operator_that_looks_at_arrival() {
    let said = test_of_two(|numbers| {
        let mut nth = 0;
        let arrived = numbers.map(move |n| {
            nth += 1;
            (nth, n)
        });
        arrived.sink("out", |s| s.json());
    });
    assert!(said.starts_with("two runs differ: "), "{said}");
    assert!(said.contains("sink `out`: only the first has ["), "{said}");
}

#[test]
fn a_test_finds_an_operator_that_looks_at_its_worker() {
    let said = test_of_two(|numbers| {
        let here = || thread::current().name().map(str::to_owned);
        numbers.map(move |n| (here(), n)).sink("out", |s| s.json());
    });
    assert!(said.starts_with("two runs differ: "), "{said}");
    assert!(
        said.contains("workers: 1") && said.contains("workers: 2"),
        "{said}"
    );
}

/// Begins so, adds so, and combines so.
struct Own<A>(fn() -> A, fn(&mut A, i64), fn(&mut A, A));

impl<A: State> Aggregate<i64> for Own<A> {
    type Input = i64;
    type Acc = A;
    type Out = A;
    fn input(&self, value: &i64) -> i64 {
        *value
    }
    fn init(&self) -> A {
        (self.0)()
    }
    fn add(&self, acc: &mut A, input: i64) {
        (self.1)(acc, input);
    }
    fn merge(&self, acc: &mut A, other: A) {
        (self.2)(acc, other);
    }
    fn finish(&self, acc: &A) -> A {
        acc.clone()
    }
}

#[test]
fn each_law_that_an_aggregate_breaks_is_found() {
    let numbers = [1, 2, 3];
    let sum = Own::<i64>(|| 0, |acc, n| *acc += n, |acc, other| *acc += other);
    testing::assert_laws(&sum, &numbers);
    // The last one to come.
    let last = Own::<Option<i64>>(
        || None,
        |acc, n| *acc = Some(n),
        |acc, other| *acc = other.or(*acc),
    );
    let said = said_by(|| testing::assert_laws(&last, &numbers));
    assert!(
        said.contains("commutative: [0, 2, 1] of [1, 2, 3]"),
        "{said}"
    );
    // Combined in another way than added.
    let both = Own::<i64>(
        || 0,
        |acc, n| *acc += n,
        |acc, other| *acc = other.max(*acc),
    );
    let said = said_by(|| testing::assert_laws(&both, &numbers));
    assert!(
        said.contains("associative: [0, 1, 2] split at 1 of"),
        "{said}"
    );
    // It begins with something.
    let some = Own::<i64>(|| 1, |acc, n| *acc += n, |acc, other| *acc += other);
    let said = said_by(|| testing::assert_laws(&some, &numbers));
    assert!(
        said.contains("associative: [0, 1, 2] split at 0 of"),
        "{said}"
    );
    // It does not come back from the form of state.
    let more = Own::<More>(
        More::default,
        |acc, n| acc.0 += n,
        |acc, other| acc.0 += other.0,
    );
    let said = said_by(|| testing::assert_laws(&more, &numbers));
    assert!(said.contains("comes back as another value"), "{said}");
}

#[test]
fn letters_that_are_not_at_hand_cannot_be_taken() {
    let error = error_of(|numbers| {
        let ordered = numbers.key_by(|_| 0u8).order().events();
        ordered
            .late(|late| late.sink("late"))
            .late(|late| late.sink("late"))
            .sink("out", |s| s.json());
    });
    assert_eq!(error.kind(), ErrorKind::Usage);
    let said = "late: the letters of this stream are not at hand here";
    assert_eq!(error.to_string(), said);
}
