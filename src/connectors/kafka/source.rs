//! A topic as a source.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use super::admin::Probe;
use super::assignment::{Assignment, Span};
use super::checks;
use super::client::Right;
use super::options::KafkaOptions;
use super::reader::KafkaReader;
use super::resumed;
use super::scout::Scout;
use crate::connectors::{Created, PartitionCut, Reader, Share, Source, SourceCut, Start};
use crate::error::{Error, Result};

/// Reads a topic: all of it up to now, if bounded, else for ever.
///
/// # Where it starts and ends
/// At `prepare` the start becomes an absolute offset of each partition. A bounded source also fixes
/// its ends then: the last stable offsets, behind which lie only records that nobody can read yet
/// because their transactions are open. Records of aborted transactions are never seen.
///
/// # Growth
/// A live source looks for new partitions each second, and reads them from offset 0: within two
/// seconds after the cluster shows them.
///
/// # Errors
/// A record that retention deletes before it was read is an error of kind
/// [`State`](crate::error::ErrorKind::State); a broker that is gone is waited for.
#[derive(Debug)]
pub struct KafkaSource {
    topic: Arc<str>,
    options: Arc<KafkaOptions>,
    resumed: OnceLock<SourceCut>,
    plan: OnceLock<Plan>,
}

/// What `prepare` found.
struct Plan {
    spans: Vec<Span>,
    /// The id of the topic; empty: the cluster has none.
    identity: String,
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
            resumed: OnceLock::new(),
            plan: OnceLock::new(),
        }
    }

    /// What is read of each partition, if nothing was read before.
    fn spans(&self, probe: &Probe, count: u32) -> Result<Vec<Span>> {
        let starts = probe.offsets(&self.topic, count, self.options.start)?;
        let starts = starts.into_iter();
        if !self.options.bounded {
            return Ok(starts.map(|start| Span { start, end: None }).collect());
        }
        let ends = probe.offsets(&self.topic, count, Start::Latest)?;
        let span = |(start, end)| Span {
            start,
            end: Some(end),
        };
        Ok(starts.zip(ends).map(span).collect())
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
        let found = checks::check(&self.topic, &self.options, Right::Read, creates)?;
        if let Some(cut) = self.resumed.get() {
            let probe = Probe::new(&self.options)?;
            let count = probe.partitions(&self.topic)?;
            let identity = probe.topic_id(&self.topic);
            resumed::spans(&self.topic, &probe, (count, &identity), cut)?;
        }
        Ok(found)
    }

    fn create(&self) -> Result<Created> {
        checks::create(&self.topic, &self.options, None)
    }

    fn resume(&self, cut: &SourceCut) -> Result {
        let resumed = self.resumed.set(cut.clone());
        resumed.map_err(|_| Error::usage("a source is resumed once"))
    }

    fn cut(&self) -> Result<Option<SourceCut>> {
        let Some(plan) = self.plan.get() else {
            return Ok(None);
        };
        let cut = |(partition, span): (u32, &Span)| PartitionCut {
            partition,
            next: span.start,
            end: span.end,
        };
        Ok(Some(SourceCut {
            identity: plan.identity.clone(),
            partitions: (0..).zip(&plan.spans).map(cut).collect(),
        }))
    }

    fn prepare(&self) -> Result {
        let probe = Probe::new(&self.options)?;
        let count = probe.partitions(&self.topic)?;
        self.options.saw(count);
        let identity = probe.topic_id(&self.topic);
        let spans = match self.resumed.get() {
            Some(cut) => resumed::spans(&self.topic, &probe, (count, &identity), cut)?,
            None => self.spans(&probe, count)?,
        };
        let scout = Scout::start(probe, Arc::clone(&self.topic), !self.options.bounded)?;
        let plan = Plan {
            spans,
            identity,
            scout,
        };
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

    fn begins(&self) -> BTreeMap<u32, u64> {
        let plan = self.plan.get();
        plan.map(|plan| plan.scout.begins()).unwrap_or_default()
    }
}
