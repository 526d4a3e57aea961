//! The part of a stateful operator in checkpoints: between the declared epoch and the next, it
//! hands over what changed, some at a time, and applies nothing meanwhile.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use timely::progress::frontier::MutableAntichain;

use super::ByEpoch;
use super::by_epoch::Turn;
use crate::error::{Error, ErrorKind, Result};
use crate::observe;
use crate::state::advice::LOST;
use crate::state::saved::{Parcels, Saved};
use crate::state::{Checkpoints, Note, worker_of_slot};
use crate::stream::Context;
use crate::time::{Epoch, Progress};

/// Entries that one activation encodes: about a millisecond of small ones. Of large ones it encodes
/// fewer.
const ROOM: usize = 8_192;

/// See the module.
pub(super) struct Freezing {
    checkpoints: Arc<Checkpoints>,
    worker: usize,
    operator: Rc<str>,
    /// The first epoch that may be declared next.
    next: Epoch,
    /// The piece that is being handed over.
    piece: u8,
    open: Option<Parcels>,
    /// When it began to hand over.
    began: Instant,
    weights: Weights,
}

/// What entries of each piece take: bytes, of so many of them.
#[derive(Debug, Default)]
struct Weights(Vec<(u64, u64)>);

impl Weights {
    fn add(&mut self, piece: u8, bytes: u64, entries: u64) {
        let piece = usize::from(piece);
        if self.0.len() <= piece {
            self.0.resize(piece + 1, (0, 0));
        }
        let (all, count) = &mut self.0[piece];
        (*all, *count) = (*all + bytes, *count + entries);
    }

    /// Whether there were entries of `piece`.
    fn knows(&self, piece: u8) -> bool {
        let weight = self.0.get(usize::from(piece));
        weight.is_some_and(|(_, entries)| *entries > 0)
    }

    /// About what `entries` of `piece` take.
    fn of(&self, piece: u8, entries: usize) -> u64 {
        let (bytes, count) = self.0.get(usize::from(piece)).copied().unwrap_or_default();
        let bytes = u128::from(bytes) * entries as u128 / u128::from(count.max(1));
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

impl Freezing {
    /// Takes part in the checkpoints of `cx`, if there are any: loads what `logic` had, and returns
    /// what was known there.
    pub(super) fn begin<L: ByEpoch>(
        cx: &Context<'_>,
        operator: &Rc<str>,
        logic: &mut L,
    ) -> Option<(Self, Progress)> {
        let checkpoints = Arc::clone(cx.checkpoints.as_ref()?);
        let mut weights = Weights::default();
        let loaded = load(cx, &checkpoints, operator, logic, &mut weights);
        let progress = loaded.unwrap_or_else(|error| {
            cx.control.fail(error);
            Progress::START
        });
        track(logic);
        let this = Self {
            checkpoints,
            worker: cx.worker,
            operator: Rc::clone(operator),
            next: Epoch::FIRST,
            piece: 0,
            open: None,
            began: observe::now(),
            weights,
        };
        Some((this, progress))
    }

    /// Hands over what changed, if a checkpoint was declared and everything up to it, and nothing
    /// behind it, is applied. `first`: the first epoch of which something is at hand.
    pub(super) fn freeze<L: ByEpoch>(
        &mut self,
        logic: &mut L,
        frontiers: [&MutableAntichain<Epoch>; 2],
        first: Option<Epoch>,
        now: Progress,
    ) -> Result<Turn> {
        let Some((epoch, full)) = self.checkpoints.declared(self.next) else {
            return Ok(Turn::Done);
        };
        let incomplete = frontiers.iter().any(|frontier| frontier.less_equal(&epoch));
        if incomplete || first.is_some_and(|first| first <= epoch) {
            return Ok(Turn::Done);
        }
        if !self.checkpoints.has_room() {
            return Ok(Turn::Later);
        }
        let mut parcels = if let Some(parcels) = self.open.take() {
            parcels
        } else {
            if full {
                self.weights = Weights::default(); // it is weighed anew
            }
            self.began = observe::now();
            Parcels::of(&self.operator)
        };
        let more = self.save(logic, full, &mut parcels)?;
        if !more {
            parcels.end(now);
        }
        for bytes in parcels.done.drain(..) {
            let worker = self.worker;
            self.checkpoints.tell(Note::Parcel { worker, bytes });
        }
        if more {
            self.open = Some(parcels);
            return Ok(Turn::Again);
        }
        self.piece = 0;
        self.next = epoch.next();
        let (changed, live) = (parcels.changed, self.live(logic));
        self.checkpoints.tell(Note::Saved {
            began: self.began,
            changed,
            live,
        });
        Ok(Turn::Done)
    }

    /// Saves some of the state; returns whether there is more.
    fn save<L: ByEpoch>(&mut self, logic: &mut L, all: bool, out: &mut Parcels) -> Result<bool> {
        let mut saved = Ok(false);
        out.resume(self.piece);
        let before = out.held();
        let known = self.weights.knows(self.piece);
        let there = logic.piece(self.piece, &mut |piece| {
            let first = if known { Ok(()) } else { piece.check() };
            saved = first.and_then(|()| piece.save(all, ROOM, out));
        });
        let saved = saved.map_err(|why| self.cannot_keep(why));
        let (bytes, entries) = out.held();
        let (bytes, entries) = (bytes - before.0, entries - before.1);
        self.weights.add(self.piece, bytes, entries);
        if there && !saved? {
            self.piece += 1;
        }
        Ok(there)
    }

    /// That a type of records or state would be lost at a recovery.
    pub(super) fn cannot_keep(&self, why: Error) -> Error {
        let what = format!(
            "operator `{}` cannot keep what a restart could not read; a `Json` around the type can \
             be read",
            self.operator
        );
        Error::new(why.kind(), what).because(why)
    }

    /// About what all that `logic` holds would take.
    fn live<L: ByEpoch>(&self, logic: &mut L) -> u64 {
        let mut live = 0;
        let counted = each_piece(logic, |piece, number| {
            live += self.weights.of(number, piece.held());
            Ok(())
        });
        counted.expect("counting cannot fail");
        live
    }
}

/// From now on `logic` notes what changes.
pub(super) fn track<L: ByEpoch>(logic: &mut L) {
    each_piece(logic, |piece, _| {
        piece.track();
        Ok(())
    })
    .expect("tracking cannot fail");
}

/// Sends what has changed through the codec, and goes on with what came back.
pub(super) fn renew<L: ByEpoch>(logic: &mut L) -> Result {
    each_piece(logic, |piece, _| piece.renew())
}

fn load<L: ByEpoch>(
    cx: &Context<'_>,
    checkpoints: &Checkpoints,
    operator: &str,
    logic: &mut L,
    weights: &mut Weights,
) -> Result<Progress> {
    let Some(restored) = checkpoints.restored() else {
        return Ok(Progress::START);
    };
    let Some(progress) = restored.progress(operator) else {
        return Ok(Progress::START);
    };
    let (worker, workers) = (cx.worker as u64, cx.workers);
    let owns = |slot| worker_of_slot(slot as u64, workers) == worker;
    restored.entries(operator, owns, |number, group, entry| {
        let mut held = Ok(false);
        logic.piece(number, &mut |piece| held = piece.load(group, entry));
        let held = held.map_err(|why| {
            let what = format!(
                "operator `{operator}` cannot read its state, of which a type has changed; {LOST}"
            );
            Error::new(ErrorKind::State, what).because(why)
        })?;
        if held {
            weights.add(number, entry.len() as u64, 1);
        }
        Ok(())
    })?;
    each_piece(logic, |piece, _| {
        piece.loaded(progress);
        Ok(())
    })?;
    logic.loaded(progress);
    Ok(progress)
}

fn each_piece<L: ByEpoch>(
    logic: &mut L,
    mut each: impl FnMut(&mut dyn Saved, u8) -> Result,
) -> Result {
    for number in 0.. {
        let mut done = Ok(());
        if !logic.piece(number, &mut |piece| done = each(piece, number)) {
            break;
        }
        done?;
    }
    Ok(())
}
