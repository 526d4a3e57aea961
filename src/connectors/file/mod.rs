//! Files of lines: JSON lines in, JSON lines out.
//!
//! A line is a record. What a file ends in decides how it is packed: `.gz` and `.zst` are
//! decompressed and compressed on the way, everything else is plain.
//!
//! ```text
//!           as a source                              as a sink
//! FILE      partition 0                              complete or absent; simply replaced
//! FOLDER/   each *.jsonl, *.ndjson [.gz, .zst]       part-WWW-CCCCCCCCCC.jsonl: worker, roll
//!           in it, in byte order of names
//! ```
//!
//! Reading never holds more of a line than a record may have, however long the line is; writing
//! keeps an output hidden until it is whole.

mod check;
mod folder;
mod hidden;
mod kept;
mod lines;
mod outputs;
mod pack;
mod sink;
mod source;
mod which;

pub(crate) use lines::{Filled, Lines};
use pack::Packing;
pub use sink::FileSink;
pub(crate) use sink::lines_from;
pub use source::FileSource;
pub(crate) use source::is_partition;
