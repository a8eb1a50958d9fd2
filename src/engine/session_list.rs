//! Doubly linked lists of what belongs to a session: its timers, or its sources. The links are in the entries of the
//! table of all timers or sources, and the session has the link to its first entry. Adding an entry and removing any
//! entry is O(1).

use slab::Slab;

/// A link to an entry of a table; `Default` is the end of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link(u32);

impl Link {
    /// Returns the link to the entry at `index`.
    pub(crate) fn to(index: u32) -> Self {
        Self(index + 1)
    }

    fn index(self) -> Option<usize> {
        self.0.checked_sub(1).map(|index| index as usize)
    }
}

/// The neighbours of an entry in the list of its session.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Neighbours {
    previous: Link,
    next: Link,
}

/// An entry of a table that can be in the list of a session.
pub(crate) trait Listed {
    /// Returns the neighbours of the entry.
    fn neighbours_mut(&mut self) -> &mut Neighbours;
}

/// Adds the entry at `index` to the list that begins at `first`, and makes it the first.
pub(crate) fn push_first(table: &mut Slab<impl Listed>, index: u32, first: &mut Link) {
    if let Some(old) = first.index() {
        table[old].neighbours_mut().previous = Link::to(index);
    }
    *table[index as usize].neighbours_mut() = Neighbours {
        previous: Link::default(),
        next: *first,
    };
    *first = Link::to(index);
}

/// Removes an entry from the list that begins at `first`. The caller has removed the entry from the table before;
/// `removed` are its neighbours.
pub(crate) fn unlink(table: &mut Slab<impl Listed>, removed: Neighbours, first: &mut Link) {
    let Neighbours { previous, next } = removed;
    match previous.index() {
        Some(previous) => table[previous].neighbours_mut().next = next,
        None => *first = next,
    }
    if let Some(next) = next.index() {
        table[next].neighbours_mut().previous = previous;
    }
}

/// Removes the first entry of the list that begins at `first` from the list and from the table.
pub(crate) fn pop_first<T: Listed>(table: &mut Slab<T>, first: &mut Link) -> Option<T> {
    let mut entry = table.remove(first.index()?);
    let neighbours = *entry.neighbours_mut();
    unlink(table, neighbours, first);
    Some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Listed for (char, Neighbours) {
        fn neighbours_mut(&mut self) -> &mut Neighbours {
            &mut self.1
        }
    }

    #[test]
    fn entries_are_removed_from_the_start_the_middle_and_the_end() {
        for removed in 0..3 {
            let mut table = Slab::new();
            let mut first = Link::default();
            for name in ['a', 'b', 'c'] {
                let index = table.insert((name, Neighbours::default()));
                push_first(&mut table, index as u32, &mut first);
            }
            let entry = table.remove(removed);
            unlink(&mut table, entry.1, &mut first);
            let left: Vec<char> =
                std::iter::from_fn(|| pop_first(&mut table, &mut first).map(|(name, _)| name))
                    .collect();
            let mut expected = vec!['c', 'b', 'a'];
            expected.retain(|name| *name != entry.0);
            assert_eq!(left, expected);
            assert!(table.is_empty());
        }
    }
}
