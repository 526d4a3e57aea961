//! A job: a name, and the closure that describes its dataflow.

use std::fmt;
use std::sync::Arc;

use crate::error::Result;
use crate::observe::Summary;
use crate::runtime::{Describe, Plan, Run, Settings, describe, run};
use crate::stream::{Description, Flow};

/// A dataflow with a name.
///
/// The closure describes the dataflow; it runs once on every worker, and once more to learn what it
/// declares.
#[derive(Clone)]
pub struct Job {
    name: Arc<str>,
    describe: Arc<Describe>,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Job {
    /// The job `name`, described by `describe`.
    pub fn new(name: &str, describe: impl Fn(&Flow<'_>) -> Result + Send + Sync + 'static) -> Self {
        Self {
            name: Arc::from(name),
            describe: Arc::new(describe),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Holds the description together without running it.
    ///
    /// # Errors
    /// What the description asks for and cannot be.
    pub fn describe(&self, settings: &Settings) -> Result {
        self.declared(settings).map(|_| ())
    }

    pub(crate) fn declared(&self, settings: &Settings) -> Result<Description> {
        describe(&self.describe, &Arc::new(settings.params.clone()))
    }

    pub(crate) fn plan(&self, settings: &Settings) -> Result<Plan> {
        Plan::new(&self.name, &self.describe, settings)
    }

    /// Runs the job until all its sources have ended, and says what became of every record.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) if ports, parameters and settings do not fit;
    /// otherwise what stopped it.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "settings are built for one run"
    )]
    pub fn run(&self, settings: Settings) -> Result<Summary> {
        let plan = self.plan(&settings)?;
        let handle = Run::new(&plan);
        run(plan, &handle)
    }
}
