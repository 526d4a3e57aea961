//! Tests of operators and jobs: one call runs them over numbers of workers, cuts of the input and
//! interleavings, and holds every run to the same answer.

mod drive;
mod laws;
mod matrix;
mod run;

pub use drive::{Drive, drive};
pub use laws::assert_laws;
pub use run::{Answer, JobTest, run};

#[cfg(test)]
mod tests;
