//! Key ranges in the configuration of schedulers.

use serde::{Deserialize, Serialize};

use crate::model::KeyRange;

/// Key ranges in PD's form: upper-case hex, the end first.
pub(super) mod hex_ranges {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    use crate::model::{Key, KeyRange};

    #[derive(Serialize, Deserialize, Default)]
    #[serde(rename_all = "kebab-case", default)]
    struct Hex {
        end_key: String,
        start_key: String,
    }

    pub(in super::super) fn serialize<S: Serializer>(ranges: &[KeyRange], to: S) -> Result<S::Ok, S::Error> {
        let hex = |range: &KeyRange| Hex { end_key: range.end.hex(), start_key: range.start.hex() };
        ranges.iter().map(hex).collect::<Vec<_>>().serialize(to)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<KeyRange>, D::Error> {
        let key = |text: &str| hex::decode(text).map(Key::from).map_err(D::Error::custom);
        let range = |hex: Hex| Ok(KeyRange { start: key(&hex.start_key)?, end: key(&hex.end_key)? });
        Vec::<Hex>::deserialize(from)?.into_iter().map(range).collect()
    }
}

/// The whole key space.
pub(super) fn everything() -> Vec<KeyRange> {
    vec![KeyRange::default()]
}

/// Ranges of one store.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ranges(#[serde(with = "hex_ranges")] pub Vec<KeyRange>);

impl Default for Ranges {
    fn default() -> Self {
        Self(everything())
    }
}
