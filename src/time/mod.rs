//! The two clocks. Pure: no timely worker, no I/O, and no clock of the machine is read here.
//!
//! - [`Epoch`]: a slice of the input, the timely timestamp, the clock of checkpoints.
//! - [`EventTime`]: what a producer claims; the clock of windows.
//!
//! They meet in one place: the watermark *of an epoch*, a fact that every worker learns beside the
//! data (`watermark.rs`). Invariants: watermark and horizon never go back; whatever enters an epoch
//! has a closing time behind the horizon of the epoch before.

mod epoch;
mod event_time;
pub(crate) mod rfc3339;
pub(crate) mod watermark;
mod window;

pub use epoch::Epoch;
pub use event_time::{EventTime, millis};
pub use watermark::{LateReason, Progress, Watermarks};
pub(crate) use window::Closing;
pub use window::{Tumbling, Window};
