//! The disk of an instance: a [`LossyDisk`], each of whose operations is an effect.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::life::Life;
use crate::state::disk::{Disk, DiskFile};
use crate::state::lossy::LossyDisk;

#[derive(Debug)]
pub(super) struct SimDisk {
    pub(super) disk: LossyDisk,
    pub(super) life: Arc<Life>,
}

impl SimDisk {
    fn effect(&self, what: &str, path: &Path) -> io::Result<()> {
        let what = format!("{what} {}", path.display());
        self.life.effect(&what).map_err(io::Error::other)
    }
}

impl Disk for SimDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.effect("create", path)?;
        let file = self.disk.create(path)?;
        let life = Arc::clone(&self.life);
        Ok(Box::new(SimFile { file, life }))
    }

    fn reopen(&self, path: &Path, len: u64) -> io::Result<Box<dyn DiskFile>> {
        self.effect("cut", path)?;
        let file = self.disk.reopen(path, len)?;
        let life = Arc::clone(&self.life);
        Ok(Box::new(SimFile { file, life }))
    }

    fn checksum(&self, path: &Path, len: u64) -> io::Result<u32> {
        self.effect("read", path)?;
        self.disk.checksum(path, len)
    }

    fn readers(&self) -> usize {
        1
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.effect("read", path)?;
        self.disk.read(path)
    }

    fn read_prefix(&self, path: &Path, len: u64) -> io::Result<Vec<u8>> {
        self.effect("read", path)?;
        self.disk.read_prefix(path, len)
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        self.effect("look at", path)?;
        self.disk.len(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        self.effect("list", folder)?;
        self.disk.list(folder)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.effect("make folder", path)?;
        self.disk.create_folder(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.effect("sync folder", path)?;
        self.disk.sync_folder(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.effect("rename to", to)?;
        self.disk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.effect("remove", path)?;
        self.disk.remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.effect("remove folder", path)?;
        self.disk.remove_folder(path)
    }
}

#[derive(Debug)]
struct SimFile {
    file: Box<dyn DiskFile>,
    life: Arc<Life>,
}

impl DiskFile for SimFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let what = format!("append {} bytes", bytes.len());
        self.life.effect(&what).map_err(io::Error::other)?;
        self.file.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.life.effect("sync").map_err(io::Error::other)?;
        self.file.sync()
    }
}
