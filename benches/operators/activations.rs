//! How long the activations of timely operators are, as timely's own log says.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anabranch::EventStream;
use anabranch::State;
use anabranch::timely::logging::{StartStop, TimelyEvent, TimelyEventBuilder};

/// Milliseconds that an activation may take.
pub(crate) const ACTIVATION_MAX: f64 = 20.0;

/// The longest activation of each operator by its name, and how many of all took more than 20 ms.
#[derive(Clone, Debug, Default)]
pub(crate) struct Longest(Arc<Mutex<(Vec<(Duration, String)>, usize)>>);

impl Longest {
    /// Watches all operators of the worker that builds `stream`.
    pub(crate) fn watch<'scope, T: State>(
        &self,
        stream: EventStream<'scope, T>,
    ) -> EventStream<'scope, T> {
        let found = Arc::clone(&self.0);
        stream.timely(move |events| {
            let scope = events.scope();
            if let Some(mut register) = scope.worker().log_register() {
                let (mut names, mut starts) = (HashMap::new(), HashMap::new());
                register.insert::<TimelyEventBuilder, _>("timely", move |_, logged| {
                    for (at, event) in logged.iter_mut().flatten() {
                        note(&found, &mut names, &mut starts, *at, event);
                    }
                });
            }
            events
        })
    }

    /// The operator with the longest activation, its milliseconds, and activations above 20 ms.
    pub(crate) fn take(&self) -> (String, f64, usize) {
        let (list, above) = std::mem::take(&mut *self.0.lock().expect("nobody panics"));
        let (longest, name) = list.into_iter().max().unwrap_or_default();
        (name, longest.as_secs_f64() * 1e3, above)
    }
}

fn note(
    found: &Mutex<(Vec<(Duration, String)>, usize)>,
    names: &mut HashMap<usize, String>,
    starts: &mut HashMap<usize, Duration>,
    at: Duration,
    event: &TimelyEvent,
) {
    match event {
        TimelyEvent::Operates(operates) => {
            names.insert(operates.id, operates.name.clone());
        }
        TimelyEvent::Schedule(schedule) if schedule.start_stop == StartStop::Start => {
            starts.insert(schedule.id, at);
        }
        TimelyEvent::Schedule(schedule) => {
            let took = at.saturating_sub(starts.remove(&schedule.id).unwrap_or(at));
            if took < Duration::from_millis(1) {
                return;
            }
            let mut found = found.lock().expect("nobody panics");
            found.1 += usize::from(took > Duration::from_millis(20));
            let name = names.get(&schedule.id).cloned().unwrap_or_default();
            match found.0.iter_mut().find(|(_, other)| *other == name) {
                Some((longest, _)) => *longest = took.max(*longest),
                None => found.0.push((took, name)),
            }
        }
        _ => {}
    }
}
