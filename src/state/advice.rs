//! What to do about state or a log that cannot be gone on with: the ends of many sentences.

/// Neither can be gone on with. What was committed belongs to the job's id.
pub(crate) const AFRESH: &str = "start afresh with another --job-id and an empty --state-dir";

macro_rules! rebuild {
    () => {
        "start with --rebuild, which reads the log again"
    };
}

/// The state cannot, and the log can; what was committed is known.
pub(crate) const REBUILD: &str = rebuild!();

/// A savepoint cannot, and the job has nothing of its own yet.
pub(crate) const SPOILED: &str = "start with another --from-savepoint, or without one";

/// State is lost; what it is the state of is not known.
pub(crate) const LOST: &str = concat!(
    rebuild!(),
    ", or, without a Kafka sink, afresh with an empty --state-dir"
);
