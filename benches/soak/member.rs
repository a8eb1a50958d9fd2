//! A member of the room, and how it is told that it missed nothing.

use crate::room::{Log, Room, number_in};
use crate::talk::Ending;
use crate::wire::{End, Wire, close_code, request};
use crate::{Crowd, STALL_MAX};
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// A member of the room.
pub(crate) struct Member {
    pub(crate) wire: Wire,
    pub(crate) name: u64,
    /// The log's end before it asked to join.
    pub(crate) needs_from: u64,
    /// How many messages were published when it had joined: the later ones are all for it.
    joined_at: Option<u64>,
    /// Where in the log it is; `None` before its first message.
    position: Option<u64>,
    /// Read, but not by the witness yet.
    unchecked: VecDeque<u64>,
    /// It reads nothing until so many bytes were published, and can fall too far behind.
    pub(crate) lag_until: Option<u64>,
    leaves_at: Instant,
    ending: Ending,
    pub(crate) has_said_goodbye: bool,
    pub(crate) has_left_in_order: bool,
    /// The log's end when it said goodbye: up to there it gets everything.
    owed_to: u64,
    close_code: Option<u16>,
    pub(crate) is_over: bool,
    moved_at: Instant,
}

impl Member {
    pub(crate) fn new(crowd: &mut Crowd<'_>, name: u64, room: &Room) -> Self {
        let wire = Wire::new(crowd, &request("/room"));
        let random = &mut crowd.random;
        let lag_until = (random.below(20) == 0).then_some(room.bytes + LAG_BYTES);
        let now = Instant::now();
        Self {
            wire,
            name,
            needs_from: room.log.end(),
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
            has_said_goodbye: false,
            has_left_in_order: false,
            owed_to: 0,
            close_code: None,
            is_over: false,
            moved_at: now,
        }
    }

    pub(crate) fn pump(&mut self) -> bool {
        let has_written = self.wire.write();
        self.wire.read(usize::MAX) || has_written
    }

    pub(crate) fn turn(&mut self, crowd: &Crowd<'_>, log: &Log, published: u64, bytes: u64) {
        let is_lagging = self.lag_until.is_some_and(|end| bytes < end) && !crowd.is_over();
        if !is_lagging {
            self.lag_until = None;
        }
        let has_moved = if is_lagging && self.wire.is_open() {
            self.wire.write()
        } else {
            self.pump()
        };
        if self.wire.is_open() && self.joined_at.is_none() {
            self.joined_at = Some(published);
        }
        while let Some((first, payload)) = self.wire.next_frame() {
            match (number_in(first, &payload), first) {
                (Some(number), _) if self.close_code.is_none() => {
                    crowd.totals.room_delivered.fetch_add(1, Relaxed);
                    self.unchecked.push_back(number);
                }
                (None, 0x88) => self.close_code = Some(close_code(&payload)),
                (_, _) => self.fault(crowd, "read what nobody sent"),
            }
        }
        if self.close_code.is_some() {
            self.wire.shut();
        }
        self.check(crowd, log);
        self.leave(crowd, log, is_lagging);
        if has_moved || is_lagging {
            self.moved_at = Instant::now();
        }
        if self.wire.end.is_some() && self.unchecked.is_empty() {
            self.ended(crowd, log);
        } else if self.awaits_something() && self.moved_at.elapsed() > STALL_MAX {
            self.fault(crowd, "is neither served nor let go");
            self.is_over = true;
        }
    }

    /// The 101, or the end.
    fn awaits_something(&self) -> bool {
        self.has_said_goodbye || !self.wire.is_open()
    }

    /// What it has read lies in the log without a gap.
    fn check(&mut self, crowd: &Crowd<'_>, log: &Log) {
        while let Some(number) = self.unchecked.front().copied() {
            let Some(position) = self.position.or_else(|| self.find(number, crowd, log)) else {
                return;
            };
            match log.at(position) {
                Some(expected) if expected == number => {}
                Some(_) => return self.fail(crowd, "has a gap"),
                None => return,
            }
            self.unchecked.pop_front();
            self.position = Some(position + 1);
            self.needs_from = position + 1;
        }
    }

    /// The position of the first message: behind nothing that was published after it had joined.
    fn find(&mut self, number: u64, crowd: &Crowd<'_>, log: &Log) -> Option<u64> {
        for position in self.needs_from..log.end() {
            let passed = log.at(position);
            if passed == Some(number) {
                return Some(position);
            }
            if !self.is_before_it(passed) {
                self.fail(crowd, "missed the beginning");
                return None;
            }
        }
        None
    }

    fn leave(&mut self, crowd: &Crowd<'_>, log: &Log, is_lagging: bool) {
        let is_time = crowd.is_over() || Instant::now() >= self.leaves_at && !is_lagging;
        if !self.wire.is_open() || !is_time || !self.wire.to_write.is_empty() {
            return;
        }
        match self.ending {
            Ending::Close if !self.has_said_goodbye => {
                self.owed_to = log.end();
                self.wire.to_write.extend([0x88, 0x80, 0, 0, 0, 0]);
            }
            Ending::HalfClose if !self.has_said_goodbye => {
                self.owed_to = log.end();
                self.wire.shut();
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
        self.has_said_goodbye = true;
    }

    /// The server has ended the stream.
    fn ended(&mut self, crowd: &Crowd<'_>, log: &Log) {
        self.is_over = true;
        let is_in_order = self.has_said_goodbye && self.wire.end == Some(End::Stream);
        match self.close_code {
            // It was too far behind, and told so; what it said meanwhile may not have been read.
            Some(1013) => {
                crowd.totals.refused.fetch_add(1, Relaxed);
                crowd.totals.lagged.fetch_add(1, Relaxed);
                return;
            }
            Some(1005) if self.ending == Ending::Close && is_in_order => {}
            None if self.ending == Ending::HalfClose && is_in_order => {}
            Some(_) | None => return self.fault(crowd, "was ended"),
        }
        self.has_left_in_order = true;
        // Without a first message its place in the log is not known: behind what was published before it joined.
        let position = self.position.unwrap_or_else(|| {
            let is_before = |position: &u64| self.is_before_it(log.at(*position));
            let mut missed = self.needs_from..self.owed_to;
            missed
                .find(|position| !is_before(position))
                .unwrap_or(self.owed_to)
        });
        if position < self.owed_to {
            self.fault(crowd, "did not get all before it left");
        }
    }

    /// Whether the message was published when it had not joined yet, or may not have.
    fn is_before_it(&self, number: Option<u64>) -> bool {
        number < Some(self.joined_at.unwrap_or(u64::MAX))
    }

    fn fail(&mut self, crowd: &Crowd<'_>, what: &str) {
        self.fault(crowd, what);
        self.unchecked.clear();
        self.is_over = true;
    }

    fn fault(&self, crowd: &Crowd<'_>, what: &str) {
        crowd.totals.fault(&format!(
            "member {} {what}: {:?}, joined at {:?}, position {:?}, owed to {}, {} unchecked, Close {:?}, end {:?}",
            self.name,
            self.ending,
            self.joined_at,
            self.position,
            self.owed_to,
            self.unchecked.len(),
            self.close_code,
            self.wire.end,
        ));
    }
}

/// What is published while a member does not read: more than the system's buffers and the lag allowed.
const LAG_BYTES: u64 = 16 << 20;
