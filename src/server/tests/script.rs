//! A test bench for the engine: scripted streams instead of sockets, so that tests can cause any fault, and a clock that
//! the test sets, so that deadlines pass without sleeping.

use crate::config::Config;
use crate::context::Context;
use crate::engine::admission::Entrance;
use crate::engine::{Engine, Readiness};
use crate::error::{Close, Error};
use crate::handler::Handler;
use crate::id::Id;
use crate::proto::{HttpResponse, Message, Request, Upgrade};
use crate::server::testing::shared::Shared;
use crate::server::turn::{self, Environment};
use crate::stream::{Stream, Transport};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

/// The state of a scripted connection: what the session will read, and what it has written.
#[derive(Debug)]
pub(super) struct Wire {
    /// Bytes and errors that reads will return, in order. An empty `Vec` is the end of the stream.
    pub(super) reads: VecDeque<Result<Vec<u8>, ErrorKind>>,
    pub(super) written: Vec<u8>,
    /// Number of bytes that writes accept before they would block.
    pub(super) writable_bytes: usize,
    /// Maximum bytes of one read or write.
    pub(super) call_bytes_max: usize,
    /// The error of every write, if any.
    pub(super) write_error: Option<ErrorKind>,
    pub(super) write_calls: usize,
    /// The session has shut down its write side.
    pub(super) is_write_shut: bool,
    /// The session has dropped its stream.
    pub(super) is_dropped: bool,
}

impl Default for Wire {
    fn default() -> Self {
        Self {
            reads: VecDeque::new(),
            written: Vec::new(),
            writable_bytes: usize::MAX,
            call_bytes_max: usize::MAX,
            write_error: None,
            write_calls: 0,
            is_write_shut: false,
            is_dropped: false,
        }
    }
}

/// The session's end of a scripted connection.
#[derive(Debug)]
pub(super) struct ScriptedStream(pub(super) Shared<Wire>);

impl Read for ScriptedStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut wire = self.0.lock();
        let Some(step) = wire.reads.pop_front() else {
            return Err(ErrorKind::WouldBlock.into());
        };
        let mut bytes = step?;
        // As with TCP, one read returns everything that has arrived, regardless of how it was sent.
        while !bytes.is_empty() && matches!(wire.reads.front(), Some(Ok(more)) if !more.is_empty())
        {
            bytes.extend(wire.reads.pop_front().unwrap().unwrap());
        }
        let len = bytes.len().min(buf.len()).min(wire.call_bytes_max);
        buf[..len].copy_from_slice(&bytes[..len]);
        if len < bytes.len() {
            wire.reads.push_front(Ok(bytes.split_off(len)));
        }
        Ok(len)
    }
}

impl Write for ScriptedStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(buf)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut wire = self.0.lock();
        wire.write_calls += 1;
        assert!(!wire.is_write_shut, "a write after the write side was shut");
        if let Some(error) = wire.write_error {
            return Err(error.into());
        }
        let all: Vec<u8> = slices
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect();
        let len = all.len().min(wire.writable_bytes).min(wire.call_bytes_max);
        if len == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        wire.writable_bytes -= len;
        wire.written.extend_from_slice(&all[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Transport for ScriptedStream {
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.lock().is_write_shut = true;
        Ok(())
    }
}

impl Drop for ScriptedStream {
    fn drop(&mut self) {
        self.0.lock().is_dropped = true;
    }
}

/// A [`Recorder`]'s callback for messages.
pub(super) type OnMessage = Box<dyn FnMut(&mut Context<'_>, Id, Message<'_>)>;

/// A [`Recorder`]'s callback for upgrades, timers and skips.
pub(super) type OnOtherEvent = Box<dyn FnMut(&mut Context<'_>)>;

/// A handler that records its events as text.
pub(super) struct Recorder {
    /// A line for each event except upgrades and messages.
    pub(super) events: Vec<String>,
    pub(super) on_message: OnMessage,
    /// Called for every upgrade, timer and skip.
    pub(super) on_other_event: Option<OnOtherEvent>,
    /// The topic that each new session subscribes to.
    pub(super) topic: Option<&'static str>,
}

impl Handler for Recorder {
    fn on_open(&mut self, cx: &mut Context<'_>, id: Id) {
        self.events.push(format!("open {}", id.slot));
        if let Some(topic) = self.topic {
            cx.subscribe(id, topic);
        }
    }

    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
        (self.on_message)(cx, id, message);
    }

    fn on_upgrade(
        &mut self,
        cx: &mut Context<'_>,
        _: Id,
        _: &Request,
        _: &mut Upgrade,
    ) -> Result<(), HttpResponse> {
        if let Some(on_other_event) = &mut self.on_other_event {
            on_other_event(cx);
        }
        Ok(())
    }

    fn on_drain(&mut self, _: &mut Context<'_>, id: Id) {
        self.events.push(format!("drain {}", id.slot));
    }

    fn on_skip(&mut self, cx: &mut Context<'_>, id: Id, topic: &str, messages: u64) {
        if let Some(on_other_event) = &mut self.on_other_event {
            on_other_event(cx);
        }
        self.events
            .push(format!("skip {} {topic} {messages}", id.slot));
    }

    fn on_error(&mut self, _: &mut Context<'_>, id: Option<Id>, error: &Error) {
        let slot = id.map_or(-1, |id| i64::from(id.slot));
        self.events.push(format!("error {slot} {error}"));
    }

    fn on_close(&mut self, cx: &mut Context<'_>, id: Id, close: &Close<'_>) {
        assert!(!cx.is_open(id));
        let Close {
            code,
            reason,
            is_clean,
            by,
            ..
        } = close;
        self.events.push(format!(
            "close {} {code} {reason:?} {is_clean} {by:?}",
            id.slot
        ));
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, key: u64) {
        if let Some(on_other_event) = &mut self.on_other_event {
            on_other_event(cx);
        }
        self.events.push(format!("timer {key}"));
    }
}

/// A test bench: an engine with scripted streams.
pub(super) struct Bench {
    pub(super) engine: Engine,
    pub(super) handler: Recorder,
    /// The time of the last turn in milliseconds.
    pub(super) now: u64,
    /// The last turn has returned that the server has stopped.
    pub(super) has_stopped: bool,
    buf: Vec<u8>,
    peers: Vec<Peer>,
}

/// An environment without listeners and without a poll.
pub(super) struct NoEnvironment;

impl Environment for NoEnvironment {}

/// An environment without listeners, whose poll reports the readiness of all streams.
struct Streams<'a>(&'a [Peer]);

impl Environment for Streams<'_> {
    fn poll_once(&mut self, engine: &mut Engine, _: Option<Duration>) -> io::Result<bool> {
        for peer in self.0 {
            engine.mark(peer.id, peer.readiness());
        }
        Ok(false)
    }
}

/// The peer of a scripted connection.
#[derive(Clone)]
pub(super) struct Peer {
    pub(super) id: Id,
    pub(super) wire: Shared<Wire>,
}

impl Bench {
    /// Creates a bench whose handler calls `on_message` for every message.
    pub(super) fn new(
        config: Config,
        on_message: impl FnMut(&mut Context<'_>, Id, Message<'_>) + 'static,
    ) -> Self {
        config.check().unwrap();
        let buf = vec![0; config.receive_buffer_bytes];
        let handler = Recorder {
            events: Vec::new(),
            on_message: Box::new(on_message),
            on_other_event: None,
            topic: None,
        };
        Self {
            engine: Engine::new(config, None, None),
            handler,
            now: 0,
            has_stopped: false,
            buf,
            peers: Vec::new(),
        }
    }

    /// Creates a bench whose handler echoes every message.
    pub(super) fn echo(config: Config) -> Self {
        Self::new(config, |cx, id, message| {
            let _ = cx.send(id, message);
        })
    }

    /// Creates a bench whose handler publishes every message to the topic `chat`. All sessions are members of it.
    pub(super) fn broadcast(config: Config) -> Self {
        let mut bench = Self::new(config, |cx, _, message| {
            cx.publish("chat", message);
        });
        bench.handler.topic = Some("chat");
        bench
    }

    /// Adds a connection whose request has not arrived yet.
    pub(super) fn connect(&mut self) -> Peer {
        self.connect_from(None)
    }

    /// Adds a connection from an address. Its request has not arrived.
    pub(super) fn connect_from(&mut self, address: Option<SocketAddr>) -> Peer {
        self.connect_with(address, false)
    }

    /// Adds a connection from an address, of a listener that expects the PROXY protocol if `is_proxied`.
    pub(super) fn connect_with(&mut self, address: Option<SocketAddr>, is_proxied: bool) -> Peer {
        let wire = Shared::new(Wire::default());
        let stream = Stream::memory(ScriptedStream(wire.clone()));
        self.connect_stream(stream, wire, address, is_proxied)
    }

    /// Adds a connection with a stream whose bytes come from and go to `wire`.
    pub(super) fn connect_stream(
        &mut self,
        stream: Stream,
        wire: Shared<Wire>,
        address: Option<SocketAddr>,
        is_proxied: bool,
    ) -> Peer {
        let is_internal = false;
        self.insert(
            stream,
            wire,
            address,
            Entrance {
                is_proxied,
                is_internal,
            },
        )
    }

    /// Adds a connection from an address, of an internal listener.
    #[cfg(feature = "client-addresses")]
    pub(super) fn connect_internal(&mut self, address: Option<SocketAddr>) -> Peer {
        let wire = Shared::new(Wire::default());
        let stream = Stream::memory(ScriptedStream(wire.clone()));
        let (is_proxied, is_internal) = (false, true);
        self.insert(
            stream,
            wire,
            address,
            Entrance {
                is_proxied,
                is_internal,
            },
        )
    }

    fn insert(
        &mut self,
        stream: Stream,
        wire: Shared<Wire>,
        address: Option<SocketAddr>,
        entrance: Entrance,
    ) -> Peer {
        let id = self
            .engine
            .insert_with(stream, address, entrance)
            .expect("fewer connections than connections_max");
        let peer = Peer { id, wire };
        self.peers.push(peer.clone());
        peer
    }

    /// Adds a connection and completes its opening handshake. The 101 response is removed from the written bytes, and the
    /// count of write calls starts at 0.
    pub(super) fn open(&mut self) -> Peer {
        let peer = self.connect();
        peer.send_bytes(REQUEST.as_bytes());
        self.turn();
        let response = peer.take_written();
        assert!(
            response.starts_with(b"HTTP/1.1 101 "),
            "{}",
            response.escape_ascii()
        );
        peer.wire.lock().write_calls = 0;
        peer
    }

    /// Opens a session that subscribes to `topic`.
    pub(super) fn open_member(&mut self, topic: &str) -> Peer {
        let member = self.open();
        assert!(self.engine.subscribe(member.id, topic));
        member
    }

    /// Runs a turn at the time of the previous turn. The poll is level-triggered: in every turn, it reports each stream with
    /// input or an error as readable, and each stream that accepts bytes as writable.
    pub(super) fn turn(&mut self) {
        self.turn_at(self.now);
    }

    /// Runs a turn at the time `now`, in milliseconds, otherwise like [`turn`](Self::turn).
    pub(super) fn turn_at(&mut self, now: u64) {
        self.now = now;
        let mut streams = Streams(&self.peers);
        turn::begin(&mut self.engine, None, || now, &mut streams).unwrap();
        self.turn_without_events();
    }

    /// Runs a turn at the time `now`, in milliseconds. The turn begins with polls of `environment` instead of the streams.
    pub(super) fn turn_with(&mut self, now: u64, environment: &mut impl Environment) {
        self.now = now;
        turn::begin(&mut self.engine, None, || now, environment).unwrap();
        self.turn_without_events();
    }

    /// Runs a turn at the time of the previous turn, without a poll.
    pub(super) fn turn_without_events(&mut self) {
        self.has_stopped = turn::turn(
            &mut self.engine,
            &mut self.buf,
            &mut self.handler,
            &mut NoEnvironment,
        )
        .unwrap();
    }

    /// Runs `count` turns at the time of the previous turn.
    pub(super) fn turns(&mut self, count: usize) {
        (0..count).for_each(|_| self.turn());
    }

    /// Returns and removes the handler's events.
    pub(super) fn take_events(&mut self) -> Vec<String> {
        std::mem::take(&mut self.handler.events)
    }
}

impl Peer {
    /// Returns what a poll would report for the session's stream.
    pub(super) fn readiness(&self) -> Readiness {
        let wire = self.wire.lock();
        let is_end = |read: &Result<Vec<u8>, _>| matches!(read, Ok(bytes) if bytes.is_empty());
        Readiness {
            is_readable: !wire.reads.is_empty(),
            is_writable: wire.writable_bytes > 0,
            is_end: wire.reads.iter().any(is_end),
            is_error: false,
        }
    }

    /// Sends bytes to the session.
    pub(super) fn send_bytes(&self, bytes: &[u8]) {
        self.wire.lock().reads.push_back(Ok(bytes.to_vec()));
    }

    /// Sends a text message to the session, as one masked frame.
    pub(super) fn send_text(&self, text: &str) {
        self.send_bytes(&client_frame(0x81, text.as_bytes()));
    }

    /// Ends the peer's side of the stream. The session's side stays open.
    pub(super) fn end_stream(&self) {
        self.wire.lock().reads.push_back(Ok(Vec::new()));
    }

    /// Returns the number of bytes that were sent and not read by the session.
    pub(super) fn unread_bytes(&self) -> usize {
        self.wire
            .lock()
            .reads
            .iter()
            .map(|read| read.as_ref().map_or(0, Vec::len))
            .sum()
    }

    /// Makes the read that follows the bytes sent so far fail with `error`.
    pub(super) fn fail_read(&self, error: ErrorKind) {
        self.wire.lock().reads.push_back(Err(error));
    }

    /// Sets the number of bytes that the session's writes accept before they would block.
    pub(super) fn set_writable_bytes(&self, len: usize) {
        self.wire.lock().writable_bytes = len;
    }

    /// Returns and removes the bytes that the session has written since the last call.
    pub(super) fn take_written(&self) -> Vec<u8> {
        std::mem::take(&mut self.wire.lock().written)
    }

    /// Like [`take_written`](Self::take_written), but returns frames: the first byte and the payload of each.
    pub(super) fn take_frames(&self) -> Vec<(u8, Vec<u8>)> {
        server_frames(&self.take_written())
    }

    /// Like [`take_written`](Self::take_written), but returns text messages. Panics if there is any other frame.
    pub(super) fn take_texts(&self) -> Vec<String> {
        let text = |(first, payload): (u8, Vec<u8>)| {
            assert_eq!(first, 0x81);
            String::from_utf8(payload).unwrap()
        };
        self.take_frames().into_iter().map(text).collect()
    }
}

/// Returns a masked frame with the given first byte (FIN, RSV, opcode) and payload.
pub(super) fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..=125 => frame.push(0x80 | len as u8),
        len @ 126..=65535 => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    let key = [0x11, 0x22, 0x33, 0x44];
    frame.extend_from_slice(&key);
    frame.extend(
        payload
            .iter()
            .enumerate()
            .map(|(at, byte)| byte ^ key[at % 4]),
    );
    frame
}

/// Parses whole unmasked frames. Returns the first byte and the payload of each.
pub(super) fn server_frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let (start, len) = match bytes[1] {
            126 => (4, usize::from(u16::from_be_bytes([bytes[2], bytes[3]]))),
            127 => (
                10,
                u64::from_be_bytes(bytes[2..10].try_into().unwrap()) as usize,
            ),
            len => (2, usize::from(len)),
        };
        frames.push((bytes[0], bytes[start..start + len].to_vec()));
        bytes = &bytes[start + len..];
    }
    frames
}

/// A valid opening handshake.
pub(super) const REQUEST: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
