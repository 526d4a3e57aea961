//! State whose type may evolve.

use serde::de::{DeserializeOwned, Error as _};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A value that is kept in state as JSON, so that its type may get new fields.
///
/// State is written in a form that does not describe itself: it is small and fast, and what was
/// written as one type cannot be read as another. What lies in a `Json` is read back by serde's
/// rules for JSON instead: a field with `#[serde(default)]` may be new, a field may be gone, one
/// may have another name (`alias`), an enum may get variants, and `from` converts whatever else
/// there was. The type has to keep its name. It costs more space, and the writing and reading of
/// JSON at each checkpoint.
///
/// Floats that are no numbers do not survive JSON, nor do maps whose keys are neither text nor
/// numbers: the test harness finds that.
///
/// # Example
/// ```
/// use anabranch::prelude::*;
/// use anabranch::Json;
///
/// #[derive(Clone, Debug, Default, Serialize, Deserialize)]
/// struct Visits {
///     count: u64,
///     /// New in this version: in older state it is empty.
///     #[serde(default)]
///     pages: Vec<String>,
/// }
///
/// struct Count;
///
/// impl Process for Count {
///     type Key = u32;
///     type In = (u32, String);
///     type Out = u64;
///     type State = Json<Visits>;
///
///     fn on_event(
///         &self,
///         Json(visits): &mut Json<Visits>,
///         event: &Event<(u32, String)>,
///         cx: &mut ProcessContext<'_, Self>,
///     ) {
///         visits.count += 1;
///         visits.pages.push(event.value.1.clone());
///         cx.emit(visits.count);
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Json<T>(pub T);

impl<T: Serialize> Serialize for Json<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() {
            return self.0.serialize(to); // a result, not state
        }
        let text = sonic_rs::to_string(&self.0).map_err(S::Error::custom)?;
        to.serialize_str(&text)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Json<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if from.is_human_readable() {
            return T::deserialize(from).map(Json);
        }
        let text = String::deserialize(from)?;
        let value = sonic_rs::from_str(&text).map_err(D::Error::custom)?;
        Ok(Self(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::codec;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Before {
        count: u64,
        gone: String,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct After {
        #[serde(default)]
        pages: Vec<String>,
        #[serde(alias = "count")]
        visits: u64,
    }

    #[test]
    fn what_an_older_type_wrote_is_read_by_a_newer_one() {
        let before = Before {
            count: 7,
            gone: "x".to_owned(),
        };
        let mut bytes = Vec::new();
        codec::encode(&Json(before.clone()), &mut bytes).unwrap();
        // This may never change: it is on disks.
        let text = br#"{"count":7,"gone":"x"}"#;
        let expected = [&(text.len() as u64).to_le_bytes()[..], text].concat();
        assert_eq!(bytes, expected);
        let Json(after) = codec::decode::<Json<After>>(&bytes).unwrap();
        assert_eq!((after.visits, after.pages.len()), (7, 0));
        // Without it, no.
        bytes.clear();
        codec::encode(&before, &mut bytes).unwrap();
        assert!(codec::decode::<After>(&bytes).is_err());
    }

    #[test]
    fn an_enum_may_get_variants_behind_the_last_without_it() {
        #[derive(Clone, Serialize, Deserialize)]
        enum Before {
            First { count: u64 },
        }
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        enum After {
            First { count: u64 },
            Second { count: u64, pages: u64 },
        }
        fn bytes<T: crate::State>(value: &T) -> Vec<u8> {
            let mut bytes = Vec::new();
            codec::encode(value, &mut bytes).unwrap();
            bytes
        }
        let after = codec::decode::<After>(&bytes(&Before::First { count: 7 })).unwrap();
        assert_eq!(after, After::First { count: 7 });
        let second = After::Second { count: 7, pages: 3 };
        assert_eq!(codec::decode::<After>(&bytes(&second)).unwrap(), second);
    }

    #[test]
    fn it_comes_back_beside_others_and_is_plain_in_json() {
        let value = (Json(vec![1u8, 2]), 5u64, Json("y".to_owned()));
        assert_eq!(codec::round_trip(&value).unwrap(), value);
        assert_eq!(sonic_rs::to_string(&value).unwrap(), r#"[[1,2],5,"y"]"#);
        assert_eq!(sonic_rs::from_str::<Json<u8>>("3").unwrap(), Json(3));
    }
}
