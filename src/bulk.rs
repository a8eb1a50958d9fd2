//! Buffers that can be large, and must leave nothing behind when they are freed. What is known here of allocators is known
//! nowhere else but in `spares`, so that the storage can be exchanged.
//!
//! glibc maps an allocation of 128 KiB or more by itself, and unmaps it when it is freed: the memory is back at once.
//! But freeing a block of up to 32 MiB that way makes it serve that size from its heap from then on (mallopt(3),
//! "dynamic mmap threshold"), where freed memory stays below any small block that lies above it. A block that is
//! shrunk first goes back by `mremap`, which does not count. Elsewhere it costs a call and does no harm.

use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// Bytes in a block that may be large.
#[derive(Debug, Default)]
pub(crate) struct Bulk(Vec<u8>);

impl Bulk {
    /// An empty buffer. Memory that is not written to is not touched.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// Bytes of memory.
    #[inline]
    pub(crate) fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Appends `bytes`.
    #[inline]
    pub(crate) fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Empties the buffer, and retains its memory.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Makes room for `needed` bytes: twice as much as there was, so that single bytes do not cost a copy of all before
    /// them, but no more than `bytes_max`.
    pub(crate) fn grow(&mut self, needed: usize, bytes_max: u64) {
        debug_assert!(needed as u64 <= bytes_max);
        let doubled = 2 * self.capacity() as u64;
        let capacity = doubled.clamp(needed as u64, bytes_max) as usize;
        self.0.reserve_exact(capacity - self.0.len());
    }
}

impl Drop for Bulk {
    fn drop(&mut self) {
        if self.0.capacity() >= LARGE_BYTES {
            self.0.clear();
            self.0.shrink_to(LAST_BYTES);
        }
    }
}

impl Deref for Bulk {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Bulk {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl From<Vec<u8>> for Bulk {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

/// A buffer in which a message is assembled. A socket can be read into its unused part.
#[derive(Debug, Default)]
pub(crate) struct AssemblyBuffer {
    /// As long as what is initialised, which safe code needs in order to read into it. It is never more than was used by
    /// this message, as much again, or what an earlier message used.
    storage: Bulk,
    /// Bytes of the message.
    len: usize,
    /// If the storage was lent by the pool: counts as lent until it is dropped.
    _lease: Option<Lease>,
}

impl AssemblyBuffer {
    /// An empty buffer with the memory of `storage`.
    pub(crate) fn new(storage: Bulk, lease: Option<Lease>) -> Self {
        Self {
            storage,
            len: 0,
            _lease: lease,
        }
    }

    /// Bytes of memory.
    pub(crate) fn capacity(&self) -> usize {
        self.storage.capacity()
    }

    /// Appends `bytes`.
    pub(crate) fn extend_from_slice(&mut self, bytes: &[u8]) {
        let unused = &mut self.storage[self.len..];
        let (first, rest) = bytes.split_at(bytes.len().min(unused.len()));
        unused[..first.len()].copy_from_slice(first);
        self.storage.extend_from_slice(rest);
        self.len += bytes.len();
    }

    /// Bytes behind the message that are initialised already.
    pub(crate) fn initialised(&self) -> usize {
        self.storage.len() - self.len
    }

    /// The first `len` bytes behind the message, initialised: to be written to, and then [`advance`](Self::advance)d over.
    /// There has to be room for them.
    pub(crate) fn spare(&mut self, len: usize) -> &mut [u8] {
        let end = self.len + len;
        debug_assert!(end <= self.capacity());
        if self.storage.len() < end {
            self.storage.0.resize(end, 0);
        }
        &mut self.storage[self.len..end]
    }

    /// Makes the first `len` bytes of [`spare`](Self::spare) part of the message.
    pub(crate) fn advance(&mut self, len: usize) {
        assert!(
            len <= self.initialised(),
            "more bytes than there was space for"
        );
        self.len += len;
    }

    /// Makes room for `needed` bytes: twice as much as there was, but no more than `bytes_max`.
    pub(crate) fn grow(&mut self, needed: usize, bytes_max: u64) {
        self.storage.grow(needed, bytes_max);
    }

    /// The memory, for something else.
    pub(crate) fn into_storage(self) -> Bulk {
        self.storage
    }

    /// The message.
    pub(crate) fn into_vec(mut self) -> Vec<u8> {
        self.storage.0.truncate(self.len);
        mem::take(&mut self.storage.0)
    }
}

impl Deref for AssemblyBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.storage[..self.len]
    }
}

impl DerefMut for AssemblyBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.storage[..self.len]
    }
}

/// Counts something that is lent. Each clone is a thing that is lent, until it is dropped.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lease(Arc<()>);

impl Lease {
    /// How many clones there are.
    pub(crate) fn count(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}

/// From here on an allocator may map a block by itself.
pub(crate) const LARGE_BYTES: usize = 128 * 1024;

/// What a large block is shrunk to.
const LAST_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_once_is_read_into_without_initialising_it_again() {
        let mut buffer = AssemblyBuffer::new(Bulk::with_capacity(1000), None);
        buffer.extend_from_slice(b"first");
        assert_eq!(buffer.initialised(), 0);
        buffer.spare(10)[..4].copy_from_slice(b", se");
        buffer.advance(4);
        assert_eq!((&buffer[..], buffer.initialised()), (&b"first, se"[..], 6));
        buffer.extend_from_slice(b"cond, and third");
        assert_eq!(
            (&buffer[..], buffer.initialised()),
            (&b"first, second, and third"[..], 0)
        );

        let mut buffer = AssemblyBuffer::new(buffer.into_storage(), None);
        assert_eq!((&buffer[..], buffer.initialised()), (&b""[..], 24));
        buffer.spare(30)[29] = 1;
        buffer.advance(30);
        assert_eq!(
            buffer.into_vec(),
            [&b"first, second, and third"[..], &[0, 0, 0, 0, 0, 1]].concat()
        );
    }
}
