//! The unsent output of one session: owned bytes and ranges of topic logs, in the order of sending. A range refers to
//! the frames of publications, which all members of a topic share. Only [`skip`](Outbound::skip),
//! [`cut_at_log`](Outbound::cut_at_log) and [`clear`](Outbound::clear) drop unsent bytes, and a newer pong replaces a
//! pending one.
//!
//! Three queues own no memory: an empty one; one with a single range of a log, as usual for a member of one topic whose
//! socket accepts all bytes; and one whose bytes are all in the turn's buffer (see `turn_buffer`), as usual for the
//! answer to a message. Owned bytes lie in chunks that grow up to [`CHUNK_BYTES`] (a longer frame has a chunk of its
//! own), so that chunks that were sent are released while others are unsent.

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
    /// All unsent bytes are in the turn's buffer. The flush of the same turn sends them or moves them to `Bytes`.
    Span(Span),
    /// One segment of owned bytes.
    Bytes(Bytes),
    /// One range of a topic's log.
    Range(Range),
    Many(Box<Many>),
}

/// Any number of segments, and the pending pong, if there is one.
#[derive(Debug, Default)]
struct Many {
    segments: VecDeque<Segment>,
    /// Unsent bytes in segments of owned bytes.
    owned_len: usize,
    /// Segments of owned bytes.
    owned_count: usize,
    /// Unsent bytes in ranges of logs.
    log_len: usize,
    /// Segments that are ranges of logs.
    log_count: usize,
    /// The sum of the gaps of all ranges.
    gaps_len: usize,
    /// The pending pong, a complete frame: the newest pong that was pushed while the socket was blocked. Empty if there
    /// is none.
    pong: Vec<u8>,
}

#[derive(Debug)]
enum Segment {
    Bytes(Bytes),
    /// A range, and its gap: the number of bytes before it that the log may retain because an earlier range of the same
    /// topic was unsent when this one was queued; at most [`GAP_MAX`]. It counts as a cost, so that short ranges in
    /// otherwise unsent chunks cannot retain much more memory than the limits allow.
    Range(Range, u32),
}

/// Owned bytes, of which the first `sent` are sent.
#[derive(Debug)]
struct Bytes {
    buf: Buffer,
    sent: usize,
}

/// The unsent bytes `from..to` of a topic's log, which [retains](Topics::hold) them. Not empty.
#[derive(Clone, Copy, Debug)]
struct Range {
    topic: TopicKey,
    /// The number of messages. [`Self::UNCOUNTED`] if a part of the range was sent, or if the number does not fit.
    messages: u32,
    from: u64,
    to: u64,
}

/// Number of messages of a topic that were dropped before their first byte was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Skipped {
    pub(crate) topic: TopicKey,
    pub(crate) messages: u64,
}

impl Outbound {
    /// Returns the number of unsent bytes.
    pub(crate) fn len(&self) -> usize {
        match &self.content {
            Content::Empty => 0,
            Content::Span(span) => span.len(),
            Content::Bytes(bytes) => bytes.len(),
            Content::Range(range) => range.len(),
            Content::Many(many) => many.owned_len + many.log_len + many.pong.len(),
        }
    }

    /// Returns the bytes that count against the limits, except those of publications: the unsent owned bytes, and
    /// [`SEGMENT_COST`] for each segment of owned bytes if there are several segments. The pending pong does not count.
    pub(crate) fn owned_cost(&self) -> usize {
        match &self.content {
            Content::Empty | Content::Range(_) => 0,
            Content::Span(span) => span.len(),
            Content::Bytes(bytes) => bytes.len(),
            Content::Many(many) => many.owned_len + many.owned_count * SEGMENT_COST,
        }
    }

    /// Returns the bytes of publications that count against the limits: the unsent bytes of topic logs, and, if there are
    /// several segments, [`SEGMENT_COST`] and the gap of each range.
    pub(crate) fn log_cost(&self) -> usize {
        match &self.content {
            Content::Empty | Content::Span(_) | Content::Bytes(_) => 0,
            Content::Range(range) => range.len(),
            Content::Many(many) => many.log_len + many.log_count * SEGMENT_COST + many.gaps_len,
        }
    }

    /// Returns what [`log_cost`](Self::log_cost) would be with another range, apart from the length and the gap of that
    /// range.
    pub(crate) fn log_cost_before_range(&self) -> usize {
        let first = match &self.content {
            Content::Range(_) => SEGMENT_COST,
            Content::Empty | Content::Span(_) | Content::Bytes(_) | Content::Many(_) => 0,
        };
        first + self.log_cost() + SEGMENT_COST
    }

    /// As [`log_cost`](Self::log_cost), but only for topics for which `counts` returns true. Iterates over all
    /// segments.
    pub(crate) fn log_cost_of(&self, counts: impl Fn(TopicKey) -> bool) -> usize {
        match &self.content {
            Content::Empty | Content::Span(_) | Content::Bytes(_) => 0,
            Content::Range(range) if counts(range.topic) => range.len(),
            Content::Range(_) => 0,
            Content::Many(many) => {
                let costs = many.segments.iter().map(|segment| match segment {
                    Segment::Range(range, gap) if counts(range.topic) => {
                        range.len() + SEGMENT_COST + *gap as usize
                    }
                    Segment::Range(..) | Segment::Bytes(_) => 0,
                });
                costs.sum()
            }
        }
    }

    /// Returns the sum of [`owned_cost`](Self::owned_cost) and [`log_cost`](Self::log_cost).
    pub(crate) fn cost(&self) -> usize {
        self.owned_cost() + self.log_cost()
    }

    /// Returns whether there are no unsent bytes.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.content, Content::Empty)
    }

    /// Returns the number of unsent bytes in topic logs.
    #[cfg(test)]
    pub(crate) fn log_len(&self) -> usize {
        match &self.content {
            Content::Empty | Content::Span(_) | Content::Bytes(_) => 0,
            Content::Range(range) => range.len(),
            Content::Many(many) => many.log_len,
        }
    }

    /// Returns the number of segments.
    #[cfg(test)]
    pub(crate) fn segments(&self) -> usize {
        match &self.content {
            Content::Empty => 0,
            Content::Span(_) | Content::Bytes(_) | Content::Range(_) => 1,
            Content::Many(many) => many.segments.len(),
        }
    }

    /// Returns the total capacity of the buffers with owned bytes.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        match &self.content {
            Content::Empty | Content::Span(_) | Content::Range(_) => 0,
            Content::Bytes(bytes) => bytes.buf.capacity(),
            Content::Many(many) => {
                let owned = many.segments.iter().map(|segment| match segment {
                    Segment::Bytes(bytes) => bytes.buf.capacity(),
                    Segment::Range(..) => 0,
                });
                owned.sum()
            }
        }
    }

    /// Queues a copy of `header` and `payload`, in the turn's buffer if possible.
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

    /// Queues a message in the turn's buffer, and returns the number of unsent bytes. Returns `None`, and queues
    /// nothing, if the queue has unsent bytes elsewhere, or if the turn's buffer does not have enough space directly
    /// behind the bytes of this queue.
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

    /// Replaces the content, which must own no memory.
    #[inline(always)]
    fn replace_content(&mut self, content: Content) {
        let old = mem::replace(&mut self.content, content);
        debug_assert!(matches!(old, Content::Empty | Content::Span(_)));
        // There is nothing to drop. The drop's check for that would take as long as the rest of this function.
        mem::forget(old);
    }

    /// Returns the span of the turn's buffer that contains all unsent bytes. `None` if they are elsewhere.
    #[inline]
    pub(crate) fn turn_span(&self) -> Option<Span> {
        match &self.content {
            Content::Span(span) => Some(*span),
            Content::Empty | Content::Bytes(_) | Content::Range(_) | Content::Many(_) => None,
        }
    }

    /// Removes the first `len` bytes, which were sent. `span` must be the result of [`turn_span`](Self::turn_span).
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

    /// Queues a copy in a buffer that this queue owns.
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

    /// Moves bytes in the turn's buffer to a buffer that this queue owns. Does nothing for other bytes.
    pub(crate) fn make_owned(&mut self, turn: &mut TurnBuffer, buffers: &mut BufferPool) {
        if let Content::Span(span) = self.content {
            self.content = Content::Bytes(Bytes::new(&[], turn.bytes(span), buffers));
            turn.release(span);
        }
    }

    /// Queues a pong frame. If the socket is blocked, the frame replaces the pending pong, so that pings alone cannot
    /// make the queue grow. RFC 6455 section 5.5.3 allows this: an endpoint "MAY elect to send a Pong frame for only
    /// the most recently processed Ping frame".
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
            // The pending pong is older, so it is queued first.
            self.queue_pong(buffers);
            self.push(frame, &[], turn, buffers);
        }
    }

    /// Queues the bytes of a topic's log that the session has claimed, without a copy. The log retains them until they
    /// are sent or dropped.
    #[inline]
    pub(crate) fn push_range(
        &mut self,
        topic: TopicKey,
        claim: Claim,
        topics: &mut Topics,
        turn: &mut TurnBuffer,
        buffers: &mut BufferPool,
    ) {
        debug_assert!(claim.from < claim.to);
        let range = Range {
            topic,
            messages: u32::try_from(claim.messages).unwrap_or(Range::UNCOUNTED),
            from: claim.from,
            to: claim.to,
        };
        if self.is_empty() {
            topics.hold(topic, range.from, range.to);
            self.replace_content(Content::Range(range));
        } else {
            self.push_range_behind(range, claim.gap, topics, turn, buffers);
        }
    }

    /// Queues a range behind other bytes.
    #[inline(never)]
    fn push_range_behind(
        &mut self,
        range: Range,
        gap: u32,
        topics: &mut Topics,
        turn: &mut TurnBuffer,
        buffers: &mut BufferPool,
    ) {
        let Range {
            topic,
            messages,
            from,
            to,
        } = range;
        let last = match &mut self.content {
            Content::Range(range) => Some(range),
            Content::Many(many) => match many.segments.back_mut() {
                Some(Segment::Range(range, _)) => Some(range),
                Some(Segment::Bytes(_)) | None => None,
            },
            Content::Empty | Content::Span(_) | Content::Bytes(_) => None,
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
        // Without unsent ranges, the log does not retain the bytes in the gap for this queue.
        let gap = if many.log_count > 0 {
            gap.min(GAP_MAX)
        } else {
            0
        };
        many.shrink_last();
        many.push_segment(Segment::Range(range, gap));
    }

    /// Returns the end of the last unsent range of a topic. If it is not among the last [`SCANNED_SEGMENTS_MAX`]
    /// segments, and there are more, returns 0 as the earliest possible end.
    pub(crate) fn unsent_to(&self, topic: TopicKey) -> Option<u64> {
        match &self.content {
            Content::Empty | Content::Span(_) | Content::Bytes(_) => None,
            Content::Range(range) => (range.topic == topic).then_some(range.to),
            Content::Many(many) => {
                let last = many.segments.iter().rev().take(SCANNED_SEGMENTS_MAX);
                let mut ranges = last.filter_map(|segment| match segment {
                    Segment::Range(range, _) if range.topic == topic => Some(range.to),
                    Segment::Range(..) | Segment::Bytes(_) => None,
                });
                let has_more = many.segments.len() > SCANNED_SEGMENTS_MAX;
                ranges.next().or(has_more.then_some(0))
            }
        }
    }

    /// Moves the pending pong, if there is one, to the end of the queue. Must be called before a write, because a write
    /// does not include the pending pong, and before a Close is queued, because no frame may follow a Close.
    pub(crate) fn queue_pong(&mut self, buffers: &mut BufferPool) {
        let Content::Many(many) = &mut self.content else {
            return;
        };
        let pong = mem::take(&mut many.pong);
        if !pong.is_empty() {
            many.push(&pong, &[], buffers);
        }
    }

    /// Returns all unsent bytes if they lie in one slice. `None` if the queue is empty, if the bytes lie in several
    /// slices, or if there are or were several segments.
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

    /// Fills `slices` with the first unsent bytes, at most `len_max` bytes. The pending pong is not included. Returns
    /// the number of filled slices and the number of bytes in them.
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
                        Segment::Range(range, _) => gather.range(*range, topics),
                    }
                    if gather.is_full() {
                        break;
                    }
                }
            }
        }
        (gather.filled, gather.len)
    }

    /// Removes the first `len` bytes, which were sent.
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

    /// Drops all unsent bytes. Takes time proportional to the number of segments and chunks in the queue.
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

    /// Drops the messages of which no byte was sent, of all topics for which `may_skip` returns true. The rest of a
    /// message of which a part was sent stays in the queue, and so do direct messages and other topics. Returns the
    /// topics and the number of dropped messages. A topic can occur several times.
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
                segments: [Segment::Range(range, 0)].into(),
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
                Segment::Range(range, _) if may_skip(topics, range.topic) => {
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

    /// Drops the first publication of which no byte was sent, and all bytes after it, so that the peer receives nothing
    /// that was queued after a missing message. The bytes before it stay in the queue. The pending pong is dropped.
    pub(crate) fn cut_at_log(
        &mut self,
        topics: &mut Topics,
        turn: &mut TurnBuffer,
        buffers: &mut BufferPool,
    ) {
        let segments = match mem::take(&mut self.content) {
            Content::Range(range) => [Segment::Range(range, 0)].into(),
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
                Segment::Range(range, _) => {
                    is_cut = retained.push_rest(range, topics, turn, buffers) > 0;
                }
                segment @ Segment::Bytes(_) => retained.push_segment(segment, turn, buffers),
            }
        }
        *self = retained;
    }

    /// Queues the rest of the message in which `range` begins, if a part of that message was sent, and releases the
    /// other bytes of the range. Returns the number of complete messages in `range`, which are dropped.
    ///
    /// A long rest stays in the log, where all members that lag in the same message share it. A short rest is copied,
    /// because in the log it would retain a complete chunk.
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
            self.push_segment(Segment::Range(rest, 0), turn, buffers);
        } else {
            for rest in topics.slices(topic, from, boundary) {
                self.push_owned(rest, &[], turn, buffers);
            }
        }
        range.release(topics);
        messages
    }

    /// Queues a segment. A range must be held in its log already.
    fn push_segment(&mut self, segment: Segment, turn: &mut TurnBuffer, buffers: &mut BufferPool) {
        match (&self.content, segment) {
            (Content::Empty, Segment::Bytes(bytes)) => self.content = Content::Bytes(bytes),
            (Content::Empty, Segment::Range(range, _)) => self.content = Content::Range(range),
            (_, segment) => self.many(turn, buffers).push_segment(segment),
        }
    }

    /// Converts the content to [`Content::Many`], to which any segment can be added.
    fn many(&mut self, turn: &mut TurnBuffer, buffers: &mut BufferPool) -> &mut Many {
        self.make_owned(turn, buffers);
        if !matches!(self.content, Content::Many(_)) {
            let mut many = Box::new(Many::default());
            match mem::take(&mut self.content) {
                Content::Empty | Content::Span(_) | Content::Many(_) => {}
                Content::Bytes(bytes) => many.push_segment(Segment::Bytes(bytes)),
                Content::Range(range) => many.push_segment(Segment::Range(range, 0)),
            }
            self.content = Content::Many(many);
        }
        match &mut self.content {
            Content::Many(many) => many,
            _ => unreachable!("the content was converted above"),
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
            Segment::Range(range, gap) => {
                self.log_len += range.len();
                self.log_count += 1;
                self.gaps_len += *gap as usize;
            }
        }
        self.segments.push_back(segment);
    }

    /// Shrinks the capacity of the last segment to its length, if it uses less than half of its capacity. Called before
    /// another segment is added behind it. Otherwise each of many small messages between publications would retain the
    /// capacity for a larger one.
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
                Segment::Range(range, gap) => {
                    let taken = len.min(range.len());
                    range.advance(taken, topics);
                    self.log_len -= taken;
                    // All earlier ranges are sent.
                    self.gaps_len -= mem::take(gap) as usize;
                    self.log_count -= usize::from(range.len() == 0);
                    (taken, range.len() == 0)
                }
            };
            debug_assert!(self.log_count > 0 || (self.log_len, self.gaps_len) == (0, 0));
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

    /// Returns the number of unsent bytes.
    fn len(&self) -> usize {
        self.buf.len() - self.sent
    }

    fn is_sent(&self) -> bool {
        self.sent == self.buf.len()
    }

    fn unsent(&self) -> &[u8] {
        &self.buf[self.sent..]
    }

    /// Returns whether `len` more bytes fit into the chunk.
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
    /// In [`Range::messages`]: the messages were not counted.
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

    /// Releases the range's bytes in the log.
    fn release(self, topics: &mut Topics) {
        topics.release(self.topic, self.from, self.to, self.to);
    }
}

impl Segment {
    fn release(self, topics: &mut Topics, buffers: &mut BufferPool) {
        match self {
            Self::Bytes(bytes) => buffers.put(bytes.buf),
            Self::Range(range, _) => range.release(topics),
        }
    }
}

/// The slices for one write, while they are collected.
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

/// Minimum bytes of the rest of a message that stays in its log when the member skips messages or is closed because of
/// its lag: an eighth of a chunk. A shorter rest is copied.
const SHARED_REST_BYTES_MIN: u64 = (CHUNK_BYTES / 8) as u64;

/// Maximum gap of a range: a range retains at most this many bytes before it, the rest of its first chunk. (A chunk that
/// is larger is a single frame.)
pub(crate) const GAP_MAX: u32 = CHUNK_BYTES as u32;

/// Maximum segments that [`Outbound::unsent_to`] looks at, because a peer can make a session join topics often: to look
/// at so many takes less than a microsecond.
const SCANNED_SEGMENTS_MAX: usize = 256;

/// Bytes of memory of a segment in addition to its unsent bytes: its entry in the queue, twice because the queue's
/// capacity can be twice its length, and for owned bytes the overhead of an allocation. Counted against the limits, so
/// that small messages of alternating topics cannot occupy more memory than the limits allow.
pub(crate) const SEGMENT_COST: usize = 128;
