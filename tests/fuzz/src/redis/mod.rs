//! The target for the client of Redis: all of it except the socket, a server that uses it, and a broker that is honest
//! until the fuzzer's bytes make it hostile. Each scenario runs three times, with the broker's bytes split in different
//! ways, and must have the same outcome.
//!
//! | module | part |
//! |---|---|
//! | this | the scenario, the client, and the comparison |
//! | `broker` | reads the commands and answers them |
//! | `calls` | what the server has called, in the order in which it must arrive |

mod broker;
mod calls;

use crate::ALLOCATOR;
use crate::input::Cursor;
use broker::Broker;
use calls::Calls;
use std::time::{Duration, Instant};
use wsloop::backplane::BackplaneEvent;
use wsloop::redis::Settings;
use wsloop::redis::internals::Client;

/// Runs the scenario that `data` encodes.
pub fn redis(data: &[u8]) {
    let start = Instant::now();
    let outcome = |pieces: &'static [usize]| Run::new(data, pieces, start).outcome();
    let (whole, cut, bytes) = (
        outcome(&[usize::MAX]),
        outcome(&[7, 1, 1000, 30]),
        outcome(&[1]),
    );
    for (name, other) in [("in pieces", cut), ("byte by byte", bytes)] {
        let both = whole.iter().zip(&other);
        let differs = both.enumerate().find(|(_, (whole, other))| whole != other);
        if let Some((at, (whole, other))) = differs {
            panic!("{name}, item {at}: {other:?} instead of {whole:?}");
        }
        assert_eq!(whole.len(), other.len(), "{name}");
    }
}

/// What a run has shown.
#[derive(Debug, PartialEq)]
enum Seen {
    Connected,
    Subscribed(String),
    /// The topic, the length of the payload, and how it begins.
    Message(String, usize, Vec<u8>),
    TooLong(String, u64),
    /// An acknowledgement. When it is reported depends on how the input is split, so it is only counted.
    Acknowledged(u64),
    /// `publications`: those of the connection that were written, whether acknowledged or not.
    Failed {
        error: String,
        publications: u64,
    },
    Written(Vec<u8>),
    /// After each step: bytes in the outbox, and time until the deadline.
    After(usize, Option<Duration>),
}

struct Run<'d> {
    cursor: Cursor<'d>,
    /// How the broker's bytes are split: lengths, which repeat.
    pieces: &'static [usize],
    client: Client,
    /// Bytes that the client has allocated.
    held: isize,
    element_bytes_max: usize,
    has_password: bool,
    broker: Broker,
    calls: Calls,
    start: Instant,
    now: Instant,
    is_linked: bool,
    is_established: bool,
    /// Publications that were written completely on this connection, and neither acknowledged nor counted as not.
    unanswered: u64,
    /// Acknowledgements on this connection.
    acknowledged: u64,
    received_bytes: usize,
    seen: Vec<Seen>,
}

impl<'d> Run<'d> {
    fn new(data: &'d [u8], pieces: &'static [usize], start: Instant) -> Self {
        let mut cursor = Cursor(data);
        let choice = usize::from(cursor.byte());
        let payload_bytes_max = [0, 10, 1000, 70_000, 200_000, 2 << 20, 3, 1][choice & 7];
        let prefix = ["wsloop:", "", "p", "\u{e9}:"][choice >> 3 & 3];
        let settings: Settings = "redis://h".parse().expect("a URL");
        let mut settings = settings.prefix(prefix);
        let has_password = choice & 32 != 0;
        if has_password {
            settings = settings.user("bob").password("sEcret");
        }
        let before = ALLOCATOR.current_usage();
        let client = Client::new(settings, payload_bytes_max);
        let held = ALLOCATOR.current_usage() as isize - before as isize;
        Self {
            cursor,
            pieces,
            client,
            held,
            element_bytes_max: payload_bytes_max + HEADER_BYTES_MAX,
            has_password,
            broker: Broker::new(prefix, choice),
            calls: Calls::new(prefix),
            start,
            now: start,
            is_linked: false,
            is_established: false,
            unanswered: 0,
            acknowledged: 0,
            received_bytes: 0,
            seen: Vec::new(),
        }
    }

    fn outcome(mut self) -> Vec<Seen> {
        let mut steps = 0;
        while !self.cursor.is_empty() && steps < STEPS_MAX {
            self.step();
            let deadline = self.client.deadline();
            let until = deadline.map(|at| at.saturating_duration_since(self.start));
            assert_eq!(self.client.outbox_bytes(), self.calls.outbox_bytes());
            let after = Seen::After(self.client.outbox_bytes(), until);
            self.seen.push(after);
            steps += 1;
        }
        self.end();
        self.seen
    }

    fn step(&mut self) {
        let (what, argument) = (self.cursor.byte(), usize::from(self.cursor.byte()));
        let topic = topic(argument);
        match what % 20 {
            0 => {
                let bytes = self.cursor.bytes(argument % 64);
                self.receive(bytes);
            }
            1 => {
                let len = [0, 1, 64, 1000, 65_000, 65_536, 66_000, 90_000][usize::from(what >> 5)];
                let bytes = self.broker.message(&topic, &vec![b'm'; len]);
                self.receive(&bytes);
            }
            2 => {
                let kind = ["subscribe", "unsubscribe", "psubscribe", "message"];
                let bytes = self
                    .broker
                    .push(kind[usize::from(what >> 6)], &topic, b":1\r\n");
                self.receive(&bytes);
            }
            3 => self.receive(&b":1\r\n".repeat(1 + argument % 8)),
            4 | 5 => {
                let bytes = self.broker.answers(argument);
                self.receive_answers(&bytes);
            }
            6 => {
                let times = [1, 30, 1000, 20_000][usize::from(what >> 6)];
                let bytes = self.cursor.bytes(1 + argument % 16).repeat(times);
                self.receive(&bytes);
            }
            7 => {
                let kind = b"$*%|>!=~:+-(,#_"[argument % 15] as char;
                let number = NUMBERS[argument / 15 % NUMBERS.len()];
                self.receive(format!("{kind}{number}\r\n").as_bytes());
            }
            8 => {
                // A message whose length is near the maximum, complete or not.
                let header = self.broker.message_header(&topic, 0).len() + 8;
                let near = self.element_bytes_max.saturating_sub(header) + argument % 16;
                let mut bytes = self.broker.message_header(&topic, near);
                if near < 100_000 {
                    bytes.resize(bytes.len() + near, b'l');
                }
                bytes.extend_from_slice(b"\r\n");
                bytes.truncate(bytes.len() - usize::from(what >> 6));
                self.receive(&bytes);
            }
            9 => {
                let len = (LINE_BYTES_MAX + argument % 8).saturating_sub(4);
                let kind = b"-+:("[usize::from(what >> 6)];
                let digits = if argument & 128 == 0 { b'1' } else { b'x' };
                self.receive(&[&[kind][..], &vec![digits; len], b"\r\n"].concat());
            }
            10 => {
                let bytes = self.broker.fixed(argument);
                self.receive(&bytes);
            }
            11 => {
                // An error in the long form, of bytes that become longer as text.
                let len = self.element_bytes_max.min(250_000) / (1 + argument);
                let header = format!("!{len}\r\n");
                self.receive(&[header.as_bytes(), &vec![0xff; len], b"\r\n"].concat());
            }
            12 if self.is_established => self.subscribe(what, argument),
            13 | 14 => {
                let len =
                    [8, 8, 100, 1000, 10_000, 40_000, 140_000, 300_000][usize::from(what >> 5)];
                self.publish(&topic, len);
            }
            15 | 16 => {
                self.flush();
                self.write([usize::MAX, argument, 1000 * argument, usize::MAX][argument & 3]);
            }
            17 => {
                self.now += Duration::from_millis(TIMES[argument % TIMES.len()]);
                if self.is_linked {
                    let before = ALLOCATOR.current_usage();
                    let result = self
                        .client
                        .check(self.now)
                        .map_err(|error| error.to_string());
                    self.count(before);
                    if let Err(error) = result {
                        self.held -= error.capacity() as isize;
                        self.disconnect(error);
                    }
                }
            }
            18 => match self.is_linked {
                true if argument & 3 == 0 => self.disconnect("ended".into()),
                true => self.client.blocked(self.now),
                false => self.connect(),
            },
            _ if what & 128 == 0 => {
                let before = ALLOCATOR.current_usage();
                let discarded = self.client.discard_outbox();
                self.count(before);
                self.calls
                    .discard(discarded, self.broker.is_within_command());
            }
            _ => {
                if !self.is_linked {
                    self.connect();
                }
                self.exchange();
            }
        }
    }

    fn connect(&mut self) {
        let random = self.broker.connected();
        let before = ALLOCATOR.current_usage();
        self.client.connected(self.now, random);
        self.count(before);
        self.is_linked = true;
        self.unanswered = 0;
    }

    fn disconnect(&mut self, error: String) {
        let before = ALLOCATOR.current_usage();
        let unacknowledged = self.client.disconnected();
        self.count(before);
        assert_eq!(unacknowledged, self.unanswered, "after: {error}");
        self.is_linked = false;
        self.is_established = false;
        self.calls.disconnected();
        self.broker.disconnected();
        let acknowledged = std::mem::take(&mut self.acknowledged);
        self.seen.push(Seen::Failed {
            error,
            publications: acknowledged + unacknowledged,
        });
    }

    /// Counts what the client has allocated since `before`.
    fn count(&mut self, before: usize) {
        self.held += ALLOCATOR.current_usage() as isize - before as isize;
    }

    // The server.

    fn subscribe(&mut self, what: u8, argument: usize) {
        let is_many = argument >= 250;
        let is_subscribe = what < 200;
        for index in 0..if is_many { 600 } else { 1 } {
            let topic = if is_many {
                format!("t{index}")
            } else {
                topic(argument)
            };
            let before = ALLOCATOR.current_usage();
            match is_subscribe {
                true => self.client.subscribe(&topic),
                false => self.client.unsubscribe(&topic),
            }
            self.count(before);
            self.calls.named(&topic, is_subscribe);
        }
    }

    fn publish(&mut self, topic: &str, len: usize) {
        if self.calls.outbox_bytes() > OUTBOX_BYTES_MAX {
            return;
        }
        let payload = self.calls.published(topic, len);
        let before = ALLOCATOR.current_usage();
        self.client.publish(topic, &payload);
        self.count(before);
    }

    fn flush(&mut self) {
        let before = ALLOCATOR.current_usage();
        self.client.flush();
        self.count(before);
        if self.is_established {
            self.calls.release();
        }
    }

    /// Writes up to `bytes` bytes. Returns whether there were any.
    fn write(&mut self, bytes: usize) -> bool {
        let mut left = bytes;
        let mut written = Vec::new();
        while self.is_linked && left > 0 {
            let mut output = self.client.output();
            output.truncate(left);
            if output.is_empty() {
                break;
            }
            left -= output.len();
            let before = ALLOCATOR.current_usage();
            self.client.written(output.len(), self.now);
            self.count(before);
            self.unanswered += self
                .broker
                .receive(&output, &mut self.calls, self.is_established);
            written.extend(output);
        }
        let is_any = !written.is_empty();
        if is_any {
            self.seen.push(Seen::Written(written));
        }
        is_any
    }

    // The broker's bytes.

    fn receive(&mut self, bytes: &[u8]) {
        self.broker.is_honest &= bytes.is_empty();
        self.receive_answers(bytes);
    }

    /// Receives bytes in pieces, the last byte always alone: a part of a message that arrives after what precedes it was
    /// processed proves that messages are delivered.
    fn receive_answers(&mut self, bytes: &[u8]) {
        self.received_bytes += bytes.len();
        if self.received_bytes > RECEIVED_BYTES_MAX {
            self.broker.is_honest = false;
            return;
        }
        let (mut rest, last) = bytes.split_at(bytes.len().saturating_sub(1));
        for len in self.pieces.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*len).min(rest.len()));
            self.receive_piece(piece);
            rest = after;
        }
        self.receive_piece(last);
    }

    fn receive_piece(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while self.is_linked && !rest.is_empty() {
            let before = ALLOCATOR.current_usage();
            ALLOCATOR.reset_peak_usage();
            let space = self.client.space();
            assert!(
                !space.is_empty(),
                "there is space for the rest of an element"
            );
            let (now, after) = rest.split_at(rest.len().min(space.len()));
            space[..now.len()].copy_from_slice(now);
            self.client.received(now.len(), self.now);
            self.check_memory(before);
            rest = after;
            while self.process() {}
        }
    }

    /// Processes the next event. Returns whether there was one.
    fn process(&mut self) -> bool {
        let before = ALLOCATOR.current_usage();
        ALLOCATOR.reset_peak_usage();
        let next = self.client.next_event(self.now);
        let held = ALLOCATOR.current_usage();
        let peak = ALLOCATOR.peak_usage() as usize;
        let result = next.map(|event| event.map(|event| owned(&event)));
        // The error, which the client does not retain, is small.
        self.held += held as isize - before as isize;
        let limit = self.memory_max();
        let used = self.held + (peak - held) as isize;
        assert!(used <= limit, "{used} B, the limit is {limit} B");
        match result {
            Ok(Some(seen)) => {
                self.check_event(&seen);
                match seen {
                    Seen::Acknowledged(count) => self.acknowledged += count,
                    seen => self.seen.push(seen),
                }
                true
            }
            Ok(None) => false,
            Err(error) => {
                let error = error.to_string();
                self.held -= error.capacity() as isize;
                assert!(error.len() < ERROR_BYTES_MAX, "{error}");
                assert!(!self.has_password || !error.contains("sEcret"), "{error}");
                assert!(!self.broker.is_honest, "refuses an honest broker: {error}");
                self.disconnect(error);
                false
            }
        }
    }

    fn check_memory(&mut self, before: usize) {
        self.count(before);
        let peak = ALLOCATOR.peak_usage() as isize - before as isize;
        let (used, limit) = (self.held + peak.max(0), self.memory_max());
        assert!(used <= limit, "{used} B, the limit is {limit} B");
    }

    /// Returns the limit of the client's memory: the input, which is copied as it grows, and the outbox.
    fn memory_max(&self) -> isize {
        let input = self
            .element_bytes_max
            .min(self.received_bytes + self.element_bytes_max)
            + READ_BYTES;
        (2 * input + self.calls.bytes() + SLACK_BYTES) as isize
    }

    fn check_event(&mut self, seen: &Seen) {
        assert_eq!(
            self.is_established,
            !matches!(seen, Seen::Connected),
            "{seen:?}"
        );
        match seen {
            Seen::Connected => self.is_established = true,
            Seen::Acknowledged(count) => {
                assert!(
                    (1..=self.unanswered).contains(count),
                    "{count} acknowledged"
                );
                self.unanswered -= count;
            }
            Seen::Message(topic, len, _) => {
                assert!(topic.len() + len <= self.element_bytes_max);
                self.broker.delivered(seen);
            }
            Seen::TooLong(topic, bytes) => {
                let bytes_max = (self.element_bytes_max - HEADER_BYTES_MAX) as u64;
                assert!(topic.len() as u64 + bytes > bytes_max);
                self.broker.delivered(seen);
            }
            Seen::Subscribed(_) | Seen::Failed { .. } | Seen::Written(_) | Seen::After(..) => {}
        }
    }

    /// Writes and answers until both sides wait.
    fn exchange(&mut self) {
        loop {
            self.flush();
            let is_written = self.write(usize::MAX);
            let answers = self.broker.answers(0);
            let is_answered = !answers.is_empty();
            self.receive_answers(&answers);
            if !is_written && !is_answered || !self.is_linked {
                return;
            }
        }
    }

    fn end(&mut self) {
        self.exchange();
        if self.is_linked && self.broker.is_honest {
            assert!(self.is_established, "an honest broker is accepted");
            assert_eq!(
                self.unanswered, 0,
                "an honest broker acknowledges everything"
            );
            self.broker.check_all_delivered();
            self.calls.check_all_written();
        }
        if self.is_linked {
            self.disconnect("ended".into());
        }
        let rest = self.held - self.calls.bytes() as isize;
        assert!(
            rest <= REST_BYTES,
            "{rest} B are retained without a connection"
        );
    }
}

fn owned(event: &BackplaneEvent<'_>) -> Seen {
    match event {
        BackplaneEvent::Connected => Seen::Connected,
        BackplaneEvent::Subscribed { topic } => Seen::Subscribed((*topic).into()),
        BackplaneEvent::Message { topic, payload } => {
            let begin = &payload[..payload.len().min(calls::NUMBER_BYTES)];
            Seen::Message((*topic).into(), payload.len(), begin.into())
        }
        BackplaneEvent::TooLong { topic, bytes } => Seen::TooLong((*topic).into(), *bytes),
        BackplaneEvent::Acknowledged { publications } => Seen::Acknowledged(*publications),
        BackplaneEvent::Disconnected { .. } => unreachable!("errors are returned"),
    }
}

/// Returns a topic that the fuzzer has chosen.
fn topic(argument: usize) -> String {
    match argument % 8 {
        0 => String::new(),
        1 => "/chat".into(),
        2 => "\u{e9}\r\n$1".into(),
        3 => "x".repeat(300),
        4 => "x".repeat(TOPIC_BYTES_MAX),
        _ => format!("t{}", argument / 8),
    }
}

/// Length of the longest topic.
const TOPIC_BYTES_MAX: usize = 60_000;

/// Lengths and numbers in the broker's elements.
const NUMBERS: [&str; 17] = [
    "0",
    "1",
    "2",
    "3",
    "-1",
    "1000",
    "21844",
    "65535",
    "65537",
    "200000",
    "2147483648",
    "4294967296",
    "999999999999999999",
    "1000000000000000000",
    "9223372036854775807",
    "18446744073709551616",
    "?",
];

/// Milliseconds that pass.
const TIMES: [u64; 9] = [0, 1, 100, 999, 3000, 4999, 5000, 5001, 20_000];

/// The client's maximum of an element's bytes without the payload.
const HEADER_BYTES_MAX: usize = 64 * 1024;

/// The client's maximum of a line.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// Bytes that the input has besides an element: a read, or growth.
const READ_BYTES: usize = 64 * 1024;

/// Memory besides input and outbox: blocks that are not full, lists of entries and replies, 600 names, an error.
const SLACK_BYTES: usize = 256 * 1024;

/// Memory that is retained without a connection, besides publications: blocks that are not full, and lists.
const REST_BYTES: isize = 80 * 1024;

/// Maximum length of an error: the text of the server has at most 200 characters, which are escaped.
const ERROR_BYTES_MAX: usize = 4000;

const OUTBOX_BYTES_MAX: usize = 600_000;

/// Bytes after which the broker is silent.
const RECEIVED_BYTES_MAX: usize = 500_000;

const STEPS_MAX: usize = 150;
