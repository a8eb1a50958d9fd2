//! Buffers that the loop lends: to queues, topic logs, requests and messages that are not whole.
//!
//! Small ones are allocated at the start, below everything that comes and goes: a small buffer that is allocated while
//! much else is, and lives on in an allocator's cache, keeps all that lies below it from going back to the system.
//!
//! What is larger is mapped by itself (see `bulk`), costs the pages that are written to, however much room it has, and is
//! given back without a trace. Used ones are kept for a second, because a fresh page costs more than the copy into it; but
//! a used one costs all its pages, whatever is put into it. So those that queues, logs and stashes get are chunks, no
//! larger than a piece of what they may hold anyway; larger ones are lent to a few messages under way at a time, and
//! counted; and requests, which anybody can begin, get fresh ones.

use crate::bulk::{Bulk, LARGE_BYTES};

/// See the module.
#[derive(Debug)]
pub(crate) struct Spares {
    small: Vec<Bulk>,
    chunks: Vec<Bulk>,
    /// Larger than a chunk, for messages under way.
    large: Vec<Bulk>,
    /// Of the large ones, as the allocator sees them.
    large_bytes: usize,
    /// Messages under way that began in one of the large ones.
    lent: usize,
    /// When a chunk or a large one was last given back.
    used_at: u64,
    /// Milliseconds of the loop's clock.
    now: u64,
}

impl Spares {
    pub(crate) fn new() -> Self {
        let small = (0..SMALL_COUNT).map(|_| Vec::with_capacity(SMALL_BYTES).into());
        Self {
            small: small.collect(),
            chunks: Vec::with_capacity(CHUNKS_MAX),
            large: Vec::with_capacity(LENT_MAX),
            large_bytes: 0,
            lent: 0,
            used_at: 0,
            now: 0,
        }
    }

    /// Takes note of the time, and frees what was mapped and not used for a second.
    pub(crate) fn begin_turn(&mut self, now: u64) {
        self.now = now;
        if self.next_in() == Some(0) {
            self.release();
        }
    }

    /// Milliseconds until there is something to free.
    pub(crate) fn next_in(&self) -> Option<u64> {
        let due = self.used_at + KEPT_MILLIS;
        let is_empty = self.chunks.is_empty() && self.large.is_empty();
        (!is_empty).then(|| due.saturating_sub(self.now))
    }

    /// Frees all that was mapped.
    pub(crate) fn release(&mut self) {
        self.chunks.clear();
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
        if len <= LARGE_BYTES {
            return self.chunks.pop().unwrap_or_else(Self::fresh);
        }
        Vec::with_capacity(len).into()
    }

    /// A large buffer that was used, for a message under way, unless too many are lent; to be told of by
    /// [`returned`](Self::returned) when the message is over, with the buffer or without it.
    pub(crate) fn lend(&mut self) -> Option<Bulk> {
        if self.lent == LENT_MAX {
            return None;
        }
        let large = self.large.pop()?;
        self.large_bytes -= large.capacity();
        self.lent += 1;
        Some(large)
    }

    /// One that was lent is not in use any more.
    pub(crate) fn returned(&mut self) {
        self.lent -= 1;
    }

    /// An empty buffer with room for [`LARGE_BYTES`], none of which is used yet.
    pub(crate) fn fresh() -> Bulk {
        Vec::with_capacity(LARGE_BYTES).into()
    }

    /// Keeps the buffer if there is a use and room for it.
    pub(crate) fn give(&mut self, mut buffer: Bulk) {
        let capacity = buffer.capacity();
        if capacity == SMALL_BYTES && self.small.len() < SMALL_COUNT {
            buffer.clear();
            self.small.push(buffer);
        } else if capacity == LARGE_BYTES && self.chunks.len() < CHUNKS_MAX {
            buffer.clear();
            self.chunks.push(buffer);
            self.used_at = self.now;
        } else if capacity > LARGE_BYTES
            && self.large_bytes + capacity <= LARGE_BYTES_MAX
            && self.large.len() < LENT_MAX
        {
            buffer.clear();
            self.large.push(buffer);
            self.large_bytes += capacity;
            self.used_at = self.now;
        }
    }

    /// How many small ones, chunks and large ones there are.
    #[cfg(test)]
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        (self.small.len(), self.chunks.len(), self.large.len())
    }
}

/// Several echoes of 20 bytes, or one of 1 KiB with its header.
const SMALL_BYTES: usize = 1024 + 16;

/// As many sessions as are often ready at once; 65 KiB.
const SMALL_COUNT: usize = 64;

/// Up to a page it does not pay to map one.
const MIDDLE_BYTES: usize = 4096;

/// 2 MiB.
const CHUNKS_MAX: usize = 16;

/// The most that is kept of large ones: messages of 1 MiB from four peers at once, with what an allocator adds.
const LARGE_BYTES_MAX: usize = 4 * (1024 * 1024 + 4096);

/// Large ones that are kept, and that are lent at a time.
const LENT_MAX: usize = 4;

/// How long what was mapped is kept.
const KEPT_MILLIS: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(capacity: usize) -> Bulk {
        Vec::with_capacity(capacity).into()
    }

    #[test]
    fn a_large_buffer_is_used_again_and_freed_after_a_second() {
        let mut spares = Spares::new();
        assert_eq!(spares.next_in(), None);
        spares.begin_turn(5);
        spares.give(buffer(200_000));
        assert_eq!(spares.next_in(), Some(1000));
        let mut lent = spares.lend().unwrap();
        assert_eq!((lent.capacity(), spares.next_in()), (200_000, None));
        lent.push(1);
        spares.begin_turn(700);
        spares.give(lent);
        spares.returned();
        spares.begin_turn(1699);
        let lent = spares.lend().unwrap();
        assert_eq!((lent.capacity(), lent.len()), (200_000, 0));
        spares.give(lent);
        spares.begin_turn(2699);
        assert_eq!(spares.counts().2, 0);
        assert!(spares.lend().is_none());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut spares = Spares::new();
        for len in [SMALL_BYTES, MIDDLE_BYTES, 1 << 20, 1 << 24, LARGE_BYTES] {
            for _ in 0..200 {
                spares.give(buffer(len));
            }
        }
        assert_eq!(spares.counts(), (SMALL_COUNT, CHUNKS_MAX, 4));
        spares.release();
        assert_eq!(spares.counts(), (SMALL_COUNT, 0, 0));
    }

    #[test]
    fn a_used_buffer_of_a_message_becomes_no_chunk() {
        let mut spares = Spares::new();
        spares.give(buffer(4 << 20));
        for len in [MIDDLE_BYTES + 1, 100_000, LARGE_BYTES] {
            assert_eq!(spares.take(len).capacity(), LARGE_BYTES);
        }
        assert_eq!(spares.counts().2, 1);
    }

    #[test]
    fn only_a_few_large_ones_are_lent_at_a_time() {
        let mut spares = Spares::new();
        for _ in 0..LENT_MAX {
            spares.give(buffer(200_000));
            assert!(spares.lend().is_some());
        }
        spares.give(buffer(200_000));
        assert!(spares.lend().is_none());
        spares.returned();
        assert!(spares.lend().is_some());
    }
}
