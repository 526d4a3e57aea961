//! What a key costs that is saved: because it changed, or because everything is.

use anabranch::Job;

use crate::spent::Spent;
use crate::{KEYS, ONCE, Shape, bytes_in, folder, hold, manifest, middle, run, timed};

const ROUNDS: usize = 5;

/// Seconds of the workers, and of the thread that writes, of one run more than of the other.
fn more(one: Spent, other: Spent) -> [f64; 2] {
    let times = |spent: Spent| [spent.workers, spent.writer].map(|time| time.as_secs_f64());
    let ([workers, writer], [less, none]) = (times(one), times(other));
    [workers - less, writer - none]
}

fn tell(what: &str, bytes: u64, costs: &[[f64; 2]]) -> (f64, f64) {
    let of = |nth: usize| middle(costs.iter().map(|cost| cost[nth]).collect());
    let (workers, writer) = (of(0), of(1));
    let [each, beside] = [workers, writer].map(|cost| cost / KEYS as f64 * 1e9);
    let (rate, size) = (bytes as f64 / workers / 1e9, bytes as f64 / KEYS as f64);
    println!(
        "| {what}, {size:.0} bytes | {each:.0} ns, {rate:.2} GB/s, and {beside:.0} ns of the \
         thread that writes | 100 ns, 1 GB/s |"
    );
    (each, rate)
}

/// What changed: a run that saves all its keys once, because all are new, less one that saves none.
/// All: it goes on for one record and saves everything, for no log has everything yet; and goes on
/// for another, of which it saves the change alone. Both read the same state back.
pub(crate) fn each(name: &str, job: &Job) {
    let (mut deltas, mut alls, mut sizes) = (Vec::new(), Vec::new(), (0, 0));
    let shape = Shape {
        records: KEYS,
        workers: 1,
        dir: None,
        interval: ONCE,
    };
    run(job, &shape); // the first run has to ask the system for memory
    for _ in 0..ROUNDS {
        let dir = folder();
        let until = |records| Shape {
            records,
            dir: Some(dir.path()),
            ..shape.clone()
        };
        let without = timed(job, &shape, KEYS);
        let with = timed(job, &until(KEYS), KEYS);
        deltas.push(more(with, without));
        let changed = bytes_in(dir.path());
        assert!(changed > KEYS * 20, "{changed} bytes");
        assert_eq!(last_full(&dir), 0, "only what changed");

        let full = timed(job, &until(KEYS + 1), 1);
        let all = last_full(&dir);
        assert!(all.abs_diff(changed) < changed / 10, "{all} bytes");
        let one = timed(job, &until(KEYS + 2), 1);
        assert_eq!(last_full(&dir), all, "not once more");
        alls.push(more(full, one));
        sizes = (changed, all);
    }
    let (each, _) = tell(&format!("{name}: a key that changed"), sizes.0, &deltas);
    hold(each <= 200.0, name);
    let (_, rate) = tell(&format!("{name}: a key of all"), sizes.1, &alls);
    hold(rate >= 0.5, name);
}

/// Bytes of the logs when everything was last saved.
fn last_full(dir: &tempfile::TempDir) -> u64 {
    manifest(dir.path()).1["full_bytes"]
        .as_u64()
        .expect("a number")
}
