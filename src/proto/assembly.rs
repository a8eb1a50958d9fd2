//! A message that arrives in pieces (RFC 6455 section 5.4), put together: unmasked, checked and copied once, as it
//! arrives. The memory grows with what arrived, never with what a header merely claims.

use super::error::ProtocolError;
use super::frame::Kind;
use super::mask::apply_mask;
use super::message::ReceivedMessage;
use super::utf8::Utf8Progress;
use crate::bulk::AssemblyBuffer;
use crate::spares::Spares;

/// The message that is under way.
#[derive(Debug)]
pub(super) struct Assembly {
    bytes: AssemblyBuffer,
    /// `None`: binary.
    text: Option<Utf8Progress>,
    /// Frames that have begun.
    pub(super) fragments: u32,
}

impl Assembly {
    /// A message whose first frame is of `kind`.
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            bytes: AssemblyBuffer::default(),
            text: (kind == Kind::Text).then(Utf8Progress::default),
            fragments: 0,
        }
    }

    /// Bytes of payload that have arrived.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of memory that are held for the payload.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Makes room for `len` bytes that have arrived; the frame's header claims that `missing` bytes will follow.
    pub(super) fn make_room(&mut self, len: usize, missing: u64, spares: &mut Spares) {
        let needed = self.bytes.len() + len;
        // What is only claimed counts no further than doubling goes anyway.
        spares.grow_message(&mut self.bytes, needed, needed as u64 + missing);
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
            let start = self.bytes.len();
            self.bytes.extend_from_slice(block);
            let appended = &mut self.bytes[start..];
            let is_ascii = match (mask, &self.text) {
                (Some(mask), _) => apply_mask(appended, mask, offset),
                (None, Some(_)) => appended.is_ascii(),
                (None, None) => false,
            };
            if let Some(progress) = &mut self.text {
                progress
                    .check(&self.bytes, block.len(), is_ascii)
                    .map_err(|_| ProtocolError::TextNotUtf8)?;
            }
            offset += block.len() as u64;
        }
        Ok(())
    }

    /// The message, whose last frame is complete.
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

/// What is copied, unmasked and checked at a time: a part of the fastest cache.
const BLOCK_BYTES: usize = 8 * 1024;
