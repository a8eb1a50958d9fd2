//! The room: members that come and go, what they publish, and the witness, whose order of messages is the room's.

use crate::member::Member;
use crate::wire::frame;
use crate::{Crowd, PAUSE, STALL_MAX};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

/// A room whose members come and go.
pub(crate) fn room(crowd: &mut Crowd<'_>) {
    let mut room = Room {
        members: Vec::new(),
        log: Log::default(),
        published: 0,
        awaited: BTreeMap::new(),
        doubtful: BTreeSet::new(),
        bytes: 0,
    };
    let mut witness = Member::new(crowd, 0, &room);
    let mut names = 1;
    while !crowd.is_over() || !room.members.is_empty() {
        let mut has_moved = room.listen(crowd, &mut witness);
        if room.members.len() < MEMBERS && !crowd.is_over() {
            let member = Member::new(crowd, names, &room);
            room.members.push(member);
            names += 1;
        }
        has_moved |= room.publish(crowd);
        room.turn(crowd);
        if !has_moved {
            thread::sleep(PAUSE);
        }
    }
    // The last words of those who left in order are on their way.
    let deadline = Instant::now() + STALL_MAX;
    while !room.awaited.is_empty() && Instant::now() < deadline {
        room.listen(crowd, &mut witness);
        thread::sleep(PAUSE);
    }
    // The witness would have them by now, if ever.
    let quiet = Instant::now() + Duration::from_millis(200);
    while Instant::now() < quiet {
        room.listen(crowd, &mut witness);
    }
    crowd
        .totals
        .ended
        .fetch_add(room.doubtful.len() as u64, Relaxed);
}

pub(crate) struct Room {
    members: Vec<Member>,
    pub(crate) log: Log,
    /// How many messages were published: each has its number.
    published: u64,
    /// Messages that the witness has not seen, and who sent them.
    awaited: BTreeMap<u64, u64>,
    /// The same, and the sender went away on purpose: they may have been lost with it.
    doubtful: BTreeSet<u64>,
    /// How many bytes were published.
    pub(crate) bytes: u64,
}

/// What the witness has read: numbers of messages, in the room's order.
#[derive(Default)]
pub(crate) struct Log {
    numbers: VecDeque<u64>,
    /// How many were forgotten before the first.
    start: u64,
}

impl Log {
    pub(crate) fn end(&self) -> u64 {
        self.start + self.numbers.len() as u64
    }

    pub(crate) fn at(&self, position: u64) -> Option<u64> {
        let index = position.checked_sub(self.start).expect("not forgotten yet");
        self.numbers.get(index as usize).copied()
    }
}

impl Room {
    /// The witness reads.
    fn listen(&mut self, crowd: &mut Crowd<'_>, witness: &mut Member) -> bool {
        let has_moved = witness.pump();
        while let Some((first, payload)) = witness.wire.next_frame() {
            if first == 0x89 {
                // It says nothing of itself, so after a minute it is asked whether it lives.
                frame(
                    &mut witness.wire.to_write,
                    0x8A,
                    &payload,
                    &mut crowd.random,
                );
                continue;
            }
            let Some(number) = number_in(first, &payload) else {
                crowd.totals.fault("the witness read what nobody sent");
                continue;
            };
            if self.awaited.remove(&number).is_none() && !self.doubtful.remove(&number) {
                crowd.totals.fault("the witness read a message twice");
                continue;
            }
            crowd.totals.delivered.fetch_add(1, Relaxed);
            self.log.numbers.push_back(number);
        }
        if witness.wire.end.is_some() {
            crowd.totals.fault("the witness was ended");
            self.awaited.clear();
            witness.wire.end = None;
        }
        has_moved
    }

    /// Somebody says something, unless much is on its way.
    fn publish(&mut self, crowd: &mut Crowd<'_>) -> bool {
        let is_over = crowd.is_over();
        let random = &mut crowd.random;
        let is_lagging = self.members.iter().any(|member| member.lag_until.is_some());
        if self.awaited.len() >= AWAITED_MAX || self.members.is_empty() || is_over {
            return false;
        }
        let at = random.below(self.members.len());
        let member = &mut self.members[at];
        if !member.wire.is_open() || member.has_said_goodbye || member.wire.to_write.len() > 100_000
        {
            return false;
        }
        // Large ones, when somebody is to fall behind: the system's buffers alone hold megabytes.
        let len = if is_lagging {
            LAG_MESSAGE_BYTES
        } else {
            NUMBER_BYTES + random.len(2000)
        };
        let payload = payload_of(self.published, len);
        frame(&mut member.wire.to_write, 0x82, &payload, random);
        self.awaited.insert(self.published, member.name);
        self.published += 1;
        self.bytes += len as u64;
        crowd.totals.sent.fetch_add(1, Relaxed);
        crowd.totals.bytes.fetch_add(len as u64, Relaxed);
        true
    }

    /// Members read, are held against the log, and leave.
    fn turn(&mut self, crowd: &mut Crowd<'_>) {
        let Self {
            members,
            log,
            awaited,
            doubtful,
            published,
            bytes,
        } = self;
        members.retain_mut(|member| {
            member.turn(crowd, log, *published, *bytes);
            if member.is_over && !member.has_left_in_order {
                awaited.retain(|number, name| {
                    let is_its = *name == member.name;
                    if is_its {
                        doubtful.insert(*number);
                    }
                    !is_its
                });
            }
            !member.is_over
        });
        // What everybody has passed is not needed any more.
        let needed = members.iter().map(|member| member.needs_from).min();
        let needed = needed.unwrap_or(log.end());
        while log.start < needed && log.numbers.pop_front().is_some() {
            log.start += 1;
        }
    }
}

/// A message of the room: its number, and bytes that follow from it.
fn payload_of(number: u64, len: usize) -> Vec<u8> {
    let seed = number.to_be_bytes();
    let mut payload = seed.to_vec();
    payload.extend((NUMBER_BYTES..len).map(|at| seed[at % 8] ^ at as u8));
    payload
}

/// The number of a message of the room; `None` if it is none, or was altered.
pub(crate) fn number_in(first: u8, payload: &[u8]) -> Option<u64> {
    let number = u64::from_be_bytes(*payload.first_chunk()?);
    (first == 0x82 && payload == payload_of(number, payload.len())).then_some(number)
}

const MEMBERS: usize = 12;

/// Messages of the room that may be on their way.
const AWAITED_MAX: usize = 20;

const LAG_MESSAGE_BYTES: usize = 100_000;

const NUMBER_BYTES: usize = 8;
