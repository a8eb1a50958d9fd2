//! What a session still owes its peer: owned bytes and ranges of topic logs, in the order of their sending, and
//! how many bytes that is. Nothing here writes to a socket, and nothing is dropped without being asked to.
//!
//! An empty queue owns no memory. Owned bytes lie in chunks of [`CHUNK_BYTES`], so that what was sent is given
//! back while the rest waits; a range of a log costs the same however long it is.

mod log;
mod topics;

pub(crate) use topics::{TopicKey, Topics};

use crate::buffer::{self, Buffer, BufferPool};
use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem;

/// Bytes gathered in one owned chunk or one log chunk; a larger frame gets a chunk of its own. 128 KiB: what an
/// allocator maps by itself (see `buffer`), and small enough to be given back piece by piece.
pub(crate) const CHUNK_BYTES: usize = buffer::LARGE_BYTES;

/// The queue of one session.
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    /// Older than `tail`. Absent almost always: it takes a slow peer, a topic, or more than a chunk in a turn.
    backlog: Option<Box<Backlog>>,
    tail: Buffer,
    /// How much of `tail` is sent; below its length, or both are zero.
    tail_sent: usize,
}

#[derive(Debug, Default)]
struct Backlog {
    segments: VecDeque<Segment>,
    /// Unsent bytes in `segments`.
    len: usize,
    /// Of these, bytes that lie in topic logs.
    log_len: usize,
    /// The newest pong owed while the peer takes nothing.
    pong: Vec<u8>,
}

#[derive(Debug)]
enum Segment {
    Owned { bytes: Buffer, sent: usize },
    Log(Range),
}

/// The unsent bytes `from..to` of a topic's log, never empty but for a moment.
#[derive(Clone, Copy, Debug)]
struct Range {
    topic: TopicKey,
    from: u64,
    to: u64,
    keep: Keep,
}

/// How a range keeps its bytes in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    /// By a pin, and with it all that follows: the session is a member and will claim that too.
    Pinned,
    /// By holding the range alone: the session has left the topic.
    Held,
}

impl Outbound {
    /// Unsent bytes.
    pub(crate) fn len(&self) -> usize {
        let backlog = self
            .backlog
            .as_ref()
            .map_or(0, |backlog| backlog.len + backlog.pong.len());
        backlog + self.tail.len() - self.tail_sent
    }

    /// Unsent bytes, and what it costs to keep them in order: to be bounded instead of the bytes alone, since small
    /// messages between publications lie in an allocation each.
    pub(crate) fn cost(&self) -> usize {
        let backlog = self.backlog.as_ref();
        self.len() + backlog.map_or(0, |backlog| backlog.segments.len() * SEGMENT_COST)
    }

    /// Unsent bytes that lie in topic logs.
    pub(crate) fn log_len(&self) -> usize {
        self.backlog.as_ref().map_or(0, |backlog| backlog.log_len)
    }

    /// Whether nothing is owed.
    pub(crate) fn is_empty(&self) -> bool {
        self.backlog.is_none() && self.tail.is_empty()
    }

    /// Bytes owned, as the allocator sees them, without topic logs.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        let owned = |segment: &Segment| match segment {
            Segment::Owned { bytes, .. } => bytes.capacity(),
            Segment::Log(_) => 0,
        };
        let backlog = self
            .backlog
            .as_ref()
            .map_or(0, |backlog| backlog.segments.iter().map(owned).sum());
        backlog + self.tail.capacity()
    }

    /// Owes `header` and `payload`, copied, after all that is owed already.
    pub(crate) fn push(&mut self, header: &[u8], payload: &[u8], buffers: &mut BufferPool) {
        let len = header.len() + payload.len();
        if len == 0 {
            return;
        }
        if self.tail.len() + len > CHUNK_BYTES {
            self.retire_tail(buffers);
        }
        let needed = self.tail.len() + len;
        if needed > self.tail.capacity() {
            let mut larger = buffers.take(needed);
            larger.extend_from_slice(&self.tail);
            buffers.give(mem::replace(&mut self.tail, larger));
        }
        self.tail.extend_from_slice(header);
        self.tail.extend_from_slice(payload);
    }

    /// Owes a pong: at once if the peer takes what it gets, else in place of the pong owed before (section
    /// 5.5.3 of RFC 6455 lets an endpoint answer only the newest ping), so that pings alone cannot make this
    /// queue grow.
    pub(crate) fn push_pong(&mut self, frame: &[u8], is_blocked: bool, buffers: &mut BufferPool) {
        if is_blocked {
            let pong = &mut self.backlog.get_or_insert_default().pong;
            pong.clear();
            pong.extend_from_slice(frame);
        } else {
            // The one that waited is the older one.
            self.queue_pong(buffers);
            self.push(frame, &[], buffers);
        }
    }

    /// Owes the bytes `from..to` of a topic's log, which stay there until sent.
    pub(crate) fn push_log(
        &mut self,
        topic: TopicKey,
        from: u64,
        to: u64,
        topics: &mut Topics,
        buffers: &mut BufferPool,
    ) {
        debug_assert!(from < to);
        self.retire_tail(buffers);
        let backlog = self.backlog.get_or_insert_default();
        let len = (to - from) as usize;
        backlog.len += len;
        backlog.log_len += len;
        if let Some(Segment::Log(last)) = backlog.segments.back_mut()
            && (last.topic, last.to, last.keep) == (topic, from, Keep::Pinned)
        {
            last.to = to;
            return;
        }
        topics.pin(topic, from);
        let range = Range {
            topic,
            from,
            to,
            keep: Keep::Pinned,
        };
        backlog.segments.push_back(Segment::Log(range));
    }

    /// The session has left `topic`: what it is still owed is kept, and no longer all that will follow.
    pub(crate) fn hold(&mut self, topic: TopicKey, topics: &mut Topics) {
        for segment in self
            .backlog
            .iter_mut()
            .flat_map(|backlog| &mut backlog.segments)
        {
            if let Segment::Log(range) = segment
                && (range.topic, range.keep) == (topic, Keep::Pinned)
            {
                topics.hold(topic, range.from, range.to);
                topics.unpin(topic, range.from);
                range.keep = Keep::Held;
            }
        }
    }

    /// Appends the owed pong to the queue; to be called when the peer takes bytes again.
    pub(crate) fn queue_pong(&mut self, buffers: &mut BufferPool) {
        let Some(backlog) = &mut self.backlog else {
            return;
        };
        let pong = mem::take(&mut backlog.pong);
        if !pong.is_empty() {
            self.push(&pong, &[], buffers);
            self.release();
        }
    }

    /// All unsent bytes, if they lie in one piece.
    pub(crate) fn in_one_piece(&self) -> Option<&[u8]> {
        self.backlog.is_none().then(|| &self.tail[self.tail_sent..])
    }

    /// The first unsent bytes, as many as `slices` hold; returns how many slices were filled.
    pub(crate) fn gather<'a>(&'a self, topics: &'a Topics, slices: &mut [IoSlice<'a>]) -> usize {
        let segments = self.backlog.iter().flat_map(|backlog| &backlog.segments);
        let mut filled = 0;
        for segment in segments {
            match segment {
                Segment::Owned { bytes, sent } => {
                    filled += fill(&mut slices[filled..], [&bytes[*sent..]])
                }
                Segment::Log(Range {
                    topic, from, to, ..
                }) => {
                    filled += fill(&mut slices[filled..], topics.slices(*topic, *from, *to));
                }
            }
            if filled == slices.len() {
                return filled;
            }
        }
        if self.tail_sent < self.tail.len() {
            filled += fill(&mut slices[filled..], [&self.tail[self.tail_sent..]]);
        }
        filled
    }

    /// Takes note that the first `len` unsent bytes were sent; what is sent is given back.
    pub(crate) fn advance(
        &mut self,
        mut len: usize,
        topics: &mut Topics,
        buffers: &mut BufferPool,
    ) {
        debug_assert!(len <= self.len());
        if let Some(backlog) = &mut self.backlog {
            len = backlog.advance(len, topics, buffers);
            self.release();
        }
        self.tail_sent += len;
        if self.tail_sent == self.tail.len() {
            buffers.give(mem::take(&mut self.tail));
            self.tail_sent = 0;
        }
    }

    /// Drops everything that is owed.
    pub(crate) fn clear(&mut self, topics: &mut Topics, buffers: &mut BufferPool) {
        for segment in self
            .backlog
            .take()
            .into_iter()
            .flat_map(|backlog| backlog.segments)
        {
            segment.give_back(topics);
        }
        buffers.give(mem::take(&mut self.tail));
        self.tail_sent = 0;
    }

    /// Leaves out the whole messages of `topic` that have not begun to be sent; how many those were. All else
    /// keeps its place.
    pub(crate) fn skip(&mut self, topic: TopicKey, topics: &mut Topics) -> u64 {
        let Some(backlog) = &mut self.backlog else {
            return 0;
        };
        let mut skipped = 0;
        let mut kept = VecDeque::with_capacity(backlog.segments.len());
        for segment in mem::take(&mut backlog.segments) {
            let range = match segment {
                Segment::Log(range) if range.topic == topic => range,
                Segment::Log(_) | Segment::Owned { .. } => {
                    kept.push_back(segment);
                    continue;
                }
            };
            let Range { from, to, .. } = range;
            // Only the first segment can have been cut inside a frame. Its rest must follow, copied: left in the
            // log, it would pin all that is published meanwhile.
            let boundary = topics.frame_boundary(topic, from).min(to);
            skipped += topics.frames(topic, boundary, to);
            let rest: Vec<u8> = topics
                .slices(topic, from, boundary)
                .flatten()
                .copied()
                .collect();
            range.give_back(topics);
            backlog.log_len -= (to - from) as usize;
            backlog.len -= (to - boundary) as usize;
            if !rest.is_empty() {
                kept.push_back(Segment::Owned {
                    bytes: rest.into(),
                    sent: 0,
                });
            }
        }
        backlog.segments = kept;
        self.release();
        skipped
    }

    /// Drops what is owed from the first whole message that lies in a topic's log on, so that nothing is sent
    /// that would hide the gap; what is owed before it stays, copied out of the log.
    pub(crate) fn cut_at_log(&mut self, topics: &mut Topics, buffers: &mut BufferPool) {
        let Some(backlog) = self.backlog.take() else {
            return;
        };
        let mut kept = Self::default();
        let mut segments = backlog.segments.into_iter();
        for segment in segments.by_ref() {
            match segment {
                Segment::Owned { bytes, sent } => kept.push(&bytes[sent..], &[], buffers),
                Segment::Log(range) => {
                    let Range {
                        topic, from, to, ..
                    } = range;
                    let boundary = topics.frame_boundary(topic, from).min(to);
                    for rest in topics.slices(topic, from, boundary) {
                        kept.push(rest, &[], buffers);
                    }
                    range.give_back(topics);
                    break;
                }
            }
        }
        for segment in segments {
            segment.give_back(topics);
        }
        *self = kept;
    }

    /// Moves `tail` behind the other segments, so that something else can follow it; without its room, if that is more
    /// than what is in it.
    fn retire_tail(&mut self, buffers: &mut BufferPool) {
        if self.tail.is_empty() {
            return;
        }
        let (mut bytes, mut sent) = (mem::take(&mut self.tail), mem::take(&mut self.tail_sent));
        if bytes.len() - sent < bytes.capacity() / 2 {
            let rest = bytes[sent..].to_vec();
            buffers.give(mem::replace(&mut bytes, rest.into()));
            sent = 0;
        }
        let backlog = self.backlog.get_or_insert_default();
        backlog.len += bytes.len() - sent;
        backlog.segments.push_back(Segment::Owned { bytes, sent });
    }

    /// Gives the box back when nothing is in it.
    fn release(&mut self) {
        if self
            .backlog
            .as_ref()
            .is_some_and(|backlog| backlog.segments.is_empty() && backlog.pong.is_empty())
        {
            self.backlog = None;
        }
    }
}

impl Backlog {
    /// Takes note of up to `len` sent bytes; returns how many of them were not from here.
    fn advance(&mut self, mut len: usize, topics: &mut Topics, buffers: &mut BufferPool) -> usize {
        while len > 0
            && let Some(segment) = self.segments.front_mut()
        {
            let taken = match segment {
                Segment::Owned { bytes, sent } => {
                    let taken = len.min(bytes.len() - *sent);
                    *sent += taken;
                    taken
                }
                Segment::Log(range) => {
                    let taken = (len as u64).min(range.to - range.from);
                    range.advance(taken, topics);
                    self.log_len -= taken as usize;
                    taken as usize
                }
            };
            len -= taken;
            self.len -= taken;
            if segment.is_sent()
                && let Some(Segment::Owned { bytes, .. }) = self.segments.pop_front()
            {
                buffers.give(bytes);
            }
        }
        len
    }
}

impl Segment {
    fn is_sent(&self) -> bool {
        match self {
            Self::Owned { bytes, sent } => *sent == bytes.len(),
            Self::Log(range) => range.from == range.to,
        }
    }

    fn give_back(&self, topics: &mut Topics) {
        match self {
            Self::Owned { .. } => {}
            Self::Log(range) => range.give_back(topics),
        }
    }
}

impl Range {
    /// Takes note that the first `taken` bytes were sent.
    fn advance(&mut self, taken: u64, topics: &mut Topics) {
        let Self {
            topic,
            from,
            to,
            keep,
        } = *self;
        self.from += taken;
        match keep {
            Keep::Pinned => topics.move_pin(topic, from, self.from, to),
            Keep::Held => topics.release(topic, from, self.from, to),
        }
    }

    /// Keeps nothing any more.
    fn give_back(&self, topics: &mut Topics) {
        match self.keep {
            Keep::Pinned => topics.unpin(self.topic, self.from),
            Keep::Held => topics.release(self.topic, self.from, self.to, self.to),
        }
    }
}

/// What a segment costs beside its bytes: its place in the queue, which may have room for as many again, and an
/// allocation.
const SEGMENT_COST: usize = 128;

/// Puts as many of `pieces` into `slices` as fit; how many.
pub(crate) fn fill<'a>(
    slices: &mut [IoSlice<'a>],
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> usize {
    let mut filled = 0;
    for (slice, piece) in slices.iter_mut().zip(pieces) {
        *slice = IoSlice::new(piece);
        filled += 1;
    }
    filled
}

#[cfg(test)]
mod tests;
