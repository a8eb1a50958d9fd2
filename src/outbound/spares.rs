//! Small buffers that are ready to be a queue's first: taken when something is owed, given back when it is sent.
//!
//! They are allocated at the start, below everything that comes and goes. A buffer that is allocated while much else
//! is, and lives on in an allocator's cache, keeps all that lies below it from going back to the system.

use crate::bulk::Bulk;

/// See the module.
#[derive(Debug)]
pub(crate) struct Spares(Vec<Bulk>);

impl Spares {
    pub(crate) fn new() -> Self {
        let spares = (0..SPARES).map(|_| Vec::with_capacity(SPARE_BYTES).into());
        Self(spares.collect())
    }

    /// An empty buffer for at least `len` bytes.
    pub(super) fn take(&mut self, len: usize) -> Bulk {
        if len <= SPARE_BYTES
            && let Some(spare) = self.0.pop()
        {
            return spare;
        }
        Vec::with_capacity(len.max(SPARE_BYTES)).into()
    }

    /// Keeps the buffer if it is one of its kind and there is room for it.
    pub(super) fn give(&mut self, mut buffer: Bulk) {
        if buffer.capacity() == SPARE_BYTES && self.0.len() < SPARES {
            buffer.clear();
            self.0.push(buffer);
        }
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }
}

/// Several echoes of 20 bytes.
const SPARE_BYTES: usize = 1024;

/// As many sessions as are often ready at once; 64 KiB.
const SPARES: usize = 64;
