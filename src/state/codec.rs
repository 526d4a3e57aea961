//! Bytes of state: the only file that knows them.

use super::State;
use crate::error::{Error, Result};

/// Integers in fixed width: four times as fast as varints, at twice the size.
const LAYOUT: bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Fixint,
> = bincode::config::standard().with_fixed_int_encoding();

/// Appends the bytes of `value`.
pub(crate) fn encode<T: State>(value: &T, out: &mut Vec<u8>) -> Result {
    bincode::serde::encode_into_std_write(value, out, LAYOUT)
        .map(|_| ())
        .map_err(|cause| broken::<T>("cannot be written", cause))
}

/// Reads a value that fills `bytes`.
pub(crate) fn decode<T: State>(bytes: &[u8]) -> Result<T> {
    let (value, read) = bincode::serde::decode_from_slice(bytes, LAYOUT)
        .map_err(|cause| broken::<T>("cannot be read back", cause))?;
    if read == bytes.len() {
        Ok(value)
    } else {
        Err(broken::<T>(
            "leaves bytes behind",
            format!("read {read} of {}", bytes.len()),
        ))
    }
}

/// Reads a value from the beginning of `bytes`, and gives what lies behind it.
pub(crate) fn decode_first<T: State>(bytes: &[u8]) -> Result<(T, &[u8])> {
    let (value, read) = bincode::serde::decode_from_slice(bytes, LAYOUT)
        .map_err(|cause| broken::<T>("cannot be read back", cause))?;
    Ok((value, &bytes[read..]))
}

/// Whether `value` would be written as `bytes`. Stops at the first byte that differs, so that it
/// costs next to nothing where the answer is no.
pub(crate) fn is_written_as<T: State>(value: &T, bytes: &[u8]) -> bool {
    let mut rest = Rest(bytes);
    bincode::serde::encode_into_writer(value, &mut rest, LAYOUT).is_ok() && rest.0.is_empty()
}

/// What is still to be written alike.
struct Rest<'a>(&'a [u8]);

impl bincode::enc::write::Writer for Rest<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::result::Result<(), bincode::error::EncodeError> {
        let rest = self.0.strip_prefix(bytes);
        self.0 = rest.ok_or(bincode::error::EncodeError::Other("it differs"))?;
        Ok(())
    }
}

/// How many bytes [`encode`] would write; 0 for what cannot be written.
pub(crate) fn len<T: State>(value: &T) -> usize {
    let mut size = bincode::enc::write::SizeWriter::default();
    let written = bincode::serde::encode_into_writer(value, &mut size, LAYOUT);
    written.map_or(0, |()| size.bytes_written)
}

/// Writes `value` and reads it back: what the test harness does to everything that is exchanged or
/// kept, so that a type that would break at recovery breaks in a test.
pub(crate) fn round_trip<T: State>(value: &T) -> Result<T> {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    encode(value, &mut first)?;
    let back: T = decode(&first)?;
    encode(&back, &mut second)?;
    if first == second {
        Ok(back)
    } else {
        Err(differs::<T>("its bytes differ"))
    }
}

/// Whether `value` comes back from its bytes: what a run that saves its state looks at once for
/// each type, for else a recovery would be the first to know. A `HashMap` may have another order.
pub(crate) fn check<T: State>(value: &T) -> Result {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    encode(value, &mut first)?;
    encode(&decode::<T>(&first)?, &mut second)?;
    first.sort_unstable();
    second.sort_unstable();
    if first == second {
        Ok(())
    } else {
        Err(differs::<T>("its bytes differ"))
    }
}

/// That a value is not what was written, as `why` shows.
pub(super) fn differs<T>(why: &str) -> Error {
    let hint = "a HashMap or HashSet has no order of its own: take a BTreeMap or BTreeSet";
    broken::<T>("comes back as another value", format!("{why}; {hint}"))
}

fn broken<T>(how: &str, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let name = std::any::type_name::<T>();
    Error::usage(format!("type `{name}` {how} in the form of state")).because(cause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        Number(i64),
        Text(String),
    }

    #[test]
    fn plain_types_come_back() {
        let value = (1i64, Some("x".to_owned()), vec![1u8], i128::MIN, f64::MAX);
        assert_eq!(round_trip(&value).unwrap(), value);
    }

    #[test]
    fn a_default_is_known_by_its_bytes() {
        let mut bytes = Vec::new();
        encode(&(0u8, Vec::<u8>::new()), &mut bytes).unwrap();
        assert!(is_written_as(&(0u8, Vec::<u8>::new()), &bytes));
        assert!(!is_written_as(&(1u8, Vec::<u8>::new()), &bytes));
        assert!(!is_written_as(&(0u8, vec![0u8]), &bytes), "longer");
        assert!(!is_written_as(&0u8, &bytes), "shorter");
    }

    #[test]
    fn bytes_behind_a_value_are_not_passed_over() {
        assert_eq!(decode::<u8>(&[1]).unwrap(), 1);
        let error = decode::<u8>(&[1, 2]).unwrap_err().to_string();
        assert!(error.contains("`u8` leaves bytes behind"), "{error}");
    }

    #[derive(Clone, Serialize, Deserialize)]
    struct Skips {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        first: Option<u8>,
        second: u32,
    }

    #[test]
    fn what_would_not_come_back_is_named_and_another_order_is_none() {
        let unordered: std::collections::HashMap<u32, u32> = (0..64).map(|n| (n, n)).collect();
        check(&unordered).unwrap();
        let mut skips = Skips {
            first: Some(1),
            second: 5,
        };
        check(&skips).unwrap();
        skips.first = None;
        let error = check(&skips).unwrap_err().to_string();
        assert!(error.contains("Skips` cannot be read back"), "{error}");
        let error = check(&Untagged::Number(1)).unwrap_err().to_string();
        assert!(error.contains("Untagged` cannot be read back"), "{error}");
    }

    #[test]
    fn a_type_that_needs_a_format_that_describes_itself_is_named() {
        let error = round_trip(&Untagged::Number(1)).unwrap_err().to_string();
        assert!(error.contains("Untagged` cannot be read back"), "{error}");
    }
}
