//! Sorting, and ordered collections, in little code.
//!
//! The standard library's sort is made for long lists and is 3 to 5 KiB for each type that it is used with; its
//! `BTreeMap` is as much again, and with forty types of them they were a seventh of the file that holds all
//! programs. What is ordered here is mostly short and seldom changed. [`Map`] and [`Set`] are lists of sorted blocks:
//! a look-up is two binary searches, a change moves a block's worth of memory at most. Their methods mean what the
//! standard library's of the same names do.

use std::borrow::Borrow;
use std::collections::BinaryHeap;
use std::fmt;
use std::ops::{BitOr, Index};
use std::{slice, vec};

/// The list in order. Equal items come in any order.
pub fn sorted<T: Ord>(list: Vec<T>) -> Vec<T> {
    BinaryHeap::from(list).into_sorted_vec()
}

/// The list in order, each item once.
pub fn unique<T: Ord>(list: Vec<T>) -> Vec<T> {
    let mut list = sorted(list);
    list.dedup();
    list
}

/// The places of a list's items in the order of these keys; of equal ones the first comes first.
pub fn places_by_key(keys: impl Iterator<Item = u64>) -> Vec<usize> {
    let pairs: Vec<(u64, usize)> = keys.enumerate().map(|(place, key)| (key, place)).collect();
    sorted(pairs).into_iter().map(|(_, place)| place).collect()
}

/// All items as a set.
pub fn set<T: Ord>(items: impl IntoIterator<Item = T>) -> Set<T> {
    items.into_iter().collect()
}

/// All pairs as a map; of several values for a key the last one counts.
pub fn map<K: Ord, V>(pairs: impl IntoIterator<Item = (K, V)>) -> Map<K, V> {
    pairs.into_iter().collect()
}

/// More entries than this are not kept in one block.
const BLOCK: usize = 256;

/// A map with its keys in order.
#[derive(Clone, PartialEq, Eq)]
pub struct Map<K, V> {
    /// In order, and so are the blocks. None is empty.
    blocks: Vec<Vec<(K, V)>>,
}

/// Where a key is, or would be.
struct Place {
    block: usize,
    index: usize,
    there: bool,
}

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Map { blocks: Vec::new() }
    }
}

impl<K: Ord, V> Map<K, V> {
    /// Nothing.
    pub const fn new() -> Self {
        Map { blocks: Vec::new() }
    }

    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Place
    where
        K: Borrow<Q>,
    {
        let last = |block: &Vec<(K, V)>| block.last().is_some_and(|(last, _)| last.borrow() < key);
        let block = self.blocks.partition_point(last);
        // What comes after everything goes into the last block.
        let block = block.min(self.blocks.len().saturating_sub(1));
        let entries = self.blocks.get(block).map_or(&[][..], |entries| entries);
        match entries.binary_search_by(|(there, _)| there.borrow().cmp(key)) {
            Ok(index) => Place { block, index, there: true },
            Err(index) => Place { block, index, there: false },
        }
    }

    /// Puts an entry where it is not there yet, and returns where it is now.
    fn put(&mut self, Place { mut block, mut index, .. }: Place, entry: (K, V)) -> &mut (K, V) {
        let full = self.blocks.get(block).is_none_or(|entries| entries.len() >= BLOCK);
        if full && self.blocks.get(block).is_none_or(|entries| entries.len() == index) {
            // At the end: what comes in order leaves full blocks behind.
            block = self.blocks.len().min(block + 1);
            index = 0;
            self.blocks.insert(block, Vec::new());
        } else if full {
            let half = self.blocks[block].split_off(BLOCK / 2);
            self.blocks.insert(block + 1, half);
            if index > BLOCK / 2 {
                (block, index) = (block + 1, index - BLOCK / 2);
            }
        }
        self.blocks[block].insert(index, entry);
        &mut self.blocks[block][index]
    }

    fn take(&mut self, block: usize, index: usize) -> (K, V) {
        let entry = self.blocks[block].remove(index);
        if self.blocks[block].is_empty() {
            self.blocks.remove(block);
        }
        entry
    }

    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let place = self.find(key);
        place.there.then(|| &self.blocks[place.block][place.index].1)
    }

    /// The value of a key, to be changed.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let place = self.find(key);
        place.there.then(|| &mut self.blocks[place.block][place.index].1)
    }

    /// Whether there is such a key.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.find(key).there
    }

    /// Gives a key a value; returns the one that it had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let place = self.find(&key);
        if place.there {
            return Some(std::mem::replace(&mut self.blocks[place.block][place.index].1, value));
        }
        self.put(place, (key, value));
        None
    }

    /// Takes a key out; returns the value that it had.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let place = self.find(key);
        place.there.then(|| self.take(place.block, place.index).1)
    }

    /// The place of a key, which gets a value if it has none.
    pub fn entry(&mut self, key: K) -> Entry<'_, K, V> {
        Entry { map: self, key }
    }

    /// Takes the first entry out.
    pub fn pop_first(&mut self) -> Option<(K, V)> {
        (!self.is_empty()).then(|| self.take(0, 0))
    }

    /// Leaves only the entries that `keep` wants.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        self.blocks.iter_mut().for_each(|block| block.retain_mut(|(key, value)| keep(key, value)));
        self.blocks.retain(|block| !block.is_empty());
    }
}

impl<K, V> Map<K, V> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.blocks.iter().map(Vec::len).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Leaves none.
    pub fn clear(&mut self) {
        self.blocks.clear();
    }

    /// The entry with the least key.
    pub fn first_key_value(&self) -> Option<(&K, &V)> {
        self.iter().next()
    }

    /// The entry with the greatest key.
    pub fn last_key_value(&self) -> Option<(&K, &V)> {
        self.iter().next_back()
    }

    /// All entries in order.
    pub fn iter(&self) -> Iter<'_, K, V> {
        flat(self.blocks.iter()).map(|(key, value)| (key, value))
    }

    /// All entries in order, the values to be changed.
    pub fn iter_mut(&mut self) -> IterMut<'_, K, V> {
        flat(self.blocks.iter_mut()).map(|(key, value)| (&*key, value))
    }

    /// The keys in order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> + Clone {
        flat(self.blocks.iter()).map(|(key, _)| key)
    }

    /// The values in the order of their keys.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> + Clone {
        flat(self.blocks.iter()).map(|(_, value)| value)
    }

    /// The values in the order of their keys, to be changed.
    pub fn values_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut V> {
        flat(self.blocks.iter_mut()).map(|(_, value)| value)
    }

    /// The keys in order.
    pub fn into_keys(self) -> impl DoubleEndedIterator<Item = K> {
        self.into_iter().map(|(key, _)| key)
    }

    /// The values in the order of their keys.
    pub fn into_values(self) -> impl DoubleEndedIterator<Item = V> {
        self.into_iter().map(|(_, value)| value)
    }
}

/// One block's entries after the other's. The standard library's `Flatten` does the same, with a loop of its own for
/// each closure that an iterator is ever given; of this there is one function for each type.
#[derive(Clone)]
pub struct Flat<B, E> {
    blocks: B,
    front: E,
    back: E,
}

fn flat<B, E: Default>(blocks: B) -> Flat<B, E> {
    Flat { blocks, front: E::default(), back: E::default() }
}

impl<B: Iterator<Item: IntoIterator<IntoIter = E>>, E: Iterator> Iterator for Flat<B, E> {
    type Item = E::Item;

    #[inline(never)]
    fn next(&mut self) -> Option<E::Item> {
        loop {
            if let Some(entry) = self.front.next() {
                return Some(entry);
            }
            match self.blocks.next() {
                Some(block) => self.front = block.into_iter(),
                None => return self.back.next(),
            }
        }
    }
}

impl<B, E> DoubleEndedIterator for Flat<B, E>
where
    B: DoubleEndedIterator<Item: IntoIterator<IntoIter = E>>,
    E: DoubleEndedIterator,
{
    #[inline(never)]
    fn next_back(&mut self) -> Option<E::Item> {
        loop {
            if let Some(entry) = self.back.next_back() {
                return Some(entry);
            }
            match self.blocks.next_back() {
                Some(block) => self.back = block.into_iter(),
                None => return self.front.next_back(),
            }
        }
    }
}

/// What [`Map::iter`] returns.
pub type Iter<'a, K, V> = std::iter::Map<
    Flat<slice::Iter<'a, Vec<(K, V)>>, slice::Iter<'a, (K, V)>>,
    fn(&'a (K, V)) -> (&'a K, &'a V),
>;

impl<K, V> IntoIterator for Map<K, V> {
    type Item = (K, V);
    type IntoIter = Flat<vec::IntoIter<Vec<(K, V)>>, vec::IntoIter<(K, V)>>;

    fn into_iter(self) -> Self::IntoIter {
        flat(self.blocks.into_iter())
    }
}

impl<'a, K, V> IntoIterator for &'a Map<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// What [`Map::iter_mut`] returns.
pub type IterMut<'a, K, V> = std::iter::Map<
    Flat<slice::IterMut<'a, Vec<(K, V)>>, slice::IterMut<'a, (K, V)>>,
    fn(&'a mut (K, V)) -> (&'a K, &'a mut V),
>;

impl<'a, K, V> IntoIterator for &'a mut Map<K, V> {
    type Item = (&'a K, &'a mut V);
    type IntoIter = IterMut<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

impl<K: Ord, V> Extend<(K, V)> for Map<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, pairs: I) {
        for (key, value) in pairs {
            self.insert(key, value);
        }
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for Map<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut map = Map::new();
        map.extend(pairs);
        map
    }
}

impl<K: Ord, V, const N: usize> From<[(K, V); N]> for Map<K, V> {
    fn from(pairs: [(K, V); N]) -> Self {
        pairs.into_iter().collect()
    }
}

impl<K: Ord + Borrow<Q>, Q: Ord + ?Sized, V> Index<&Q> for Map<K, V> {
    type Output = V;

    fn index(&self, key: &Q) -> &V {
        self.get(key).expect("no entry for the key")
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Map<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// What [`Map::entry`] returns.
pub struct Entry<'a, K, V> {
    map: &'a mut Map<K, V>,
    key: K,
}

impl<'a, K: Ord, V> Entry<'a, K, V> {
    /// The value, made from the key where there was none.
    pub fn or_insert_with_key(self, make: impl FnOnce(&K) -> V) -> &'a mut V {
        let Entry { map, key } = self;
        let place = map.find(&key);
        if place.there {
            return &mut map.blocks[place.block][place.index].1;
        }
        let value = make(&key);
        &mut map.put(place, (key, value)).1
    }

    /// The value, made where there was none.
    pub fn or_insert_with(self, make: impl FnOnce() -> V) -> &'a mut V {
        self.or_insert_with_key(|_| make())
    }

    /// The value, this one where there was none.
    pub fn or_insert(self, value: V) -> &'a mut V {
        self.or_insert_with_key(|_| value)
    }

    /// The value, the type's default where there was none.
    pub fn or_default(self) -> &'a mut V
    where
        V: Default,
    {
        self.or_insert_with_key(|_| V::default())
    }
}

/// A set with its items in order.
#[derive(Clone, PartialEq, Eq)]
pub struct Set<T>(Map<T, ()>);

impl<T> Default for Set<T> {
    fn default() -> Self {
        Set(Map::default())
    }
}

impl<T: Ord> Set<T> {
    /// Nothing.
    pub const fn new() -> Self {
        Set(Map::new())
    }

    /// Puts an item in; whether it was not there yet.
    pub fn insert(&mut self, item: T) -> bool {
        self.0.insert(item, ()).is_none()
    }

    /// Takes an item out; whether it was there.
    pub fn remove<Q: Ord + ?Sized>(&mut self, item: &Q) -> bool
    where
        T: Borrow<Q>,
    {
        self.0.remove(item).is_some()
    }

    /// Whether it is there.
    pub fn contains<Q: Ord + ?Sized>(&self, item: &Q) -> bool
    where
        T: Borrow<Q>,
    {
        self.0.contains_key(item)
    }

    /// Takes the first item out.
    pub fn pop_first(&mut self) -> Option<T> {
        self.0.pop_first().map(|(item, ())| item)
    }

    /// Leaves only the items that `keep` wants.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.0.retain(|item, ()| keep(item));
    }

    /// What is in this one and not in the other.
    pub fn difference<'a>(&'a self, other: &'a Set<T>) -> impl Iterator<Item = &'a T> + Clone {
        self.iter().filter(|item| !other.contains(*item))
    }

    /// What is in both.
    pub fn intersection<'a>(&'a self, other: &'a Set<T>) -> impl Iterator<Item = &'a T> + Clone {
        self.iter().filter(|item| other.contains(*item))
    }

    /// Whether all of it is in the other one as well.
    pub fn is_subset(&self, other: &Set<T>) -> bool {
        self.iter().all(|item| other.contains(item))
    }

    /// Whether nothing of it is in the other one.
    pub fn is_disjoint(&self, other: &Set<T>) -> bool {
        !self.iter().any(|item| other.contains(item))
    }
}

impl<T> Set<T> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Leaves none.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The least item.
    pub fn first(&self) -> Option<&T> {
        self.iter().next()
    }

    /// The greatest item.
    pub fn last(&self) -> Option<&T> {
        self.iter().next_back()
    }

    /// All items in order.
    pub fn iter(&self) -> SetIter<'_, T> {
        flat(self.0.blocks.iter()).map(|(item, ())| item)
    }
}

/// What [`Set::iter`] returns.
pub type SetIter<'a, T> =
    std::iter::Map<Flat<slice::Iter<'a, Vec<(T, ())>>, slice::Iter<'a, (T, ())>>, fn(&'a (T, ())) -> &'a T>;

/// What iterating over a set itself returns.
pub type SetIntoIter<T> =
    std::iter::Map<Flat<vec::IntoIter<Vec<(T, ())>>, vec::IntoIter<(T, ())>>, fn((T, ())) -> T>;

impl<T> IntoIterator for Set<T> {
    type Item = T;
    type IntoIter = SetIntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter().map(|(item, ())| item)
    }
}

impl<'a, T> IntoIterator for &'a Set<T> {
    type Item = &'a T;
    type IntoIter = SetIter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// What is in either.
impl<T: Ord + Clone> BitOr for &Set<T> {
    type Output = Set<T>;

    fn bitor(self, other: &Set<T>) -> Set<T> {
        let mut both = self.clone();
        both.extend(other.iter().cloned());
        both
    }
}

impl<T: Ord> Extend<T> for Set<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, items: I) {
        for item in items {
            self.insert(item);
        }
    }
}

impl<'a, T: Ord + Copy + 'a> Extend<&'a T> for Set<T> {
    fn extend<I: IntoIterator<Item = &'a T>>(&mut self, items: I) {
        self.extend(items.into_iter().copied());
    }
}

impl<T: Ord> FromIterator<T> for Set<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut set = Set::new();
        set.extend(items);
        set
    }
}

impl<T: Ord, const N: usize> From<[T; N]> for Set<T> {
    fn from(items: [T; N]) -> Self {
        items.into_iter().collect()
    }
}

impl<T: fmt::Debug> fmt::Debug for Set<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn in_order_and_once() {
        assert_eq!(sorted(vec![3, 1, 2, 1]), [1, 1, 2, 3]);
        assert_eq!(unique(vec!["b", "a", "b"]), ["a", "b"]);
        assert_eq!(places_by_key([7, 3, 7, 1].into_iter()), [3, 1, 0, 2]);
        assert_eq!(set([2, 1, 2]).into_iter().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(map([(1, 'a'), (0, 'b'), (1, 'c')]).into_iter().collect::<Vec<_>>(), [(0, 'b'), (1, 'c')]);
    }

    /// Against the standard library's, with enough keys for several blocks: 0 to 3 insert, 4 takes out, 5 takes the
    /// first, 6 thins out.
    fn compare(steps: impl IntoIterator<Item = (u8, u16)>) {
        let (mut ours, mut theirs) = (Map::new(), BTreeMap::new());
        for (i, (what, key)) in steps.into_iter().enumerate() {
            match what {
                0..=2 => assert_eq!(ours.insert(key, i), theirs.insert(key, i)),
                3 => assert_eq!(ours.entry(key).or_insert(i), theirs.entry(key).or_insert(i)),
                4 => assert_eq!(ours.remove(&key), theirs.remove(&key)),
                5 => assert_eq!(ours.pop_first(), theirs.pop_first()),
                _ => {
                    ours.retain(|k, _| k % 3 != key % 3);
                    theirs.retain(|k, _| k % 3 != key % 3);
                }
            }
            assert_eq!(ours.get(&key), theirs.get(&key));
            assert_eq!(ours.len(), theirs.len());
            assert!(ours.blocks.iter().all(|block| (1..=BLOCK).contains(&block.len())));
        }
        assert!(ours.iter().eq(theirs.iter()));
        assert!(ours.iter().rev().eq(theirs.iter().rev()));
        assert_eq!(
            (ours.first_key_value(), ours.last_key_value()),
            (theirs.first_key_value(), theirs.last_key_value())
        );
    }

    #[test]
    fn many_in_and_out_of_order() {
        let steps = |order: fn(u16) -> u16| (0..3000).map(move |i| (0, order(i)));
        compare(steps(|i| i));
        compare(steps(|i| 3000 - i));
        compare(steps(|i| i.wrapping_mul(7919)).chain((0..3000).map(|i| (4, i * 20))));
    }

    proptest! {
        #[test]
        fn as_the_standard_librarys(steps in proptest::collection::vec((0u8..=5, 0u16..900), 0..2000)) {
            compare(steps.into_iter().chain([(6, 1)]));
        }
    }
}
