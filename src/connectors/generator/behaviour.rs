//! What people do on a site: events that come twice, late, in disorder, or broken.

use std::sync::Arc;

use super::Make;
use super::noise::{Noise, push_decimal, push_hex};

/// When the first event happens.
const START: u64 = 1_714_137_600_000;
/// From one event of a partition to the next, in milliseconds.
const STEP: u64 = 10;
/// Largest delay of an event that is on time: a lag of 5 s is enough.
const DISORDER: u64 = 4_900;
/// How many events a repeat lies behind the first copy, at most.
const BACK: u32 = 200;
/// Before this index nothing is late, because too little came before it.
const SETTLED: u64 = 100;
const TYPES: [&str; 10] = [
    "view",
    "view",
    "view",
    "view",
    "view",
    "view",
    "like",
    "like",
    "comment",
    "favourite",
];

/// What a record of [`behaviour`] is made to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BehaviourKind {
    /// The first copy of an event, in time.
    Event,
    /// A second copy of an event of its own partition or of the one before it, in time.
    Duplicate,
    /// An event that is 6 to 60 s behind its partition.
    Late,
    /// Something that is no event: cut off, no JSON, a field missing or wrong, no UTF-8.
    Malformed,
}

/// Events as lines: `{"eventId":"<uuid>","eventType":"view","userId":"u-0417",
/// "timestamp":1714137600123,"data":{"contentId":"c-123"}}`, of 1,000 users.
///
/// Time goes on by 10 ms an event in each partition. Every seventh event or so is up to 4.9 s older
/// than its place says, the rest up to 0.3 s. Of 10,000 records, 80 repeat an event that was up to
/// 200 records before, 5 are late beyond a lag of 5 s, and 2 are malformed; [`behaviour_kind`] says
/// which, so that what a job counts can be foretold.
pub fn behaviour(seed: u64) -> Make {
    Arc::new(
        move |partition, index, out| match plan(seed, partition, index) {
            Plan::Event(event) | Plan::Duplicate(event) | Plan::Late(event) => event.write(out),
            Plan::Malformed(event, how) => event.write_malformed(how, out),
        },
    )
}

/// What record `index` of `partition` of [`behaviour`] is.
pub fn behaviour_kind(seed: u64, partition: u32, index: u64) -> BehaviourKind {
    match plan(seed, partition, index) {
        Plan::Event(_) => BehaviourKind::Event,
        Plan::Duplicate(_) => BehaviourKind::Duplicate,
        Plan::Late(_) => BehaviourKind::Late,
        Plan::Malformed(..) => BehaviourKind::Malformed,
    }
}

enum Plan {
    Event(Event),
    Duplicate(Event),
    Late(Event),
    Malformed(Event, u32),
}

struct Event {
    id: (u64, u64),
    action: &'static str,
    user: u32,
    content: u32,
    /// How much older it is than its place says.
    delay: u64,
    time: u64,
}

fn plan(seed: u64, partition: u32, index: u64) -> Plan {
    let mut noise = Noise::of(seed, partition, index);
    let chance = noise.below(10_000);
    let mut event = Event::new(&mut noise, index);
    match chance {
        0..2 => Plan::Malformed(event, noise.below(MALFORMED)),
        2..7 if index >= SETTLED => {
            event.delay(index, 6_000 + u64::from(noise.below(54_000)));
            Plan::Late(event)
        }
        7..87 => match original(seed, partition, index, &mut noise) {
            Some(original) => Plan::Duplicate(original),
            None => Plan::Event(event),
        },
        _ => Plan::Event(event),
    }
}

/// An event that record `index` may repeat, if the one that was drawn is fit for it: in time still,
/// and no repeat itself.
fn original(seed: u64, partition: u32, index: u64, noise: &mut Noise) -> Option<Event> {
    let partition = partition.saturating_sub(noise.below(2));
    let back = u64::from(1 + noise.below(BACK));
    let index = index.checked_sub(back)?;
    let mut noise = Noise::of(seed, partition, index);
    let is_plain = noise.below(10_000) >= 87;
    let event = Event::new(&mut noise, index);
    (is_plain && event.delay + back * STEP <= DISORDER).then_some(event)
}

/// Ways in which a record is malformed.
const MALFORMED: u32 = 6;

impl Event {
    fn new(noise: &mut Noise, index: u64) -> Self {
        let widest = if noise.below(7) == 0 { 4_901 } else { 301 };
        let delay = u64::from(noise.below(widest));
        let mut event = Self {
            id: (noise.next(), noise.next()),
            action: noise.pick(&TYPES),
            user: noise.below(1_000),
            content: noise.below(1_000),
            delay: 0,
            time: 0,
        };
        event.delay(index, delay);
        event
    }

    fn delay(&mut self, index: u64, delay: u64) {
        self.delay = delay;
        self.time = (START + DISORDER).saturating_add(index.saturating_mul(STEP)) - delay;
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.write_start(out);
        self.write_user(out);
        out.extend_from_slice(b",\"timestamp\":");
        push_decimal(out, self.time);
        self.write_data(out);
    }

    fn write_malformed(&self, how: u32, out: &mut Vec<u8>) {
        match how {
            0 => self.write_start(out),
            1 => out.extend_from_slice(b"upstream timed out, retrying"),
            2 => {
                self.write_start(out);
                out.extend_from_slice(b",\"timestamp\":");
                push_decimal(out, self.time);
                self.write_data(out);
            }
            3 => {
                self.write_start(out);
                self.write_user(out);
                out.extend_from_slice(b",\"timestamp\":\"yesterday\"");
                self.write_data(out);
            }
            4 => {
                self.write_start(out);
                self.write_user(out);
                out.extend_from_slice(b",\"timestamp\":");
                push_decimal(out, self.time);
                out.extend_from_slice(b",\"data\":\"none\"}");
            }
            _ => {
                out.extend_from_slice(b"{\"eventId\":\"\xff\xfe\"");
                self.write_user(out);
                out.extend_from_slice(b",\"eventType\":\"view\",\"timestamp\":");
                push_decimal(out, self.time);
                self.write_data(out);
            }
        }
    }

    fn write_start(&self, out: &mut Vec<u8>) {
        let (high, low) = self.id;
        out.extend_from_slice(b"{\"eventId\":\"");
        push_hex(out, high >> 32, 8);
        out.push(b'-');
        push_hex(out, high >> 16, 4);
        // Version 4, and the variant of RFC 9562.
        out.extend_from_slice(b"-4");
        push_hex(out, high, 3);
        out.push(b'-');
        push_hex(out, 0x8000 | ((low >> 48) & 0x3fff), 4);
        out.push(b'-');
        push_hex(out, low, 12);
        out.extend_from_slice(b"\",\"eventType\":\"");
        out.extend_from_slice(self.action.as_bytes());
        out.push(b'"');
    }

    fn write_user(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"userId\":\"u-");
        let padding = [1_000, 100, 10]
            .iter()
            .filter(|least| self.user < **least)
            .count();
        out.extend(std::iter::repeat_n(b'0', padding));
        push_decimal(out, u64::from(self.user));
        out.push(b'"');
    }

    fn write_data(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"data\":{\"contentId\":\"c-");
        push_decimal(out, u64::from(self.content));
        out.extend_from_slice(b"\"}}");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    const COUNT: u64 = 50_000;

    struct Read {
        kind: BehaviourKind,
        line: Vec<u8>,
        json: Option<serde_json::Value>,
    }

    /// All records of `partition`.
    fn all(partition: u32) -> impl Iterator<Item = Read> {
        let make = behaviour(1);
        (0..COUNT).map(move |index| {
            let mut line = Vec::new();
            make(partition, index, &mut line);
            let json = serde_json::from_slice(&line).ok();
            Read {
                kind: behaviour_kind(1, partition, index),
                line,
                json,
            }
        })
    }

    #[test]
    fn repeats_late_and_malformed_records_are_as_many_as_promised() {
        let mut counts = HashMap::new();
        for record in (0..4).flat_map(all) {
            *counts.entry(record.kind).or_insert(0) += 1;
        }
        let of = |kind| counts[&kind];
        assert!(
            (1_400..1_600).contains(&of(BehaviourKind::Duplicate)),
            "{counts:?}"
        );
        assert!((70..130).contains(&of(BehaviourKind::Late)), "{counts:?}");
        assert!(
            (20..60).contains(&of(BehaviourKind::Malformed)),
            "{counts:?}"
        );
    }

    #[test]
    fn what_is_called_late_is_late_beyond_five_seconds_and_nothing_else_is() {
        for partition in 0..4 {
            let mut latest = 0;
            for record in all(partition).filter(|it| it.kind != BehaviourKind::Malformed) {
                let time = record.json.unwrap()["timestamp"].as_u64().unwrap();
                let is_late = time + 5_000 < latest;
                assert_eq!(is_late, record.kind == BehaviourKind::Late);
                latest = latest.max(time);
            }
        }
    }

    #[test]
    fn what_is_called_a_duplicate_is_the_same_event_again_and_nothing_else_is() {
        let mut ids = HashSet::new();
        let mut lines = HashSet::new();
        let (mut repeats, mut promised) = (0, 0);
        for record in (0..4).flat_map(all) {
            if let Some(event) = record
                .json
                .filter(|_| record.kind != BehaviourKind::Malformed)
            {
                let id = event["eventId"].as_str().unwrap().to_owned();
                assert_eq!(id.len(), 36);
                promised += u32::from(record.kind == BehaviourKind::Duplicate);
                repeats += u32::from(!ids.insert(id));
                lines.insert(record.line);
            }
        }
        assert_eq!(repeats, promised);
        assert_eq!(lines.len(), ids.len());
    }

    #[test]
    fn an_event_has_the_five_fields_and_a_malformed_one_lacks_something() {
        let mut how = HashSet::new();
        for record in (0..4).flat_map(all) {
            let is_event = record.json.as_ref().is_some_and(|event| {
                ["eventId", "eventType", "userId"]
                    .iter()
                    .all(|name| event[name].is_string())
                    && event["timestamp"].is_u64()
                    && event["data"]["contentId"].is_string()
            });
            assert_eq!(is_event, record.kind != BehaviourKind::Malformed);
            assert!(!record.line.contains(&b'\n'));
            if !is_event {
                how.insert(record.line.len());
            }
        }
        assert!(how.len() >= 6);
    }
}
