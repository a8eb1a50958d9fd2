//! Round-trip times of automatic pings.
//!
//! A session that is quiet for `ping_interval` gets a ping, and its idle deadline is set at the same time. As
//! long as nothing arrives, the time of the ping is therefore the time at which that deadline was set, and needs no
//! memory here. The first bytes that arrive postpone the deadline. From then until the pong is processed, the time of
//! the ping is stored here. So a session has no entry before it has sent something after a ping. An unsolicited pong
//! changes nothing, because no time of a ping is stored.

use super::deadlines::Millis;

/// The entries of all slots, up to the highest slot whose session has answered a ping. An entry has only 4 bytes,
/// because the sessions of most slots can have answered one.
#[derive(Debug, Default)]
pub(crate) struct RoundTrips {
    slots: Vec<Entry>,
}

/// The newest round-trip time, or [`Entry::NONE`], or, with the bit [`Entry::IS_PINGED`], the time of a ping whose pong
/// has not been processed. Times are modulo 2^31 milliseconds, 24 days; timeouts are at most 7 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry(u32);

impl Entry {
    const IS_PINGED: u32 = 1 << 31;
    const TIME: u32 = Self::IS_PINGED - 1;
    const NONE: Self = Self(Self::TIME);
}

impl RoundTrips {
    /// Called for the first bytes after a ping that was sent at `sent_at`.
    #[cold]
    pub(crate) fn answer_began(&mut self, slot: usize, sent_at: Millis) {
        if self.slots.len() <= slot {
            self.slots.resize(slot + 1, Entry::NONE);
        }
        self.slots[slot] = Entry(sent_at & Entry::TIME | Entry::IS_PINGED);
    }

    /// Called for a pong that may be the answer to a ping. Returns the round-trip time if the pong is the answer and
    /// the time is at most `max`. A later answer removes the entry. Without a maximum, a peer could answer after days.
    pub(crate) fn pong(&mut self, slot: usize, now: Millis, max: Millis) -> Option<Millis> {
        let entry = self.slots.get_mut(slot)?;
        if entry.0 & Entry::IS_PINGED == 0 {
            return None;
        }
        let time = now.wrapping_sub(entry.0) & Entry::TIME;
        let is_valid = time <= max;
        *entry = if is_valid { Entry(time) } else { Entry::NONE };
        is_valid.then_some(time)
    }

    /// Returns the newest round-trip time of a session.
    pub(crate) fn newest(&self, slot: usize) -> Option<Millis> {
        let entry = *self.slots.get(slot)?;
        let is_time = entry != Entry::NONE && entry.0 & Entry::IS_PINGED == 0;
        is_time.then_some(entry.0)
    }

    /// Removes the time of a session that has ended.
    pub(crate) fn clear(&mut self, slot: usize) {
        if let Some(entry) = self.slots.get_mut(slot) {
            *entry = Entry::NONE;
        }
    }

    /// Releases the memory of the entries of slot `slots` and all higher slots.
    pub(crate) fn shrink_to(&mut self, slots: usize) {
        self.slots.truncate(slots);
        self.slots.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_pong_after_a_ping_gives_a_time() {
        let mut round_trips = RoundTrips::default();
        assert_eq!(round_trips.pong(3, 10, 50), None);
        round_trips.answer_began(3, 100);
        assert_eq!(round_trips.newest(3), None);
        assert_eq!(round_trips.pong(3, 130, 50), Some(30));
        assert_eq!(round_trips.pong(3, 140, 50), None);
        let newest = [2, 3, 4].map(|slot| round_trips.newest(slot));
        assert_eq!(newest, [None, Some(30), None]);
        assert_eq!(round_trips.pong(2, 140, 50), None);
        round_trips.clear(3);
        round_trips.clear(9);
        assert_eq!(round_trips.newest(3), None);
    }

    #[test]
    fn a_pong_that_is_too_late_gives_no_time() {
        let mut round_trips = RoundTrips::default();
        for (time, expected) in [(50, Some(50)), (51, None), (1 << 30, None)] {
            round_trips.answer_began(0, 100);
            assert_eq!(round_trips.pong(0, 100 + time, 50), expected);
            assert_eq!(round_trips.newest(0), expected);
        }
    }

    #[test]
    fn the_clock_may_wrap() {
        let mut round_trips = RoundTrips::default();
        for sent_at in [u32::MAX, u32::MAX / 2, 0, 1 << 31] {
            round_trips.answer_began(0, sent_at);
            assert_eq!(round_trips.pong(0, sent_at.wrapping_add(7), 7), Some(7));
            round_trips.answer_began(0, sent_at);
            assert_eq!(round_trips.pong(0, sent_at, 7), Some(0));
        }
    }
}
