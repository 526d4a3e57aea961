//! Looks whether an output could be written, without writing anything.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Access, access};

use super::sink::{cannot_write, parent};
use crate::error::{Error, Result};

/// Whether [`FileSink::prepare`](crate::connectors::Sink::prepare) would succeed. `is_made`: the
/// parent folder is made by then, if it is not there.
pub(super) fn check_output(path: &Path, overwrite: bool, is_made: bool) -> Result<String> {
    let about = |cause| cannot_write(path, cause);
    let is_folder = path.as_os_str().as_bytes().ends_with(b"/");
    let found = match fs::metadata(path) {
        Ok(found) => Some(found),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => None,
        Err(cause) => return Err(about(cause)),
    };
    match found {
        Some(found) if found.is_dir() != is_folder => {
            let expected = if is_folder { "no folder" } else { "a folder" };
            let why = format!("output `{}` is {expected}", path.display());
            Err(Error::usage(why))
        }
        Some(_) if is_folder => {
            check_folder(path, overwrite)?;
            may_write(path).map_err(about)?;
            Ok("a folder that may be written".to_owned())
        }
        Some(found) if !found.is_file() => {
            access(path, Access::WRITE_OK).map_err(|cause| about(cause.into()))?;
            Ok("may be written, in place".to_owned())
        }
        found => {
            let parent = parent(path);
            // What is made is made in the nearest folder that is there.
            let there = parent.ancestors().find(|at| !is_made || at.exists());
            let there = there.filter(|at| !at.as_os_str().is_empty());
            may_write(there.unwrap_or(Path::new("."))).map_err(about)?;
            let is_new = found.is_none();
            let said = if is_new {
                "is new, and"
            } else {
                "is replaced, and"
            };
            Ok(format!("{said} may be written"))
        }
    }
}

/// Whether files can be made in `folder`.
fn may_write(folder: &Path) -> io::Result<()> {
    if !fs::metadata(folder)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    Ok(access(folder, Access::WRITE_OK | Access::EXEC_OK)?)
}

fn check_folder(path: &Path, overwrite: bool) -> Result {
    let about = |cause| cannot_write(path, cause);
    for entry in fs::read_dir(path).map_err(about)? {
        // What a dead process has left hidden does not count.
        let name = entry.map_err(about)?.file_name();
        if !overwrite && !name.as_bytes().starts_with(b".") {
            return Err(super::folder::not_empty(path));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn an_output_is_judged_without_being_made() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("full")).unwrap();
        fs::write(at("full/part-000-0000000000.jsonl"), "").unwrap();
        let judged = |name: &str, overwrite, is_made| {
            let said = check_output(&at(name), overwrite, is_made);
            said.map_err(|error| (error.kind(), error.to_string()))
        };
        assert!(judged("new.jsonl", false, false).unwrap().contains("new"));
        assert!(judged("gone/deep/new.jsonl", false, true).is_ok());
        let (kind, why) = judged("gone/new.jsonl", false, false).unwrap_err();
        assert_eq!(kind, ErrorKind::Operating);
        assert!(why.contains("gone/new.jsonl"), "{why}");
        let (kind, why) = judged("full/", false, false).unwrap_err();
        assert_eq!(kind, ErrorKind::Usage);
        assert!(why.contains("not empty"), "{why}");
        assert!(judged("full/", true, false).is_ok());
        assert!(judged("full", false, false).is_err());
        assert!(judged("full/part-000-0000000000.jsonl/x", false, false).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
