//! Sinks that show results to a person.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use anabranch::connectors::{Batch, Share, Sink, Style, Writer, Written};
use anabranch::{Error, Result};
use serde::Deserialize;

/// Sums results by minute and prints a line for each.
#[derive(Clone, Debug, Default)]
pub(super) struct Minutes(Arc<Mutex<BTreeMap<i64, Minute>>>);

#[derive(Debug, Default)]
struct Minute {
    users: u64,
    events: u64,
    by_type: BTreeMap<String, u64>,
    busiest: (u64, String),
}

/// What is looked at of a result.
#[derive(Deserialize)]
struct Shown {
    #[serde(rename = "userId")]
    user_id: String,
    window_start: i64,
    events: u64,
    by_type: BTreeMap<String, u64>,
}

impl Minutes {
    fn add(&self, batch: &Batch) -> Result {
        let mut minutes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for record in &batch.records {
            let value = batch.value(record).unwrap_or_default();
            let shown: Shown = sonic_rs::from_slice(value)
                .map_err(|why| Error::operating("a result cannot be read back").because(why))?;
            let minute = minutes.entry(shown.window_start).or_default();
            minute.users += 1;
            minute.events += shown.events;
            for (kind, count) in shown.by_type {
                *minute.by_type.entry(kind).or_default() += count;
            }
            minute.busiest = minute.busiest.clone().max((shown.events, shown.user_id));
        }
        Ok(())
    }

    /// Prints all minutes but the last few, or all.
    fn print(&self, all: bool) -> Result {
        let mut minutes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while minutes.len() > if all { 0 } else { 3 } {
            let Some((start, minute)) = minutes.pop_first() else {
                break;
            };
            let (hour, of_hour) = (start / 3_600_000 % 24, start / 60_000 % 60);
            let kinds: Vec<_> = minute
                .by_type
                .iter()
                .map(|(kind, count)| format!("{kind} {count}"))
                .collect();
            let (most, who) = minute.busiest;
            print(&format!(
                "{hour:02}:{of_hour:02}  {:>5} users  {:>6} events  {:<52} busiest {who} ({most})",
                minute.users,
                minute.events,
                kinds.join("  "),
            ))?;
        }
        Ok(())
    }
}

fn print(line: &str) -> Result {
    let written = writeln!(io::stdout().lock(), "{line}");
    written.map_err(|cause| Error::operating("stdout").because(cause))
}

impl Sink for Minutes {
    fn describe(&self) -> String {
        "the terminal".to_owned()
    }
    fn style(&self) -> Style {
        Style::Lines
    }
    fn prepare(&self) -> Result {
        Ok(())
    }
    fn open(&self, _: Share) -> Result<Box<dyn Writer>> {
        Ok(Box::new(MinutesWriter(self.clone())))
    }
    fn finish(&self, _: bool) -> Result {
        self.print(true)
    }
}

struct MinutesWriter(Minutes);

impl Writer for MinutesWriter {
    fn write(&mut self, batch: &Batch, _: usize) -> Result<Written> {
        self.0.add(batch)?;
        Ok(Written::All)
    }
    fn flush(&mut self) -> Result {
        // A few minutes back every worker has fired.
        self.0.print(false)
    }
    fn close(&mut self) -> Result {
        Ok(())
    }
}

/// Prints the first letters and counts on.
#[derive(Clone, Debug)]
pub(super) struct FirstLetters {
    name: &'static str,
    left: Arc<Mutex<usize>>,
}

impl FirstLetters {
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            left: Arc::new(Mutex::new(2)),
        }
    }
}

impl Sink for FirstLetters {
    fn describe(&self) -> String {
        "the terminal".to_owned()
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
    fn finish(&self, _: bool) -> Result {
        Ok(())
    }
}

impl Writer for FirstLetters {
    fn write(&mut self, batch: &Batch, from: usize) -> Result<Written> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        for record in batch.records[from..].iter().take(*left) {
            *left -= 1;
            let line = String::from_utf8_lossy(batch.value(record).unwrap_or_default());
            let cut: String = line.chars().take(150).collect();
            let dots = if cut.len() < line.len() { "…" } else { "" };
            print(&format!("  {}: {cut}{dots}", self.name))?;
        }
        Ok(Written::All)
    }
    fn flush(&mut self) -> Result {
        Ok(())
    }
    fn close(&mut self) -> Result {
        Ok(())
    }
}
