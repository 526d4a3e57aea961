//! How much memory there is, and how it is divided between buffers and state.

use std::fs;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;

use crate::error::{Error, Result};

/// More than this makes no run faster.
const BUFFERS_MAX: u64 = 128 << 20;
/// Less than this cannot hold an epoch of each door.
const MEMORY_MIN: u64 = 8 << 20;
/// Where nothing tells what there is.
const UNKNOWN: u64 = 4 << 30;

/// A budget in bytes, divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) all: u64,
    pub(super) buffers: usize,
    pub(super) state: u64,
}

impl Memory {
    /// A quarter for buffers, but no more than makes sense, unless `buffers` says how much; the
    /// rest for state.
    ///
    /// # Errors
    /// The budget is too small for any run.
    pub(super) fn divided(memory: Option<u64>, buffers: Option<usize>) -> Result<Self> {
        let all = memory.unwrap_or_else(|| available(Path::new("/")) / 2);
        if all < MEMORY_MIN {
            let (least, found) = (ByteSize(MEMORY_MIN), ByteSize(all));
            let why = format!("--memory: expected at least {least}, found {found}");
            return Err(Error::usage(why));
        }
        let share = usize::try_from((all / 4).min(BUFFERS_MAX)).unwrap_or(usize::MAX);
        let buffers = buffers.unwrap_or(share);
        Ok(Self {
            all,
            buffers,
            state: all.saturating_sub(buffers as u64).max(all / 4),
        })
    }
}

/// Bytes that this process may use: the machine's, or less where a control group limits it.
/// `root`: where the system's files lie, for tests.
fn available(root: &Path) -> u64 {
    let machine = of_machine(root).unwrap_or(UNKNOWN);
    of_groups(root).map_or(machine, |limit| limit.min(machine))
}

fn of_machine(root: &Path) -> Option<u64> {
    let info = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The smallest limit of the process's control group and those above it, of either version.
fn of_groups(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let limits = groups.lines().filter_map(|line| {
        // `HIERARCHY:CONTROLLERS:PATH`; version 2 has no controllers there.
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let path = path.trim_start_matches('/');
        if controllers.is_empty() {
            return smallest(&root.join("sys/fs/cgroup"), path, "memory.max");
        }
        let memory = controllers.split(',').any(|name| name == "memory");
        let mount = root.join("sys/fs/cgroup/memory");
        memory.then(|| smallest(&mount, path, "memory.limit_in_bytes"))?
    });
    limits.min()
}

/// The smallest number in a file `name` on the way from `mount/path` up to `mount`. In a container
/// the path may be that of the host, and only the mount be there.
fn smallest(mount: &Path, path: &str, name: &str) -> Option<u64> {
    let group: PathBuf = mount.join(path);
    let on_the_way = group.ancestors().take_while(|at| at.starts_with(mount));
    let limits = on_the_way.filter_map(|at| {
        let limit = fs::read_to_string(at.join(name)).ok()?;
        limit.trim().parse().ok() // `max` is no limit
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A machine with 16 GiB and these files.
    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let meminfo = (
            "proc/meminfo",
            "MemTotal:       16777216 kB\nMemFree: 1 kB\n",
        );
        for (path, text) in files.iter().chain([&meminfo]) {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn a_machine_without_groups_has_what_it_has() {
        assert_eq!(available(machine(&[]).path()), 16_384 * MIB);
        let unlimited = [
            ("proc/self/cgroup", "0::/user.slice\n"),
            ("sys/fs/cgroup/user.slice/memory.max", "max\n"),
        ];
        assert_eq!(available(machine(&unlimited).path()), 16_384 * MIB);
        assert_eq!(available(Path::new("/nowhere")), UNKNOWN);
    }

    #[test]
    fn a_group_of_version_2_limits_and_so_does_one_above_it() {
        let group = "0::/kubepods/pod7/abc\n";
        let inner = [
            ("proc/self/cgroup", group),
            ("sys/fs/cgroup/kubepods/pod7/abc/memory.max", "536870912\n"),
            ("sys/fs/cgroup/kubepods/memory.max", "8589934592\n"),
        ];
        assert_eq!(available(machine(&inner).path()), 512 * MIB);
        let outer = [
            ("proc/self/cgroup", group),
            ("sys/fs/cgroup/kubepods/pod7/abc/memory.max", "max\n"),
            ("sys/fs/cgroup/kubepods/memory.max", "1073741824\n"),
        ];
        assert_eq!(available(machine(&outer).path()), 1024 * MIB);
        let inside_a_container = [
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "268435456\n"),
        ];
        assert_eq!(available(machine(&inside_a_container).path()), 256 * MIB);
    }

    #[test]
    fn a_group_of_version_1_limits_where_it_says_memory() {
        let groups = "12:cpu,cpuacct:/docker/x\n9:memory:/docker/x\n1:name=systemd:/docker/x\n";
        let limit = "268435456\n";
        let host = [
            ("proc/self/cgroup", groups),
            ("sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes", limit),
            // Version 1 writes no limit as a very large number.
            (
                "sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
        ];
        assert_eq!(available(machine(&host).path()), 256 * MIB);
        let container = [
            ("proc/self/cgroup", groups),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", limit),
        ];
        assert_eq!(available(machine(&container).path()), 256 * MIB);
        let of_cpu = [
            ("proc/self/cgroup", "12:cpu,cpuacct:/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", limit),
        ];
        assert_eq!(available(machine(&of_cpu).path()), 16_384 * MIB);
    }

    #[test]
    fn buffers_get_a_quarter_and_state_the_rest() {
        let small = Memory::divided(Some(64 * MIB), None).unwrap();
        assert_eq!((small.buffers, small.state), (16 << 20, 48 * MIB));
        let large = Memory::divided(Some(8_192 * MIB), None).unwrap();
        assert_eq!((large.buffers, large.state), (128 << 20, 8_064 * MIB));
        let told = Memory::divided(Some(64 * MIB), Some(1 << 20)).unwrap();
        assert_eq!((told.buffers, told.state), (1 << 20, 63 * MIB));
        let error = Memory::divided(Some(7), None).unwrap_err().to_string();
        assert!(error.contains("at least 8.0 MiB, found 7 B"), "{error}");
    }
}
