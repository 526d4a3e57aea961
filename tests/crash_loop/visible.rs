//! A record that a reader saw in one of the job's outputs.

use std::fmt;

use super::expected::Port;
use crate::oracle::{At, Letter};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Visible {
    pub(crate) port: Port,
    pub(crate) partition: usize,
    pub(crate) offset: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, String)>,
}

impl Visible {
    /// A number that another content hardly has (FNV-1a).
    pub(crate) fn print(&self) -> u64 {
        let mut hash = 0xCBF2_9CE4_8422_2325_u64;
        let mut add = |bytes: Option<&[u8]>| {
            // Absent, and the end of each part, are no byte.
            let all = bytes.into_iter().flatten().map(|byte| u64::from(*byte));
            for word in all.chain([256 + u64::from(bytes.is_some())]) {
                hash = (hash ^ word).wrapping_mul(0x0100_0000_01B3);
            }
        };
        add(self.key.as_deref());
        add(self.value.as_deref());
        for (name, value) in &self.headers {
            add(Some(name.as_bytes()));
            add(Some(value.as_bytes()));
        }
        hash
    }

    fn header(&self, name: &str) -> Result<Option<&str>, String> {
        let mut found = self.headers.iter().filter(|(other, _)| other == name);
        let first = found.next();
        if found.next().is_some() {
            return Err(format!("header {name} is there twice"));
        }
        Ok(first.map(|(_, value)| value.as_str()))
    }

    fn text(&self, name: &str) -> Result<String, String> {
        let value = self.header(name)?.map(str::to_owned);
        value.ok_or_else(|| format!("no header {name}"))
    }

    fn number(&self, name: &str) -> Result<Option<i64>, String> {
        let parse = |text: &str| text.parse().map_err(|_| format!("{name} is {text}"));
        self.header(name)?.map(parse).transpose()
    }
}

impl fmt::Display for Visible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value.as_deref().unwrap_or_default();
        let shown = value[..value.len().min(300)].escape_ascii();
        let (name, partition, offset) = (self.port.name(), self.partition, self.offset);
        write!(f, "{name} {partition}@{offset} `{shown}`")?;
        let about = [
            "anabranch.reason",
            "anabranch.partition",
            "anabranch.offset",
        ];
        for (_, value) in self
            .headers
            .iter()
            .filter(|(name, _)| about.contains(&&**name))
        {
            write!(f, " {value}")?;
        }
        Ok(())
    }
}

/// A record of a letter topic as the oracle says it.
///
/// # Errors
/// A header that is missing, repeated or wrong.
pub(crate) fn letter_of(record: &Visible) -> Result<Letter, String> {
    let place = |name: &str| {
        let number = record.number(name)?;
        number.ok_or_else(|| format!("no header {name}"))
    };
    let partition = place("anabranch.partition")?;
    Ok(Letter {
        at: At::Topic {
            topic: record.text("anabranch.topic")?,
            partition: i32::try_from(partition).map_err(|why| why.to_string())?,
            offset: place("anabranch.offset")?,
        },
        source: record.text("anabranch.source")?,
        reason: record.text("anabranch.reason")?,
        event_time: record.number("anabranch.event-time")?,
        watermark: record.number("anabranch.watermark")?,
        raw: record.value.clone(),
        raw_bytes: record.number("anabranch.raw-bytes")?.map(i64::unsigned_abs),
    })
}
