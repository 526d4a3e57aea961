//! A commit whose answer is lost is in doubt: the client repeats it, and a late copy could commit a
//! part of the next transaction. So a new producer goes on, and the results are those of a run
//! without doubt.
//!
//! Shown to fail by the plant `doubt-ignored`: the job goes on with the same producer.

#![cfg(all(feature = "kafka", feature = "dev-broker"))]
#![allow(clippy::unwrap_used, reason = "tests may fail")]

mod once;
mod program;
mod topics;

#[allow(dead_code, reason = "a part of it is used")]
#[path = "crash_loop/clock.rs"]
mod clock;
#[allow(dead_code, reason = "a part of it is used")]
#[path = "crash_loop/proxy.rs"]
mod proxy;

use std::time::Duration;

use once::{Place, expected};
use proxy::{Hold, Proxy};
use topics::Topics;

#[test]
fn a_new_producer_goes_on_where_the_answer_to_a_commit_was_lost() {
    let proxy = Proxy::start(&topics::bootstrap()).unwrap();
    let (topics, bids) = (Topics::at(proxy.bootstrap()), Topics::fresh("bids"));
    topics.create(&bids, 2);
    let place = Place::reading(topics, &bids);
    place.write(0, 30);
    let job = place.start(&["--log-level", "info"]);
    assert_eq!(place.wait_for(expected(20).len()), expected(20));
    // The next commit arrives, its answer does not, and the connection is cut.
    proxy.hold(Hold::AnswerLost(Duration::ZERO));
    for second in [60, 90] {
        place.write_missing(second);
        let due = expected(second - 10);
        assert_eq!(place.wait_for(due.len()), due);
    }
    assert_eq!(proxy.held(), 1);
    job.signal("TERM");
    let ended = job.ended_with_open_input();
    let said = ended.said();
    assert_eq!(ended.code, 0, "{said}");
    assert!(said.contains("a new producer goes on"), "{said}");
    // What is committed is gone on from.
    let ended = place.run(&["--bounded"]);
    assert_eq!(ended.code, 0, "{}", ended.said());
    assert_eq!(place.seen(), expected(90));
}
