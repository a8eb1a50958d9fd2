//! [`Outbox`]: encoded commands and publications that wait to be written to a broker.

use std::collections::VecDeque;
use std::io::IoSlice;

/// A queue of bytes that wait to be written to a broker, and where each entry ends. An implementation of
/// [`Backplane`](super::Backplane) can use it: the implementation encodes the entries and writes the bytes.
///
/// An entry is a *publication* or a *command*. When the connection ends:
///
/// - A publication whose last byte was written has left the outbox, and is never written again.
/// - A publication of which only a part was written is written again from its first byte. This is correct if the broker
///   ignores an incomplete command at the end of a connection.
/// - Other publications are retained.
/// - Commands (a greeting, a subscription) are dropped, because they belong to one connection.
///
/// After [`disconnected`](Self::disconnected), only new commands are written, until [`release`](Self::release); then the
/// retained publications follow. So a server subscribes again before it publishes.
///
/// The bytes are in blocks of 32 KiB. A block is freed when it was written; one is retained. Bytes are copied once, when
/// they are appended.
///
/// ```
/// use std::io::IoSlice;
/// use wsloop::backplane::Outbox;
///
/// let mut outbox = Outbox::default();
/// outbox.push_publication(&[b"PUB a 2\r\n", b"hi", b"\r\n"]);
/// outbox.push_command(&[b"SUB a\r\n"]);
/// let mut slices = [IoSlice::new(&[]); 4];
/// let count = outbox.slices(&mut slices, usize::MAX);
/// assert_eq!(&*slices[0], b"PUB a 2\r\nhi\r\nSUB a\r\n"); // slices[..count] for a write
/// # assert_eq!(count, 1);
///
/// let mut written = Vec::new();
/// outbox.written(14, |entry| written.push(entry)); // the socket accepted 14 bytes
/// assert!(written[0].is_publication && written[0].bytes == 13);
/// assert_eq!(outbox.publication_bytes(), 0);
/// outbox.disconnected();
/// assert!(outbox.is_empty()); // the command is dropped
/// ```
#[derive(Debug, Default)]
pub struct Outbox {
    /// Commands that were appended between [`Outbox::disconnected`] and [`Outbox::release`]. They are written first.
    commands: Queue,
    /// All publications, and the commands that were appended after [`Outbox::release`].
    queue: Queue,
    /// Whether the entries in `queue` wait for [`Outbox::release`].
    is_held: bool,
    /// See [`Outbox::publication_bytes`].
    publication_bytes: usize,
}

/// An entry whose last byte was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenEntry {
    /// Whether it is a publication.
    pub is_publication: bool,
    /// Its length.
    pub bytes: usize,
}

impl Outbox {
    /// Returns an empty outbox in which publications wait for [`release`](Self::release), as after
    /// [`disconnected`](Self::disconnected). In the outbox that `default` returns, they do not wait.
    pub fn held() -> Self {
        Self {
            is_held: true,
            ..Self::default()
        }
    }

    /// Appends a publication: the concatenation of `parts`.
    ///
    /// # Panics
    /// Panics if the publication has 2 GiB or more.
    pub fn push_publication(&mut self, parts: &[&[u8]]) {
        self.publication_bytes += self.queue.push(PUBLICATION, parts);
    }

    /// Appends a command.
    ///
    /// # Panics
    /// As [`push_publication`](Self::push_publication).
    pub fn push_command(&mut self, parts: &[&[u8]]) {
        match self.is_held {
            true => self.commands.push(0, parts),
            false => self.queue.push(0, parts),
        };
    }

    /// Allows publications to be written. Commands that are appended later follow them.
    pub fn release(&mut self) {
        self.is_held = false;
    }

    /// Returns whether there is nothing to write now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of bytes to write now.
    pub fn len(&self) -> usize {
        match self.is_held {
            true => self.commands.unsent_bytes,
            false => self.commands.unsent_bytes + self.queue.unsent_bytes,
        }
    }

    /// Returns the number of bytes of publications of which not all bytes were written.
    pub fn publication_bytes(&self) -> usize {
        self.publication_bytes
    }

    /// Returns how many bytes of the first entry were written, and how many were not; `None` if none were.
    pub fn begun_entry(&self) -> Option<(usize, usize)> {
        let queue = match self.commands.is_empty() {
            true => &self.queue,
            false => &self.commands,
        };
        let entry = queue.entries.front().filter(|_| queue.sent > 0)?;
        Some((queue.sent, (entry & LEN) as usize - queue.sent))
    }

    /// Fills `slices` with the bytes to write next, at most `bytes_max`. Returns the number of filled slices.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>], bytes_max: usize) -> usize {
        let mut filled = Filled {
            slices,
            count: 0,
            bytes_left: bytes_max,
        };
        self.commands.fill(&mut filled);
        if !self.is_held {
            self.queue.fill(&mut filled);
        }
        filled.count
    }

    /// Removes the first `bytes`, which were written. Calls `on_written` for each entry whose last byte is among them.
    ///
    /// # Panics
    /// Panics if the outbox has fewer bytes to write.
    pub fn written(&mut self, bytes: usize, mut on_written: impl FnMut(WrittenEntry)) {
        let commands_bytes = bytes.min(self.commands.unsent_bytes);
        self.commands.written(commands_bytes, &mut on_written);
        let publication_bytes = &mut self.publication_bytes;
        self.queue.written(bytes - commands_bytes, |entry| {
            if entry.is_publication {
                *publication_bytes -= entry.bytes;
            }
            on_written(entry);
        });
    }

    /// Called when the connection has ended: drops commands and retains publications, as [`Outbox`] describes. O(retained
    /// bytes) if there are commands to drop between publications.
    pub fn disconnected(&mut self) {
        self.commands = Queue::default();
        self.queue.rewind();
        if self
            .queue
            .entries
            .iter()
            .any(|entry| entry & PUBLICATION == 0)
        {
            self.queue.retain(|_, entry| entry & PUBLICATION != 0);
        }
        self.is_held = true;
    }

    /// Drops the publications of which no byte was written. Returns their number. O(retained bytes).
    pub fn discard_publications(&mut self) -> u64 {
        let is_first_begun = self.queue.sent > 0;
        let count_before = self.queue.entries.len();
        self.queue
            .retain(|index, entry| entry & PUBLICATION == 0 || index == 0 && is_first_begun);
        let publications = self.queue.entries.iter();
        self.publication_bytes = publications
            .filter(|entry| *entry & PUBLICATION != 0)
            .map(|entry| (entry & LEN) as usize)
            .sum();
        (count_before - self.queue.entries.len()) as u64
    }
}

/// Entries in their order.
#[derive(Debug, Default)]
struct Queue {
    /// The bytes. All blocks except the last are full.
    blocks: VecDeque<Vec<u8>>,
    /// Length of each entry, and whether it is a publication ([`PUBLICATION`]).
    entries: VecDeque<u32>,
    /// Bytes of the first block that precede the first entry.
    head: usize,
    /// Bytes of the first entry that were written.
    sent: usize,
    unsent_bytes: usize,
}

/// See [`Outbox::slices`].
struct Filled<'s, 'a> {
    slices: &'s mut [IoSlice<'a>],
    count: usize,
    bytes_left: usize,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Appends an entry. Returns its length.
    fn push(&mut self, flag: u32, parts: &[&[u8]]) -> usize {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        assert!(len <= LEN as usize, "an entry has {len} bytes");
        if len == 0 {
            return 0;
        }
        match self.blocks.back_mut() {
            // The usual case: the entry fits into the last block.
            Some(last) if len <= BLOCK_BYTES - last.len() => {
                parts.iter().for_each(|part| last.extend_from_slice(part))
            }
            Some(_) | None => parts.iter().for_each(|part| self.append(part)),
        }
        self.entries.push_back(len as u32 | flag);
        self.unsent_bytes += len;
        len
    }

    #[inline]
    fn append(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        if let Some(last) = self.blocks.back_mut() {
            let fits = rest.len().min(BLOCK_BYTES - last.len());
            last.extend_from_slice(&rest[..fits]);
            rest = &rest[fits..];
        }
        while !rest.is_empty() {
            let (block, after) = rest.split_at(rest.len().min(BLOCK_BYTES));
            let mut bytes = Vec::with_capacity(BLOCK_BYTES);
            bytes.extend_from_slice(block);
            self.blocks.push_back(bytes);
            rest = after;
        }
    }

    fn fill<'a>(&'a self, filled: &mut Filled<'_, 'a>) {
        let mut skipped = self.head + self.sent;
        for block in &self.blocks {
            let skipped_here = skipped.min(block.len());
            skipped -= skipped_here;
            let unsent = &block[skipped_here..];
            let unsent = &unsent[..unsent.len().min(filled.bytes_left)];
            if unsent.is_empty() {
                continue;
            }
            let Some(slice) = filled.slices.get_mut(filled.count) else {
                return;
            };
            *slice = IoSlice::new(unsent);
            filled.count += 1;
            filled.bytes_left -= unsent.len();
        }
    }

    fn written(&mut self, bytes: usize, mut on_written: impl FnMut(WrittenEntry)) {
        assert!(bytes <= self.unsent_bytes, "{bytes} bytes were written");
        self.unsent_bytes -= bytes;
        self.sent += bytes;
        while let Some(entry) = self.entries.front() {
            let len = (entry & LEN) as usize;
            if self.sent < len {
                break;
            }
            on_written(WrittenEntry {
                is_publication: entry & PUBLICATION != 0,
                bytes: len,
            });
            self.sent -= len;
            self.head += len;
            self.entries.pop_front();
        }
        self.free();
    }

    /// Frees the blocks before the first entry. Retains one if the queue is empty.
    fn free(&mut self) {
        while self.blocks.len() > 1 && self.head >= self.blocks[0].len() {
            self.head -= self.blocks[0].len();
            self.blocks.pop_front();
        }
        if self.entries.is_empty() {
            self.head = 0;
            self.blocks.truncate(1);
            if let Some(block) = self.blocks.front_mut() {
                block.clear();
            }
        }
        if self.entries.len() < ENTRIES_RETAINED && self.entries.capacity() > 4 * ENTRIES_RETAINED {
            self.entries.shrink_to(ENTRIES_RETAINED);
            self.blocks.shrink_to(ENTRIES_RETAINED);
        }
    }

    /// Marks all bytes of the first entry as unwritten.
    fn rewind(&mut self) {
        self.unsent_bytes += self.sent;
        self.sent = 0;
    }

    /// Drops the entries for which `is_retained` returns `false`. Its arguments are an index in [`Queue::entries`] and the
    /// element there.
    fn retain(&mut self, is_retained: impl Fn(usize, u32) -> bool) {
        let all = std::mem::take(self);
        let mut blocks = all.blocks.iter();
        let mut rest = blocks.next().map_or(&[][..], |block| &block[all.head..]);
        for (index, &entry) in all.entries.iter().enumerate() {
            let mut len = (entry & LEN) as usize;
            let is_retained = is_retained(index, entry);
            if is_retained {
                self.entries.push_back(entry);
                self.unsent_bytes += len;
            }
            while len > 0 {
                if rest.is_empty() {
                    rest = blocks
                        .next()
                        .expect("the blocks have the bytes of all entries");
                }
                let (part, after) = rest.split_at(len.min(rest.len()));
                if is_retained {
                    self.append(part);
                }
                rest = after;
                len -= part.len();
            }
            if index == 0 && is_retained {
                self.sent = all.sent;
                self.unsent_bytes -= all.sent;
            }
        }
    }
}

/// Bit of an element of [`Queue::entries`] that marks a publication. The other bits are the length.
const PUBLICATION: u32 = 1 << 31;
const LEN: u32 = PUBLICATION - 1;

/// Bytes of a block. One system call writes several blocks.
const BLOCK_BYTES: usize = 32 * 1024;

/// Capacity of each list in a queue that is retained after a burst.
const ENTRIES_RETAINED: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes up to `bytes_max` bytes in slices. Returns them, and appends the written entries.
    fn write(outbox: &mut Outbox, bytes_max: usize, entries: &mut Vec<WrittenEntry>) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 4];
        let count = outbox.slices(&mut slices, bytes_max);
        assert!(slices[..count].iter().all(|slice| !slice.is_empty()));
        let bytes: Vec<u8> = slices[..count]
            .iter()
            .flat_map(|slice| slice.to_vec())
            .collect();
        outbox.written(bytes.len(), |entry| entries.push(entry));
        bytes
    }

    fn write_all(outbox: &mut Outbox) -> String {
        let mut all = Vec::new();
        while !outbox.is_empty() {
            all.extend(write(outbox, usize::MAX, &mut Vec::new()));
        }
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn entries_are_written_in_order_and_reported_with_their_last_byte() {
        for step in 1..=10 {
            let mut outbox = Outbox::default();
            outbox.push_publication(&[b"a", b"", b"bc"]);
            outbox.push_command(&[b"DEF"]);
            outbox.push_publication(&[b"ghij"]);
            assert_eq!(outbox.publication_bytes(), 7);
            let (mut written, mut entries) = (Vec::new(), Vec::new());
            while !outbox.is_empty() {
                written.extend(write(&mut outbox, step, &mut entries));
                let ends = [3, 6, 10];
                let complete = ends.iter().filter(|end| **end <= written.len()).count();
                assert_eq!(entries.len(), complete, "after {} bytes", written.len());
            }
            assert_eq!(written, b"abcDEFghij");
            let kinds: Vec<_> = entries
                .iter()
                .map(|entry| (entry.is_publication, entry.bytes))
                .collect();
            assert_eq!(kinds, [(true, 3), (false, 3), (true, 4)]);
            assert_eq!(outbox.publication_bytes(), 0);
        }
    }

    #[test]
    fn after_the_end_of_a_connection_unwritten_publications_follow_the_new_commands() {
        for written in 0..=12 {
            let mut outbox = Outbox::default();
            outbox.push_command(&[b"S1 "]);
            outbox.push_publication(&[b"p1 "]);
            outbox.push_command(&[b"S2 "]);
            outbox.push_publication(&[b"p2 "]);
            write(&mut outbox, written, &mut Vec::new());
            outbox.disconnected();
            assert!(outbox.is_empty());
            outbox.push_publication(&[b"p3 "]);
            outbox.push_command(&[b"S3 "]);
            outbox.push_command(&[b"S4 "]);
            let retained = match written {
                0..6 => "p1 p2 p3 ",
                6..12 => "p2 p3 ",
                _ => "p3 ",
            };
            assert_eq!(write_all(&mut outbox), "S3 S4 ", "{written}");
            assert_eq!(outbox.publication_bytes(), retained.len(), "{written}");
            outbox.release();
            outbox.push_command(&[b"S5 "]);
            assert_eq!(write_all(&mut outbox), format!("{retained}S5 "));
            assert_eq!(outbox.publication_bytes(), 0);
        }
    }

    #[test]
    fn a_command_that_was_not_written_before_release_still_comes_first() {
        let mut outbox = Outbox::default();
        outbox.push_publication(&[b"p1 "]);
        outbox.disconnected();
        outbox.push_command(&[b"S1 "]);
        assert_eq!(outbox.begun_entry(), None);
        write(&mut outbox, 2, &mut Vec::new());
        outbox.release();
        outbox.push_command(&[b"S2 "]);
        assert_eq!(outbox.begun_entry(), Some((2, 1)));
        assert_eq!(write_all(&mut outbox), " p1 S2 ");
        // Two ends in a row lose no publication.
        outbox.push_publication(&[b"p2 "]);
        write(&mut outbox, 1, &mut Vec::new());
        outbox.disconnected();
        outbox.disconnected();
        outbox.release();
        assert_eq!(write_all(&mut outbox), "p2 ");
    }

    #[test]
    fn discarding_drops_what_was_not_begun_and_counts_it() {
        let table = [
            (0, 3, 0, "S1 "),
            (1, 2, 3, "1 S1 "),
            (3, 2, 0, "S1 "),
            (7, 1, 3, "2 "),
        ];
        for (written, count, bytes, left) in table {
            let mut outbox = Outbox::default();
            outbox.push_publication(&[b"p1 "]);
            outbox.push_command(&[b"S1 "]);
            outbox.push_publication(&[b"p2 "]);
            outbox.push_publication(&[b"p3 "]);
            write(&mut outbox, written, &mut Vec::new());
            assert_eq!(outbox.discard_publications(), count, "{written}");
            assert_eq!(outbox.publication_bytes(), bytes, "{written}");
            assert_eq!(write_all(&mut outbox), left, "{written}");
            assert_eq!(outbox.publication_bytes(), 0);
        }
    }

    /// Property: whatever is pushed, written and cut, each publication is written completely exactly once, in order.
    #[test]
    fn random_pushes_writes_and_ends_lose_and_repeat_no_publication() {
        for seed in 0..200_u64 {
            let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
            let mut next = move |n: u64| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random % n
            };
            let mut outbox = Outbox::default();
            let mut pushed = Vec::new();
            let mut written = Vec::new();
            for _ in 0..100 {
                match next(8) {
                    0..4 => {
                        let len = match next(10) {
                            0 => 1 + next(100_000),
                            _ => 1 + next(100),
                        } as usize;
                        outbox.push_publication(&[&vec![b'p'; len]]);
                        pushed.push(len);
                    }
                    4 => outbox.push_command(&[&vec![b'C'; 1 + next(2000) as usize]]),
                    5 if next(4) == 0 => {
                        outbox.disconnected();
                        outbox.release();
                    }
                    _ => {
                        let mut entries = Vec::new();
                        write(&mut outbox, next(150_000) as usize, &mut entries);
                        let publications = entries.iter().filter(|entry| entry.is_publication);
                        written.extend(publications.map(|entry| entry.bytes));
                    }
                }
                let left: usize = pushed[written.len()..].iter().sum();
                assert_eq!(outbox.publication_bytes(), left, "seed {seed}");
            }
            outbox.disconnected();
            outbox.release();
            let bytes = write_all(&mut outbox).len();
            let left: usize = pushed[written.len()..].iter().sum();
            assert_eq!(bytes, left, "seed {seed}");
            assert_eq!(pushed[..written.len()], written[..], "seed {seed}");
        }
    }

    #[test]
    fn memory_returns_after_a_burst() {
        let mut outbox = Outbox::default();
        for _ in 0..100_000 {
            outbox.push_publication(&[&[b'x'; 100]]);
        }
        let blocks_bytes = outbox.queue.blocks.len() * BLOCK_BYTES;
        assert!(blocks_bytes < 10_000_000 + 2 * BLOCK_BYTES);
        // Written blocks are freed while the other blocks wait.
        write(&mut outbox, 4 * BLOCK_BYTES, &mut Vec::new());
        assert!(outbox.queue.blocks.len() * BLOCK_BYTES < blocks_bytes - 2 * BLOCK_BYTES);
        write_all(&mut outbox);
        assert!(outbox.queue.blocks.len() <= 1);
        assert!(outbox.queue.blocks.capacity() <= 2 * ENTRIES_RETAINED);
        assert!(outbox.queue.entries.capacity() <= 4 * ENTRIES_RETAINED);
    }
}
