//! Everything that a seed decides, and a record of what it decided.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The draws of one seed, in one order. A clone draws from the same.
#[derive(Clone, Debug)]
pub(super) struct Dice(Arc<Mutex<u64>>);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(seed)))
    }

    /// The next draw of `SplitMix64`.
    pub(super) fn draw(&self) -> u64 {
        let mut state = guard(&self.0);
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 up to `limit`, without it.
    pub(super) fn below(&self, limit: u64) -> u64 {
        self.draw() % limit.max(1)
    }

    /// A number from `from` up to `to`, without it.
    pub(super) fn between(&self, from: u64, to: u64) -> u64 {
        from + self.below(to - from)
    }

    pub(super) fn one_in(&self, many: u64) -> bool {
        self.below(many) == 0
    }

    pub(super) fn index(&self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a length")
    }
}

/// What happened, in one number, so that two runs can be compared; and in words, if asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Trace(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
struct Told {
    hash: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    pub(super) fn in_words() -> Self {
        let this = Self::default();
        guard(&this.0).lines = Some(Vec::new());
        this
    }

    pub(super) fn say(&self, who: usize, what: &str) {
        let mut told = guard(&self.0);
        let bytes = what.bytes().chain(who.to_le_bytes());
        told.hash = bytes.fold(told.hash ^ 0xCBF2_9CE4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
        });
        if let Some(lines) = &mut told.lines {
            lines.push(format!("instance {who}: {what}"));
        }
    }

    pub(super) fn hash(&self) -> u64 {
        guard(&self.0).hash
    }

    /// The last `some` lines.
    pub(super) fn last(&self, some: usize) -> String {
        let told = guard(&self.0);
        let lines = told.lines.as_deref().unwrap_or_default();
        lines[lines.len().saturating_sub(some)..].join("\n")
    }
}

/// What was guarded is whole also if somebody panicked.
pub(super) fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
