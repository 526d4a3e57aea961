//! The examples run, and what they assert holds.

#[path = "../examples/job_test.rs"]
mod job_test;
#[path = "../examples/own_aggregate.rs"]
mod own_aggregate;
#[path = "../examples/own_codec.rs"]
mod own_codec;
#[path = "../examples/own_operator.rs"]
mod own_operator;
#[path = "../examples/service.rs"]
mod service;
#[path = "../examples/timely_and_back.rs"]
mod timely_and_back;
#[path = "../examples/windows.rs"]
mod windows;

use anabranch::{Result, testing};

#[test]
fn windows_over_a_vector() -> Result {
    windows::main()
}

/// The description, the type that it reads, and the vector with its run; all but the imports.
#[test]
fn windows_over_a_vector_are_described_in_fifteen_lines_and_run_in_twenty() {
    let text = include_str!("../examples/windows.rs");
    let count = |from: &str| {
        let (_, item) = text.split_once(from).expect(from);
        let (item, _) = item.split_once("\n}\n").expect("its end");
        item.lines().count() + 1
    };
    let lines = [
        count("fn words"),
        count("#[derive("),
        count("pub(crate) fn main"),
    ];
    assert!(
        lines[0] <= 15 && lines[1] <= 5 && lines[2] <= 20,
        "{lines:?}"
    );
    let (_, code) = text.split_once("use anabranch::prelude::*;\n").unwrap();
    let all = code.lines().filter(|line| !line.is_empty()).count();
    assert_eq!(all, lines.iter().sum::<usize>(), "nothing else is needed");
}

#[test]
fn a_job_test_in_three_lines() {
    job_test::main();
}

#[test]
fn an_operator_of_ones_own() {
    own_operator::main();
}

#[test]
fn a_job_inside_a_service() -> Result {
    service::main()
}

#[test]
fn an_aggregate_of_ones_own() -> Result {
    own_aggregate::main()
}

#[test]
fn a_codec_of_ones_own() -> Result {
    own_codec::main()
}

#[test]
fn timely_and_back() -> Result {
    timely_and_back::main()
}

#[test]
fn what_is_built_on_timely_shows_no_epoch() {
    let visits = timely_and_back::visits();
    let lines = visits
        .each_ref()
        .map(|lines| lines.iter().map(String::as_str));
    testing::run(timely_and_back::job())
        .source("visits", lines)
        .expect("visitors", timely_and_back::VISITORS);
}
