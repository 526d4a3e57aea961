//! A job with every kind of state, which is fed by hand: so that what it saves is always the same.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use timely::dataflow::operators::vec::Input;
use timely::dataflow::operators::{Inspect, Probe};
use timely::dataflow::{InputHandleVec, ProbeHandle};
use timely::worker::Worker;

use crate::event::{Event, Position};
use crate::observe::Metrics;
use crate::operators::{Process, ProcessContext};
use crate::state::checkpoints::Continued;
use crate::state::saved::Parcel;
use crate::state::{Checkpoints, Note};
use crate::stream::{Context, EventStream, LettersAt, Pressure, Sequence, Shared};
use crate::time::{Epoch, EventTime, Progress, Tumbling};

/// A value of every shape that state has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Item {
    key: String,
    id: u64,
    number: i64,
    share: f64,
    kind: Kind,
    note: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
enum Kind {
    Plain,
    Of(i16),
    Named { name: char, flag: bool },
}

/// What is fed between two checkpoints, and how far time is then.
#[derive(Clone, Debug)]
pub(super) struct Part {
    events: Vec<Event<Item>>,
    progress: Progress,
    /// The checkpoint behind it saves everything.
    full: bool,
}

/// What a run gave.
#[derive(Debug, Default)]
pub(super) struct Ran {
    pub(super) results: Vec<String>,
    /// Of each checkpoint.
    pub(super) parcels: Vec<Vec<Vec<u8>>>,
    /// What the operators said that saving everything would take.
    pub(super) live: Vec<u64>,
    pub(super) stateful: Vec<(String, String)>,
}

fn item(nth: u64, time: i64) -> Event<Item> {
    let kind = match nth % 3 {
        0 => Kind::Plain,
        1 => Kind::Of(i16::try_from(nth).unwrap() - 20),
        _ => Kind::Named {
            name: char::from_u32(0x3b1 + u32::try_from(nth % 20).unwrap()).unwrap(),
            flag: nth.is_multiple_of(2),
        },
    };
    // Far apart, so that their exact sum is wide; and some that are next to nothing.
    let share = [1.5e300, -0.1, 3e-310, 2.5][usize::try_from(nth % 4).unwrap()];
    Event {
        at: Position {
            time: EventTime::from_millis(time),
            source: 0,
            partition: u32::try_from(nth % 4).unwrap(),
            offset: 100 + nth,
            index: nth << 16,
        },
        value: Item {
            key: format!("key-{}", nth % 5),
            id: nth % 11,
            number: i64::try_from(nth).unwrap() * 1_000_003 - 5_000_000,
            share: if nth % 5 == 2 { 0.25 } else { share },
            kind,
            note: (nth % 2 == 1).then(|| format!("note {nth} ä")),
        },
    }
}

fn until(watermark: i64) -> Progress {
    Progress {
        watermark: EventTime::from_millis(watermark),
        horizon: EventTime::from_millis(watermark - 10),
        last: EventTime::NEVER,
    }
}

impl Part {
    /// What is saved behind it is everything.
    pub(super) fn whole(self) -> Self {
        Self { full: true, ..self }
    }

    /// A part that is saved whole, two of which changes are saved, and the rest.
    pub(super) fn all() -> [Self; 4] {
        let ends = Progress {
            watermark: EventTime::END,
            horizon: EventTime::END,
            last: EventTime::from_millis(190),
        };
        let part = |from: u64, to: u64, progress| Self {
            // Seven milliseconds apart, and every third one late.
            events: (from..to)
                .map(|nth| {
                    let late = i64::from(nth % 3 == 0) * 12;
                    item(nth, i64::try_from(nth).unwrap() * 7 - late)
                })
                .collect(),
            progress,
            full: from == 0,
        };
        [
            part(0, 8, until(40)),
            part(8, 15, until(90)),
            part(15, 19, until(120)),
            part(19, 26, ends),
        ]
    }
}

/// Knows how often a key was seen, and its last note; gives them when the key was silent.
struct Silence;

impl Process for Silence {
    type Key = (Kind, bool);
    type In = Item;
    type Out = String;
    type State = (u32, Option<String>);

    fn on_event(
        &self,
        seen: &mut Self::State,
        event: &Event<Item>,
        cx: &mut ProcessContext<'_, Self>,
    ) {
        let time = event.at.time.millis();
        *seen = (seen.0 + 1, event.value.note.clone());
        cx.set_timer(time + 45);
        cx.set_timer(time + 60 + 140 * i64::from(event.value.id % 2 == 1));
        if event.value.number % 2 == 0 {
            cx.clear_timer(time + 45);
        }
    }

    fn on_timer(&self, seen: &mut Self::State, at: EventTime, cx: &mut ProcessContext<'_, Self>) {
        let said = format!("{:?} {seen:?}", cx.key());
        cx.emit(said);
        if seen.0 % 2 == 0 {
            cx.set_timer(at.plus(15));
        }
        *seen = (seen.0 / 2, None);
    }

    fn ttl(&self) -> Option<Duration> {
        Some(Duration::from_millis(500))
    }
}

type Results = Rc<RefCell<Vec<String>>>;

/// All operators that keep state, side by side.
fn describe(items: &EventStream<'_, Item>, results: &Results) {
    let keyed = || items.clone().key_by(|item| item.key.clone());
    let millis = Duration::from_millis;
    show(
        "dedup",
        items.clone().dedup(|item| item.id, millis(120)),
        results,
    );
    let eager = items
        .clone()
        .dedup_eager(|item| item.kind.clone(), millis(90));
    show("dedup_eager", eager, results);
    show("order", keyed().order().events(), results);
    let windows = keyed().window(Tumbling::of(millis(50)));
    let sums = windows.aggregate(|a| {
        (
            a.count(),
            a.sum(|item| item.number),
            a.sum(|item| item.share),
            a.avg(|item| item.number),
            a.avg(|item| item.share),
            a.min(|item| item.number),
            a.max(|item| item.key.clone()),
            a.count_by(|item| item.kind.clone()),
        )
    });
    show("sums", sums.emit_final(), results);
    let by_kind = items.clone().key_by(|item| item.kind.clone());
    let ends = by_kind.window(Tumbling::of(millis(40))).aggregate(|a| {
        (
            a.first(|item| item.note.clone()),
            a.last(|item| item.id),
            a.max(|item| item.share),
            a.fold(
                |item| item.id,
                || 0u64,
                |bits, id| *bits |= 1 << id,
                |bits, other| *bits |= other,
            ),
        )
    });
    show("ends", ends.emit_final(), results);
    let silent = items
        .clone()
        .key_by(|item| (item.kind.clone(), item.id.is_multiple_of(2)));
    show("silence", silent.process("silence", Silence), results);
}

fn show<T: Clone + std::fmt::Debug + 'static>(
    name: &'static str,
    stream: EventStream<'_, T>,
    results: &Results,
) {
    let results = Rc::clone(results);
    let probe = stream.cx.probe.clone();
    let _ = stream
        .events
        .inspect(move |event| {
            let line = format!("{name} at {} {:?}", event.at.time.millis(), event.value);
            results.borrow_mut().push(line);
        })
        .probe_with(&probe);
}

/// A worker's dataflow, and how it is fed.
struct Fed {
    items: InputHandleVec<Epoch, Event<Item>>,
    progress: InputHandleVec<Epoch, Progress>,
    probe: ProbeHandle<Epoch>,
    results: Results,
    stateful: Vec<(String, String)>,
}

fn build(worker: &mut Worker, checkpoints: &Arc<Checkpoints>) -> Fed {
    let shared = Rc::new(Shared {
        worker: worker.index(),
        workers: worker.peers(),
        control: Arc::default(),
        metrics: Arc::new(Metrics::new(worker.peers())),
        board: Arc::default(),
        budget: Arc::default(),
        pressure: Pressure::with_limit(usize::MAX),
        plugs: Rc::new(()),
        checkpoints: Some(Arc::clone(checkpoints)),
        round_trip: false,
    });
    worker.dataflow(|scope| {
        let (items, events) = scope.new_input();
        let (handle, progress) = scope.new_input();
        let cx = Rc::new(Context {
            scope,
            probe: ProbeHandle::new(),
            params: Arc::default(),
            description: RefCell::default(),
            letters: RefCell::default(),
            doors: RefCell::default(),
            shared,
        });
        let stream = EventStream {
            cx: Rc::clone(&cx),
            events,
            progress,
            closings: Vec::new(),
            branches: vec![Sequence::Log],
            letters: LettersAt::default(),
        };
        let results = Results::default();
        describe(&stream, &results);
        Fed {
            items,
            progress: handle,
            probe: cx.probe.clone(),
            results,
            stateful: cx.description.take().stateful,
        }
    })
}

/// Feeds `parts`, an epoch each; behind each a single worker makes a checkpoint.
pub(super) fn run(workers: usize, continued: Continued, parts: Vec<Part>) -> Ran {
    let (tell, notes) = channel();
    let checkpoints = Arc::new(Checkpoints::new(tell, false, continued));
    let notes = Mutex::new(notes);
    let config = timely::Config::process(workers);
    let guards = timely::execute(config, move |worker| {
        let fed = build(worker, &checkpoints);
        let saves = (worker.peers() == 1).then(|| notes.lock().unwrap());
        feed(worker, fed, &parts, &checkpoints, saves.as_deref())
    });
    let mut all = Ran::default();
    for ran in guards.unwrap().join() {
        let ran = ran.unwrap();
        all.results.extend(ran.results);
        (all.parcels, all.live) = (ran.parcels, ran.live);
        all.stateful = ran.stateful;
    }
    all
}

fn feed(
    worker: &mut Worker,
    fed: Fed,
    parts: &[Part],
    checkpoints: &Checkpoints,
    saves: Option<&Receiver<Note>>,
) -> Ran {
    let Fed {
        mut items,
        mut progress,
        probe,
        results,
        stateful,
    } = fed;
    let (mut parcels, mut live) = (Vec::new(), Vec::new());
    for (part, epoch) in parts.iter().zip((0..).map(Epoch::new)) {
        if worker.index() == 0 {
            part.events
                .iter()
                .for_each(|event| items.send(event.clone()));
        }
        progress.send(part.progress);
        items.flush();
        if saves.is_some() {
            checkpoints.want(part.full);
            checkpoints.cut(epoch, epoch.next(), false);
        }
        items.advance_to(epoch.next());
        progress.advance_to(epoch.next());
        while probe.less_than(&epoch.next()) {
            worker.step();
        }
        if let Some(notes) = saves {
            let (all, of_all) = saved(worker, notes, stateful.len());
            parcels.push(all);
            live.push(of_all);
            checkpoints.commit();
        }
    }
    drop((items, progress));
    while worker.step() {}
    let results = results.take();
    Ran {
        results,
        parcels,
        live,
        stateful,
    }
}

/// What the operators save, in the order of their names: that in which timely runs them is its own.
/// And what they say that all of it takes.
fn saved(worker: &mut Worker, notes: &Receiver<Note>, operators: usize) -> (Vec<Vec<u8>>, u64) {
    let (mut parcels, mut saved, mut all) = (Vec::new(), 0, 0);
    while saved < operators {
        worker.step();
        for note in notes.try_iter() {
            match note {
                Note::Parcel { bytes, .. } => parcels.push(bytes),
                Note::Saved { live, .. } => (saved, all) = (saved + 1, all + live),
                _ => {}
            }
        }
    }
    parcels.sort_by_key(|bytes| Parcel::read(bytes).unwrap().operator.to_owned());
    (parcels, all)
}
