//! What state takes on the disk, at most.

use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::{KEYS, ONCE, Shape, bytes_in, folder, hold, jobs, manifest, run};

/// Records of a day in the job of a month.
const DAY: u64 = 24 * 3_600 * 4;

/// What a directory held while something was done.
#[derive(Clone, Copy, Debug)]
struct Held {
    most: u64,
    /// How often it became less by a third: logs were written anew, and the old ones deleted.
    rewritten: u32,
}

fn held_in(dir: &Path, work: impl FnOnce() + Send) -> Held {
    thread::scope(|scope| {
        let work = scope.spawn(work);
        let (mut held, mut since) = (
            Held {
                most: 0,
                rewritten: 0,
            },
            0,
        );
        let mut look = || {
            let bytes = bytes_in(dir);
            held.most = bytes.max(held.most);
            since = bytes.max(since);
            if bytes < since * 2 / 3 {
                (held.rewritten, since) = (held.rewritten + 1, bytes);
            }
        };
        while !work.is_finished() {
            look();
            thread::sleep(Duration::from_millis(2));
        }
        look();
        work.join().expect("the run ends well");
        held
    })
}

/// Every key changes again and again: what the disk holds at most, against what is alive.
pub(crate) fn changing() {
    let keys = KEYS / 4;
    let shape = Shape {
        records: keys,
        workers: 1,
        dir: None,
        interval: ONCE,
    };
    let (dir, job) = (folder(), jobs::windows(keys, None));
    let held = held_in(dir.path(), || {
        let shape = Shape {
            records: keys * 40,
            dir: Some(dir.path()),
            interval: Duration::from_millis(100),
            ..shape
        };
        assert_eq!(run(&job, &shape), keys * 40);
    });
    let dir = folder();
    let shape = Shape {
        dir: Some(dir.path()),
        ..shape
    };
    assert_eq!(run(&job, &shape), keys);
    let ratio = held.most as f64 / bytes_in(dir.path()) as f64;
    println!("| disk, of what is alive | {ratio:.2} | 2.5 |");
    hold(ratio <= 3.0, "disk");
}

/// Thirty days of events: what the disk holds at most in each third of them, against the ids of a
/// day. About a third more are remembered, for they are looked through twice a day; and of what is
/// alive the disk holds two and a half times.
pub(crate) fn month() {
    let (job, dir) = (jobs::month(), folder());
    let shape = |records, dir, interval| Shape {
        records,
        workers: 1,
        dir: Some(dir),
        interval,
    };
    assert_eq!(run(&job, &shape(DAY, dir.path(), ONCE)), DAY);
    let (day, dir) = (bytes_in(dir.path()), folder());
    let often = Duration::from_millis(2);
    let thirds = [1, 2, 3].map(|nth| {
        held_in(dir.path(), || {
            let shape = shape(nth * 10 * DAY, dir.path(), often);
            assert_eq!(run(&job, &shape), 10 * DAY);
        })
    });
    let (made, _) = manifest(dir.path());
    let most = thirds.map(|held| held.most);
    let rewritten = thirds.map(|held| held.rewritten);
    let ratios = most.map(|bytes| (bytes as f64 / day as f64 * 100.0).round() / 100.0);
    println!(
        "| a month: ids of a day and windows of a minute, {made} checkpoints, logs written anew \
         {rewritten:?} times: most on disk in each third, of the {} kB of a day's ids | {ratios:?} \
         | 3.3, does not grow |",
        day / 1_000
    );
    assert!(
        rewritten.iter().all(|times| *times >= 3),
        "{rewritten:?} times"
    );
    hold(most.iter().all(|bytes| *bytes <= 4 * day), "a month");
    hold(most[2] <= most[1] * 11 / 10, "a month grows");
}
