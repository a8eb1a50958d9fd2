//! Assembles a message that arrives in pieces (RFC 6455 section 5.4). Each piece is unmasked and checked when it
//! arrives. It is copied once ([`Assembly::append`]), or the socket is read into the message's memory
//! ([`Assembly::space`]). The memory grows with the bytes that have arrived, not with the length that a frame header
//! announces.

use super::error::ProtocolError;
use super::frame::Kind;
use super::mask::apply_mask;
use super::message::ReceivedMessage;
use super::utf8::Utf8Progress;
use crate::buffer::AssemblyBuffer;
use crate::buffer::BufferPool;

/// A message of which a part has arrived.
#[derive(Debug)]
pub(super) struct Assembly {
    bytes: AssemblyBuffer,
    /// `None` for a binary message.
    text: Option<Utf8Progress>,
    /// The number of frames that have begun.
    fragments: u32,
}

impl Assembly {
    /// Returns an empty message of `kind`, of which no frame has begun.
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

    /// Returns the bytes of memory that are owned.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Reserves memory for `len` bytes that have arrived. According to the frame's header, `missing` bytes will follow.
    pub(super) fn reserve(&mut self, len: usize, missing: u64, buffers: &mut BufferPool) {
        let needed = self.bytes.len() + len;
        // The missing bytes only limit the growth: the capacity is doubled, but not beyond the announced length.
        buffers.grow_message(&mut self.bytes, needed, needed as u64 + missing);
    }

    /// Appends a piece of a frame's payload, whose first byte is at `offset` in the payload.
    pub(super) fn append(
        &mut self,
        piece: &[u8],
        mask: Option<[u8; 4]>,
        mut offset: u64,
    ) -> Result<(), ProtocolError> {
        // In blocks that are copied, unmasked and checked while they are in the first-level cache.
        for block in piece.chunks(BLOCK_BYTES) {
            self.bytes.extend_from_slice(block);
            self.accept(block.len(), mask, offset)?;
            offset += block.len() as u64;
        }
        Ok(())
    }

    /// Returns memory for the next bytes of the current frame's payload, of which `missing` bytes have not arrived. The
    /// memory is initialised. It is no longer than the part of the message that has arrived, unless more of the buffer
    /// was initialised before. `None` if it would be shorter than `len_min`.
    pub(super) fn space(
        &mut self,
        len_min: usize,
        missing: u64,
        buffers: &mut BufferPool,
    ) -> Option<&mut [u8]> {
        let wanted = self.bytes.len().max(self.bytes.initialised());
        // At most `SPACE_BYTES_MAX`, so it fits a usize.
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

    /// Adds `len` bytes of a frame's payload that were written to the start of [`space`](Self::space). The first of
    /// them is at `offset` in the payload.
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

    /// Unmasks and checks the last `len` bytes, the first of which is at `offset` in its frame's payload.
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
        // Section 5.6: "the whole message MUST contain valid UTF-8"; it must not end inside a
        // character.
        if let Some(progress) = &self.text
            && !progress.is_complete(&self.bytes)
        {
            return Err(ProtocolError::TextNotUtf8);
        }
        Ok(ReceivedMessage::assembled(self.bytes, self.text.is_some()))
    }
}

/// Bytes that are unmasked and checked at a time: a part of the first-level cache.
const BLOCK_BYTES: usize = 8 * 1024;

/// Maximum bytes that are read in place at a time, so that they are still in the second-level cache when they are
/// checked.
const SPACE_BYTES_MAX: usize = 256 * 1024;
