//! Clients of the echo handler: each sends messages and pings, compares every echo with the message sent, and ends its
//! connection in one of several ways.

use crate::random::Random;
use crate::wire::{End, Wire, close_code, frame, request};
use crate::{Load, PAUSE, STALL_MAX};
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

/// Runs 24 connections at a time with small messages, in all ways of ending.
pub(crate) fn small(load: &mut Load<'_>) {
    run_conversations(load, 24, |random| Plan {
        messages: random.below(30),
        len_max: [20, 125, 1000, 70_000][random.below(4)],
        window: 1 + random.below(8),
        read_bytes_max: usize::MAX,
        stall: Duration::ZERO,
        ending: [
            Ending::Close,
            Ending::Close,
            Ending::HalfClose,
            Ending::Drop,
            Ending::Reset,
            Ending::Abort,
            Ending::Violation,
            Ending::BadRequest,
        ][random.below(8)],
    });
}

/// Runs six connections at a time with large messages. Some clients read slowly, or not at all for a while.
pub(crate) fn large(load: &mut Load<'_>) {
    run_conversations(load, 6, |random| Plan {
        messages: 1 + random.below(6),
        len_max: [100_000, 1 << 20, 4 << 20][random.below(3)],
        window: 1 + random.below(3),
        read_bytes_max: [usize::MAX, 64 * 1024, 8 * 1024][random.below(3)],
        stall: Duration::from_millis([0, 0, 500, 2000][random.below(4)]),
        ending: [
            Ending::Close,
            Ending::HalfClose,
            Ending::Drop,
            Ending::Reset,
            Ending::Abort,
            Ending::Violation,
        ][random.below(6)],
    });
}

/// Runs `count` connections at a time until the load is over and all of them have ended.
fn run_conversations(load: &mut Load<'_>, count: usize, plan: fn(&mut Random) -> Plan) {
    let mut conversations = Vec::new();
    while !load.is_over() || !conversations.is_empty() {
        if conversations.len() < count && !load.is_over() {
            let plan = plan(&mut load.random);
            conversations.push(Conversation::new(load, plan));
        }
        let mut has_moved = false;
        conversations.retain_mut(|conversation| {
            has_moved |= conversation.turn(load);
            !conversation.is_over
        });
        if !has_moved {
            thread::sleep(PAUSE);
        }
    }
}

/// The parameters of a connection, chosen at random.
struct Plan {
    /// Number of messages to send.
    messages: usize,
    /// Maximum length of a message.
    len_max: usize,
    /// Maximum messages without an echo.
    window: usize,
    /// Maximum bytes per read. A slow reader, with less than `usize::MAX`, pauses after each read.
    read_bytes_max: usize,
    /// Time after connecting in which nothing is read.
    stall: Duration,
    ending: Ending,
}

/// How a client ends its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Sends a Close. The server must answer it after all echoes.
    Close,
    /// Ends its side of the stream. All echoes must still arrive.
    HalfClose,
    /// Closes the socket with echoes outstanding.
    Drop,
    /// Like `Drop`, with a reset.
    Reset,
    /// Closes the socket in the middle of a frame.
    Abort,
    /// Sends a frame with a reserved opcode. All echoes must arrive, then a Close with 1002.
    Violation,
    /// Sends a request that the server must refuse.
    BadRequest,
}

/// A connection to the echo handler.
struct Conversation {
    wire: Wire,
    plan: Plan,
    sent: usize,
    /// Outstanding echoes: opcode and payload.
    expected: VecDeque<(u8, Vec<u8>)>,
    /// Outstanding pongs.
    pings: VecDeque<Vec<u8>>,
    /// Code of the server's Close.
    close_code: Option<u16>,
    is_leaving: bool,
    is_over: bool,
    began_at: Instant,
    /// When bytes were last read or written.
    moved_at: Instant,
    /// When the client may read again.
    reads_at: Instant,
}

impl Conversation {
    fn new(load: &mut Load<'_>, plan: Plan) -> Self {
        let request = if plan.ending == Ending::BadRequest {
            let nonsense: [&str; 4] = [
                "GET /echo HTTP/1.1\r\nHost : a\r\n\r\n",
                "POST /echo HTTP/1.1\r\nHost: localhost\r\n\r\n",
                "\x16\x03\x01\x02",
                "GET /unknown HTTP/1.1\r\nHost: localhost\r\n\r\n",
            ];
            nonsense[load.random.below(4)].to_owned()
        } else {
            request("/echo")
        };
        let now = Instant::now();
        Self {
            wire: Wire::new(load, &request),
            reads_at: now + plan.stall,
            plan,
            sent: 0,
            expected: VecDeque::new(),
            pings: VecDeque::new(),
            close_code: None,
            is_leaving: false,
            is_over: false,
            began_at: now,
            moved_at: now,
        }
    }

    /// Writes and reads once, checks the frames, and queues the next messages. Returns whether bytes were read or written.
    fn turn(&mut self, load: &mut Load<'_>) -> bool {
        let now = Instant::now();
        let mut has_moved = self.wire.write();
        if now >= self.reads_at {
            has_moved |= self.wire.read(self.plan.read_bytes_max);
            if self.plan.read_bytes_max < usize::MAX {
                self.reads_at = now + SLOW_READ_PAUSE;
            }
        }
        while let Some((first, payload)) = self.wire.next_frame() {
            self.received(first, &payload, load);
        }
        if self.wire.is_open() {
            self.send(load);
        }
        if self.wire.end.is_some() {
            self.ended(load);
        } else if self.has_sent_everything() {
            self.leave(load);
        }
        if has_moved {
            self.moved_at = now;
        } else if now - self.moved_at > STALL_MAX + self.plan.stall {
            self.fault(load, "no bytes were read or written until the timeout");
            self.give_up(load);
        }
        has_moved
    }

    /// Checks a frame from the server: an echo, a pong or a Close.
    fn received(&mut self, first: u8, payload: &[u8], load: &Load<'_>) {
        if self.close_code.is_some() {
            self.fault(load, "a frame after the Close");
        }
        match first {
            0x81 | 0x82 => match self.expected.pop_front() {
                Some((opcode, expected)) if first == 0x80 | opcode && payload == expected => {
                    load.totals.delivered.fetch_add(1, Relaxed);
                }
                Some(_) => {
                    load.totals.ended.fetch_add(1, Relaxed);
                    self.fault(load, "an echo differs from the message");
                }
                None => self.fault(load, "an echo without its message"),
            },
            0x8A => {
                // While the client does not read, the server answers only the newest ping.
                let at = self.pings.iter().position(|ping| ping == payload);
                match at {
                    Some(at) => drop(self.pings.drain(..=at)),
                    None => self.fault(load, "a pong without its ping"),
                }
            }
            0x88 => self.close_code = Some(close_code(payload)),
            _ => self.fault(load, "a frame that no server sends"),
        }
    }

    /// Queues the messages that the plan and the window allow, and after the last one the frame that ends the connection.
    fn send(&mut self, load: &mut Load<'_>) {
        let random = &mut load.random;
        while self.sent < self.plan.messages && self.expected.len() < self.plan.window {
            let len = random.len(self.plan.len_max);
            let opcode = 1 + random.below(2) as u8;
            let payload = random.payload(len, opcode == 1);
            if random.below(8) == 0 {
                let len = random.len(125);
                let ping = random.payload(len, false);
                frame(&mut self.wire.to_write, 0x89, &ping, random);
                self.pings.push_back(ping);
            }
            self.fragments(opcode, &payload, random);
            load.totals.sent.fetch_add(1, Relaxed);
            load.totals.bytes.fetch_add(len as u64, Relaxed);
            self.expected.push_back((opcode, payload));
            self.sent += 1;
        }
        if self.sent < self.plan.messages || self.is_leaving {
            return;
        }
        self.is_leaving = true;
        match self.plan.ending {
            Ending::Close => frame(
                &mut self.wire.to_write,
                0x88,
                &1000_u16.to_be_bytes(),
                random,
            ),
            // A reserved opcode.
            Ending::Violation => frame(&mut self.wire.to_write, 0x83, b"", random),
            Ending::Abort => {
                let len = 2 + random.below(self.plan.len_max);
                let start = self.wire.to_write.len();
                let payload = random.payload(len, false);
                frame(&mut self.wire.to_write, 0x82, &payload, random);
                let whole = self.wire.to_write.len() - start;
                self.wire
                    .to_write
                    .truncate(start + 1 + random.below(whole - 1));
            }
            Ending::HalfClose | Ending::Drop | Ending::Reset | Ending::BadRequest => {}
        }
    }

    /// Queues a message as one frame, or as several with pings between them.
    fn fragments(&mut self, opcode: u8, payload: &[u8], random: &mut Random) {
        let count = if random.below(4) == 0 {
            1 + random.below(5)
        } else {
            1
        };
        let mut rest = payload;
        for at in 0..count {
            let is_last = at + 1 == count;
            let len = if is_last {
                rest.len()
            } else {
                random.below(rest.len() + 1)
            };
            let (piece, left) = rest.split_at(len);
            rest = left;
            let first = if at == 0 { opcode } else { 0 };
            let fin = if is_last { 0x80 } else { 0 };
            frame(&mut self.wire.to_write, fin | first, piece, random);
            if !is_last && random.below(3) == 0 {
                let ping = random.payload(4, false);
                frame(&mut self.wire.to_write, 0x89, &ping, random);
                self.pings.push_back(ping);
            }
        }
    }

    fn has_sent_everything(&self) -> bool {
        self.is_leaving && self.wire.to_write.is_empty()
    }

    /// Ends the connection after all bytes are written, unless the plan is to wait for the server to end it.
    fn leave(&mut self, load: &Load<'_>) {
        match self.plan.ending {
            Ending::Close | Ending::Violation | Ending::BadRequest => {}
            Ending::HalfClose => self.wire.shut_down_write(),
            Ending::Drop | Ending::Abort => self.give_up(load),
            Ending::Reset => {
                self.wire.reset_when_dropped();
                self.give_up(load);
            }
        }
    }

    /// Checks, after the server has ended the stream, that all echoes and pongs and the right Close have arrived.
    fn ended(&mut self, load: &Load<'_>) {
        let close_code = match self.plan.ending {
            Ending::Close => Some(1000),
            Ending::Violation => Some(1002),
            Ending::HalfClose | Ending::BadRequest => None,
            // These clients end the connection, so it is a fault if the server ends it: no Close has the code 0.
            Ending::Drop | Ending::Reset | Ending::Abort => Some(0),
        };
        let is_right = if self.plan.ending == Ending::BadRequest {
            matches!(self.wire.status(), Some(400 | 404 | 405))
        } else {
            self.sent == self.plan.messages && self.expected.is_empty() && self.pings.is_empty()
        };
        if !is_right || self.close_code != close_code || self.wire.end == Some(End::Reset) {
            self.fault(load, "the server ended the connection unexpectedly");
        } else if let Ending::BadRequest | Ending::Violation = self.plan.ending {
            load.totals.refused.fetch_add(1, Relaxed);
        }
        self.give_up(load);
    }

    fn give_up(&mut self, load: &Load<'_>) {
        let left = self.expected.drain(..).count();
        load.totals.ended.fetch_add(left as u64, Relaxed);
        self.is_over = true;
    }

    fn fault(&self, load: &Load<'_>, what: &str) {
        load.totals.fault(&format!(
            "{what}: {:?}, {} of {} sent, {} echoes and {} pongs to come, Close {:?}, end {:?}, status {:?}, {:.1?} old",
            self.plan.ending,
            self.sent,
            self.plan.messages,
            self.expected.len(),
            self.pings.len(),
            self.close_code,
            self.wire.end,
            self.wire.status(),
            self.began_at.elapsed(),
        ));
    }
}

/// Pause between two reads of a slow reader.
const SLOW_READ_PAUSE: Duration = Duration::from_millis(2);
