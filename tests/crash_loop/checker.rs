//! Judges what a read-committed reader sees, record by record, in the order in which it is read.
//!
//! - Each output record is known to the oracle, has its content, stands where it belongs, and is
//!   there once; those of a key keep their order; offsets rise.
//! - Progress records rise, and say of the log what the log says.
//! - What became visible between two progress records is what the oracle has between their two
//!   cuts, no more and no less. By induction each committed prefix is the oracle's answer to its
//!   cut.
//! - In the end all is there, nothing is left over, and a second reading sees the same.
//!
//! A progress record tells the end offsets of the outputs, so what belongs to it is known exactly.
//! [`GRACE`] after it was read, what it covers has been read too, and what was visible before is
//! covered by a later one.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt::Display;
use std::time::Duration;

use super::expected::{Content, Cut, Expected, Id, Port, id_of, parts_of};
use super::progress::{Names, PROGRESS_KEY, Progress};
use super::visible::{Visible, letter_of};
use crate::oracle::compare;
use crate::oracle::json::canonical;
use crate::topics::java_partition;

/// Far longer than a reader of one topic lags behind a reader of another, broker restarts included.
pub(crate) const GRACE: Duration = Duration::from_mins(1);
/// More problems of a kind than these are counted and not told.
const TOLD: usize = 6;

/// What is read, in the order in which it is read.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Output(Visible),
    Progress {
        offset: i64,
        key: Option<Vec<u8>>,
        value: Vec<u8>,
    },
    /// The time goes on; sent only while the broker answers.
    Time,
}

/// How what is visible may differ from the oracle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Lost,
    Twice,
    Different,
}

/// How many differences there are, of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) lost: usize,
    pub(crate) twice: usize,
    pub(crate) different: usize,
}

impl Tally {
    pub(crate) fn add(&mut self, fault: Fault, count: usize) {
        *match fault {
            Fault::Lost => &mut self.lost,
            Fault::Twice => &mut self.twice,
            Fault::Different => &mut self.different,
        } += count;
    }
}

/// A record that was read.
#[derive(Clone, Debug)]
struct Read {
    offset: i64,
    /// If it is one that the oracle knows, and was not there before.
    item: Option<usize>,
    at: Duration,
    print: u64,
}

/// A progress record whose outputs have not all been read.
#[derive(Debug)]
struct Waiting {
    progress: Progress,
    /// Ends of all outputs, those that it does not tell taken from the one before.
    ends: [Vec<i64>; 3],
    at: Duration,
}

#[derive(Debug)]
pub(crate) struct Checker {
    expected: Expected,
    names: Names,
    /// Whether there is a progress topic at all.
    has_progress: bool,
    read: [Vec<Vec<Read>>; 3],
    /// How many records of each partition are covered by a checked progress record.
    covered: [Vec<usize>; 3],
    /// Items that were said to be lost.
    lost: HashSet<usize>,
    /// In which checkpoint an item became visible; 0: it is there, and in none yet.
    seen: HashMap<usize, u64>,
    /// The last window of each key.
    newest: HashMap<String, i64>,
    progress: Option<Progress>,
    progress_offset: i64,
    ends: [Vec<i64>; 3],
    waiting: VecDeque<Waiting>,
    /// The cut up to which all is checked, and its horizon.
    checked: (Cut, i64),
    /// Checkpoints read.
    pub(crate) checkpoints: usize,
    /// Their cuts.
    pub(crate) cuts: Vec<Cut>,
    pub(crate) tally: Tally,
    pub(crate) problems: Vec<String>,
}

impl Checker {
    /// `partitions` of the three outputs.
    pub(crate) fn new(
        expected: Expected,
        names: Names,
        partitions: usize,
        has_progress: bool,
    ) -> Self {
        let start = expected.start();
        let horizon = expected.horizon(&start);
        Self {
            expected,
            names,
            has_progress,
            read: [(); 3].map(|()| vec![Vec::new(); partitions]),
            covered: [(); 3].map(|()| vec![0; partitions]),
            lost: HashSet::new(),
            seen: HashMap::new(),
            newest: HashMap::new(),
            progress: None,
            progress_offset: -1,
            ends: [(); 3].map(|()| vec![0; partitions]),
            waiting: VecDeque::new(),
            checked: (start, horizon),
            checkpoints: 0,
            cuts: Vec::new(),
            tally: Tally::default(),
            problems: Vec::new(),
        }
    }

    /// Takes what was read `at` that time.
    pub(crate) fn take(&mut self, entry: &Entry, at: Duration) {
        match entry {
            Entry::Output(record) => self.output(record, at),
            Entry::Progress { offset, key, value } => {
                if let Err(why) = self.progress(*offset, key.as_deref(), value, at) {
                    self.problem(Fault::Different, format!("progress at {offset}: {why}"));
                }
            }
            Entry::Time => self.time(at),
        }
        self.settle();
    }

    /// Output records read so far.
    pub(crate) fn records(&self) -> usize {
        self.read.iter().flatten().map(Vec::len).sum()
    }

    /// The last progress record.
    pub(crate) fn last(&self) -> Option<&Progress> {
        self.progress.as_ref()
    }

    pub(crate) fn expected(&self) -> &Expected {
        &self.expected
    }

    fn problem(&mut self, fault: Fault, text: impl Display) {
        self.tally.add(fault, 1);
        let kind = format!("{fault:?}: ");
        let told = self.problems.iter().filter(|told| told.starts_with(&kind));
        if told.count() < TOLD {
            self.problems.push(format!("{kind}{text}"));
        }
    }

    // ------------------------------------------------------------------------------------ outputs

    fn output(&mut self, record: &Visible, at: Duration) {
        let port = record.port.index();
        let before = self.read[port][record.partition].last();
        if before.is_some_and(|before| record.offset <= before.offset) {
            self.problem(
                Fault::Different,
                format!("{record} comes after a later one"),
            );
            return;
        }
        let item = match self.identify(record) {
            Ok((item, found)) => {
                if let Err(why) = self.compare(record, item, &found) {
                    self.problem(Fault::Different, format!("{record}: {why}"));
                }
                Some(item)
            }
            Err((fault, why)) => {
                self.problem(fault, format!("{record}: {why}"));
                None
            }
        };
        self.read[port][record.partition].push(Read {
            offset: record.offset,
            item,
            at,
            print: record.print(),
        });
    }

    /// Which item of the oracle it is, and what it says.
    fn identify(&mut self, record: &Visible) -> Result<(usize, Content), (Fault, String)> {
        let (id, found) = read(record).map_err(|why| (Fault::Different, why))?;
        let Some(item) = self.expected.by_id.get(&id).copied() else {
            let why = "the oracle knows nothing of it".to_owned();
            return Err((Fault::Different, why));
        };
        if self.seen.contains_key(&item) {
            return Err((Fault::Twice, "it was there before".to_owned()));
        }
        self.seen.insert(item, 0);
        Ok((item, found))
    }

    fn compare(&mut self, record: &Visible, item: usize, found: &Content) -> Result<(), String> {
        let wanted = &self.expected.items[item];
        if record.key != wanted.key {
            return Err(format!("its key should be {:?}", wanted.key));
        }
        match (&wanted.content, found) {
            (Content::Result(wanted), Content::Result(found)) if wanted != found => {
                return Err(format!("expected {wanted}"));
            }
            (Content::Letter(wanted), Content::Letter(found)) => {
                let (wanted, found) = (std::slice::from_ref(wanted), std::slice::from_ref(found));
                compare::letters(wanted, found)?;
            }
            _ => {}
        }
        let Id::Result(key, start) = &wanted.id else {
            return Ok(());
        };
        let partitions = i32::try_from(self.read[0].len()).expect("few partitions");
        let home = java_partition(record.key.as_deref().unwrap_or_default(), partitions);
        if usize::try_from(home) != Ok(record.partition) {
            return Err(format!("it belongs to partition {home}"));
        }
        let newest = self.newest.insert(key.clone(), *start);
        match newest.filter(|newest| newest >= start) {
            Some(newest) => Err(format!("its key was at {newest} already")),
            None => Ok(()),
        }
    }

    // ----------------------------------------------------------------------------------- progress

    fn progress(
        &mut self,
        offset: i64,
        key: Option<&[u8]>,
        value: &[u8],
        at: Duration,
    ) -> Result<(), String> {
        if offset <= self.progress_offset {
            return Err(format!("it comes after {}", self.progress_offset));
        }
        self.progress_offset = offset;
        // Other keys are the engine's own business.
        if key != Some(PROGRESS_KEY.as_bytes()) {
            return Ok(());
        }
        let progress = Progress::parse(value, &self.names, self.expected.partitions())?;
        progress.agrees(&self.expected)?;
        if let Some(before) = &self.progress {
            progress.follows(before)?;
        }
        for (ends, told) in self.ends.iter_mut().zip(&progress.ends) {
            for (end, told) in ends.iter_mut().zip(told) {
                *end = told.unwrap_or(*end);
            }
        }
        self.checkpoints += 1;
        self.cuts.push(progress.cut.clone());
        self.progress = Some(progress.clone());
        self.waiting.push_back(Waiting {
            progress,
            ends: self.ends.clone(),
            at,
        });
        Ok(())
    }

    /// Checks the progress records whose outputs have all been read.
    fn settle(&mut self) {
        while let Some(waiting) = self.waiting.front() {
            if self.missing(&waiting.ends).is_some() {
                return;
            }
            let Some(Waiting { progress, ends, .. }) = self.waiting.pop_front() else {
                return;
            };
            self.check(&progress, &ends);
        }
    }

    /// An output that has not been read up to its end: port, partition, end.
    fn missing(&self, ends: &[Vec<i64>; 3]) -> Option<(Port, usize, i64)> {
        let outputs = Port::ALL.iter().zip(ends).zip(&self.read);
        let mut each = outputs.flat_map(|((port, ends), read)| {
            let parts = ends.iter().zip(read).enumerate();
            parts.map(|(partition, (end, read))| (*port, partition, *end, read))
        });
        let missing = each.find(|(.., end, read)| {
            let position = read.last().map_or(0, |read| read.offset + 1);
            position < *end
        });
        missing.map(|(port, partition, end, _)| (port, partition, end))
    }

    /// What lies between the last checked record and this one is what lies between their cuts.
    fn check(&mut self, progress: &Progress, ends: &[Vec<i64>; 3]) {
        let (cut, horizon) = (&progress.cut, self.expected.horizon(&progress.cut));
        let (old_cut, old_horizon) = self.checked.clone();
        let number = progress.checkpoint.max(1);
        let mut wrong = Vec::new();
        for (port, ends) in ends.iter().enumerate() {
            for (partition, end) in ends.iter().enumerate() {
                let all = &self.read[port][partition];
                let from = self.covered[port][partition];
                let to = from + all[from..].partition_point(|read| read.offset < *end);
                for item in all[from..to].iter().filter_map(|read| read.item) {
                    self.seen.insert(item, number);
                    let was = self.expected.is_shown(item, &old_cut, old_horizon);
                    if was || !self.expected.is_shown(item, cut, horizon) {
                        let when = if was { "an earlier" } else { "a later" };
                        wrong.push((item, format!("it belongs to {when} one")));
                    }
                }
                self.covered[port][partition] = to;
            }
        }
        let due = self.due(cut, horizon);
        self.checked = (cut.clone(), horizon);
        for item in due {
            if self.seen.get(&item) == Some(&number) {
                continue;
            }
            if self.seen.contains_key(&item) {
                wrong.push((item, "it is missing there".to_owned()));
            } else {
                self.lose(item, &format!("checkpoint {number}"));
            }
        }
        for (item, why) in wrong {
            let id = &self.expected.items[item].id;
            let why = format!("checkpoint {number}: {id:?}: {why}");
            self.problem(Fault::Different, why);
        }
    }

    // --------------------------------------------------------------------------------------- time

    /// What has to be true by now.
    fn time(&mut self, at: Duration) {
        while let Some(waiting) = self.waiting.front() {
            if at.saturating_sub(waiting.at) < GRACE {
                break;
            }
            let number = waiting.progress.checkpoint;
            let missing = self.missing(&waiting.ends);
            let why = format!("checkpoint {number} told of what is not visible: {missing:?}");
            self.waiting.pop_front();
            self.problem(Fault::Lost, why);
        }
        self.check_covered(|read| at.saturating_sub(read.at) >= GRACE);
    }

    /// What becomes visible between the cut that was checked last and this one.
    fn due(&self, cut: &Cut, horizon: i64) -> Vec<usize> {
        let (old_cut, old_horizon) = &self.checked;
        let expected = &self.expected;
        let is_due = |item: &usize| {
            expected.is_shown(*item, cut, horizon)
                && !expected.is_shown(*item, old_cut, *old_horizon)
        };
        (0..expected.items.len()).filter(is_due).collect()
    }

    /// Says once that it is not there.
    fn lose(&mut self, item: usize, when: &str) {
        if self.lost.insert(item) {
            let id = self.expected.items[item].id.clone();
            self.problem(Fault::Lost, format!("{when}: {id:?}"));
        }
    }

    /// What was read and is `due` is covered by a progress record.
    fn check_covered(&mut self, due: impl Fn(&Read) -> bool) {
        if !self.has_progress {
            return;
        }
        let mut wrong = Vec::new();
        for (port, read) in self.read.iter().enumerate() {
            for (partition, all) in read.iter().enumerate() {
                let from = self.covered[port][partition];
                for read in all[from..].iter().take_while(|read| due(read)) {
                    wrong.push((port, partition, read.offset));
                    self.covered[port][partition] += 1;
                }
            }
        }
        for (port, partition, offset) in wrong {
            let name = Port::ALL[port].name();
            let why = format!("{name} {partition}@{offset}: no progress record covers it");
            self.problem(Fault::Different, why);
        }
    }

    // ---------------------------------------------------------------------------------------- end

    /// The job has finished and all was read: nothing is missing, and nothing left over.
    pub(crate) fn finish(&mut self) {
        if self.has_progress {
            let finished = self.progress.as_ref().is_some_and(|last| last.finished);
            if !finished {
                self.problem(Fault::Lost, "the last progress is not finished");
            }
            while let Some(waiting) = self.waiting.pop_front() {
                let number = waiting.progress.checkpoint;
                if let Some(missing) = self.missing(&waiting.ends) {
                    let why = format!("checkpoint {number} told of {missing:?}");
                    self.problem(Fault::Lost, why);
                }
            }
            self.check_covered(|_| true);
        }
        let all = 0..self.expected.items.len();
        let lost: Vec<_> = all.filter(|item| !self.seen.contains_key(item)).collect();
        for item in lost {
            self.lose(item, "in the end");
        }
    }

    /// Whether the job is finished and all that it told of was read.
    pub(crate) fn is_complete(&self) -> bool {
        let finished = self.progress.as_ref().is_some_and(|last| last.finished);
        let all = self.seen.len() == self.expected.items.len();
        all && (!self.has_progress || finished) && self.waiting.is_empty()
    }

    /// What a second reader saw of an output, from the start, is what was seen before.
    pub(crate) fn reread(&mut self, port: Port, again: &[Visible]) {
        for (partition, first) in self.read[port.index()].clone().iter().enumerate() {
            let mut second = again.iter().filter(|record| record.partition == partition);
            for read in first {
                let same = second.next().is_some_and(|record| {
                    record.offset == read.offset && record.print() == read.print
                });
                if !same {
                    let name = port.name();
                    let why = format!("{name} {partition}@{}: read again, it differs", read.offset);
                    return self.problem(Fault::Different, why);
                }
            }
            if let Some(more) = second.next() {
                let why = format!("{more}: nobody saw it when it came");
                return self.problem(Fault::Different, why);
            }
        }
    }
}

/// Which record of the oracle this claims to be, and what it says.
fn read(record: &Visible) -> Result<(Id, Content), String> {
    if record.port != Port::Results {
        let letter = letter_of(record)?;
        return Ok((id_of(record.port, &letter), Content::Letter(letter)));
    }
    let value = record.value.as_deref().ok_or("a result without a value")?;
    let (key, _, start) = parts_of(value)?;
    Ok((Id::Result(key, start), Content::Result(canonical(value)?)))
}
