//! Time in a running job: partitions are read in step, silence stops nobody, and what a live run
//! answers is a function of its log and of the records that left as `idle`.
//!
//! Caught here, each planted once in the engine and seen to fail: the largest watermark of workers
//! instead of the smallest; `late` asked before `idle`; who wakes or joins held against no floor,
//! or let in before the watermark is known; no limit of drift; all idle taken for the end; a record
//! too far ahead that counts. The engine once failed three more: silence noticed only where nothing
//! was left to read, no look at silent partitions beside a busy one, an idle partition that never
//! ended.

#![allow(clippy::unwrap_used, reason = "tests may fail")]

mod scripted;

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use anabranch::Settings;
use scripted::{
    Counts, Entry, Log, Rules, Running, Says, Slowest, counts, eventually, recount, start,
};

const RULES: Rules = Rules {
    size: 10,
    lag: 0,
    allowed: 0,
};
const SECOND: i64 = 1_000;
const DAY: i64 = 86_400 * SECOND;
/// How far a partition may be read ahead of the slowest, and how many records come at a time.
const DRIFT: i64 = 10 * SECOND;
const BATCH: usize = 4_096;
/// Records of a partition that is a day ahead; and the bytes that state may take, far less than the
/// windows of two such partitions do, and those of buffers.
const AHEAD: i64 = 80_000;
const STATE_MAX: u64 = 4 << 20;
const BUFFERS: usize = 12 << 20;

fn soon() -> Settings {
    Settings::new().idle_timeout(Some(Duration::from_millis(60)))
}

fn patient() -> Settings {
    Settings::new().idle_timeout(None)
}

fn every(step: i64, from: i64, count: i64) -> Vec<Entry> {
    (0..count).map(|nth| (from + nth * step, 0)).collect()
}

/// Whether the window of key 0 that starts at `start` has fired.
fn has_fired(run: &Running, start: i64) -> bool {
    run.out.counts().contains_key(&(0, start))
}

/// Ends the log and holds the run against the recount and against a bounded replay; returns what
/// was late because of silence.
fn settle(
    run: Running,
    logs: &[&Log],
    sources: &'static [&'static str],
    rules: Rules,
) -> BTreeSet<(String, usize, usize)> {
    for log in logs {
        log.end();
    }
    let (out, summary) = run.finish();
    let idle = out.late("idle");
    assert_eq!(summary.late_idle, idle.len() as u64);
    let expected = recount(logs, rules, &idle);
    assert_eq!(out.counts(), expected, "a function of the log");
    let replayed = scripted::replay(&counts(sources, rules), logs, 2, &idle);
    assert_eq!(replayed, expected, "the bounded replay");
    idle
}

#[test]
fn a_backlog_of_which_one_partition_lies_a_day_behind_is_read_in_step() {
    // A window for each record: read out of step, those of a day later would all be open at once.
    let own = |mut entries: Vec<Entry>| {
        let keys = entries.iter_mut().zip(0..);
        keys.for_each(|(entry, nth)| entry.1 = nth);
        entries
    };
    for workers in 1..=3 {
        let log = Log::bounded(
            "a",
            [
                every(10 * SECOND, 0, 2 * 8_640),
                own(every(100, DAY, AHEAD)),
                own(every(100, DAY + 7, AHEAD)),
            ],
        );
        let rules = Rules {
            size: SECOND,
            lag: SECOND,
            allowed: 0,
        };
        // What state takes beyond this ends the run with an error.
        let settings = Settings::new()
            .workers(workers)
            .memory(STATE_MAX + BUFFERS as u64)
            .buffer_bytes(BUFFERS);
        let (out, summary) = start(&counts(&["a"], rules), &[&log], settings).finish();
        assert_eq!(summary.late, 0, "{summary}");
        assert_eq!(out.counts(), recount(&[&log], rules, &BTreeSet::new()));
        let mut ahead = [0; 3];
        let mut from = [0; 3];
        for fetch in log.fetches() {
            let far = match (fetch.before, fetch.slowest) {
                (None, _) | (_, Slowest::Nobody) => false,
                (Some(_), Slowest::Unread) => true,
                (Some(before), Slowest::At(slowest)) => before > slowest + DRIFT,
            };
            assert!(!far, "{workers} workers: {fetch:?}");
            from[fetch.partition] += 1;
            if fetch.slowest < Slowest::At(DAY - DRIFT) {
                ahead[fetch.partition] += 1;
            }
        }
        // While the first partition was a day behind, the others gave one batch each.
        assert!(ahead[0] > 1 && ahead[1] <= 1 && ahead[2] <= 1, "{ahead:?}");
        let ahead = usize::try_from(AHEAD).unwrap();
        assert!(ahead / from[1] <= BATCH && from[1] > 1, "{from:?}");
    }
}

#[test]
fn a_partition_that_wakes_with_older_events_loses_only_what_was_closed() {
    for workers in 1..=3 {
        let log = Log::live("a", 2);
        let run = start(&counts(&["a"], RULES), &[&log], soon().workers(workers));
        log.append(0, [(3, 0)]);
        log.append(1, every(1, 0, 1_000));
        // Partition 0 holds the watermark at 3 until it has been silent for long enough.
        eventually("partition 0 is idle", || {
            log.append(1, [(999, 0)]);
            has_fired(&run, 980)
        });
        // Windows that end by the horizon are closed; the last one is open.
        log.append(
            0,
            [(4, 0), (500, 0), (989, 0), (990, 0), (1_500, 0), (20, 0)],
        );
        log.append(0, [(995, 0)]);
        eventually("it is read again", || log.given(0) == 8);
        // It holds the watermark again until it is as far as it says.
        log.append(1, every(1, 1_000, 2_000));
        let idle = settle(run, &[&log], &["a"], RULES);
        let offsets: Vec<_> = idle.iter().map(|late| (late.1, late.2)).collect();
        // The floor is asked before the watermark: the last record but one is `idle`, not `late`.
        let expected = [(0, 1), (0, 2), (0, 3), (0, 6)];
        assert_eq!(offsets, expected, "{workers} workers");
    }
}

#[test]
fn without_silence_a_live_run_answers_as_the_bounded_one() {
    for workers in 1..=3 {
        let log = Log::live("a", 3);
        let rules = Rules {
            size: 10,
            lag: 5,
            allowed: 3,
        };
        let run = start(&counts(&["a"], rules), &[&log], patient().workers(workers));
        let mut random = Random(workers as u64);
        for step in 0..200 {
            for partition in 0..3 {
                let time = |random: &mut Random| step * 7 + random.below(40);
                log.append(partition, [(time(&mut random), 1), (time(&mut random), 2)]);
            }
            if step % 20 == 0 {
                thread::sleep(Duration::from_millis(2)); // another cut
            }
        }
        let late = settle(run, &[&log], &["a"], rules);
        assert!(late.is_empty(), "never idle when the time-out is off");
    }
}

#[test]
fn silence_holds_the_watermark_for_ever_when_the_time_out_is_off() {
    let log = Log::live("a", 2);
    let run = start(&counts(&["a"], RULES), &[&log], patient().workers(2));
    log.append(0, every(1, 0, 10_000));
    log.append(1, [(25, 0)]);
    eventually("windows before the silent one fire", || has_fired(&run, 10));
    eventually("all is read", || log.given(0) == 10_000);
    // Long past the time-out of the other tests.
    thread::sleep(Duration::from_millis(150));
    let fired: Vec<_> = run.out.counts().into_keys().collect();
    assert_eq!(fired, [(0, 0), (0, 10)]);
    assert!(settle(run, &[&log], &["a"], RULES).is_empty());
}

#[test]
fn a_partition_that_joins_is_held_against_the_horizon() {
    for workers in 1..=3 {
        let log = Log::live("a", 3);
        let run = start(&counts(&["a"], RULES), &[&log], soon().workers(workers));
        log.append(0, every(1, 0, 1_000));
        eventually("the horizon is at 999", || {
            log.append(0, [(999, 0)]);
            has_fired(&run, 980)
        });
        let new = log.add([(10, 0), (989, 0), (990, 0), (995, 1)]);
        eventually("it is read", || log.given(new) == 4);
        log.append(0, every(1, 1_000, 500));
        eventually("it falls idle in its turn", || {
            log.append(0, [(1_499, 0)]);
            has_fired(&run, 1_480)
        });
        let idle = settle(run, &[&log], &["a"], RULES);
        let offsets: Vec<_> = idle.iter().map(|late| (late.1, late.2)).collect();
        assert_eq!(offsets, [(new, 0), (new, 1)], "{workers} workers");
    }
}

#[test]
fn when_all_are_silent_time_stands_still_and_then_goes_on() {
    for workers in 1..=3 {
        let log = Log::live("a", 3);
        let run = start(&counts(&["a"], RULES), &[&log], soon().workers(workers));
        log.append(1, [(7, 0)]);
        eventually("all but one are idle", || {
            log.append(0, [(105, 0)]);
            has_fired(&run, 0)
        });
        thread::sleep(Duration::from_millis(150)); // the last one too
        let before = i64::try_from(log.entries()[0].len()).unwrap();
        assert_eq!(run.out.counts().len(), 1, "idle is no end");
        // Behind the horizon is late, the open window takes what belongs there.
        log.append(1, [(8, 0), (101, 0), (110, 0)]);
        eventually("it goes on", || has_fired(&run, 100));
        assert_eq!(run.out.counts()[&(0, 100)], before + 1);
        let idle = settle(run, &[&log], &["a"], RULES);
        let offsets: Vec<_> = idle.iter().map(|late| (late.1, late.2)).collect();
        assert_eq!(offsets, [(1, 1)]);
    }
}

#[test]
fn a_silent_source_stops_results_but_not_reading() {
    for workers in 1..=3 {
        let (busy, silent) = (Log::live("a", 2), Log::live("b", 1));
        silent.says(0, Says::Wait);
        let job = counts(&["a", "b"], RULES);
        let run = start(&job, &[&busy, &silent], soon().workers(workers));
        // Many times what epochs in flight may hold.
        for partition in 0..2 {
            busy.append(partition, every(1, 0, 150_000));
        }
        eventually("everything is read", || {
            busy.given(0) == 150_000 && busy.given(1) == 150_000
        });
        assert_eq!(run.out.counts(), Counts::new(), "nothing is known of b");
        // Ended it stops nobody; a source of which nobody reads a partition, all being idle, does.
        silent.says(0, Says::End);
        eventually("results come", || {
            busy.append(0, [(149_999, 0)]);
            busy.append(1, [(149_999, 0)]);
            has_fired(&run, 149_980)
        });
        let late = settle(run, &[&busy, &silent], &["a", "b"], RULES);
        assert!(late.is_empty());
    }
}

#[test]
fn a_busy_partition_hides_no_silent_one_and_keeps_no_new_one_out() {
    for workers in 1..=2 {
        let log = Log::live("a", 3);
        // One worker has the busy partition and a silent one.
        log.append(0, [(1_000, 0)]);
        log.append(2, [(5, 0)]);
        log.endless(0, Some(1));
        let run = start(&counts(&["a"], RULES), &[&log], soon().workers(workers));
        eventually("the silent ones let go", || has_fired(&run, 1_500));
        let read = log.given(0);
        let new = [log.add([(1, 0)]), log.add([(1, 0)])];
        eventually("the new ones are read", || {
            log.given(new[0]) == 1 && log.given(new[1]) == 1
        });
        log.append(2, [(6, 0)]);
        eventually("the silent one is heard again", || log.given(2) == 2);
        assert!(log.given(0) > read);
        log.endless(0, None);
        let late = settle(run, &[&log], &["a"], RULES);
        assert_eq!(late.len(), 3);
    }
}

#[test]
fn an_idle_partition_can_end() {
    for workers in 1..=2 {
        let log = Log::live("a", 2);
        let run = start(&counts(&["a"], RULES), &[&log], soon().workers(workers));
        log.append(1, [(5, 0)]);
        eventually("one is idle", || {
            log.append(0, [(50, 0)]);
            has_fired(&run, 0)
        });
        thread::sleep(Duration::from_millis(150)); // the other too
        assert!(settle(run, &[&log], &["a"], RULES).is_empty());
    }
}

#[test]
fn two_live_sources_answer_by_their_logs_whoever_sleeps() {
    let mut asleep = 0;
    for seed in 0..12 {
        let mut random = Random(seed);
        let rules = Rules {
            size: [1, 10, 100][random.place(3)],
            lag: random.below(12),
            allowed: [0, 4][random.place(2)],
        };
        let logs = [Log::live("a", 2), Log::live("b", 3)];
        let both = [&logs[0], &logs[1]];
        let workers = 1 + random.place(3);
        let settings = Settings::new()
            .workers(workers)
            .idle_timeout(Some(Duration::from_millis(8)));
        let run = start(&counts(&["a", "b"], rules), &both, settings);
        let mut clocks = [0; 6];
        for step in 0..60 {
            let log = random.place(2);
            let partition = random.place(both[log].entries().len());
            let clock = &mut clocks[(2 * log + partition).min(5)];
            *clock += random.below(60);
            let count = random.place(20);
            let entry =
                |random: &mut Random| (*clock - random.below(30), [0, 1, 2][random.place(3)]);
            let entries: Vec<_> = (0..count).map(|_| entry(&mut random)).collect();
            logs[log].append(partition, entries);
            if step == 30 && seed % 2 == 0 {
                logs[1].add([(*clock / 2, 0), (*clock, 1)]);
            }
            thread::sleep(Duration::from_millis([0, 1, 1, 12][random.place(4)]));
        }
        asleep += settle(run, &both, &["a", "b"], rules).len();
    }
    assert!(asleep > 0, "no run had a partition that woke too late");
}

#[test]
fn a_record_too_far_ahead_of_its_own_stamp_does_not_poison_its_partition() {
    for workers in 1..=2 {
        let log = Log::live("a", 1);
        let settings = patient()
            .workers(workers)
            .max_ahead(Some(Duration::from_secs(1)));
        let run = start(&counts(&["a"], RULES), &[&log], settings);
        log.append_stamped(0, (100, 0), 0);
        log.append_stamped(0, (5_001, 0), 4_000); // too far ahead, by a millisecond
        log.append_stamped(0, (101, 0), 0); // would be late if that had counted
        log.append_stamped(0, (5_000, 0), 4_000);
        log.append_stamped(0, (102, 0), 0); // late for good
        log.end();
        let (out, summary) = run.finish();
        assert_eq!((summary.dead, summary.late), (1, 1), "{summary}");
        let dead: serde_json::Value = serde_json::from_str(&out.dead.lines()[0]).unwrap();
        assert_eq!(dead["reason"], "too-far-ahead");
        assert_eq!(dead["offset"], 1);
        assert_eq!(out.late("late"), [("a".to_owned(), 0, 4)].into());
        assert_eq!(out.counts(), [((0, 100), 2), ((0, 5_000), 1)].into());
    }
}

#[test]
fn the_end_of_a_bounded_log_fires_everything() {
    for workers in 1..=3 {
        let log = Log::bounded("a", [every(7, -500, 300), Vec::new(), every(1, 3, 1)]);
        let rules = Rules {
            size: 100,
            lag: 1_000_000,
            allowed: 1_000,
        };
        let settings = Settings::new().workers(workers);
        let (out, summary) = start(&counts(&["a"], rules), &[&log], settings).finish();
        assert_eq!(out.counts(), recount(&[&log], rules, &BTreeSet::new()));
        assert_eq!((summary.used, summary.late, summary.held), (301, 0, 0));
    }
}

/// Just enough randomness to vary logs.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: i64) -> i64 {
        i64::try_from(self.place(usize::try_from(limit).unwrap().max(1))).unwrap()
    }

    fn place(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ mixed >> 31) % limit as u64).unwrap()
    }
}
