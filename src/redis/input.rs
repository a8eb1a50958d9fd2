//! [`Input`]: the bytes that were received and not processed.

/// A buffer of 64 KiB, which grows for a longer element and shrinks afterwards.
#[derive(Debug, Default)]
pub(super) struct Input {
    /// The buffer. Initialised beyond `end`, because safe code can only read into initialised memory.
    bytes: Vec<u8>,
    /// Start and end of the unprocessed bytes.
    start: usize,
    end: usize,
}

impl Input {
    /// Returns the unprocessed bytes.
    #[inline]
    pub(super) fn unprocessed(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Returns the position of the unprocessed bytes in the buffer. Added to a range of
    /// [`unprocessed`](Self::unprocessed), it makes a range for [`slice`](Self::slice).
    #[inline]
    pub(super) fn start(&self) -> usize {
        self.start
    }

    /// Returns a part of the buffer. Its range is valid until the next call of [`space`](Self::space), even if the bytes were
    /// consumed.
    #[inline]
    pub(super) fn slice(&self, range: std::ops::Range<usize>) -> &[u8] {
        &self.bytes[range]
    }

    /// Removes the first `len` unprocessed bytes.
    #[inline]
    pub(super) fn consume(&mut self, len: usize) {
        self.start += len;
        debug_assert!(self.start <= self.end);
    }

    /// Returns memory to read into, at most 64 KiB of it. `needed` is the number of unprocessed bytes without which the
    /// first element is incomplete.
    pub(super) fn space(&mut self, needed: usize) -> &mut [u8] {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if needed > self.bytes.len().max(READ_BYTES) {
            // As long as the length of the element is not known, `needed` is one byte more than there are: grow in steps.
            let len = needed.max(self.end + GROWTH_BYTES_MIN);
            self.bytes.reserve_exact(len - self.bytes.len());
            self.bytes.resize(len, 0);
        } else if needed <= READ_BYTES && self.bytes.len() != READ_BYTES {
            debug_assert!(self.end < READ_BYTES);
            self.bytes.resize(READ_BYTES, 0);
            self.bytes.shrink_to(READ_BYTES);
        }
        let end = self.bytes.len().min(self.end + READ_BYTES);
        &mut self.bytes[self.end..end]
    }

    /// Counts `len` bytes that were read into [`space`](Self::space).
    pub(super) fn filled(&mut self, len: usize) {
        self.end += len;
        debug_assert!(self.end <= self.bytes.len());
    }

    /// Removes all bytes and frees the memory.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Size of the buffer, and maximum bytes of a read: large for few system calls under load, small so that sessions are served
/// in between.
const READ_BYTES: usize = 64 * 1024;

/// Minimum growth of the buffer.
const GROWTH_BYTES_MIN: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(input: &mut Input, needed: usize, bytes: &[u8]) {
        let space = input.space(needed);
        space[..bytes.len()].copy_from_slice(bytes);
        input.filled(bytes.len());
    }

    #[test]
    fn bytes_stay_in_order_when_the_rest_moves_to_the_front() {
        let mut input = Input::default();
        fill(&mut input, 1, b"abcdef");
        input.consume(2);
        let start = input.start();
        input.consume(2);
        assert_eq!(input.slice(start..start + 2), b"cd");
        fill(&mut input, 3, b"gh");
        assert_eq!(input.unprocessed(), b"efgh");
        input.consume(4);
        assert_eq!(input.unprocessed(), b"");
        assert_eq!(input.space(1).len(), READ_BYTES);
    }

    #[test]
    fn the_buffer_grows_for_a_long_element_and_shrinks_after_it() {
        let mut input = Input::default();
        fill(&mut input, 1, &[b'x'; READ_BYTES]);
        let needed = READ_BYTES * 10;
        while input.unprocessed().len() < needed {
            let space = input.space(needed).len();
            assert!(space > 0 && space <= READ_BYTES);
            input.filled(space);
        }
        assert_eq!(input.bytes.len(), needed);
        input.consume(needed);
        input.space(1);
        assert_eq!(input.bytes.capacity(), READ_BYTES);
    }

    #[test]
    fn an_element_of_unknown_length_grows_the_buffer_in_steps() {
        let mut input = Input::default();
        for _ in 0..40 {
            let needed = input.unprocessed().len() + 1;
            let space = input.space(needed).len();
            assert!(space > 0);
            input.filled(space);
        }
        assert_eq!(input.bytes.len(), READ_BYTES + 39 * GROWTH_BYTES_MIN);
    }
}
