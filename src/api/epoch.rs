//! Epochs and points: the total order that every decision stands on.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// One reign: (number, site), ordered by number, then by the site's name. Written `2/luxembourg`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch {
    /// From 1.
    pub number: i64,
    /// The site that may write in it.
    pub site: String,
}

/// A recovery point's place in the order of all: by epoch, then by sequence. Written `2/luxembourg/17`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PointRef {
    /// The reign it was written in.
    pub epoch: Epoch,
    /// From 1 within the epoch.
    pub sequence: i64,
}

/// A text that is no epoch or point.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not {expected}")]
pub struct InvalidReference {
    text: String,
    expected: &'static str,
}

impl Epoch {
    /// The epoch of that number and site.
    #[must_use]
    pub fn new(number: i64, site: impl Into<String>) -> Self {
        Self { number, site: site.into() }
    }

    /// As part of a path or an object's name: `2-luxembourg`.
    #[must_use]
    pub fn slug(&self) -> String {
        format!("{}-{}", self.number, self.site)
    }
}

impl PointRef {
    /// What its text must match; for fields whose schema says so in a sentence.
    pub const PATTERN: &str = "^[1-9][0-9]{0,17}/[a-z]([-a-z0-9]*[a-z0-9])?/[1-9][0-9]{0,17}$";

    /// As part of an object's name: `2-luxembourg-17`.
    #[must_use]
    pub fn slug(&self) -> String {
        format!("{}-{}", self.epoch.slug(), self.sequence)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.site)
    }
}

impl fmt::Display for PointRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.epoch, self.sequence)
    }
}

impl FromStr for Epoch {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let invalid =
            || InvalidReference { text: text.to_owned(), expected: "an epoch such as 2/luxembourg" };
        let (number, site) = text.split_once('/').ok_or_else(invalid)?;
        let number = number.parse().ok().filter(|number| *number > 0).ok_or_else(invalid)?;
        if site.is_empty() || site.contains('/') {
            return Err(invalid());
        }
        Ok(Self::new(number, site))
    }
}

impl FromStr for PointRef {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let invalid = || InvalidReference {
            text: text.to_owned(),
            expected: "a recovery point such as 2/luxembourg/17",
        };
        let (epoch, sequence) = text.rsplit_once('/').ok_or_else(invalid)?;
        let sequence = sequence.parse().ok().filter(|sequence| *sequence > 0).ok_or_else(invalid)?;
        Ok(Self { epoch: epoch.parse().map_err(|_| invalid())?, sequence })
    }
}

/// Both are text in manifests and documents, so that people can read and write them.
macro_rules! as_text {
    ($type:ty, $pattern:expr) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }

        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "maxLength": 80, "pattern": $pattern})
            }
        }
    };
}

as_text!(Epoch, "^[1-9][0-9]{0,17}/[a-z]([-a-z0-9]*[a-z0-9])?$");
as_text!(PointRef, PointRef::PATTERN);

#[cfg(test)]
mod tests {
    use super::*;

    fn point(text: &str) -> PointRef {
        text.parse().unwrap()
    }

    #[test]
    fn epochs_are_ordered_by_number_then_site() {
        let order = ["1/tallinn", "2/luxembourg", "2/tallinn", "10/luxembourg"];
        let epochs: Vec<Epoch> = order.iter().map(|text| text.parse().unwrap()).collect();
        assert!(epochs.is_sorted_by(|a, b| a < b), "{epochs:?}");
    }

    #[test]
    fn points_are_ordered_by_epoch_then_sequence() {
        assert!(point("1/tallinn/10") > point("1/tallinn/9"));
        assert!(point("2/luxembourg/1") > point("1/tallinn/99"));
    }

    #[test]
    fn both_read_what_they_write() {
        assert_eq!(point("2/luxembourg/17").to_string(), "2/luxembourg/17");
        assert_eq!(point("2/luxembourg/17").slug(), "2-luxembourg-17");
        assert_eq!(serde_json::to_string(&Epoch::new(2, "luxembourg")).unwrap(), "\"2/luxembourg\"");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "2", "2/", "/a", "0/a", "-1/a", "a/2", "2/a/b"] {
            assert!(text.parse::<Epoch>().is_err(), "{text}");
        }
        for text in ["2/a", "2/a/0", "2/a/x", "2/a/b/1"] {
            assert!(text.parse::<PointRef>().is_err(), "{text}");
        }
    }
}
