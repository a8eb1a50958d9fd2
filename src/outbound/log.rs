//! The log of one topic: frames, each framed once, lying next to each other at positions that only grow. Readers
//! hold positions, not copies. A reader that goes on pins everything from its position on; one that has left holds
//! the range that it is still owed. A chunk that nobody pins or holds is given back.
//!
//! A frame never straddles two chunks, so every chunk begins at a frame's first byte.

use super::CHUNK_BYTES;
use crate::buffer::{Buffer, BufferPool};
use std::collections::VecDeque;
use std::mem;

#[derive(Debug, Default)]
pub(super) struct Log {
    chunks: VecDeque<Chunk>,
    end: u64,
}

#[derive(Debug)]
struct Chunk {
    start: u64,
    bytes: Buffer,
    /// How many queues have their first unsent byte of this log in this chunk, and will claim what follows.
    pins: u32,
    /// How many queues are owed some of this chunk, and nothing that follows their range.
    holds: u32,
}

impl Log {
    /// The position after the last byte.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Whether no byte is held.
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Appends one frame.
    pub(super) fn append(&mut self, header: &[u8], payload: &[u8], buffers: &mut BufferPool) {
        let len = header.len() + payload.len();
        let end = self.end;
        // What was last may have been given back, and an older chunk still be held.
        let fits = |chunk: &Chunk| chunk.end() == end && chunk.bytes.len() + len <= CHUNK_BYTES;
        if !self.chunks.back().is_some_and(fits) {
            self.chunks.push_back(Chunk {
                start: self.end,
                bytes: Buffer::default(),
                pins: 0,
                holds: 0,
            });
        }
        let chunk = self.chunks.back_mut();
        let bytes = &mut chunk
            .expect("a chunk that fits was there or was pushed")
            .bytes;
        let needed = bytes.len() + len;
        if needed > bytes.capacity() {
            let mut larger = buffers.take(needed);
            larger.extend_from_slice(bytes);
            buffers.give(mem::replace(bytes, larger));
        }
        bytes.extend_from_slice(header);
        bytes.extend_from_slice(payload);
        self.end += len as u64;
    }

    /// The bytes `from..to`, chunk by chunk.
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

    /// Keeps everything from `position` on, which is below the end, until unpinned.
    pub(super) fn pin(&mut self, position: u64) {
        let chunk = self.chunk_at(position);
        self.chunks[chunk].pins += 1;
    }

    /// Takes back one `pin` of the same position.
    pub(super) fn unpin(&mut self, position: u64) {
        let chunk = self.chunk_at(position);
        debug_assert!(self.chunks[chunk].pins > 0);
        self.chunks[chunk].pins -= 1;
    }

    /// Keeps the bytes `from..to`, and not what follows them, until released.
    pub(super) fn hold(&mut self, from: u64, to: u64) {
        let first = self.chunk_at(from);
        for chunk in self
            .chunks
            .range_mut(first..)
            .take_while(|chunk| chunk.start < to)
        {
            chunk.holds += 1;
        }
    }

    /// Takes back a `hold` of `from..to`, but for its end `kept..to`.
    pub(super) fn release(&mut self, from: u64, kept: u64, to: u64) {
        let first = self.chunk_at(from);
        for chunk in self
            .chunks
            .range_mut(first..)
            .take_while(|chunk| chunk.start < to)
        {
            if kept < to && kept < chunk.end() {
                return;
            }
            debug_assert!(chunk.holds > 0);
            chunk.holds -= 1;
        }
    }

    /// Gives back the chunks that nobody pins or holds. To be called only when every reader that is not pinned has
    /// read to the end.
    pub(super) fn trim(&mut self, buffers: &mut BufferPool) {
        let first_pinned = self.chunks.iter().position(|chunk| chunk.pins > 0);
        let mut unpinned = first_pinned.unwrap_or(self.chunks.len());
        while unpinned > 0 && self.chunks[0].holds == 0 {
            if let Some(chunk) = self.chunks.pop_front() {
                buffers.give(chunk.bytes);
            }
            unpinned -= 1;
        }
        if unpinned > 0 {
            let mut index = 0;
            self.chunks.retain(|chunk| {
                index += 1;
                index > unpinned || chunk.holds > 0
            });
        }
        if self.chunks.is_empty() {
            self.chunks = VecDeque::new();
        }
    }

    /// The first byte of a frame at or after `position`.
    pub(super) fn frame_boundary(&self, position: u64) -> u64 {
        if position == self.end {
            return position;
        }
        let chunk = &self.chunks[self.chunk_at(position)];
        let mut start = chunk.start;
        while start < position {
            start += frame_len(&chunk.bytes[(start - chunk.start) as usize..]);
        }
        start
    }

    /// How many frames lie in `from..to`, both at frame boundaries.
    pub(super) fn frames(&self, from: u64, to: u64) -> u64 {
        let mut count = 0;
        for mut slice in self.slices(from, to) {
            while !slice.is_empty() {
                slice = &slice[frame_len(slice) as usize..];
                count += 1;
            }
        }
        count
    }

    /// Which chunk holds `position`, which is below the end and not trimmed.
    fn chunk_at(&self, position: u64) -> usize {
        debug_assert!(position < self.end);
        self.chunks.partition_point(|chunk| chunk.start <= position) - 1
    }

    /// Bytes held, as the allocator sees them.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.bytes.capacity()).sum()
    }
}

impl Chunk {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

/// Header and payload of the unmasked frame that `bytes` begin with (RFC 6455 section 5.2). The log holds only
/// what this server framed, so there is nothing to check.
fn frame_len(bytes: &[u8]) -> u64 {
    match bytes[1] & 0x7F {
        126 => 4 + u64::from(u16::from_be_bytes([bytes[2], bytes[3]])),
        127 => 10 + u64::from_be_bytes(bytes[2..10].try_into().expect("eight bytes")),
        len => 2 + u64::from(len),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Message;

    fn append(log: &mut Log, payload: &[u8]) {
        let header = Message::binary(payload).server_header();
        log.append(header.as_slice(), payload, &mut BufferPool::new());
    }

    #[test]
    fn bytes_are_found_again_at_their_positions() {
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
    fn frames_and_boundaries_are_counted_across_chunks() {
        let mut log = Log::default();
        let mut starts = Vec::new();
        for len in [10, 126, 40_000, 40_000, 70_000, 0] {
            starts.push(log.end());
            append(&mut log, &vec![0; len]);
        }
        assert_eq!(log.frames(0, log.end()), 6);
        assert_eq!(log.frames(starts[2], starts[5]), 3);
        for pair in starts.windows(2) {
            assert_eq!(log.frame_boundary(pair[0]), pair[0]);
            assert_eq!(log.frame_boundary(pair[0] + 1), pair[1]);
            assert_eq!(log.frame_boundary(pair[1] - 1), pair[1]);
        }
        assert_eq!(log.frame_boundary(log.end()), log.end());
    }

    #[test]
    fn memory_is_held_from_the_oldest_pin_on_and_comes_back() {
        let mut log = Log::default();
        for _ in 0..64 {
            append(&mut log, &[7; 30_000]);
        }
        assert!(
            log.capacity() <= 64 * 30_004 * 11 / 10,
            "{}",
            log.capacity()
        );
        log.pin(5);
        log.pin(1_000_000);
        log.trim(&mut BufferPool::new());
        assert_eq!(
            log.slices(5, log.end()).map(<[u8]>::len).sum::<usize>(),
            log.end() as usize - 5
        );
        log.unpin(5);
        log.trim(&mut BufferPool::new());
        assert!(log.capacity() < 64 * 30_000 / 2 * 11 / 10 + CHUNK_BYTES);
        log.unpin(1_000_000);
        log.trim(&mut BufferPool::new());
        assert!(log.is_empty());
        assert_eq!(log.capacity(), 0);
    }

    #[test]
    fn what_is_held_stays_and_what_lies_between_is_given_back() {
        let mut log = Log::default();
        let mut starts = Vec::new();
        for _ in 0..10 {
            starts.push(log.end());
            append(&mut log, &[7; 120_000]);
        }
        // A reader that left owes itself the third and fourth frame, another the eighth; one goes on at the ninth.
        log.hold(starts[2] + 5, starts[4]);
        log.hold(starts[7], starts[8]);
        log.pin(starts[8]);
        log.trim(&mut BufferPool::new());
        let held = |log: &Log| log.capacity() / CHUNK_BYTES;
        assert_eq!(held(&log), 2 + 1 + 2);
        let len = |log: &Log, from, to| log.slices(from, to).map(<[u8]>::len).sum::<usize>() as u64;
        assert_eq!(
            len(&log, starts[2] + 5, starts[4]),
            starts[4] - starts[2] - 5
        );
        assert_eq!(len(&log, starts[7], starts[8]), starts[8] - starts[7]);
        // A part of the third frame is sent, then the rest of it, then all.
        log.release(starts[2] + 5, starts[2] + 9, starts[4]);
        log.trim(&mut BufferPool::new());
        assert_eq!(held(&log), 5);
        log.release(starts[2] + 9, starts[3], starts[4]);
        log.trim(&mut BufferPool::new());
        assert_eq!(held(&log), 4);
        log.release(starts[3], starts[4], starts[4]);
        log.release(starts[7], starts[8], starts[8]);
        log.trim(&mut BufferPool::new());
        assert_eq!(held(&log), 2);
        log.unpin(starts[8]);
        log.trim(&mut BufferPool::new());
        assert_eq!(log.capacity(), 0);
        append(&mut log, b"goes on");
        assert_eq!(len(&log, starts[9] + 120_010, log.end()), 9);
    }

    #[test]
    fn an_older_chunk_that_is_held_is_not_appended_to() {
        let mut log = Log::default();
        append(&mut log, &[1; 120_000]);
        let first_end = log.end();
        append(&mut log, &[2; 120_000]);
        log.hold(0, first_end);
        log.trim(&mut BufferPool::new());
        let start = log.end();
        append(&mut log, b"new");
        let bytes: Vec<u8> = log.slices(start, log.end()).flatten().copied().collect();
        assert_eq!(bytes[2..], *b"new");
        let bytes: Vec<u8> = log.slices(0, first_end).flatten().copied().collect();
        assert_eq!(bytes[10..], [1; 120_000]);
    }
}
