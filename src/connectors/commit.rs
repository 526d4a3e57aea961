//! Where checkpoints become final, and what of a source is in them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

#[cfg(feature = "kafka")]
pub(crate) use super::kafka::Transaction as Transactions;
use crate::error::Result;
use crate::state::OutputState;

/// Where the checkpoints of a run become final: together with everything that its sinks wrote.
pub(crate) trait Commit: Send + Sync {
    /// Where that is, for messages.
    fn describe(&self) -> String;

    /// Looks at whether a run may commit, as far as that is told without effects.
    fn check(&self) -> Result;

    /// The record that was committed last.
    fn last(&self) -> Result<Option<Vec<u8>>>;

    /// Who runs the job, or did so a moment ago.
    fn members(&self) -> Result<Vec<Member>>;

    /// From now on this process, `who`, runs the job.
    fn own(&self, who: &str) -> Result;

    /// Makes the place, if it is not there.
    fn prepare(&self) -> Result;

    /// Shuts out every other instance of the job, and settles what they left open.
    fn fence(&self) -> Result;

    /// Waits until everything that was handed over is written; behind which offsets that ends, of
    /// the partitions that this process has written to.
    fn written(&self) -> Result<Vec<PartitionEnd>>;

    /// What was written since the last commit becomes visible, and `record` with it. Nothing is
    /// written meanwhile. Returns whether it may have been sent twice: then [`Commit::renew`] has
    /// to be called before anything is written.
    fn commit(&self, record: &[u8]) -> Result<bool>;

    /// A late copy of the commit of `record` has no effect any more.
    fn renew(&self, record: &[u8]) -> Result;

    /// After how long what was written and not committed is given up; `None`: never.
    fn timeout(&self) -> Option<Duration> {
        None
    }

    /// The run is over.
    fn stop(&self);
}

/// Somebody who runs a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// What it says of itself.
    pub(crate) name: String,
    /// Where it is seen from the cluster.
    pub(crate) host: String,
}

/// Behind which offsets the results in a topic end, by partition; `None`: nothing was written
/// there, or it is not known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TopicEnds {
    pub(crate) topic: String,
    pub(crate) ends: Vec<Option<i64>>,
}

/// Behind which offset the results end in a partition that was written to; `None`: nobody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartitionEnd {
    pub(crate) topic: String,
    pub(crate) partition: u32,
    pub(crate) end: Option<i64>,
}

impl TopicEnds {
    /// Takes what is new into `all`, also that an end is not known any more.
    pub(crate) fn merge(all: &mut Vec<Self>, new: Vec<PartitionEnd>) {
        for new in new {
            let known = all.iter().position(|known| known.topic == new.topic);
            let known = known.unwrap_or_else(|| {
                all.push(Self {
                    topic: new.topic,
                    ends: Vec::new(),
                });
                all.len() - 1
            });
            let (ends, nth) = (&mut all[known].ends, new.partition as usize);
            ends.resize(ends.len().max(nth + 1), None);
            ends[nth] = new.end;
        }
    }
}

/// Files of a sink that become visible with checkpoints. [`Outputs::cut`] and [`Outputs::show`] are
/// called by whoever makes them, while nothing is written.
pub trait Outputs {
    /// The file or the folder, with links resolved.
    fn place(&self) -> String;

    /// Whether it is one file, which has its name when the run has ended.
    fn is_one_file(&self) -> bool;

    /// It takes part in checkpoints, and goes on with what the last one has of it. Called before
    /// the sink is prepared.
    fn go_on(&self, before: Option<&OutputState>);

    /// Whether something waits for a checkpoint to show it. `ends`: it would be the last one.
    ///
    /// # Errors
    /// The sink is not prepared.
    fn is_due(&self, ends: bool) -> Result<bool>;

    /// Makes durable what was written, and says what that is.
    ///
    /// # Errors
    /// Names the file.
    fn cut(&self, ends: bool) -> Result<OutputState>;

    /// The checkpoint with `state` is committed: what is done in it can be seen.
    ///
    /// # Errors
    /// Names the file.
    fn show(&self, state: &OutputState) -> Result;
}

/// What a source reads, by what a checkpoint knows it again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceCut {
    /// What tells this log from another of the same name; empty: nothing does.
    pub identity: String,
    /// Its partitions.
    pub partitions: Vec<PartitionCut>,
}

/// What of a partition is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionCut {
    /// Its number.
    pub partition: u32,
    /// The offset of the next record.
    pub next: u64,
    /// The offset where a bounded run ends.
    pub end: Option<u64>,
}

/// Without Kafka there are none.
#[cfg(not(feature = "kafka"))]
#[derive(Debug)]
pub(crate) enum Transactions {}

#[cfg(not(feature = "kafka"))]
impl Commit for Transactions {
    fn describe(&self) -> String {
        match *self {}
    }

    fn check(&self) -> Result {
        match *self {}
    }

    fn last(&self) -> Result<Option<Vec<u8>>> {
        match *self {}
    }

    fn members(&self) -> Result<Vec<Member>> {
        match *self {}
    }

    fn own(&self, _: &str) -> Result {
        match *self {}
    }

    fn prepare(&self) -> Result {
        match *self {}
    }

    fn fence(&self) -> Result {
        match *self {}
    }

    fn written(&self) -> Result<Vec<PartitionEnd>> {
        match *self {}
    }

    fn commit(&self, _: &[u8]) -> Result<bool> {
        match *self {}
    }

    fn renew(&self, _: &[u8]) -> Result {
        match *self {}
    }

    fn stop(&self) {
        match *self {}
    }
}
