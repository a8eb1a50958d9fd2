//! The unsent output of one session: owned bytes and ranges of topic logs, in the order of sending. Nothing is dropped
//! unless a method says so.
//!
//! An empty queue owns no memory, and neither does one that holds a single range of a log, the usual case for a member
//! that keeps up, or bytes of this turn, the usual case for an answer. Owned bytes lie in chunks of [`CHUNK_BYTES`], so that those sent are released while the others wait.

use super::CHUNK_BYTES;
use super::topics::{Claim, TopicKey, Topics};
use super::turn_buffer::{Span, TurnBuffer};
use crate::buffer::Buffer;
use crate::buffer::BufferPool;
use crate::proto::ShortHeader;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem;

/// The queue of one session.
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    content: Content,
}

#[derive(Debug, Default)]
enum Content {
    #[default]
    Empty,
    /// In the buffer of this turn; only until the queue is flushed.
    Span(Span),
    Bytes(Bytes),
    Range(Range),
    Many(Box<Many>),
}

/// More than one segment, or a pong that waits.
#[derive(Debug, Default)]
struct Many {
    segments: VecDeque<Segment>,
    /// Unsent bytes in owned segments.
    owned_len: usize,
    owned_count: usize,
    /// Unsent bytes in ranges of logs.
    log_len: usize,
    log_count: usize,
    /// The newest pong that waits while the peer takes nothing; a whole frame, or empty.
    pong: Vec<u8>,
}

#[derive(Debug)]
enum Segment {
    Bytes(Bytes),
    Range(Range),
}

/// Owned bytes, of which the first `sent` are sent.
#[derive(Debug)]
struct Bytes {
    buf: Buffer,
    sent: usize,
}

/// The unsent bytes `from..to` of a topic's log, which the log holds; not empty.
#[derive(Clone, Copy, Debug)]
struct Range {
    topic: TopicKey,
    /// The number of messages, or [`Self::UNCOUNTED`] if a part is sent.
    messages: u32,
    from: u64,
    to: u64,
}

/// Whole messages of a topic that were dropped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Skipped {
    pub(crate) topic: TopicKey,
    pub(crate) messages: u64,
}

impl Outbound {
    /// Unsent bytes.
    pub(crate) fn len(&self) -> usize {
        match &self.content {
            Content::Empty => 0,
            Content::Span(span) => span.len(),
            Content::Bytes(bytes) => bytes.len(),
            Content::Range(range) => range.len(),
            Content::Many(many) => many.owned_len + many.log_len + many.pong.len(),
        }
    }

    /// Unsent owned bytes, and [`SEGMENT_COST`] for each segment that they lie in: what direct messages cost.
    pub(crate) fn owned_cost(&self) -> usize {
        match &self.content {
            Content::Empty | Content::Range(_) => 0,
            Content::Span(span) => span.len(),
            Content::Bytes(bytes) => bytes.len(),
            Content::Many(many) => many.owned_len + many.owned_count * SEGMENT_COST,
        }
    }

    /// Unsent bytes of topic logs, and [`SEGMENT_COST`] for each range of them: what publications cost.
    pub(crate) fn log_cost(&self) -> usize {
        match &self.content {
            Content::Empty | Content::Span(_) | Content::Bytes(_) => 0,
            Content::Range(range) => range.len(),
            Content::Many(many) => many.log_len + many.log_count * SEGMENT_COST,
        }
    }

    /// Returns the part of [`log_cost`](Self::log_cost) that the topics have for which `counts` is true. Walks over all
    /// segments.
    pub(crate) fn log_cost_of(&self, counts: impl Fn(TopicKey) -> bool) -> usize {
        match &self.content {
            Content::Empty | Content::Span(_) | Content::Bytes(_) => 0,
            Content::Range(range) if counts(range.topic) => range.len(),
            Content::Range(_) => 0,
            Content::Many(many) => {
                let costs = many.segments.iter().map(|segment| match segment {
                    Segment::Range(range) if counts(range.topic) => range.len() + SEGMENT_COST,
                    Segment::Range(_) | Segment::Bytes(_) => 0,
                });
                costs.sum()
            }
        }
    }

    /// Both together.
    pub(crate) fn cost(&self) -> usize {
        self.owned_cost() + self.log_cost()
    }

    /// Whether nothing is queued.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.content, Content::Empty)
    }

    /// Unsent bytes of topic logs.
    #[cfg(test)]
    pub(crate) fn log_len(&self) -> usize {
        match &self.content {
            Content::Empty | Content::Span(_) | Content::Bytes(_) => 0,
            Content::Range(range) => range.len(),
            Content::Many(many) => many.log_len,
        }
    }

    /// The number of segments.
    #[cfg(test)]
    pub(crate) fn segments(&self) -> usize {
        match &self.content {
            Content::Empty => 0,
            Content::Span(_) | Content::Bytes(_) | Content::Range(_) => 1,
            Content::Many(many) => many.segments.len(),
        }
    }

    /// Bytes owned, as the allocator sees them, without topic logs.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        match &self.content {
            Content::Empty | Content::Span(_) | Content::Range(_) => 0,
            Content::Bytes(bytes) => bytes.buf.capacity(),
            Content::Many(many) => {
                let owned = many.segments.iter().map(|segment| match segment {
                    Segment::Bytes(bytes) => bytes.buf.capacity(),
                    Segment::Range(_) => 0,
                });
                owned.sum()
            }
        }
    }

    /// Queues a copy of `header` and `payload`.
    #[inline]
    pub(crate) fn push(
        &mut self,
        header: &[u8],
        payload: &[u8],
        turn: &mut TurnBuffer,
        buffers: &mut BufferPool,
    ) {
        if header.is_empty() && payload.is_empty() {
            return;
        }
        match &mut self.content {
            Content::Empty => {
                if let Some(span) = turn.append(header, payload) {
                    self.content = Content::Span(span);
                    return;
                }
            }
            Content::Span(span) => {
                if turn.extend(span, header, payload) {
                    return;
                }
            }
            Content::Bytes(_) | Content::Range(_) | Content::Many(_) => {}
        }
        self.push_owned(header, payload, turn, buffers);
    }

    /// Queues a message in the turn's buffer. Returns the number of unsent bytes, or `None`, and nothing is queued, if that
    /// is not possible.
    #[inline(always)]
    pub(crate) fn push_in_turn(
        &mut self,
        header: ShortHeader,
        payload: &[u8],
        turn: &mut TurnBuffer,
    ) -> Option<usize> {
        let span = self.turn_span();
        if span.is_none() && !self.is_empty() {
            return None;
        }
        let span = turn.append_frame(span, header, payload)?;
        self.replace_content(Content::Span(span));
        Some(span.len())
    }

    /// Replaces content that owns nothing.
    #[inline(always)]
    fn replace_content(&mut self, content: Content) {
        let old = mem::replace(&mut self.content, content);
        debug_assert!(matches!(old, Content::Empty | Content::Span(_)));
        // There is nothing to drop, and to find that out takes as long as the rest.
        mem::forget(old);
    }

    /// Returns the place of all unsent bytes in the turn's buffer, if they are there.
    #[inline]
    pub(crate) fn turn_span(&self) -> Option<Span> {
        match &self.content {
            Content::Span(span) => Some(*span),
            Content::Empty | Content::Bytes(_) | Content::Range(_) | Content::Many(_) => None,
        }
    }

    /// Removes the first `len` bytes, which were sent, of those [in the turn's buffer](Self::turn_span).
    #[inline(always)]
    pub(crate) fn advance_in_turn(&mut self, mut span: Span, len: usize, turn: &mut TurnBuffer) {
        debug_assert_eq!(self.turn_span(), Some(span));
        self.replace_content(if len == span.len() {
            turn.release(span);
            Content::Empty
        } else {
            span.advance(len);
            Content::Span(span)
        });
    }

    /// Queues a copy in a buffer of the queue's own.
    #[inline(never)]
    fn push_owned(
        &mut self,
        header: &[u8],
        payload: &[u8],
        turn: &mut TurnBuffer,
        buffers: &mut BufferPool,
    ) {
        self.make_owned(turn, buffers);
        let len = header.len() + payload.len();
        match &mut self.content {
            Content::Empty => self.content = Content::Bytes(Bytes::new(header, payload, buffers)),
            Content::Bytes(bytes) if bytes.fits(len) => bytes.append(header, payload, buffers),
            _ => self.many(turn, buffers).push(header, payload, buffers),
        }
    }

    /// Moves bytes from the turn's buffer to one of the queue's own.
    pub(crate) fn make_owned(&mut self, turn: &mut TurnBuffer, buffers: &mut BufferPool) {
        if let Content::Span(span) = self.content {
            self.content = Content::Bytes(Bytes::new(&[], turn.bytes(span), buffers));
            turn.release(span);
        }
    }

    /// Queues a pong: at once if the peer takes bytes, else in place of the pong that waits (section 5.5.3 of RFC 6455:
    /// an endpoint "MAY elect to send a Pong frame for only the most recently processed Ping frame"), so that pings alone
    /// cannot make this queue grow.
    pub(crate) fn push_pong(
        &mut self,
        frame: &[u8],
        is_blocked: bool,
        turn: &mut TurnBuffer,
        buffers: &mut BufferPool,
    ) {
        if is_blocked {
            let pong = &mut self.many(turn, buffers).pong;
            pong.clear();
            pong.extend_from_slice(frame);
        } else {
            // The pong that waits is the older one.
            self.queue_pong(buffers);
            self.push(frame, &[], turn, buffers);
        }
    }

    /// Queues claimed bytes of a topic's log, which stay there until they are sent.
    pub(crate) fn push_range(
        &mut self,
        topic: TopicKey,
        claim: Claim,
        topics: &mut Topics,
        turn: &mut TurnBuffer,
        buffers: &mut BufferPool,
    ) {
        let Claim { from, to, messages } = claim;
        debug_assert!(from < to);
        let messages = u32::try_from(messages).unwrap_or(Range::UNCOUNTED);
        let range = Range {
            topic,
            messages,
            from,
            to,
        };
        let last = match &mut self.content {
            Content::Empty => {
                topics.hold(topic, from, to);
                self.content = Content::Range(range);
                return;
            }
            Content::Range(range) => Some(range),
            Content::Many(many) => match many.segments.back_mut() {
                Some(Segment::Range(range)) => Some(range),
                Some(Segment::Bytes(_)) | None => None,
            },
            Content::Span(_) | Content::Bytes(_) => None,
        };
        if let Some(last) = last
            && (last.topic, last.to) == (topic, from)
        {
            topics.extend_hold(topic, from, to);
            last.to = to;
            // Saturates at `UNCOUNTED`.
            last.messages = last.messages.saturating_add(messages);
            if let Content::Many(many) = &mut self.content {
                many.log_len += (to - from) as usize;
            }
            return;
        }
        topics.hold(topic, from, to);
        let many = self.many(turn, buffers);
        many.log_len += (to - from) as usize;
        many.log_count += 1;
        many.shrink_last();
        many.segments.push_back(Segment::Range(range));
    }

    /// Moves the pong that waits to the end of the queue; to be called when the peer takes bytes again.
    pub(crate) fn queue_pong(&mut self, buffers: &mut BufferPool) {
        let Content::Many(many) = &mut self.content else {
            return;
        };
        let pong = mem::take(&mut many.pong);
        if !pong.is_empty() {
            many.push(&pong, &[], buffers);
        }
    }

    /// The first unsent bytes, as many as lie in one piece; `None` if there are several segments.
    #[inline]
    pub(crate) fn as_single_slice<'a>(
        &'a self,
        topics: &'a Topics,
        turn: &'a TurnBuffer,
    ) -> Option<&'a [u8]> {
        match &self.content {
            Content::Span(span) => Some(turn.bytes(*span)),
            Content::Bytes(bytes) => Some(bytes.unsent()),
            Content::Range(Range {
                topic, from, to, ..
            }) => {
                let slice = topics.first_slice(*topic, *from, *to);
                (slice.len() as u64 == to - from).then_some(slice)
            }
            Content::Empty | Content::Many(_) => None,
        }
    }

    /// Fills `slices` with the first unsent bytes, at most `len_max` of them. Returns the number of slices and of bytes.
    pub(crate) fn gather<'a>(
        &'a self,
        topics: &'a Topics,
        turn: &'a TurnBuffer,
        slices: &mut [IoSlice<'a>],
        len_max: usize,
    ) -> (usize, usize) {
        let mut gather = Gather {
            slices,
            filled: 0,
            len: 0,
            len_max,
        };
        match &self.content {
            Content::Empty => {}
            Content::Span(span) => gather.bytes(turn.bytes(*span)),
            Content::Bytes(bytes) => gather.bytes(bytes.unsent()),
            Content::Range(range) => gather.range(*range, topics),
            Content::Many(many) => {
                for segment in &many.segments {
                    match segment {
                        Segment::Bytes(bytes) => gather.bytes(bytes.unsent()),
                        Segment::Range(range) => gather.range(*range, topics),
                    }
                    if gather.is_full() {
                        break;
                    }
                }
            }
        }
        (gather.filled, gather.len)
    }

    /// Removes the first `len` unsent bytes, which were sent.
    #[inline]
    pub(crate) fn advance(
        &mut self,
        len: usize,
        topics: &mut Topics,
        turn: &mut TurnBuffer,
        buffers: &mut BufferPool,
    ) {
        debug_assert!(len <= self.len());
        let is_sent = match &mut self.content {
            Content::Empty => false,
            Content::Span(span) => {
                span.advance(len);
                if span.len() == 0 {
                    turn.release(*span);
                    self.content = Content::Empty;
                }
                return;
            }
            Content::Bytes(bytes) => {
                bytes.sent += len;
                bytes.is_sent()
            }
            Content::Range(range) => {
                range.advance(len, topics);
                range.len() == 0
            }
            Content::Many(many) => {
                many.advance(len, topics, buffers);
                many.segments.is_empty() && many.pong.is_empty()
            }
        };
        if is_sent && let Content::Bytes(bytes) = mem::take(&mut self.content) {
            buffers.put(bytes.buf);
        }
    }

    /// Drops everything. Costs as much as there are segments and chunks in the queue.
    pub(crate) fn clear(
        &mut self,
        topics: &mut Topics,
        turn: &mut TurnBuffer,
        buffers: &mut BufferPool,
    ) {
        match mem::take(&mut self.content) {
            Content::Empty => {}
            Content::Span(span) => turn.release(span),
            Content::Bytes(bytes) => buffers.put(bytes.buf),
            Content::Range(range) => range.release(topics),
            Content::Many(many) => {
                for segment in many.segments {
                    segment.release(topics, buffers);
                }
            }
        }
    }

    /// Drops the whole messages, of topics of which `may_skip` is true, of which no byte is sent. The rest of a message
    /// whose first bytes are sent stays, and so does everything else. Returns how many messages of which topics were
    /// dropped; a topic can occur several times.
    pub(crate) fn skip(
        &mut self,
        may_skip: impl Fn(&Topics, TopicKey) -> bool,
        topics: &mut Topics,
        turn: &mut TurnBuffer,
        buffers: &mut BufferPool,
    ) -> Vec<Skipped> {
        let mut skipped = Vec::new();
        let mut retained = Self::default();
        let many = match mem::take(&mut self.content) {
            Content::Range(range) => Many {
                segments: [Segment::Range(range)].into(),
                ..Many::default()
            },
            Content::Many(many) => *many,
            content @ (Content::Empty | Content::Span(_) | Content::Bytes(_)) => {
                self.content = content;
                return skipped;
            }
        };
        for segment in many.segments {
            match segment {
                Segment::Range(range) if may_skip(topics, range.topic) => {
                    let messages = retained.push_rest(range, topics, turn, buffers);
                    if messages > 0 {
                        let topic = range.topic;
                        skipped.push(Skipped { topic, messages });
                    }
                }
                segment => retained.push_segment(segment, turn, buffers),
            }
        }
        if !many.pong.is_empty() {
            retained.many(turn, buffers).pong = many.pong;
        }
        *self = retained;
        skipped
    }

    /// Drops everything from the first whole message of a topic's log on, so that nothing is sent that would hide the
    /// gap. What was queued before it stays.
    pub(crate) fn cut_at_log(
        &mut self,
        topics: &mut Topics,
        turn: &mut TurnBuffer,
        buffers: &mut BufferPool,
    ) {
        let segments = match mem::take(&mut self.content) {
            Content::Range(range) => [Segment::Range(range)].into(),
            Content::Many(many) => many.segments,
            content @ (Content::Empty | Content::Span(_) | Content::Bytes(_)) => {
                self.content = content;
                return;
            }
        };
        let mut retained = Self::default();
        let mut is_cut = false;
        for segment in segments {
            match segment {
                segment if is_cut => segment.release(topics, buffers),
                Segment::Range(range) => {
                    retained.push_rest(range, topics, turn, buffers);
                    is_cut = true;
                }
                segment @ Segment::Bytes(_) => retained.push_segment(segment, turn, buffers),
            }
        }
        *self = retained;
    }

    /// Queues the rest of the message that `range` begins inside of, if there is one, and releases the other bytes of the
    /// range. Returns the number of whole messages that were in it. A long rest stays in the log, where all members that
    /// lag in the same message share it. A short rest is copied, because in the log it would retain a whole chunk.
    fn push_rest(
        &mut self,
        range: Range,
        topics: &mut Topics,
        turn: &mut TurnBuffer,
        buffers: &mut BufferPool,
    ) -> u64 {
        let Range {
            topic, from, to, ..
        } = range;
        if range.messages != Range::UNCOUNTED {
            range.release(topics);
            return range.messages.into();
        }
        let boundary = topics.frame_boundary(topic, from).min(to);
        let messages = topics.messages(topic, boundary, to);
        if boundary - from >= SHARED_REST_BYTES_MIN {
            topics.hold(topic, from, boundary);
            let rest = Range {
                to: boundary,
                ..range
            };
            self.push_segment(Segment::Range(rest), turn, buffers);
        } else {
            for rest in topics.slices(topic, from, boundary) {
                self.push_owned(rest, &[], turn, buffers);
            }
        }
        range.release(topics);
        messages
    }

    /// Queues a segment, which holds what it refers to.
    fn push_segment(&mut self, segment: Segment, turn: &mut TurnBuffer, buffers: &mut BufferPool) {
        match (&self.content, segment) {
            (Content::Empty, Segment::Bytes(bytes)) => self.content = Content::Bytes(bytes),
            (Content::Empty, Segment::Range(range)) => self.content = Content::Range(range),
            (_, segment) => self.many(turn, buffers).push_segment(segment),
        }
    }

    /// The form of the queue that takes any segment.
    fn many(&mut self, turn: &mut TurnBuffer, buffers: &mut BufferPool) -> &mut Many {
        self.make_owned(turn, buffers);
        if !matches!(self.content, Content::Many(_)) {
            let mut many = Box::new(Many::default());
            match mem::take(&mut self.content) {
                Content::Empty | Content::Span(_) | Content::Many(_) => {}
                Content::Bytes(bytes) => many.push_segment(Segment::Bytes(bytes)),
                Content::Range(range) => many.push_segment(Segment::Range(range)),
            }
            self.content = Content::Many(many);
        }
        match &mut self.content {
            Content::Many(many) => many,
            _ => unreachable!("made so above"),
        }
    }
}

impl Many {
    fn push(&mut self, header: &[u8], payload: &[u8], buffers: &mut BufferPool) {
        let len = header.len() + payload.len();
        self.owned_len += len;
        if let Some(Segment::Bytes(last)) = self.segments.back_mut()
            && last.fits(len)
        {
            last.append(header, payload, buffers);
            return;
        }
        self.owned_count += 1;
        self.shrink_last();
        let bytes = Bytes::new(header, payload, buffers);
        self.segments.push_back(Segment::Bytes(bytes));
    }

    fn push_segment(&mut self, segment: Segment) {
        match &segment {
            Segment::Bytes(bytes) => {
                self.owned_len += bytes.len();
                self.owned_count += 1;
            }
            Segment::Range(range) => {
                self.log_len += range.len();
                self.log_count += 1;
            }
        }
        self.segments.push_back(segment);
    }

    /// Gives the last segment, behind which another is about to be queued, no more room than it needs, if it uses less than
    /// half of it: many small messages between publications would each keep the room for a large one.
    fn shrink_last(&mut self) {
        if let Some(Segment::Bytes(bytes)) = self.segments.back_mut()
            && bytes.len() < bytes.buf.capacity() / 2
        {
            let rest = bytes.unsent().to_vec();
            *bytes = Bytes {
                buf: rest.into(),
                sent: 0,
            };
        }
    }

    fn advance(&mut self, mut len: usize, topics: &mut Topics, buffers: &mut BufferPool) {
        while len > 0
            && let Some(segment) = self.segments.front_mut()
        {
            let (taken, is_sent) = match segment {
                Segment::Bytes(bytes) => {
                    let taken = len.min(bytes.len());
                    bytes.sent += taken;
                    self.owned_len -= taken;
                    self.owned_count -= usize::from(bytes.is_sent());
                    (taken, bytes.is_sent())
                }
                Segment::Range(range) => {
                    let taken = len.min(range.len());
                    range.advance(taken, topics);
                    self.log_len -= taken;
                    self.log_count -= usize::from(range.len() == 0);
                    (taken, range.len() == 0)
                }
            };
            len -= taken;
            if is_sent && let Some(Segment::Bytes(bytes)) = self.segments.pop_front() {
                buffers.put(bytes.buf);
            }
        }
    }
}

impl Bytes {
    fn new(header: &[u8], payload: &[u8], buffers: &mut BufferPool) -> Self {
        let mut buf = buffers.take(header.len() + payload.len());
        buf.extend_from_slice(header);
        buf.extend_from_slice(payload);
        Self { buf, sent: 0 }
    }

    /// Unsent bytes.
    fn len(&self) -> usize {
        self.buf.len() - self.sent
    }

    fn is_sent(&self) -> bool {
        self.sent == self.buf.len()
    }

    fn unsent(&self) -> &[u8] {
        &self.buf[self.sent..]
    }

    /// Whether `len` more bytes keep the buffer within a chunk.
    fn fits(&self, len: usize) -> bool {
        self.buf.len() + len <= CHUNK_BYTES
    }

    fn append(&mut self, header: &[u8], payload: &[u8], buffers: &mut BufferPool) {
        let needed = self.buf.len() + header.len() + payload.len();
        if needed > self.buf.capacity() {
            let mut larger = buffers.take(needed);
            larger.extend_from_slice(&self.buf);
            buffers.put(mem::replace(&mut self.buf, larger));
        }
        self.buf.extend_from_slice(header);
        self.buf.extend_from_slice(payload);
    }
}

impl Range {
    const UNCOUNTED: u32 = u32::MAX;

    fn len(&self) -> usize {
        (self.to - self.from) as usize
    }

    /// Removes the first `len` bytes, which were sent.
    fn advance(&mut self, len: usize, topics: &mut Topics) {
        let from = self.from;
        self.from += len as u64;
        self.messages = Self::UNCOUNTED;
        topics.release(self.topic, from, self.from, self.to);
    }

    /// Releases all bytes in the log.
    fn release(self, topics: &mut Topics) {
        topics.release(self.topic, self.from, self.to, self.to);
    }
}

impl Segment {
    fn release(self, topics: &mut Topics, buffers: &mut BufferPool) {
        match self {
            Self::Bytes(bytes) => buffers.put(bytes.buf),
            Self::Range(range) => range.release(topics),
        }
    }
}

/// Slices for one write.
struct Gather<'a, 's> {
    slices: &'s mut [IoSlice<'a>],
    filled: usize,
    len: usize,
    len_max: usize,
}

impl<'a> Gather<'a, '_> {
    fn is_full(&self) -> bool {
        self.filled == self.slices.len() || self.len == self.len_max
    }

    fn bytes(&mut self, bytes: &'a [u8]) {
        let len = bytes.len().min(self.len_max - self.len);
        if let Some(slice) = self.slices.get_mut(self.filled)
            && len > 0
        {
            *slice = IoSlice::new(&bytes[..len]);
            self.filled += 1;
            self.len += len;
        }
    }

    fn range(&mut self, range: Range, topics: &'a Topics) {
        for slice in topics.slices(range.topic, range.from, range.to) {
            if self.is_full() {
                return;
            }
            self.bytes(slice);
        }
    }
}

/// Minimum bytes of the rest of a message that stays in its log when its member skips or is disconnected: an eighth of a
/// chunk.
const SHARED_REST_BYTES_MIN: u64 = (CHUNK_BYTES / 8) as u64;

/// What a segment costs beside its bytes: its place in the queue, which may have room for as many again, and for owned
/// bytes an allocation. Counted against the limits, so that tiny messages of many topics in turns cannot cost more than
/// the limits say.
const SEGMENT_COST: usize = 128;
