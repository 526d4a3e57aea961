//! Values of the surrounding program as a source, and results as values: for a job inside a
//! service.
//!
//! A port that is bound here takes or gives the values themselves: what `.json()`, `.decode(..)`
//! or `.encode(..)` say of their form is not asked. The job is the same that runs on files and
//! topics.
//!
//! Both ends work in any async runtime and in none: `send` and `recv` are futures, `blocking_send`
//! and `blocking_recv` are for threads, `try_send` and `try_recv` never wait. Nobody polls: a
//! value that comes wakes the worker, and so does a result that was taken.
//!
//! # Example
//! ```
//! use anabranch::{embedded, prelude::*};
//!
//! #[derive(Clone, Serialize, Deserialize)]
//! struct Order { customer: u64, placed_at: i64 }
//!
//! let job = Job::new("orders-per-minute", |flow: &Flow<'_>| {
//!     flow.source::<Order>("orders")
//!         .json()
//!         .event_time(|o| o.placed_at, Watermarks::lag(Duration::from_secs(5)))
//!         .key_by(|o| o.customer)
//!         .window(Tumbling::of(Duration::from_mins(1)))
//!         .aggregate(|a| a.count())
//!         .emit_final()
//!         .map(|w| (w.key, w.value))
//!         .sink("per_minute", |s| s.json());
//!     Ok(())
//! });
//!
//! let (feed, source) = embedded::source::<Order>(1024);
//! let (sink, mut results) = embedded::sink::<(u64, u64)>(1024);
//! let job = job
//!     .bind_source("orders", source)
//!     .bind_sink("per_minute", sink)
//!     .start(Settings::new().workers(2).sink_uri("late", "null:").sink_uri("dead", "null:"))?;
//!
//! feed.blocking_send(Order { customer: 7, placed_at: 1_000 })?;
//! feed.blocking_send(Order { customer: 7, placed_at: 2_000 })?;
//! drop(feed); // the end of the log: open windows fire
//!
//! assert_eq!(results.blocking_recv(), Some((7, 2)));
//! assert_eq!(results.blocking_recv(), None);
//! assert_eq!(job.join()?.used, 2);
//! # Ok::<(), anabranch::Error>(())
//! ```

mod bell;
mod error;
mod feed;
mod results;

use std::any::{Any, TypeId};

pub use error::{SendError, TryRecvError, TrySendError};
pub(super) use feed::decode_typed;
pub use feed::{EmbeddedSource, Feed, source};
pub use results::{EmbeddedSink, Results, sink};
pub(super) use results::{encode_typed, is_typed};

/// What a connector holds that takes or gives values of one type instead of bytes.
#[derive(Clone, Copy)]
pub struct Typed<'a> {
    pub(crate) id: TypeId,
    pub(crate) name: &'static str,
    holds: &'a dyn Any,
}

impl std::fmt::Debug for Typed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Typed").field(&self.name).finish()
    }
}

impl<'a> Typed<'a> {
    fn of<T: 'static>(holds: &'a dyn Any) -> Self {
        Self {
            id: TypeId::of::<T>(),
            name: std::any::type_name::<T>(),
            holds,
        }
    }
}
