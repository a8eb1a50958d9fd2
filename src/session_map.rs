//! [`SessionMap`]: values of a handler, one for each session.

use crate::id::Id;
use std::fmt;
use std::ops::{Index, IndexMut};

/// Values of one handler by session, found in O(1) without hashing.
///
/// A handler owns its map, so it can use a value and the [`Context`](crate::Context) at the same time. Each handler has
/// its own values, also if one handler wraps another. Values need not be `Send` unless the server is sent to another
/// thread.
///
/// Remove a session's value in [`on_close`](crate::Handler::on_close). A value that was inserted in
/// [`on_upgrade`](crate::Handler::on_upgrade) stays if the client is refused afterwards, because no `on_close` follows.
/// It is dropped when a value is inserted for a later session in the same slot, so there are never more values than
/// [`Config::connections_max`](crate::Config::connections_max). Because of such values the map has no iterator: use
/// [`Context::ids`](crate::Context::ids) for the sessions.
///
/// A session occupies a slot of the server until it has ended; then a later session can occupy the slot. The map has a
/// place for each slot up to the highest slot with a value. A place takes the size of the value and 8 to 16 bytes. If
/// few of many sessions have a value, a `HashMap<Id, T>` takes less memory and less time: an insertion above the
/// highest slot with a value initializes all places below it.
///
/// ```
/// use wsloop::testing::{Harness, Received};
/// use wsloop::{Close, Config, Context, Handler, Id, Message, SessionMap};
///
/// /// Counts the messages of each session, and answers with the count.
/// #[derive(Default)]
/// struct Count {
///     counts: SessionMap<u64>,
/// }
///
/// impl Handler for Count {
///     fn on_open(&mut self, _: &mut Context<'_>, id: Id) {
///         self.counts.insert(id, 0);
///     }
///     fn on_message(&mut self, cx: &mut Context<'_>, id: Id, _: Message<'_>) {
///         let count = &mut self.counts[id];
///         *count += 1;
///         let _ = cx.send(id, &count.to_string());
///     }
///     fn on_close(&mut self, _: &mut Context<'_>, id: Id, _: &Close<'_>) {
///         self.counts.remove(id);
///     }
/// }
///
/// let mut harness = Harness::new(Config::default(), Count::default());
/// let id = harness.connect("/");
/// harness.send(id, "a");
/// harness.send(id, "b");
/// assert_eq!(harness.received(id), ["1", "2"].map(|text| Received::Text(text.to_owned())));
/// ```
#[derive(Clone)]
pub struct SessionMap<T> {
    /// The values by slot, each with the number of its session.
    places: Vec<Option<(u64, T)>>,
    len: usize,
}

impl<T> SessionMap<T> {
    /// Returns an empty map, which owns no memory.
    pub const fn new() -> Self {
        Self {
            places: Vec::new(),
            len: 0,
        }
    }

    /// Inserts the value of a session. Returns the previous value of this session, if it had one.
    pub fn insert(&mut self, id: Id, value: T) -> Option<T> {
        let slot = id.slot as usize;
        if self.places.len() <= slot {
            self.places.resize_with(slot + 1, || None);
        }
        let previous = self.places[slot].replace((id.number, value));
        self.len += usize::from(previous.is_none());
        previous.and_then(|(number, value)| (number == id.number).then_some(value))
    }

    /// Returns the value of a session.
    #[inline]
    pub fn get(&self, id: Id) -> Option<&T> {
        match self.places.get(id.slot as usize)? {
            Some((number, value)) if *number == id.number => Some(value),
            Some(_) | None => None,
        }
    }

    /// Returns the value of a session.
    #[inline]
    pub fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        match self.places.get_mut(id.slot as usize)? {
            Some((number, value)) if *number == id.number => Some(value),
            Some(_) | None => None,
        }
    }

    /// Removes the value of a session and returns it. Releases memory if at most a quarter of the places have values.
    pub fn remove(&mut self, id: Id) -> Option<T> {
        let place = self.places.get_mut(id.slot as usize)?;
        let (_, value) = place.take_if(|(number, _)| *number == id.number)?;
        self.len -= 1;
        self.shrink();
        Some(value)
    }

    /// Returns whether the session has a value.
    pub fn contains(&self, id: Id) -> bool {
        self.get(id).is_some()
    }

    /// Releases the places after the last value, if at most a quarter of all places have values.
    fn shrink(&mut self) {
        if self.places.len() < PLACES_RETAINED || self.len > self.places.len() / 4 {
            return;
        }
        if self.places.last().is_some_and(Option::is_none) {
            let used = self.places.iter().rposition(Option::is_some);
            self.places.truncate(used.map_or(0, |last| last + 1));
            self.places.shrink_to(2 * self.places.len());
        }
    }
}

impl<T> Default for SessionMap<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Index<Id> for SessionMap<T> {
    type Output = T;

    /// Returns the value of a session.
    ///
    /// # Panics
    /// If the session has no value.
    fn index(&self, id: Id) -> &T {
        let value = self.get(id);
        value.unwrap_or_else(|| panic!("session {id} has no value in this map"))
    }
}

impl<T> IndexMut<Id> for SessionMap<T> {
    /// Returns the value of a session.
    ///
    /// # Panics
    /// If the session has no value.
    fn index_mut(&mut self, id: Id) -> &mut T {
        let value = self.get_mut(id);
        value.unwrap_or_else(|| panic!("session {id} has no value in this map"))
    }
}

impl<T> fmt::Debug for SessionMap<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionMap")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// Number of places below which none are released.
const PLACES_RETAINED: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn id(slot: u32, number: u64) -> Id {
        Id { slot, number }
    }

    #[test]
    fn a_value_belongs_to_one_session_of_a_slot() {
        let mut map = SessionMap::new();
        assert_eq!(map.insert(id(2, 1), "a"), None);
        assert_eq!(map.insert(id(2, 1), "b"), Some("a"));
        assert_eq!(map.get(id(2, 2)), None);
        assert_eq!(map.remove(id(2, 2)), None);
        assert_eq!(map[id(2, 1)], "b");
        // Another session has the slot. The value of the earlier one is dropped, and not returned.
        assert_eq!(map.insert(id(2, 5), "c"), None);
        assert_eq!(map.get_mut(id(2, 1)), None);
        assert!(map.contains(id(2, 5)));
        assert_eq!(map.len, 1);
        assert_eq!(map.remove(id(2, 5)), Some("c"));
        assert_eq!(map.remove(id(9, 1)), None);
        assert_eq!(map.len, 0);
    }

    #[test]
    fn memory_is_released_after_a_burst() {
        for stays in [0, 7, 40] {
            let mut map = SessionMap::new();
            for slot in 0..100_000 {
                map.insert(id(slot, 1), slot);
            }
            for slot in 0..100_000 {
                if slot != stays {
                    assert_eq!(map.remove(id(slot, 1)), Some(slot));
                }
            }
            assert!(map.places.capacity() <= 2 * PLACES_RETAINED, "{stays}");
            assert_eq!(map[id(stays, 1)], stays);
        }
    }

    /// Checks that removals in any order visit a constant number of places each.
    #[test]
    fn removals_in_descending_order_are_cheap() {
        let mut map = SessionMap::new();
        for slot in 0..200_000 {
            map.insert(id(slot, 1), [0_u8; 8]);
        }
        for slot in (0..200_000).rev() {
            map.remove(id(slot, 1));
        }
        assert!(map.places.len() <= PLACES_RETAINED);
    }

    #[test]
    #[should_panic(expected = "session #3.4 has no value in this map")]
    fn the_panic_of_an_index_names_the_session() {
        let map: SessionMap<u8> = SessionMap::new();
        let _ = map[id(3, 4)];
    }
}
