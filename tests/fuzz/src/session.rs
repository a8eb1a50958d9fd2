//! The target for whole sessions: a [`Server`] on loopback with small limits and socket buffers, and peers that perform
//! the actions encoded in the fuzzer's bytes. Server and peers run on one thread, so the order of all actions is known.
//! The handler records the messages it receives and the messages accepted for sending; at the end, the bytes that each
//! peer sent and received are compared with these records.
//!
//! Deadlines are not tested here: all are a day long, so none expires.

use crate::ALLOCATOR;
use crate::input::Cursor;
use crate::wire::{self, BINARY, CLOSE, Frame, PING, PONG, ResponseHead, TEXT};
use socket2::{Domain, SockRef, Socket, Type};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use wsloop::proto::{Connection, Event, Limits, ProtocolError, Role};
use wsloop::{
    Close, Config, Context, Error, Handler, Id, LagPolicy, Limit, Message, SendStatus, Server,
    Side, Turn, Upgrade,
};

/// Runs the scenario that `data` encodes.
pub fn session(data: &[u8]) {
    let mut cursor = Cursor(data);
    let mut scenario = Scenario::new(&mut cursor);
    let mut steps = 0;
    while !cursor.is_empty() && steps < STEPS_MAX {
        scenario.step(&mut cursor);
        steps += 1;
    }
    scenario.end();
}

struct Scenario {
    server: Server<RecordingHandler>,
    address: SocketAddr,
    peers: Vec<Peer>,
    /// Size of the peers' socket buffers; `None`: the system's default.
    buffer_bytes: Option<usize>,
    /// `stop` has been called: no further peer connects.
    is_stopping: bool,
    /// `stop` has been called twice: the server ends connections without waiting for the closing handshake.
    is_cut_short: bool,
    /// Allocated bytes before the first connection.
    heap_at_start: usize,
}

impl Scenario {
    fn new(cursor: &mut Cursor<'_>) -> Self {
        let config = config(cursor);
        let (listener, buffer_bytes) = listener(usize::from(cursor.byte()));
        let handler = RecordingHandler {
            config: config.clone(),
            records: BTreeMap::new(),
            is_over: false,
        };
        let mut server = Server::new(config, handler).expect("the limits make sense");
        let address = server.listen_on(listener).expect("a listening socket");
        let mut scenario = Self {
            server,
            address,
            peers: Vec::new(),
            buffer_bytes,
            is_stopping: false,
            is_cut_short: false,
            heap_at_start: 0,
        };
        scenario.turn();
        scenario.heap_at_start = ALLOCATOR.current_usage();
        scenario
    }

    fn turn(&mut self) {
        let turn = self.server.turn(Some(Duration::ZERO)).expect("a poll");
        assert!(turn == Turn::Running || self.is_stopping);
    }

    fn step(&mut self, cursor: &mut Cursor<'_>) {
        let (what, index) = (cursor.byte(), usize::from(cursor.byte()));
        if what % 16 == 0 || self.peers.is_empty() {
            self.connect();
            return;
        }
        let index = index % self.peers.len();
        let peer = &mut self.peers[index];
        match what % 16 {
            1 => {
                let len = usize::from(cursor.byte());
                peer.send(cursor.bytes(len));
            }
            2 => peer.send(&request(if what & 16 == 0 { "/chat" } else { "/" })),
            3 | 4 => {
                let [first, len] = [cursor.byte(), cursor.byte()];
                let list = cursor.bytes(usize::from(len % 32));
                peer.send(&wire::compose(
                    &[&[first, len], list].concat(),
                    Role::Server,
                ));
            }
            5 | 6 => {
                let first = if what & 16 == 0 { 0x81 } else { 0x82 };
                let (command, len) = (cursor.byte(), usize::from(cursor.byte()));
                let command = COMMANDS[usize::from(command) % COMMANDS.len()];
                let len = 1 + len * if what & 32 == 0 { 1 } else { 100 };
                let mut payload = vec![b'a' + (len % 26) as u8; len];
                payload[0] = command;
                peer.send(&wire::peers_frame(first, &payload, Role::Server));
            }
            7 => peer.read(usize::from(cursor.byte()) * 64),
            8 => peer.read(usize::MAX),
            9 => peer.shut_down_write(),
            10 => peer.disconnect(what & 16 != 0),
            11 => self.server.with_context(|cx| {
                // Outside of a turn, to a topic without members.
                cx.publish("no members", "x");
            }),
            12 => self.act_between_turns(cursor.byte()),
            13 if what & 0xF0 == 0xF0 => self.stop(),
            _ => {
                for _ in 0..=what >> 6 {
                    self.turn();
                }
            }
        }
        for peer in &mut self.peers {
            peer.flush();
        }
    }

    fn connect(&mut self) {
        if self.peers.len() >= PEERS_MAX || self.is_stopping {
            return;
        }
        let peer = Peer::connect(self.address, self.buffer_bytes);
        // The kernel may assign a port again after a peer has closed its socket, but the records identify peers by port.
        if self.peers.iter().all(|other| other.port != peer.port) {
            self.peers.push(peer);
        }
    }

    /// Sends, publishes and closes between two turns.
    fn act_between_turns(&mut self, how: u8) {
        let mut records = std::mem::take(&mut self.server.handler_mut().records);
        self.server.with_context(|cx| {
            let ids = cx.ids();
            match (how % 4, ids.first()) {
                (0, _) => publish(&mut records, cx, Message::text("Bto all")),
                (1, Some(id)) => drop(cx.close(*id, 4001, "from outside")),
                (_, Some(id)) => send(&mut records, cx, *id, Message::binary(b"to one")),
                (_, None) => {}
            }
        });
        self.server.handler_mut().records = records;
    }

    fn stop(&mut self) {
        self.is_cut_short |= self.is_stopping;
        self.is_stopping = true;
        // An error is ignored: the server may have stopped already.
        let _ = self.server.handle().stop();
    }

    /// Lets each remaining peer write its unsent bytes, half-close, and read until the server ends the stream. Then checks
    /// the records and the allocated bytes, and stops the server.
    fn end(mut self) {
        let start = Instant::now();
        let mut turns = 0_u32;
        while !self.peers.iter().all(Peer::is_over) {
            for peer in &mut self.peers {
                peer.flush();
                if peer.unsent.is_empty() {
                    peer.shut_down_write();
                }
                peer.read(usize::MAX);
            }
            self.turn();
            turns += 1;
            if turns > 64 {
                // The kernel may wait for one of its own timers.
                std::thread::sleep(Duration::from_micros(200));
            }
            assert!(
                start.elapsed() < END_TIMEOUT,
                "a connection does not end: {:?}",
                self.peers
            );
        }
        self.reap();
        // Publications of the turn that ended the last session are released in the next turn.
        self.turn();
        self.check_peers();
        self.check_memory();
        self.stop();
        self.stop();
        let is_stopped = (0..4)
            .any(|_| self.server.turn(Some(Duration::ZERO)).expect("a poll") == Turn::Stopped);
        assert!(is_stopped, "two stops are not enough");
        self.server.handler_mut().is_over = true;
        for (id, record) in &self.server.handler().records {
            assert!(record.close.is_some(), "{id} was opened and not closed");
        }
    }

    /// Runs turns until no session is left. Each turn reads or discards as much of the remaining input as its budget
    /// allows.
    fn reap(&mut self) {
        for _ in 0..REAP_TURNS_MAX {
            if self.server.count() > 0 {
                self.turn();
            }
        }
    }

    fn check_peers(&self) {
        let records = &self.server.handler().records;
        for peer in &self.peers {
            let mut records = records.values().filter(|record| record.port == peer.port);
            let record = records.next();
            assert!(records.next().is_none(), "two sessions for one peer");
            peer.check(record, self.server.handler(), self.is_cut_short);
        }
    }

    /// Checks that the server has released all memory of the connections that have ended.
    fn check_memory(&mut self) {
        self.peers = Vec::new();
        // Connections that their peers closed before the server accepted them are accepted now, and read to their end.
        (0..16).for_each(|_| self.turn());
        self.reap();
        for record in self.server.handler_mut().records.values_mut() {
            record.received = Vec::new();
            record.accepted = Vec::new();
        }
        let records = self.server.handler().records.len() * 1024;
        let allowed = self.heap_at_start + records + BASE_BYTES_MAX;
        if ALLOCATOR.current_usage() > allowed {
            // A refused connection may still be open. Then the loop retains unused buffers for one second.
            std::thread::sleep(BUFFER_IDLE_TIME);
            self.turn();
        }
        let held = ALLOCATOR.current_usage();
        assert!(held <= allowed, "{held} B allocated, limit {allowed} B");
    }
}

/// Returns one of three listening sockets, and the size of its buffers. All scenarios share these sockets, so that the
/// system does not run out of ports.
fn listener(which: usize) -> (TcpListener, Option<usize>) {
    static LISTENERS: OnceLock<Vec<(TcpListener, Option<usize>)>> = OnceLock::new();
    let listeners = LISTENERS.get_or_init(|| {
        let bind = |buffer_bytes: Option<usize>| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
            if let Some(len) = buffer_bytes {
                let socket = SockRef::from(&listener);
                // Accepted sockets inherit both options.
                socket.set_send_buffer_size(len).expect("a socket option");
                socket.set_recv_buffer_size(len).expect("a socket option");
            }
            listener.set_nonblocking(true).expect("a socket option");
            (listener, buffer_bytes)
        };
        [None, Some(64 * 1024), Some(16 * 1024)].map(bind).into()
    });
    let (listener, buffer_bytes) = &listeners[which % listeners.len()];
    // Discards connections from the previous scenario that its server did not accept.
    while listener.accept().is_ok() {}
    (listener.try_clone().expect("a descriptor"), *buffer_bytes)
}

/// Returns a configuration with limits that a scenario can exceed.
fn config(cursor: &mut Cursor<'_>) -> Config {
    let mut pick = |choices: &[usize]| choices[usize::from(cursor.byte()) % choices.len()];
    let day = Duration::from_secs(24 * 60 * 60);
    let high_water_bytes = pick(&[1, 100, 5000, 100_000, 1 << 20]);
    Config {
        message_bytes_max: pick(&[1 << 24, 64, 1000, 70_000]),
        fragments_max: pick(&[1 << 17, 1, 4]) as u32,
        head_bytes_max: pick(&[16 * 1024, 256]),
        high_water_bytes,
        low_water_bytes: high_water_bytes / 2,
        backlog_bytes_max: high_water_bytes + pick(&[1 << 20, 0, 1000, 100_000]),
        lag_bytes_max: pick(&[1 << 20, 1, 1000, 20_000]),
        lag_policy: [LagPolicy::Disconnect, LagPolicy::Skip][pick(&[0, 1])],
        connections_max: pick(&[100, 1, 2]),
        handshakes_max: pick(&[100, 1]),
        receive_buffer_bytes: pick(&[80 * 1024, 1024, 4000]),
        read_budget_bytes: pick(&[256 * 1024, 1, 2000]),
        handshake_timeout: day,
        idle_timeout: None,
        close_timeout: day,
        write_timeout: day,
        shutdown_grace: day,
        ..Config::default()
    }
}

/// A client, with all bytes that it has sent and received.
#[derive(Debug)]
struct Peer {
    stream: Option<TcpStream>,
    port: u16,
    /// Bytes that the socket has not accepted yet.
    unsent: Vec<u8>,
    sent: Vec<u8>,
    read: Vec<u8>,
    is_write_shut: bool,
    end: Option<End>,
}

/// How a connection ended, from the peer's view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The end of the stream was read.
    Stream,
    /// A read failed. Bytes that the server had sent may be lost.
    Reset,
    /// The peer closed its socket first.
    Left,
}

impl Peer {
    fn connect(address: SocketAddr, buffer_bytes: Option<usize>) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a descriptor");
        if let Some(len) = buffer_bytes {
            socket.set_recv_buffer_size(len).expect("a socket option");
            socket.set_send_buffer_size(len).expect("a socket option");
        }
        if let Err(error) = socket.connect(&address.into()) {
            // libFuzzer's timer signal interrupts `connect`; the kernel completes the connection nevertheless.
            assert_eq!(
                error.kind(),
                ErrorKind::Interrupted,
                "the backlog is not full"
            );
            while socket.peer_addr().is_err() {
                std::thread::yield_now();
            }
        }
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true).expect("a socket option");
        stream.set_nonblocking(true).expect("a socket option");
        let port = stream.local_addr().expect("it is connected").port();
        Self {
            stream: Some(stream),
            port,
            unsent: Vec::new(),
            sent: Vec::new(),
            read: Vec::new(),
            is_write_shut: false,
            end: None,
        }
    }

    fn is_over(&self) -> bool {
        self.end.is_some()
    }

    fn send(&mut self, bytes: &[u8]) {
        if !self.is_write_shut && !self.is_over() {
            self.unsent.extend(bytes);
        }
    }

    /// Writes until the socket accepts no more.
    fn flush(&mut self) {
        while let Some(stream) = &mut self.stream
            && !self.unsent.is_empty()
            && !self.is_write_shut
        {
            match stream.write(&self.unsent) {
                Ok(len) => self.sent.extend(self.unsent.drain(..len)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    // The end is detected by reading, because replies to earlier input may still arrive.
                    self.unsent.clear();
                    return;
                }
            }
        }
    }

    fn read(&mut self, len_max: usize) {
        let mut left = len_max;
        let mut buf = [0; 4096];
        while let Some(stream) = &mut self.stream
            && left > 0
            && self.end.is_none()
        {
            let len = left.min(buf.len());
            match stream.read(&mut buf[..len]) {
                Ok(0) => self.end = Some(End::Stream),
                Ok(len) => {
                    left -= len;
                    self.read.extend(&buf[..len]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.end = Some(End::Reset),
            }
        }
        if self.is_over() {
            self.stream = None;
        }
    }

    /// Ends the peer's side of the stream, if it has no unsent bytes.
    fn shut_down_write(&mut self) {
        if let Some(stream) = &self.stream
            && self.unsent.is_empty()
            && !self.is_write_shut
        {
            self.is_write_shut = true;
            drop(stream.shutdown(Shutdown::Write));
        }
    }

    fn disconnect(&mut self, with_reset: bool) {
        if let Some(stream) = self.stream.take() {
            if with_reset {
                drop(SockRef::from(&stream).set_linger(Some(Duration::ZERO)));
            }
            self.end = Some(End::Left);
        }
    }

    /// Compares the bytes that this peer has sent and received with the handler's record of its session.
    fn check(&self, record: Option<&Record>, handler: &RecordingHandler, is_cut_short: bool) {
        let is_whole = self.end == Some(End::Stream) && !is_cut_short;
        let Some(record) = record else {
            self.check_refused(is_whole);
            return;
        };
        let is_whole = is_whole && !record.is_aborted;
        let decoded = decode(&self.sent, &handler.config);
        assert!(
            decoded.messages.starts_with(&record.received),
            "the handler received a message that was not sent"
        );
        // The handler receives messages until the peer's Close, also after the server has sent a Close.
        assert!(
            !is_whole || decoded.messages.len() == record.received.len(),
            "the handler did not receive all messages"
        );
        let Some(head) = ResponseHead::parse(&self.read) else {
            assert!(!is_whole, "the 101 is incomplete");
            return;
        };
        wire::check_101(&self.read[..head.len]);
        let (frames, cut) = wire::split_frames(&self.read[head.len..], Role::Server);
        assert!(cut.is_empty() || !is_whole, "a frame is incomplete");
        let close_at = frames.iter().position(|frame| frame.opcode == CLOSE);
        assert!(
            close_at.is_none_or(|at| at + 1 == frames.len())
                && (close_at.is_none() || cut.is_empty()),
            "bytes follow the Close"
        );
        let (pongs, rest): (Vec<_>, Vec<_>) = frames
            .iter()
            .filter(|frame| frame.opcode != CLOSE)
            .partition(|frame| frame.opcode == PONG);
        // Detected by the code of the frame: if the peer violates the protocol after this Close, `on_close` reports the
        // violation instead of 1013.
        let is_lagging = close_at.is_some_and(|at| frames[at].payload.starts_with(&LAGGING));
        check_accepted(&rest, record, is_whole && !is_lagging);
        check_pongs(&pongs, &decoded, record, is_whole);
        if is_whole {
            let close = record.close.as_ref();
            check_close(close_at.map(|at| &frames[at]), close, &decoded);
        }
    }

    /// Checks a peer without a session: it received nothing, or exactly one refusal.
    fn check_refused(&self, is_whole: bool) {
        if self.read.is_empty() || !is_whole {
            return;
        }
        let sent = self.sent.strip_prefix(b"\r\n").unwrap_or(&self.sent);
        let status = wire::check_refusal(&self.read, sent.starts_with(b"HEAD "));
        assert!([400, 405, 426, 431, 503, 505].contains(&status), "{status}");
    }
}

/// Checks that the peer received the accepted messages in order, up to the end of the connection. Only published messages
/// may be missing, as many as `on_skip` has reported.
fn check_accepted(frames: &[&Frame], record: &Record, is_whole: bool) {
    let mut accepted = record.accepted.iter();
    let mut skipped = 0;
    for frame in frames {
        loop {
            let next = accepted
                .next()
                .expect("more messages arrived than were accepted");
            if next.frame == **frame {
                break;
            }
            assert!(next.is_published, "{frame:?} is not {:?}", next.frame);
            skipped += 1;
        }
    }
    let rest = accepted.as_slice();
    if is_whole {
        // Messages after the last one received can only have been skipped as well.
        assert!(rest.iter().all(|accepted| accepted.is_published), "lost");
        assert_eq!(skipped + rest.len() as u64, record.skipped, "lost");
    } else {
        assert!(
            skipped <= record.skipped,
            "a gap that on_skip did not report"
        );
    }
}

/// Checks that pongs answer pings in order. Pings may remain unanswered: while the peer does not read, the server answers
/// only the newest one.
fn check_pongs(pongs: &[&Frame], decoded: &Decoded, record: &Record, is_whole: bool) {
    let mut pings = decoded.pings.iter();
    for pong in pongs {
        assert!(
            pings.any(|ping| *ping == pong.payload),
            "a pong without its ping"
        );
    }
    let is_peers_close = matches!(record.close, Some((_, true, Side::Peer)));
    if is_whole && is_peers_close && !record.has_closed {
        assert_eq!(
            pongs.last().map(|pong| &pong.payload),
            decoded.pings.last(),
            "the newest ping has no pong"
        );
    }
}

/// Checks that the Close that arrived agrees with the record of `on_close`.
fn check_close(frame: Option<&Frame>, close: Option<&(u16, bool, Side)>, decoded: &Decoded) {
    let sent = frame.map(|frame| match *frame.payload {
        [high, low, ..] => u16::from_be_bytes([high, low]),
        _ => 1005,
    });
    // `on_close` has not been called yet: the session still discards the peer's input.
    let Some((code, is_clean, by)) = close else {
        return;
    };
    match (is_clean, by) {
        (true, _) => assert_eq!(sent, Some(*code)),
        (false, Side::Us) => {
            let broken = decoded.error.as_ref().and_then(ProtocolError::close_code);
            assert!(sent.is_some(), "ended by us without a Close");
            assert!(sent == Some(*code) || broken == Some(*code));
        }
        (false, Side::Peer) => assert_eq!((sent, *code), (None, 1006)),
    }
}

/// The messages and pings in a peer's bytes, decoded in one piece.
#[derive(Debug, Default)]
struct Decoded {
    messages: Vec<Frame>,
    pings: Vec<Vec<u8>>,
    error: Option<ProtocolError>,
}

fn decode(sent: &[u8], config: &Config) -> Decoded {
    let limits = Limits {
        message_bytes_max: config.message_bytes_max,
        fragments_max: config.fragments_max,
        head: Default::default(),
    };
    let mut decoded = Decoded::default();
    let mut connection = Connection::server();
    let mut bytes = sent.to_vec();
    let (mut input, mut out) = (&mut bytes[..], Vec::new());
    loop {
        match connection.receive(&mut input, &limits, &mut out) {
            Ok(Some(Event::Request(request))) => {
                connection
                    .accept(&request, &Upgrade::new(&request), &mut out)
                    .expect("the server has accepted this request");
            }
            Ok(Some(Event::Message(message))) => {
                decoded.messages.push(message_frame(message.as_message()));
            }
            Ok(Some(Event::Ping(payload))) => decoded.pings.push(payload.into_owned()),
            Ok(Some(Event::Pong(_) | Event::Close(_))) => {}
            Ok(None) => return decoded,
            Err(error) => {
                decoded.error = Some(error);
                return decoded;
            }
        }
    }
}

/// A handler that obeys commands in messages, and records received messages, messages accepted for sending, and closes.
struct RecordingHandler {
    config: Config,
    records: BTreeMap<Id, Record>,
    is_over: bool,
}

#[derive(Debug)]
struct Record {
    port: u16,
    received: Vec<Frame>,
    accepted: Vec<Accepted>,
    is_member: bool,
    skipped: u64,
    /// The session was terminated, its socket failed, or its unsent bytes exceeded `backlog_bytes_max`. Accepted messages
    /// may be lost.
    is_aborted: bool,
    /// The handler has called `close`.
    has_closed: bool,
    close: Option<(u16, bool, Side)>,
}

/// A frame that was accepted for sending.
#[derive(Debug)]
struct Accepted {
    frame: Frame,
    is_published: bool,
}

impl Accepted {
    fn new(message: Message<'_>, is_published: bool) -> Self {
        Self {
            frame: message_frame(message),
            is_published,
        }
    }
}

fn message_frame(message: Message<'_>) -> Frame {
    let opcode = if message.is_text() { TEXT } else { BINARY };
    Frame::new(opcode, message.as_bytes())
}

impl Handler for RecordingHandler {
    fn on_open(&mut self, cx: &mut Context<'_>, id: Id) {
        assert!(cx.is_open(id));
        let port = cx.peer_addr(id).expect("a socket has a peer").port();
        let is_member = cx.path(id).as_deref() == Some("/chat");
        if is_member {
            assert!(cx.subscribe(id, TOPIC));
        }
        let record = Record {
            port,
            received: Vec::new(),
            accepted: Vec::new(),
            is_member,
            skipped: 0,
            is_aborted: false,
            has_closed: false,
            close: None,
        };
        assert!(self.records.insert(id, record).is_none(), "opened twice");
    }

    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
        let record = self.record(id);
        record.received.push(Accepted::new(message, false).frame);
        let records = &mut self.records;
        match message.as_bytes().first() {
            Some(b'C') => {
                let is_open = cx.is_open(id);
                assert_eq!(cx.close(id, 4000, "as you send"), is_open);
                assert!(!cx.close(id, 4000, "twice"));
                self.record(id).has_closed = true;
            }
            Some(b'T') => {
                cx.terminate(id);
                self.record(id).is_aborted = true;
            }
            Some(b'P') => {
                if cx.ping(id, b"ping") {
                    self.record(id).accepted.push(Accepted {
                        frame: Frame::new(PING, b"ping"),
                        is_published: false,
                    });
                }
            }
            Some(b'B') => publish(records, cx, message),
            Some(b'K') => (0..20).for_each(|_| publish(records, cx, message)),
            Some(b'M') => {
                publish(records, cx, message);
                send(records, cx, id, Message::text("between"));
                publish(records, cx, Message::text("Mafter"));
            }
            Some(b'L') => {
                let large = vec![b'L'; message.len() * 100];
                send(records, cx, id, Message::binary(&large));
            }
            Some(b'D') => (0..3).for_each(|_| send(records, cx, id, message)),
            Some(b'S') => {
                let is_new = cx.subscribe(id, TOPIC);
                self.record(id).is_member |= is_new;
            }
            Some(b'U') => {
                let was_member = cx.unsubscribe(id, TOPIC);
                let record = self.record(id);
                assert!(record.is_member || !was_member);
                record.is_member = false;
            }
            Some(b'O') => {
                let other = cx.ids().into_iter().find(|other| *other != id);
                if let Some(other) = other {
                    send(records, cx, other, Message::text("from another"));
                }
            }
            Some(b'Q') => {}
            Some(_) | None => send(records, cx, id, message),
        }
        self.check_bounds(cx, id, message.len());
    }

    fn on_skip(&mut self, _: &mut Context<'_>, id: Id, topic: &str, messages: u64) {
        assert_eq!((topic, self.config.lag_policy), (TOPIC, LagPolicy::Skip));
        self.record(id).skipped += messages;
    }

    fn on_close(&mut self, cx: &mut Context<'_>, id: Id, close: &Close<'_>) {
        assert!(!cx.is_open(id));
        let record = self.record(id);
        record.close = Some((close.code, close.is_clean, close.by));
    }

    fn on_error(&mut self, _: &mut Context<'_>, id: Option<Id>, error: &Error) {
        let id = id.expect("the listener does not fail");
        let Some(record) = self.records.get_mut(&id) else {
            return;
        };
        assert!(record.close.is_none(), "an error after the end");
        match error {
            Error::Protocol(_) | Error::Limit(Limit::LagBytesMax) => {}
            Error::Limit(Limit::BacklogBytesMax) | Error::Io(_) => record.is_aborted = true,
            _ => panic!("{error}"),
        }
    }
}

impl RecordingHandler {
    fn record(&mut self, id: Id) -> &mut Record {
        assert!(!self.is_over);
        let record = self.records.get_mut(&id).expect("on_open comes first");
        assert!(record.close.is_none(), "on_close comes last, and once");
        record
    }

    /// Checks that the unsent bytes of a session do not exceed the limits. Published bytes have a different limit, so
    /// sessions with publications are not checked.
    fn check_bounds(&self, cx: &Context<'_>, id: Id, len: usize) {
        let record = &self.records[&id];
        if record.is_member || record.accepted.iter().any(|accepted| accepted.is_published) {
            return;
        }
        let Config {
            high_water_bytes,
            backlog_bytes_max,
            receive_buffer_bytes,
            ..
        } = self.config;
        // One message above the high-water mark with its header, and the pongs for one receive buffer of pings.
        let bound =
            backlog_bytes_max.max(high_water_bytes + len * 100) + receive_buffer_bytes + 1024;
        let unsent = cx.buffered_amount(id);
        assert!(unsent <= bound, "{unsent} B unsent, limit {bound} B");
    }
}

fn send(records: &mut BTreeMap<Id, Record>, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
    let was_open = cx.is_open(id);
    let status = cx.send(id, message);
    let record = records.get_mut(&id).expect("on_open comes first");
    match status {
        SendStatus::Queued | SendStatus::OverHighWater => {
            record.accepted.push(Accepted::new(message, false));
        }
        SendStatus::OverLimit => record.is_aborted = true,
        // The socket of an open session failed while a large message was written.
        _ => record.is_aborted |= was_open,
    }
}

fn publish(records: &mut BTreeMap<Id, Record>, cx: &mut Context<'_>, message: Message<'_>) {
    let mut members = 0;
    for (id, record) in records {
        if record.is_member && cx.is_open(*id) {
            record.accepted.push(Accepted::new(message, true));
            members += 1;
        }
    }
    assert_eq!(cx.publish(TOPIC, message), members);
}

/// The close code 1013, for a member with more unsent publications than `lag_bytes_max`, as it begins a Close's payload.
const LAGGING: [u8; 2] = 1013_u16.to_be_bytes();

const TOPIC: &str = "chat";

/// First bytes of the peers' messages. The handler echoes messages that begin with `e`. It executes the others as
/// commands: `C` close, `T` terminate, `P` ping, `B` publish the message, `K` publish it 20 times, `M` publish, send and
/// publish, `L` send 100 times its length, `D` echo three times, `S` subscribe, `U` unsubscribe, `O` send to another
/// session, `Q` no reply. Published messages begin with other bytes than messages sent to one session, so that the
/// checks can distinguish them.
const COMMANDS: &[u8] = b"eeCTPBKMLDSUOQ";

/// Returns an opening handshake. Sessions with the path /chat subscribe to the topic in `on_open`.
fn request(path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    .into_bytes()
}

const PEERS_MAX: usize = 4;
const STEPS_MAX: usize = 400;

/// Maximum time until all connections have ended. Loopback needs far less, also on a busy machine.
const END_TIMEOUT: Duration = Duration::from_secs(20);

/// Enough turns to discard full socket buffers at 1 KiB per turn.
const REAP_TURNS_MAX: usize = 1000;

/// Longer than the time for which the loop retains unused buffers, one second.
const BUFFER_IDLE_TIME: Duration = Duration::from_millis(1100);

/// Allowed for the loop's empty queues and its slots.
const BASE_BYTES_MAX: usize = 16 * 1024;
