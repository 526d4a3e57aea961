use super::*;
use crate::connectors::{Encoded, Waker};
use crate::error::ErrorKind;
use crate::state::outputs::complete;

fn share(worker: usize) -> Share {
    Share {
        worker,
        workers: 2,
        port: 0,
        buffer_bytes: 1,
        waker: Waker::new(|| {}),
    }
}

fn batch(value: &str) -> Batch {
    let mut batch = Batch::default();
    batch.values.extend_from_slice(value.as_bytes());
    batch.values.push(b'\n');
    let end = u32::try_from(value.len()).unwrap();
    batch.records.push(Encoded {
        value: Some((0, end)),
        ..Encoded::default()
    });
    batch
}

fn prepare(path: &Path, before: Option<&OutputState>) -> Result<Arc<Kept>> {
    Kept::prepare((path, path), before, false).map(Arc::new)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn parts_are_shown_when_they_are_large_or_the_run_ends_and_numbers_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out/");
    let mut kept = Arc::into_inner(prepare(&path, None).unwrap()).unwrap();
    kept.part_bytes = 10;
    let kept = Arc::new(kept);
    let mut writers = [0, 1].map(|worker| kept.open(&share(worker)).unwrap());
    assert!(!kept.is_due(false));
    for line in ["one", "two", "three", "four"] {
        writers[0].write(&batch(line), 0).unwrap();
    }
    writers[1].write(&batch("five"), 0).unwrap();
    assert!(kept.is_due(false), "a part is full");
    let state = kept.cut(false).unwrap();
    let done: Vec<_> = state
        .files
        .iter()
        .map(|file| (file.len, file.done))
        .collect();
    assert_eq!(done, [(5, false), (5, false), (14, true)]);
    assert!(names(&path).iter().all(|name| name.starts_with('.')));
    kept.show(&state.files).unwrap();
    assert_eq!(names(&path)[2], "part-000-0000000000.jsonl");
    // Not committed.
    writers[1].write(&batch("six"), 0).unwrap();
    drop((writers, kept));
    fs::write(path.join("notes"), "").unwrap();
    let kept = prepare(&path, Some(&state)).unwrap();
    assert!(kept.is_due(false), "what others left is due");
    let mut writer = kept.open(&share(0)).unwrap();
    writer.write(&batch("seven"), 0).unwrap();
    let state = kept.cut(true).unwrap();
    kept.show(&state.files).unwrap();
    let parts = [
        ("part-000-0000000000.jsonl", "one\ntwo\nthree\n"),
        ("part-000-0000000001.jsonl", "four\n"),
        ("part-000-0000000002.jsonl", "seven\n"),
        ("part-001-0000000000.jsonl", "five\n"),
    ];
    let expected: Vec<_> = [("notes", "")].into_iter().chain(parts).collect();
    assert_eq!(
        names(&path),
        expected.iter().map(|it| it.0).collect::<Vec<_>>()
    );
    for (name, text) in expected {
        assert_eq!(fs::read_to_string(path.join(name)).unwrap(), text, "{name}");
    }
}

#[test]
fn one_file_grows_beside_its_place_and_is_hidden_again_when_a_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    for (name, empty) in [("out", true), ("out.gz", false)] {
        let path = folder.path().join(name);
        let hidden = folder.path().join(format!(".{name}.tmp"));
        let kept = prepare(&path, None).unwrap();
        let busy = prepare(&path, None).unwrap_err();
        assert_eq!(busy.kind(), ErrorKind::Operating);
        let state = kept.cut(true).unwrap();
        assert_eq!(state.files[0].len == 0, empty);
        assert!(!path.exists());
        kept.show(&state.files).unwrap();
        assert!(path.exists() && !hidden.exists());
        drop(kept);
        let kept = prepare(&path, Some(&state)).unwrap();
        assert!(!path.exists() && hidden.exists());
        let mut writer = kept.open(&share(0)).unwrap();
        writer.write(&batch("1"), 0).unwrap();
        let state = kept.cut(true).unwrap();
        kept.show(&state.files).unwrap();
        assert!(path.exists());
        if empty {
            assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
        }
    }
}

#[test]
fn a_folder_of_somebody_else_is_refused_and_its_leavings_go() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out/");
    fs::create_dir(&path).unwrap();
    fs::write(path.join(".part-004-0000000009.jsonl.tmp"), "half").unwrap();
    let kept = prepare(&path, None).unwrap();
    assert!(names(&path).is_empty());
    let state = kept.cut(true).unwrap();
    kept.show(&state.files).unwrap();
    assert_eq!(names(&path), ["part-000-0000000000.jsonl"]);
    drop(kept);
    assert_eq!(prepare(&path, None).unwrap_err().exit_code(), 2);
    Kept::prepare((&path, &path), None, true).unwrap();
    assert!(names(&path).is_empty());
}

#[test]
fn files_that_somebody_appends_to_still_are_not_left_to_readers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out/");
    let kept = prepare(&path, None).unwrap();
    let mut writer = kept.open(&share(0)).unwrap();
    writer.write(&batch("one"), 0).unwrap();
    let state = kept.cut(false).unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let error = complete(&disk, &state).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Operating);
    assert!(error.to_string().contains("is writing it"), "{error}");
    assert!(names(&path)[0].starts_with('.'));
    drop((writer, kept));
    complete(&disk, &state).unwrap();
    assert_eq!(names(&path), ["part-000-0000000000.jsonl"]);
}
