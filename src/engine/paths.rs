//! Request paths, each stored once however many sessions asked for it, while one does. Long paths are cut, so that a
//! connection cannot make the server retain more than a small part of its request.

use slab::Slab;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

/// A path's place in [`Paths`], plus one, so that an `Option` of it is not larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PathKey(NonZeroU32);

impl PathKey {
    fn new(index: usize) -> Self {
        let number = u32::try_from(index + 1).ok().and_then(NonZeroU32::new);
        Self(number.expect("there are no more paths than sessions"))
    }

    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

#[derive(Debug, Default)]
pub(crate) struct Paths {
    keys: HashMap<Arc<str>, PathKey>,
    paths: Slab<Entry>,
}

#[derive(Debug)]
struct Entry {
    /// At most [`PATH_BYTES_MAX`]; as many bytes, or one to three fewer, if the path was cut between characters.
    path: Arc<str>,
    is_cut: bool,
    users: usize,
}

impl Paths {
    /// Adds a user of `path`.
    pub(crate) fn acquire(&mut self, path: &str) -> PathKey {
        let mut end = path.len().min(PATH_BYTES_MAX);
        while !path.is_char_boundary(end) {
            end -= 1;
        }
        let is_cut = end < path.len();
        let path = &path[..end];
        // Whole paths are looked up by name; cut ones, which may differ behind the cut, are not shared.
        if !is_cut && let Some(&key) = self.keys.get(path) {
            self.paths[key.index()].users += 1;
            return key;
        }
        let path: Arc<str> = path.into();
        let index = self.paths.insert(Entry {
            path: Arc::clone(&path),
            is_cut,
            users: 1,
        });
        let key = PathKey::new(index);
        if !is_cut {
            self.keys.insert(path, key);
        }
        key
    }

    /// Removes a user; with the last one the path is released.
    pub(crate) fn release(&mut self, key: PathKey) {
        let entry = &mut self.paths[key.index()];
        entry.users -= 1;
        if entry.users == 0 {
            let entry = self.paths.remove(key.index());
            if !entry.is_cut {
                self.keys.remove(&entry.path);
            }
            if self.paths.len() < self.paths.capacity() / 4 {
                self.paths.shrink_to_fit();
                self.keys.shrink_to_fit();
            }
        }
    }

    /// The path, perhaps cut: for the log.
    pub(crate) fn path(&self, key: PathKey) -> &str {
        &self.paths[key.index()].path
    }

    /// The path, unless it was cut.
    pub(crate) fn whole_path(&self, key: PathKey) -> Option<Arc<str>> {
        let entry = &self.paths[key.index()];
        (!entry.is_cut).then(|| Arc::clone(&entry.path))
    }
}

/// Bytes of a path that are retained. Longer than any path that people make; with what storing it costs, an idle
/// connection stays under 1 KiB.
pub(crate) const PATH_BYTES_MAX: usize = 512;

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
        assert!(paths.keys.is_empty() && paths.paths.is_empty());
    }

    #[test]
    fn a_long_path_is_cut_and_not_taken_for_another() {
        let mut paths = Paths::default();
        let longest = "/".repeat(PATH_BYTES_MAX);
        let longer = longest.clone() + "a";
        let keys = [&longest, &longer, &longer].map(|path| paths.acquire(path));
        assert!(keys[0] != keys[1] && keys[1] != keys[2]);
        assert_eq!(paths.whole_path(keys[0]).as_deref(), Some(&*longest));
        assert_eq!(paths.whole_path(keys[1]), None);
        assert_eq!(paths.path(keys[1]), longest);
        keys.into_iter().for_each(|key| paths.release(key));
        assert!(paths.keys.is_empty() && paths.paths.is_empty());
    }
}
