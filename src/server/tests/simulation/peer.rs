//! A client that may do anything: speak in pieces, in bursts or not at all, read slowly or not at all, break a rule,
//! half-close, reset.

use super::super::script::{REQUEST, client_frame};
use super::Profile;
use super::random::Random;
use super::socket::Socket;
use crate::id::Id;
use crate::server::testing::shared::Shared;
use std::collections::VecDeque;

/// See the module.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) id: Id,
    pub(super) socket: Shared<Socket>,
    /// All that it received.
    pub(super) received: Vec<u8>,
    /// How many pings it sent; each carries its number.
    pub(super) pings: usize,
    /// What it said before its last word; what it may say after that is to be ignored.
    pub(super) said: Said,
    /// On the way to the server.
    in_flight: VecDeque<u8>,
    speech: Speech,
    messages: usize,
    is_slow: bool,
    way: Way,
}

/// What is left of the way to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Open,
    HalfClosed,
    Reset,
}

/// What a peer may say next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speech {
    Request,
    Messages,
    /// The first half of a message is said; the rest is its number and its kind.
    InsideMessage,
    /// It has said its last, and whatever it says now is to be ignored.
    TooLate,
    /// Half a request was the last of it.
    Nothing,
}

/// What a server that reads to the peer's last word must have heard.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Whole ones.
    pub(super) messages: u64,
    /// The number of the newest.
    pub(super) ping: Option<usize>,
    /// Its last word is said.
    is_all: bool,
}

impl Said {
    fn message(&mut self) {
        self.messages += u64::from(!self.is_all);
    }

    fn ping(&mut self, number: usize) {
        if !self.is_all {
            self.ping = Some(number);
        }
    }
}

impl Peer {
    pub(super) fn new(id: Id, socket: Shared<Socket>, is_slow: bool) -> Self {
        Self {
            id,
            socket,
            received: Vec::new(),
            pings: 0,
            said: Said::default(),
            in_flight: VecDeque::new(),
            speech: Speech::Request,
            messages: 0,
            is_slow,
            way: Way::Open,
        }
    }

    /// Speaks, reads, and suffers faults, as the profile has it.
    pub(super) fn act(&mut self, random: &mut Random, profile: &Profile) {
        if self.way == Way::Open && random.one_in(3) {
            self.speak(random, profile);
        }
        self.deliver(random);
        self.read(random, profile);
        if self.way == Way::Open && random.one_in(profile.fault_one_in) {
            self.fault(random);
        }
    }

    fn speak(&mut self, random: &mut Random, profile: &Profile) {
        match self.speech {
            Speech::Request if random.one_in(8) => {}
            Speech::Request => self.request(random),
            Speech::Messages | Speech::InsideMessage => {
                for _ in 0..random.below(profile.burst) {
                    self.say_something(random);
                }
            }
            Speech::TooLate if random.one_in(8) => self.say(&client_frame(0x81, b"too late")),
            Speech::TooLate | Speech::Nothing => {}
        }
    }

    fn request(&mut self, random: &mut Random) {
        let (request, next): (&[u8], _) = match random.below(40) {
            0 | 1 => (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Speech::TooLate),
            2 => (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", Speech::TooLate),
            3 => (&REQUEST.as_bytes()[..60], Speech::Nothing),
            _ => (REQUEST.as_bytes(), Speech::Messages),
        };
        self.say(request);
        self.speech = next;
    }

    fn say_something(&mut self, random: &mut Random) {
        match (random.below(200), self.speech) {
            (0..=9, _) => self.ping(0),
            (10, _) => (0..50).for_each(|_| self.ping(90)),
            (11..=13, _) => self.say(&client_frame(0x8A, b"unasked")),
            (14 | 15, _) => self.last(&client_frame(0x88, &1000_u16.to_be_bytes())),
            (16, _) => self.last(&client_frame(0x83, b"of no kind")),
            (17, _) => self.last(&client_frame(0x8B, b"")),
            (_, Speech::InsideMessage) => self.finish_message(),
            (18..=29, _) => self.begin_message(random.below(2) as u8),
            (30..=32, _) => self.message(1 + random.below(2) as u8, random.below(20_000)),
            (_, _) => self.message(1 + random.below(2) as u8, random.below(40)),
        }
    }

    fn ping(&mut self, padding: usize) {
        let payload = format!("{}:{}", self.pings, "p".repeat(padding));
        self.said.ping(self.pings);
        self.pings += 1;
        self.say(&client_frame(0x89, payload.as_bytes()));
    }

    fn message(&mut self, opcode: u8, padding: usize) {
        let body = format!("{}:{}:[{}]", self.id, self.messages, "m".repeat(padding));
        self.messages += 1;
        self.said.message();
        self.say(&client_frame(0x80 | opcode, body.as_bytes()));
    }

    fn begin_message(&mut self, kind: u8) {
        let body = format!("{}:{}:[", self.id, self.messages);
        self.messages += 1;
        self.say(&client_frame(1 + kind, body.as_bytes()));
        self.speech = Speech::InsideMessage;
    }

    fn finish_message(&mut self) {
        self.say(&client_frame(0x00, b"and"));
        self.say(&client_frame(0x80, b" more]"));
        self.said.message();
        self.speech = Speech::Messages;
    }

    fn last(&mut self, frame: &[u8]) {
        self.say(frame);
        self.said.is_all = true;
        self.speech = Speech::TooLate;
    }

    fn say(&mut self, bytes: &[u8]) {
        self.in_flight.extend(bytes);
    }

    /// The network brings some of what is under way, cut anywhere.
    fn deliver(&mut self, random: &mut Random) {
        if self.in_flight.is_empty() || random.one_in(4) {
            return;
        }
        let len = match random.below(3) {
            0 => random.up_to(self.in_flight.len()),
            _ => self.in_flight.len(),
        };
        self.socket.lock().arrive(self.in_flight.drain(..len));
    }

    fn read(&mut self, random: &mut Random, profile: &Profile) {
        let mut socket = self.socket.lock();
        self.received.extend(socket.take_written());
        // A short write leaves room, of which the poll is to be told.
        socket.make_room(0);
        if !self.is_slow {
            socket.make_room(1 << 20);
        } else if random.one_in(5) {
            socket.make_room(random.up_to(profile.room_step));
        }
    }

    fn fault(&mut self, random: &mut Random) {
        let mut socket = self.socket.lock();
        match random.below(8) {
            0 | 1 => {
                socket.reset(random.one_in(2));
                self.in_flight.clear();
                self.way = Way::Reset;
            }
            2 | 3 => {
                drop(socket);
                self.half_close();
            }
            4 => socket.interrupts += random.up_to(3),
            5 | 6 => socket.short_writes += random.up_to(3),
            // From now on it reads slowly, or no longer does.
            _ => self.is_slow = !self.is_slow,
        }
    }

    fn half_close(&mut self) {
        let mut socket = self.socket.lock();
        socket.arrive(self.in_flight.drain(..));
        socket.half_close();
        self.way = Way::HalfClosed;
    }

    /// Reads all there is and ends its side, so that the session can come to its end.
    pub(super) fn leave(&mut self) {
        if self.way == Way::Open {
            self.half_close();
        }
        let mut socket = self.socket.lock();
        self.received.extend(socket.take_written());
        socket.make_room(1 << 30);
    }

    /// Takes what the session wrote last.
    pub(super) fn collect(&mut self) {
        let written = self.socket.lock().take_written();
        self.received.extend(written);
    }
}

/// The number in the payload of a ping, or of the pong that answers it.
pub(super) fn ping_number(payload: &[u8]) -> usize {
    let number = payload.split(|byte| *byte == b':').next().unwrap();
    std::str::from_utf8(number).unwrap().parse().unwrap()
}
