//! The buffers of the loop: for queues, topic logs, unprocessed input, requests and messages that are not whole. The pool
//! decides which buffer each of them gets, what is retained, and when it is freed.
//!
//! Small buffers are allocated at the start, below all allocations that come and go. A small buffer that is allocated later,
//! and stays in an allocator's cache, prevents an allocator from returning the memory below it to the system.
//!
//! Larger buffers are mapped by themselves (see `buffer`): they cost the pages that are written to, whatever their capacity,
//! and all of that memory returns to the system when they are freed. Used ones are retained for a second, because a fresh
//! page costs more than the copy into it. But a used one costs all its pages, whatever is put into it. Therefore queues,
//! logs and unprocessed input get chunks of 128 KiB; used buffers above that size are lent to a few messages at a time; and
//! requests, which any client can begin, get fresh ones.

use super::{AssemblyBuffer, Buffer, LARGE_BYTES, Lease};
use std::mem;

/// See the module. The default retains no buffers and lends none: heads and messages are allocated as they grow.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    /// Whether heads and messages under way move to mapped buffers.
    is_mapping: bool,
    small: Vec<Buffer>,
    chunks: Vec<Buffer>,
    /// Larger than a chunk, for messages under way.
    large: Vec<Buffer>,
    /// Capacity of `large`, in all.
    large_bytes: usize,
    /// Counts the buffers that were in `large` and are lent. `None` before the first.
    lease: Option<Lease>,
    /// When a chunk or a large buffer was last given to the pool.
    used_at: u64,
    /// Milliseconds of the loop's clock.
    now: u64,
}

impl BufferPool {
    /// Returns a pool with its small buffers.
    pub(crate) fn new() -> Self {
        let small = (0..SMALL_COUNT).map(|_| Buffer::with_capacity(SMALL_BYTES));
        Self {
            is_mapping: true,
            small: small.collect(),
            chunks: Vec::with_capacity(CHUNKS_MAX),
            large: Vec::with_capacity(LENT_MAX),
            ..Self::default()
        }
    }

    /// Sets the time, and frees the retained mapped buffers if none was used for a second.
    pub(crate) fn begin_turn(&mut self, now: u64) {
        self.now = now;
        if self.next_in() == Some(0) {
            self.release();
        }
    }

    /// Returns the milliseconds until retained buffers are to be freed.
    pub(crate) fn next_in(&self) -> Option<u64> {
        let due = self.used_at + RETAINED_MILLIS;
        let is_empty = self.chunks.is_empty() && self.large.is_empty();
        (!is_empty).then(|| due.saturating_sub(self.now))
    }

    /// Frees the retained mapped buffers.
    pub(crate) fn release(&mut self) {
        self.chunks.clear();
        self.large.clear();
        self.large_bytes = 0;
    }

    /// Returns an empty buffer with a capacity of at least `len` bytes.
    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Buffer {
        if len <= SMALL_BYTES
            && let Some(small) = self.small.pop()
        {
            return small;
        }
        self.take_any(len)
    }

    #[inline(never)]
    fn take_any(&mut self, len: usize) -> Buffer {
        if len <= SMALL_BYTES {
            return Buffer::with_capacity(SMALL_BYTES);
        }
        if len <= MIDDLE_BYTES {
            return Buffer::with_capacity(MIDDLE_BYTES);
        }
        if len <= LARGE_BYTES {
            let mut chunk = self.take_chunk();
            chunk.clear();
            return chunk;
        }
        Buffer::with_capacity(len)
    }

    /// Reserves capacity for `needed` bytes of a request's head, of at most `bytes_max`. From [`MAPPED_BYTES_MIN`] on the head
    /// moves to a fresh mapped buffer.
    pub(crate) fn grow_head(&self, head: &mut Buffer, needed: usize, bytes_max: usize) {
        if self.is_mapping && (head.capacity()..needed).contains(&MAPPED_BYTES_MIN) {
            let mut larger = Buffer::with_capacity(LARGE_BYTES);
            larger.extend_from_slice(head);
            *head = larger;
        }
        if needed > head.capacity() {
            head.grow(needed, bytes_max as u64);
        }
    }

    /// Reserves capacity for `needed` bytes of a message, of which headers have announced no more than `bytes_max`. From
    /// [`MAPPED_BYTES_MIN`] on the message moves to a mapped buffer: a retained one, unless too many are lent.
    ///
    /// Smaller capacities are powers of two. Allocators retain some memory for each size that was once in use: fewer sizes
    /// leave less behind (mimalloc: 1.6 instead of 3.6 MB after 20 clients with messages of 30 000 bytes have gone).
    pub(crate) fn grow_message(
        &mut self,
        message: &mut AssemblyBuffer,
        needed: usize,
        bytes_max: u64,
    ) {
        if self.is_mapping && (message.capacity()..needed).contains(&MAPPED_BYTES_MIN) {
            // A large buffer is for a message that is announced to need it.
            let lent = (bytes_max > LARGE_BYTES as u64)
                .then(|| self.lend())
                .flatten();
            let mut larger = lent.unwrap_or_else(|| AssemblyBuffer::new(self.take_chunk(), None));
            larger.extend_from_slice(message);
            *message = larger;
        }
        if needed > message.capacity() {
            if self.is_mapping && bytes_max < MAPPED_BYTES_MIN as u64 {
                let needed = needed.next_power_of_two();
                message.grow(needed, bytes_max.next_power_of_two());
            } else {
                message.grow(needed, bytes_max);
            }
        }
    }

    /// Returns a retained large buffer, unless too many are lent. It counts as lent until it is dropped.
    fn lend(&mut self) -> Option<AssemblyBuffer> {
        let lease = self.lease.get_or_insert_default();
        if lease.count() == LENT_MAX {
            return None;
        }
        let large = self.large.pop()?;
        self.large_bytes -= large.capacity();
        Some(AssemblyBuffer::new(large, Some(lease.clone())))
    }

    /// Returns a buffer with a capacity of [`LARGE_BYTES`]. It is not cleared.
    fn take_chunk(&mut self) -> Buffer {
        let chunk = self.chunks.pop();
        chunk.unwrap_or_else(|| Buffer::with_capacity(LARGE_BYTES))
    }

    /// Takes the buffer of a message back, to be retained or freed.
    pub(crate) fn give_message(&mut self, buffer: AssemblyBuffer) {
        self.give(buffer.into_storage());
    }

    /// Takes a buffer back, to be retained or freed.
    #[inline]
    pub(crate) fn give(&mut self, mut buffer: Buffer) {
        if buffer.capacity() == SMALL_BYTES && self.small.len() < SMALL_COUNT {
            buffer.clear();
            self.small.push(buffer);
        } else if buffer.capacity() > 0 {
            self.give_any(buffer);
        } else {
            // It owns nothing: the call that would drop it is saved.
            mem::forget(buffer);
        }
    }

    #[inline(never)]
    fn give_any(&mut self, buffer: Buffer) {
        let capacity = buffer.capacity();
        if capacity == LARGE_BYTES && self.chunks.len() < CHUNKS_MAX {
            // Not cleared: what is initialised can be read into again.
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

    /// Returns how many small buffers, chunks and large buffers are retained.
    #[cfg(test)]
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        (self.small.len(), self.chunks.len(), self.large.len())
    }
}

/// Capacity of a small buffer: several echoes of 20 bytes, or one of 1 KiB with its header.
const SMALL_BYTES: usize = 1024 + 16;

/// Small buffers that are retained, as many as sessions are often ready at once: 65 KiB in all.
const SMALL_COUNT: usize = 64;

/// Up to a page, to map a buffer costs more than it returns.
const MIDDLE_BYTES: usize = 4096;

/// Minimum bytes of a request or of a message under way that are stored in a mapped buffer, not in the allocator's heap. An
/// allocator packs smaller buffers into pages of 64 KiB or more, and retains all of such a page while one of its buffers is
/// in use: when every 16th of 4 000 messages of 31 000 bytes stayed, 132 MB remained resident, and 13 MB with this limit.
/// With 32-bit addresses, of which each mapped buffer takes 128 KiB, it is higher.
const MAPPED_BYTES_MIN: usize = if cfg!(target_pointer_width = "64") {
    4097
} else {
    32 * 1024
};

/// Maximum chunks that are retained: 2 MiB.
const CHUNKS_MAX: usize = 16;

/// Maximum capacity of the large buffers that are retained, in all: messages of 1 MiB from four peers at once, with what
/// an allocator adds.
const LARGE_BYTES_MAX: usize = 4 * (1024 * 1024 + 4096);

/// Maximum large buffers that are retained, and that are lent at a time.
const LENT_MAX: usize = 4;

/// How long unused mapped buffers are retained.
const RETAINED_MILLIS: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(capacity: usize) -> Buffer {
        Buffer::with_capacity(capacity)
    }

    #[test]
    fn a_large_buffer_is_used_again_and_freed_after_a_second() {
        let mut buffers = BufferPool::new();
        assert_eq!(buffers.next_in(), None);
        buffers.begin_turn(5);
        buffers.give(buffer(200_000));
        assert_eq!(buffers.next_in(), Some(1000));
        let mut lent = buffers.lend().unwrap();
        assert_eq!((lent.capacity(), buffers.next_in()), (200_000, None));
        lent.extend_from_slice(b"1");
        buffers.begin_turn(700);
        buffers.give_message(lent);
        buffers.begin_turn(1699);
        let lent = buffers.lend().unwrap();
        assert_eq!((lent.capacity(), lent.len()), (200_000, 0));
        buffers.give_message(lent);
        buffers.begin_turn(2699);
        assert_eq!(buffers.counts().2, 0);
        assert!(buffers.lend().is_none());
    }

    #[test]
    fn what_is_retained_is_bounded() {
        let mut buffers = BufferPool::new();
        for len in [SMALL_BYTES, MIDDLE_BYTES, 1 << 20, 1 << 24, LARGE_BYTES] {
            for _ in 0..200 {
                buffers.give(buffer(len));
            }
        }
        assert_eq!(buffers.counts(), (SMALL_COUNT, CHUNKS_MAX, 4));
        buffers.release();
        assert_eq!(buffers.counts(), (SMALL_COUNT, 0, 0));
    }

    #[test]
    fn a_used_buffer_of_a_message_becomes_no_chunk() {
        let mut buffers = BufferPool::new();
        buffers.give(buffer(4 << 20));
        for len in [MIDDLE_BYTES + 1, 100_000, LARGE_BYTES] {
            assert_eq!(buffers.take(len).capacity(), LARGE_BYTES);
        }
        assert_eq!(buffers.counts().2, 1);
    }

    #[test]
    fn only_a_few_large_ones_are_lent_at_a_time() {
        let mut buffers = BufferPool::new();
        let mut lent = Vec::new();
        for _ in 0..LENT_MAX {
            buffers.give(buffer(200_000));
            lent.extend(buffers.lend());
        }
        assert_eq!(lent.len(), LENT_MAX);
        buffers.give(buffer(200_000));
        assert!(buffers.lend().is_none());
        // Whether it comes back or not.
        lent.pop();
        assert!(buffers.lend().is_some());
    }
}
