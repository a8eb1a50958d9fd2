//! Buffers that can be large, and whose memory returns to the operating system when they are freed. Only this module
//! and its pool depend on the behaviour of allocators, so that the storage can be replaced.
//!
//! glibc allocates a block of 128 KiB or more with `mmap`, and unmaps it when it is freed, so the memory returns to the
//! system at once. But after it has freed a mapped block of up to 32 MiB, it allocates later blocks of that size from
//! its heap (mallopt(3), "dynamic mmap threshold"). There, freed memory does not return to the system while a small
//! block lies above it. Therefore a large block is shrunk before it is freed: shrinking returns its pages by `mremap`,
//! which does not raise the threshold. With other allocators this costs one call and has no effect.

mod pool;

pub(crate) use pool::BufferPool;

use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// A byte vector that may be large. With a capacity of at least [`LARGE_BYTES`], its memory returns to the system
/// when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Buffer(Vec<u8>);

impl Buffer {
    /// Returns an empty buffer. Its memory is not written to until bytes are appended.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// Returns the capacity in bytes.
    #[inline]
    pub(crate) fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Appends `bytes`.
    #[inline]
    pub(crate) fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Removes all bytes, and retains the memory.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Reserves capacity for `needed` bytes in total. Doubles the capacity, up to `bytes_max`, so that appending byte
    /// by byte takes linear time.
    pub(crate) fn grow(&mut self, needed: usize, bytes_max: u64) {
        debug_assert!(needed as u64 <= bytes_max);
        let doubled = 2 * self.capacity() as u64;
        let capacity = doubled.clamp(needed as u64, bytes_max) as usize;
        self.0.reserve_exact(capacity - self.0.len());
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.0.capacity() >= LARGE_BYTES {
            self.0.clear();
            self.0.shrink_to(LAST_BYTES);
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Buffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

/// A buffer in which a message is assembled. A socket can be read into the unused part.
#[derive(Debug, Default)]
pub(crate) struct AssemblyBuffer {
    /// The initialised memory. Its length is the number of initialised bytes, because safe code reads only into
    /// initialised memory. Memory is initialised when it is used for the first time, and stays initialised for later
    /// messages.
    storage: Buffer,
    /// The number of bytes of the message.
    len: usize,
    /// Counts the storage as in use until this buffer is dropped. `None` if the storage is not one of the pool's large
    /// buffers.
    _use_count: Option<UseCount>,
}

impl AssemblyBuffer {
    /// Returns an empty buffer with the memory of `storage`. `use_count` counts the storage as in use.
    pub(crate) fn new(storage: Buffer, use_count: Option<UseCount>) -> Self {
        Self {
            storage,
            len: 0,
            _use_count: use_count,
        }
    }

    /// Returns the capacity in bytes.
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

    /// Returns the number of initialised bytes behind the message.
    pub(crate) fn initialised(&self) -> usize {
        self.storage.len() - self.len
    }

    /// Returns the first `len` bytes behind the message, and initialises them if necessary. The caller writes to them,
    /// and adds them to the message with [`advance`](Self::advance). The capacity must be sufficient.
    pub(crate) fn unused(&mut self, len: usize) -> &mut [u8] {
        let end = self.len + len;
        debug_assert!(end <= self.capacity());
        if self.storage.len() < end {
            self.storage.0.resize(end, 0);
        }
        &mut self.storage[self.len..end]
    }

    /// Adds the first `len` bytes of [`unused`](Self::unused) to the message.
    pub(crate) fn advance(&mut self, len: usize) {
        assert!(
            len <= self.initialised(),
            "more bytes than there was space for"
        );
        self.len += len;
    }

    /// Reserves capacity for `needed` bytes in total, as [`Buffer::grow`] does.
    pub(crate) fn grow(&mut self, needed: usize, bytes_max: u64) {
        self.storage.grow(needed, bytes_max);
    }

    /// Returns the memory, to be used for another message or for other bytes.
    pub(crate) fn into_storage(self) -> Buffer {
        self.storage
    }

    /// Returns the bytes of the message.
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

/// Counts buffers in use. Each buffer in use owns one clone, and drops it with the buffer.
#[derive(Clone, Debug, Default)]
pub(crate) struct UseCount(Arc<()>);

impl UseCount {
    /// Returns the number of buffers in use: the number of clones.
    pub(crate) fn count(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}

/// Minimum bytes of a block that glibc allocates with `mmap`.
pub(crate) const LARGE_BYTES: usize = 128 * 1024;

/// Bytes to which a large block is shrunk before it is freed.
const LAST_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_initialised_only_once() {
        let mut buffer = AssemblyBuffer::new(Buffer::with_capacity(1000), None);
        buffer.extend_from_slice(b"first");
        assert_eq!(buffer.initialised(), 0);
        buffer.unused(10)[..4].copy_from_slice(b", se");
        buffer.advance(4);
        assert_eq!((&buffer[..], buffer.initialised()), (&b"first, se"[..], 6));
        buffer.extend_from_slice(b"cond, and third");
        assert_eq!(
            (&buffer[..], buffer.initialised()),
            (&b"first, second, and third"[..], 0)
        );

        let mut buffer = AssemblyBuffer::new(buffer.into_storage(), None);
        assert_eq!((&buffer[..], buffer.initialised()), (&b""[..], 24));
        buffer.unused(30)[29] = 1;
        buffer.advance(30);
        assert_eq!(
            buffer.into_vec(),
            [&b"first, second, and third"[..], &[0, 0, 0, 0, 0, 1]].concat()
        );
    }
}
