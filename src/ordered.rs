//! Sorting, and ordered collections, in little code.
//!
//! The standard library's sort is made for long lists and is 3 to 5 KiB for each type that it is used with;
//! collecting into a `BTreeSet` or `BTreeMap` sorts as well. What is sorted here is short, and the file that
//! holds all programs is not to be long.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

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
pub fn set<T: Ord>(items: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    let mut set = BTreeSet::new();
    set.extend(items);
    set
}

/// All pairs as a map; of several values for a key the last one counts.
pub fn map<K: Ord, V>(pairs: impl IntoIterator<Item = (K, V)>) -> BTreeMap<K, V> {
    let mut map = BTreeMap::new();
    map.extend(pairs);
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_order_and_once() {
        assert_eq!(sorted(vec![3, 1, 2, 1]), [1, 1, 2, 3]);
        assert_eq!(unique(vec!["b", "a", "b"]), ["a", "b"]);
        assert_eq!(places_by_key([7, 3, 7, 1].into_iter()), [3, 1, 0, 2]);
        assert_eq!(set([2, 1, 2]).into_iter().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(map([(1, 'a'), (0, 'b'), (1, 'c')]).into_iter().collect::<Vec<_>>(), [(0, 'b'), (1, 'c')]);
    }
}
