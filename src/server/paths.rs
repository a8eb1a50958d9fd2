//! Request paths, each kept once however many sessions asked for it, and only while one does.

use slab::Slab;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

/// A path's place in [`Paths`], and one: so that having none takes no more room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PathKey(NonZeroU32);

impl PathKey {
    fn new(index: usize) -> Self {
        let number = u32::try_from(index + 1).ok().and_then(NonZeroU32::new);
        Self(number.expect("paths are not more than sessions"))
    }

    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

#[derive(Debug, Default)]
pub(super) struct Paths {
    keys: HashMap<Arc<str>, PathKey>,
    paths: Slab<Entry>,
}

#[derive(Debug)]
struct Entry {
    path: Arc<str>,
    users: usize,
}

impl Paths {
    /// One more user of `path`.
    pub(super) fn acquire(&mut self, path: &str) -> PathKey {
        if let Some(&key) = self.keys.get(path) {
            self.paths[key.index()].users += 1;
            return key;
        }
        let path: Arc<str> = path.into();
        let index = self.paths.insert(Entry {
            path: Arc::clone(&path),
            users: 1,
        });
        let key = PathKey::new(index);
        self.keys.insert(path, key);
        key
    }

    /// One user less; at the last, the path is given back.
    pub(super) fn release(&mut self, key: PathKey) {
        let entry = &mut self.paths[key.index()];
        entry.users -= 1;
        if entry.users == 0 {
            let entry = self.paths.remove(key.index());
            self.keys.remove(&entry.path);
            if self.paths.len() < self.paths.capacity() / 4 {
                self.paths.shrink_to_fit();
                self.keys.shrink_to_fit();
            }
        }
    }

    pub(super) fn path(&self, key: PathKey) -> &Arc<str> {
        &self.paths[key.index()].path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_kept_once_and_given_back_with_its_last_user() {
        let mut paths = Paths::default();
        let (first, second, other) = (
            paths.acquire("/a"),
            paths.acquire("/a"),
            paths.acquire("/b"),
        );
        assert_eq!(first, second);
        assert_eq!(&**paths.path(other), "/b");
        paths.release(first);
        assert_eq!(&**paths.path(second), "/a");
        paths.release(second);
        paths.release(other);
        assert!(paths.keys.is_empty() && paths.paths.is_empty());
    }
}
