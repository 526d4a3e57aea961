//! A topic as a source.

use std::sync::{Arc, OnceLock};

use super::admin::Probe;
use super::assignment::{Assignment, Span};
use super::checks;
use super::client::Right;
use super::options::KafkaOptions;
use super::reader::KafkaReader;
use super::scout::Scout;
use crate::connectors::{Created, Reader, Share, Source, Start};
use crate::error::{Error, Result};

/// Reads a topic: all of it up to now, if bounded, else for ever.
///
/// # Where it starts and ends
/// At `prepare` the start becomes an absolute offset of each partition. A bounded source also fixes
/// its ends then: the last stable offsets, behind which lie only records that nobody can read yet
/// because their transactions are open. Records of aborted transactions are never seen.
///
/// # Growth
/// A live source looks for new partitions each second and reads them from offset 0.
///
/// # Errors
/// A record that retention deletes before it was read is an error of kind
/// [`State`](crate::error::ErrorKind::State); a broker that is gone is waited for.
#[derive(Debug)]
pub struct KafkaSource {
    topic: Arc<str>,
    options: Arc<KafkaOptions>,
    plan: OnceLock<Plan>,
}

/// What `prepare` found.
struct Plan {
    spans: Vec<Span>,
    scout: Scout,
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.spans.fmt(f)
    }
}

impl KafkaSource {
    /// Reads `topic`.
    pub fn new(topic: impl Into<Arc<str>>, options: KafkaOptions) -> Self {
        Self {
            topic: topic.into(),
            options: Arc::new(options),
            plan: OnceLock::new(),
        }
    }
}

impl Source for KafkaSource {
    fn place(&self) -> Option<String> {
        Some(self.describe())
    }

    fn describe(&self) -> String {
        format!("kafka:{}", self.topic)
    }

    fn bounded(&self) -> bool {
        self.options.bounded
    }

    fn check(&self, creates: bool) -> Result<String> {
        checks::check(&self.topic, &self.options, Right::Read, creates)
    }

    fn create(&self) -> Result<Created> {
        checks::create(&self.topic, &self.options, None)
    }

    fn prepare(&self) -> Result {
        let probe = Probe::new(&self.options)?;
        let count = probe.partitions(&self.topic)?;
        let starts = probe.offsets(&self.topic, count, self.options.start)?;
        let spans = if self.options.bounded {
            let ends = probe.offsets(&self.topic, count, Start::Latest)?;
            let spans = starts.into_iter().zip(ends);
            spans
                .map(|(start, end)| Span {
                    start,
                    end: Some(end),
                })
                .collect()
        } else {
            starts
                .into_iter()
                .map(|start| Span { start, end: None })
                .collect()
        };
        let scout = Scout::start(probe, Arc::clone(&self.topic), !self.options.bounded)?;
        let plan = Plan { spans, scout };
        self.plan
            .set(plan)
            .map_err(|_| Error::usage("a source is prepared once"))
    }

    fn open(&self, share: Share) -> Result<Box<dyn Reader>> {
        let plan = self.plan.get();
        let plan = plan.ok_or_else(|| Error::usage("a source is opened after it was prepared"))?;
        let spans: Vec<_> = (0..)
            .zip(&plan.spans)
            .filter(|(partition, _)| share.owns(*partition))
            .collect();
        let spans: Vec<_> = spans
            .into_iter()
            .map(|(partition, span)| (partition, *span))
            .collect();
        let assignment = Arc::new(Assignment::new(&self.topic, &self.options, share));
        let reader = KafkaReader::open(Arc::clone(&assignment), &spans)?;
        let known = u32::try_from(plan.spans.len()).unwrap_or(u32::MAX);
        plan.scout.watch_for(&assignment, known);
        Ok(Box::new(reader))
    }
}
