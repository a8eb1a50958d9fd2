//! The topics that retain messages for replay, in the order in which they were last published to.

use super::topics::TopicKey;

/// A list of topics, each at most once. All operations are O(1).
///
/// The links are in a vector of their own, so that a topic without replay has no bytes for them.
#[derive(Debug, Default)]
pub(super) struct Recency {
    /// The links of each topic, by its key.
    links: Vec<Link>,
    oldest: Option<TopicKey>,
    newest: Option<TopicKey>,
}

/// The neighbours of a topic.
#[derive(Clone, Copy, Debug, Default)]
struct Link {
    older: Option<TopicKey>,
    newer: Option<TopicKey>,
    is_listed: bool,
}

impl Recency {
    /// Makes the topic the newest. Adds it to the list if it is not in it.
    pub(super) fn touch(&mut self, key: TopicKey) {
        if self.newest == Some(key) {
            return;
        }
        self.remove(key);
        if self.links.len() <= key.index() {
            self.links.resize(key.index() + 1, Link::default());
        }
        let older = self.newest.replace(key);
        self.links[key.index()] = Link {
            older,
            newer: None,
            is_listed: true,
        };
        match older {
            Some(older) => self.links[older.index()].newer = Some(key),
            None => self.oldest = Some(key),
        }
    }

    /// Removes the topic from the list, if it is in it.
    pub(super) fn remove(&mut self, key: TopicKey) {
        let Some(link) = self.links.get_mut(key.index()) else {
            return;
        };
        let Link {
            older,
            newer,
            is_listed,
        } = std::mem::take(link);
        if !is_listed {
            return;
        }
        match older {
            Some(older) => self.links[older.index()].newer = newer,
            None => self.oldest = newer,
        }
        match newer {
            Some(newer) => self.links[newer.index()].older = older,
            None => self.newest = older,
        }
    }

    /// Returns the topic that was touched least recently.
    pub(super) fn oldest(&self) -> Option<TopicKey> {
        self.oldest
    }

    /// Releases the memory for keys from `len` on. None of them may be in the list.
    pub(super) fn shrink_to(&mut self, len: usize) {
        debug_assert!(self.links.iter().skip(len).all(|link| !link.is_listed));
        self.links.truncate(len);
        self.links.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(recency: &Recency) -> Vec<TopicKey> {
        let next = |key: &TopicKey| recency.links[key.index()].newer;
        let forward: Vec<_> = std::iter::successors(recency.oldest, next).collect();
        let next = |key: &TopicKey| recency.links[key.index()].older;
        let backward = std::iter::successors(recency.newest, next);
        assert!(backward.eq(forward.iter().rev().copied()));
        forward
    }

    #[test]
    fn topics_are_listed_by_their_last_touch() {
        let [a, b, c] = [0, 5, 2].map(TopicKey::new);
        let mut recency = Recency::default();
        assert_eq!(recency.oldest(), None);
        recency.remove(a);
        for key in [a, b, c, a, a] {
            recency.touch(key);
        }
        assert_eq!(listed(&recency), [b, c, a]);
        recency.touch(b);
        assert_eq!(listed(&recency), [c, a, b]);
        recency.remove(a);
        recency.remove(a);
        assert_eq!(listed(&recency), [c, b]);
        recency.remove(b);
        recency.shrink_to(3);
        assert_eq!(listed(&recency), [c]);
        recency.remove(c);
        assert_eq!((listed(&recency), recency.newest), (vec![], None));
    }
}
