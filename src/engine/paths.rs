//! Request paths of sessions. A path is stored once for all sessions that requested it, and released with the last of
//! them.
//!
//! At most [`PATH_BYTES_MAX`] bytes of a path are stored, so that a connection cannot make the server retain a whole
//! request head.

use crate::names::Names;
use slab::Slab;
use std::num::NonZeroU32;
use std::sync::Arc;

/// Index of a path in [`Paths`] plus one, so that an `Option<PathKey>` takes 4 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PathKey(NonZeroU32);

impl PathKey {
    fn new(index: u32) -> Self {
        let number = index.checked_add(1).and_then(NonZeroU32::new);
        Self(number.expect(FEWER_THAN_SESSIONS))
    }

    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// The request paths of all sessions, with reference counts.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    /// Paths that are stored whole.
    indices: Names,
    paths: Slab<Entry>,
}

#[derive(Debug)]
struct Entry {
    /// The path, truncated to [`PATH_BYTES_MAX`] bytes or up to three fewer, at the boundary of a character.
    path: Arc<str>,
    is_cut: bool,
    /// Sessions with this path.
    users: usize,
}

impl Paths {
    /// Stores `path`, or adds a user to it if it is stored. Each call needs a call of [`release`](Self::release).
    pub(crate) fn acquire(&mut self, path: &str) -> PathKey {
        let mut end = path.len().min(PATH_BYTES_MAX);
        while !path.is_char_boundary(end) {
            end -= 1;
        }
        let is_cut = end < path.len();
        let path = &path[..end];
        // Truncated paths are not shared: they may differ in what was cut.
        if !is_cut && let Some(index) = self.indices.get(path) {
            self.paths[index as usize].users += 1;
            return PathKey::new(index);
        }
        let path: Arc<str> = path.into();
        let index = self.paths.insert(Entry {
            path: Arc::clone(&path),
            is_cut,
            users: 1,
        });
        let index = u32::try_from(index).expect(FEWER_THAN_SESSIONS);
        if !is_cut {
            self.indices.insert(path, index);
        }
        PathKey::new(index)
    }

    /// Removes a user, and releases the path if there is no other.
    pub(crate) fn release(&mut self, key: PathKey) {
        let entry = &mut self.paths[key.index()];
        entry.users -= 1;
        if entry.users == 0 {
            let entry = self.paths.remove(key.index());
            if !entry.is_cut {
                self.indices.remove(&entry.path);
            }
            if self.paths.len() < self.paths.capacity() / 4 {
                self.paths.shrink_to_fit();
                self.indices.shrink_to(0);
            }
        }
    }

    /// Returns the path, perhaps truncated: for the log.
    pub(crate) fn path(&self, key: PathKey) -> &str {
        &self.paths[key.index()].path
    }

    /// Returns the path, unless it was truncated.
    pub(crate) fn whole_path(&self, key: PathKey) -> Option<Arc<str>> {
        let entry = &self.paths[key.index()];
        (!entry.is_cut).then(|| Arc::clone(&entry.path))
    }
}

/// Maximum bytes of a path that are stored. Longer than paths usually are; an idle connection, with its path, stays
/// below 1 KiB.
pub(crate) const PATH_BYTES_MAX: usize = 512;

const FEWER_THAN_SESSIONS: &str = "there are no more paths than sessions";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_stored_once_and_released_with_its_last_user() {
        let mut paths = Paths::default();
        let (first, second, other) = (
            paths.acquire("/a"),
            paths.acquire("/a"),
            paths.acquire("/b"),
        );
        assert_eq!(first, second);
        assert_eq!(paths.path(other), "/b");
        paths.release(first);
        assert_eq!(paths.path(second), "/a");
        paths.release(second);
        paths.release(other);
        assert!(paths.indices.is_empty() && paths.paths.is_empty());
    }

    #[test]
    fn a_long_path_is_truncated_and_not_shared() {
        let mut paths = Paths::default();
        let longest = "/".repeat(PATH_BYTES_MAX);
        let longer = longest.clone() + "a";
        let keys = [&longest, &longer, &longer].map(|path| paths.acquire(path));
        assert!(keys[0] != keys[1] && keys[1] != keys[2]);
        assert_eq!(paths.whole_path(keys[0]).as_deref(), Some(&*longest));
        assert_eq!(paths.whole_path(keys[1]), None);
        assert_eq!(paths.path(keys[1]), longest);
        keys.into_iter().for_each(|key| paths.release(key));
        assert!(paths.indices.is_empty() && paths.paths.is_empty());
    }
}
