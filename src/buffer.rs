//! Buffers that can be large, and whose memory returns to the system when they are freed. Only this module, with
//! its pool, depends on how allocators behave, so that the storage can be exchanged.
//!
//! glibc maps an allocation of 128 KiB or more by itself, and unmaps it when it is freed: the memory returns at once. But
//! after it has freed a block of up to 32 MiB that way, it allocates that size from its heap (mallopt(3), "dynamic mmap
//! threshold"), where freed memory stays as long as a small block lies above it. A block that is shrunk first returns by
//! `mremap`, which does not raise the threshold. With other allocators that costs a call and does no harm.

mod pool;

pub(crate) use pool::BufferPool;

use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// Bytes in a block of memory that may be large.
#[derive(Debug, Default)]
pub(crate) struct Buffer(Vec<u8>);

impl Buffer {
    /// Returns an empty buffer. Its memory is not written to before its bytes are.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// Returns the bytes of memory.
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

    /// Reserves capacity for `needed` bytes in total. Doubles the capacity, so that a byte does not cost a copy of all before it, up to
    /// `bytes_max`.
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

/// A buffer in which a message is assembled. A socket can be read into the part that is not used yet.
#[derive(Debug, Default)]
pub(crate) struct AssemblyBuffer {
    /// Its length is what is initialised, because safe code reads into initialised memory only. It is initialised as it is
    /// used, and stays so for the next message.
    storage: Buffer,
    /// Bytes of the message.
    len: usize,
    /// Counts as lent, if the pool has lent the storage, until this is dropped.
    _use_count: Option<UseCount>,
}

impl AssemblyBuffer {
    /// Returns an empty buffer with the memory of `storage`.
    pub(crate) fn new(storage: Buffer, use_count: Option<UseCount>) -> Self {
        Self {
            storage,
            len: 0,
            _use_count: use_count,
        }
    }

    /// Returns the bytes of memory.
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

    /// Returns how many bytes behind the message are initialised already.
    pub(crate) fn initialised(&self) -> usize {
        self.storage.len() - self.len
    }

    /// Returns the first `len` bytes behind the message, initialised, to be written to and then added to the message by
    /// [`advance`](Self::advance). The capacity has to suffice.
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

    /// Returns the memory, for another use.
    pub(crate) fn into_storage(self) -> Buffer {
        self.storage
    }

    /// Returns the message.
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

/// Counts things that are lent. Each clone stands for one of them, until the clone is dropped.
#[derive(Clone, Debug, Default)]
pub(crate) struct UseCount(Arc<()>);

impl UseCount {
    /// Returns the number of clones.
    pub(crate) fn count(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}

/// Minimum bytes of a block that an allocator maps by itself.
pub(crate) const LARGE_BYTES: usize = 128 * 1024;

/// Bytes that a large block is shrunk to before it is freed.
const LAST_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_once_is_read_into_without_initialising_it_again() {
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
