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

use crate::bulk::{AssemblyBuffer, Bulk, LARGE_BYTES, Lease};
use std::mem;

/// See the module. The default retains no buffers and lends none: what grows is allocated as it grows.
#[derive(Debug, Default)]
pub(crate) struct Spares {
    /// Whether heads and messages under way move to buffers that are mapped by themselves.
    is_mapping: bool,
    small: Vec<Bulk>,
    chunks: Vec<Bulk>,
    /// Larger than a chunk, for messages under way.
    large: Vec<Bulk>,
    /// Of the large ones, as the allocator sees them.
    large_bytes: usize,
    /// Cloned into each of the large ones that is lent. `None` before the first.
    lease: Option<Lease>,
    /// When a chunk or a large one was last given back.
    used_at: u64,
    /// Milliseconds of the loop's clock.
    now: u64,
}

impl Spares {
    pub(crate) fn new() -> Self {
        let small = (0..SMALL_COUNT).map(|_| Bulk::with_capacity(SMALL_BYTES));
        Self {
            is_mapping: true,
            small: small.collect(),
            chunks: Vec::with_capacity(CHUNKS_MAX),
            large: Vec::with_capacity(LENT_MAX),
            ..Self::default()
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
    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Bulk {
        if len <= SMALL_BYTES
            && let Some(small) = self.small.pop()
        {
            return small;
        }
        self.take_any(len)
    }

    #[inline(never)]
    fn take_any(&mut self, len: usize) -> Bulk {
        if len <= SMALL_BYTES {
            return Bulk::with_capacity(SMALL_BYTES);
        }
        if len <= MIDDLE_BYTES {
            return Bulk::with_capacity(MIDDLE_BYTES);
        }
        if len <= LARGE_BYTES {
            let mut chunk = self.take_chunk();
            chunk.clear();
            return chunk;
        }
        Bulk::with_capacity(len)
    }

    /// Makes room for `needed` bytes of a request's head, which has at most `bytes_max`. From
    /// [`HEAD_MAPPED_BYTES_MIN`] on it gets a buffer that is mapped by itself, and not used yet.
    pub(crate) fn grow_head(&self, head: &mut Bulk, needed: usize, bytes_max: usize) {
        if self.is_mapping && (head.capacity()..needed).contains(&HEAD_MAPPED_BYTES_MIN) {
            let mut larger = Bulk::with_capacity(LARGE_BYTES);
            larger.extend_from_slice(head);
            *head = larger;
        }
        if needed > head.capacity() {
            head.grow(needed, bytes_max as u64);
        }
    }

    /// Makes room for `needed` bytes of a message of which no more than `bytes_max` are in sight. From
    /// [`MESSAGE_MAPPED_BYTES_MIN`] on it gets a buffer that is mapped by itself: of those retained, unless too many are
    /// lent.
    pub(crate) fn grow_message(
        &mut self,
        message: &mut AssemblyBuffer,
        needed: usize,
        bytes_max: u64,
    ) {
        if self.is_mapping && (message.capacity()..needed).contains(&MESSAGE_MAPPED_BYTES_MIN) {
            let mut larger = self
                .lend()
                .unwrap_or_else(|| AssemblyBuffer::new(self.take_chunk(), None));
            larger.extend_from_slice(message);
            *message = larger;
        }
        if needed > message.capacity() {
            message.grow(needed, bytes_max);
        }
    }

    /// A large buffer that was used, unless too many are lent. It is lent until it is dropped.
    fn lend(&mut self) -> Option<AssemblyBuffer> {
        let lease = self.lease.get_or_insert_default();
        if lease.count() == LENT_MAX {
            return None;
        }
        let large = self.large.pop()?;
        self.large_bytes -= large.capacity();
        Some(AssemblyBuffer::new(large, Some(lease.clone())))
    }

    /// A buffer of [`LARGE_BYTES`], as it was left.
    fn take_chunk(&mut self) -> Bulk {
        let chunk = self.chunks.pop();
        chunk.unwrap_or_else(|| Bulk::with_capacity(LARGE_BYTES))
    }

    /// Keeps the buffer of a message if there is a use and room for it.
    pub(crate) fn give_message(&mut self, buffer: AssemblyBuffer) {
        self.give(buffer.into_storage());
    }

    /// Keeps the buffer if there is a use and room for it.
    #[inline]
    pub(crate) fn give(&mut self, mut buffer: Bulk) {
        if buffer.capacity() == SMALL_BYTES && self.small.len() < SMALL_COUNT {
            buffer.clear();
            self.small.push(buffer);
        } else if buffer.capacity() > 0 {
            self.give_any(buffer);
        } else {
            // Nothing to give, and nothing to drop.
            mem::forget(buffer);
        }
    }

    #[inline(never)]
    fn give_any(&mut self, buffer: Bulk) {
        let capacity = buffer.capacity();
        if capacity == LARGE_BYTES && self.chunks.len() < CHUNKS_MAX {
            // Not cleared: what is initialised can be read into.
            self.chunks.push(buffer);
            self.used_at = self.now;
        } else if capacity > LARGE_BYTES
            && self.large_bytes + capacity <= LARGE_BYTES_MAX
            && self.large.len() < LENT_MAX
        {
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

/// From here on a head is not kept in the allocator's heap: up to a page it does not pay.
const HEAD_MAPPED_BYTES_MIN: usize = 4097;

/// From here on a message that is not whole is not kept in the allocator's heap.
const MESSAGE_MAPPED_BYTES_MIN: usize = 32 * 1024;

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
        Bulk::with_capacity(capacity)
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
        lent.extend_from_slice(b"1");
        spares.begin_turn(700);
        spares.give_message(lent);
        spares.begin_turn(1699);
        let lent = spares.lend().unwrap();
        assert_eq!((lent.capacity(), lent.len()), (200_000, 0));
        spares.give_message(lent);
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
        let mut lent = Vec::new();
        for _ in 0..LENT_MAX {
            spares.give(buffer(200_000));
            lent.extend(spares.lend());
        }
        assert_eq!(lent.len(), LENT_MAX);
        spares.give(buffer(200_000));
        assert!(spares.lend().is_none());
        // Whether it comes back or not.
        lent.pop();
        assert!(spares.lend().is_some());
    }
}
