//! The topic: members that come and go, what they publish, and the witness, whose order of messages is the topic's.

use crate::member::Member;
use crate::wire::frame;
use crate::{Load, PAUSE, STALL_MAX};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

/// A topic whose members come and go.
pub(crate) fn broadcast(load: &mut Load<'_>) {
    let mut topic = Topic {
        members: Vec::new(),
        log: Log::default(),
        published: 0,
        awaited: BTreeMap::new(),
        possibly_lost: BTreeSet::new(),
        bytes: 0,
    };
    let mut witness = Member::new(load, 0, &topic);
    let mut next_id = 1;
    while !load.is_over() || !topic.members.is_empty() {
        let mut has_moved = topic.read_witness(load, &mut witness);
        if topic.members.len() < MEMBERS && !load.is_over() {
            let member = Member::new(load, next_id, &topic);
            topic.members.push(member);
            next_id += 1;
        }
        has_moved |= topic.publish(load);
        topic.turn(load);
        if !has_moved {
            thread::sleep(PAUSE);
        }
    }
    // The last words of those who left in order are on their way.
    let deadline = Instant::now() + STALL_MAX;
    while !topic.awaited.is_empty() && Instant::now() < deadline {
        topic.read_witness(load, &mut witness);
        thread::sleep(PAUSE);
    }
    // The witness would have them by now, if ever.
    let quiet = Instant::now() + Duration::from_millis(200);
    while Instant::now() < quiet {
        topic.read_witness(load, &mut witness);
    }
    load.totals
        .ended
        .fetch_add(topic.possibly_lost.len() as u64, Relaxed);
}

pub(crate) struct Topic {
    members: Vec<Member>,
    pub(crate) log: Log,
    /// How many messages were published: each has its number.
    published: u64,
    /// Messages that the witness has not seen, and who sent them.
    awaited: BTreeMap<u64, u64>,
    /// The same, and the sender went away on purpose: they may have been lost with it.
    possibly_lost: BTreeSet<u64>,
    /// How many bytes were published.
    pub(crate) bytes: u64,
}

/// What the witness has read: numbers of messages, in the topic's order.
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

impl Topic {
    /// The witness reads.
    fn read_witness(&mut self, load: &mut Load<'_>, witness: &mut Member) -> bool {
        let has_moved = witness.read_and_write();
        while let Some((first, payload)) = witness.wire.next_frame() {
            if first == 0x89 {
                // It says nothing of itself, so after a minute it is asked whether it lives.
                frame(&mut witness.wire.to_write, 0x8A, &payload, &mut load.random);
                continue;
            }
            let Some(number) = number_in(first, &payload) else {
                load.totals.fault("the witness read what nobody sent");
                continue;
            };
            if self.awaited.remove(&number).is_none() && !self.possibly_lost.remove(&number) {
                load.totals.fault("the witness read a message twice");
                continue;
            }
            load.totals.delivered.fetch_add(1, Relaxed);
            self.log.numbers.push_back(number);
        }
        if witness.wire.end.is_some() {
            load.totals.fault("the witness was ended");
            self.awaited.clear();
            witness.wire.end = None;
        }
        has_moved
    }

    /// Somebody says something, unless much is on its way.
    fn publish(&mut self, load: &mut Load<'_>) -> bool {
        let is_over = load.is_over();
        let random = &mut load.random;
        let is_lagging = self.members.iter().any(|member| member.lag_until.is_some());
        if self.awaited.len() >= AWAITED_MAX || self.members.is_empty() || is_over {
            return false;
        }
        let at = random.below(self.members.len());
        let member = &mut self.members[at];
        if !member.wire.is_open() || member.is_leaving || member.wire.to_write.len() > 100_000 {
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
        self.awaited.insert(self.published, member.id);
        self.published += 1;
        self.bytes += len as u64;
        load.totals.sent.fetch_add(1, Relaxed);
        load.totals.bytes.fetch_add(len as u64, Relaxed);
        true
    }

    /// Members read, are held against the log, and leave.
    fn turn(&mut self, load: &mut Load<'_>) {
        let Self {
            members,
            log,
            awaited,
            possibly_lost,
            published,
            bytes,
        } = self;
        members.retain_mut(|member| {
            member.turn(load, log, *published, *bytes);
            if member.is_over && !member.has_left_cleanly {
                awaited.retain(|number, sender| {
                    let is_its = *sender == member.id;
                    if is_its {
                        possibly_lost.insert(*number);
                    }
                    !is_its
                });
            }
            !member.is_over
        });
        // What everybody has passed is not needed any more.
        let needed = members.iter().map(|member| member.unconfirmed_from).min();
        let needed = needed.unwrap_or(log.end());
        while log.start < needed && log.numbers.pop_front().is_some() {
            log.start += 1;
        }
    }
}

/// A message of the topic: its number, and bytes that follow from it.
fn payload_of(number: u64, len: usize) -> Vec<u8> {
    let seed = number.to_be_bytes();
    let mut payload = seed.to_vec();
    payload.extend((NUMBER_BYTES..len).map(|at| seed[at % 8] ^ at as u8));
    payload
}

/// The number of a message of the topic; `None` if it is none, or was altered.
pub(crate) fn number_in(first: u8, payload: &[u8]) -> Option<u64> {
    let number = u64::from_be_bytes(*payload.first_chunk()?);
    (first == 0x82 && payload == payload_of(number, payload.len())).then_some(number)
}

const MEMBERS: usize = 12;

/// Messages of the topic that may be on their way.
const AWAITED_MAX: usize = 20;

const LAG_MESSAGE_BYTES: usize = 100_000;

const NUMBER_BYTES: usize = 8;
