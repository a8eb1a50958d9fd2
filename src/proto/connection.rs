//! The state of one WebSocket connection (RFC 6455), without a socket: received bytes go in, events and bytes to send
//! come out.
//!
//! A [`Connection`] is in one of the stages opening handshake, open, closing handshake, and ended. A protocol violation
//! fails the connection: the Close frame with the error's code (or, in the opening handshake, the HTTP error response)
//! is appended to `out`. After that the connection processes no input and produces no output. A connection owns no
//! buffer while no head, frame or message has arrived in part.

use super::close::{self, CODE_NONE, CloseFrame};
use super::error::ProtocolError;
use super::frame::{HeaderBytes, Kind, Role};
use super::mask::apply_mask;
use super::message::{Message, ReceivedMessage};
use super::opening::{
    Head, HeadLimits, HttpResponse, OpeningError, Request, ResponseError, Upgrade,
};
use super::receiver::{Received, Receiver};
use crate::buffer::BufferPool;
use std::borrow::Cow;
use std::fmt;

/// Limits of the receiving side.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Maximum bytes of payload in one message.
    pub message_bytes_max: usize,
    /// Maximum frames in one message. Zero refuses every message.
    pub fragments_max: u32,
    /// Limits of the head of the opening handshake.
    pub head: HeadLimits,
}

/// A request, message or control frame that has arrived completely.
///
/// Exhaustive, unlike the errors: a caller must act on each kind of event, so a new kind would be a breaking change.
#[derive(Debug)]
pub enum Event<'i> {
    /// A request, in the server role. Answer it with [`Connection::accept`] or [`Connection::refuse`] before the next
    /// call of [`Connection::receive`].
    Request(Box<Request>),
    /// A complete message.
    Message(ReceivedMessage<'i>),
    /// A ping. The pong was appended to `out`, unless our Close was sent before.
    Ping(Cow<'i, [u8]>),
    /// A pong, solicited or not.
    Pong(Cow<'i, [u8]>),
    /// The peer's Close. Our Close was appended to `out`, unless it was sent before.
    Close(CloseFrame),
}

/// Stage of a connection's life. Exhaustive, because RFC 6455 defines no other stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The opening handshake is not complete: the 101 response was not sent.
    Opening,
    /// The opening handshake is complete, and no Close was sent or received.
    Open,
    /// Our Close was sent, and the peer's has not arrived. Messages may still arrive.
    Closing,
    /// Both Closes were exchanged: the closing handshake is complete.
    Closed,
    /// Ended without a complete closing handshake: answered with an HTTP response other than the 101, failed because of
    /// a violation, or [abandoned](Connection::abandon).
    Ended,
}

/// One connection, in the server or client role.
pub struct Connection {
    endpoint: Endpoint,
    state: State,
}

enum Endpoint {
    Server,
    /// Section 5.3: every frame has a fresh, unpredictable masking key, from the caller's source of randomness. The
    /// function is boxed twice, so that the size of a server's connection, which has no function, grows by one pointer
    /// only.
    Client(Box<MaskingKeys>),
}

struct MaskingKeys(Box<dyn FnMut() -> [u8; 4] + Send>);

#[derive(Debug)]
enum State {
    Opening(Box<Head>),
    /// The request was returned to the caller, and the caller has not answered it yet.
    Answering,
    Open(Receiver),
    Closing(Receiver),
    Closed,
    Ended,
}

impl Connection {
    /// Returns a connection in the server role, in the stage [`Opening`](Stage::Opening).
    pub fn server() -> Self {
        Self {
            endpoint: Endpoint::Server,
            state: State::Opening(Box::default()),
        }
    }

    /// Returns a connection in the server role whose opening handshake was done elsewhere, in the stage
    /// [`Open`](Stage::Open).
    pub fn server_open() -> Self {
        Self {
            endpoint: Endpoint::Server,
            state: State::Open(Receiver::default()),
        }
    }

    /// Returns a connection in the client role after the opening handshake (see
    /// [`ClientOpening`](super::ClientOpening)). `masking_key` must return a fresh, unpredictable key at every call.
    pub fn client_open(masking_key: impl FnMut() -> [u8; 4] + Send + 'static) -> Self {
        Self {
            endpoint: Endpoint::Client(Box::new(MaskingKeys(Box::new(masking_key)))),
            state: State::Open(Receiver::default()),
        }
    }

    /// Returns the stage of the connection's life.
    pub fn stage(&self) -> Stage {
        match self.state {
            State::Opening(_) | State::Answering => Stage::Opening,
            State::Open(_) => Stage::Open,
            State::Closing(_) => Stage::Closing,
            State::Closed => Stage::Closed,
            State::Ended => Stage::Ended,
        }
    }

    /// Returns whether a byte of the peer has arrived.
    pub(crate) fn has_begun(&self) -> bool {
        match &self.state {
            State::Opening(head) => head.has_begun(),
            State::Answering
            | State::Open(_)
            | State::Closing(_)
            | State::Closed
            | State::Ended => true,
        }
    }

    /// Returns how many bytes of the current data frame's payload have not arrived, according to its header. Zero if no
    /// data frame has arrived in part.
    #[inline]
    pub(crate) fn payload_missing(&self) -> u64 {
        match &self.state {
            State::Open(receiver) | State::Closing(receiver) => receiver.payload_missing(),
            State::Opening(_) | State::Answering | State::Closed | State::Ended => 0,
        }
    }

    /// Consumes bytes from `input` until an event is complete, and advances `input` behind them. `Ok(None)` means that
    /// all bytes were consumed, and more are needed. In the stages [`Closed`](Stage::Closed) and
    /// [`Ended`](Stage::Ended) all input is discarded.
    ///
    /// Replies that the protocol demands (one pong for each ping, Close, HTTP error response) are appended to `out`.
    /// The caller sends them, or removes them from `out`.
    ///
    /// A message that lies complete in `input`, in one frame, is unmasked in place, and the event borrows it. A message
    /// that arrived in pieces is owned by the event.
    ///
    /// # Errors
    /// The rule that the peer broke. The reply is in `out`, unless our Close was sent before. The connection has ended.
    ///
    /// # Panics
    /// If the last event was a request, and it was not answered.
    #[inline]
    pub fn receive<'i>(
        &mut self,
        input: &mut &'i mut [u8],
        limits: &Limits,
        out: &mut Vec<u8>,
    ) -> Result<Option<Event<'i>>, ProtocolError> {
        let mut buffers = BufferPool::default();
        loop {
            let event = self.receive_with(input, limits, &mut buffers, out)?;
            if event.is_some() || input.is_empty() {
                return Ok(event);
            }
        }
    }

    /// As [`receive`](Self::receive), with buffers from `buffers` for heads and messages that arrive in pieces. After
    /// `FRAGMENTS_PER_CALL` fragments the result is `Ok(None)` even if input is left.
    #[inline]
    pub(crate) fn receive_with<'i>(
        &mut self,
        input: &mut &'i mut [u8],
        limits: &Limits,
        buffers: &mut BufferPool,
        out: &mut Vec<u8>,
    ) -> Result<Option<Event<'i>>, ProtocolError> {
        if limits.fragments_max == 0 {
            return self.receive_any(input, limits, buffers, out);
        }
        match self.receive_whole(input, limits.message_bytes_max) {
            Some(Ok(message)) => Ok(Some(Event::Message(message.into()))),
            Some(Err(error)) => Err(self.fail(error, out)),
            None => self.receive_any(input, limits, buffers, out),
        }
    }

    /// Returns the memory in which the next bytes of a partly received message belong, so that a socket can be read
    /// into it without a copy. After the read, call [`received_in_place`](Self::received_in_place). `None` if fewer
    /// than `len_min` bytes of the current frame are missing, or if less memory than that is available: use
    /// [`receive`](Self::receive).
    ///
    /// The memory is initialised. Its length is at most 256 KiB. A new buffer offers at most as many bytes as have
    /// arrived of the message, so that a header that announces more bytes than the peer sends costs no memory.
    ///
    /// ```
    /// use wsloop::proto::{Connection, Event, Limits};
    ///
    /// let limits = Limits { message_bytes_max: 1000, fragments_max: 1, head: Default::default() };
    /// let (mut connection, mut out) = (Connection::server_open(), Vec::new());
    /// // A text of 6 bytes, masked with zeros, of which 3 have arrived.
    /// let mut begin = *b"\x81\x86\0\0\0\0whe";
    /// let event = connection.receive(&mut &mut begin[..], &limits, &mut out);
    /// assert!(matches!(event, Ok(None)));
    /// let space = connection.assembly_space(1).unwrap();
    /// space.copy_from_slice(b"re?");
    /// let Ok(Some(Event::Message(message))) = connection.received_in_place(3, &mut out) else { panic!() };
    /// assert_eq!(message.as_message().as_text(), Some("where?"));
    /// ```
    pub fn assembly_space(&mut self, len_min: usize) -> Option<&mut [u8]> {
        self.assembly_space_with(len_min, &mut BufferPool::default())
    }

    /// As [`assembly_space`](Self::assembly_space), with buffers from `buffers`.
    #[inline(never)]
    pub(crate) fn assembly_space_with(
        &mut self,
        len_min: usize,
        buffers: &mut BufferPool,
    ) -> Option<&mut [u8]> {
        match &mut self.state {
            State::Open(receiver) | State::Closing(receiver) => {
                receiver.assembly_space(len_min, buffers)
            }
            State::Opening(_) | State::Answering | State::Closed | State::Ended => None,
        }
    }

    /// Processes the first `len` bytes of the memory that [`assembly_space`](Self::assembly_space) returned, as
    /// [`receive`](Self::receive) would process them. They belong to the current frame; the frame may end with them.
    ///
    /// # Errors
    /// As `receive`.
    ///
    /// # Panics
    /// If the connection is not inside the payload of a data frame, or if `len` is greater than the number of missing
    /// bytes or than the memory initialised so far. Call it only after `assembly_space` has returned memory, with a
    /// `len` of at most its length: other misuse is not always detected.
    pub fn received_in_place(
        &mut self,
        len: usize,
        out: &mut Vec<u8>,
    ) -> Result<Option<Event<'static>>, ProtocolError> {
        let (State::Open(receiver) | State::Closing(receiver)) = &mut self.state else {
            panic!("bytes are received in place only inside the payload of a frame");
        };
        match receiver.received_in_place(len) {
            Ok(Some(Received::Message(message))) => Ok(Some(Event::Message(message))),
            Ok(Some(Received::Close(_) | Received::Ping(_) | Received::Pong(_))) => {
                unreachable!("control frames are not assembled in place")
            }
            Ok(None) => Ok(None),
            Err(error) => Err(self.fail(error, out)),
        }
    }

    /// Consumes a message of one frame, shorter than 64 KiB and not longer than `len_max`, that lies complete in `input`.
    /// Returns `None`, and consumes nothing, for any other input. [`Limits::fragments_max`] must be at least 1. After an
    /// error, the caller passes it to [`fail`](Self::fail).
    ///
    /// Fast path with the same results as [`receive`](Self::receive). Most messages take it. For them, storing an
    /// [`Event`] in memory and loading it again would cost as much as the rest of the work.
    #[inline(always)]
    pub(crate) fn receive_whole<'i>(
        &mut self,
        input: &mut &'i mut [u8],
        len_max: usize,
    ) -> Option<Result<Message<'i>, ProtocolError>> {
        let (State::Open(receiver), Endpoint::Server) = (&mut self.state, &self.endpoint) else {
            return None;
        };
        receiver.receive_whole(input, len_max)
    }

    /// The general case of [`receive_with`](Self::receive_with).
    #[inline(never)]
    fn receive_any<'i>(
        &mut self,
        input: &mut &'i mut [u8],
        limits: &Limits,
        buffers: &mut BufferPool,
        out: &mut Vec<u8>,
    ) -> Result<Option<Event<'i>>, ProtocolError> {
        let result = match &mut self.state {
            State::Open(receiver) | State::Closing(receiver) => {
                receiver.receive(input, self.endpoint.role(), limits, buffers)
            }
            State::Opening(head) => {
                let request = head.receive_request_with(input, &limits.head, buffers);
                let is_head = head.is_head();
                return self.handle_request(request, is_head, out);
            }
            State::Answering => unreachable!("accept or refuse the request first"),
            // Section 7.1.1 and section 5.5.1: all input after the closing handshake, or after a failure, is discarded.
            State::Closed | State::Ended => {
                *input = &mut [];
                return Ok(None);
            }
        };
        let received = match result {
            Ok(Some(received)) => received,
            Ok(None) => return Ok(None),
            Err(error) => return Err(self.fail(error, out)),
        };
        Ok(Some(match received {
            Received::Message(message) => Event::Message(message),
            Received::Pong(payload) => Event::Pong(payload),
            Received::Ping(payload) => {
                // Section 5.5.2: "Upon receipt of a Ping frame, an endpoint MUST send a Pong frame in response,
                // unless it already received a Close frame." No frame may follow our own Close either.
                if let State::Open(_) = self.state {
                    self.append_frame(Kind::Pong, &payload, out);
                }
                Event::Ping(payload)
            }
            Received::Close(payload) => match CloseFrame::parse(&payload) {
                Ok(frame) => {
                    self.answer_close(&frame, out);
                    Event::Close(frame)
                }
                Err(error) => return Err(self.fail(error, out)),
            },
        }))
    }

    /// Handles the result of parsing a request's head: complete, invalid, or incomplete (`Ok(None)`).
    fn handle_request<'i>(
        &mut self,
        request: Result<Option<Request>, OpeningError>,
        is_head: bool,
        out: &mut Vec<u8>,
    ) -> Result<Option<Event<'i>>, ProtocolError> {
        match request {
            Ok(Some(request)) => {
                self.state = State::Answering;
                Ok(Some(Event::Request(Box::new(request))))
            }
            Ok(None) => Ok(None),
            Err(error) => {
                error.response().encode(is_head, out);
                self.state = State::Ended;
                Err(error.into())
            }
        }
    }

    /// Accepts the request: appends the 101 response to `out`. The connection is open.
    ///
    /// # Errors
    /// A header of the response breaks the protocol. Nothing was appended: [`refuse`](Self::refuse) the request.
    ///
    /// # Panics
    /// If the last event was not a request, or if the request was answered already.
    pub fn accept(
        &mut self,
        request: &Request,
        upgrade: &Upgrade,
        out: &mut Vec<u8>,
    ) -> Result<(), ResponseError> {
        assert!(
            matches!(self.state, State::Answering),
            "accept follows Event::Request"
        );
        upgrade.encode(request, out)?;
        self.state = State::Open(Receiver::default());
        Ok(())
    }

    /// Answers a request with an HTTP response other than the 101, or ends an opening handshake whose request is not
    /// complete (after a timeout, for example): appends `response` to `out`, without its body if `is_head`. The
    /// connection has ended.
    ///
    /// # Panics
    /// If the stage is not [`Opening`](Stage::Opening).
    pub fn refuse(&mut self, response: &HttpResponse, is_head: bool, out: &mut Vec<u8>) {
        assert!(
            self.stage() == Stage::Opening,
            "an HTTP response is sent only before the 101"
        );
        response.encode(is_head, out);
        self.state = State::Ended;
    }

    /// Ends the connection in any stage, without a reply. A head, frame or message that arrived in part is dropped.
    pub fn abandon(&mut self) {
        self.state = State::Ended;
    }

    /// Appends a message to `out` as one frame. Returns `false`, and appends nothing, if the connection is not open.
    pub fn send(&mut self, message: Message<'_>, out: &mut Vec<u8>) -> bool {
        let is_open = self.stage() == Stage::Open;
        if is_open {
            self.append_frame(message.kind(), message.as_bytes(), out);
        }
        is_open
    }

    /// Appends a ping to `out`, with at most the first 125 bytes of `payload`. Returns `false`, and appends nothing, if
    /// the connection is not open.
    pub fn ping(&mut self, payload: &[u8], out: &mut Vec<u8>) -> bool {
        let is_open = self.stage() == Stage::Open;
        if is_open {
            self.append_frame(Kind::Ping, &payload[..payload.len().min(125)], out);
        }
        is_open
    }

    /// Begins the closing handshake: appends a Close to `out`. The reason is cut to
    /// [`REASON_BYTES_MAX`](super::REASON_BYTES_MAX) bytes, between two characters. Returns `false`, and appends
    /// nothing, if the connection is not open.
    ///
    /// # Panics
    /// If `code` is neither [allowed](super::is_code_allowed) in a Close frame nor [`CODE_NONE`].
    pub fn close(&mut self, code: u16, reason: &str, out: &mut Vec<u8>) -> bool {
        assert!(
            code == CODE_NONE || close::is_code_allowed(code),
            "close code {code} must not be sent"
        );
        if self.stage() != Stage::Open {
            return false;
        }
        self.append_frame(Kind::Close, &close::payload(code, reason), out);
        if let State::Open(receiver) = std::mem::replace(&mut self.state, State::Ended) {
            self.state = State::Closing(receiver);
        }
        true
    }

    /// Section 5.5.1: a Close is answered with a Close, which "typically" has the code that was received. The received
    /// reason is sent as well, as by other implementations.
    fn answer_close(&mut self, frame: &CloseFrame, out: &mut Vec<u8>) {
        if let State::Open(_) = self.state {
            self.append_frame(Kind::Close, &close::payload(frame.code, &frame.reason), out);
        }
        self.state = State::Closed;
    }

    /// Section 7.1.7: fails the connection, with a Close if none was sent. Returns the error.
    pub(crate) fn fail(&mut self, error: ProtocolError, out: &mut Vec<u8>) -> ProtocolError {
        if let (State::Open(_), Some(code)) = (&self.state, error.close_code()) {
            self.append_frame(Kind::Close, &close::payload(code, &error.to_string()), out);
        }
        self.state = State::Ended;
        error
    }

    fn append_frame(&mut self, kind: Kind, payload: &[u8], out: &mut Vec<u8>) {
        let mask = match &mut self.endpoint {
            Endpoint::Server => None,
            Endpoint::Client(keys) => Some((keys.0)()),
        };
        out.extend_from_slice(HeaderBytes::encode(kind, mask, payload.len()).as_slice());
        let start = out.len();
        out.extend_from_slice(payload);
        if let Some(mask) = mask {
            apply_mask(&mut out[start..], mask, 0);
        }
    }
}

impl Endpoint {
    fn role(&self) -> Role {
        match self {
            Self::Server => Role::Server,
            Self::Client(_) => Role::Client,
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("role", &self.endpoint.role())
            .field("stage", &self.stage())
            .finish()
    }
}

#[cfg(test)]
mod tests;
