//! Events: what a source gives ([`Record`]), what it means ([`Event`]), where it stands
//! ([`Position`]), and what leaves by another door ([`Letter`]).

pub mod checked;
mod decode;
pub(crate) mod json;
mod letter;
mod position;
mod record;

pub(crate) use decode::{Decode, Pieces, each_record};
pub(crate) use letter::RECORD_BYTES_MAX;
pub use letter::{Cause, DeadReason, Letter};
pub use position::{Event, Position};
pub use record::{Headers, Origin, Record};
