//! What is done to a job, drawn from a seed.

use std::time::Duration;

use super::arguments::{Arguments, BrokerKind, Jobs};
use super::proxy::Hold;
use crate::oracle::Job;
use crate::oracle::text::Rng;

/// More in one round would make its log large.
const PER_ROUND: usize = 40;

/// When a job is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// So long after its start, whatever it does by then.
    Started(Duration),
    /// So long after it has committed for the first time.
    Committed(Duration),
}

/// What happens to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outage {
    Cut,
    /// Each frame comes so much later, for so long.
    Slow(Duration, Duration),
    /// Nothing passes, and nobody is told.
    Dark(Duration),
    /// An end of a transaction is held; then the job is killed so much later, or left alone.
    Hold(Hold, Option<Duration>),
}

/// One thing that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Kill(Moment),
    Zombie {
        /// It is stopped then.
        stop: Moment,
        /// It is stopped while it waits for the answer to its commit.
        in_doubt: bool,
        /// The instance after it is killed too, before it wakes.
        kill: bool,
        /// It wakes so much later.
        sleeps: Duration,
    },
    Restart {
        /// Stopped, not killed.
        clean: bool,
        /// It stays away for so long.
        away: Duration,
    },
    Rebuild {
        /// It is killed before it has done it, so many times.
        kills: usize,
    },
    Outage(Outage),
}

impl Deed {
    /// Seconds that it takes, about.
    fn cost(&self) -> usize {
        match self {
            Deed::Kill(_) => 2,
            Deed::Zombie { .. } | Deed::Rebuild { .. } => 5,
            Deed::Restart { .. } => 12,
            Deed::Outage(_) => 4,
        }
    }
}

/// The life of one job: a topic of its own from start to end.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) job: Job,
    pub(crate) deeds: Vec<Deed>,
    /// Records of its log.
    pub(crate) records: usize,
}

/// The rounds of a run.
pub(crate) fn plans(arguments: &Arguments, seed: u64) -> Vec<Plan> {
    let mut rng = Rng(seed);
    let mut deeds = Vec::new();
    deeds.extend((0..arguments.kills).map(|_| Deed::Kill(moment(&mut rng))));
    let has_proxy = arguments.faults > 0;
    deeds.extend((0..arguments.zombies).map(|_| zombie(&mut rng, has_proxy)));
    let restarts = match arguments.broker {
        BrokerKind::Embedded => 0,
        BrokerKind::Kafka => arguments.restarts,
    };
    deeds.extend((0..restarts).map(|nth| Deed::Restart {
        clean: nth % 2 == 1,
        away: Duration::from_millis(rng.bits() % 3_000),
    }));
    deeds.extend((0..arguments.rebuilds).map(|_| Deed::Rebuild {
        kills: rng.below(3),
    }));
    deeds.extend((0..arguments.faults).map(|_| Deed::Outage(outage(&mut rng))));
    for last in (1..deeds.len()).rev() {
        deeds.swap(last, rng.below(last + 1));
    }
    let jobs: &[Job] = match arguments.job {
        Jobs::BidStats => &[Job::BidStats],
        Jobs::UserActivity => &[Job::UserActivity],
        Jobs::Both => &[Job::BidStats, Job::UserActivity],
    };
    let rounds = deeds
        .len()
        .div_ceil(PER_ROUND)
        .next_multiple_of(jobs.len())
        .max(jobs.len());
    let mut plans = Vec::new();
    for (round, job) in (0..rounds).zip(jobs.iter().cycle()) {
        // Dealt out like cards, so that rounds differ by one at most.
        let mine: Vec<_> = deeds.iter().skip(round).step_by(rounds).copied().collect();
        let seconds = 3 + mine.iter().map(Deed::cost).sum::<usize>();
        plans.push(Plan {
            seed: rng.bits(),
            job: *job,
            records: seconds * arguments.rate,
            deeds: mine,
        });
    }
    plans
}

fn millis(rng: &mut Rng, most: u64) -> Duration {
    Duration::from_micros(rng.bits() % (most * 1_000))
}

/// While it starts, while it recovers, and mostly at work.
fn moment(rng: &mut Rng) -> Moment {
    match rng.below(10) {
        0..2 => Moment::Started(millis(rng, 300)),
        2..4 => Moment::Started(millis(rng, 1_500)),
        4..7 => Moment::Committed(millis(rng, 300)),
        _ => Moment::Committed(millis(rng, 2_000)),
    }
}

fn zombie(rng: &mut Rng, has_proxy: bool) -> Deed {
    let early = rng.one_in(5);
    let stop = if early {
        Moment::Started(millis(rng, 1_200))
    } else {
        Moment::Committed(millis(rng, 1_000))
    };
    Deed::Zombie {
        stop,
        in_doubt: has_proxy && !early && rng.one_in(2),
        kill: rng.one_in(3),
        sleeps: millis(rng, 3_000),
    }
}

fn outage(rng: &mut Rng) -> Outage {
    match rng.below(8) {
        0 => Outage::Cut,
        1 => Outage::Slow(millis(rng, 200), Duration::from_millis(1_500)),
        2 => Outage::Dark(millis(rng, 4_000)),
        _ => {
            let time = millis(rng, 3_000);
            let soon = millis(rng, 300);
            let kills = rng.one_in(2);
            // A request that comes late does harm only if the job dies of something else just then.
            let (hold, after) = match rng.below(3) {
                0 => (Hold::Answer(time), soon),
                1 => (Hold::AnswerLost(time), soon),
                _ => (Hold::Request(time), time + soon / 2),
            };
            let kill = kills.then_some(after);
            Outage::Hold(hold, kill)
        }
    }
}
