//! One WebSocket connection, without a socket: bytes in, events and replies out (RFC 6455).
//!
//! A [`Connection`] holds the WebSocket state: opening handshake, open, closing handshake, ended. A violation ends it for
//! good: the Close with the right code (or the HTTP refusal) is appended to `out`, and nothing more is processed or
//! produced. A connection owns no buffer while no head, frame or message is under way.

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
    /// Limits of the opening handshake's head.
    pub head: HeadLimits,
}

/// Something that has arrived whole.
///
/// Exhaustive, unlike the errors: a caller must act on each kind of event, so a new kind would be a breaking change.
#[derive(Debug)]
pub enum Event<'i> {
    /// A request, in the server role: [`Connection::accept`] or [`Connection::refuse`] it before the next call
    /// of [`Connection::receive`].
    Request(Box<Request>),
    /// A whole message.
    Message(ReceivedMessage<'i>),
    /// A ping. Its pong was appended to `out`, unless our Close was sent before.
    Ping(Cow<'i, [u8]>),
    /// A pong, solicited or not.
    Pong(Cow<'i, [u8]>),
    /// The peer's Close. Ours was appended to `out`, unless it was sent before.
    Close(CloseFrame),
}

/// Stage of a connection's life. Exhaustive: RFC 6455 knows no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Before the 101.
    Opening,
    /// Messages are sent and received.
    Open,
    /// Our Close was sent, the peer's has not arrived. Messages may still arrive.
    Closing,
    /// Both Closes are exchanged: the closing handshake is complete.
    Closed,
    /// Ended without a closing handshake: refused, answered in plain HTTP, or failed.
    Ended,
}

/// One connection, in either role.
pub struct Connection {
    endpoint: Endpoint,
    state: State,
}

enum Endpoint {
    Server,
    /// Section 5.3: a fresh, unpredictable masking key for every frame, from the caller's source of randomness. Boxed
    /// twice, so that it costs a server's connection, which has none, only a pointer.
    Client(Box<MaskingKeys>),
}

struct MaskingKeys(Box<dyn FnMut() -> [u8; 4] + Send>);

#[derive(Debug)]
enum State {
    Opening(Box<Head>),
    /// The request was returned to the caller, who has not answered it yet.
    Answering,
    Open(Receiver),
    Closing(Receiver),
    Closed,
    Ended,
}

impl Connection {
    /// Returns the server's side, waiting for a request.
    pub fn server() -> Self {
        Self {
            endpoint: Endpoint::Server,
            state: State::Opening(Box::default()),
        }
    }

    /// Returns the server's side of a connection whose opening handshake was done elsewhere.
    pub fn server_open() -> Self {
        Self {
            endpoint: Endpoint::Server,
            state: State::Open(Receiver::default()),
        }
    }

    /// Returns the client's side after its opening handshake (`ClientOpening`). `masking_key` returns a fresh,
    /// unpredictable key at every call.
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

    /// Returns how many bytes of payload the data frame under way lacks, as its header claims. Zero if none is under way.
    #[inline]
    pub(crate) fn payload_missing(&self) -> u64 {
        match &self.state {
            State::Open(receiver) | State::Closing(receiver) => receiver.payload_missing(),
            State::Opening(_) | State::Answering | State::Closed | State::Ended => 0,
        }
    }

    /// Takes bytes from `input` until an event is complete. `Ok(None)` means that all bytes were taken, and more are
    /// needed. Replies that the protocol demands (pong, Close, HTTP refusal) are appended to `out`, one pong for each
    /// ping. The caller sends or drops them between calls.
    ///
    /// A message that is whole in `input` is unmasked in place, and borrowed. A message that arrived in pieces is owned
    /// by the event.
    ///
    /// # Errors
    /// The rule that the peer broke. The reply is in `out`, and the connection has ended.
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

    /// As [`receive`](Self::receive), with buffers from `buffers` for what is not whole.
    /// After `FRAGMENTS_PER_CALL` fragments the result is `Ok(None)` although input is left.
    #[inline]
    pub(crate) fn receive_with<'i>(
        &mut self,
        input: &mut &'i mut [u8],
        limits: &Limits,
        buffers: &mut BufferPool,
        out: &mut Vec<u8>,
    ) -> Result<Option<Event<'i>>, ProtocolError> {
        match self.receive_whole(input, limits) {
            Some(Ok(message)) => Ok(Some(Event::Message(message.into()))),
            Some(Err(error)) => Err(self.fail(error, out)),
            None => self.receive_any(input, limits, buffers, out),
        }
    }

    /// Returns the place where the next bytes of the message under way belong, so that they can be read there without a
    /// copy; [`received_in_place`](Self::received_in_place) takes them. `None` if the frame under way lacks less than
    /// `len_min` bytes, or less than that can be offered: use [`receive`](Self::receive).
    ///
    /// What is offered is initialised memory of at most 256 KiB, and at most as much as has arrived of the message, so
    /// that a header which claims more than is sent costs nothing.
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

    /// As [`assembly_space`](Self::assembly_space), in a buffer of `buffers`.
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

    /// Takes the first `len` bytes that were written to [`assembly_space`](Self::assembly_space), as
    /// [`receive`](Self::receive) would take them. They end with the frame at the latest.
    ///
    /// # Errors
    /// As `receive`.
    ///
    /// # Panics
    /// If `len` is more than was offered, or if nothing was.
    pub fn received_in_place(
        &mut self,
        len: usize,
        out: &mut Vec<u8>,
    ) -> Result<Option<Event<'static>>, ProtocolError> {
        let (State::Open(receiver) | State::Closing(receiver)) = &mut self.state else {
            panic!("bytes are received in place only while a payload is under way");
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

    /// Takes a message of one frame that is shorter than 64 KiB and whole in `input`. Returns `None`, and takes nothing, if
    /// something else comes next. After an error, the caller fails the connection with it.
    ///
    /// Fast path with the same results as [`receive`](Self::receive). Most messages take it, and for them an event that
    /// goes through memory costs as much as the rest of the work.
    #[inline(always)]
    pub(crate) fn receive_whole<'i>(
        &mut self,
        input: &mut &'i mut [u8],
        limits: &Limits,
    ) -> Option<Result<Message<'i>, ProtocolError>> {
        let (State::Open(receiver), Endpoint::Server) = (&mut self.state, &self.endpoint) else {
            return None;
        };
        receiver.receive_whole(input, limits)
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
            // Section 7.1.1 and section 5.5.1: after the closing handshake, or a failure, what still arrives
            // is discarded.
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
                // unless it already received a Close frame." Nothing follows our own Close either.
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

    /// Handles a request head that is complete, invalid, or neither yet.
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

    /// Accepts the request: appends the 101 to `out`.
    ///
    /// # Errors
    /// The response was altered in a way that breaks the protocol. Nothing was appended: [`refuse`](Self::refuse) the
    /// request.
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

    /// Answers the request in plain HTTP, or ends an opening handshake that is not complete: appends `response`
    /// to `out`, without its body for a HEAD request. The connection has ended.
    pub fn refuse(&mut self, response: &HttpResponse, is_head: bool, out: &mut Vec<u8>) {
        assert!(
            self.stage() == Stage::Opening,
            "a response in HTTP comes before the 101"
        );
        response.encode(is_head, out);
        self.state = State::Ended;
    }

    /// Ends the connection, whatever its stage, without a reply. A head, frame or message under way is dropped.
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

    /// Appends a ping to `out`, with at most the first 125 bytes of `payload`. Returns `false`, and appends nothing, if the
    /// connection is not open.
    pub fn ping(&mut self, payload: &[u8], out: &mut Vec<u8>) -> bool {
        let is_open = self.stage() == Stage::Open;
        if is_open {
            self.append_frame(Kind::Ping, &payload[..payload.len().min(125)], out);
        }
        is_open
    }

    /// Begins the closing handshake: appends a Close to `out`, with as much of the reason as fits. Returns `false`, and
    /// appends nothing, if the connection is not open.
    ///
    /// # Panics
    /// If `code` may not be sent ([`is_code_allowed`](super::is_code_allowed)) and is not [`CODE_NONE`].
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

    /// Section 5.5.1: the answer to a Close is a Close, "typically" with the code received; the reason goes back
    /// with it, as other implementations do.
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
