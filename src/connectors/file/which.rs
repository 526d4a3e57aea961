//! Which files a source reads, and whether they are still those that a checkpoint has read from.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::source::{cannot_read, is_partition};
use crate::error::{Error, ErrorKind, Result};
use crate::state::advice::AFRESH;

/// What tells these files from others, or from what they become: a line each.
pub(super) fn identity(files: &[PathBuf]) -> Result<String> {
    let mut all = String::new();
    for file in files {
        let found = fs::metadata(file).map_err(|cause| cannot_read(file, cause))?;
        let (bytes, changed) = (found.len(), found.mtime());
        let (path, nanos) = (file.display(), found.mtime_nsec());
        let line = format!("{path}: {bytes} bytes, changed {changed}.{nanos:09}\n");
        all.push_str(&line);
    }
    Ok(all)
}

/// # Errors
/// Names the first file that is another than it was.
pub(super) fn check_same(was: &str, is: &str) -> Result {
    let both = was.lines().map(Some).chain(std::iter::repeat(None));
    let both = both.zip(is.lines().map(Some).chain(std::iter::repeat(None)));
    let differs = both
        .take_while(|(was, is)| was.is_some() || is.is_some())
        .find(|(was, is)| was != is);
    let Some((was, is)) = differs else {
        return Ok(());
    };
    let (was, is) = (was.unwrap_or("no file"), is.unwrap_or("no file"));
    let what = format!(
        "a file that was read has changed: was `{was}`, is `{is}`; put it back with its time, or \
         {AFRESH}"
    );
    Err(Error::new(ErrorKind::State, what))
}

/// The files in `folder` that are partitions, in byte order of their names.
pub(super) fn files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let about = |cause| cannot_read(folder, cause);
    for entry in fs::read_dir(folder).map_err(about)? {
        let path = entry.map_err(about)?.path();
        let name = path.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
        if !is_partition(name) {
            tracing::warn!(
                "file `{}` skipped: neither *.jsonl nor *.ndjson",
                path.display()
            );
        } else if path.is_dir() {
            tracing::warn!(
                "folder `{}` skipped: subfolders are not read",
                path.display()
            );
        } else {
            files.push(path);
        }
    }
    if files.is_empty() {
        let folder = folder.display();
        return Err(Error::operating(format!(
            "folder `{folder}`: no file to read, no *.jsonl and no *.ndjson, nor with .gz or .zst"
        )));
    }
    files.sort_unstable_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    Ok(files)
}
