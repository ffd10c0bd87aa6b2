//! The key space cut at the bounds of many ranges, for look-ups by key.
//!
//! Owns: the cutting and the binary search. Must not know: what the ranges mean.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use crate::model::{
    Key, KeyRange,
    key::{before_end, cmp_ends},
};

/// Which of many ranges cover which keys. The first segment starts at the start of the key space, each ends where the next one
/// starts, the last has no end.
#[derive(Debug)]
pub struct Segments<T> {
    parts: Vec<(Key, T)>,
}

impl<T> Default for Segments<T> {
    fn default() -> Self {
        Self { parts: Vec::new() }
    }
}

impl<T> Segments<T> {
    /// Cuts the key space at all bounds of `ranges` (empty ranges cover nothing) and makes a value of the positions of the ranges
    /// that cover each part, in rising order.
    pub fn new<'a>(ranges: impl Iterator<Item = &'a KeyRange>, mut value: impl FnMut(&[usize]) -> T) -> Self {
        #[derive(Default)]
        struct Bound {
            starts: Vec<usize>,
            ends: Vec<usize>,
        }
        let mut bounds: BTreeMap<Key, Bound> = BTreeMap::from([(Key::empty(), Bound::default())]);
        for (at, range) in ranges.enumerate().filter(|(_, r)| !r.is_empty()) {
            bounds.entry(range.start.clone()).or_default().starts.push(at);
            if !range.end.is_empty() {
                bounds.entry(range.end.clone()).or_default().ends.push(at);
            }
        }
        let mut open = BTreeSet::new();
        let mut parts = Vec::with_capacity(bounds.len());
        for (start, bound) in bounds {
            for at in &bound.ends {
                open.remove(at);
            }
            open.extend(bound.starts);
            let here: Vec<usize> = open.iter().copied().collect();
            parts.push((start, value(&here)));
        }
        Self { parts }
    }

    /// The value at `key`.
    pub fn at(&self, key: &[u8]) -> Option<&T> {
        self.index(key).map(|at| &self.parts[at].1)
    }

    /// The value over the whole of `range`; `None` when a cut lies inside.
    pub fn over(&self, range: &KeyRange) -> Option<&T> {
        let at = self.index(&range.start)?;
        let end = self.parts.get(at + 1).map_or(&[][..], |(next, _)| next);
        (cmp_ends(&range.end, end) != Ordering::Greater).then(|| &self.parts[at].1)
    }

    /// The cuts that lie inside `range`.
    pub fn cuts(&self, range: &KeyRange) -> impl Iterator<Item = &Key> {
        let from = self.parts.partition_point(|(start, _)| **start <= *range.start);
        self.parts[from..].iter().map(|(start, _)| start).take_while(|start| before_end(start, &range.end))
    }

    /// All parts in key order.
    pub fn iter(&self) -> impl Iterator<Item = (KeyRange, &T)> {
        self.parts.iter().enumerate().map(|(at, (start, value))| {
            let end = self.parts.get(at + 1).map_or_else(Key::empty, |(next, _)| next.clone());
            (KeyRange { start: start.clone(), end }, value)
        })
    }

    fn index(&self, key: &[u8]) -> Option<usize> {
        self.parts.partition_point(|(start, _)| **start <= *key).checked_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: &str, end: &str) -> KeyRange {
        KeyRange::new(start.as_bytes(), end.as_bytes())
    }

    #[test]
    fn parts_hold_what_covers_them() {
        let ranges = [range("b", "d"), range("", "c"), range("x", "x"), range("d", "")];
        let cut = Segments::new(ranges.iter(), <[usize]>::to_vec);
        let parts: Vec<_> = cut.iter().map(|(r, v)| (r, v.clone())).collect();
        let wanted = [(range("", "b"), vec![1]), (range("b", "c"), vec![0, 1]), (range("c", "d"), vec![0])];
        assert_eq!(parts[..3], wanted);
        assert_eq!(parts[3], (range("d", ""), vec![3]));
        assert_eq!(cut.at(b"c"), Some(&vec![0]));
        assert_eq!(cut.over(&range("b", "c")), Some(&vec![0, 1]));
        assert_eq!(cut.over(&range("b", "cc")), None);
        assert_eq!(cut.cuts(&range("b", "d")).map(|k| k.as_bytes()).collect::<Vec<_>>(), [b"c"]);
        assert_eq!(cut.cuts(&KeyRange::all()).count(), 3);
        let none = Segments::new([].iter(), |_| ());
        assert!(none.at(b"k").is_some() && none.cuts(&KeyRange::all()).next().is_none());
    }
}
