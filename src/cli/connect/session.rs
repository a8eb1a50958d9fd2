//! The poll loop of an open connection: prints received messages, sends the messages of stdin or `-x`, and performs the
//! closing handshake.
//!
//! Each turn reads, takes input, handles what is due, writes, prints, and then waits for events.

use super::dial::Dialled;
#[cfg(feature = "line-editing")]
use super::edit::Terminal;
use super::input::{Available, Input};
use super::messages::{InputError, MessageSplitter, SplitMode};
use super::outbox::Outbox;
use super::ping::{Due, Pings};
use super::printer::Printer;
use super::screen::{Screen, Style, escaped};
use super::{SERVER, SIGNALS, describe};
use crate::cli::args::{Connect, Stay};
use crate::cli::client::{MaskingKeys, Stream};
use mio::{Events, Poll, Waker};
#[cfg(feature = "line-editing")]
use signal_hook::consts;
use signal_hook_mio::v1_0::Signals;
use std::io::{self, ErrorKind, IsTerminal, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};
use wsloop::Message;
use wsloop::proto::{
    CODE_NONE, CloseFrame, Connection, Event, HeadLimits, Limits, ProtocolError, Stage,
};

/// The state of the client after the opening handshake.
pub(super) struct Session<'c> {
    connect: &'c Connect,
    limits: Limits,
    stream: Stream,
    /// Whether the socket may have input. Events are edge-triggered, so this stays set until a read would block.
    is_readable: bool,
    /// Whether the socket may accept bytes: the last write was not short, or the socket has become writable since then.
    is_writable: bool,
    connection: Connection,
    outbox: Outbox,
    source: Source,
    phase: Phase,
    /// The result of [`run`](Self::run): the first failure, if there is one.
    result: Result<(), String>,
    pings: Option<Pings>,
    /// Number of messages sent.
    sent: usize,
    /// Number of messages received since the first message was sent. A greeting before it is no answer.
    received: usize,
    screen: Screen,
    printer: Printer,
    /// Whether the printer was full at the last [`tick`](Self::tick). While it is full, nothing is read from the server.
    was_full: bool,
    buf: Vec<u8>,
}

/// Where messages come from. The messages of `-x` are queued before the first turn and have no source.
enum Source {
    Stdin {
        input: Input,
        messages: MessageSplitter,
    },
    #[cfg(feature = "line-editing")]
    Terminal(Box<Terminal>),
    Ended,
}

/// Phase of a session, in their order. A phase may be skipped.
enum Phase {
    /// Messages are sent.
    Sending,
    /// All messages are queued. Our Close is not.
    Staying {
        /// When our Close is sent. `None`: when a signal arrives.
        until: Option<Instant>,
        /// Whether our Close is sent earlier if as many messages have been received as were sent. Then received messages
        /// and written bytes postpone `until`, because answers may still arrive.
        is_counting: bool,
    },
    /// Our Close is queued. The server's Close must arrive before `idle_deadline` and before `until`. Each received
    /// message postpones `idle_deadline`. Both deadlines are postponed while the printer is full, and when queued bytes
    /// are written.
    Closing {
        idle_deadline: Instant,
        until: Instant,
    },
    /// The session no longer reads. Unsent frames, including our Close, are written until this time.
    Flushing { until: Instant },
    /// The connection has ended. Queued output is printed.
    Printing,
}

impl<'c> Session<'c> {
    /// Starts the threads for input and output, and queues the messages of `-x`.
    ///
    /// # Errors
    /// The system does not start a thread.
    pub(super) fn new(
        connect: &'c Connect,
        dialled: Dialled,
        waker: &Arc<Waker>,
    ) -> io::Result<Self> {
        let now = Instant::now();
        let mut keys = MaskingKeys::default();
        let reads_stdin = connect.execute.is_empty();
        let mut session = Self {
            connect,
            limits: Limits {
                message_bytes_max: connect.message_bytes_max,
                fragments_max: u32::MAX,
                head: HeadLimits::default(),
            },
            stream: dialled.stream,
            is_readable: true,
            is_writable: true,
            connection: Connection::client_open(move || keys.next()),
            outbox: Outbox::default(),
            source: Source::Ended,
            phase: Phase::Sending,
            result: Ok(()),
            pings: connect.ping.map(|interval| Pings::new(interval, now)),
            sent: 0,
            received: 0,
            screen: Screen::new(Style::detect(reads_stdin, connect.is_binary)),
            printer: Printer::new(waker)?,
            was_full: false,
            buf: vec![0; READ_BUF_BYTES],
        };
        let subprotocol = dialled.response.subprotocol();
        let is_offer_ignored = subprotocol.is_none() && !connect.subprotocols.is_empty();
        let subprotocol = subprotocol.map_or(String::new(), |name| format!(", subprotocol {name}"));
        session.screen.note(&format!(
            "connected to {}{subprotocol} (Ctrl-C to close)",
            connect.endpoint.text
        ));
        if is_offer_ignored {
            session.screen.info("the server chose no subprotocol");
        }
        // Before messages are queued, so that a message of the server in `rest` does not count as an answer.
        let mut rest = dialled.rest;
        session.receive(&mut rest);
        if !matches!(session.phase, Phase::Sending) {
            // The server's Close was in `rest`, or a violation of the protocol.
            if !reads_stdin {
                session.fail("the server closed before a message was sent".to_owned());
            }
        } else if reads_stdin {
            session.source = Source::stdin(connect, waker)?;
        } else {
            for text in &connect.execute {
                if text.len() > connect.message_bytes_max {
                    session.fail(format!(
                        "a message of --execute has {} bytes, more than the {} of --message-bytes-max",
                        text.len(),
                        connect.message_bytes_max
                    ));
                    session.close();
                    break;
                }
                session.send(text.as_bytes());
            }
        }
        Ok(session)
    }

    /// Runs until the connection has ended and all output is printed.
    ///
    /// # Errors
    /// Returns the first failure, in one line: the connection did not end with a Close from both sides, the server's
    /// code is neither 1000 nor absent, or input or output failed.
    pub(super) fn run(mut self, poll: &mut Poll, signals: &mut Signals) -> Result<(), String> {
        #[cfg(feature = "line-editing")]
        if let Source::Terminal(_) = self.source {
            for signal in TERMINAL_SIGNALS {
                signals.add_signal(signal).map_err(describe)?;
            }
        }
        let mut events = Events::with_capacity(8);
        loop {
            let is_budget_spent = self.read();
            self.read_input();
            self.tick(Instant::now());
            self.write();
            self.print();
            if let Phase::Printing = self.phase
                && self.printer.is_empty()
            {
                // Printing the last output may have failed.
                self.check_printer();
                return self.result;
            }
            let wait = if is_budget_spent {
                Some(Duration::ZERO)
            } else {
                self.wait(Instant::now())
            };
            match poll.poll(&mut events, wait) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result.map_err(describe)?,
            }
            let mut interrupts = 0;
            for event in &events {
                match event.token() {
                    SIGNALS => {
                        for signal in signals.pending() {
                            interrupts += u32::from(!self.is_of_terminal(signal));
                        }
                    }
                    SERVER => {
                        let has_ended = event.is_read_closed() || event.is_error();
                        self.is_readable |= event.is_readable() || has_ended;
                        self.is_writable |= event.is_writable() || event.is_error();
                    }
                    // The waker. Each turn checks the states of the threads in any case.
                    _ => {}
                }
            }
            for _ in 0..interrupts {
                if !self.interrupt() {
                    return self.result;
                }
            }
        }
    }

    /// Handles a signal of [`TERMINAL_SIGNALS`]. Returns false for any other.
    #[cfg(feature = "line-editing")]
    fn is_of_terminal(&mut self, signal: i32) -> bool {
        match signal {
            consts::SIGTSTP => {
                self.screen.erase_prompt();
                self.print_now();
                if let Source::Terminal(terminal) = &self.source {
                    terminal.suspend();
                }
                // Returns when the process continues.
                let _ = signal_hook::low_level::emulate_default_handler(signal);
                self.resume();
            }
            consts::SIGCONT => self.resume(),
            consts::SIGWINCH => {
                if let Source::Terminal(terminal) = &mut self.source {
                    terminal.resized();
                }
            }
            _ => return false,
        }
        true
    }

    #[cfg(not(feature = "line-editing"))]
    fn is_of_terminal(&mut self, _: i32) -> bool {
        false
    }

    /// Called when the process continues after a stop.
    #[cfg(feature = "line-editing")]
    fn resume(&mut self) {
        if let Source::Terminal(terminal) = &mut self.source {
            terminal.resume();
        }
    }

    /// Passes output to the printer, and waits for a moment until it is written.
    #[cfg(feature = "line-editing")]
    fn print_now(&mut self) {
        let Screen { out, err, .. } = &mut self.screen;
        self.printer.print(out, err);
        let deadline = Instant::now() + PRINT_TIMEOUT;
        while !self.printer.is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Called when a signal arrives. Starts the closing handshake and returns true. If the handshake has started
    /// already, returns false: the session must end immediately.
    fn interrupt(&mut self) -> bool {
        match self.phase {
            Phase::Sending | Phase::Staying { .. } => {
                self.close();
                true
            }
            Phase::Closing { .. } => {
                self.fail("interrupted before the server answered our Close".to_owned());
                false
            }
            Phase::Flushing { .. } => {
                self.fail("interrupted before our Close was sent".to_owned());
                false
            }
            Phase::Printing => {
                self.fail("interrupted before all output was printed".to_owned());
                false
            }
        }
    }

    /// Reads until the socket would block, the printer is full, or the read budget is spent. Returns whether the caller
    /// must read again without waiting for an event.
    fn read(&mut self) -> bool {
        let mut buf = std::mem::take(&mut self.buf);
        let mut reads = 0;
        while self.is_readable && self.is_reading() && reads < READS_PER_TURN_MAX {
            reads += 1;
            match self.stream.read(&mut buf) {
                Ok(0) => {
                    self.is_readable = false;
                    self.on_stream_end(None);
                }
                Ok(len) => self.receive(&mut buf[..len]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.is_readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.is_readable = false;
                    self.on_stream_end(Some(&error));
                }
            }
            self.print();
        }
        self.buf = buf;
        self.is_readable && self.is_reading()
    }

    /// Returns whether received bytes can be processed now.
    fn is_reading(&self) -> bool {
        match self.phase {
            Phase::Sending | Phase::Staying { .. } | Phase::Closing { .. } => {
                !self.printer.is_full()
            }
            Phase::Flushing { .. } | Phase::Printing => false,
        }
    }

    /// Processes received bytes up to a Close or a violation of the protocol.
    fn receive(&mut self, mut input: &mut [u8]) {
        let mut reply = Vec::new();
        loop {
            reply.clear();
            let event = self
                .connection
                .receive(&mut input, &self.limits, &mut reply);
            match event {
                Ok(None) => return,
                Ok(Some(Event::Message(message))) => {
                    let message = message.as_message();
                    match message.as_text() {
                        Some(text) => self.screen.text(text),
                        None => self.screen.binary(message.as_bytes()),
                    }
                    self.count_message();
                }
                Ok(Some(Event::Ping(_))) => {
                    if !reply.is_empty() {
                        self.outbox.queue_pong(&reply);
                    }
                }
                Ok(Some(Event::Pong(payload))) => {
                    let pings = self.pings.as_mut();
                    if let Some(time) = pings.and_then(|pings| pings.pong(&payload, Instant::now()))
                    {
                        self.screen.round_trip(time);
                    }
                }
                Ok(Some(Event::Close(frame))) => {
                    self.outbox.append_pong();
                    self.outbox.frames().extend_from_slice(&reply);
                    return self.on_close(&frame);
                }
                Err(error) => {
                    self.outbox.append_pong();
                    self.outbox.frames().extend_from_slice(&reply);
                    return self.on_protocol_error(&error);
                }
                Ok(Some(Event::Request(_))) => unreachable!("a client gets no requests"),
            }
        }
    }

    /// Called for each received message.
    fn count_message(&mut self) {
        if self.sent > 0 {
            self.received += 1;
        }
        if let Phase::Closing { idle_deadline, .. } = &mut self.phase {
            *idle_deadline = Instant::now() + self.connect.close_timeout;
        }
        self.postpone_close();
    }

    /// Called when something happened after which answers may still arrive.
    fn postpone_close(&mut self) {
        if let Phase::Staying {
            until,
            is_counting: true,
        } = &mut self.phase
        {
            *until = Some(Instant::now() + ANSWERS_TIMEOUT);
        }
    }

    /// Called when the server's Close arrives. Our Close is queued.
    fn on_close(&mut self, frame: &CloseFrame) {
        let CloseFrame { code, reason } = frame;
        let reason = if reason.is_empty() {
            String::new()
        } else {
            format!(": {}", escaped(reason).replace('\n', "\\n"))
        };
        match *code {
            CLOSE_NORMAL | CODE_NONE => {
                self.screen
                    .note(&format!("disconnected (code {code}{reason})"));
            }
            _ => self.fail(format!("the server closed with code {code}{reason}")),
        }
        self.start_flushing();
    }

    /// Called when the server violates RFC 6455 or a limit. Our Close is queued.
    fn on_protocol_error(&mut self, error: &ProtocolError) {
        let reason = match error {
            ProtocolError::MessageTooBig => format!(
                "the server sent a message of more than the {} bytes of --message-bytes-max",
                self.limits.message_bytes_max
            ),
            error => format!("the server broke the protocol: {error}"),
        };
        self.fail(reason);
        self.start_flushing();
    }

    /// Called when the stream ends without a Close.
    fn on_stream_end(&mut self, error: Option<&io::Error>) {
        let reason = match (error, self.connection.stage()) {
            (Some(error), _) => format!("the connection was lost: {error}"),
            (None, Stage::Closing) => {
                "the server ended the stream without answering our Close".to_owned()
            }
            (None, _) => "the server ended the stream without a Close".to_owned(),
        };
        self.fail(reason);
        self.finish();
    }

    /// Records a failure. Only the first one is reported: later ones usually follow from it.
    fn fail(&mut self, reason: String) {
        if self.result.is_ok() {
            self.result = Err(reason);
        }
    }

    /// Queues messages from stdin until there is no more input or [`OUTBOX_BYTES_MAX`] are unsent.
    fn read_input(&mut self) {
        while let Phase::Sending = self.phase {
            if self.outbox.len() >= OUTBOX_BYTES_MAX {
                return;
            }
            let taken = match &self.source {
                Source::Stdin { input, .. } => input.take(),
                #[cfg(feature = "line-editing")]
                Source::Terminal(terminal) => terminal.input.take(),
                Source::Ended => return self.end_of_messages(),
            };
            let frames = self.outbox.frames();
            let connection = &mut self.connection;
            let is_binary = self.connect.is_binary;
            let sent = &mut self.sent;
            let mut send = |bytes: &[u8]| {
                *sent += 1;
                connection.send(message(bytes, is_binary), frames);
            };
            let result = match taken {
                Available::Nothing => return,
                Available::Chunk(chunk) => match &mut self.source {
                    Source::Stdin { messages, .. } => {
                        let result = messages.push(&chunk, &mut send);
                        self.screen.line_entered();
                        result
                    }
                    #[cfg(feature = "line-editing")]
                    Source::Terminal(terminal) => {
                        let mut send = |line: &str| send(line.as_bytes());
                        if terminal.push(&chunk, &mut self.screen, &mut send) {
                            self.source = Source::Ended;
                        }
                        Ok(())
                    }
                    Source::Ended => Ok(()),
                },
                Available::End => match std::mem::replace(&mut self.source, Source::Ended) {
                    Source::Stdin { mut messages, .. } => messages.finish(&mut send),
                    #[cfg(feature = "line-editing")]
                    Source::Terminal(_) => Ok(()),
                    Source::Ended => Ok(()),
                },
                Available::Failed(error) => {
                    self.fail(format!("cannot read stdin: {error}"));
                    return self.close();
                }
            };
            if let Err(bad) = result {
                return self.reject_input(&bad);
            }
        }
    }

    /// Reports input that cannot be sent, and starts the closing handshake.
    fn reject_input(&mut self, bad: &InputError) {
        self.fail(bad.to_string());
        self.close();
    }

    fn send(&mut self, bytes: &[u8]) {
        self.sent += 1;
        let message = message(bytes, self.connect.is_binary);
        self.connection.send(message, self.outbox.frames());
    }

    /// Called when all messages are queued.
    fn end_of_messages(&mut self) {
        let now = Instant::now();
        let (until, is_counting) = match self.connect.stay {
            Stay::Answered => {
                if self.received < self.sent {
                    self.screen.note("waiting for answers (Ctrl-C to close)");
                }
                (Some(now + ANSWERS_TIMEOUT), true)
            }
            Stay::For(time) => (Some(now + time), false),
            Stay::Forever => (None, false),
        };
        self.phase = Phase::Staying { until, is_counting };
    }

    /// Reports that the time to wait for answers has passed.
    fn report_unanswered(&mut self) {
        let seconds = ANSWERS_TIMEOUT.as_secs();
        let line = match self.received {
            0 => format!("no message arrived in {seconds} s"),
            received => format!(
                "no more messages arrived in {seconds} s: {received} after {} were sent",
                self.sent
            ),
        };
        self.screen
            .info(&format!("{line} (--wait TIME waits longer)"));
    }

    /// Stops reading stdin. A line that is being typed stays visible.
    fn end_input(&mut self) {
        let source = std::mem::replace(&mut self.source, Source::Ended);
        #[cfg(feature = "line-editing")]
        if let Source::Terminal(terminal) = source {
            terminal.end(&mut self.screen);
        }
        #[cfg(not(feature = "line-editing"))]
        drop(source);
    }

    /// Starts the closing handshake.
    fn close(&mut self) {
        self.end_input();
        self.outbox.append_pong();
        self.connection
            .close(CLOSE_NORMAL, "", self.outbox.frames());
        self.phase = self.closing_phase(Instant::now());
    }

    /// Returns [`Phase::Closing`] with both timeouts starting at `now`.
    fn closing_phase(&self, now: Instant) -> Phase {
        Phase::Closing {
            idle_deadline: now + self.connect.close_timeout,
            until: now + self.connect.close_timeout.max(CLOSING_TIME_MAX),
        }
    }

    /// Stops reading and starts to write the rest of the outbox.
    fn start_flushing(&mut self) {
        self.end_input();
        self.phase = Phase::Flushing {
            until: Instant::now() + self.connect.close_timeout,
        };
    }

    /// Ends the connection. Drops unsent frames.
    fn finish(&mut self) {
        self.end_input();
        self.outbox.clear();
        self.stream.end();
        self.screen.erase_prompt();
        self.phase = Phase::Printing;
    }

    /// Handles timeouts, and failures of the printer.
    fn tick(&mut self, now: Instant) {
        self.check_printer();
        let is_full = self.printer.is_full();
        let was_full = std::mem::replace(&mut self.was_full, is_full);
        match self.phase {
            Phase::Sending | Phase::Printing => {}
            Phase::Staying { until, is_counting } => {
                if is_counting && self.received >= self.sent {
                    self.close();
                } else if is_counting && (is_full || was_full) {
                    // Answers may have arrived already. They are not read while the printer is full.
                    self.postpone_close();
                } else if until.is_some_and(|until| now >= until) {
                    if is_counting {
                        self.report_unanswered();
                    }
                    self.close();
                }
            }
            Phase::Closing {
                idle_deadline,
                until,
            } => {
                if is_full || was_full {
                    // The server's Close may have arrived already. It is not read while the printer is full, so the
                    // timeouts start again.
                    self.phase = self.closing_phase(now);
                } else if now >= idle_deadline.min(until) {
                    let seconds = self.connect.close_timeout.as_secs_f64();
                    self.fail(if now >= idle_deadline {
                        format!("the server did not answer our Close in {seconds} s")
                    } else {
                        "the server continues to send and does not answer our Close".to_owned()
                    });
                    self.finish();
                }
            }
            Phase::Flushing { until } => {
                let is_late = now >= until;
                if is_late && !self.outbox.is_empty() {
                    self.fail("the server closed without reading all queued messages".to_owned());
                }
                if is_late || self.outbox.is_empty() {
                    self.finish();
                }
            }
        }
        self.tick_pings(now);
    }

    fn tick_pings(&mut self, now: Instant) {
        let Some(pings) = &mut self.pings else { return };
        if self.connection.stage() != Stage::Open {
            return;
        }
        match pings.tick(now) {
            None => {}
            Some(Due::Send(payload)) => {
                self.connection
                    .ping(payload.as_bytes(), self.outbox.frames());
            }
            Some(Due::Unanswered(time)) => self.screen.no_pong(time),
        }
    }

    /// Closes the connection if stdout has failed.
    fn check_printer(&mut self) {
        let Some(error) = self.printer.failure() else {
            return;
        };
        // The reader of the pipe has exited, as `head` does when it needs no more input. That is no failure.
        if error.kind() != ErrorKind::BrokenPipe {
            self.fail(format!("cannot write to stdout: {error}"));
        }
        match self.phase {
            Phase::Sending | Phase::Staying { .. } => self.close(),
            Phase::Closing { .. } | Phase::Flushing { .. } | Phase::Printing => {}
        }
    }

    /// Writes the outbox until it is empty or the socket would block.
    fn write(&mut self) {
        // The outbox may be empty and TLS still have bytes to send, such as the refusal of a renegotiation in TLS 1.2.
        if !self.is_writable {
            return;
        }
        match self.outbox.write(&mut self.stream) {
            Ok(written) => {
                self.is_writable = self.outbox.is_empty();
                let is_closing = matches!(self.phase, Phase::Closing { .. });
                if written > 0 && is_closing {
                    self.phase = self.closing_phase(Instant::now());
                }
                if written > 0 {
                    self.postpone_close();
                }
            }
            // The server accepts no more bytes. Its Close, which has the reason, may have arrived before the error. So the
            // session still reads until a Close or the end of the stream.
            Err(_) => {
                // A server that has sent its Close may end the connection without waiting for ours, so unsent bytes
                // that can all belong to a Close are no failure.
                if matches!(self.phase, Phase::Flushing { .. })
                    && self.outbox.len() > CLOSE_BYTES_MAX
                {
                    self.fail("the server closed without reading all queued messages".to_owned());
                }
                self.outbox.clear();
                self.is_writable = false;
                self.is_readable = true;
                if let Phase::Sending | Phase::Staying { .. } = self.phase {
                    self.end_input();
                    self.phase = self.closing_phase(Instant::now());
                }
            }
        }
        if let Phase::Flushing { .. } = self.phase
            && self.outbox.is_empty()
        {
            self.finish();
        }
    }

    /// Passes the output of this turn to the printer.
    fn print(&mut self) {
        match self.phase {
            Phase::Sending => match &mut self.source {
                #[cfg(feature = "line-editing")]
                Source::Terminal(terminal) => terminal.draw(&mut self.screen),
                Source::Stdin { .. } | Source::Ended => self.screen.show_prompt(),
            },
            Phase::Staying { .. }
            | Phase::Closing { .. }
            | Phase::Flushing { .. }
            | Phase::Printing => self.screen.erase_prompt(),
        }
        let Screen { out, err, .. } = &mut self.screen;
        self.printer.print(out, err);
    }

    /// Returns the maximum time to wait for events. `None`: without a limit.
    fn wait(&self, now: Instant) -> Option<Duration> {
        let due = match self.phase {
            Phase::Sending | Phase::Printing => None,
            Phase::Staying { until, .. } => until,
            Phase::Closing {
                idle_deadline,
                until,
            } => Some(idle_deadline.min(until)),
            Phase::Flushing { until } => Some(until),
        };
        let pings = self.pings.as_ref();
        let pings = pings.filter(|_| self.connection.stage() == Stage::Open);
        let due = due.into_iter().chain(pings.map(Pings::next)).min()?;
        Some(due.saturating_duration_since(now))
    }
}

impl Source {
    /// Starts reading stdin.
    fn stdin(connect: &Connect, waker: &Arc<Waker>) -> io::Result<Self> {
        #[cfg(feature = "line-editing")]
        if !connect.is_plain
            && let Some(terminal) = Terminal::open(connect.message_bytes_max, waker)?
        {
            return Ok(Self::Terminal(Box::new(terminal)));
        }
        // On a terminal, Enter ends a binary message. A file or pipe is one binary message.
        let is_terminal = io::stdin().is_terminal();
        let mode = if connect.is_binary && !is_terminal {
            SplitMode::Whole
        } else {
            SplitMode::Lines
        };
        let mut messages = MessageSplitter::new(mode, connect.is_binary, connect.message_bytes_max);
        if is_terminal {
            messages = messages.for_terminal();
        }
        Ok(Self::Stdin {
            input: Input::stdin(waker)?,
            messages,
        })
    }
}

/// Returns a message of the type that the flags demand.
fn message(bytes: &[u8], is_binary: bool) -> Message<'_> {
    if is_binary {
        Message::binary(bytes)
    } else {
        Message::text(
            std::str::from_utf8(bytes)
                .expect("MessageSplitter has checked stdin, and -x is a String"),
        )
    }
}

/// Stop, continuation, and a change of the size: handled while lines are edited.
#[cfg(feature = "line-editing")]
const TERMINAL_SIGNALS: [i32; 3] = [consts::SIGTSTP, consts::SIGCONT, consts::SIGWINCH];

/// Maximum time to write output before the process is stopped.
#[cfg(feature = "line-editing")]
const PRINT_TIMEOUT: Duration = Duration::from_millis(100);

/// RFC 6455 section 7.4.1.
const CLOSE_NORMAL: u16 = 1000;

/// Maximum time without a message while answers are missing. wscat waits as long for the answers to its `-x`.
const ANSWERS_TIMEOUT: Duration = Duration::from_secs(2);

/// Maximum time of [`Phase::Closing`] while the server continues to send messages, unless `--close-timeout` is longer.
const CLOSING_TIME_MAX: Duration = Duration::from_secs(60);

/// Unsent bytes above which stdin is not read.
const OUTBOX_BYTES_MAX: usize = 256 * 1024;

/// Size of the read buffer. A large message needs few reads.
const READ_BUF_BYTES: usize = 64 * 1024;

/// Maximum length of our Close: a masked header and the largest payload of a control frame.
const CLOSE_BYTES_MAX: usize = 6 + 125;

/// Maximum number of reads per turn, so that signals, timers and input are not delayed.
const READS_PER_TURN_MAX: usize = 16;
