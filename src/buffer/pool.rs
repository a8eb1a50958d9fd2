//! The pool of the loop's buffers: for queues, topic logs, unprocessed input, and requests and messages that have
//! arrived in part. The pool decides which buffer is used for each of them, which buffers are retained for reuse, and
//! when they are freed.
//!
//! Small buffers are allocated at the start, so that they lie below all later allocations. A small buffer that is
//! allocated later, and stays in an allocator's cache, prevents the allocator from returning the memory below it to the
//! system.
//!
//! Buffers of 128 KiB and more are *mapped* (see `buffer`): they occupy only the pages that were written to, whatever
//! their capacity, and all of their memory returns to the system when they are freed. Used mapped buffers are retained
//! for one second, because the page faults of a new buffer cost more than the copy into it. But a used buffer occupies
//! all its pages, however few bytes it contains. Therefore:
//!
//! - Queues, logs, unprocessed input, and messages of which more than 4 KiB (32 KiB with 32-bit addresses) have
//!   arrived use chunks of 128 KiB. Smaller contents use small buffers or the heap.
//! - Used buffers above 128 KiB are used again for at most four messages at a time.
//! - Requests use new buffers, of which only the pages that were written to are resident, because any client can begin
//!   a request.

use super::{AssemblyBuffer, Buffer, LARGE_BYTES, UseCount};
use std::mem;

/// The buffer pool. [`BufferPool::default`] has no buffers, and does not use mapped buffers for heads and messages:
/// their buffers grow by reallocation.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    /// Whether heads and messages that have arrived in part move to mapped buffers.
    uses_mapped_buffers: bool,
    /// Unused buffers with a capacity of [`SMALL_BYTES`].
    small: Vec<Buffer>,
    /// Unused buffers with a capacity of [`LARGE_BYTES`].
    chunks: Vec<Buffer>,
    /// Unused buffers that are larger than a chunk, for messages that have arrived in part.
    large: Vec<Buffer>,
    /// Total capacity of the buffers in `large`.
    large_bytes: usize,
    /// Counts the buffers from `large` that messages use. `None` before the first.
    large_in_use: Option<UseCount>,
    /// When a chunk or a large buffer last returned to the pool, in milliseconds of the loop's clock.
    returned_at: u64,
    /// The time in milliseconds of the loop's clock.
    now: u64,
}

impl BufferPool {
    /// Returns a pool with [`SMALL_COUNT`] small buffers.
    pub(crate) fn new() -> Self {
        let small = (0..SMALL_COUNT).map(|_| Buffer::with_capacity(SMALL_BYTES));
        Self {
            uses_mapped_buffers: true,
            small: small.collect(),
            chunks: Vec::with_capacity(CHUNKS_MAX),
            large: Vec::with_capacity(LARGE_COUNT_MAX),
            ..Self::default()
        }
    }

    /// Sets the time. Frees the retained mapped buffers if none has returned to the pool for one second.
    pub(crate) fn begin_turn(&mut self, now: u64) {
        self.now = now;
        if self.next_in() == Some(0) {
            self.release();
        }
    }

    /// Returns the milliseconds until the retained mapped buffers are to be freed. `None` if there are none.
    pub(crate) fn next_in(&self) -> Option<u64> {
        let due = self.returned_at + RETAINED_MILLIS;
        let is_empty = self.chunks.is_empty() && self.large.is_empty();
        (!is_empty).then(|| due.saturating_sub(self.now))
    }

    /// Frees the retained mapped buffers.
    pub(crate) fn release(&mut self) {
        self.chunks.clear();
        self.large.clear();
        self.large_bytes = 0;
    }

    /// Returns an empty buffer with a capacity of at least `len` bytes, from the pool or a new one.
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

    /// Returns whether a buffer with a capacity of `capacity` bytes must be replaced by a mapped one to hold `needed`
    /// bytes.
    fn must_be_mapped(&self, capacity: usize, needed: usize) -> bool {
        self.uses_mapped_buffers && needed >= MAPPED_BYTES_MIN && capacity < LARGE_BYTES
    }

    /// Reserves capacity for `needed` bytes of a request's head, which can have at most `bytes_max` bytes. A head of at
    /// least [`MAPPED_BYTES_MIN`] bytes moves to a new mapped buffer.
    pub(crate) fn grow_head(&self, head: &mut Buffer, needed: usize, bytes_max: usize) {
        if self.must_be_mapped(head.capacity(), needed) {
            let mut larger = Buffer::with_capacity(LARGE_BYTES);
            larger.extend_from_slice(head);
            *head = larger;
        }
        if needed > head.capacity() {
            head.grow(needed, bytes_max as u64);
        }
    }

    /// Reserves capacity for `needed` bytes of a message, of which frame headers have announced at most `bytes_max`
    /// bytes. A message that needs at least [`MAPPED_BYTES_MIN`] bytes moves to a mapped buffer: to a retained large
    /// buffer if more than [`LARGE_BYTES`] bytes are announced, one is retained, and fewer than [`LARGE_COUNT_MAX`]
    /// are in use; else to a chunk.
    ///
    /// If fewer than [`MAPPED_BYTES_MIN`] bytes are announced, the capacity is a power of two. Allocators retain some
    /// memory for each block size that was once in use, so fewer sizes leave less memory behind.
    pub(crate) fn grow_message(
        &mut self,
        message: &mut AssemblyBuffer,
        needed: usize,
        bytes_max: u64,
    ) {
        if self.must_be_mapped(message.capacity(), needed) {
            // Only a message that is announced to be larger than a chunk gets a large buffer.
            let large = (bytes_max > LARGE_BYTES as u64)
                .then(|| self.take_large())
                .flatten();
            let mut larger = large.unwrap_or_else(|| AssemblyBuffer::new(self.take_chunk(), None));
            larger.extend_from_slice(message);
            *message = larger;
        }
        if needed > message.capacity() {
            if self.uses_mapped_buffers && bytes_max < MAPPED_BYTES_MIN as u64 {
                let needed = needed.next_power_of_two();
                message.grow(needed, bytes_max.next_power_of_two());
            } else {
                message.grow(needed, bytes_max);
            }
        }
    }

    /// Returns a retained large buffer, which counts as in use until it is dropped. `None` if none is retained, or if
    /// [`LARGE_COUNT_MAX`] are in use.
    fn take_large(&mut self) -> Option<AssemblyBuffer> {
        let use_count = self.large_in_use.get_or_insert_default();
        if use_count.count() == LARGE_COUNT_MAX {
            return None;
        }
        let large = self.large.pop()?;
        self.large_bytes -= large.capacity();
        Some(AssemblyBuffer::new(large, Some(use_count.clone())))
    }

    /// Returns a retained or new buffer with a capacity of [`LARGE_BYTES`]. It is not cleared.
    fn take_chunk(&mut self) -> Buffer {
        let chunk = self.chunks.pop();
        chunk.unwrap_or_else(|| Buffer::with_capacity(LARGE_BYTES))
    }

    /// Returns the buffer of a message to the pool, which retains or frees it.
    pub(crate) fn put_message(&mut self, buffer: AssemblyBuffer) {
        self.put(buffer.into_storage());
    }

    /// Returns a buffer to the pool, which retains or frees it.
    #[inline]
    pub(crate) fn put(&mut self, mut buffer: Buffer) {
        if buffer.capacity() == SMALL_BYTES && self.small.len() < SMALL_COUNT {
            buffer.clear();
            self.small.push(buffer);
        } else if buffer.capacity() > 0 {
            self.put_any(buffer);
        } else {
            // The buffer owns no memory. Not dropping it saves a function call.
            mem::forget(buffer);
        }
    }

    #[inline(never)]
    fn put_any(&mut self, buffer: Buffer) {
        let capacity = buffer.capacity();
        if capacity == LARGE_BYTES && self.chunks.len() < CHUNKS_MAX {
            // Not cleared: a socket can be read into the initialised bytes again.
            self.chunks.push(buffer);
            self.returned_at = self.now;
        } else if capacity > LARGE_BYTES
            && self.large_bytes + capacity <= LARGE_BYTES_MAX
            && self.large.len() < LARGE_COUNT_MAX
        {
            self.large.push(buffer);
            self.large_bytes += capacity;
            self.returned_at = self.now;
        }
    }

    /// Returns the numbers of retained small buffers, chunks and large buffers.
    #[cfg(test)]
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        (self.small.len(), self.chunks.len(), self.large.len())
    }
}

/// Capacity of a small buffer: enough for several messages of 20 bytes, or for one of 1 KiB with its header.
const SMALL_BYTES: usize = 1024 + 16;

/// Number of small buffers that are allocated at the start, and maximum number that are retained: about as many as the
/// sessions that are often ready in one turn. 65 KiB in total.
const SMALL_COUNT: usize = 64;

/// Capacity up to which `take` returns a buffer that is not mapped. One page: to map so little memory costs more than
/// it saves.
const MIDDLE_BYTES: usize = 4096;

/// Minimum bytes of a request's head or of an incomplete message for which a mapped buffer is used, not the
/// allocator's heap. An allocator packs smaller buffers into pages of 64 KiB or more, and retains all of such a page
/// while one of its buffers is in use: when every 16th of 4 000 messages of 31 000 bytes stayed, 132 MB remained
/// resident, and 13 MB with this minimum. With 32-bit addresses the minimum is higher, because each mapped buffer takes
/// 128 KiB of the address space.
const MAPPED_BYTES_MIN: usize = if cfg!(target_pointer_width = "64") {
    4097
} else {
    32 * 1024
};

/// Maximum number of chunks that are retained: 2 MiB in total.
const CHUNKS_MAX: usize = 16;

/// Maximum total capacity of the large buffers that are retained: enough for messages of 1 MiB from four peers at once,
/// with the overhead of an allocator.
const LARGE_BYTES_MAX: usize = 4 * (1024 * 1024 + 4096);

/// Maximum number of large buffers that are retained, and maximum number that are in use at a time.
const LARGE_COUNT_MAX: usize = 4;

/// Time for which unused mapped buffers are retained, in milliseconds.
const RETAINED_MILLIS: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(capacity: usize) -> Buffer {
        Buffer::with_capacity(capacity)
    }

    #[test]
    fn a_large_buffer_is_used_again_and_freed_after_one_second() {
        let mut buffers = BufferPool::new();
        assert_eq!(buffers.next_in(), None);
        buffers.begin_turn(5);
        buffers.put(buffer(200_000));
        assert_eq!(buffers.next_in(), Some(1000));
        let mut taken = buffers.take_large().unwrap();
        assert_eq!((taken.capacity(), buffers.next_in()), (200_000, None));
        taken.extend_from_slice(b"1");
        buffers.begin_turn(700);
        buffers.put_message(taken);
        buffers.begin_turn(1699);
        let taken = buffers.take_large().unwrap();
        assert_eq!((taken.capacity(), taken.len()), (200_000, 0));
        buffers.put_message(taken);
        buffers.begin_turn(2699);
        assert_eq!(buffers.counts().2, 0);
        assert!(buffers.take_large().is_none());
    }

    #[test]
    fn the_number_of_retained_buffers_is_limited() {
        let mut buffers = BufferPool::new();
        for len in [SMALL_BYTES, MIDDLE_BYTES, 1 << 20, 1 << 24, LARGE_BYTES] {
            for _ in 0..200 {
                buffers.put(buffer(len));
            }
        }
        assert_eq!(buffers.counts(), (SMALL_COUNT, CHUNKS_MAX, 4));
        buffers.release();
        assert_eq!(buffers.counts(), (SMALL_COUNT, 0, 0));
    }

    #[test]
    fn a_large_buffer_is_not_used_as_a_chunk() {
        let mut buffers = BufferPool::new();
        buffers.put(buffer(4 << 20));
        for len in [MIDDLE_BYTES + 1, 100_000, LARGE_BYTES] {
            assert_eq!(buffers.take(len).capacity(), LARGE_BYTES);
        }
        assert_eq!(buffers.counts().2, 1);
    }

    #[test]
    fn only_a_few_large_buffers_are_in_use_at_a_time() {
        let mut buffers = BufferPool::new();
        let mut taken = Vec::new();
        for _ in 0..LARGE_COUNT_MAX {
            buffers.put(buffer(200_000));
            taken.extend(buffers.take_large());
        }
        assert_eq!(taken.len(), LARGE_COUNT_MAX);
        buffers.put(buffer(200_000));
        assert!(buffers.take_large().is_none());
        // A dropped buffer does not count, even if it has not returned to the pool.
        taken.pop();
        assert!(buffers.take_large().is_some());
    }

    /// In an earlier version, doubling the capacity skipped the size from which on a buffer is mapped: a message that
    /// arrived in pieces of 1 200 bytes never moved to a mapped buffer.
    #[test]
    fn messages_and_heads_in_small_pieces_move_to_a_mapped_buffer() {
        for piece in [1, 100, 1_200, 4_000, 4_097, 5_000] {
            let mut buffers = BufferPool::new();
            let (mut message, mut head) = (AssemblyBuffer::default(), Buffer::default());
            while message.len() < MAPPED_BYTES_MIN {
                let needed = message.len() + piece;
                buffers.grow_message(&mut message, needed, 100_000);
                message.extend_from_slice(&vec![1; piece]);
                buffers.grow_head(&mut head, needed, 100_000);
                head.extend_from_slice(&vec![1; piece]);
            }
            assert!(message.capacity() >= LARGE_BYTES, "{piece}");
            assert!(head.capacity() >= LARGE_BYTES, "{piece}");
        }
    }
}
