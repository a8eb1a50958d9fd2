//! Feeds the same bytes to a [`Connection`] in different pieces, and asserts that the events, replies, error and stage do
//! not depend on the pieces. Each run also computes the expected replies from the events and compares them with the
//! actual replies, and compares the allocated bytes with the limits.

use crate::ALLOCATOR;
use crate::input::pieces;
use crate::wire::{self, CLOSE, Frame, PING, PONG, TEXT};
use std::borrow::Cow;
use std::mem;
use wsloop::proto::{
    CODE_NONE, CloseFrame, Connection, Event, HttpResponse, Limits, Message, ProtocolError,
    Request, Role, Stage, Upgrade,
};

/// The actions of the endpoint under test besides receiving.
#[derive(Clone, Copy)]
pub(crate) struct Script {
    /// How the endpoint answers a request.
    pub(crate) answer: Answer,
    /// An action, and the number of events after which it happens.
    pub(crate) act: Option<(Act, usize)>,
    pub(crate) role: Role,
}

/// How a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Accept,
    AcceptSubprotocol,
    /// With a 101 without the Upgrade header, which the connection must reject, then with 500.
    AcceptAltered,
    Refuse(u16),
}

impl From<u8> for Answer {
    fn from(setting: u8) -> Self {
        match setting % 8 {
            0 | 1 => Self::Accept,
            2 => Self::AcceptSubprotocol,
            3 => Self::AcceptAltered,
            4 => Self::Refuse(204),
            5 => Self::Refuse(304),
            6 => Self::Refuse(426),
            _ => Self::Refuse(200 + u16::from(setting)),
        }
    }
}

/// An action that is no reply to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Send,
    Ping,
    Close,
    CloseEmpty,
}

impl Act {
    pub(crate) fn new(setting: u8, at: u8) -> Option<(Self, usize)> {
        let act = match setting % 8 {
            0 => Self::Send,
            1 => Self::Ping,
            2 => Self::Close,
            3 => Self::CloseEmpty,
            _ => return None,
        };
        Some((act, usize::from(at % 8)))
    }
}

/// The observable result of a run.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    events: Vec<SeenEvent>,
    out: Vec<u8>,
    error: Option<ProtocolError>,
    /// If the opening handshake failed: the number of bytes consumed until then.
    decided_at: Option<usize>,
    stage: Option<Stage>,
}

#[derive(Debug, PartialEq)]
enum SeenEvent {
    Request(String),
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(CloseFrame),
}

/// Runs `body` in one piece, in the pieces that `cuts` describe, and byte by byte if it is short. Panics if the outcomes
/// differ.
pub(crate) fn compare(
    body: &[u8],
    cuts: &[u8],
    limits: &Limits,
    script: Script,
    connect: impl Fn() -> Connection,
) {
    // An empty body has no pieces, but the first run would feed one empty piece.
    if body.is_empty() {
        return;
    }
    let run = |pieces: &[&[u8]], method| Run::new(connect(), limits, script, method).over(pieces);
    let whole = run(&[body], Method::Input);
    let pieces = pieces(body, cuts);
    for method in [Method::Input, Method::InPlace] {
        let cut = run(&pieces, method);
        assert_eq!(
            cut, whole,
            "split by the tail, {method:?}, and in one piece"
        );
        if body.len() <= BYTEWISE_BYTES_MAX {
            let bytewise = run(&body.chunks(1).collect::<Vec<_>>(), method);
            assert_eq!(
                bytewise, whole,
                "byte by byte, {method:?}, and in one piece"
            );
        }
    }
}

/// How input is passed to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    /// By `receive`.
    Input,
    /// By `received_in_place` while a message is being assembled, otherwise by `receive`.
    InPlace,
}

struct Run<'l> {
    connection: Connection,
    method: Method,
    limits: &'l Limits,
    script: Script,
    outcome: Outcome,
    /// The frames that `out` must contain after the HTTP response.
    expected: Vec<Frame>,
    /// Length of the HTTP response.
    http_len: usize,
    /// Bytes that the connection has allocated, and neither freed nor returned in an event.
    held: usize,
    /// Input bytes consumed.
    consumed: usize,
    /// Output buffer, empty between two calls. Its capacity suffices for all replies but HTTP responses, because its
    /// growth would count as `held`.
    out: Vec<u8>,
    /// The method of the request was HEAD.
    is_head: bool,
}

impl<'l> Run<'l> {
    fn new(connection: Connection, limits: &'l Limits, script: Script, method: Method) -> Self {
        Self {
            connection,
            method,
            limits,
            script,
            outcome: Outcome::default(),
            expected: Vec::new(),
            http_len: 0,
            held: 0,
            consumed: 0,
            out: Vec::with_capacity(OUT_CAPACITY),
            is_head: false,
        }
    }

    /// Feeds all pieces to the connection, checks the replies, and returns the outcome.
    fn over(mut self, pieces: &[&[u8]]) -> Outcome {
        if self.script.act.is_some_and(|(_, at)| at == 0) {
            self.act();
        }
        // The method of a request can be split between pieces, so `failed` looks for it in the whole input.
        let whole = pieces.concat();
        for piece in pieces {
            self.feed(piece, &whole);
        }
        self.outcome.stage = Some(self.connection.stage());
        self.check();
        self.outcome
    }

    fn feed(&mut self, piece: &[u8], whole: &[u8]) {
        let mut bytes = piece.to_vec();
        let mut input = &mut bytes[..];
        let mut out = mem::take(&mut self.out);
        loop {
            let stage = self.connection.stage();
            let left = input.len();
            let before = ALLOCATOR.current_usage();
            ALLOCATOR.reset_peak_usage();
            let result = self.receive(&mut input, &mut out);
            let grown = ALLOCATOR.current_usage().wrapping_sub(before) as isize;
            let peak = ALLOCATOR.peak_usage() as usize - before;
            self.consumed += left - input.len();
            self.count(stage, &result, grown, peak);
            match result {
                Ok(Some(event)) => self.event(stage, event, &mut out),
                Ok(None) if self.method == Method::InPlace && !input.is_empty() => {}
                Ok(None) => {
                    assert!(
                        input.is_empty(),
                        "more input requested before all was consumed"
                    );
                    self.outcome.out.append(&mut out);
                    self.out = out;
                    return;
                }
                Err(error) => {
                    assert_eq!(self.connection.stage(), Stage::Ended);
                    assert!(self.outcome.error.is_none(), "failed twice");
                    self.failed(stage, &error, &out, whole);
                    self.outcome.error = Some(error);
                    // The loop feeds the rest of the piece: a failed connection must discard it.
                }
            }
            self.outcome.out.append(&mut out);
        }
    }

    fn receive<'i>(
        &mut self,
        input: &mut &'i mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<Event<'i>>, ProtocolError> {
        if self.method == Method::InPlace
            && !input.is_empty()
            && let Some(space) = self.connection.assembly_space(1)
        {
            let len = space.len().min(input.len());
            let (consumed, rest) = mem::take(input).split_at_mut(len);
            space[..len].copy_from_slice(consumed);
            *input = rest;
            return self.connection.received_in_place(len, out);
        }
        self.connection.receive(input, self.limits, out)
    }

    /// Updates `held` after a call that changed the heap by `grown` bytes. Panics if the connection holds more than the
    /// limits allow for one message, head or control frame, or if a closed connection holds anything.
    fn count(
        &mut self,
        stage: Stage,
        result: &Result<Option<Event<'_>>, ProtocolError>,
        grown: isize,
        peak: usize,
    ) {
        let transferred = match result {
            // The size of a `Request` is not checked. The connection has released the bytes of the head.
            Ok(Some(Event::Request(_))) | Err(ProtocolError::Opening(_)) => {
                self.held = 0;
                return;
            }
            Ok(Some(Event::Message(message))) => message.capacity(),
            Ok(Some(Event::Ping(Cow::Owned(bytes)) | Event::Pong(Cow::Owned(bytes)))) => {
                bytes.capacity()
            }
            Ok(Some(Event::Close(frame))) => frame.reason.capacity(),
            Ok(_) | Err(_) => 0,
        };
        let bound = match stage {
            Stage::Opening => self.limits.head.head_bytes_max,
            Stage::Open | Stage::Closing | Stage::Closed | Stage::Ended => {
                self.limits.message_bytes_max
            }
        };
        // While a buffer grows, the old and the new one exist.
        assert!(
            self.held + peak <= 2 * bound + SLACK_BYTES,
            "peak of {peak} B in addition to {} B allocated, limit {bound} B",
            self.held
        );
        self.held = self
            .held
            .checked_add_signed(grown - transferred as isize)
            .expect("a connection frees no more than it has allocated");
        assert!(
            self.held <= bound + SLACK_BYTES,
            "{} B allocated, limit {bound} B",
            self.held
        );
        let is_over = matches!(self.connection.stage(), Stage::Closed | Stage::Ended);
        assert!(
            !is_over || self.held == 0,
            "{} B allocated at the end",
            self.held
        );
    }

    fn event(&mut self, stage: Stage, event: Event<'_>, out: &mut Vec<u8>) {
        let seen = match event {
            Event::Request(request) => {
                let seen = SeenEvent::Request(describe(&request));
                self.answer(&request, out);
                seen
            }
            Event::Message(message) => {
                let message = message.as_message();
                assert!(message.len() <= self.limits.message_bytes_max);
                match message.as_text() {
                    Some(text) => SeenEvent::Text(text.to_owned()),
                    None => SeenEvent::Binary(message.as_bytes().to_owned()),
                }
            }
            Event::Ping(payload) => {
                if stage == Stage::Open {
                    self.expected.push(Frame::new(PONG, &payload));
                }
                SeenEvent::Ping(payload.into_owned())
            }
            Event::Pong(payload) => SeenEvent::Pong(payload.into_owned()),
            Event::Close(frame) => {
                assert_eq!(self.connection.stage(), Stage::Closed);
                if stage == Stage::Open {
                    self.expected.push(close_frame(&frame));
                }
                SeenEvent::Close(frame)
            }
        };
        assert!(matches!(
            stage,
            Stage::Opening | Stage::Open | Stage::Closing
        ));
        self.outcome.events.push(seen);
        self.outcome.out.append(out);
        if self
            .script
            .act
            .is_some_and(|(_, at)| at == self.outcome.events.len())
        {
            self.act();
        }
    }

    fn failed(&mut self, stage: Stage, error: &ProtocolError, out: &[u8], whole: &[u8]) {
        match error.close_code() {
            None => {
                self.http_len = out.len();
                self.outcome.decided_at = Some(self.consumed);
                let consumed = &whole[..self.consumed];
                self.is_head = consumed
                    .strip_prefix(b"\r\n")
                    .unwrap_or(consumed)
                    .starts_with(b"HEAD ");
            }
            Some(code) if stage == Stage::Open => self.expected.push(close_frame(&CloseFrame {
                code,
                reason: error.to_string(),
            })),
            Some(_) => assert_eq!(stage, Stage::Closing),
        }
    }

    fn answer(&mut self, request: &Request, out: &mut Vec<u8>) {
        let connection = &mut self.connection;
        self.is_head = request.is_head();
        let status = match self.script.answer {
            Answer::Refuse(status) => status,
            _ if !request.is_upgrade() => 426,
            Answer::Accept | Answer::AcceptSubprotocol => {
                let mut upgrade = Upgrade::new(request);
                if let Some(name) = request.subprotocols().next()
                    && self.script.answer == Answer::AcceptSubprotocol
                {
                    assert!(upgrade.select_subprotocol(request, name));
                }
                connection
                    .accept(request, &upgrade, out)
                    .expect("an unchanged 101 is valid");
                self.http_len = out.len();
                return;
            }
            Answer::AcceptAltered => {
                let mut upgrade = Upgrade::new(request);
                upgrade.headers_mut().remove("upgrade");
                assert!(connection.accept(request, &upgrade, out).is_err());
                assert!(out.is_empty(), "part of a rejected 101 was written");
                500
            }
        };
        connection.refuse(&HttpResponse::new(status, "no\n"), request.is_head(), out);
        self.http_len = out.len();
    }

    fn act(&mut self) {
        let Some((act, _)) = self.script.act else {
            return;
        };
        let is_open = self.connection.stage() == Stage::Open;
        let (connection, out) = (&mut self.connection, &mut self.outcome.out);
        let (is_done, frame) = match act {
            Act::Send => (
                connection.send(Message::text("ours"), out),
                Frame::new(TEXT, b"ours"),
            ),
            Act::Ping => (connection.ping(&[7; 200], out), Frame::new(PING, &[7; 125])),
            Act::Close => (
                connection.close(4000, "ours", out),
                close_frame(&CloseFrame {
                    code: 4000,
                    reason: "ours".to_owned(),
                }),
            ),
            Act::CloseEmpty => (connection.close(CODE_NONE, "", out), Frame::new(CLOSE, b"")),
        };
        assert_eq!(is_done, is_open);
        if is_done {
            self.expected.push(frame);
        }
    }

    /// Checks that `out` is the HTTP response, if any, followed by exactly the expected frames, and that no frame follows
    /// a Close.
    fn check(&self) {
        let Outcome {
            events, out, error, ..
        } = &self.outcome;
        let (http, rest) = out.split_at(self.http_len);
        if let Some(ProtocolError::Opening(error)) = error {
            assert_eq!(wire::check_refusal(http, self.is_head), error.status());
        } else if self.http_len > 0 {
            match self.connection.stage() {
                Stage::Ended if error.is_none() => drop(wire::check_refusal(http, self.is_head)),
                _ => wire::check_101(http),
            }
        }
        let (frames, cut) = wire::split_frames(rest, self.script.role);
        assert!(cut.is_empty(), "incomplete frame: {cut:x?}");
        assert_eq!(frames, self.expected, "after {events:?}");
        let close_at = frames.iter().position(|frame| frame.opcode == CLOSE);
        assert!(close_at.is_none_or(|at| at + 1 == frames.len()));
    }
}

fn close_frame(frame: &CloseFrame) -> Frame {
    let mut payload = Vec::new();
    if frame.code != CODE_NONE {
        payload.extend(frame.code.to_be_bytes());
        payload.extend(frame.reason.bytes());
    }
    Frame::new(CLOSE, &payload)
}

/// Formats all properties of a request.
fn describe(request: &Request) -> String {
    let subprotocols: Vec<&str> = request.subprotocols().collect();
    format!(
        "{} {:?} {} {:?} upgrade {} head {} {subprotocols:?} {:?}",
        request.path(),
        request.query(),
        request.host(),
        request.origin(),
        request.is_upgrade(),
        request.is_head(),
        request.headers(),
    )
}

/// Allowed in addition to a limit: the state of an incomplete message, and the payload of a control frame with the
/// unused capacity of its vector.
const SLACK_BYTES: usize = 1024;

/// More than the longest Close or pong, 131 bytes.
const OUT_CAPACITY: usize = 512;

/// Maximum length of a body that is also run byte by byte.
const BYTEWISE_BYTES_MAX: usize = 4000;
