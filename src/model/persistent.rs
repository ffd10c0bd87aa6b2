//! An ordered map whose versions share what they have in common.
//!
//! Owns: the balanced tree behind it. A clone costs one pointer; a change of a clone copies the nodes on the way to the entry and
//! no others, whatever the size of the map. Must not know: what is kept in it.

use std::{borrow::Borrow, cmp::Ordering, fmt, sync::Arc};

/// See the module's comment.
pub struct PersistentMap<K, V> {
    root: Link<K, V>,
    len: usize,
}

type Link<K, V> = Option<Arc<Node<K, V>>>;

#[derive(Clone)]
struct Node<K, V> {
    key: K,
    value: V,
    /// Of the tree below, this node counted: at most 1.44 log2 of the entries.
    height: u8,
    left: Link<K, V>,
    right: Link<K, V>,
}

/// The entry at or before a key, and the next one after it.
pub type Around<'a, K, V> = (Option<(&'a K, &'a V)>, Option<(&'a K, &'a V)>);

impl<K, V> Default for PersistentMap<K, V> {
    fn default() -> Self {
        Self { root: None, len: 0 }
    }
}

impl<K, V> Clone for PersistentMap<K, V> {
    fn clone(&self) -> Self {
        Self { root: self.root.clone(), len: self.len }
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for PersistentMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for PersistentMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && (is_same(&self.root, &other.root) || self.iter().eq(other.iter()))
    }
}

impl<K: Ord + Clone, V: Clone> FromIterator<(K, V)> for PersistentMap<K, V> {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(entries: T) -> Self {
        let mut map = Self::default();
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }
}

impl<K, V> PersistentMap<K, V> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All entries in order.
    pub fn iter(&self) -> Iter<'_, K, V> {
        let mut stack = Vec::with_capacity(usize::from(height(&self.root)));
        push_left(&mut stack, self.root.as_deref());
        Iter { stack }
    }

    /// All keys in order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// All values in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// The value of `key`.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let mut at = self.root.as_deref();
        while let Some(node) = at {
            at = match key.cmp(node.key.borrow()) {
                Ordering::Equal => return Some(&node.value),
                Ordering::Less => node.left.as_deref(),
                Ordering::Greater => node.right.as_deref(),
            };
        }
        None
    }

    /// Whether `key` has an entry.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// The entries on both sides of `key`: see [`Around`].
    pub fn around<Q: Ord + ?Sized>(&self, key: &Q) -> Around<'_, K, V>
    where
        K: Borrow<Q>,
    {
        let (mut at, mut before, mut after) = (self.root.as_deref(), None, None);
        while let Some(node) = at {
            if key.cmp(node.key.borrow()) == Ordering::Less {
                after = Some(node);
                at = node.left.as_deref();
            } else {
                before = Some(node);
                at = node.right.as_deref();
            }
        }
        (before.map(|n| (&n.key, &n.value)), after.map(|n| (&n.key, &n.value)))
    }

    /// The entries at `key` and after it, in order.
    pub fn from<Q: Ord + ?Sized>(&self, key: &Q) -> Iter<'_, K, V>
    where
        K: Borrow<Q>,
    {
        let (mut at, mut stack) = (self.root.as_deref(), Vec::new());
        while let Some(node) = at {
            if key.cmp(node.key.borrow()) == Ordering::Greater {
                at = node.right.as_deref();
            } else {
                stack.push(node);
                at = node.left.as_deref();
            }
        }
        Iter { stack }
    }

    /// Calls `tell` with each key whose value is not the same in `newer`: key, value here, value there. What the two versions share
    /// is not looked at.
    pub fn changes<'a>(&'a self, newer: &'a Self, mut tell: impl FnMut(&'a K, Option<&'a V>, Option<&'a V>))
    where
        K: Ord,
        V: PartialEq,
    {
        let (mut old, mut new) = (Parts::new(&self.root), Parts::new(&newer.root));
        loop {
            match (old.top(), new.top()) {
                (Some(Part::Tree(a)), Some(Part::Tree(b))) if Arc::ptr_eq(a, b) => {
                    old.pop();
                    new.pop();
                }
                (Some(Part::Tree(a)), Some(Part::Tree(b))) => {
                    // The higher one is opened first, so that subtrees of one height meet.
                    if a.height >= b.height { old.open() } else { new.open() }
                }
                (Some(Part::Tree(_)), _) => old.open(),
                (_, Some(Part::Tree(_))) => new.open(),
                (Some(Part::Entry(a)), Some(Part::Entry(b))) => match a.key.cmp(&b.key) {
                    Ordering::Equal => {
                        if a.value != b.value {
                            tell(&a.key, Some(&a.value), Some(&b.value));
                        }
                        old.pop();
                        new.pop();
                    }
                    Ordering::Less => {
                        tell(&a.key, Some(&a.value), None);
                        old.pop();
                    }
                    Ordering::Greater => {
                        tell(&b.key, None, Some(&b.value));
                        new.pop();
                    }
                },
                (Some(Part::Entry(a)), None) => {
                    tell(&a.key, Some(&a.value), None);
                    old.pop();
                }
                (None, Some(Part::Entry(b))) => {
                    tell(&b.key, None, Some(&b.value));
                    new.pop();
                }
                (None, None) => return,
            }
        }
    }

    /// How many nodes of this version `other` does not share.
    #[cfg(test)]
    pub(crate) fn own_nodes(&self, other: &Self) -> usize {
        fn walk<K, V>(link: &Link<K, V>, tell: &mut impl FnMut(*const Node<K, V>)) {
            if let Some(node) = link {
                tell(Arc::as_ptr(node));
                walk(&node.left, tell);
                walk(&node.right, tell);
            }
        }
        let (mut shared, mut own) = (std::collections::HashSet::new(), 0);
        walk(&other.root, &mut |node| _ = shared.insert(node));
        walk(&self.root, &mut |node| own += usize::from(!shared.contains(&node)));
        own
    }
}

impl<K: Ord + Clone, V: Clone> PersistentMap<K, V> {
    /// Sets the value of `key` and returns the one before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let old = insert(&mut self.root, key, value);
        self.len += usize::from(old.is_none());
        old
    }

    /// Takes the entry of `key` out.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        // Looked up first, so that nothing is copied for a key that is not there.
        self.get(key)?;
        let old = remove(&mut self.root, key);
        self.len -= usize::from(old.is_some());
        old
    }
}

/// Entries in order.
pub struct Iter<'a, K, V> {
    /// Nodes that are due, the next one last; all to the left of each is done.
    stack: Vec<&'a Node<K, V>>,
}

impl<K, V> fmt::Debug for Iter<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").finish_non_exhaustive()
    }
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        let node = self.stack.pop()?;
        push_left(&mut self.stack, node.right.as_deref());
        Some((&node.key, &node.value))
    }
}

impl<'a, K, V> IntoIterator for &'a PersistentMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Iter<'a, K, V> {
        self.iter()
    }
}

fn push_left<'a, K, V>(stack: &mut Vec<&'a Node<K, V>>, mut at: Option<&'a Node<K, V>>) {
    while let Some(node) = at {
        stack.push(node);
        at = node.left.as_deref();
    }
}

/// What is left of a version that is compared with another: whole trees and single entries, in order, the next one last.
struct Parts<'a, K, V>(Vec<Part<'a, K, V>>);

enum Part<'a, K, V> {
    Tree(&'a Arc<Node<K, V>>),
    Entry(&'a Node<K, V>),
}

impl<'a, K, V> Parts<'a, K, V> {
    fn new(root: &'a Link<K, V>) -> Self {
        Self(root.iter().map(Part::Tree).collect())
    }

    fn top(&self) -> Option<&Part<'a, K, V>> {
        self.0.last()
    }

    fn pop(&mut self) {
        self.0.pop();
    }

    /// Puts the parts of the next tree in its place.
    fn open(&mut self) {
        if let Some(Part::Tree(tree)) = self.0.pop() {
            self.0.extend(tree.right.iter().map(Part::Tree));
            self.0.push(Part::Entry(tree));
            self.0.extend(tree.left.iter().map(Part::Tree));
        }
    }
}

fn is_same<K, V>(a: &Link<K, V>, b: &Link<K, V>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (a, b) => a.is_none() && b.is_none(),
    }
}

fn height<K, V>(link: &Link<K, V>) -> u8 {
    link.as_ref().map_or(0, |node| node.height)
}

impl<K, V> Node<K, V> {
    fn measure(&mut self) {
        self.height = 1 + height(&self.left).max(height(&self.right));
    }

    /// By how much the left side is higher.
    fn lean(&self) -> i16 {
        i16::from(height(&self.left)) - i16::from(height(&self.right))
    }
}

fn insert<K: Ord + Clone, V: Clone>(link: &mut Link<K, V>, key: K, value: V) -> Option<V> {
    let Some(top) = link else {
        *link = Some(Arc::new(Node { key, value, height: 1, left: None, right: None }));
        return None;
    };
    let node = Arc::make_mut(top);
    let old = match key.cmp(&node.key) {
        Ordering::Equal => return Some(std::mem::replace(&mut node.value, value)),
        Ordering::Less => insert(&mut node.left, key, value),
        Ordering::Greater => insert(&mut node.right, key, value),
    };
    balance(top);
    old
}

fn remove<K: Ord + Clone + Borrow<Q>, V: Clone, Q: Ord + ?Sized>(link: &mut Link<K, V>, key: &Q) -> Option<V> {
    let top = link.as_mut()?;
    let node = Arc::make_mut(top);
    let old = match key.cmp(node.key.borrow()) {
        Ordering::Less => remove(&mut node.left, key),
        Ordering::Greater => remove(&mut node.right, key),
        Ordering::Equal => {
            let (left, mut right) = (node.left.take(), node.right.take());
            match take_first(&mut right) {
                None => {
                    let old = node.value.clone();
                    *link = left;
                    return Some(old);
                }
                Some((key, value)) => {
                    node.key = key;
                    (node.left, node.right) = (left, right);
                    Some(std::mem::replace(&mut node.value, value))
                }
            }
        }
    };
    balance(top);
    old
}

fn take_first<K: Clone, V: Clone>(link: &mut Link<K, V>) -> Option<(K, V)> {
    let top = link.as_mut()?;
    if top.left.is_none() {
        let (entry, right) = ((top.key.clone(), top.value.clone()), top.right.clone());
        *link = right;
        return Some(entry);
    }
    let entry = take_first(&mut Arc::make_mut(top).left);
    balance(top);
    entry
}

/// Puts the heights of both sides within one of each other again, when one entry came or went below.
fn balance<K: Clone, V: Clone>(top: &mut Arc<Node<K, V>>) {
    let node = Arc::make_mut(top);
    node.measure();
    match node.lean() {
        2 => {
            if let Some(left) = node.left.as_mut().filter(|n| n.lean() < 0) {
                rotate_left(left);
            }
            rotate_right(top);
        }
        -2 => {
            if let Some(right) = node.right.as_mut().filter(|n| n.lean() > 0) {
                rotate_right(right);
            }
            rotate_left(top);
        }
        _ => {}
    }
}

fn rotate_left<K: Clone, V: Clone>(top: &mut Arc<Node<K, V>>) {
    let node = Arc::make_mut(top);
    let Some(mut up) = node.right.take() else { return };
    node.right = Arc::make_mut(&mut up).left.take();
    node.measure();
    std::mem::swap(top, &mut up);
    let node = Arc::make_mut(top);
    node.left = Some(up);
    node.measure();
}

fn rotate_right<K: Clone, V: Clone>(top: &mut Arc<Node<K, V>>) {
    let node = Arc::make_mut(top);
    let Some(mut up) = node.left.take() else { return };
    node.left = Arc::make_mut(&mut up).right.take();
    node.measure();
    std::mem::swap(top, &mut up);
    let node = Arc::make_mut(top);
    node.right = Some(up);
    node.measure();
}

#[cfg(test)]
mod tests;
