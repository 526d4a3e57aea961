//! The hostile data is what it claims to be, and the comparison can fail.
//!
//! Caught here: a broken record that is taken, a good one that is refused, a scanner that differs
//! from another's, a generator that misses an edge, a comparison that takes what is wrong.

mod oracle;

use oracle::hostile::{self, Plan};
use oracle::malformed::{Edit, apply, members, odd, plain, wrong};
use oracle::text::Rng;
use oracle::{At, Counts, FilePart, Input, Job, Letter, Params, bids, compare, json, run};

#[test]
fn every_wrong_record_is_dead_and_every_odd_one_is_used() {
    for job in [Job::BidStats, Job::UserActivity] {
        let one = |edit: Edit| {
            let bytes = apply(edit, &members(job));
            let name = "a".to_owned();
            run(
                &Input::Files(vec![FilePart { name, bytes }]),
                &Params::of(job),
            )
        };
        for edit in wrong(job) {
            let outcome = one(edit);
            let reasons: Vec<_> = outcome
                .dead
                .iter()
                .map(|letter| letter.reason.as_str())
                .collect();
            assert_eq!(
                (reasons, outcome.counts.read),
                (vec!["decode"], 1),
                "{edit:?}"
            );
        }
        for edit in odd(job) {
            assert_eq!(one(edit).counts.used, 1, "{edit:?}");
        }
    }
}

/// `serde_json` agrees but for numbers too large for a float and depth above its limit.
fn as_serde_does(bytes: &[u8]) {
    let ours = json::tokens(bytes).is_ok();
    let theirs = serde_json::from_slice::<serde_json::Value>(bytes);
    let limited = theirs.as_ref().is_err_and(|error| {
        let why = error.to_string();
        why.contains("number out of range") || why.contains("recursion limit")
    });
    assert!(
        limited || ours == theirs.is_ok(),
        "{} {theirs:?}",
        bytes.escape_ascii()
    );
    if let (Ok(theirs), true) = (theirs, ours) {
        let canonical = json::canonical(bytes).expect("it was valid");
        let again: serde_json::Value = serde_json::from_str(&canonical).expect("still valid");
        assert_eq!(again, theirs);
    }
}

#[test]
fn the_scanner_agrees_with_serde_json() {
    let mut rng = Rng(7);
    let bytes = b"{}[]\",:\\ \t\x01\xff\xc3\xa9\x800159-+.eEutnfx/\xed\xa0";
    for job in [Job::BidStats, Job::UserActivity] {
        for edit in wrong(job).into_iter().chain(odd(job)) {
            let record = apply(edit, &members(job));
            as_serde_does(&record);
            for _ in 0..if record.len() < 1_000 { 100 } else { 1 } {
                let mut record = record.clone();
                for _ in 0..=rng.below(2) {
                    let at = rng.below(record.len());
                    match rng.below(3) {
                        0 => record[at] = rng.pick(bytes),
                        1 => record.insert(at, rng.pick(bytes)),
                        _ if record.len() > 1 => drop(record.remove(at)),
                        _ => {}
                    }
                }
                as_serde_does(&record);
            }
        }
    }
}

#[test]
fn hostile_data_is_repeatable_and_meets_every_verdict() {
    for job in [Job::BidStats, Job::UserActivity] {
        for topic in [false, true] {
            let mut all = Counts::default();
            let mut at_the_edge = [0; 3];
            for seed in 0..40 {
                let plan = Plan {
                    seed,
                    partitions: usize::try_from(seed % 5).expect("small"),
                    records: 300,
                    huge: seed == 4,
                };
                let params = Params::of(job);
                let make = || {
                    if topic {
                        hostile::topic(&plan, &params, "t")
                    } else {
                        hostile::files(&plan, &params)
                    }
                };
                let outcome = run(&make(), &params);
                assert_eq!(outcome, run(&make(), &params));
                assert!(outcome.counts.balanced());
                all.used += outcome.counts.used;
                all.duplicates += outcome.counts.duplicates;
                all.late += outcome.late.len();
                all.dead += outcome.dead.len();
                for letter in &outcome.late {
                    let (time, watermark) = (letter.event_time, letter.watermark);
                    let (time, watermark) = (time.expect("a time"), watermark.expect("a mark"));
                    match watermark - params.closing(time) {
                        early @ 0..=1 => at_the_edge[usize::from(early == 1)] += 1,
                        _ => at_the_edge[2] += 1,
                    }
                }
            }
            assert!(
                all.used > 5_000 && all.late > 500 && all.dead > 500,
                "{all:?}"
            );
            assert!(job == Job::BidStats || all.duplicates > 300, "{all:?}");
            assert!(at_the_edge.iter().all(|n| *n > 40), "{at_the_edge:?}");
        }
    }
}

/// What a job would write to its `late` or `dead` file.
fn written(letter: &Letter) -> String {
    let At::File { file, line } = &letter.at else {
        panic!("the letter is of a file");
    };
    let head = format!(
        "{{\"source\":\"{}\",\"file\":\"x/{file}\",\"line\":{line}",
        letter.source
    );
    let raw = letter.raw.clone().expect("a line is never null");
    if let (Some(time), Some(watermark)) = (letter.event_time, letter.watermark) {
        let event = String::from_utf8(raw).expect("late is valid");
        return format!(
            "{head},\"reason\":\"late\",\"event_time\":{time},\"watermark\":{watermark},\
             \"event\":{event}}}\n"
        );
    }
    let cut = letter
        .raw_bytes
        .map_or(String::new(), |bytes| format!(",\"raw_bytes\":{bytes}"));
    let raw = match str::from_utf8(&raw) {
        Ok(text) => format!("\"raw\":{}", json::quote(text)),
        Err(_) => format!("\"raw_base64\":\"{}\"", base64(&raw)),
    };
    format!(
        "{head},\"reason\":\"{}\",\"error\":\"e\",{raw}{cut}}}\n",
        letter.reason
    )
}

fn base64(bytes: &[u8]) -> String {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, i| {
            bits << 8 | usize::from(*chunk.get(i).unwrap_or(&0))
        });
        for i in 0..4 {
            let digit = char::from(alphabet[bits >> (18 - 6 * i) & 63]);
            out.push(if i <= chunk.len() { digit } else { '=' });
        }
    }
    out
}

#[test]
fn the_comparison_takes_what_is_right_and_nothing_else() {
    let plan = Plan {
        seed: 3,
        partitions: 3,
        records: 400,
        huge: true,
    };
    let params = Params::bid_stats();
    let outcome = bids::run(&hostile::files(&plan, &params), &params);
    let results = outcome.results.join("\n");
    let late: String = outcome.late.iter().map(written).collect();
    let dead: String = outcome.dead.iter().map(written).collect();
    assert_eq!(compare::files(&outcome, &results, &late, &dead), Ok(()));
    let spaced = results.replace("\"cnt\":", "\"cnt\" : ");
    assert_eq!(compare::files(&outcome, &spaced, &late, &dead), Ok(()));

    let shorter = |text: &str| text.split_once('\n').expect("lines").1.to_owned();
    let wrong_results = [
        shorter(&results),
        results.clone() + "\n" + &results,
        results.replacen("\"cnt\":1", "\"cnt\":2", 1),
        results.replace("\"cnt\"", "\"count\""),
    ];
    let wrong_late = [
        shorter(&late),
        late.replacen("\"watermark\":1", "\"watermark\":2", 1),
        late.replace("\"late\"", "\"idle\""),
    ];
    let wrong_dead = [
        shorter(&dead),
        dead.clone() + &dead,
        dead.replacen("\"raw\":\"{", "\"raw\":\"", 1),
        dead.replace("too-large", "decode"),
    ];
    let refused = |results: &str, late: &str, dead: &str| {
        assert!(compare::files(&outcome, results, late, dead).is_err());
    };
    for wrong in &wrong_results {
        refused(wrong, &late, &dead);
    }
    for wrong in &wrong_late {
        refused(&results, wrong, &dead);
    }
    for wrong in &wrong_dead {
        refused(&results, &late, wrong);
    }
    let mut turned: Vec<_> = outcome.results.clone();
    turned.reverse();
    assert!(
        compare::results_of(&outcome, &turned.join("\n")).is_err(),
        "a key's order counts"
    );
}

#[test]
fn a_plain_record_is_compact() {
    let record = plain(&members(Job::BidStats));
    let text = String::from_utf8(record.clone()).expect("it is text");
    assert_eq!(json::canonical(&record), Ok(text));
}
