//! `user_activity`: each event once by its id, then per user and tumbling window what they did and
//! in which order.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use super::door::{Event, judge};
use super::json::quote;
use super::object::{Field, Object, integer};
use super::{Counts, Input, Outcome, Params, time};

/// The named fields that results show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    id: String,
    kind: String,
    user: String,
}

/// What a bounded run of the job gives.
pub fn run(input: &Input, params: &Params) -> Outcome {
    let verdicts = judge(input, params, |value| decode(value, params));
    let entered = verdicts.entered.len();
    let kept = first_of_each(verdicts.entered, params.retention);
    let used = kept.len();
    // Pushed in the order of positions, so the first and last of each list are those of the window.
    let mut windows: BTreeMap<(String, i64), Vec<Action>> = BTreeMap::new();
    for event in kept {
        let window = (event.body.user.clone(), params.window_start(event.time));
        windows.entry(window).or_default().push(event.body);
    }
    let results: Vec<String> = windows
        .iter()
        .map(|((user, start), actions)| line(user, *start, *start + params.size, actions))
        .collect();
    Outcome {
        counts: Counts {
            read: verdicts.read,
            used,
            duplicates: entered - used,
            late: verdicts.late.len(),
            dead: verdicts.dead.len(),
            results: results.len(),
        },
        results,
        late: verdicts.late,
        dead: verdicts.dead,
    }
}

/// Drops each event that has a kept one of the same id less than `retention` before it. A dropped
/// one protects nobody: only kept ones count, so an id that comes back forever is kept once each
/// `retention`.
fn first_of_each(sorted: Vec<Event<Action>>, retention: i64) -> Vec<Event<Action>> {
    let mut kept_at: HashMap<String, i64> = HashMap::new();
    let mut kept = Vec::new();
    for event in sorted {
        let before = kept_at.get(&event.body.id);
        if before.is_some_and(|before| event.time - before < retention) {
            continue;
        }
        kept_at.insert(event.body.id.clone(), event.time);
        kept.push(event);
    }
    kept
}

/// One result. `by_type` is sorted as Rust sorts strings, by the bytes of UTF-8.
fn line(user: &str, start: i64, end: i64, actions: &[Action]) -> String {
    let mut by_type: BTreeMap<&str, u64> = BTreeMap::new();
    for action in actions {
        *by_type.entry(&action.kind).or_default() += 1;
    }
    let mut counts = String::new();
    for (kind, count) in by_type {
        let comma = if counts.is_empty() { "" } else { "," };
        write!(counts, "{comma}{}:{count}", quote(kind)).expect("a string takes all");
    }
    format!(
        "{{\"userId\":{},\"window_start\":{start},\"window_end\":{end},\"events\":{},\
         \"by_type\":{{{counts}}},\"first_event_id\":{},\"last_event_id\":{}}}",
        quote(user),
        actions.len(),
        quote(&actions[0].id),
        quote(&actions[actions.len() - 1].id),
    )
}

/// Event time, and what the named fields say.
///
/// # Errors
/// What is wrong with the record.
pub fn decode(value: &[u8], params: &Params) -> Result<(i64, Action), String> {
    let event = Object::parse(value)?;
    let action = Action {
        id: event.text("eventId")?.to_owned(),
        kind: event.text("eventType")?.to_owned(),
        user: event.text("userId")?.to_owned(),
    };
    let time = match event.one("timestamp")? {
        Field::Number(text) => integer(text).and_then(|number| params.unit.millis(number)),
        Field::Text(text) => time::rfc3339(text),
        _ => None,
    };
    let time = time.ok_or("`timestamp` is no time")?;
    match event.one("data")? {
        Field::Object(_) => Ok((time, action)),
        other => Err(format!("`data` is {other:?}")),
    }
}
