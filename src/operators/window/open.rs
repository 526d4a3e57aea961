//! The windows that are open, each a table of accumulators.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::ops::Bound::{Included, Unbounded};

use crate::error::Result;
use crate::state::saved::{Parcels, Saved};
use crate::state::{Size, State, Table};
use crate::time::{EventTime, Progress, Tumbling, Window};

/// See the module.
pub(super) struct OpenWindows<K, Acc> {
    windows: Tumbling,
    /// By their start, but for the one that was touched last.
    open: BTreeMap<EventTime, Table<K, Acc>>,
    pub(super) recent: Table<K, Acc>,
    of: Window,
    tracks: bool,
    /// The window that a checkpoint saves at the moment.
    saving: EventTime,
}

const NOWHERE: Window = Window {
    start: EventTime::NEVER,
    end: EventTime::NEVER,
};

impl<K: State + Hash + Eq, Acc: State> OpenWindows<K, Acc> {
    pub(super) fn new(windows: Tumbling) -> Self {
        Self {
            windows,
            open: BTreeMap::new(),
            recent: Table::default(),
            of: NOWHERE,
            tracks: false,
            saving: EventTime::NEVER,
        }
    }

    /// The window of `at` is the recent one from now on.
    #[inline]
    pub(super) fn turn_to(&mut self, at: EventTime) {
        if at < self.of.start || at >= self.of.end {
            self.turn(self.windows.window(at));
        }
    }

    fn turn(&mut self, window: Window) {
        let next = self.open.remove(&window.start).unwrap_or_else(|| {
            let mut fresh = Table::default();
            if self.tracks {
                fresh.track();
            }
            fresh
        });
        let before = std::mem::replace(&mut self.of, window);
        let table = std::mem::replace(&mut self.recent, next);
        if !table.is_empty() {
            self.open.insert(before.start, table);
        }
    }

    /// The first window, if it ends at or before `horizon`, taken out.
    pub(super) fn pop_before(&mut self, horizon: EventTime) -> Option<(Window, Table<K, Acc>)> {
        self.turn(NOWHERE);
        let first = self.open.first_entry()?;
        let window = self.windows.window(*first.key());
        (window.end <= horizon).then(|| (window, first.remove()))
    }

    /// The first window; but for the recent one.
    pub(super) fn first(&self) -> Option<Window> {
        let first = self.open.keys().next();
        first.map(|start| self.windows.window(*start))
    }

    /// Accumulators; but for those of the recent window.
    pub(super) fn entries(&self) -> usize {
        self.open.values().map(Table::len).sum()
    }

    pub(super) fn size(&self) -> Size {
        let open: Size = self.open.values().map(Table::size).sum();
        open + self.recent.size()
    }
}

impl<K: State + Hash + Eq, Acc: State> Saved for OpenWindows<K, Acc> {
    fn track(&mut self) {
        self.tracks = true;
        self.turn(NOWHERE);
        self.recent = Table::default();
        self.recent.track();
        self.open.values_mut().for_each(Table::track);
    }

    fn check(&self) -> Result {
        let mut tables = self.open.values().chain([&self.recent]);
        let first = tables.find(|table| !table.is_empty());
        first.map_or(Ok(()), Table::check)
    }

    fn save(&mut self, all: bool, room: usize, out: &mut Parcels) -> Result<bool> {
        self.turn(NOWHERE);
        let mut open = self.open.range_mut((Included(self.saving), Unbounded));
        let Some((start, table)) = open.next() else {
            self.saving = EventTime::NEVER;
            return Ok(false);
        };
        out.group(start.millis());
        self.saving = if table.save(all, room, out)? {
            *start
        } else {
            start.plus(1)
        };
        Ok(true)
    }

    fn held(&self) -> usize {
        self.entries() + self.recent.len()
    }

    fn load(&mut self, group: i64, entry: &[u8]) -> Result<bool> {
        let table = self.open.entry(EventTime::from_millis(group));
        table.or_default().load(group, entry)
    }

    fn renew(&mut self) -> Result {
        self.turn(NOWHERE);
        self.open.values_mut().try_for_each(Table::renew)
    }

    /// A window that has fired is not saved as such.
    fn loaded(&mut self, progress: Progress) {
        let windows = self.windows;
        self.open.retain(|start, table| {
            windows.window(*start).end > progress.horizon && !table.is_empty()
        });
    }
}
