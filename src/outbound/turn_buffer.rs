//! One buffer for the bytes that all sessions queue in one turn of the loop. Most messages are written to the socket in
//! the turn in which they were sent, so their queues need no memory of their own.
//!
//! An empty queue copies its first bytes into this buffer, and stores their span. They stay in the buffer until the
//! queue is flushed, in the flush phase of the same turn. Bytes that the socket did not accept are then moved to a
//! buffer that the queue owns.

use crate::proto::ShortHeader;

/// The turn's buffer: see the module.
#[derive(Debug)]
pub(crate) struct TurnBuffer {
    bytes: Box<[u8]>,
    /// The number of bytes used.
    len: usize,
    /// The number of queues that have a span.
    users: usize,
}

/// The range of the buffer with the bytes of one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

impl TurnBuffer {
    /// Returns an empty buffer of [`TURN_BYTES_MAX`] bytes.
    pub(crate) fn new() -> Self {
        Self {
            bytes: vec![0; TURN_BYTES_MAX].into(),
            len: 0,
            users: 0,
        }
    }

    /// Appends `header` and `payload` for a queue without a span. The queue must [`release`](Self::release) the
    /// returned span. `None` if there is not enough space.
    #[inline]
    pub(super) fn append(&mut self, header: &[u8], payload: &[u8]) -> Option<Span> {
        let start = self.len as u32;
        let end = self.extend_bytes(header, payload)?;
        self.users += 1;
        Some(Span { start, end })
    }

    /// Appends the frame of a message for a queue with or without a span. `None` if there is not enough space, or if
    /// `span` is not the last one in the buffer.
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
        // Four bytes are copied also for a shorter header. The payload then overwrites those behind it.
        let frame_len = header.len + payload.len();
        free[..header.bytes.len()].copy_from_slice(&header.bytes);
        copy(payload, &mut free[header.len..frame_len]);
        self.len += frame_len;
        self.users += usize::from(span.is_none());
        let end = self.len as u32;
        Some(Span { start, end })
    }

    /// Appends bytes. Returns where they end. `None` if there is not enough space.
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

    /// Appends to a span, if it is the last one and there is enough space. Returns whether the bytes were appended.
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

    /// Ends the use of a span by its queue.
    #[inline]
    pub(super) fn release(&mut self, _: Span) {
        self.users -= 1;
    }

    /// Returns whether a queue has a span.
    pub(crate) fn is_in_use(&self) -> bool {
        self.users > 0
    }

    /// Returns the bytes of a span.
    #[inline]
    pub(crate) fn bytes(&self, span: Span) -> &[u8] {
        &self.bytes[span.start as usize..span.end as usize]
    }

    /// Removes all bytes. No queue may have a span.
    pub(crate) fn clear(&mut self) {
        debug_assert!(!self.is_in_use());
        self.len = 0;
    }
}

/// Copies `from` to `to`, which has the same length. A payload of 16 to 32 bytes is copied without a function call,
/// as its first and its last 16 bytes, which overlap below 32.
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

/// Bytes of each of these pieces.
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

/// Size of the buffer: enough for the small answers of one turn, and small enough to stay in the processor's
/// second-level cache. Messages for which there is not enough space are queued in buffers that their queues own.
const TURN_BYTES_MAX: usize = 64 * 1024;
