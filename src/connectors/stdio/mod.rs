//! Standard input and output: streams that a worker may not wait for.
//!
//! Reading from a terminal and writing into a full pipe take as long as somebody else likes, so a
//! thread beside the workers does both. What lies between the thread and a worker is bounded: the
//! input pauses while the worker is behind, and the output answers
//! [`Written::Full`](super::Written::Full).

mod input;
mod output;

pub use input::StdinSource;
pub use output::{StderrSink, StdoutSink};
