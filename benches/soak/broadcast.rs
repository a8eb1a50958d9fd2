//! The members of a topic. Members join, publish and leave; a permanent member, the witness, reads everything and thereby
//! defines the order of messages that all other members must observe.

use crate::member::Member;
use crate::wire::frame;
use crate::{Load, PAUSE, STALL_MAX};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

/// Runs a topic with members that join, publish and leave until the load is over and all have left.
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
    // Messages of members that left cleanly can still be in flight.
    let deadline = Instant::now() + STALL_MAX;
    while !topic.awaited.is_empty() && Instant::now() < deadline {
        topic.read_witness(load, &mut witness);
        thread::sleep(PAUSE);
    }
    // Reads for another 200 ms, because messages in `possibly_lost` may still arrive.
    let quiet = Instant::now() + Duration::from_millis(200);
    while Instant::now() < quiet {
        topic.read_witness(load, &mut witness);
    }
    load.totals
        .ended
        .fetch_add(topic.possibly_lost.len() as u64, Relaxed);
}

/// The state of the topic: its members without the witness, and its messages.
pub(crate) struct Topic {
    members: Vec<Member>,
    pub(crate) log: Log,
    /// Number of published messages, and the number of the next one.
    published: u64,
    /// Numbers of the messages that the witness has not read, with the ids of their senders.
    awaited: BTreeMap<u64, u64>,
    /// Numbers of the messages that the witness has not read, and may never read because the sender disconnected on purpose.
    possibly_lost: BTreeSet<u64>,
    /// Number of published bytes.
    pub(crate) bytes: u64,
}

/// What the witness has read: numbers of messages, in the topic's order.
#[derive(Default)]
pub(crate) struct Log {
    numbers: VecDeque<u64>,
    /// Number of messages removed from the front, because no member needs them any more.
    start: u64,
}

impl Log {
    /// Returns the position of the next message.
    pub(crate) fn end(&self) -> u64 {
        self.start + self.numbers.len() as u64
    }

    /// Returns the number of the message at this position, or `None` if the witness has not read it yet.
    pub(crate) fn at(&self, position: u64) -> Option<u64> {
        let index = position
            .checked_sub(self.start)
            .expect("messages that a member needs are not removed");
        self.numbers.get(index as usize).copied()
    }
}

impl Topic {
    /// Reads all input of the witness and appends the messages to the log. Returns whether bytes were read or written.
    fn read_witness(&mut self, load: &mut Load<'_>, witness: &mut Member) -> bool {
        let has_moved = witness.read_and_write();
        while let Some((first, payload)) = witness.wire.next_frame() {
            if first == 0x89 {
                // The witness publishes nothing, so the server pings it after one minute, half of the idle timeout.
                frame(&mut witness.wire.to_write, 0x8A, &payload, &mut load.random);
                continue;
            }
            let Some(number) = number_in(first, &payload) else {
                load.totals
                    .fault("the witness read a frame that was not published");
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
            load.totals.fault("the server disconnected the witness");
            self.awaited.clear();
            witness.wire.end = None;
        }
        has_moved
    }

    /// Lets a random member publish a message, unless `AWAITED_MAX` messages are in flight. Returns whether it did.
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
        // Messages are large while a member does not read, because the socket buffers alone hold megabytes.
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

    /// Lets each member read, write and check once, and removes finished members.
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
        // Removes the messages that no member needs any more.
        let needed = members.iter().map(|member| member.unconfirmed_from).min();
        let needed = needed.unwrap_or(log.end());
        while log.start < needed && log.numbers.pop_front().is_some() {
            log.start += 1;
        }
    }
}

/// Returns the payload of a message: its number, and bytes computed from the number.
fn payload_of(number: u64, len: usize) -> Vec<u8> {
    let seed = number.to_be_bytes();
    let mut payload = seed.to_vec();
    payload.extend((NUMBER_BYTES..len).map(|at| seed[at % 8] ^ at as u8));
    payload
}

/// Returns the number of the message in this frame, or `None` if the frame is not one of `payload_of`.
pub(crate) fn number_in(first: u8, payload: &[u8]) -> Option<u64> {
    let number = u64::from_be_bytes(*payload.first_chunk()?);
    (first == 0x82 && payload == payload_of(number, payload.len())).then_some(number)
}

/// Number of members at a time, without the witness.
const MEMBERS: usize = 12;

/// Maximum messages in flight: sent by a member and not read by the witness.
const AWAITED_MAX: usize = 20;

/// Length of a message while a member does not read.
const LAG_MESSAGE_BYTES: usize = 100_000;

/// Length of a message's number.
const NUMBER_BYTES: usize = 8;
