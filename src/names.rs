//! [`Names`]: a hash table from names to indices. Topics and request paths use the same type, and its methods are not
//! inlined, because a hash table of another type, or a second copy of the code, adds 1 to 2 KB to a program.

use std::collections::HashMap;
use std::sync::Arc;

/// A hash table from names to the indices of what they name.
#[derive(Debug, Default)]
pub(crate) struct Names(HashMap<Arc<str>, u32>);

impl Names {
    /// Returns the index of a name.
    #[inline(never)]
    pub(crate) fn get(&self, name: &str) -> Option<u32> {
        self.0.get(name).copied()
    }

    /// Inserts a name with its index, or replaces the index of a name.
    #[inline(never)]
    pub(crate) fn insert(&mut self, name: Arc<str>, index: u32) {
        self.0.insert(name, index);
    }

    /// Removes a name. Has no effect if the name is not in the table.
    #[inline(never)]
    pub(crate) fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// Returns whether the table is empty.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the number of names that fit into the table's memory. Does not include the places of removed names that
    /// cannot be used before the table is rebuilt.
    pub(crate) fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Shrinks the table to a capacity of about `capacity` names, but not below the number of names. With 0, an empty
    /// table releases all of its memory.
    #[inline(never)]
    pub(crate) fn shrink_to(&mut self, capacity: usize) {
        self.0.shrink_to(capacity);
    }
}
