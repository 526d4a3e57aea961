//! Letters in code: what becomes of late events and dead letters where the ports `late` and `dead`
//! will not do.

use std::rc::Rc;

use timely::dataflow::operators::vec::{Filter, Map};

use super::sink_port::{SinkFormat, SinkPort};
use super::writer::write_letters;
use crate::event::{Event, Letter, Position};
use crate::state::State;
use crate::stream::{EventStream, LetterStream, LettersAt};
use crate::time::EventTime;

impl<'scope, T: State> EventStream<'scope, T> {
    /// Takes the late events of its source, which would else go to the port `late`. To be called
    /// before any operator that keeps state.
    ///
    /// # Example
    /// ```
    /// # use anabranch::prelude::*;
    /// # fn describe(flow: &Flow<'_>) -> Result {
    /// flow.source::<i64>("numbers")
    ///     .json()
    ///     .event_time(|n| *n, Watermarks::lag(Duration::ZERO))
    ///     .late(|late| late.sink("too_late"))
    ///     .key_by(|n| n % 10)
    ///     .order()
    ///     .events()
    ///     .sink("ordered", |s| s.json());
    /// # Ok(())
    /// # }
    /// # Job::new("late", describe).describe(&Settings::new()).unwrap();
    /// ```
    pub fn late(self, take: impl FnOnce(LetterStream<'scope>)) -> Self {
        let at = self.letters.late;
        let letters = at.and_then(|nth| self.cx.letters.borrow_mut().late[nth].take());
        self.hand_over("late", letters, take);
        let letters = LettersAt {
            late: None,
            ..self.letters
        };
        Self { letters, ..self }
    }

    /// Takes the dead letters of the step in front that makes any, which would else go to the port
    /// `dead`: of `try_map` or `process` what it refuses, else what its source cannot use. To be
    /// called before any operator that keeps state.
    ///
    /// # Example
    /// ```
    /// # use anabranch::prelude::*;
    /// # fn describe(flow: &Flow<'_>) -> Result {
    /// flow.source::<i64>("numbers")
    ///     .json()
    ///     .event_time(|n| *n, Watermarks::lag(Duration::ZERO))
    ///     .dead(|dead| dead.sink_as("errors", |letter| letter.cause.to_string(), |s| s.json()))
    ///     .sink("copy", |s| s.json());
    /// # Ok(())
    /// # }
    /// # Job::new("dead", describe).describe(&Settings::new()).unwrap();
    /// ```
    pub fn dead(self, take: impl FnOnce(LetterStream<'scope>)) -> Self {
        let at = self.letters.dead;
        let letters = at.and_then(|nth| self.cx.letters.borrow_mut().dead[nth].take());
        self.hand_over("dead", letters, take);
        let letters = LettersAt {
            dead: None,
            ..self.letters
        };
        Self { letters, ..self }
    }

    fn hand_over(
        &self,
        what: &str,
        letters: Option<timely::dataflow::StreamVec<'scope, crate::time::Epoch, Letter>>,
        take: impl FnOnce(LetterStream<'scope>),
    ) {
        match letters {
            Some(letters) => take(LetterStream {
                cx: Rc::clone(&self.cx),
                letters,
                sequence: self.sequence(),
            }),
            None => self.cx.refuse(format!(
                "{what}: the letters of this stream are not at hand here"
            )),
        }
    }
}

impl LetterStream<'_> {
    /// Keeps the letters for which `keep` holds; the others are gone.
    pub fn filter(self, mut keep: impl FnMut(&Letter) -> bool + 'static) -> Self {
        let letters = self.letters.filter(move |letter| keep(letter));
        Self { letters, ..self }
    }

    /// Shows each letter to `look` and passes it on.
    pub fn inspect(self, mut look: impl FnMut(&Letter) + 'static) -> Self {
        let letters = self.letters.map(move |letter| {
            look(&letter);
            letter
        });
        Self { letters, ..self }
    }

    /// Writes the letters to the sink port `name`, in the form of those of `late` and `dead`.
    pub fn sink(self, name: &str) {
        write_letters(&self.cx, self.letters, name);
    }

    /// Writes what `value` makes of each letter to the sink port `name`, as
    /// [`EventStream::sink`] does.
    pub fn sink_as<T: State>(
        self,
        name: &str,
        mut value: impl FnMut(Letter) -> T + 'static,
        format: impl FnOnce(SinkPort<T>) -> SinkFormat<T>,
    ) {
        let Self { cx, letters, .. } = self;
        let events = letters.map(move |letter| Event {
            at: place(&letter),
            value: value(letter),
        });
        EventStream {
            events,
            progress: timely::dataflow::operators::generic::operator::empty(cx.scope),
            closings: Vec::new(),
            branches: vec![self.sequence],
            letters: LettersAt::default(),
            cx,
        }
        .sink(name, format);
    }
}

/// Where a letter stands: by the stamp of its record, for its own time may be what is wrong.
fn place(letter: &Letter) -> Position {
    Position {
        time: letter.timestamp.unwrap_or(EventTime::from_millis(0)),
        source: u16::MAX,
        partition: letter.partition,
        offset: letter.offset,
        index: 0,
    }
}
