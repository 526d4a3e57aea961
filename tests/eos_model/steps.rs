//! The names of all that can happen, be done wrong, and come of it.

use std::fmt;
use std::mem::discriminant;

use super::world::{Lineage, Name, Phase, SKIPPED, Transaction, WORKERS, World};

/// One way to go on.
#[derive(Clone, Copy, Debug)]
pub struct Next {
    pub step: Step,
    pub world: World,
    pub harm: Option<Harm>,
}

/// What the protocol prevents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// A result up to the progress record is not there.
    Lost,
    /// A result is committed a second time.
    Twice,
    /// A result is visible beyond the progress record.
    Beyond,
    /// Results of one epoch come from different incarnations.
    Torn,
    /// The progress record goes back.
    Backwards,
    /// The state that is loaded is not the one that the committed results came from.
    Diverges,
    /// A part of the state that is loaded has seen an epoch that will be applied to it again.
    NoCut,
    /// The manifest that committed progress names is not there, or not yet durable.
    Missing,
    /// A start is refused though nothing is lost.
    Refused,
    /// The last checkpoint is committed, and results are missing.
    Incomplete,
    /// Nothing more goes wrong, and yet the job does not end.
    Stuck,
}

/// What may be wrong with a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The transaction is committed while the manifest may still be in memory.
    CommitsBeforeDurable,
    /// The broker shuts nobody out: every process writes into the transaction that is open.
    FencesNobody,
    /// The progress record is read before `init_transactions`, and not again.
    ReadsProgressOnce,
    /// The generation is one above that of the progress record, whatever is on disk.
    ReusesGeneration,
    /// Who hears nothing of a commit waits for ever.
    NeverResends,
    /// The producer goes on after a commit that was sent twice.
    ReusesProducer,
    /// The progress record is written before the transaction is committed.
    RecordsBefore,
    /// The progress record is written after the transaction is committed.
    RecordsAfter,
    /// The checkpoint is not declared in the marks: a worker may go on before it freezes.
    FreezesLate,
    /// The newest manifest on disk is loaded, committed or not.
    RestoresNewest,
    /// Older manifests are deleted once the new one is durable.
    DeletesEarly,
    /// All manifests but the own are deleted, newer generations too.
    DeletesNewer,
    /// The probe stands before the sinks: results may still be on their way to the producer.
    ProbesBeforeSinks,
    /// Sinks produce what comes after a checkpoint that is not committed.
    ProducesAhead,
    /// The first start reads before its offsets are committed.
    StartsUnrecorded,
    /// A folder without state counts as a first start, whatever the progress topic says.
    IgnoresLineage,
    /// The manifest is looked for before others are fenced.
    AsksForManifestEarly,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The supervisor starts a process when none is there.
    Start,
    /// Fate: a second process starts while the first sleeps.
    TakeOver,
    /// Fate: a process starts on another state folder.
    StartElsewhere,
    /// Fate: kill -9.
    Kill(usize),
    /// Fate: all processes end, and what is not synced may be lost.
    PowerLoss,
    /// Fate: the broker aborts the open transaction and fences its producer.
    TimesOut,
    /// The broker lets readers see what is decided.
    Completes,
    /// The broker takes a commit request; the answer may be lost.
    Delivers { is_answered: bool },
    /// A process, the older one or the newer one, does something.
    Act(usize, Deed),
}

/// What a process does. Workers count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    Looks,
    Refuses,
    Fences,
    Reads,
    Loads,
    StartsAt(u8),
    Applies(usize, u8),
    Declares(usize, u8),
    Freezes(usize, u8),
    Produces(usize, u8),
    Writes(u8),
    Syncs,
    PutsOffSync,
    Records(u8),
    Sends,
    Resends,
    Renews,
    Publishes,
    Deletes,
    IsFenced,
    Fails,
}

impl Step {
    /// In words; processes have the numbers with which they were started.
    pub fn describe(&self, before: &World) -> String {
        let number = |who: usize| before.processes[who].number;
        match *self {
            Self::Start => "a process starts".to_owned(),
            Self::TakeOver => "FAULT: another process starts beside".to_owned(),
            Self::StartElsewhere => "FAULT: a process starts on another folder".to_owned(),
            Self::Kill(who) => format!("FAULT: process {} is killed", number(who)),
            Self::PowerLoss => "FAULT: power is lost, and what was not synced".to_owned(),
            Self::TimesOut => "FAULT: the broker aborts the transaction".to_owned(),
            Self::Completes => "broker: the commit can be seen".to_owned(),
            Self::Delivers { is_answered: true } => "broker: takes a commit, answers".to_owned(),
            Self::Delivers { is_answered: false } => {
                "broker: takes a commit, tells nobody".to_owned()
            }
            Self::Act(who, deed) => format!("process {}: {deed}", number(who)),
        }
    }

    /// Whether both are of one kind, whoever does it, on whatever worker and epoch.
    pub fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Act(_, one), Self::Act(_, other)) => discriminant(one) == discriminant(other),
            _ => discriminant(self) == discriminant(other),
        }
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Looks => write!(f, "reads progress, its lineage fits"),
            Self::Refuses => write!(f, "refuses to start"),
            Self::Fences => write!(f, "init_transactions"),
            Self::Reads => write!(f, "reads progress again"),
            Self::Loads => write!(f, "loads the manifest, opens a generation"),
            Self::StartsAt(epoch) => write!(f, "first start, behind epoch {epoch}"),
            Self::Applies(worker, epoch) => write!(f, "worker {worker} applies epoch {epoch}"),
            Self::Declares(worker, epoch) => {
                write!(f, "worker {worker} applies epoch {epoch}, a checkpoint")
            }
            Self::Freezes(worker, epoch) => {
                write!(f, "worker {worker} freezes behind epoch {epoch}")
            }
            Self::Produces(worker, epoch) => {
                write!(f, "worker {worker}'s result of epoch {epoch} is produced")
            }
            Self::Writes(checkpoint) => write!(f, "writes manifest {checkpoint}"),
            Self::Syncs => write!(f, "syncs the manifest"),
            Self::PutsOffSync => write!(f, "puts the sync off"),
            Self::Records(checkpoint) => write!(f, "produces progress record {checkpoint}"),
            Self::Sends => write!(f, "sends the commit"),
            Self::Resends => write!(f, "hears nothing, sends the commit again"),
            Self::Renews => write!(f, "new producer, init_transactions"),
            Self::Publishes => write!(f, "writes the progress record"),
            Self::Deletes => write!(f, "deletes older manifests"),
            Self::IsFenced => write!(f, "is fenced, ends"),
            Self::Fails => write!(f, "its transaction is gone, ends"),
        }
    }
}

/// A world in one line: `1.|11` are two workers of which one has applied epoch 1 and the other two
/// epochs, all in incarnation 1; `s` is an epoch before the start; `2.1?` is the manifest of
/// checkpoint 1 in generation 2, not synced.
impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for process in &self.processes[..self.alive()] {
            let parts = lineages(process.lineage);
            write!(f, "[{} {:?} {parts}] ", process.number, process.stage)?;
        }
        let results = lineages(self.results);
        write!(f, "committed {results} record {}", name(self.decided))?;
        let transaction = self.transaction;
        if transaction.phase != Phase::Empty {
            write!(f, ", {:?}", transaction.phase)?;
        }
        for worker in 0..WORKERS {
            for epoch in 1..=3 {
                if transaction.results & Transaction::bit(epoch, worker) != 0 {
                    write!(f, " {worker}/{epoch}")?;
                }
            }
        }
        if transaction.record.is_some() {
            write!(f, " record {}", name(transaction.record))?;
        }
        write!(f, ", disk")?;
        for manifest in self.disk.iter().filter(|manifest| manifest.name.is_some()) {
            let mark = if manifest.is_synced { "" } else { "?" };
            write!(f, " {}{mark}", name(manifest.name))?;
        }
        Ok(())
    }
}

fn name(name: Name) -> String {
    if !name.is_some() {
        return "-".to_owned();
    }
    let folder = if name.folder == 0 { "" } else { "other:" };
    format!("{folder}{}.{}", name.generation, name.checkpoint)
}

fn lineages(lineages: [Lineage; WORKERS]) -> String {
    let letter = |tag: u8| match tag {
        0 => ".".to_owned(),
        SKIPPED => "s".to_owned(),
        tag => tag.to_string(),
    };
    lineages.map(|tags| tags.map(letter).concat()).join("|")
}
