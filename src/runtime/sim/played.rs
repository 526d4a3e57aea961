//! What came of a seed.

use super::story::Story;

/// How often things happened, to know that they do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) second_sources: u64,
    pub(super) starts: u64,
    pub(super) kills: u64,
    pub(super) power_losses: u64,
    pub(super) lost_disks: u64,
    /// Logs that were read again to the end, of which records had left as `idle`.
    pub(super) left_again: u64,
    pub(super) zombies: u64,
    pub(super) stops: u64,
    pub(super) disk_faults: u64,
    pub(super) late_requests: u64,
    pub(super) time_outs: u64,
    pub(super) overtaken: u64,
    pub(super) clock_jumps: u64,
    pub(super) commits: u64,
    pub(super) full_saves: u64,
}

/// What came of a seed.
#[derive(Debug)]
pub(super) struct Played {
    pub(super) story: Story,
    pub(super) hash: u64,
    pub(super) turns: u64,
    pub(super) counts: Counts,
    /// The first thing that was wrong.
    pub(super) wrong: Option<String>,
}
