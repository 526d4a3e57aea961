//! The engine in a world that a seed decides.
//!
//! What runs is the engine: doors, operators, sinks and what they hold back, checkpoints, the
//! store, manifests, recovery, reading a log again. What is simulated is all around it: the log and
//! the topics ([`broker`]), the way of requests to them ([`commit`]), the disk, and the clock. One
//! thread does everything, one step after the other; where two workers are, each has a thread, and
//! only the one that is told to goes on.
//!
//! Whatever an instance does to the outside is an *effect* ([`life`]). At each of them it may be
//! killed, lose its disk, or be stopped for as long as others take to take over; and everybody else
//! may do something before it happens: workers go on while a checkpoint is being committed.
//! [`story`] draws log, job and faults from the seed, [`world`] who is next. In every third seed
//! two sources share the log, and what comes of one waits for no door of the other.
//!
//! After each commit [`checks`] holds what is visible against [`oracle`], which shares no code with
//! the engine. Each check was seen to fail: [`Flaw`].
//!
//! Left out: who may run the job (the lock of the directory, the group: `ownership.rs`), for a
//! start here takes over at once; the client of Kafka, whose part [`commit`] plays; timers of the
//! workers, for doors are looked at in every step.

mod broker;
mod checks;
mod commit;
mod dice;
mod disk;
mod instance;
mod life;
mod oracle;
mod played;
mod ports;
mod story;
mod tests;
mod world;

/// Where the state lies.
const DIR: &str = "/state";

/// The protocol, but wrong in one place: a checker that does not see it proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    /// A commit is sent before its manifest is durable.
    NoSync,
    /// The next instance does not shut out the one before it.
    NoFence,
    /// Progress is read before others are shut out, and not again.
    ReadsBeforeFence,
    /// Sinks write what is behind a checkpoint before it is committed.
    NoHold,
    /// The same producer goes on after a commit that may have been sent twice.
    GoesOnInDoubt,
    /// Older manifests go before the next one is committed.
    CleansEarly,
    /// The record of progress is in no transaction.
    ProgressApart,
}
