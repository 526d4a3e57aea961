//! From records to values, a batch at a time.

use super::{DeadReason, RECORD_BYTES_MAX, Record};

/// What a batch of records became: values and defects, each with the number of its record, in the
/// order of the records. A record may become several values, or none.
#[derive(Debug)]
pub(crate) struct Pieces<T> {
    pub(crate) good: Vec<(u32, T)>,
    pub(crate) bad: Vec<(u32, DeadReason, String)>,
}

impl<T> Default for Pieces<T> {
    fn default() -> Self {
        Self {
            good: Vec::new(),
            bad: Vec::new(),
        }
    }
}

impl<T> Pieces<T> {
    /// Whether each of `records` records became one value: the common case.
    pub(crate) fn are_one_each(&self, records: usize) -> bool {
        let in_place = |(nth, piece): (u32, &(u32, T))| piece.0 == nth;
        self.bad.is_empty() && self.good.len() == records && (0u32..).zip(&self.good).all(in_place)
    }
}

/// Decodes a batch and applies all steps before event time. One indirect call a batch.
pub(crate) type Decode<T> = Box<dyn FnMut(&[Record<'_>], &mut Pieces<T>)>;

/// Decodes record by record; null values and too large ones never reach `decode`.
pub(crate) fn each_record<T: 'static>(
    mut decode: impl FnMut(&Record<'_>, &[u8]) -> Result<T, String> + 'static,
) -> Decode<T> {
    Box::new(move |records, pieces| {
        for (nth, record) in (0u32..).zip(records) {
            match admit(record) {
                Ok(value) => match decode(record, value) {
                    Ok(value) => pieces.good.push((nth, value)),
                    Err(why) => pieces.bad.push((nth, DeadReason::Decode, why)),
                },
                Err((reason, why)) => pieces.bad.push((nth, reason, why)),
            }
        }
    })
}

#[inline]
fn admit<'a>(record: &Record<'a>) -> Result<&'a [u8], (DeadReason, String)> {
    let Some(value) = record.value else {
        return Err((DeadReason::NullValue, "the value is null".to_owned()));
    };
    let bytes = record.full_len.unwrap_or(value.len() as u64);
    if bytes > RECORD_BYTES_MAX as u64 {
        let why = format!("the value has {bytes} bytes, more than {RECORD_BYTES_MAX}");
        return Err((DeadReason::TooLarge, why));
    }
    Ok(value)
}
