//! Keys and half-open key ranges. The empty key means "from the very start" as a lower bound and "to the very end" as an
//! upper bound; that rule is written here and nowhere else.

use std::{cmp::Ordering, fmt, ops::Deref, sync::Arc};

/// A raw (encoded) key. Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<[u8]>);

impl Key {
    /// The empty key.
    pub fn empty() -> Self {
        Self(Arc::from(&[][..]))
    }

    /// The bytes of the key.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Upper-case hex without separators, as PD prints keys.
    pub fn hex(&self) -> String {
        hex::encode_upper(&self.0)
    }
}

impl Default for Key {
    fn default() -> Self {
        Self::empty()
    }
}

/// As hex.
impl serde::Serialize for Key {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.hex())
    }
}

impl<'de> serde::Deserialize<'de> for Key {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
        hex::decode(text.as_bytes()).map(Key::from).map_err(serde::de::Error::custom)
    }
}

impl Deref for Key {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl std::borrow::Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Key {
    fn from(bytes: &[u8]) -> Self {
        Self(Arc::from(bytes))
    }
}

impl From<Vec<u8>> for Key {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Arc::from(bytes))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.hex())
    }
}

/// `start <= key < end`, where an empty `end` is no bound.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct KeyRange {
    /// First key in the range; empty: from the start.
    pub start: Key,
    /// First key after the range; empty: to the end.
    pub end: Key,
}

impl KeyRange {
    /// The range of these two bounds.
    pub fn new(start: impl Into<Key>, end: impl Into<Key>) -> Self {
        Self { start: start.into(), end: end.into() }
    }

    /// The whole key space.
    pub fn all() -> Self {
        Self::default()
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        *self.start <= *key && before_end(key, &self.end)
    }

    /// Whether `other` lies in this range as a whole.
    pub fn covers(&self, other: &KeyRange) -> bool {
        *self.start <= *other.start && cmp_ends(&other.end, &self.end) != Ordering::Greater
    }

    /// Whether the two ranges share a key.
    pub fn overlaps(&self, other: &KeyRange) -> bool {
        before_end(&self.start, &other.end) && before_end(&other.start, &self.end)
    }

    /// The same keys in as few ranges as possible, in key order; empty ranges are left out.
    pub fn joined(mut ranges: Vec<KeyRange>) -> Vec<KeyRange> {
        ranges.retain(|range| !range.is_empty());
        ranges.sort_by(|a, b| a.start.cmp(&b.start));
        let mut joined: Vec<KeyRange> = Vec::new();
        for range in ranges {
            match joined.last_mut() {
                Some(last) if last.end.is_empty() || *range.start <= *last.end => {
                    if cmp_ends(&range.end, &last.end) == Ordering::Greater {
                        last.end = range.end;
                    }
                }
                _ => joined.push(range),
            }
        }
        joined
    }

    /// Whether no key lies in the range (`start >= end`, with `end` not empty).
    pub fn is_empty(&self) -> bool {
        !before_end(&self.start, &self.end)
    }
}

/// Whether `key` lies before the upper bound `end`.
pub fn before_end(key: &[u8], end: &[u8]) -> bool {
    end.is_empty() || key < end
}

/// Orders two upper bounds; the empty one is the greatest.
pub fn cmp_ends(a: &[u8], b: &[u8]) -> Ordering {
    match (a.is_empty(), b.is_empty()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => a.cmp(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: &str, end: &str) -> KeyRange {
        KeyRange::new(start.as_bytes(), end.as_bytes())
    }

    #[test]
    fn an_empty_bound_is_no_bound() {
        assert!(KeyRange::all().contains(b""));
        assert!(range("b", "").contains(b"zzz"));
        assert!(!range("b", "").contains(b"a"));
        assert!(!range("b", "c").contains(b"c"));
        assert!(KeyRange::all().covers(&range("a", "b")));
        assert!(!range("a", "b").covers(&range("a", "")));
        assert!(range("a", "").overlaps(&range("z", "")));
        assert!(!range("a", "b").overlaps(&range("b", "c")));
        assert!(range("b", "b").is_empty() && !range("b", "").is_empty());
    }

    #[test]
    fn ranges_that_touch_are_joined() {
        let ranges = vec![
            range("m", "p"),
            range("c", "c"),
            range("x", ""),
            range("a", "f"),
            range("f", "g"),
            range("b", "d"),
            range("y", "z"),
        ];
        assert_eq!(KeyRange::joined(ranges), [range("a", "g"), range("m", "p"), range("x", "")]);
    }
}
