//! Buffers that can be large, and must leave nothing behind when they go.
//!
//! glibc maps an allocation of 128 KiB or more by itself, and unmaps it when it is freed: the memory is back at once.
//! But freeing a block of up to 32 MiB that way teaches it to serve that size from its heap from then on (mallopt(3),
//! "dynamic mmap threshold"), where what was freed stays under whatever small piece lies above it. A block that is
//! shrunk first goes back by `mremap`, of which nothing is learnt. Elsewhere it costs a call and does no harm.

use std::mem;
use std::ops::{Deref, DerefMut};

/// Bytes in a block that may be large.
#[derive(Debug, Default)]
pub(crate) struct Bulk(Vec<u8>);

impl Drop for Bulk {
    fn drop(&mut self) {
        free(mem::take(&mut self.0));
    }
}

impl Deref for Bulk {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Bulk {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl From<Vec<u8>> for Bulk {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl Bulk {
    /// The bytes, which are the caller's to [`free`].
    pub(crate) fn into_vec(mut self) -> Vec<u8> {
        mem::take(&mut self.0)
    }
}

/// Frees a block that may be large.
pub(crate) fn free(mut bytes: Vec<u8>) {
    if bytes.capacity() >= LARGE_BYTES {
        bytes.clear();
        bytes.shrink_to(LAST_BYTES);
    }
}

/// From here on an allocator may map a block by itself.
pub(crate) const LARGE_BYTES: usize = 128 * 1024;

/// What a large block is shrunk to.
const LAST_BYTES: usize = 4096;
