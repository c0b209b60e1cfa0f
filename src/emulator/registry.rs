//! A map that remembers the order of insertion, so that it can be listed in pages.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::ops::Bound;

/// Which way a listing runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Oldest first.
    Ascending,
    /// Newest first.
    Descending,
}

/// Values by key, in the order they were inserted. They are boxed: sessions are large, and a table that grows
/// moves what is in it.
#[derive(Debug)]
pub(super) struct Registry<K, V> {
    values: HashMap<K, (u64, Box<V>)>,
    order: BTreeMap<u64, K>,
    inserted: u64,
}

impl<K, V> Default for Registry<K, V> {
    fn default() -> Self {
        Self { values: HashMap::new(), order: BTreeMap::new(), inserted: 0 }
    }
}

impl<K: Clone + Eq + Hash, V> Registry<K, V> {
    /// Inserts a value under a new key.
    pub(super) fn insert(&mut self, key: K, value: V) {
        self.inserted += 1;
        self.order.insert(self.inserted, key.clone());
        if let Some((position, _)) = self.values.insert(key, (self.inserted, Box::new(value))) {
            self.order.remove(&position);
        }
    }

    pub(super) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.values.get(key).map(|(_, value)| &**value)
    }

    pub(super) fn get_mut<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.values.get_mut(key).map(|(_, value)| &mut **value)
    }

    pub(super) fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (position, value) = self.values.remove(key)?;
        self.order.remove(&position);
        Some(*value)
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// Up to `limit` values that `wanted` accepts, from position `from` on, and the position the next page
    /// starts at.
    pub(super) fn page(
        &self,
        from: Option<u64>,
        order: Order,
        limit: usize,
        wanted: impl Fn(&V) -> bool,
    ) -> (Vec<&V>, Option<u64>) {
        let range = match (order, from) {
            (_, None) => self.order.range(..),
            (Order::Ascending, Some(from)) => self.order.range(from..),
            (Order::Descending, Some(from)) => self.order.range((Bound::Unbounded, Bound::Included(from))),
        };
        let positions: Box<dyn Iterator<Item = (&u64, &K)>> = match order {
            Order::Ascending => Box::new(range),
            Order::Descending => Box::new(range.rev()),
        };
        let mut values = Vec::new();
        for (position, key) in positions {
            let Some(value) = self.get(key).filter(|value| wanted(value)) else { continue };
            if values.len() == limit {
                return (values, Some(*position));
            }
            values.push(value);
        }
        (values, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_join_to_the_whole_in_either_order() {
        let mut registry = Registry::default();
        for n in 0..7 {
            registry.insert(format!("k{n}"), n);
        }
        registry.remove("k3");
        for (order, whole) in
            [(Order::Ascending, vec![0, 1, 2, 4, 6]), (Order::Descending, vec![6, 4, 2, 1, 0])]
        {
            let (mut all, mut from) = (Vec::new(), None);
            loop {
                let (values, next) = registry.page(from, order, 2, |n| *n != 5);
                assert!(values.len() <= 2);
                all.extend(values.into_iter().copied());
                from = next;
                if from.is_none() {
                    break;
                }
            }
            assert_eq!(all, whole, "{order:?}");
        }
    }
}
