//! All that the model sees of a job, its disk and its broker, and its 256 bits.

/// The most epochs, checkpoints and results per worker that a run may have.
pub const EPOCHS: usize = 3;
pub const WORKERS: usize = 2;
/// Where a checkpoint or cut could stand and there is none.
pub const NONE: u8 = 7;
/// In a lineage: the epoch lies before the offsets at which the job started.
pub const SKIPPED: u8 = 7;

/// Which incarnation applied each epoch; 0: none has. User code may decide otherwise each time, so
/// two incarnations that applied the same epoch count as different states.
pub type Lineage = [u8; EPOCHS];
pub type Packed = [u64; 4];

/// What a progress record names: a manifest, by folder, generation and checkpoint. Generations
/// count from 1; 0 is no record at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Name {
    pub folder: u8,
    pub generation: u8,
    pub checkpoint: u8,
}

impl Name {
    pub fn is_some(self) -> bool {
        self.generation != 0
    }
}

/// Where a process stands. From [`Stage::Running`] on its workers run, and the stage is that of
/// the thread that commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    #[default]
    Absent,
    /// Will read the progress topic for the first time, and fence nobody yet.
    Looking,
    /// Will call `init_transactions`.
    Fencing,
    /// Will read the progress topic again.
    Reading,
    /// Will load the manifest that was named, and open a generation.
    Loading,
    Running,
    /// The manifest is written, but not synced.
    Written,
    /// The manifest is durable: the checkpoint is prepared.
    Prepared,
    /// The progress record is in the transaction.
    Recorded,
    /// The commit is under way.
    Committing,
    /// Committed, but perhaps a copy of the request still is; the producer will be replaced.
    Renewing,
    /// Committed; the progress record, outside of the transaction, is not written yet.
    Publishing,
    /// Committed; what no record names will be deleted.
    Deleting,
    /// The last epoch is committed.
    Finished,
}

const STAGES: [Stage; 14] = [
    Stage::Absent,
    Stage::Looking,
    Stage::Fencing,
    Stage::Reading,
    Stage::Loading,
    Stage::Running,
    Stage::Written,
    Stage::Prepared,
    Stage::Recorded,
    Stage::Committing,
    Stage::Renewing,
    Stage::Publishing,
    Stage::Deleting,
    Stage::Finished,
];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    pub stage: Stage,
    /// The state folder that it was given.
    pub folder: u8,
    /// Its number among all that got as far as loading; unique, whatever the protocol does.
    pub incarnation: u8,
    /// The generation that it writes; before it has one, that of the manifest it will load.
    pub generation: u8,
    /// What each worker's part of the state has seen.
    pub lineage: [Lineage; WORKERS],
    /// Up to which epoch each worker's results were produced into a transaction.
    pub produced: [u8; WORKERS],
    /// Where each worker's part of the declared checkpoint was cut; its part is durable then.
    pub frozen: [u8; WORKERS],
    /// The checkpoint that was declared and is not committed.
    pub declared: u8,
    /// The last checkpoint that was committed; before it runs, the one it will load.
    pub committed: u8,
    /// The commit under way was sent more than once.
    pub is_doubtful: bool,
    /// Which start it was. For the reader of a path; no part of the 256 bits.
    pub number: u8,
}

impl Process {
    pub fn new(folder: u8) -> Self {
        Self {
            stage: Stage::Looking,
            folder,
            frozen: [NONE; WORKERS],
            declared: NONE,
            committed: NONE,
            ..Self::default()
        }
    }

    pub fn applied(&self, worker: usize) -> u8 {
        length(self.lineage[worker])
    }

    /// The manifest of a checkpoint that this process writes.
    pub fn manifest(&self, checkpoint: u8) -> Name {
        Name {
            folder: self.folder,
            generation: self.generation,
            checkpoint,
        }
    }

    /// The manifest that the progress record named when it was read.
    pub fn named(&self) -> Name {
        if self.generation == 0 {
            return Name::default();
        }
        self.manifest(self.committed)
    }
}

/// Up to which epoch a lineage goes.
pub fn length(lineage: Lineage) -> u8 {
    let is_applied = |tag: &&u8| **tag != 0;
    lineage.iter().take_while(is_applied).map(|_| 1).sum()
}

/// The index of an epoch, which count from 1.
pub fn index(epoch: u8) -> usize {
    usize::from(epoch) - 1
}

/// A manifest on disk with the parts that it lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    pub name: Name,
    pub is_synced: bool,
    pub parts: [Lineage; WORKERS],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    #[default]
    Empty,
    /// Records are in it.
    Ongoing,
    /// Committed, and nothing can change that; but readers do not see it yet, and new records have
    /// to wait.
    Deciding,
}

/// The transaction of the job's one transactional id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    pub phase: Phase,
    /// Who produced into it.
    pub incarnation: u8,
    /// A bit for each epoch and worker: the result is in it.
    pub results: u8,
    /// The progress record in it.
    pub record: Name,
}

/// The bits of worker 0 among the results of a transaction.
const EVEN: u8 = 0b1_0101;

impl Transaction {
    pub fn bit(epoch: u8, worker: usize) -> u8 {
        1 << (index(epoch) * WORKERS + worker)
    }
}

/// As an owner: nobody is refused.
pub const ANYBODY: u8 = 3;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct World {
    /// The older one first; when there is one, it is the first.
    pub processes: [Process; 2],
    /// Whose producer has the newest epoch: 0 is a dead one, n the n-th process. The broker
    /// refuses all others.
    pub owner: u8,
    /// Copies of the owner's commit request that are under way; those of others have no effect.
    pub requests: u8,
    pub transaction: Transaction,
    /// The progress record that is committed, and the one that readers see.
    pub decided: Name,
    pub visible: Name,
    /// Who made each worker's committed result of each epoch; 0: there is none.
    pub results: [Lineage; WORKERS],
    pub disk: [Manifest; 4],
    /// Before which epoch the job started, since the first record was read; `NONE` before that.
    pub start: u8,
    /// Incarnations and faults so far.
    pub incarnations: u8,
    pub faults: u8,
    /// How many processes were started. For the reader of a path; no part of the 256 bits.
    pub starts: u8,
}

impl World {
    pub fn first() -> Self {
        let mut world = Self {
            start: NONE,
            ..Self::default()
        };
        world.add(Process::new(0));
        world
    }

    pub fn alive(&self) -> usize {
        let is_alive = |process: &&Process| process.stage != Stage::Absent;
        self.processes.iter().take_while(is_alive).count()
    }

    pub fn is_owner(&self, process: usize) -> bool {
        self.owner == ANYBODY || usize::from(self.owner) == process + 1
    }

    pub fn remove(&mut self, process: usize) {
        if process == 0 {
            self.processes[0] = self.processes[1];
        }
        self.processes[1] = Process::default();
        let number = u8::try_from(process + 1).expect("two processes at most");
        match self.owner {
            ANYBODY => {}
            owner if owner == number => self.owner = 0,
            owner if owner > number => self.owner -= 1,
            _ => {}
        }
    }

    /// Adds a process; the oldest of two sleeps for ever then.
    pub fn add(&mut self, mut process: Process) {
        if self.alive() == self.processes.len() {
            self.remove(0);
        }
        self.starts += 1;
        process.number = self.starts;
        self.processes[self.alive()] = process;
    }

    pub fn find(&self, name: Name) -> Option<&Manifest> {
        let named = |manifest: &&Manifest| name.is_some() && manifest.name == name;
        self.disk.iter().find(named)
    }

    /// Keeps the manifests that are asked for, in the order of their names.
    pub fn retain(&mut self, keep: impl Fn(&Manifest) -> bool) {
        for manifest in &mut self.disk {
            if !keep(manifest) {
                *manifest = Manifest::default();
            }
        }
        // Free places last.
        self.disk.sort_unstable_by_key(|manifest| {
            let name = manifest.name;
            let rank = (name.folder, name.generation, name.checkpoint);
            (!name.is_some(), rank)
        });
    }

    /// Writes a manifest, over one of the same name.
    pub fn write(&mut self, manifest: Manifest) {
        self.retain(|other| other.name != manifest.name);
        let free = self.disk.iter_mut().find(|place| !place.name.is_some());
        *free.expect("a run has few manifests at a time") = manifest;
        self.retain(|_| true);
    }

    /// Whether the newest process has come to the end.
    pub fn is_finished(&self) -> bool {
        let newest = self.alive().saturating_sub(1);
        self.processes[newest].stage == Stage::Finished
    }

    /// The same world, or the one in which the two workers have changed places, so that it is the
    /// same for both.
    pub fn with_workers_in_order(mut self) -> Self {
        let worker = |worker: usize| {
            let of_process = |process: &Process| {
                let cut = (process.produced[worker], process.frozen[worker]);
                (process.lineage[worker], cut)
            };
            let results = self.transaction.results >> worker & EVEN;
            let parts = self.disk.map(|manifest| manifest.parts[worker]);
            let kept = (self.results[worker], parts, results);
            (
                of_process(&self.processes[0]),
                of_process(&self.processes[1]),
                kept,
            )
        };
        if worker(0) <= worker(1) {
            return self;
        }
        for process in &mut self.processes {
            process.lineage.swap(0, 1);
            process.produced.swap(0, 1);
            process.frozen.swap(0, 1);
        }
        let results = &mut self.transaction.results;
        *results = (*results & EVEN) << 1 | *results >> 1 & EVEN;
        self.results.swap(0, 1);
        for manifest in &mut self.disk {
            manifest.parts.swap(0, 1);
        }
        self
    }

    pub fn pack(mut self) -> Packed {
        let mut bits = Pack::default();
        self.code(&mut bits);
        bits.finish()
    }

    pub fn unpack(packed: Packed) -> Self {
        let mut world = Self::default();
        world.code(&mut Unpack {
            words: packed,
            at: 0,
        });
        world
    }

    /// The one place that knows the encoding, in both directions.
    fn code(&mut self, bits: &mut impl Bits) {
        for process in &mut self.processes {
            code_process(process, bits);
        }
        bits.fields([&mut self.owner], 2);
        bits.fields([&mut self.requests], 2);
        let transaction = &mut self.transaction;
        let mut phase = transaction.phase as u8;
        bits.fields([&mut phase], 2);
        transaction.phase = [Phase::Empty, Phase::Ongoing, Phase::Deciding][usize::from(phase)];
        bits.fields([&mut transaction.incarnation], 3);
        bits.fields([&mut transaction.results], 6);
        code_name(&mut transaction.record, bits);
        code_name(&mut self.decided, bits);
        code_name(&mut self.visible, bits);
        code_lineages(&mut self.results, bits);
        for manifest in &mut self.disk {
            code_name(&mut manifest.name, bits);
            bits.flag(&mut manifest.is_synced);
            code_lineages(&mut manifest.parts, bits);
        }
        bits.fields([&mut self.start], 3);
        bits.fields([&mut self.incarnations], 3);
        bits.fields([&mut self.faults], 3);
    }
}

fn code_process(process: &mut Process, bits: &mut impl Bits) {
    let mut stage = process.stage as u8;
    bits.fields([&mut stage], 4);
    process.stage = STAGES[usize::from(stage)];
    bits.flag(&mut process.is_doubtful);
    bits.fields([&mut process.folder], 1);
    code_lineages(&mut process.lineage, bits);
    let [one, other] = &mut process.frozen;
    let numbers = [&mut process.incarnation, &mut process.generation];
    bits.fields(numbers, 3);
    bits.fields(
        [one, other, &mut process.declared, &mut process.committed],
        3,
    );
    bits.fields(process.produced.each_mut(), 2);
}

fn code_name(name: &mut Name, bits: &mut impl Bits) {
    bits.fields([&mut name.folder], 1);
    bits.fields([&mut name.generation], 3);
    bits.fields([&mut name.checkpoint], 2);
}

fn code_lineages([one, other]: &mut [Lineage; WORKERS], bits: &mut impl Bits) {
    bits.fields(one.each_mut(), 3);
    bits.fields(other.each_mut(), 3);
}

/// Writes fields to their bits, or reads them from there.
trait Bits {
    fn word(&mut self, word: &mut u64, width: u32);

    /// Fields of the same width.
    fn fields<const N: usize>(&mut self, values: [&mut u8; N], width: u32) {
        let mut word = 0;
        for value in values.iter().rev() {
            debug_assert!(u32::from(**value) < 1 << width, "a field of {width} bits");
            word = word << width | u64::from(**value);
        }
        self.word(&mut word, width * u32::try_from(N).expect("few fields"));
        for value in values {
            let bits = word & ((1 << width) - 1);
            *value = u8::try_from(bits).expect("fields have eight bits at most");
            word >>= width;
        }
    }

    fn flag(&mut self, value: &mut bool) {
        let mut bit = u8::from(*value);
        self.fields([&mut bit], 1);
        *value = bit == 1;
    }
}

#[derive(Default)]
struct Pack {
    words: Packed,
    /// Words that are full, and the one that is being filled.
    full: usize,
    word: u64,
    used: u32,
}

impl Pack {
    fn finish(mut self) -> Packed {
        self.words[self.full] = self.word;
        self.words
    }
}

impl Bits for Pack {
    #[inline]
    fn word(&mut self, word: &mut u64, width: u32) {
        self.word |= *word << self.used;
        self.used += width;
        if self.used >= u64::BITS {
            self.words[self.full] = self.word;
            self.full += 1;
            self.used -= u64::BITS;
            self.word = *word >> (width - self.used);
        }
    }
}

struct Unpack {
    words: Packed,
    at: u32,
}

impl Bits for Unpack {
    #[inline]
    fn word(&mut self, word: &mut u64, width: u32) {
        let (at, shift) = (self.at as usize / 64, self.at % 64);
        let mut bits = self.words[at] >> shift;
        if shift + width > u64::BITS {
            bits |= self.words[at + 1] << (u64::BITS - shift);
        }
        *word = bits & ((1 << width) - 1);
        self.at += width;
    }
}
