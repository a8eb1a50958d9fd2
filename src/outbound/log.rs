//! The log of one topic: the published frames, one behind another. A *position* is the number of bytes that were
//! appended before. Members and queues store positions, not copies of frames.
//!
//! The log is a sequence of chunks. A chunk is retained for one of three reasons:
//!
//! - A *cursor*: a member's next unclaimed byte lies in the chunk or in an earlier chunk. The member will claim all
//!   bytes from its cursor on, so all later chunks are retained as well.
//! - A *hold*: a range of claimed bytes that overlaps the chunk is queued, and not sent yet. A hold retains no other
//!   chunk.
//! - *Replay*: the newest bytes, from a position that the topic chooses, are retained for members that join later.
//!
//! Each chunk counts its cursors and holds. [`Log::trim`] releases the chunks that no reason retains, and the unused
//! part of chunks that only replay retains.
//!
//! A frame never lies in two chunks, so every chunk begins with the first byte of a frame.

use super::CHUNK_BYTES;
use crate::buffer::Buffer;
use crate::buffer::BufferPool;
use std::collections::VecDeque;
use std::mem;

#[derive(Debug, Default)]
pub(super) struct Log {
    chunks: VecDeque<Chunk>,
    end: u64,
    /// The number of frames that were appended.
    messages: u64,
}

#[derive(Debug)]
struct Chunk {
    start: u64,
    bytes: Buffer,
    /// The number of frames before this chunk.
    messages_before: u64,
    /// The starts of some frames, at distances of about [`MARK_BYTES`], so that finding a frame or counting frames does
    /// not begin at the start of the chunk.
    marks: Vec<Mark>,
    /// The number of members whose next unclaimed byte is in this chunk.
    cursors: u32,
    /// The number of queued ranges with unsent bytes in this chunk.
    holds: u32,
}

/// The start of a frame: its offset in the chunk, and the number of frames in the chunk before it.
#[derive(Clone, Copy, Debug)]
struct Mark {
    offset: u32,
    messages: u32,
}

impl Log {
    /// Returns the position behind the last byte.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Returns the position of the first retained byte; the end if none is retained.
    pub(super) fn start(&self) -> u64 {
        self.chunks.front().map_or(self.end, |chunk| chunk.start)
    }

    /// Returns the number of frames that were appended.
    pub(super) fn messages(&self) -> u64 {
        self.messages
    }

    /// Returns whether no chunk is retained.
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Appends one frame.
    pub(super) fn append(&mut self, header: &[u8], payload: &[u8], buffers: &mut BufferPool) {
        let len = header.len() + payload.len();
        let end = self.end;
        // The newest chunk may have been released, and an older one not.
        let fits = |chunk: &Chunk| chunk.end() == end && chunk.bytes.len() + len <= CHUNK_BYTES;
        if !self.chunks.back().is_some_and(fits) {
            self.chunks.push_back(Chunk {
                start: self.end,
                bytes: Buffer::default(),
                messages_before: self.messages,
                marks: Vec::new(),
                cursors: 0,
                holds: 0,
            });
        }
        let chunk = self.chunks.back_mut();
        let chunk = chunk.expect("a chunk that fits was there or was pushed");
        let bytes = &mut chunk.bytes;
        let marked = chunk.marks.last().map_or(0, |mark| mark.offset as usize);
        if bytes.len() - marked >= MARK_BYTES {
            // A chunk is larger than `CHUNK_BYTES` only if it is a single frame.
            chunk.marks.push(Mark {
                offset: bytes.len() as u32,
                messages: (self.messages - chunk.messages_before) as u32,
            });
        }
        let needed = bytes.len() + len;
        if needed > bytes.capacity() {
            let mut larger = buffers.take(needed);
            larger.extend_from_slice(bytes);
            buffers.put(mem::replace(bytes, larger));
        }
        bytes.extend_from_slice(header);
        bytes.extend_from_slice(payload);
        self.end += len as u64;
        self.messages += 1;
    }

    /// Returns the bytes `from..to`, one slice for each chunk. They must be retained.
    pub(super) fn slices(&self, from: u64, to: u64) -> impl Iterator<Item = &[u8]> {
        debug_assert!(from <= to && to <= self.end);
        let first = if from < to {
            self.chunk_at(from)
        } else {
            self.chunks.len()
        };
        self.chunks
            .range(first..)
            .take_while(move |chunk| chunk.start < to)
            .map(move |chunk| {
                let end = (to - chunk.start).min(chunk.bytes.len() as u64);
                &chunk.bytes[from.saturating_sub(chunk.start) as usize..end as usize]
            })
    }

    /// Returns the first of [`slices`](Self::slices). The range must not be empty.
    pub(super) fn first_slice(&self, from: u64, to: u64) -> &[u8] {
        let chunk = &self.chunks[self.chunk_at(from)];
        let end = (to - chunk.start).min(chunk.bytes.len() as u64);
        &chunk.bytes[(from - chunk.start) as usize..end as usize]
    }

    /// Adds the cursors of `members` members at `position`, which must be below the end.
    pub(super) fn add_cursors(&mut self, position: u64, members: u32) {
        let chunk = self.chunk_at(position);
        self.chunks[chunk].cursors += members;
    }

    /// Removes the cursor of one member at `position`. Returns whether the chunk has no other cursors.
    pub(super) fn remove_cursor(&mut self, position: u64) -> bool {
        let chunk = self.chunk_at(position);
        let cursors = &mut self.chunks[chunk].cursors;
        debug_assert!(*cursors > 0);
        *cursors -= 1;
        *cursors == 0
    }

    /// Returns the start of the first chunk with a cursor, from which on all chunks are retained. The end if there are
    /// no cursors.
    pub(super) fn unclaimed_from(&self) -> u64 {
        let first = self.chunks.iter().find(|chunk| chunk.cursors > 0);
        first.map_or(self.end, |chunk| chunk.start)
    }

    /// Adds a hold: retains the bytes `from..to` until [`release`](Self::release) is called for them.
    pub(super) fn hold(&mut self, from: u64, to: u64) {
        let first = self.chunk_at(from);
        self.hold_chunks(first, to);
    }

    /// Extends a hold that ends at `from`. It ends at `to` then.
    pub(super) fn extend_hold(&mut self, from: u64, to: u64) {
        // The hold has counted the chunk of the byte before `from` already.
        let first = self.chunks.partition_point(|chunk| chunk.start < from);
        self.hold_chunks(first, to);
    }

    fn hold_chunks(&mut self, first: usize, to: u64) {
        let chunks = self.chunks.range_mut(first..);
        for chunk in chunks.take_while(|chunk| chunk.start < to) {
            chunk.holds += 1;
        }
    }

    /// Shortens a hold of `from..to` to `new_from..to`, or removes it if `new_from` equals `to`. Returns whether a
    /// chunk has no holds any more.
    pub(super) fn release(&mut self, from: u64, new_from: u64, to: u64) -> bool {
        let first = self.chunk_at(from);
        let mut is_free = false;
        let chunks = self.chunks.range_mut(first..);
        for chunk in chunks.take_while(|chunk| chunk.start < to) {
            if new_from < to && new_from < chunk.end() {
                break;
            }
            debug_assert!(chunk.holds > 0);
            chunk.holds -= 1;
            is_free |= chunk.holds == 0;
        }
        is_free
    }

    /// Releases all chunks without a hold that lie before the first cursor and end before `replay_from`, which must be a
    /// boundary of frames in a retained chunk, or the end.
    pub(super) fn trim(&mut self, replay_from: u64, buffers: &mut BufferPool) {
        let claimed = self.chunks.iter().position(|chunk| chunk.cursors > 0);
        let mut claimed = claimed.unwrap_or(self.chunks.len());
        let is_free = |chunk: &Chunk| chunk.holds == 0 && chunk.end() <= replay_from;
        while claimed > 0 && is_free(&self.chunks[0]) {
            if let Some(chunk) = self.chunks.pop_front() {
                buffers.put(chunk.bytes);
            }
            claimed -= 1;
        }
        if self.chunks.iter().take(claimed).any(is_free) {
            let mut index = 0;
            let mut retained = 0;
            self.chunks.retain(|chunk| {
                index += 1;
                let is_retained = index > claimed || !is_free(chunk);
                retained += usize::from(is_retained && index <= claimed);
                is_retained
            });
            claimed = retained;
        }
        if self.chunks.is_empty() {
            self.chunks = VecDeque::new();
        } else if replay_from < self.end {
            self.shrink_replay(replay_from, claimed, buffers);
        }
    }

    /// Moves what is to be replayed of the first `claimed` chunks to smaller buffers, where less than half of a buffer is
    /// used for it and for nothing else. So the bytes retained for replay take at most twice their number, and
    /// [`REPLAY_SLACK_BYTES`] for each chunk, and each appended byte is moved twice on average.
    fn shrink_replay(&mut self, replay_from: u64, claimed: usize, buffers: &mut BufferPool) {
        let first = self
            .chunks
            .partition_point(|chunk| chunk.end() <= replay_from);
        for index in first..claimed {
            let chunk = &self.chunks[index];
            let cut = replay_from.saturating_sub(chunk.start) as usize;
            let len = chunk.bytes.len() - cut;
            if chunk.holds > 0 || chunk.bytes.capacity() <= 2 * len + REPLAY_SLACK_BYTES {
                continue;
            }
            // Space for some more messages. Not a buffer of the pool: its sizes are for contents of one turn.
            let capacity = (len + len / 2 + REPLAY_SLACK_BYTES / 2).min(CHUNK_BYTES.max(len));
            let mut bytes = Buffer::with_capacity(capacity);
            bytes.extend_from_slice(&chunk.bytes[cut..]);
            let start = chunk.start + cut as u64;
            let messages_before = self.messages_before(start);
            let chunk = &mut self.chunks[index];
            buffers.put(mem::replace(&mut chunk.bytes, bytes));
            let dropped = (messages_before - chunk.messages_before) as u32;
            chunk.marks.retain(|mark| mark.offset as usize > cut);
            for mark in &mut chunk.marks {
                mark.offset -= cut as u32;
                mark.messages -= dropped;
            }
            chunk.start = start;
            chunk.messages_before = messages_before;
        }
    }

    /// Returns the end of the frame that begins at `position`, which must be below the end and retained.
    pub(super) fn frame_end(&self, position: u64) -> u64 {
        let chunk = &self.chunks[self.chunk_at(position)];
        position + frame_len(&chunk.bytes[(position - chunk.start) as usize..])
    }

    /// Returns the position of the first frame that begins at or after `position`.
    pub(super) fn frame_boundary(&self, position: u64) -> u64 {
        self.frame_at(position).0
    }

    /// Returns the number of frames before `position`, which must be a boundary of frames.
    pub(super) fn messages_before(&self, position: u64) -> u64 {
        self.frame_at(position).1
    }

    /// Returns the first boundary of frames at or after `position`, and the number of frames before it. Iterates over
    /// the frames since the last mark, at most about [`MARK_BYTES`].
    fn frame_at(&self, position: u64) -> (u64, u64) {
        if position == self.end {
            return (position, self.messages);
        }
        let chunk = &self.chunks[self.chunk_at(position)];
        let offset = (position - chunk.start) as usize;
        let marks = chunk
            .marks
            .partition_point(|mark| mark.offset as usize <= offset);
        let (mut at, mut messages) = match marks.checked_sub(1) {
            Some(last) => {
                let mark = chunk.marks[last];
                (mark.offset as usize, u64::from(mark.messages))
            }
            None => (0, 0),
        };
        while at < offset {
            #[cfg(test)]
            WALKED_FRAMES.set(WALKED_FRAMES.get() + 1);
            at += frame_len(&chunk.bytes[at..]) as usize;
            messages += 1;
        }
        (chunk.start + at as u64, chunk.messages_before + messages)
    }

    /// Returns the index of the chunk that contains `position`, which must be below the end and not released.
    fn chunk_at(&self, position: u64) -> usize {
        debug_assert!(position < self.end);
        self.chunks.partition_point(|chunk| chunk.start <= position) - 1
    }

    /// Returns the bytes of memory that the log owns.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.bytes.capacity()).sum()
    }
}

#[cfg(test)]
thread_local! {
    /// The number of frames over which this thread has iterated to find a boundary.
    pub(crate) static WALKED_FRAMES: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

impl Chunk {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

/// Returns the length, header and payload, of the unmasked frame at the start of `bytes` (RFC 6455 section 5.2). The
/// log contains only frames that this server has encoded, so they are not checked.
fn frame_len(bytes: &[u8]) -> u64 {
    match bytes[1] & 0x7F {
        126 => 4 + u64::from(u16::from_be_bytes([bytes[2], bytes[3]])),
        127 => 10 + u64::from_be_bytes(bytes[2..10].try_into().expect("the slice has eight bytes")),
        len => 2 + u64::from(len),
    }
}

/// Bytes that a chunk may have for replay in addition to twice its content.
const REPLAY_SLACK_BYTES: usize = 512;

/// Minimum distance between two marks. 4 KiB contain at most 2 048 frames, which take some microseconds to
/// iterate. A chunk of several frames has at most 32 marks.
const MARK_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Message;

    fn append(log: &mut Log, payload: &[u8]) {
        let header = Message::binary(payload).server_header();
        log.append(header.as_slice(), payload, &mut BufferPool::new());
    }

    #[test]
    fn slices_return_the_appended_bytes() {
        let mut log = Log::default();
        let mut expected = Vec::new();
        for len in [0, 1, 125, 126, 120_000, 5_000, 65_535, 65_536, 200_000, 3] {
            let payload = vec![len as u8; len];
            append(&mut log, &payload);
            expected.extend_from_slice(Message::binary(&payload).server_header().as_slice());
            expected.extend_from_slice(&payload);
        }
        assert_eq!(log.end(), expected.len() as u64);
        for (from, to) in [
            (0, expected.len()),
            (1, 2),
            (60_000, 150_000),
            (5, 5),
            (expected.len(), expected.len()),
        ] {
            let bytes: Vec<u8> = log
                .slices(from as u64, to as u64)
                .flatten()
                .copied()
                .collect();
            assert_eq!(bytes, expected[from..to], "{from}..{to}");
        }
    }

    #[test]
    fn frames_and_boundaries_are_found_in_all_chunks() {
        let mut log = Log::default();
        let mut starts = Vec::new();
        for len in [10, 126, 40_000, 40_000, 70_000, 0] {
            starts.push(log.end());
            append(&mut log, &vec![0; len]);
        }
        assert_eq!(log.messages_before(log.end()), 6);
        assert_eq!(log.messages_before(starts[2]), 2);
        assert_eq!(log.messages_before(starts[5]), 5);
        for pair in starts.windows(2) {
            assert_eq!(log.frame_boundary(pair[0]), pair[0]);
            assert_eq!(log.frame_boundary(pair[0] + 1), pair[1]);
            assert_eq!(log.frame_boundary(pair[1] - 1), pair[1]);
        }
        assert_eq!(log.frame_boundary(log.end()), log.end());
    }

    /// Without marks, each count of skipped messages walked over up to a whole chunk of frames.
    #[test]
    fn a_count_walks_over_a_few_kilobytes_of_frames_at_most() {
        const FRAME_LEN: u64 = 3;
        let mut log = Log::default();
        for _ in 0..100_000 {
            append(&mut log, b"x");
        }
        let mut walked_max = 0;
        for number in (0..100_000).step_by(97) {
            WALKED_FRAMES.set(0);
            assert_eq!(log.messages_before(number * FRAME_LEN), number);
            walked_max = walked_max.max(WALKED_FRAMES.get() * FRAME_LEN as usize);
            // In the middle of a frame, what follows that is looked for.
            let next = (number + 1) * FRAME_LEN;
            assert_eq!(log.frame_boundary(number * FRAME_LEN + 1), next);
        }
        assert!(walked_max > 0);
        assert!(
            walked_max <= 4096 + FRAME_LEN as usize,
            "{walked_max} bytes"
        );
    }

    fn held(log: &mut Log) -> usize {
        log.trim(log.end(), &mut BufferPool::new());
        log.capacity().div_ceil(CHUNK_BYTES)
    }

    #[test]
    fn all_chunks_from_the_oldest_cursor_on_are_retained() {
        let mut log = Log::default();
        for _ in 0..8 {
            append(&mut log, &[7; 120_000]);
        }
        let len = log.end() / 8;
        log.add_cursors(2 * len, 2);
        log.add_cursors(5 * len, 1);
        assert_eq!(held(&mut log), 6);
        assert_eq!(log.unclaimed_from(), 2 * len);
        assert!(!log.remove_cursor(2 * len));
        assert_eq!(held(&mut log), 6);
        assert!(log.remove_cursor(2 * len));
        assert_eq!(log.unclaimed_from(), 5 * len);
        assert_eq!(held(&mut log), 3);
        assert!(log.remove_cursor(5 * len));
        assert_eq!(held(&mut log), 0);
        assert!(log.is_empty());
        assert_eq!(log.unclaimed_from(), log.end());
    }

    #[test]
    fn held_ranges_are_retained_and_chunks_between_them_are_released() {
        let mut log = Log::default();
        let mut starts = Vec::new();
        for _ in 0..10 {
            starts.push(log.end());
            append(&mut log, &[7; 120_000]);
        }
        // One queue holds the third and fourth frame, another the eighth. The cursor of a member is at the ninth.
        log.hold(starts[2] + 5, starts[3]);
        log.extend_hold(starts[3], starts[4]);
        log.hold(starts[7], starts[8]);
        log.add_cursors(starts[8], 1);
        assert_eq!(held(&mut log), 2 + 1 + 2);
        let len = |log: &Log, from, to| log.slices(from, to).map(<[u8]>::len).sum::<usize>() as u64;
        assert_eq!(
            len(&log, starts[2] + 5, starts[4]),
            starts[4] - starts[2] - 5
        );
        assert_eq!(len(&log, starts[7], starts[8]), starts[8] - starts[7]);
        // A part of the third frame is sent, then the rest of it, then the other held frames.
        assert!(!log.release(starts[2] + 5, starts[2] + 9, starts[4]));
        assert_eq!(held(&mut log), 5);
        assert!(log.release(starts[2] + 9, starts[3], starts[4]));
        assert_eq!(held(&mut log), 4);
        assert!(log.release(starts[3], starts[4], starts[4]));
        assert!(log.release(starts[7], starts[8], starts[8]));
        assert_eq!(held(&mut log), 2);
        assert!(log.remove_cursor(starts[8]));
        assert_eq!(held(&mut log), 0);
        append(&mut log, b"another");
        assert_eq!(len(&log, starts[9] + 120_010, log.end()), 9);
    }

    #[test]
    fn a_log_that_was_shrunk_finds_and_counts_frames_as_before() {
        let mut log = Log::default();
        let mut starts = Vec::new();
        for number in 0..60_000_usize {
            starts.push(log.end());
            append(&mut log, &[number as u8; 3][..number % 4]);
            if number % 1_000 != 999 {
                continue;
            }
            // Of up to two chunks, the last 100 to 5 900 frames are retained.
            let first = number + 1 - 100 * (1 + number / 1_000);
            log.trim(starts[first], &mut BufferPool::new());
            let used = (log.end() - starts[first]) as usize;
            let chunks = log.chunks.len();
            assert!(log.capacity() <= 2 * used + chunks * REPLAY_SLACK_BYTES);
            for at in (first..=number).step_by(37) {
                let position = starts[at];
                assert_eq!(log.messages_before(position), at as u64);
                assert_eq!(log.frame_boundary(position), position);
                let next = starts.get(at + 1).copied().unwrap_or(log.end());
                assert_eq!(log.frame_boundary(position + 1), next);
                assert_eq!(log.frame_end(position), next);
                let frame: Vec<u8> = log.slices(position, next).flatten().copied().collect();
                assert_eq!(frame[2..], [at as u8; 3][..at % 4]);
            }
        }
    }

    #[test]
    fn chunks_with_cursors_or_holds_are_not_shrunk() {
        let mut log = Log::default();
        for _ in 0..100 {
            append(&mut log, &[7; 998]);
        }
        let (end, frame) = (log.end(), log.end() / 100);
        let capacity = log.capacity();
        log.add_cursors(0, 1);
        log.trim(end - frame, &mut BufferPool::new());
        assert_eq!(log.capacity(), capacity);
        log.hold(frame, 2 * frame);
        assert!(log.remove_cursor(0));
        log.trim(end - frame, &mut BufferPool::new());
        assert_eq!(
            log.slices(frame, 2 * frame).map(<[u8]>::len).sum::<usize>(),
            1002
        );
        assert_eq!(log.capacity(), capacity);
        assert!(log.release(frame, 2 * frame, 2 * frame));
        log.trim(end - frame, &mut BufferPool::new());
        assert!(log.capacity() < 2_000);
        // Later frames follow in the smaller chunk.
        append(&mut log, b"more");
        let bytes: Vec<u8> = log
            .slices(end - frame, log.end())
            .flatten()
            .copied()
            .collect();
        assert_eq!(bytes.len() as u64, frame + 6);
        assert!(bytes.ends_with(b"more"));
        log.trim(log.end(), &mut BufferPool::new());
        assert!(log.is_empty());
    }

    #[test]
    fn an_older_chunk_that_is_held_is_not_appended_to() {
        let mut log = Log::default();
        append(&mut log, &[1; 120_000]);
        let first_end = log.end();
        append(&mut log, &[2; 120_000]);
        log.hold(0, first_end);
        log.trim(log.end(), &mut BufferPool::new());
        let start = log.end();
        append(&mut log, b"new");
        let bytes: Vec<u8> = log.slices(start, log.end()).flatten().copied().collect();
        assert_eq!(bytes[2..], *b"new");
        let bytes: Vec<u8> = log.slices(0, first_end).flatten().copied().collect();
        assert_eq!(bytes[10..], [1; 120_000]);
    }
}
