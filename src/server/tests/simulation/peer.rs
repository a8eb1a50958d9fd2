//! A simulated client that acts at random: it sends frames singly or in bursts, which arrive whole or in parts. It reads at any
//! speed or not at all, violates the protocol, and half-closes or resets the connection.

use super::super::script::{REQUEST, client_frame};
use super::Profile;
use super::socket::Socket;
#[cfg(feature = "tls")]
use super::tls::TlsClient;
use crate::id::Id;
use crate::random::Random;
use crate::server::testing::shared::Shared;
use std::collections::VecDeque;

/// A simulated client; see the module.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) id: Id,
    pub(super) socket: Shared<Socket>,
    /// All bytes received from the server.
    pub(super) received: Vec<u8>,
    /// Number of pings sent. The payload of each ping starts with its number.
    pub(super) pings: usize,
    /// What was sent before the first Close or violation. The server must ignore everything after that.
    pub(super) sent: Sent,
    /// Bytes that have been sent and have not arrived at the server's socket.
    in_flight: VecDeque<u8>,
    send_state: SendState,
    /// Number of messages of which at least the first frame was sent.
    messages_begun: usize,
    /// The peer reads slowly.
    is_slow: bool,
    link: Link,
    /// TLS between the frames and the socket.
    #[cfg(feature = "tls")]
    tls: Option<Box<TlsClient>>,
}

/// The state of the connection from the peer to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Open,
    /// TLS is ended, by close_notify or by an error. Nothing is sent any more.
    #[cfg(feature = "tls")]
    Ended,
    HalfClosed,
    Reset,
}

/// What a peer may send next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SendState {
    Request,
    Messages,
    /// The first fragment of a message is sent. The next frame that is no control frame must continue the message.
    InsideMessage,
    /// A Close, a violation or a request that opens no session was sent. The server must ignore everything after it.
    AfterLast,
    /// Half a request was sent. Nothing follows.
    Silent,
}

/// What a server must have handled if it has read to the end of the peer's input.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// Number of whole messages.
    pub(super) messages: u64,
    /// Number of the newest ping.
    pub(super) ping: Option<usize>,
    /// A Close or a violation was sent. What is sent after it is not counted.
    is_final: bool,
}

impl Sent {
    fn message(&mut self) {
        self.messages += u64::from(!self.is_final);
    }

    fn ping(&mut self, number: usize) {
        if !self.is_final {
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
            sent: Sent::default(),
            in_flight: VecDeque::new(),
            send_state: SendState::Request,
            messages_begun: 0,
            is_slow,
            link: Link::Open,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Adds TLS between the frames and the socket, if `tls` is set.
    #[cfg(feature = "tls")]
    pub(super) fn with_tls(mut self, tls: Option<Box<TlsClient>>) -> Self {
        self.tls = tls;
        // The ClientHello.
        self.push(b"");
        self
    }

    /// Sends, delivers, reads and causes faults, with the probabilities of the profile.
    pub(super) fn act(&mut self, random: &mut Random, profile: &Profile) {
        if self.link == Link::Open && random.one_in(3) {
            #[cfg(feature = "tls")]
            self.act_on_tls(random);
            self.send(random, profile);
        }
        self.deliver(random);
        self.read(random, profile);
        if self.link == Link::Open && random.one_in(profile.fault_one_in) {
            self.fault(random);
        }
    }

    fn send(&mut self, random: &mut Random, profile: &Profile) {
        match self.send_state {
            SendState::Request if random.one_in(8) => {}
            SendState::Request => self.request(random),
            SendState::Messages | SendState::InsideMessage => {
                for _ in 0..random.below(profile.burst_messages) {
                    self.send_random_frame(random);
                }
            }
            SendState::AfterLast if random.one_in(8) => self.push(&client_frame(0x81, b"too late")),
            SendState::AfterLast | SendState::Silent => {}
        }
    }

    fn request(&mut self, random: &mut Random) {
        let (request, next): (&[u8], _) = match random.below(40) {
            0 | 1 => (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", SendState::AfterLast),
            2 => (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", SendState::AfterLast),
            3 => (&REQUEST.as_bytes()[..60], SendState::Silent),
            _ => (REQUEST.as_bytes(), SendState::Messages),
        };
        self.push(request);
        self.send_state = next;
    }

    fn send_random_frame(&mut self, random: &mut Random) {
        match (random.below(200), self.send_state) {
            (0..=9, _) => self.ping(0),
            (10, _) => (0..50).for_each(|_| self.ping(90)),
            (11..=13, _) => self.push(&client_frame(0x8A, b"unasked")),
            (14 | 15, _) => self.push_last(&client_frame(0x88, &1000_u16.to_be_bytes())),
            (16, _) => self.push_last(&client_frame(0x83, b"of no kind")),
            (17, _) => self.push_last(&client_frame(0x8B, b"")),
            (_, SendState::InsideMessage) => self.finish_message(),
            (18..=29, _) => self.begin_message(random.below(2) as u8),
            (30..=32, _) => self.message(1 + random.below(2) as u8, random.below(20_000)),
            (_, _) => self.message(1 + random.below(2) as u8, random.below(40)),
        }
    }

    /// Sends a ping with at least `padding` bytes.
    fn ping(&mut self, padding: usize) {
        let payload = format!("{}:{}", self.pings, "p".repeat(padding));
        self.sent.ping(self.pings);
        self.pings += 1;
        self.push(&client_frame(0x89, payload.as_bytes()));
    }

    fn message(&mut self, opcode: u8, padding: usize) {
        let body = format!(
            "{}:{}:[{}]",
            self.id,
            self.messages_begun,
            "m".repeat(padding)
        );
        self.messages_begun += 1;
        self.sent.message();
        self.push(&client_frame(0x80 | opcode, body.as_bytes()));
    }

    fn begin_message(&mut self, kind: u8) {
        let body = format!("{}:{}:[", self.id, self.messages_begun);
        self.messages_begun += 1;
        self.push(&client_frame(1 + kind, body.as_bytes()));
        self.send_state = SendState::InsideMessage;
    }

    fn finish_message(&mut self) {
        self.push(&client_frame(0x00, b"and"));
        self.push(&client_frame(0x80, b" more]"));
        self.sent.message();
        self.send_state = SendState::Messages;
    }

    /// Sends a frame after which the server must ignore all input.
    fn push_last(&mut self, frame: &[u8]) {
        self.push(frame);
        self.sent.is_final = true;
        self.send_state = SendState::AfterLast;
    }

    fn push(&mut self, bytes: &[u8]) {
        #[cfg(feature = "tls")]
        if let Some(tls) = &mut self.tls {
            tls.send(bytes);
            self.in_flight.extend(tls.take_records());
            return;
        }
        self.in_flight.extend(bytes);
    }

    /// Receives what the session has written.
    fn receive(&mut self, bytes: Vec<u8>) {
        #[cfg(feature = "tls")]
        if let Some(tls) = &mut self.tls {
            tls.receive(&bytes, &mut self.received);
            let records = tls.take_records();
            if self.link == Link::Open {
                self.in_flight.extend(records);
                if tls.has_failed {
                    self.link = Link::Ended;
                }
            }
            return;
        }
        self.received.extend(bytes);
    }

    /// Does with TLS what clients do rarely, or should not do.
    #[cfg(feature = "tls")]
    fn act_on_tls(&mut self, random: &mut Random) {
        let Some(tls) = &mut self.tls else {
            return;
        };
        if random.one_in(4) {
            tls.fragment(random);
        }
        if random.one_in(20) {
            tls.update_key();
            self.in_flight.extend(tls.take_records());
        }
    }

    /// Ends TLS, with close_notify or with invalid bytes. Returns `false` if the peer does not speak TLS.
    #[cfg(feature = "tls")]
    fn end_tls(&mut self, random: &mut Random) -> bool {
        let Some(tls) = &mut self.tls else {
            return false;
        };
        if random.one_in(2) && tls.is_open() {
            tls.end();
            self.in_flight.extend(tls.take_records());
        } else {
            // The server may receive less than what was sent.
            tls.has_sent_garbage = true;
            let garbage = tls.garbage(random);
            match random.below(3) {
                0 if !self.in_flight.is_empty() => {
                    let at = random.below(self.in_flight.len());
                    self.in_flight[at] ^= 1 << random.below(8);
                }
                _ => self.in_flight.extend(garbage),
            }
        }
        self.link = Link::Ended;
        true
    }

    /// Moves some or all of the bytes in flight to the server's socket.
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
        self.collect();
        let mut socket = self.socket.lock();
        // After a simulated short write, the socket can still be writable. The poll must report that, too.
        socket.add_writable_bytes(0);
        if !self.is_slow {
            socket.add_writable_bytes(1 << 20);
        } else if random.one_in(5) {
            socket.add_writable_bytes(random.up_to(profile.slow_read_bytes_max));
        }
    }

    fn fault(&mut self, random: &mut Random) {
        #[cfg(feature = "tls")]
        if random.one_in(3) && self.end_tls(random) {
            return;
        }
        let mut socket = self.socket.lock();
        match random.below(8) {
            0 | 1 => {
                socket.reset(random.one_in(2));
                self.in_flight.clear();
                self.link = Link::Reset;
            }
            2 | 3 => {
                drop(socket);
                self.half_close();
            }
            4 => socket.interrupts += random.up_to(3),
            5 | 6 => socket.short_writes += random.up_to(3),
            // A fast reader becomes slow, or a slow reader fast.
            _ => self.is_slow = !self.is_slow,
        }
    }

    fn half_close(&mut self) {
        let mut socket = self.socket.lock();
        socket.arrive(self.in_flight.drain(..));
        socket.half_close();
        self.link = Link::HalfClosed;
    }

    /// Reads everything and ends the peer's side, so that the session can end.
    pub(super) fn leave(&mut self) {
        if !matches!(self.link, Link::HalfClosed | Link::Reset) {
            self.half_close();
        }
        self.collect();
        self.socket.lock().add_writable_bytes(1 << 30);
    }

    /// Reads everything that the session has written, without making the socket writable.
    pub(super) fn collect(&mut self) {
        let written = self.socket.lock().take_written();
        self.receive(written);
    }
}

/// Returns the number in the payload of a ping, or of the pong that answers it.
pub(super) fn ping_number(payload: &[u8]) -> usize {
    let number = payload.split(|byte| *byte == b':').next().unwrap();
    std::str::from_utf8(number).unwrap().parse().unwrap()
}
