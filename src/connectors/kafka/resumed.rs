//! What a source reads that goes on from a checkpoint, or why it cannot.

use super::admin::Probe;
use super::assignment::Span;
use crate::connectors::{SourceCut, Start};
use crate::error::{Error, ErrorKind, Result};
use crate::state::advice::AFRESH;

/// Spans of all partitions of `topic`, of which there are `count` now.
///
/// # Errors
/// The topic is another one, or does not have any more what is to be read next.
pub(super) fn spans(
    topic: &str,
    probe: &Probe,
    (count, identity): (u32, &str),
    cut: &SourceCut,
) -> Result<Vec<Span>> {
    let refuse = |what: String| Error::new(ErrorKind::State, format!("topic {topic}: {what}"));
    if identity != cut.identity && !identity.is_empty() && !cut.identity.is_empty() {
        let (was, is) = (&cut.identity, identity);
        return Err(refuse(format!(
            "it was deleted and created again (id {was}, now {is}), and equal offsets are other \
             records; {AFRESH}"
        )));
    }
    let firsts = probe.offsets(topic, count, Start::Earliest)?;
    let ends = probe.offsets(topic, count, Start::Latest)?;
    for cut in &cut.partitions {
        let partition = cut.partition;
        let (Some(first), Some(end)) =
            (firsts.get(partition as usize), ends.get(partition as usize))
        else {
            return Err(refuse(format!(
                "partition {partition} is no more, and the topic another one; {AFRESH}"
            )));
        };
        let (next, first, end) = (cut.next, *first, *end);
        let all_read = cut.end.is_some_and(|end| end <= next);
        if next < first && !all_read {
            let gone = thousands(first - next);
            return Err(refuse(format!(
                "partition {partition}: {gone} records are gone: [{next}, {first}); they were \
                 deleted before they were read, so restore the topic, or {AFRESH}"
            )));
        }
        if next > end {
            return Err(refuse(format!(
                "partition {partition}: it ends at {end}, before {next}, up to where it was read; \
                 restore the topic, or {AFRESH}"
            )));
        }
    }
    let bounded = probe.options.bounded;
    let span = |(partition, end): (u32, u64)| {
        let cut = cut.partitions.iter().find(|cut| cut.partition == partition);
        Span {
            start: cut.map_or(0, |cut| cut.next),
            end: bounded.then(|| cut.and_then(|cut| cut.end).unwrap_or(end)),
        }
    };
    Ok((0..).zip(ends).map(span).collect())
}

/// The number with commas: `4,096`.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::thousands;

    #[test]
    fn numbers_have_commas() {
        let all = [0, 7, 999, 1_000, 4_096, 1_234_567];
        let text: Vec<_> = all.into_iter().map(thousands).collect();
        assert_eq!(text, ["0", "7", "999", "1,000", "4,096", "1,234,567"]);
    }
}
