//! The conversation with the broker, without sockets: bytes in, bytes out, with the time as an argument.
//!
//! A connection begins with a *greeting* in one write: `HELLO`, `CLIENT LIST` if there was an earlier connection, and a
//! *probe*: a subscription to a channel that only this connection uses, and a publication to it. The connection is established
//! when the probe was delivered and all commands of the greeting were answered. Then the password, the permissions for
//! channels and the delivery of messages are known to be right.
//!
//! # The fence
//!
//! A broker that was stopped and continues, or that has not noticed the end of a connection, may still process bytes of the
//! earlier connection. Its publications would follow newer ones. So the earlier connection is killed before the next one is
//! used. `CLIENT LIST ID` with its number shows whether it still exists and has the random name that it was given; then
//! `CLIENT KILL ID` ends it. The number alone does not identify it, because the numbers begin again when a broker restarts.
//! Nor does the address, which all clients of a Unix socket share.
//!
//! # What is in transit
//!
//! At most 256 KiB are written and not answered, or one longer publication: the *window*. Other bytes wait in the outbox, not
//! in the kernel's buffers. So few publications are lost when the connection ends, the delay of a slow connection is seconds
//! instead of minutes, and the waiting bytes count against the limit of the outbox.

use super::command::{self, Names};
use super::input::Input;
use super::liveness::{Liveness, RESPONSE_TIMEOUT, Stale};
use super::resp::{self, Element, Read, ReadError, Reader};
use super::{Settings, refusal};
use crate::backplane::{BackplaneError, BackplaneEvent, Outbox};
use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem;
use std::ops::Range;
use std::time::{Duration, Instant};

/// The state of one client of the broker, over all its connections.
pub(super) struct Protocol {
    settings: Settings,
    payload_bytes_max: usize,
    phase: Phase,
    /// How the broker identifies this connection.
    identity: Identity,
    /// The earlier connection that was established last, as long as the broker may still process its bytes.
    earlier: Option<Identity>,
    reader: Reader,
    input: Input,
    /// Number of bytes without which the first element of the input is incomplete.
    needed: usize,
    outbox: Outbox,
    /// The commands in the outbox, in order. Publications are not listed.
    commands: VecDeque<Command>,
    /// The awaited replies, in order.
    replies: VecDeque<Reply>,
    /// Number of publications that were acknowledged, and not reported yet.
    acknowledged: u64,
    /// How many of them were acknowledged before the last complete push. Since Redis 7.2, the acknowledgement of a publication
    /// directly precedes its delivery, so theirs are complete.
    delivered: u64,
    /// Number of bytes that were written and not answered, of commands and publications.
    unanswered_bytes: usize,
    /// Number of subscriptions that were written and not confirmed.
    confirmations: usize,
    /// Names of channels for the next command.
    names: Names,
    /// The command for `names`.
    names_verb: Verb,
    /// The channel of this connection's probes.
    probe_channel: String,
    liveness: Liveness,
    /// Whether the broker was a replica at the beginning of this connection.
    is_replica: bool,
    /// When the role of the broker is to be checked again; `None` from the queuing of a check until its reply.
    role_check_at: Option<Instant>,
    /// Whether a missing permission for the fence was logged.
    is_fence_refusal_logged: bool,
    /// The warning about a replica or a cluster that was logged at the last `HELLO`.
    topology_warning: Option<&'static str>,
}

/// Progress of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// There is no connection.
    Away,
    /// The greeting is not complete.
    Greeting {
        deadline: Instant,
        is_probe_delivered: bool,
    },
    /// The greeting is complete.
    Established,
}

/// How the broker identifies a connection.
#[derive(Debug, Default)]
struct Identity {
    /// The number that the broker has given it; `None` before the reply to `HELLO`.
    number: Option<u64>,
    /// The name that this client has given it: `wsloop-` and 8 random hexadecimal digits.
    name: String,
}

/// A command in the outbox, and what the broker sends for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    /// Causes a reply.
    Replied(Reply),
    /// Causes this number of confirmations, which are pushes.
    Subscribe(usize),
    /// Causes pushes that are ignored.
    Unsubscribe,
}

/// An awaited reply. `bytes`: the length of the command that causes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reply {
    Publication {
        bytes: u32,
    },
    Probe {
        bytes: u32,
    },
    Hello {
        bytes: u32,
    },
    ClientList {
        bytes: u32,
    },
    ClientKill {
        bytes: u32,
    },
    /// To a `HELLO` that checks the role of the broker.
    Role {
        bytes: u32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Subscribe,
    Unsubscribe,
}

/// An event. Its ranges are places in the input; [`Protocol::event`] has the bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Connected,
    Subscribed {
        topic: Range<usize>,
    },
    Message {
        topic: Range<usize>,
        payload: Range<usize>,
    },
    TooLong {
        topic: Range<usize>,
        bytes: u64,
    },
    Acknowledged(u64),
}

impl Protocol {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            payload_bytes_max: PAYLOAD_BYTES_MAX,
            phase: Phase::Away,
            identity: Identity::default(),
            earlier: None,
            reader: Reader::new(0),
            input: Input::default(),
            needed: 1,
            outbox: Outbox::held(),
            commands: VecDeque::new(),
            replies: VecDeque::new(),
            acknowledged: 0,
            delivered: 0,
            unanswered_bytes: 0,
            confirmations: 0,
            names: Names::default(),
            names_verb: Verb::Subscribe,
            probe_channel: String::new(),
            liveness: Liveness::new(Instant::now()),
            is_replica: false,
            role_check_at: None,
            is_fence_refusal_logged: false,
            topology_warning: None,
        }
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn set_payload_bytes_max(&mut self, bytes: usize) {
        self.payload_bytes_max = bytes;
    }

    /// Begins a connection: queues the greeting. `random` must be different for each connection of each client.
    pub(super) fn connected(&mut self, now: Instant, random: u64) {
        debug_assert_eq!(self.phase, Phase::Away);
        self.reader = Reader::new(self.payload_bytes_max.saturating_add(HEADER_BYTES_MAX));
        self.liveness = Liveness::new(now);
        self.role_check_at = Some(now + ROLE_INTERVAL);
        self.phase = Phase::Greeting {
            deadline: now + RESPONSE_TIMEOUT,
            is_probe_delivered: false,
        };
        self.identity = Identity {
            number: None,
            name: format!("wsloop-{:08x}", random as u32),
        };
        self.probe_channel = format!("{}probe:{random:016x}", self.settings.prefix);
        self.push_hello();
        if let Some(number) = self.earlier.as_ref().and_then(|earlier| earlier.number) {
            let words = ["CLIENT", "LIST", "ID", &number.to_string()];
            self.push_command(&words, |bytes| Reply::ClientList { bytes });
        }
        self.push_subscription_of_probe();
        self.push_probe();
    }

    fn push_hello(&mut self) {
        let name = mem::take(&mut self.identity.name);
        let (user, password) = (self.settings.user.clone(), self.settings.password.clone());
        let mut words = vec!["HELLO", "3"];
        if user.is_some() || password.is_some() {
            words.push("AUTH");
            words.push(user.as_deref().unwrap_or("default"));
            words.push(password.as_deref().unwrap_or_default());
        }
        words.extend(["SETNAME", &name]);
        self.push_command(&words, |bytes| Reply::Hello { bytes });
        self.identity.name = name;
    }

    fn push_command(&mut self, words: &[&str], reply: impl Fn(u32) -> Reply) {
        let bytes = command::command(&mut self.outbox, words);
        self.commands.push_back(Command::Replied(reply(bytes)));
    }

    fn push_subscription_of_probe(&mut self) {
        command::command(&mut self.outbox, &["SUBSCRIBE", &self.probe_channel]);
        self.commands.push_back(Command::Subscribe(1));
    }

    fn push_probe(&mut self) {
        let bytes = command::command(&mut self.outbox, &["PUBLISH", &self.probe_channel, "probe"]);
        let reply = Reply::Probe { bytes };
        self.commands.push_back(Command::Replied(reply));
    }

    /// Called when the connection has ended, or an attempt. Returns the number of publications that were written and not
    /// acknowledged.
    pub(super) fn disconnected(&mut self) -> u64 {
        if self.phase == Phase::Established {
            self.earlier = Some(mem::take(&mut self.identity));
        }
        self.phase = Phase::Away;
        let replies = self.replies.drain(..);
        let unacknowledged = replies
            .filter(|reply| matches!(reply, Reply::Publication { .. }))
            .count();
        self.replies.shrink_to(0);
        self.commands.clear();
        self.outbox.disconnected();
        self.names = Names::default();
        self.input.clear();
        self.needed = 1;
        self.unanswered_bytes = 0;
        self.confirmations = 0;
        // Acknowledgements behind which a push has not arrived completely count as missing: the event was not returned.
        self.delivered = 0;
        unacknowledged as u64 + mem::take(&mut self.acknowledged)
    }

    // Methods for the calls of the WebSocket server.

    pub(super) fn subscribe(&mut self, topic: &str) {
        self.push_name(Verb::Subscribe, topic);
    }

    pub(super) fn unsubscribe(&mut self, topic: &str) {
        self.push_name(Verb::Unsubscribe, topic);
    }

    fn push_name(&mut self, verb: Verb, topic: &str) {
        debug_assert_eq!(self.phase, Phase::Established);
        if self.names_verb != verb || self.names.len() == NAMES_MAX {
            self.finish_names();
        }
        self.names_verb = verb;
        self.names.push(&self.settings.prefix, topic);
    }

    /// Queues the command for the collected names, if there are any.
    fn finish_names(&mut self) {
        let count = self.names.len();
        if count == 0 {
            return;
        }
        let (verb, command) = match self.names_verb {
            Verb::Subscribe => ("SUBSCRIBE", Command::Subscribe(count)),
            Verb::Unsubscribe => ("UNSUBSCRIBE", Command::Unsubscribe),
        };
        mem::take(&mut self.names).command(&mut self.outbox, verb);
        self.commands.push_back(command);
    }

    pub(super) fn publish(&mut self, topic: &str, payload: &[u8]) {
        self.finish_names();
        command::publish(&mut self.outbox, &self.settings.prefix, topic, payload);
    }

    /// Completes the commands of this turn. If the connection is established, publications may be written from now on.
    pub(super) fn flush(&mut self) {
        self.finish_names();
        if self.phase == Phase::Established {
            self.outbox.release();
        }
    }

    pub(super) fn outbox_bytes(&self) -> usize {
        self.outbox.publication_bytes()
    }

    pub(super) fn discard_outbox(&mut self) -> u64 {
        self.outbox.discard_publications()
    }

    // Output.

    /// Returns whether something may be written now.
    pub(super) fn has_output(&self) -> bool {
        !self.outbox.is_empty() && self.window() > 0
    }

    /// Fills `slices` with the bytes to write next. Returns the number of filled slices.
    pub(super) fn output<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.outbox.slices(slices, self.window())
    }

    /// Returns how many bytes may be written now: the free bytes of the window. If they are not enough for the whole outbox,
    /// returns the rest of an entry of which a part was written, or 0, until half of the window is free: otherwise there would
    /// be one write for each reply.
    fn window(&self) -> usize {
        let free = WINDOW_BYTES.saturating_sub(self.unanswered_bytes);
        if free >= WINDOW_BYTES / 2 || self.outbox.len() <= free {
            return free;
        }
        self.outbox.begun_entry().map_or(0, |(_, left)| left)
    }

    /// Counts bytes of the output that were written.
    pub(super) fn written(&mut self, bytes: usize, now: Instant) {
        self.liveness.wrote();
        self.unanswered_bytes += bytes;
        self.outbox.written(bytes, |entry| {
            let command = match entry.is_publication {
                true => Command::Replied(Reply::Publication {
                    bytes: entry.bytes as u32,
                }),
                false => self.commands.pop_front().expect("each command is listed"),
            };
            match command {
                Command::Replied(reply) => {
                    if let Reply::Probe { .. } = reply {
                        self.liveness.delivery_awaited(now);
                    }
                    self.replies.push_back(reply);
                    // A check of the role does not start the timeout: its reply may be delayed by a long push, and other
                    // commands detect a dead connection.
                    if !matches!(reply, Reply::Role { .. }) {
                        self.liveness.reply_awaited(now);
                    }
                }
                Command::Subscribe(count) => {
                    self.unanswered_bytes -= entry.bytes;
                    self.confirmations += count;
                    self.liveness.confirmation_awaited(now);
                }
                Command::Unsubscribe => self.unanswered_bytes -= entry.bytes,
            }
        });
    }

    /// Called when the socket accepts no more bytes.
    pub(super) fn blocked(&mut self, now: Instant) {
        self.liveness.blocked(now);
    }

    // Input.

    /// Returns memory to read into. Invalidates the ranges of earlier steps.
    pub(super) fn space(&mut self) -> &mut [u8] {
        self.input.space(self.needed)
    }

    /// Counts bytes that were read into [`space`](Self::space).
    pub(super) fn received(&mut self, bytes: usize, now: Instant) {
        self.input.filled(bytes);
        // A long message may take longer than `RESPONSE_TIMEOUT` to arrive, so a part of a push counts as one.
        if self.is_within_push() {
            self.liveness.pushed(now);
        }
    }

    /// Returns whether the unprocessed input begins with a push.
    fn is_within_push(&self) -> bool {
        self.reader.is_discarding() || self.input.unprocessed().first() == Some(&b'>')
    }

    /// Returns the bytes in a range of the last step.
    fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.input.slice(range)
    }

    /// Returns the last step as the event that it is for a server.
    pub(super) fn event(&self, step: Step) -> BackplaneEvent<'_> {
        let text = |range| str::from_utf8(self.bytes(range)).expect("`topic` has checked the text");
        match step {
            Step::Connected => BackplaneEvent::Connected,
            Step::Subscribed { topic } => BackplaneEvent::Subscribed { topic: text(topic) },
            Step::Message { topic, payload } => BackplaneEvent::Message {
                topic: text(topic),
                payload: self.bytes(payload),
            },
            Step::TooLong { topic, bytes } => BackplaneEvent::TooLong {
                topic: text(topic),
                bytes,
            },
            Step::Acknowledged(publications) => BackplaneEvent::Acknowledged { publications },
        }
    }

    /// Processes elements of the input up to the next event, and returns it. `None`: the rest of the input is empty or an
    /// incomplete element.
    pub(super) fn next(&mut self, now: Instant) -> Result<Option<Step>, BackplaneError> {
        loop {
            let found = match self.reader.read(self.input.unprocessed()) {
                Ok(Read::Complete(found)) => found,
                Ok(Read::Incomplete { needed }) => {
                    self.needed = needed;
                    let publications = match self.is_within_push() {
                        true => self.delivered,
                        false => self.acknowledged,
                    };
                    return Ok(self.report(publications));
                }
                // The next call finds the error again.
                Err(error) => {
                    let step = self.report(self.acknowledged);
                    return step.map_or_else(|| Err(self.unreadable(error)), |step| Ok(Some(step)));
                }
            };
            // Acknowledgements are collected and returned as one step: at the end of the input, or before an element that may
            // be an error. The next call processes that element.
            if self.may_fail(&found.element)
                && let Some(step) = self.report(self.acknowledged)
            {
                return Ok(Some(step));
            }
            if let Element::Message { .. } | Element::TooLong { .. } = found.element {
                self.delivered = self.acknowledged;
            }
            let start = self.input.start();
            self.reader.consume(&found);
            self.input.consume(found.len);
            let at = |range: Range<usize>| start + range.start..start + range.end;
            let step = match found.element {
                Element::Message { channel, payload } => {
                    self.message(at(channel), at(payload), now)
                }
                Element::TooLong { channel, bytes } => {
                    self.liveness.pushed(now);
                    let topic = self.topic(at(channel));
                    topic.map(|topic| Step::TooLong { topic, bytes })
                }
                Element::Subscribed { channel } => self.subscribed(at(channel), now),
                Element::Ignored => {
                    self.liveness.pushed(now);
                    None
                }
                Element::Integer(_) => {
                    self.acknowledged += self.integer(now)?;
                    None
                }
                Element::Error(text) => {
                    self.refused(at(text), now)?;
                    None
                }
                Element::Other(element) => {
                    self.replied(at(element), now)?;
                    None
                }
            };
            let step = match self.phase {
                Phase::Greeting { .. } => self.greeted().then_some(Step::Connected),
                Phase::Established => step,
                Phase::Away => None,
            };
            if step.is_some() {
                return Ok(step);
            }
        }
    }

    /// Reports acknowledgements, if there are any.
    fn report(&mut self, publications: u64) -> Option<Step> {
        self.acknowledged -= publications;
        self.delivered = 0;
        (publications > 0).then_some(Step::Acknowledged(publications))
    }

    /// Returns whether processing this element may return an error.
    fn may_fail(&self, element: &Element) -> bool {
        match element {
            Element::Message { .. }
            | Element::TooLong { .. }
            | Element::Subscribed { .. }
            | Element::Ignored => false,
            Element::Integer(_) => !matches!(self.replies.front(), Some(Reply::Publication { .. })),
            Element::Error(_) | Element::Other(_) => true,
        }
    }

    /// Returns the range of the topic in a channel's name, or `None` if the name has another prefix or is not UTF-8.
    fn topic(&self, channel: Range<usize>) -> Option<Range<usize>> {
        let name = self.input.slice(channel.clone());
        let topic = name.strip_prefix(self.settings.prefix.as_bytes())?;
        // Most names are ASCII. This check takes a third of the time of the check for UTF-8.
        if !topic.is_ascii() {
            str::from_utf8(topic).ok()?;
        }
        Some(channel.end - topic.len()..channel.end)
    }

    fn message(
        &mut self,
        channel: Range<usize>,
        payload: Range<usize>,
        now: Instant,
    ) -> Option<Step> {
        self.liveness.pushed(now);
        if self.input.slice(channel.clone()) == self.probe_channel.as_bytes() {
            if let Phase::Greeting {
                is_probe_delivered, ..
            } = &mut self.phase
            {
                *is_probe_delivered = true;
            }
            return None;
        }
        let topic = self.topic(channel)?;
        Some(Step::Message { topic, payload })
    }

    fn subscribed(&mut self, channel: Range<usize>, now: Instant) -> Option<Step> {
        self.liveness.pushed(now);
        self.confirmations = self.confirmations.saturating_sub(1);
        self.liveness.confirmed(now, self.confirmations > 0);
        if self.input.slice(channel.clone()) == self.probe_channel.as_bytes() {
            return None;
        }
        let topic = self.topic(channel)?;
        Some(Step::Subscribed { topic })
    }

    /// Called when a reply has arrived: removes and returns the oldest awaited reply.
    fn pop_reply(&mut self, now: Instant) -> Result<Reply, BackplaneError> {
        let Some(reply) = self.replies.pop_front() else {
            return Err(unexpected());
        };
        let (Reply::Publication { bytes }
        | Reply::Probe { bytes }
        | Reply::Hello { bytes }
        | Reply::ClientList { bytes }
        | Reply::ClientKill { bytes }
        | Reply::Role { bytes }) = reply;
        self.unanswered_bytes -= bytes as usize;
        if self.replies.is_empty() {
            self.replies.shrink_to(REPLIES_RETAINED);
        }
        if let Reply::Role { .. } = reply {
            self.role_check_at = Some(now + ROLE_INTERVAL);
            return Ok(reply);
        }
        let is_more_awaited = match self.replies.front() {
            Some(Reply::Role { .. }) => self.replies.len() > 1,
            first => first.is_some(),
        };
        self.liveness.replied(now, is_more_awaited);
        Ok(reply)
    }

    /// Processes a reply that is a number. Returns the number of publications that it acknowledges.
    fn integer(&mut self, now: Instant) -> Result<u64, BackplaneError> {
        match self.pop_reply(now)? {
            Reply::Publication { .. } => Ok(1),
            Reply::Probe { .. } => Ok(0),
            Reply::ClientKill { .. } => {
                self.earlier = None;
                Ok(0)
            }
            Reply::Hello { .. } => Err(not_resp3()),
            Reply::ClientList { .. } | Reply::Role { .. } => Err(unexpected()),
        }
    }

    /// Processes an error reply. An error ends the connection. Exception: a permanent refusal of `CLIENT LIST` or
    /// `CLIENT KILL`, which disables the fence. The errors of a publication and of a subscription cannot be distinguished,
    /// because a subscription that succeeds has no reply. Brokers refuse a publication or a subscription only because of their
    /// configuration or a running script.
    fn refused(&mut self, text: Range<usize>, now: Instant) -> Result<(), BackplaneError> {
        if let Some(Reply::ClientList { .. } | Reply::ClientKill { .. }) = self.replies.front()
            && refusal::is_lasting(self.input.slice(text.clone()))
        {
            self.pop_reply(now)?;
            self.earlier = None;
            if !mem::replace(&mut self.is_fence_refusal_logged, true) {
                let text = refusal::shown(self.input.slice(text), self.password());
                log::warn!(
                    "the broker denies the permission to end an earlier connection, whose last publications may arrive late: \
                     allow the user +client|list +client|kill with ACL SETUSER ({text})"
                );
            }
            return Ok(());
        }
        let text = self.input.slice(text);
        Err(refusal::error(text, self.password(), &self.settings.prefix))
    }

    fn password(&self) -> Option<&str> {
        self.settings.password.as_deref()
    }

    /// Processes a reply that is neither a number nor an error.
    fn replied(&mut self, element: Range<usize>, now: Instant) -> Result<(), BackplaneError> {
        match self.replies.front() {
            Some(Reply::Hello { .. }) => {
                self.pop_reply(now)?;
                self.hello(element)
            }
            Some(Reply::ClientList { .. }) => {
                self.pop_reply(now)?;
                self.client_list(element);
                Ok(())
            }
            Some(Reply::Role { .. }) => {
                self.pop_reply(now)?;
                self.role(element)
            }
            // A publication remains in the list, so that it counts as not acknowledged.
            Some(Reply::Publication { .. } | Reply::Probe { .. } | Reply::ClientKill { .. })
            | None => Err(unexpected()),
        }
    }

    /// Processes the reply to `HELLO`: the properties of the broker.
    fn hello(&mut self, element: Range<usize>) -> Result<(), BackplaneError> {
        let element = self.input.slice(element);
        let value = |key: &str| text_value(element, key);
        self.is_replica = is_replica(element);
        if !resp::is_map(element) || value("proto") != Some("3") {
            return Err(not_resp3());
        }
        let warning = match value("mode") {
            Some("sentinel") => {
                return Err(BackplaneError::permanent(
                    "the broker is a Sentinel, which delivers no messages: connect to the primary server",
                ));
            }
            _ if self.is_replica => Some(
                "the broker is a replica: publications on it do not reach clients of the primary server",
            ),
            Some("cluster") => Some(
                "the broker is a cluster: servers that connect to different nodes of it may receive messages in \
                 different orders",
            ),
            _ => None,
        };
        self.identity.number = value("id").and_then(|id| id.parse().ok());
        let previous = mem::replace(&mut self.topology_warning, warning);
        if let Some(warning) = warning
            && previous != Some(warning)
        {
            log::warn!("{warning}");
        }
        Ok(())
    }

    /// Processes the reply to a `HELLO` that checks the role. A broker that is made a replica closes no connection and accepts
    /// publications, but these do not reach the clients of the new primary server. A replica that is made a primary server has
    /// not delivered what was published on the previous one since then.
    fn role(&self, element: Range<usize>) -> Result<(), BackplaneError> {
        let is_replica = is_replica(self.input.slice(element));
        if is_replica == self.is_replica {
            return Ok(());
        }
        Err(BackplaneError::new(match is_replica {
            true => {
                "the broker has become a replica: publications on it do not reach clients of the primary server"
            }
            false => {
                "the broker has become a primary server: later publications on the previous one did not reach it"
            }
        }))
    }

    /// Processes the reply to `CLIENT LIST ID`: kills the earlier connection if it still exists.
    fn client_list(&mut self, element: Range<usize>) {
        let Some(earlier) = &self.earlier else {
            return;
        };
        let line = resp::text(self.input.slice(element));
        let name = format!("name={}", earlier.name);
        let is_there = line
            .split(|byte| byte.is_ascii_whitespace())
            .any(|word| word == name.as_bytes());
        match earlier.number {
            Some(number) if is_there => {
                let words = ["CLIENT", "KILL", "ID", &number.to_string()];
                self.push_command(&words, |bytes| Reply::ClientKill { bytes });
            }
            _ => self.earlier = None,
        }
    }

    /// Establishes the connection if the greeting is complete. Returns whether it is.
    fn greeted(&mut self) -> bool {
        let is_complete = matches!(
            self.phase,
            Phase::Greeting {
                is_probe_delivered: true,
                ..
            }
        ) && self.replies.is_empty()
            && self.commands.is_empty();
        if is_complete {
            self.phase = Phase::Established;
        }
        is_complete
    }

    fn unreadable(&self, error: ReadError) -> BackplaneError {
        match (self.phase, error) {
            (Phase::Greeting { .. }, ReadError::Type(_)) => BackplaneError::permanent(format!(
                "the server is neither Redis nor Valkey: {error}"
            )),
            _ => BackplaneError::new(format!("the broker sent what is not RESP3: {error}")),
        }
    }

    // Time.

    /// Queues a probe and a check of the role if they are due. Returns an error if the connection is stale, so call it after
    /// all input was processed.
    pub(super) fn check(&mut self, now: Instant) -> Result<(), BackplaneError> {
        match self.phase {
            Phase::Away => return Ok(()),
            Phase::Greeting { deadline, .. } if deadline <= now => {
                let stale = match self.replies.is_empty() && self.commands.is_empty() {
                    true => Stale::Delivery,
                    false => Stale::Reply,
                };
                return Err(BackplaneError::new(format!("the broker {stale}")));
            }
            Phase::Greeting { .. } => return Ok(()),
            Phase::Established => {}
        }
        match self.liveness.stale_at(self.unanswered_bytes) {
            Some((at, stale)) if at <= now => {
                return Err(BackplaneError::new(format!("the broker {stale}")));
            }
            _ => {}
        }
        if !self.is_probe_queued() && self.liveness.probe_at().is_some_and(|at| at <= now) {
            self.finish_names();
            self.push_probe();
        }
        if self.role_check_at.is_some_and(|at| at <= now) {
            self.finish_names();
            self.role_check_at = None;
            self.push_command(&["HELLO", "3"], |bytes| Reply::Role { bytes });
        }
        Ok(())
    }

    /// Returns when [`check`](Self::check) has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Away => None,
            Phase::Greeting { deadline, .. } => Some(deadline),
            Phase::Established => {
                let stale_at = self.liveness.stale_at(self.unanswered_bytes);
                let probe_at = self.liveness.probe_at().filter(|_| !self.is_probe_queued());
                let stale_at = stale_at.map(|(at, _)| at);
                let all = [stale_at, probe_at, self.role_check_at];
                all.into_iter().flatten().min()
            }
        }
    }

    fn is_probe_queued(&self) -> bool {
        let mut commands = self.commands.iter();
        commands.any(|command| matches!(command, Command::Replied(Reply::Probe { .. })))
    }
}

/// Returns the text of a key in the reply to `HELLO`.
fn text_value<'a>(reply: &'a [u8], key: &str) -> Option<&'a str> {
    str::from_utf8(resp::map_value(reply, key.as_bytes())?).ok()
}

/// Returns whether the reply to `HELLO` is that of a replica.
fn is_replica(reply: &[u8]) -> bool {
    matches!(text_value(reply, "role"), Some("replica" | "slave"))
}

fn unexpected() -> BackplaneError {
    BackplaneError::new("the broker sent a reply that was not asked for")
}

fn not_resp3() -> BackplaneError {
    BackplaneError::permanent("the broker does not speak RESP3: Redis 7 or Valkey is needed")
}

/// Time between two checks of the broker's role.
const ROLE_INTERVAL: Duration = Duration::from_secs(10);

/// Maximum channels of one SUBSCRIBE or UNSUBSCRIBE. The broker answers 512 channels with some 20 KB.
const NAMES_MAX: usize = 512;

/// Maximum bytes of a payload, until [`Protocol::set_payload_bytes_max`].
const PAYLOAD_BYTES_MAX: usize = 2 << 20;

/// Maximum bytes of an element besides the payload: mainly the name of the channel.
const HEADER_BYTES_MAX: usize = 64 * 1024;

/// Maximum bytes that are written and not answered, except one longer publication. The maximum throughput is this value
/// divided by the time of a round trip: 256 MB/s at 1 ms.
const WINDOW_BYTES: usize = 256 * 1024;

/// Capacity of the list of awaited replies that is retained after a burst.
const REPLIES_RETAINED: usize = 256;

#[cfg(test)]
mod tests;
