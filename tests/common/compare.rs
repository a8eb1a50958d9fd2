//! Passes a generated stream to our protocol core and to tungstenite's. Both must report the same messages, send the
//! same replies and find the same violation, however the bytes are cut into pieces. The allowed differences are
//! listed in [`Difference`], each with its reason. Every other difference panics.

use super::frames::{Choices, FAULTS, Fault, Receiver, Shape, Stream};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use tungstenite::Message as Received;
use tungstenite::error::{Error, ProtocolError as Their};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use wsloop::proto::{Connection, Event, HeadLimits, Limits, ProtocolError as Our};

const LIMITS: Limits = Limits {
    message_bytes_max: 400,
    fragments_max: 12,
    head: HeadLimits {
        head_bytes_max: 16 * 1024,
        headers_max: 100,
    },
};

/// The allowed differences between our core and tungstenite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Difference {
    /// Our core reports a violation as soon as a part of the frame shows it; tungstenite waits for the whole frame.
    /// When the frame is complete, tungstenite reports the same violation.
    Earlier,
    /// Our core is stricter: section 5.2 demands the shortest form of a length ("the minimal number of bytes MUST be
    /// used"); tungstenite accepts any form.
    LengthNotMinimal,
    /// Another error for the same frame: section 5.2 demands that the top bit of a length be 0; tungstenite reports
    /// that the frame is too long.
    LengthTopBit,
    /// Our core is stricter: a message with more fragments than the limit fails, because empty fragments cost work
    /// and no bytes; tungstenite has no such limit.
    TooManyFragments,
    /// Another event for the same frame: a Close with a code that MUST NOT be sent (section 7.4) is a violation for our
    /// core, answered with 1002; tungstenite sends the same answer, and reports a Close with the code 1002.
    CloseCode,
    /// Our core accepts 1014, which was registered after the RFC (IANA, "Bad Gateway"); tungstenite 0.30 handles it
    /// as a code that must not be sent.
    CloseCode1014,
    /// Our core discards what arrives after the closing handshake, as section 5.5.1 demands; tungstenite's client
    /// reports an error.
    AfterClose,
    /// Only with [`Fault::Noise`], which can violate two rules in one frame: the reported rule depends on the order of
    /// the checks.
    OtherRule,
}

const DIFFERENCES: [Difference; 8] = [
    Difference::Earlier,
    Difference::LengthNotMinimal,
    Difference::LengthTopBit,
    Difference::TooManyFragments,
    Difference::CloseCode,
    Difference::CloseCode1014,
    Difference::AfterClose,
    Difference::OtherRule,
];

/// The result of one of the two implementations for a stream.
#[derive(Debug, PartialEq)]
struct Outcome<E> {
    events: Vec<Seen>,
    /// The rule that was violated.
    failure: Option<E>,
    /// First bytes and payloads of the frames to send to the peer.
    replies: Vec<(u8, Vec<u8>)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, String),
}

/// Counts events, faults and differences over all streams, to detect a generator that does not cover them.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    streams: u64,
    pub(crate) events: u64,
    /// Streams that ended with a closing handshake.
    closes: u64,
    failures: u64,
    replies: u64,
    faults: BTreeMap<Fault, u64>,
    differences: BTreeMap<Difference, u64>,
}

impl Tally {
    /// Panics unless each kind of result (events, closes, failures, replies) was counted more than twice per 100 streams,
    /// and each fault and each allowed difference occurred at least once.
    pub(crate) fn check(&self) {
        let seen = self
            .events
            .min(self.closes)
            .min(self.failures)
            .min(self.replies);
        assert!(
            seen > self.streams / 50,
            "too few events, closes, failures or replies: {self:?}"
        );
        for fault in FAULTS {
            assert!(
                self.faults.contains_key(&fault),
                "no stream has the fault {fault:?}"
            );
        }
        for difference in DIFFERENCES {
            assert!(
                self.differences.contains_key(&difference),
                "no stream has the difference {difference:?}"
            );
        }
    }
}

/// Generates one stream, cuts it into pieces in several ways, and compares the results of both implementations.
pub(crate) fn compare(choices: &mut impl Choices, tally: &mut Tally) {
    let shape = Shape {
        receiver: choices.pick(&[Receiver::Server, Receiver::Server, Receiver::Client]),
        message_bytes_max: LIMITS.message_bytes_max,
        fragments_max: LIMITS.fragments_max as usize,
    };
    let stream = super::frames::stream(choices, shape);
    let sent = &stream.bytes[..stream.sent];
    let whole = ours(&[sent], shape.receiver, Way::Input);
    let pieces = cut(sent, choices);
    let bytes: Vec<&[u8]> = sent.chunks(1).collect();
    for pieces in [&pieces, &bytes] {
        for way in [Way::Input, Way::InPlace] {
            assert_eq!(
                ours(pieces, shape.receiver, way),
                whole,
                "the result depends on the pieces or on the way of receiving them"
            );
        }
    }

    let pieces = cut(sent, choices);
    let theirs = theirs(&pieces, shape.receiver);
    tally.streams += 1;
    tally.events += whole.events.len() as u64;
    tally.closes += u64::from(matches!(whole.events.last(), Some(Seen::Close(..))));
    tally.failures += u64::from(whole.failure.is_some());
    tally.replies += whole.replies.len() as u64;
    if let Some(fault) = stream.fault {
        *tally.faults.entry(fault).or_default() += 1;
    }
    if let Some(difference) = find_difference(&whole, &theirs, &stream, shape.receiver) {
        *tally.differences.entry(difference).or_default() += 1;
    }
}

/// Cuts bytes into pieces of random lengths.
fn cut<'b>(mut bytes: &'b [u8], choices: &mut impl Choices) -> Vec<&'b [u8]> {
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let len_max = choices.pick(&[3, 30, 300]);
        let (piece, rest) = bytes.split_at((1 + choices.below(len_max)).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

/// Returns the difference between the two results, if there is one. Panics if the difference is not allowed.
fn find_difference(
    ours: &Outcome<Our>,
    theirs: &Outcome<Error>,
    stream: &Stream,
    receiver: Receiver,
) -> Option<Difference> {
    let unlisted = || -> ! { panic!("\nours {ours:?}\ntheirs {theirs:?}\n{stream:?}") };
    let common = ours.events.len().min(theirs.events.len());
    if let Some(at) = (0..common).find(|at| ours.events[*at] != theirs.events[*at]) {
        let is_1014 = matches!(ours.events[at], Seen::Close(1014, _));
        if is_1014 && theirs.events[at] == Seen::protocol_violation() {
            return Some(Difference::CloseCode1014);
        }
        unlisted();
    }
    let is_reply_right = match &ours.failure {
        None => ours.replies == theirs.replies,
        Some(rule) => is_close_added(rule, &ours.replies, &theirs.replies),
    };
    if !is_reply_right || common < ours.events.len() {
        unlisted();
    }
    let more = theirs.events.get(common);
    match (&ours.failure, &theirs.failure, more) {
        (None, None, None) => None,
        (None, Some(_), None) if ours.has_ended() => Some(Difference::AfterClose),
        (None, _, _) => unlisted(),
        (Some(Our::LengthNotMinimal), _, _) => Some(Difference::LengthNotMinimal),
        // Our core reports every control frame with a longer form of the length as too long. Tungstenite accepts it if
        // the length itself is at most 125.
        (Some(Our::ControlTooLong), _, Some(Seen::Ping(_) | Seen::Pong(_) | Seen::Close(..))) => {
            Some(Difference::LengthNotMinimal)
        }
        (Some(Our::TooManyFragments), _, _) => Some(Difference::TooManyFragments),
        (Some(Our::CloseCode(_)), _, Some(seen)) if *seen == Seen::protocol_violation() => {
            Some(Difference::CloseCode)
        }
        (Some(_), _, Some(_)) => unlisted(),
        (Some(_), None, None) => {
            // Tungstenite may wait for the rest of the frame. So it also receives the unsent rest of the stream, and enough
            // zeros for any frame.
            let whole = [&stream.bytes[..], &[0; FRAME_BYTES_MAX]];
            let later = self::theirs(&whole, receiver);
            if later.failure.is_none() && later.events.len() == common {
                unlisted();
            }
            Some(find_difference(ours, &later, stream, receiver).unwrap_or(Difference::Earlier))
        }
        (Some(our), Some(their), None) if is_same_rule(our, their) => None,
        (Some(Our::LengthTopBit), Some(Error::Capacity(_)), None) => Some(Difference::LengthTopBit),
        (Some(_), Some(_), None) if stream.fault == Some(Fault::Noise) => {
            Some(Difference::OtherRule)
        }
        (Some(_), Some(_), None) => unlisted(),
    }
}

/// Checks the replies after a violation: our core must have sent the same replies as tungstenite and then one Close
/// with the code of the violated rule. Tungstenite leaves this Close to its user.
fn is_close_added(rule: &Our, ours: &[(u8, Vec<u8>)], theirs: &[(u8, Vec<u8>)]) -> bool {
    let Some(((first, payload), before)) = ours.split_last() else {
        return false;
    };
    let code = rule.close_code().expect("the connection was open");
    *first == 0x88 && payload.starts_with(&code.to_be_bytes()) && theirs.starts_with(before)
}

fn is_same_rule(our: &Our, their: &Error) -> bool {
    match our {
        Our::MessageTooBig => matches!(their, Error::Capacity(_)),
        Our::TextNotUtf8 | Our::CloseReasonNotUtf8 => matches!(their, Error::Utf8(_)),
        _ => matches!(their, Error::Protocol(their) if is_same_protocol_rule(our, their)),
    }
}

fn is_same_protocol_rule(our: &Our, their: &Their) -> bool {
    match our {
        Our::ReservedBits => matches!(their, Their::NonZeroReservedBits),
        Our::ReservedOpcode(opcode) => {
            matches!(their, Their::InvalidOpcode(their) if their == opcode)
        }
        Our::FrameNotMasked => matches!(their, Their::UnmaskedFrameFromClient),
        Our::FrameMasked => matches!(their, Their::MaskedFrameFromServer),
        Our::ControlFragmented => matches!(their, Their::FragmentedControlFrame),
        Our::ControlTooLong => matches!(their, Their::ControlFrameTooBig),
        Our::ContinuationWithoutMessage => matches!(their, Their::UnexpectedContinueFrame),
        Our::MessageInsideMessage => matches!(their, Their::ExpectedFragment(_)),
        Our::CloseCodeCut => matches!(their, Their::InvalidCloseSequence),
        // Tungstenite has no such rule, or `find_difference` or `is_same_rule` compares it.
        Our::Opening(_)
        | Our::LengthNotMinimal
        | Our::LengthTopBit
        | Our::TooManyFragments
        | Our::CloseCode(_)
        | Our::MessageTooBig
        | Our::TextNotUtf8
        | Our::CloseReasonNotUtf8 => false,
        // A new rule, which is not listed here, is reported as a difference.
        _ => false,
    }
}

/// How a piece is passed to our core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// By `receive`.
    Input,
    /// By copying into `assembly_space`, the buffer of the message being assembled, while there is one.
    InPlace,
}

/// Returns the result of our core.
fn ours(pieces: &[&[u8]], receiver: Receiver, way: Way) -> Outcome<Our> {
    let mut connection = match receiver {
        Receiver::Server => Connection::server_open(),
        Receiver::Client => Connection::client_open(|| [9, 8, 7, 6]),
    };
    let mut out = Vec::new();
    let mut outcome = Outcome::default();
    for piece in pieces {
        let mut bytes = piece.to_vec();
        let mut input = &mut bytes[..];
        loop {
            let space = match way {
                Way::Input => None,
                Way::InPlace if input.is_empty() => None,
                Way::InPlace => connection.assembly_space(1),
            };
            let result = match space {
                Some(space) => {
                    let len = space.len().min(input.len());
                    let (taken, rest) = std::mem::take(&mut input).split_at_mut(len);
                    space[..len].copy_from_slice(taken);
                    input = rest;
                    let result = connection.received_in_place(len, &mut out);
                    if matches!(result, Ok(None)) && !input.is_empty() {
                        continue;
                    }
                    result
                }
                None => connection.receive(&mut input, &LIMITS, &mut out),
            };
            let has_ended = outcome.has_ended();
            match result {
                Ok(None) => break,
                Ok(Some(_)) | Err(_) if has_ended => {
                    panic!("an event or an error after the connection had ended")
                }
                Ok(Some(event)) => outcome.events.push(event.into()),
                Err(rule) => outcome.failure = Some(rule),
            }
        }
        assert!(input.is_empty(), "our core must process all of a piece");
    }
    outcome.replies = replies(&out);
    outcome
}

/// Returns the result of tungstenite.
fn theirs(pieces: &[&[u8]], receiver: Receiver) -> Outcome<Error> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(LIMITS.message_bytes_max))
        .max_frame_size(Some(LIMITS.message_bytes_max));
    let role = match receiver {
        Receiver::Server => Role::Server,
        Receiver::Client => Role::Client,
    };
    let mut context = WebSocketContext::new(role, Some(config));
    let mut memory = Memory::default();
    let mut outcome = Outcome::default();
    // An empty piece at the end causes one more `read`, which writes tungstenite's last reply.
    for piece in pieces.iter().copied().chain([&[][..]]) {
        memory.arrived = piece;
        loop {
            match context.read(&mut memory) {
                Ok(message) => outcome.events.push(message.into()),
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => break,
                Err(Error::ConnectionClosed) => {
                    outcome.replies = replies(&memory.written);
                    return outcome;
                }
                Err(error) => {
                    outcome.replies = replies(&memory.written);
                    outcome.failure = Some(error);
                    return outcome;
                }
            }
        }
    }
    outcome.replies = replies(&memory.written);
    outcome
}

/// A stream in memory. Its reads return the bytes of one piece, and then `WouldBlock`.
#[derive(Default)]
struct Memory<'b> {
    arrived: &'b [u8],
    written: Vec<u8>,
}

impl Read for Memory<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.arrived.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.arrived.read(buf)
    }
}

impl Write for Memory<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.written.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<E> Default for Outcome<E> {
    fn default() -> Self {
        Self {
            events: Vec::new(),
            failure: None,
            replies: Vec::new(),
        }
    }
}

impl<E> Outcome<E> {
    fn has_ended(&self) -> bool {
        self.failure.is_some() || matches!(self.events.last(), Some(Seen::Close(..)))
    }
}

impl Seen {
    /// The event by which tungstenite reports a Close with a code that must not be sent.
    fn protocol_violation() -> Self {
        Self::Close(1002, "Protocol violation".to_owned())
    }
}

impl From<Event<'_>> for Seen {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Message(message) => {
                let message = message.as_message();
                match message.as_text() {
                    Some(text) => Self::Text(text.to_owned()),
                    None => Self::Binary(message.as_bytes().to_owned()),
                }
            }
            Event::Ping(payload) => Self::Ping(payload.into_owned()),
            Event::Pong(payload) => Self::Pong(payload.into_owned()),
            Event::Close(frame) => Self::Close(frame.code, frame.reason),
            Event::Request(_) => unreachable!("the connection is open"),
        }
    }
}

impl From<Received> for Seen {
    fn from(message: Received) -> Self {
        match message {
            Received::Text(text) => Self::Text(text.as_str().to_owned()),
            Received::Binary(bytes) => Self::Binary(bytes.to_vec()),
            Received::Ping(payload) => Self::Ping(payload.to_vec()),
            Received::Pong(payload) => Self::Pong(payload.to_vec()),
            Received::Close(None) => Self::Close(1005, String::new()),
            Received::Close(Some(frame)) => {
                Self::Close(frame.code.into(), frame.reason.as_str().to_owned())
            }
            Received::Frame(_) => unreachable!("tungstenite never returns this from a read"),
        }
    }
}

/// Parses the control frames that an implementation has written. Returns their first bytes and payloads.
fn replies(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut replies = Vec::new();
    while let [first, second, rest @ ..] = bytes {
        let len = usize::from(second & 0x7F);
        assert!(len <= 125, "a control frame of {len} bytes");
        let (key, rest) = match second & 0x80 {
            0 => (&[0; 4][..], rest),
            _ => rest.split_at(4),
        };
        let (payload, rest) = rest.split_at(len);
        let unmasked = payload.iter().zip(key.iter().cycle());
        replies.push((*first, unmasked.map(|(byte, key)| byte ^ key).collect()));
        bytes = rest;
    }
    replies
}

/// Length of the largest frame within the limits. This number of additional bytes completes any such frame.
const FRAME_BYTES_MAX: usize = LIMITS.message_bytes_max + 14;
