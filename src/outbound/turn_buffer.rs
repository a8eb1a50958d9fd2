//! One buffer for what a turn queues: most messages are written in the turn in which they were sent, so their bytes need no
//! buffer of their own.
//!
//! A queue that is empty puts its first bytes here, and remembers where they are. They stay until the queue is flushed, in
//! the flush phase of the same turn; what the stream did not take is moved to a buffer of the queue's own.

use crate::proto::ShortHeader;

/// See the module.
#[derive(Debug)]
pub(crate) struct TurnBuffer {
    bytes: Box<[u8]>,
    /// How much of it is used.
    len: usize,
    /// Queues that have bytes here.
    users: usize,
}

/// The bytes of one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

impl TurnBuffer {
    pub(crate) fn new() -> Self {
        Self {
            bytes: vec![0; TURN_BYTES_MAX].into(),
            len: 0,
            users: 0,
        }
    }

    /// Appends `header` and `payload` for a queue that has nothing here, if there is room. The queue has to [`release`]
    /// the span.
    ///
    /// [`release`]: Self::release
    #[inline]
    pub(super) fn append(&mut self, header: &[u8], payload: &[u8]) -> Option<Span> {
        let start = self.len as u32;
        let end = self.extend_bytes(header, payload)?;
        self.users += 1;
        Some(Span { start, end })
    }

    /// The same for the frame of a message, for a queue that may have something here; then it has to be the last.
    #[inline(always)]
    pub(super) fn append_frame(
        &mut self,
        span: Option<Span>,
        header: ShortHeader,
        payload: &[u8],
    ) -> Option<Span> {
        let start = match span {
            Some(span) if span.end as usize == self.len => span.start,
            Some(_) => return None,
            None => self.len as u32,
        };
        let free = self.bytes.get_mut(self.len..)?;
        if free.len() < header.bytes.len() + payload.len() {
            return None;
        }
        // The header may be shorter; then the payload follows where it ends.
        let frame_len = header.len + payload.len();
        free[..header.bytes.len()].copy_from_slice(&header.bytes);
        copy(payload, &mut free[header.len..frame_len]);
        self.len += frame_len;
        self.users += usize::from(span.is_none());
        let end = self.len as u32;
        Some(Span { start, end })
    }

    #[inline]
    fn extend_bytes(&mut self, header: &[u8], payload: &[u8]) -> Option<u32> {
        let free = &mut self.bytes[self.len..];
        let len = header.len() + payload.len();
        if len > free.len() {
            return None;
        }
        free[..header.len()].copy_from_slice(header);
        free[header.len()..len].copy_from_slice(payload);
        self.len += len;
        Some(self.len as u32)
    }

    /// Appends to a span, if it is the last one and there is room. Returns whether it did.
    #[inline]
    pub(super) fn extend(&mut self, span: &mut Span, header: &[u8], payload: &[u8]) -> bool {
        if span.end as usize != self.len {
            return false;
        }
        match self.extend_bytes(header, payload) {
            Some(end) => span.end = end,
            None => return false,
        }
        true
    }

    /// Ends the use of a span.
    #[inline]
    pub(super) fn release(&mut self, _: Span) {
        self.users -= 1;
    }

    /// Whether a queue has bytes here.
    pub(crate) fn is_in_use(&self) -> bool {
        self.users > 0
    }

    #[inline]
    pub(crate) fn bytes(&self, span: Span) -> &[u8] {
        &self.bytes[span.start as usize..span.end as usize]
    }

    /// Forgets all bytes. No queue may have any here.
    pub(crate) fn clear(&mut self) {
        debug_assert!(!self.is_in_use());
        self.len = 0;
    }
}

/// Copies `from` to `to`, which has the same length. A short payload is copied without a call: in two pieces, which overlap.
#[inline(always)]
fn copy(from: &[u8], to: &mut [u8]) {
    if let (Some(first), Some(last)) = (from.first_chunk(), from.last_chunk())
        && from.len() <= 2 * SHORT_BYTES
        && to.len() == from.len()
    {
        if let Some(to) = to.first_chunk_mut::<SHORT_BYTES>() {
            *to = *first;
        }
        if let Some(to) = to.last_chunk_mut::<SHORT_BYTES>() {
            *to = *last;
        }
    } else {
        to.copy_from_slice(from);
    }
}

const SHORT_BYTES: usize = 16;

impl Span {
    pub(crate) fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Removes the first `len` bytes, which were sent.
    pub(super) fn advance(&mut self, len: usize) {
        self.start += len as u32;
        debug_assert!(self.start <= self.end);
    }
}

/// Room for the small answers of a turn, in a part of the processor's second cache. Larger answers than this, and those
/// for which there is no room, have buffers of their own.
const TURN_BYTES_MAX: usize = 64 * 1024;
