//! Folders and files in memory: what is there, what is on the disk of it, and what a power loss
//! leaves.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::{Component, Path};

use crate::state::stable_hash;

/// A disk writes this many bytes wholly or not at all.
const BLOCK: usize = 512;
const ROOT: Id = 0;

/// A file or folder, whatever it is called.
pub(super) type Id = usize;

#[derive(Clone, Debug)]
enum Node {
    File(Contents),
    Folder(Names),
}

#[derive(Clone, Debug, Default)]
struct Contents {
    bytes: Vec<u8>,
    /// So many of them are on the disk.
    synced: usize,
    /// What stood behind those, and was cut off since the last sync: it may be on the disk still.
    cut_off: Vec<u8>,
    /// A sync failed: the system holds the bytes for written, and will not write them.
    given_up: bool,
}

#[derive(Clone, Debug, Default)]
struct Names {
    now: BTreeMap<String, Id>,
    synced: BTreeMap<String, Id>,
    /// What was done since the last sync.
    changes: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Put { name: String, id: Id },
    Take { name: String },
    Rename { from: String, to: String, id: Id },
}

/// What is drawn from one seed.
#[derive(Debug)]
struct Chance {
    seed: u64,
    drawn: u64,
}

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.drawn += 1;
        let drawn = stable_hash(&(self.seed, self.drawn)) >> 16;
        usize::try_from(drawn % limit as u64).expect("it is below a usize")
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    /// A number from 0 to `most`; often one of the two.
    fn some_of(&mut self, most: usize) -> usize {
        match self.below(4) {
            0 => 0,
            1 => most,
            _ => self.below(most + 1),
        }
    }
}

/// All that is on a disk.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
}

impl Default for Tree {
    fn default() -> Self {
        let root = Node::Folder(Names::default());
        Self { nodes: vec![root] }
    }
}

impl Tree {
    pub(super) fn create(&mut self, path: &Path) -> io::Result<Id> {
        self.add(path, Node::File(Contents::default()))
    }

    pub(super) fn create_folder(&mut self, path: &Path) -> io::Result<()> {
        self.add(path, Node::Folder(Names::default())).map(|_| ())
    }

    fn add(&mut self, path: &Path, node: Node) -> io::Result<Id> {
        let id = self.nodes.len();
        let (folder, name) = self.place(path)?;
        let names = self.names(folder)?;
        if names.now.contains_key(&name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        names.change(Change::Put { name, id });
        self.nodes.push(node);
        Ok(id)
    }

    pub(super) fn contents(&self, path: &Path) -> io::Result<&[u8]> {
        match &self.nodes[self.find(path)?] {
            Node::File(contents) => Ok(&contents.bytes),
            Node::Folder(_) => Err(ErrorKind::IsADirectory.into()),
        }
    }

    pub(super) fn append(&mut self, file: Id, bytes: &[u8]) -> io::Result<()> {
        self.file(file)?.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// What is cut off is gone for certain when the file is synced.
    pub(super) fn cut(&mut self, path: &Path, len: u64) -> io::Result<Id> {
        let id = self.find(path)?;
        let file = self.file(id)?;
        let len = usize::try_from(len).map_err(|_| ErrorKind::InvalidInput)?;
        if len < file.bytes.len() {
            file.cut(len);
        }
        file.bytes.resize(len, 0);
        Ok(id)
    }

    pub(super) fn sync(&mut self, file: Id) -> io::Result<()> {
        let file = self.file(file)?;
        if !file.given_up {
            file.synced = file.bytes.len();
            file.cut_off.clear();
        }
        Ok(())
    }

    /// What is not synced now never will be.
    pub(super) fn give_up(&mut self, file: Id) -> io::Result<()> {
        self.file(file)?.given_up = true;
        Ok(())
    }

    pub(super) fn flip(&mut self, path: &Path, at: usize, bits: u8) -> io::Result<()> {
        let id = self.find(path)?;
        let byte = self.file(id)?.bytes.get_mut(at);
        *byte.ok_or(ErrorKind::UnexpectedEof)? ^= bits;
        Ok(())
    }

    pub(super) fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        match &self.nodes[self.find(folder)?] {
            Node::Folder(names) => Ok(names.now.keys().cloned().collect()),
            Node::File(_) => Err(ErrorKind::NotADirectory.into()),
        }
    }

    pub(super) fn sync_folder(&mut self, folder: &Path) -> io::Result<()> {
        let id = self.find(folder)?;
        let names = self.names(id)?;
        names.synced.clone_from(&names.now);
        names.changes.clear();
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path, is_folder: bool) -> io::Result<()> {
        let (folder, name) = self.place(path)?;
        match &self.nodes[self.find(path)?] {
            Node::Folder(names) if is_folder && !names.now.is_empty() => {
                return Err(ErrorKind::DirectoryNotEmpty.into());
            }
            Node::Folder(_) if !is_folder => return Err(ErrorKind::IsADirectory.into()),
            Node::File(_) if is_folder => return Err(ErrorKind::NotADirectory.into()),
            _ => self.names(folder)?.change(Change::Take { name }),
        }
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (old_folder, old) = self.place(from)?;
        let (new_folder, new) = self.place(to)?;
        let id = self.find(from)?;
        let is_folder = matches!(self.nodes[id], Node::Folder(_));
        let replaced = self.names(new_folder)?.now.get(&new).copied();
        if replaced == Some(id) {
            return Ok(()); // two names of one file, which then both stay
        }
        if to.starts_with(from) {
            return Err(ErrorKind::InvalidInput.into());
        }
        if from.starts_with(to) {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        if is_folder && old_folder != new_folder {
            return Err(ErrorKind::Unsupported.into());
        }
        match replaced.map(|replaced| &self.nodes[replaced]) {
            Some(Node::Folder(_)) if !is_folder => return Err(ErrorKind::IsADirectory.into()),
            Some(Node::File(_)) if is_folder => return Err(ErrorKind::NotADirectory.into()),
            Some(Node::Folder(names)) if !names.now.is_empty() => {
                return Err(ErrorKind::DirectoryNotEmpty.into());
            }
            _ => {}
        }
        if old_folder == new_folder {
            let (from, to) = (old, new);
            self.names(old_folder)?
                .change(Change::Rename { from, to, id });
        } else {
            // No change that a power loss may choose: the old name goes with a sync of its folder
            // only, so that a file is lost only if that comes before the sync of the new one.
            self.names(old_folder)?.now.remove(&old);
            self.names(new_folder)?
                .change(Change::Put { name: new, id });
        }
        Ok(())
    }

    /// What is found after a power loss.
    pub(super) fn after_power_loss(&self, seed: u64) -> Self {
        let chance = &mut Chance { seed, drawn: 0 };
        let is_file = |id: Id| matches!(self.nodes[id], Node::File(_));
        let lose = |node: &Node| match node {
            Node::File(contents) => Node::File(contents.after_power_loss(chance)),
            Node::Folder(names) => Node::Folder(names.after_power_loss(chance, is_file)),
        };
        let nodes = self.nodes.iter().map(lose).collect();
        Self { nodes }
    }

    fn find(&self, path: &Path) -> io::Result<Id> {
        let mut found = ROOT;
        for name in names_in(path) {
            found = match &self.nodes[found] {
                Node::Folder(names) => *names.now.get(name?).ok_or(ErrorKind::NotFound)?,
                Node::File(_) => return Err(ErrorKind::NotADirectory.into()),
            };
        }
        Ok(found)
    }

    /// The folder that holds `path`, and the last name.
    fn place(&self, path: &Path) -> io::Result<(Id, String)> {
        let last = names_in(path).last().ok_or(ErrorKind::InvalidInput)??;
        let folder = self.find(path.parent().ok_or(ErrorKind::InvalidInput)?)?;
        match self.nodes[folder] {
            Node::Folder(_) => Ok((folder, last.to_owned())),
            Node::File(_) => Err(ErrorKind::NotADirectory.into()),
        }
    }

    fn file(&mut self, id: Id) -> io::Result<&mut Contents> {
        match &mut self.nodes[id] {
            Node::File(contents) => Ok(contents),
            Node::Folder(_) => Err(ErrorKind::IsADirectory.into()),
        }
    }

    fn names(&mut self, id: Id) -> io::Result<&mut Names> {
        match &mut self.nodes[id] {
            Node::Folder(names) => Ok(names),
            Node::File(_) => Err(ErrorKind::NotADirectory.into()),
        }
    }
}

fn names_in(path: &Path) -> impl Iterator<Item = io::Result<&str>> {
    path.components().filter_map(|component| match component {
        Component::RootDir | Component::CurDir => None,
        Component::Normal(name) => Some(name.to_str().ok_or(ErrorKind::InvalidInput.into())),
        Component::Prefix(_) | Component::ParentDir => Some(Err(ErrorKind::InvalidInput.into())),
    })
}

impl Names {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.now);
        self.changes.push(change);
    }

    /// Each change that was not synced happened or did not, whatever the others did.
    fn after_power_loss(&self, chance: &mut Chance, is_file: impl Fn(Id) -> bool) -> Self {
        let mut found = self.synced.clone();
        let fate = chance.below(4);
        for change in &self.changes {
            let happened = match fate {
                0 => false,
                1 => true,
                _ => chance.coin(),
            };
            match change {
                _ if !happened => {}
                // The new name is there and the old one not gone; folders have one name.
                Change::Rename { to, id, .. } if is_file(*id) && fate > 1 && chance.coin() => {
                    found.insert(to.clone(), *id);
                }
                _ => change.apply(&mut found),
            }
        }
        Self {
            now: found.clone(),
            synced: found,
            changes: Vec::new(),
        }
    }
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, Id>) {
        match self {
            Self::Put { name, id } => {
                names.insert(name.clone(), *id);
            }
            Self::Take { name } => {
                names.remove(name);
            }
            Self::Rename { from, to, id } => {
                // After a power loss the old name may be that of another file.
                if names.get(from) == Some(id) {
                    names.remove(from);
                }
                names.insert(to.clone(), *id);
            }
        }
    }
}

impl Contents {
    fn cut(&mut self, len: usize) {
        let synced = self.synced.min(len);
        // What was cut off before lies further behind, and was there first.
        let end = match self.cut_off[..] {
            [] => self.bytes.len(),
            _ => self.synced,
        };
        self.cut_off.splice(..0, self.bytes[synced..end].to_vec());
        self.synced = synced;
    }

    /// What was synced is there; of the rest some prefix, in which blocks may be missing. A cut
    /// that was not synced may not have happened.
    fn after_power_loss(&self, chance: &mut Chance) -> Self {
        if !self.cut_off.is_empty() && chance.coin() {
            return self.as_before_the_cut(chance);
        }
        let kept = self.synced + chance.some_of(self.bytes.len() - self.synced);
        let mut bytes = self.bytes[..kept].to_vec();
        match chance.below(4) {
            // The last block was not written, and what had been there before shows.
            0 => {
                let last = kept.saturating_sub(1) / BLOCK * BLOCK..kept;
                let garbage = &mut bytes[self.unsynced(last)];
                garbage.fill_with(|| u8::try_from(chance.below(256)).expect("it is below 256"));
            }
            // The length was written before the bytes, and these in any order.
            1 => {
                let from = chance.some_of(kept / BLOCK) * BLOCK;
                let to = kept.min(from + (1 + chance.some_of(kept / BLOCK)) * BLOCK);
                bytes[self.unsynced(from..to)].fill(0);
            }
            _ => {}
        }
        Self {
            bytes,
            synced: kept,
            ..Self::default()
        }
    }

    /// What was cut off is there; some of what was appended since stands over it.
    fn as_before_the_cut(&self, chance: &mut Chance) -> Self {
        let (certain, since) = self.bytes.split_at(self.synced);
        let over = chance.some_of(since.len().min(self.cut_off.len()));
        let bytes = [certain, &since[..over], &self.cut_off[over..]].concat();
        Self {
            synced: bytes.len(),
            bytes,
            ..Self::default()
        }
    }

    fn unsynced(&self, range: Range<usize>) -> Range<usize> {
        range.start.max(self.synced)..range.end.max(self.synced)
    }
}
