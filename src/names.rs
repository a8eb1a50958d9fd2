//! [`Names`]: an index for each name. One type for topics and request paths, and without inlined methods: a hash table
//! of another type, or another copy, adds 1 to 2 KB to a program.

use std::collections::HashMap;
use std::sync::Arc;

/// An index for each of a set of names.
#[derive(Debug, Default)]
pub(crate) struct Names(HashMap<Arc<str>, u32>);

impl Names {
    /// Returns the index of a name.
    #[inline(never)]
    pub(crate) fn get(&self, name: &str) -> Option<u32> {
        self.0.get(name).copied()
    }

    /// Adds a name, or replaces its index.
    #[inline(never)]
    pub(crate) fn insert(&mut self, name: Arc<str>, index: u32) {
        self.0.insert(name, index);
    }

    /// Removes a name, if it is there.
    #[inline(never)]
    pub(crate) fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// Returns whether there is no name.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the number of names that fit into the table's memory. Does not include the places of removed names that
    /// cannot be used before the table is rebuilt.
    pub(crate) fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Releases the memory of all but about `capacity` names. A capacity below the number of names is taken for that
    /// number; 0 releases all of the memory of an empty table.
    #[inline(never)]
    pub(crate) fn shrink_to(&mut self, capacity: usize) {
        self.0.shrink_to(capacity);
    }
}
