//! Which metrics there are. Base units: seconds (times since 1970 UTC) and bytes.

use std::fs;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use super::exposition::{Exposition, Kind};
use crate::observe::{WorkerMetrics, now};
use crate::runtime::Run;
use crate::time::EventTime;

use Kind::{Counter, Gauge};

/// Everything that `run` counts.
pub(super) fn text(job: &str, run: &Run) -> String {
    let mut out = Exposition::default();
    let about = [("job", job), ("version", env!("CARGO_PKG_VERSION"))];
    let about = about
        .map(|(label, value)| (label, value.to_owned()))
        .to_vec();
    let help = "The job and the version of the engine; always 1.";
    out.family("anabranch_info", Gauge, help, [(about, 1u64)]);
    ports(&mut out, run);
    records(&mut out, run);
    progress(&mut out, run);
    resources(&mut out, run);
    out.text
}

fn label(name: &'static str, value: &(impl ToString + ?Sized)) -> Vec<(&'static str, String)> {
    vec![(name, value.to_string())]
}

/// Records in and out, and what is known of each source and partition.
fn ports(out: &mut Exposition, run: &Run) {
    let (sources, sinks) = (run.board.sources(), run.board.sinks());
    let read = sources.iter().map(|source| {
        let read = source.read.load(Relaxed);
        (label("source", &source.name), read)
    });
    let help = "Records read from a source.";
    out.family("anabranch_source_records_total", Counter, help, read);
    let written = sinks.iter().map(|sink| {
        let written = sink.written.load(Relaxed);
        (label("sink", &sink.name), written)
    });
    let help = "Records that a sink took.";
    out.family("anabranch_sink_records_total", Counter, help, written);
    let lag = sources.iter().flat_map(|source| {
        let partitions = source.partitions().into_iter();
        partitions.filter_map(move |status| {
            let mut labels = label("source", &source.name);
            labels.extend(label("partition", &status.partition));
            Some((labels, status.backlog?))
        })
    });
    let help = "Records that a partition holds beyond what was read, where the log tells.";
    out.family("anabranch_source_lag_records", Gauge, help, lag);
    let watermarks = sources.iter().filter_map(|source| {
        let watermark = seconds(source.watermark())?;
        Some((label("source", &source.name), watermark))
    });
    let help = "Watermark of a source; +Inf at its end, left out while it is not known.";
    out.family(
        "anabranch_source_watermark_seconds",
        Gauge,
        help,
        watermarks,
    );
}

/// What became of records.
fn records(out: &mut Exposition, run: &Run) {
    let sum = |of: fn(&WorkerMetrics) -> &AtomicU64| run.metrics.sum(of);
    let late = [
        (label("reason", "late"), sum(|worker| &worker.late)),
        (label("reason", "idle"), sum(|worker| &worker.idle)),
    ];
    let help = "Late records.";
    out.family("anabranch_records_late_total", Counter, help, late);
    let dead = run.metrics.dead_by_reason().into_iter();
    let dead = dead.map(|(reason, count)| (label("reason", reason.name()), count));
    let help = "Dead letters.";
    out.family("anabranch_records_dead_total", Counter, help, dead);
    let counters: [(_, _, fn(&WorkerMetrics) -> &AtomicU64); 3] = [
        (
            "anabranch_records_entered_total",
            "Records that are neither late nor dead.",
            |worker| &worker.entered,
        ),
        (
            "anabranch_records_duplicate_total",
            "Records that repeat an event.",
            |worker| &worker.duplicates,
        ),
        (
            "anabranch_results_total",
            "Results written, letters left out.",
            |worker| &worker.results,
        ),
    ];
    for (name, help, of) in counters {
        out.one(name, Counter, help, sum(of));
    }
}

/// Where event time and epochs are.
fn progress(out: &mut Exposition, run: &Run) {
    let gauge = |of: fn(&WorkerMetrics) -> &AtomicI64| run.metrics.gauge(of);
    let (p99, max) = run.metrics.lateness(0.99);
    let behind = run.board.behind();
    let times = [
        (
            "anabranch_watermark_seconds",
            "Watermark of the job: that of its source furthest behind.",
            behind.and_then(|source| seconds(source.watermark())),
        ),
        (
            "anabranch_event_time_max_seconds",
            "Largest event time that was read.",
            seconds(run.metrics.largest()),
        ),
        (
            "anabranch_window_next_end_seconds",
            "Earliest end of an open window.",
            seconds(run.metrics.next_end()).filter(|end| end.is_finite()),
        ),
        (
            "anabranch_lateness_p99_seconds",
            "How far 99 in 100 events were at most behind the largest time of their partition.",
            Some(of_millis(p99)),
        ),
        (
            "anabranch_lateness_max_seconds",
            "How far an event was at most behind the largest time of its partition.",
            Some(of_millis(max)),
        ),
    ];
    for (name, help, value) in times {
        let sample = value.map(|value| (Vec::new(), value));
        out.family(name, Gauge, help, sample);
    }
    let help = "Epochs that are read and not complete behind all sinks.";
    let in_flight = run.metrics.in_flight();
    out.one("anabranch_epochs_in_flight", Gauge, help, in_flight);
    let help = "Open windows of all keys.";
    let open = gauge(|worker| &worker.windows_open);
    out.one("anabranch_windows_open", Gauge, help, open);
    let help = "Events that wait for a verdict of `dedup`.";
    out.one(
        "anabranch_events_held",
        Gauge,
        help,
        gauge(|worker| &worker.held),
    );
}

/// What the run takes of the machine.
fn resources(out: &mut Exposition, run: &Run) {
    let operators = run.metrics.held();
    let bytes = operators
        .iter()
        .map(|(name, held)| (label("operator", name), held.bytes));
    let entries = operators
        .iter()
        .map(|(name, held)| (label("operator", name), held.entries));
    let help = "Memory of an operator's state, about.";
    out.family("anabranch_state_bytes", Gauge, help, bytes);
    let help = "Entries of an operator's state.";
    out.family("anabranch_state_entries", Gauge, help, entries);
    let help = "Bytes that all state may take: what --memory leaves beside buffers.";
    out.one(
        "anabranch_state_limit_bytes",
        Gauge,
        help,
        run.budget.state(),
    );
    checkpoints(out, run);
    let workers = run.metrics.workers().iter().enumerate();
    let busy = workers.filter_map(|(worker, told)| {
        let busy = told.life.busy()?.as_secs_f64();
        Some((label("worker", &worker), busy))
    });
    let help = "Time that a worker has spent on a processor.";
    out.family("anabranch_worker_busy_seconds_total", Counter, help, busy);
    let resident = resident_bytes().map(|bytes| (Vec::new(), bytes));
    let help = "Resident memory of the process.";
    out.family("process_resident_memory_bytes", Gauge, help, resident);
}

/// Nothing of a run that has committed none.
fn checkpoints(out: &mut Exposition, run: &Run) {
    let Some(last) = run.checkpoints.last() else {
        return;
    };
    let help = "Number of the last committed checkpoint.";
    out.one("anabranch_checkpoint", Gauge, help, last.number);
    let help = "Bytes on disk that the last committed checkpoint names.";
    out.one("anabranch_checkpoint_bytes", Gauge, help, last.bytes);
    let age = now().duration_since(last.at).as_secs_f64();
    let help = "Time since the last commit; an idle job commits nothing.";
    out.one("anabranch_checkpoint_age_seconds", Gauge, help, age);
    let took = last.took.as_secs_f64();
    let help = "What the last checkpoint took from being gathered to being committed.";
    out.one("anabranch_checkpoint_duration_seconds", Gauge, help, took);
}

/// Seconds since 1970; infinite at the end, nothing where there is no time yet.
fn seconds(time: EventTime) -> Option<f64> {
    match time {
        EventTime::NEVER => None,
        EventTime::END => Some(f64::INFINITY),
        time if time < EventTime::from_millis(0) => Some(-of_millis(time.millis().unsigned_abs())),
        time => Some(of_millis(time.millis().unsigned_abs())),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "exact for 285,000 years, and for show"
)]
fn of_millis(millis: u64) -> f64 {
    millis as f64 / 1_000.0
}

/// As Linux tells it.
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_since_1970() {
        assert_eq!(seconds(EventTime::from_millis(1_500)), Some(1.5));
        assert_eq!(seconds(EventTime::from_millis(-250)), Some(-0.25));
        assert_eq!(seconds(EventTime::END), Some(f64::INFINITY));
        assert_eq!(seconds(EventTime::NEVER), None);
    }
}
