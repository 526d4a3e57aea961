//! Everything that runs while the demo is shown: broker, users, the job, and who reads it back.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anabranch::broker::DevBroker;
use anabranch::cli::Status;
use anabranch::{Error, Result};

use super::check::{Verdict, check};
use super::clock::{millis, now, whole};
use super::feed::Feed;
use super::follow::Follower;
use super::model::Model;
use super::rules::{ACTIVITY, DEAD, EVENTS, LAG, LATE, PARTITIONS, SIZE};
use super::supervised::Supervised;

/// What the keys make of the rate, one after the other.
const RATES: [u64; 5] = [1_000, 5_000, 10_000, 20_000, 50_000];
/// The log is kept for the check, and the check holds it in memory.
const LOG_MAX: u64 = 3_000_000;
const MEMORY: usize = 512 << 20;
/// How long the job may make no progress while it reads what is left.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(10);

/// What a person may want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Late,
    Pause,
    Rate,
    Kill,
    Quit,
}

/// Everything that runs. Dropped, the job's process is killed and the broker stops.
pub(super) struct Stage {
    feed: Feed,
    follower: Follower,
    job: Supervised,
    address: String,
    /// How much the job had read, in the last second.
    reads: VecDeque<(Instant, u64)>,
    broker: DevBroker,
}

/// How a demo ended.
pub(super) struct Ended {
    pub(super) status: Status,
    pub(super) verdict: Verdict,
}

impl Stage {
    /// Starts it all, with `rate` records a second.
    pub(super) fn start(rate: u64) -> Result<Self> {
        let broker = DevBroker::builder()
            .memory(MEMORY)
            .topic(EVENTS, PARTITIONS as usize)
            .topic(ACTIVITY, PARTITIONS as usize)
            .topic(LATE, 1)
            .topic(DEAD, 1)
            .start()?;
        let address = broker.bootstrap();
        let job = Supervised::start(&address)?;
        Ok(Self {
            feed: Feed::start(&address, rate)?,
            follower: Follower::start(&address)?,
            job,
            address,
            reads: VecDeque::new(),
            broker,
        })
    }

    /// What is to be shown now.
    pub(super) fn moment(&mut self) -> Result<Model> {
        let status = self.job.status()?;
        let now = now();
        self.reads.push_back((now, status.read));
        let old = |(at, _): &(Instant, u64)| now.duration_since(*at) > Duration::from_secs(1);
        while self.reads.len() > 2 && self.reads.get(1).is_some_and(old) {
            self.reads.pop_front();
        }
        let (since, before) = self.reads[0];
        let passed = u64::try_from(now.duration_since(since).as_millis()).unwrap_or(1);
        Ok(Model {
            address: self.address.clone(),
            per_second: (status.read - before.min(status.read)) * 1_000 / passed.max(1),
            rate: self.feed.rate(),
            paused: self.feed.paused(),
            seen: self.follower.seen(),
            recovery: self.job.said(),
            status,
        })
    }

    /// Does what was wished, unless it is to quit.
    pub(super) fn act(&mut self, wish: Wish) -> Result {
        match wish {
            Wish::Late => self.feed.send_late(),
            Wish::Pause => {
                let next = self.feed.paused().is_none().then_some(PARTITIONS - 1);
                self.feed.pause(next);
            }
            Wish::Rate => {
                let rate = self.feed.rate();
                let next = RATES.iter().find(|other| **other > rate);
                self.feed.set_rate(*next.unwrap_or(&RATES[0]));
            }
            Wish::Kill => self.job.kill()?,
            Wish::Quit => {}
        }
        Ok(())
    }

    /// Whether the log is as long as it may become.
    pub(super) fn is_full(&self) -> bool {
        self.feed.written() >= LOG_MAX || self.broker.memory_used() >= MEMORY / 10 * 9
    }

    /// Why it cannot go on, if it cannot.
    pub(super) fn trouble(&mut self) -> Result {
        let of_job = self.job.trouble();
        let trouble = of_job
            .or_else(|| self.feed.trouble())
            .or_else(|| self.follower.trouble());
        trouble.map_or(Ok(()), Err)
    }

    /// Ends it: a last event in each partition closes every window, the job reads up to it and is
    /// closed, and everything is checked.
    pub(super) fn end(self) -> Result<Ended> {
        let Self {
            feed,
            follower,
            mut job,
            address,
            broker,
            ..
        } = self;
        drop(follower);
        let beyond = whole(SIZE) + whole(LAG);
        let mut last = 0;
        let largest = job.status()?.largest.unwrap_or(0);
        let written = feed.close(|| {
            last = millis().max(largest) + beyond;
            last
        })?;
        drain(&mut job, written, last - whole(LAG))?;
        let status = job.close()?;
        let verdict = check(&address, &status)?;
        broker.stop();
        Ok(Ended { status, verdict })
    }
}

/// Waits until the job has read all that was written and closed all windows before `watermark`.
fn drain(job: &mut Supervised, written: u64, watermark: i64) -> Result {
    let mut before = (now(), Status::default());
    loop {
        let status = job.status()?;
        let passed = status.watermark.is_some_and(|reached| reached >= watermark);
        if status.read >= written && passed && status.windows_open == 0 {
            return Ok(());
        }
        if let Some(error) = job.trouble() {
            return Err(error);
        }
        if status.read != before.1.read || status.results != before.1.results {
            before = (now(), status);
        } else if before.0.elapsed() > PATIENCE {
            let why = format!("the job has read {} of {written} records", status.read);
            return Err(Error::operating(why));
        }
        std::thread::sleep(LOOK);
    }
}
