//! Buffers that the loop lends: to queues, topic logs, requests and messages that are not whole.
//!
//! Small ones are allocated at the start, below everything that comes and goes: a small buffer that is allocated while
//! much else is, and lives on in an allocator's cache, keeps all that lies below it from going back to the system.
//!
//! Everything over [`MIDDLE_BYTES`] gets a large one, which is mapped by itself (see `bulk`): it costs the pages that
//! are written to, however much room it has, and is given back without a trace. Used ones are kept for a second,
//! because a fresh page costs more than the copy into it.

use crate::bulk::{Bulk, LARGE_BYTES};

/// See the module.
#[derive(Debug)]
pub(crate) struct Spares {
    small: Vec<Bulk>,
    large: Vec<Bulk>,
    /// Of the large ones, as the allocator sees them.
    large_bytes: usize,
    /// When a large one was last given back.
    used_at: u64,
    /// Milliseconds of the loop's clock.
    now: u64,
}

impl Spares {
    pub(crate) fn new() -> Self {
        let small = (0..SMALL_COUNT).map(|_| Vec::with_capacity(SMALL_BYTES).into());
        Self {
            small: small.collect(),
            large: Vec::with_capacity(LARGE_COUNT),
            large_bytes: 0,
            used_at: 0,
            now: 0,
        }
    }

    /// Takes note of the time, and frees large buffers that were not used for a second.
    pub(crate) fn begin_turn(&mut self, now: u64) {
        self.now = now;
        if self.next_in() == Some(0) {
            self.release();
        }
    }

    /// Milliseconds until there is something to free.
    pub(crate) fn next_in(&self) -> Option<u64> {
        let due = self.used_at + KEPT_MILLIS;
        (!self.large.is_empty()).then(|| due.saturating_sub(self.now))
    }

    /// Frees all large buffers.
    pub(crate) fn release(&mut self) {
        self.large.clear();
        self.large_bytes = 0;
    }

    /// An empty buffer with room for at least `len` bytes.
    pub(crate) fn take(&mut self, len: usize) -> Bulk {
        if len <= SMALL_BYTES {
            let small = self.small.pop();
            return small.unwrap_or_else(|| Vec::with_capacity(SMALL_BYTES).into());
        }
        if len <= MIDDLE_BYTES {
            return Vec::with_capacity(MIDDLE_BYTES).into();
        }
        let mut large = self.take_large();
        large.reserve_exact(len);
        large
    }

    /// An empty buffer with room for at least [`LARGE_BYTES`].
    pub(crate) fn take_large(&mut self) -> Bulk {
        let Some(large) = self.large.pop() else {
            return Vec::with_capacity(LARGE_BYTES).into();
        };
        self.large_bytes -= large.capacity();
        large
    }

    /// Keeps the buffer if it is small or large and there is room for it.
    pub(crate) fn give(&mut self, mut buffer: Bulk) {
        let capacity = buffer.capacity();
        if capacity == SMALL_BYTES && self.small.len() < SMALL_COUNT {
            buffer.clear();
            self.small.push(buffer);
        } else if capacity >= LARGE_BYTES
            && self.large_bytes + capacity <= LARGE_BYTES_MAX
            && self.large.len() < LARGE_COUNT
        {
            buffer.clear();
            self.large.push(buffer);
            self.large_bytes += capacity;
            self.used_at = self.now;
        }
    }

    /// How many small and large ones there are.
    #[cfg(test)]
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.small.len(), self.large.len())
    }
}

/// Several echoes of 20 bytes, or one of 1 KiB with its header.
const SMALL_BYTES: usize = 1024 + 16;

/// As many sessions as are often ready at once; 65 KiB.
const SMALL_COUNT: usize = 64;

/// Up to a page it does not pay to map one.
const MIDDLE_BYTES: usize = 4096;

/// The most that is kept: messages of 1 MiB from four peers at once, with what an allocator adds.
const LARGE_BYTES_MAX: usize = 4 * (1024 * 1024 + 4096);

const LARGE_COUNT: usize = LARGE_BYTES_MAX / LARGE_BYTES;

/// How long a large buffer is kept.
const KEPT_MILLIS: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_buffer_is_used_again_and_freed_after_a_second() {
        let mut spares = Spares::new();
        assert_eq!(spares.next_in(), None);
        spares.begin_turn(5);
        spares.give(Vec::with_capacity(200_000).into());
        assert_eq!(spares.next_in(), Some(1000));
        let mut buffer = spares.take(10_000);
        assert_eq!((buffer.capacity(), spares.next_in()), (200_000, None));
        buffer.push(1);
        spares.begin_turn(700);
        spares.give(buffer);
        spares.begin_turn(1699);
        let buffer = spares.take(300_000);
        assert_eq!((buffer.capacity(), buffer.len()), (300_000, 0));
        spares.give(buffer);
        spares.begin_turn(2699);
        assert_eq!(spares.counts().1, 0);
        assert_eq!(spares.take_large().capacity(), LARGE_BYTES);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut spares = Spares::new();
        for len in [SMALL_BYTES, MIDDLE_BYTES, 1 << 20, 1 << 24, LARGE_BYTES] {
            for _ in 0..200 {
                spares.give(Vec::with_capacity(len).into());
            }
        }
        assert_eq!(spares.counts(), (SMALL_COUNT, 4));
        spares.release();
        for _ in 0..200 {
            spares.give(Vec::with_capacity(LARGE_BYTES).into());
        }
        assert_eq!(spares.counts().1, LARGE_COUNT);
    }
}
