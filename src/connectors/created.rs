//! What `--create-topics` has made.

/// What is there after a source or a sink was to create what it lacked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Created {
    /// The partitions that it has, if it is a log.
    pub partitions: Option<u32>,
    /// What was made, in words; `None`: everything was there.
    pub made: Option<String>,
}
