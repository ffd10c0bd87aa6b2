//! Details of the JSON form of commands and rows: byte strings as base64, shared values as themselves.
//!
//! Must not know: what is encoded.

/// Bytes as base64 text: a third longer instead of four times, as numbers would be.
pub(super) mod base64_bytes {
    use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub(in crate::meta::machine) fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        BASE64_STANDARD_NO_PAD.encode(bytes).serialize(s)
    }

    pub(in crate::meta::machine) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(d)?;
        BASE64_STANDARD_NO_PAD.decode(text).map_err(D::Error::custom)
    }

    /// The same for bytes that may be absent.
    pub(in crate::meta::machine) mod option {
        use super::{BASE64_STANDARD_NO_PAD, Deserialize, Deserializer, Engine, Error, Serialize, Serializer};

        pub(in crate::meta::machine) fn serialize<S: Serializer>(
            bytes: &Option<Vec<u8>>,
            s: S,
        ) -> Result<S::Ok, S::Error> {
            bytes.as_ref().map(|b| BASE64_STANDARD_NO_PAD.encode(b)).serialize(s)
        }

        pub(in crate::meta::machine) fn deserialize<'de, D: Deserializer<'de>>(
            d: D,
        ) -> Result<Option<Vec<u8>>, D::Error> {
            let text = Option::<String>::deserialize(d)?;
            text.map(|t| BASE64_STANDARD_NO_PAD.decode(t).map_err(D::Error::custom)).transpose()
        }
    }
}

/// A value behind an [`Arc`](std::sync::Arc), written as the value.
pub(super) mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in crate::meta::machine) fn serialize<T: Serialize + ?Sized, S: Serializer>(
        value: &Arc<T>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_ref().serialize(s)
    }

    pub(in crate::meta::machine) fn deserialize<'de, T: ?Sized, D: Deserializer<'de>>(d: D) -> Result<Arc<T>, D::Error>
    where
        Box<T>: Deserialize<'de>,
    {
        Box::<T>::deserialize(d).map(Arc::from)
    }
}
