//! A message that arrives in pieces (RFC 6455 section 5.4) is assembled here: unmasked and checked as it arrives. A piece
//! is copied once ([`Assembly::append`]), or was read into its place ([`Assembly::space`]). The memory grows with the
//! bytes that arrived, never with what a header merely claims.

use super::error::ProtocolError;
use super::frame::Kind;
use super::mask::apply_mask;
use super::message::ReceivedMessage;
use super::utf8::Utf8Progress;
use crate::buffer::AssemblyBuffer;
use crate::buffer::BufferPool;

/// The message that is under way.
#[derive(Debug)]
pub(super) struct Assembly {
    bytes: AssemblyBuffer,
    /// `None`: binary.
    text: Option<Utf8Progress>,
    /// Frames that have begun.
    fragments: u32,
}

impl Assembly {
    /// Returns a message whose first frame is of `kind`, and has not begun.
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            bytes: AssemblyBuffer::default(),
            text: (kind == Kind::Text).then(Utf8Progress::default),
            fragments: 0,
        }
    }

    /// Returns how many bytes of payload have arrived.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns how many frames have begun.
    pub(super) fn fragments(&self) -> u32 {
        self.fragments
    }

    /// Counts another frame.
    pub(super) fn begin_fragment(&mut self) {
        self.fragments += 1;
    }

    /// Returns the bytes of memory held.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Makes room for `len` bytes that have arrived; the frame's header claims that `missing` bytes will follow.
    pub(super) fn reserve(&mut self, len: usize, missing: u64, buffers: &mut BufferPool) {
        let needed = self.bytes.len() + len;
        // What is only claimed counts no further than doubling goes anyway.
        buffers.grow_message(&mut self.bytes, needed, needed as u64 + missing);
    }

    /// Appends a piece of a frame's payload, whose first byte stands at `offset` in it.
    pub(super) fn append(
        &mut self,
        piece: &[u8],
        mask: Option<[u8; 4]>,
        mut offset: u64,
    ) -> Result<(), ProtocolError> {
        // Copied, unmasked and checked while it is in the fastest cache.
        for block in piece.chunks(BLOCK_BYTES) {
            self.bytes.extend_from_slice(block);
            self.accept(block.len(), mask, offset)?;
            offset += block.len() as u64;
        }
        Ok(())
    }

    /// Returns the place for the next bytes of the payload, of which `missing` are to come. It is initialised, and no
    /// longer than what has arrived of the message, unless more of the buffer was initialised before. `None` if it would
    /// be shorter than `len_min`.
    pub(super) fn space(
        &mut self,
        len_min: usize,
        missing: u64,
        buffers: &mut BufferPool,
    ) -> Option<&mut [u8]> {
        let wanted = self.bytes.len().max(self.bytes.initialised());
        // At most a step, so it fits a usize.
        let wanted = missing.min(wanted.min(SPACE_BYTES_MAX) as u64) as usize;
        if wanted < len_min.max(1) {
            return None;
        }
        if self.bytes.capacity() - self.bytes.len() < len_min.max(1) {
            self.reserve(wanted, missing - wanted as u64, buffers);
        }
        let free = self.bytes.capacity() - self.bytes.len();
        Some(self.bytes.unused(wanted.min(free)))
    }

    /// Takes `len` bytes of a frame's payload that were written to the start of [`space`](Self::space). The first of
    /// them stands at `offset` in the payload.
    pub(super) fn accept_in_place(
        &mut self,
        len: usize,
        mask: Option<[u8; 4]>,
        mut offset: u64,
    ) -> Result<(), ProtocolError> {
        let mut left = len;
        while left > 0 {
            let block = left.min(BLOCK_BYTES);
            self.bytes.advance(block);
            self.accept(block, mask, offset)?;
            offset += block as u64;
            left -= block;
        }
        Ok(())
    }

    /// Unmasks and checks the last `len` bytes, the first of which stands at `offset` in its frame's payload.
    fn accept(
        &mut self,
        len: usize,
        mask: Option<[u8; 4]>,
        offset: u64,
    ) -> Result<(), ProtocolError> {
        let start = self.bytes.len() - len;
        let new = &mut self.bytes[start..];
        let is_ascii = match (mask, &self.text) {
            (Some(mask), _) => apply_mask(new, mask, offset),
            (None, Some(_)) => new.is_ascii(),
            (None, None) => false,
        };
        match &mut self.text {
            Some(progress) => progress
                .check(&self.bytes, len, is_ascii)
                .map_err(|_| ProtocolError::TextNotUtf8),
            None => Ok(()),
        }
    }

    /// Returns the message, whose last frame is complete.
    pub(super) fn finish(self) -> Result<ReceivedMessage<'static>, ProtocolError> {
        // Section 5.6: "the whole message MUST contain valid UTF-8"; it may not end inside a character.
        if let Some(progress) = &self.text
            && !progress.is_complete(&self.bytes)
        {
            return Err(ProtocolError::TextNotUtf8);
        }
        Ok(ReceivedMessage::assembled(self.bytes, self.text.is_some()))
    }
}

/// Bytes that are unmasked and checked at a time: a part of the fastest cache.
const BLOCK_BYTES: usize = 8 * 1024;

/// Maximum bytes that are read in place at a time, so that they are still in the second-level cache when they are checked.
const SPACE_BYTES_MAX: usize = 256 * 1024;
