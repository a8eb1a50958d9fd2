//! A member of the topic, with the check that it misses no message.

use crate::broadcast::{Log, Topic, number_in};
use crate::conversation::Ending;
use crate::wire::{End, Wire, close_code, request};
use crate::{Load, STALL_MAX};
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// A member of the topic: a client that joins, reads and publishes, and leaves after up to three seconds.
pub(crate) struct Member {
    pub(crate) wire: Wire,
    pub(crate) id: u64,
    /// First position in the log that this member needs: the log's end when the member sent its request, later the position
    /// after the last checked message.
    pub(crate) unconfirmed_from: u64,
    /// Number of published messages when the 101 arrived. The member must receive all messages published later.
    joined_at: Option<u64>,
    /// Position in the log after the last checked message; `None` before the first one.
    position: Option<u64>,
    /// Messages that this member has read but the witness has not.
    unchecked: VecDeque<u64>,
    /// The member does not read until this many bytes were published in total, so that it falls behind.
    pub(crate) lag_until: Option<u64>,
    leaves_at: Instant,
    ending: Ending,
    /// The member has begun its `ending`, and publishes nothing more.
    pub(crate) is_leaving: bool,
    /// The server has confirmed the end, so all messages of this member must have been published.
    pub(crate) has_left_cleanly: bool,
    /// The log's end when the member began to leave. The member must receive all messages before this position.
    expected_end: u64,
    /// Code of the server's Close.
    close_code: Option<u16>,
    /// The member is finished and can be removed.
    pub(crate) is_over: bool,
    /// When bytes were last read or written.
    moved_at: Instant,
}

impl Member {
    pub(crate) fn new(load: &mut Load<'_>, id: u64, topic: &Topic) -> Self {
        let wire = Wire::new(load, &request("/chat"));
        let random = &mut load.random;
        let lag_until = (random.below(20) == 0).then_some(topic.bytes + LAG_BYTES);
        let now = Instant::now();
        Self {
            wire,
            id,
            unconfirmed_from: topic.log.end(),
            joined_at: None,
            position: None,
            unchecked: VecDeque::new(),
            lag_until,
            leaves_at: now + Duration::from_millis(random.below(3000) as u64),
            ending: [
                Ending::Close,
                Ending::Close,
                Ending::HalfClose,
                Ending::Drop,
                Ending::Reset,
            ][random.below(5)],
            is_leaving: false,
            has_left_cleanly: false,
            expected_end: 0,
            close_code: None,
            is_over: false,
            moved_at: now,
        }
    }

    /// Returns whether bytes were read or written.
    pub(crate) fn read_and_write(&mut self) -> bool {
        let has_written = self.wire.write();
        self.wire.read(usize::MAX) || has_written
    }

    /// Reads and writes once, checks the messages, and leaves if it is time. `published` and `bytes` are the totals of the
    /// topic.
    pub(crate) fn turn(&mut self, load: &Load<'_>, log: &Log, published: u64, bytes: u64) {
        let is_lagging = self.lag_until.is_some_and(|end| bytes < end) && !load.is_over();
        if !is_lagging {
            self.lag_until = None;
        }
        let has_moved = if is_lagging && self.wire.is_open() {
            self.wire.write()
        } else {
            self.read_and_write()
        };
        if self.wire.is_open() && self.joined_at.is_none() {
            self.joined_at = Some(published);
        }
        while let Some((first, payload)) = self.wire.next_frame() {
            match (number_in(first, &payload), first) {
                (Some(number), _) if self.close_code.is_none() => {
                    load.totals.received_by_members.fetch_add(1, Relaxed);
                    self.unchecked.push_back(number);
                }
                (None, 0x88) => self.close_code = Some(close_code(&payload)),
                (_, _) => self.fault(load, "read a frame that was not published"),
            }
        }
        if self.close_code.is_some() {
            self.wire.shut_down_write();
        }
        self.check(load, log);
        self.leave(load, log, is_lagging);
        if has_moved || is_lagging {
            self.moved_at = Instant::now();
        }
        if self.wire.end.is_some() && self.unchecked.is_empty() {
            self.ended(load, log);
        } else if self.awaits_something() && self.moved_at.elapsed() > STALL_MAX {
            self.fault(
                load,
                "waits in vain for the 101 or the end of the connection",
            );
            self.is_over = true;
        }
    }

    /// Returns whether the member waits for the 101 or for the end of the connection.
    fn awaits_something(&self) -> bool {
        self.is_leaving || !self.wire.is_open()
    }

    /// Checks that the messages read follow each other in the log without a gap.
    fn check(&mut self, load: &Load<'_>, log: &Log) {
        while let Some(number) = self.unchecked.front().copied() {
            let Some(position) = self.position.or_else(|| self.find(number, load, log)) else {
                return;
            };
            match log.at(position) {
                Some(expected) if expected == number => {}
                Some(_) => return self.fail(load, "has a gap"),
                None => return,
            }
            self.unchecked.pop_front();
            self.position = Some(position + 1);
            self.unconfirmed_from = position + 1;
        }
    }

    /// Returns the position of this member's first message in the log, or `None` if the witness has not read it yet.
    /// Reports a fault if an earlier message was published after the member had joined.
    fn find(&mut self, number: u64, load: &Load<'_>, log: &Log) -> Option<u64> {
        for position in self.unconfirmed_from..log.end() {
            let passed = log.at(position);
            if passed == Some(number) {
                return Some(position);
            }
            if !self.was_possibly_published_before_join(passed) {
                self.fail(load, "missed the beginning");
                return None;
            }
        }
        None
    }

    fn leave(&mut self, load: &Load<'_>, log: &Log, is_lagging: bool) {
        let is_time = load.is_over() || Instant::now() >= self.leaves_at && !is_lagging;
        if !self.wire.is_open() || !is_time || !self.wire.to_write.is_empty() {
            return;
        }
        match self.ending {
            Ending::Close if !self.is_leaving => {
                self.expected_end = log.end();
                self.wire.to_write.extend([0x88, 0x80, 0, 0, 0, 0]);
            }
            Ending::HalfClose if !self.is_leaving => {
                self.expected_end = log.end();
                self.wire.shut_down_write();
            }
            Ending::Close | Ending::HalfClose => {}
            Ending::Reset => {
                self.wire.reset_when_dropped();
                self.is_over = true;
            }
            Ending::Drop | Ending::Abort | Ending::Violation | Ending::BadRequest => {
                self.is_over = true;
            }
        }
        self.is_leaving = true;
    }

    /// Checks how the connection ended, after the server has ended the stream.
    fn ended(&mut self, load: &Load<'_>, log: &Log) {
        self.is_over = true;
        let is_in_order = self.is_leaving && self.wire.end == Some(End::Stream);
        match self.close_code {
            // The member was too far behind. The server may not have read all messages that the member published.
            Some(1013) => {
                load.totals.refused.fetch_add(1, Relaxed);
                load.totals.lagged.fetch_add(1, Relaxed);
                return;
            }
            Some(1005) if self.ending == Ending::Close && is_in_order => {}
            None if self.ending == Ending::HalfClose && is_in_order => {}
            Some(_) | None => return self.fault(load, "was ended"),
        }
        self.has_left_cleanly = true;
        // If the member has read no message, the position is that of the first message published after it joined.
        let position = self.position.unwrap_or_else(|| {
            let is_before =
                |position: &u64| self.was_possibly_published_before_join(log.at(*position));
            let mut missed = self.unconfirmed_from..self.expected_end;
            missed
                .find(|position| !is_before(position))
                .unwrap_or(self.expected_end)
        });
        if position < self.expected_end {
            self.fault(
                load,
                "did not receive all messages published before it left",
            );
        }
    }

    /// Returns whether the message was possibly published before this member joined.
    fn was_possibly_published_before_join(&self, number: Option<u64>) -> bool {
        number < Some(self.joined_at.unwrap_or(u64::MAX))
    }

    fn fail(&mut self, load: &Load<'_>, what: &str) {
        self.fault(load, what);
        self.unchecked.clear();
        self.is_over = true;
    }

    fn fault(&self, load: &Load<'_>, what: &str) {
        load.totals.fault(&format!(
            "member {} {what}: {:?}, joined at {:?}, position {:?}, expected end {}, {} unchecked, Close {:?}, end {:?}",
            self.id,
            self.ending,
            self.joined_at,
            self.position,
            self.expected_end,
            self.unchecked.len(),
            self.close_code,
            self.wire.end,
        ));
    }
}

/// Bytes published while a member does not read: more than the socket buffers and `--lag-bytes-max` together.
const LAG_BYTES: u64 = 16 << 20;
