//! The key space cut at the bounds of many ranges, for look-ups by key.
//!
//! Owns: the cutting, the search, and changing a version into the next one at the cost of the parts that change. Must not know:
//! what the ranges mean.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use crate::model::{
    Key, KeyRange, PersistentMap,
    key::{before_end, cmp_ends},
};

/// Which of many items cover which keys. The first part starts at the start of the key space, each ends where the next one starts,
/// the last has no end. A clone costs one pointer.
#[derive(Clone, Debug)]
pub struct Segments<I, V> {
    parts: PersistentMap<Key, Part<I, V>>,
}

/// What holds from one cut to the next.
#[derive(PartialEq, Debug)]
pub struct Part<I, V> {
    /// How many ranges begin or end here; the part goes when the last of them does.
    bounds: usize,
    /// The items that cover it.
    pub items: Arc<[Arc<I>]>,
    /// What was made of them.
    pub value: V,
}

/// A change: ranges that items stop and begin to cover, and ranges whose values are to be made again.
#[derive(Debug)]
pub struct Edit<'a, I> {
    /// Items as they are in the version before, with every range of theirs.
    pub removed: Vec<(&'a KeyRange, &'a Arc<I>)>,
    /// New items.
    pub added: Vec<(&'a KeyRange, &'a Arc<I>)>,
    /// Ranges in which something else changed.
    pub touched: Vec<&'a KeyRange>,
}

impl<I, V: Clone> Clone for Part<I, V> {
    fn clone(&self) -> Self {
        Self { bounds: self.bounds, items: Arc::clone(&self.items), value: self.value.clone() }
    }
}

impl<I, V> Default for Segments<I, V> {
    fn default() -> Self {
        Self { parts: PersistentMap::default() }
    }
}

impl<I, V: Clone + Default> Segments<I, V> {
    /// The version after `edit`, and the parts that were made again, in key order. `value` puts the items of a part in order and
    /// makes a value of them. Costs what those parts cost; no other is looked at.
    pub fn changed(&self, edit: &Edit<'_, I>, mut value: impl FnMut(&mut [Arc<I>]) -> V) -> (Self, Vec<KeyRange>) {
        let mut next = Self { parts: self.parts.clone() };
        let mut work: BTreeMap<Key, Vec<Arc<I>>> = BTreeMap::new();
        let is_first = next.parts.is_empty();
        if is_first {
            let whole = Part { bounds: 0, items: Arc::new([]), value: V::default() };
            next.parts.insert(Key::empty(), whole);
        }
        let (removed, added) = (present(&edit.removed), present(&edit.added));
        for (range, _) in added.clone() {
            next.cut(&range.start);
            if !range.end.is_empty() {
                next.cut(&range.end);
            }
        }
        if is_first {
            // No part has a value yet.
            next.each_in(&KeyRange::all(), &mut work, |_| ());
        }
        for (range, item) in removed.clone() {
            next.each_in(range, &mut work, |items| items.retain(|known| !Arc::ptr_eq(known, item)));
        }
        for (range, item) in added {
            next.each_in(range, &mut work, |items| {
                // The ranges of one item may overlap.
                if !items.iter().any(|known| Arc::ptr_eq(known, item)) {
                    items.push(Arc::clone(item));
                }
            });
        }
        for range in edit.touched.iter().filter(|r| !r.is_empty()) {
            next.each_in(range, &mut work, |_| ());
        }
        for (range, _) in removed {
            next.join(&range.start, &mut work);
            if !range.end.is_empty() {
                next.join(&range.end, &mut work);
            }
        }
        let touched = work.keys().map(|start| next.range_at(start)).collect();
        for (start, mut items) in work {
            let value = value(&mut items);
            let bounds = next.parts.get(&start).map_or(0, |part| part.bounds);
            next.parts.insert(start, Part { bounds, items: items.into(), value });
        }
        (next, touched)
    }

    /// Sees to it that a part starts at `key`, for one more range.
    fn cut(&mut self, key: &Key) {
        let Some((start, part)) = self.parts.around(key).0 else { return };
        let bounds = if start == key { part.bounds + 1 } else { 1 };
        let part = Part { bounds, ..part.clone() };
        self.parts.insert(key.clone(), part);
    }

    /// One range less begins or ends at `key`. Where none does, the items on both sides are the same.
    fn join(&mut self, key: &Key, work: &mut BTreeMap<Key, Vec<Arc<I>>>) {
        let Some(part) = self.parts.get(key) else { return };
        let bounds = part.bounds.saturating_sub(1);
        if bounds == 0 && !key.is_empty() {
            self.parts.remove(key);
            work.remove(key);
        } else {
            let part = Part { bounds, ..part.clone() };
            self.parts.insert(key.clone(), part);
        }
    }

    /// Calls `change` with the items of each part inside `range`, at whose bounds there are cuts.
    fn each_in(
        &self,
        range: &KeyRange,
        work: &mut BTreeMap<Key, Vec<Arc<I>>>,
        mut change: impl FnMut(&mut Vec<Arc<I>>),
    ) {
        for (start, part) in self.parts.from(&range.start).take_while(|(start, _)| before_end(start, &range.end)) {
            change(work.entry(start.clone()).or_insert_with(|| part.items.to_vec()));
        }
    }

    fn range_at(&self, start: &Key) -> KeyRange {
        let end = self.parts.around(start).1.map_or_else(Key::empty, |(next, _)| next.clone());
        KeyRange { start: start.clone(), end }
    }
}

/// Empty ranges cover nothing.
fn present<'a, I>(list: &[(&'a KeyRange, &'a Arc<I>)]) -> impl Iterator<Item = (&'a KeyRange, &'a Arc<I>)> + Clone {
    list.iter().copied().filter(|(range, _)| !range.is_empty())
}

impl<I, V> Segments<I, V> {
    /// What holds at `key`.
    pub fn at(&self, key: &[u8]) -> Option<&Part<I, V>> {
        self.parts.around(key).0.map(|(_, part)| part)
    }

    /// What holds over the whole of `range`; `None` when a cut lies inside.
    pub fn over(&self, range: &KeyRange) -> Option<&Part<I, V>> {
        let (here, next) = self.parts.around::<[u8]>(&range.start);
        let end = next.map_or(&[][..], |(next, _)| next);
        here.filter(|_| cmp_ends(&range.end, end) != Ordering::Greater).map(|(_, part)| part)
    }

    /// What holds in `range`, part by part; at least one as soon as there is any part.
    pub fn within<'a>(&'a self, range: &KeyRange) -> impl Iterator<Item = &'a Part<I, V>> {
        let here = self.parts.around::<[u8]>(&range.start).0.map(|(_, part)| part);
        let later = self.parts.from(&range.start).skip_while(|(start, _)| **start == range.start);
        here.into_iter().chain(later.take_while(|(start, _)| before_end(start, &range.end)).map(|(_, part)| part))
    }

    /// The cuts that lie inside `range`; hardly ever any, so finding none allocates nothing.
    pub fn cuts(&self, range: &KeyRange) -> Vec<Key> {
        if self.over(range).is_some() {
            return Vec::new();
        }
        let starts = self.parts.from(&range.start).map(|(start, _)| start);
        starts.take_while(|s| before_end(s, &range.end)).filter(|s| **s != range.start).cloned().collect()
    }

    /// All parts in key order.
    pub fn iter(&self) -> impl Iterator<Item = (KeyRange, &Part<I, V>)> {
        let mut ends = self.parts.keys().skip(1);
        self.parts.iter().map(move |(start, part)| {
            let end = ends.next().cloned().unwrap_or_default();
            (KeyRange { start: start.clone(), end }, part)
        })
    }
}

#[cfg(test)]
mod tests;
