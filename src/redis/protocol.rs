//! The conversation with the server: bytes in, bytes out, with the time as an argument.
//!
//! A connection begins with a greeting in one write: `HELLO`, `CLIENT LIST` if there was an earlier connection, and a probe,
//! which is a subscription to a channel of its own and a publication to it. It is established when the probe has come back:
//! then the password, the permissions for channels and the delivery of messages are known to be right.
//!
//! # The fence
//!
//! A server that was stopped and continues, or whose connection was cut elsewhere, may still process bytes of the connection
//! before. These publications would follow newer ones. So that one is killed before the next is used: it is identified by
//! its number and its random name, with `CLIENT LIST ID`, and killed by its number. The number alone would not do, because
//! numbers begin again when a server restarts; nor would the address, which all clients of a Unix socket share.
//!
//! # What is in transit
//!
//! At most 256 KiB are written and not answered, except a longer publication. The rest waits in the outbox, not in the
//! kernel's buffers: so few publications are lost when the connection ends, a slow connection has a delay of seconds instead
//! of minutes, and the memory is counted.

use super::command::{self, Names};
use super::input::Input;
use super::liveness::{Liveness, PATIENCE, Stale};
use super::resp::{self, Element, Read, ReadError, Reader};
use super::{Settings, refusal};
use crate::backplane::{BackplaneError, BackplaneEvent, Outbox};
use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem;
use std::ops::Range;
use std::time::Instant;

/// The state of one client, which outlives its connections.
pub(super) struct Protocol {
    settings: Settings,
    payload_bytes_max: usize,
    phase: Phase,
    /// This connection, to the server.
    identity: Identity,
    /// The last connection that was established, until the server has ended it for certain.
    earlier: Option<Identity>,
    reader: Reader,
    input: Input,
    /// The first element of the input is incomplete with fewer bytes.
    needed: usize,
    outbox: Outbox,
    /// The commands in the outbox.
    commands: VecDeque<Command>,
    /// What was written and causes a reply, in order.
    replies: VecDeque<Reply>,
    /// Bytes of commands and publications, also incomplete ones, that were written and not answered.
    unanswered_bytes: usize,
    /// Subscriptions that were written and not confirmed.
    confirmations: usize,
    /// Names for the next command.
    names: Names,
    names_verb: Verb,
    /// The channel of the probe.
    probe_channel: String,
    liveness: Liveness,
    /// A missing permission for the fence was logged.
    is_fence_refusal_logged: bool,
    /// That the server is not a single one was logged.
    is_topology_logged: bool,
}

/// Progress of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// There is no connection.
    Away,
    /// The server has not accepted the client yet.
    Greeting {
        deadline: Instant,
        is_probe_delivered: bool,
    },
    Established,
}

/// How the server identifies a connection.
#[derive(Debug, Default)]
struct Identity {
    /// Its number since the start of the server; `None` before the reply to `HELLO`.
    number: Option<u64>,
    /// The name that this client has given it: `wsloop-` and 8 random digits.
    name: String,
}

/// A command in the outbox, for what follows when it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    /// It causes a reply.
    Replied(Reply),
    /// It causes so many confirmations.
    Subscribe(usize),
    Unsubscribe,
}

/// A reply that is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reply {
    Publication { bytes: u32 },
    Probe { bytes: u32 },
    Hello { bytes: u32 },
    ClientList { bytes: u32 },
    ClientKill { bytes: u32 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Subscribe,
    Unsubscribe,
}

/// What has happened. The ranges are places in the input; see [`Protocol::event`].
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
            unanswered_bytes: 0,
            confirmations: 0,
            names: Names::default(),
            names_verb: Verb::Subscribe,
            probe_channel: String::new(),
            liveness: Liveness::new(Instant::now()),
            is_fence_refusal_logged: false,
            is_topology_logged: false,
        }
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn set_payload_bytes_max(&mut self, bytes: usize) {
        self.payload_bytes_max = bytes;
    }

    /// Begins a connection: queues the greeting. `random` is different for each connection of each client.
    pub(super) fn connected(&mut self, now: Instant, random: u64) {
        debug_assert_eq!(self.phase, Phase::Away);
        self.reader = Reader::new(self.payload_bytes_max.saturating_add(HEADER_BYTES_MAX));
        self.liveness = Liveness::new(now);
        self.phase = Phase::Greeting {
            deadline: now + PATIENCE,
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

    /// Ends the connection. Returns the number of publications that were written and not acknowledged.
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
        unacknowledged as u64
    }

    // Calls of the server.

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

    /// Queues the command for the names.
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

    /// Completes what the server has done in this turn. From now on, retained publications may be written.
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

    /// Fills `slices` with what is to be written. Returns their number.
    pub(super) fn output<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.outbox.slices(slices, self.window())
    }

    /// Returns how many bytes may be written now: what is free in the window, or the rest of an entry that is begun. If that
    /// is not enough for all, waits until half of the window is free, so that there is no write for each reply.
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
                    self.liveness.reply_awaited(now);
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

    /// The socket accepts no more.
    pub(super) fn blocked(&mut self, now: Instant) {
        self.liveness.blocked(now);
    }

    // Input.

    /// Returns memory to read into. The ranges of earlier steps are invalid from then on.
    pub(super) fn space(&mut self) -> &mut [u8] {
        self.input.space(self.needed)
    }

    /// Counts bytes that were read into [`space`](Self::space).
    pub(super) fn received(&mut self, bytes: usize, now: Instant) {
        self.input.filled(bytes);
        // A long message may need longer than the patience to arrive.
        if self.reader.is_discarding() || self.input.unprocessed().first() == Some(&b'>') {
            self.liveness.pushed(now);
        }
    }

    /// Returns the bytes of a range of the last step.
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

    /// Processes the next elements of the input. Returns the next thing that has happened; `None` if the rest of the input is
    /// incomplete.
    pub(super) fn next(&mut self, now: Instant) -> Result<Option<Step>, BackplaneError> {
        let mut acknowledged = 0;
        loop {
            let found = match self.reader.read(self.input.unprocessed()) {
                Ok(Read::Complete(found)) => found,
                Ok(Read::Incomplete { needed }) => {
                    self.needed = needed;
                    return Ok((acknowledged > 0).then_some(Step::Acknowledged(acknowledged)));
                }
                // The next call finds the error again.
                Err(_) if acknowledged > 0 => return Ok(Some(Step::Acknowledged(acknowledged))),
                Err(error) => return Err(self.unreadable(error)),
            };
            // Acknowledgements in a row are one step, which ends before the next element that is not one, or is an error.
            if acknowledged > 0 && !self.is_acknowledgement(&found.element) {
                return Ok(Some(Step::Acknowledged(acknowledged)));
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
                    acknowledged += self.integer(now)?;
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

    fn is_acknowledgement(&self, element: &Element) -> bool {
        let awaited = self.replies.front();
        matches!(element, Element::Integer(_)) && matches!(awaited, Some(Reply::Publication { .. }))
    }

    /// Returns the place of the topic in a channel's name, or `None` if the channel is not one of a topic.
    fn topic(&self, channel: Range<usize>) -> Option<Range<usize>> {
        let name = self.input.slice(channel.clone());
        let topic = name.strip_prefix(self.settings.prefix.as_bytes())?;
        str::from_utf8(topic).ok()?;
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

    /// Removes the next awaited reply, which has arrived, and returns it.
    fn pop_reply(&mut self, now: Instant) -> Result<Reply, BackplaneError> {
        let Some(reply) = self.replies.pop_front() else {
            return Err(unexpected());
        };
        let (Reply::Publication { bytes }
        | Reply::Probe { bytes }
        | Reply::Hello { bytes }
        | Reply::ClientList { bytes }
        | Reply::ClientKill { bytes }) = reply;
        self.unanswered_bytes -= bytes as usize;
        if self.replies.is_empty() {
            self.replies.shrink_to(REPLIES_RETAINED);
        }
        self.liveness.replied(now, !self.replies.is_empty());
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
            Reply::ClientList { .. } => Err(unexpected()),
        }
    }

    /// Processes an error. Any error ends the connection, except one to the commands of the fence: an error to a publication
    /// and an error to a subscription look the same, because a subscription has no reply if it succeeds; and servers
    /// refuse either only as long as a person or a script makes them.
    fn refused(&mut self, text: Range<usize>, now: Instant) -> Result<(), BackplaneError> {
        if let Some(Reply::ClientList { .. } | Reply::ClientKill { .. }) = self.replies.front() {
            self.pop_reply(now)?;
            self.earlier = None;
            if !mem::replace(&mut self.is_fence_refusal_logged, true) {
                let text = refusal::shown(self.input.slice(text), self.password());
                log::warn!(
                    "the broker does not let its user end an earlier connection, whose last publications may arrive late: \
                     allow it +client|list +client|kill with ACL SETUSER ({text})"
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
            // A publication remains in the list, so that it counts as not acknowledged.
            Some(Reply::Publication { .. } | Reply::Probe { .. } | Reply::ClientKill { .. })
            | None => Err(unexpected()),
        }
    }

    /// Processes the properties of the server.
    fn hello(&mut self, element: Range<usize>) -> Result<(), BackplaneError> {
        let element = self.input.slice(element);
        let value = |key: &str| {
            let value = resp::map_value(element, key.as_bytes())?;
            str::from_utf8(value).ok()
        };
        if !resp::is_map(element) || value("proto") != Some("3") {
            return Err(not_resp3());
        }
        let warning = match (value("mode"), value("role")) {
            (Some("sentinel"), _) => {
                return Err(BackplaneError::permanent(
                    "the broker is a Sentinel, which delivers no messages: connect to the primary server",
                ));
            }
            (_, Some("replica" | "slave")) => Some(
                "the broker is a replica: what is published here does not reach clients of the primary server",
            ),
            (Some("cluster"), _) => Some(
                "the broker is a cluster: servers that connect to different nodes of it may receive messages in \
                 different orders",
            ),
            _ => None,
        };
        self.identity.number = value("id").and_then(|id| id.parse().ok());
        if let Some(warning) = warning
            && !mem::replace(&mut self.is_topology_logged, true)
        {
            log::warn!("{warning}");
        }
        Ok(())
    }

    /// Processes what the server knows of the client with the number of the earlier connection.
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

    /// Establishes the connection if everything that the greeting has asked for has arrived.
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

    /// Queues a probe if one is due. Fails if the connection is stale, so call it after all input was processed.
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
                stale_at.map(|(at, _)| at).into_iter().chain(probe_at).min()
            }
        }
    }

    fn is_probe_queued(&self) -> bool {
        let mut commands = self.commands.iter();
        commands.any(|command| matches!(command, Command::Replied(Reply::Probe { .. })))
    }
}

fn unexpected() -> BackplaneError {
    BackplaneError::new("the broker sent a reply that was not asked for")
}

fn not_resp3() -> BackplaneError {
    BackplaneError::permanent("the broker does not speak RESP3: Redis 7 or Valkey is needed")
}

/// Maximum channels of a command, as other clients of Redis have it: replies of some 20 KB for each command.
const NAMES_MAX: usize = 512;

/// Maximum bytes of a payload, until [`Protocol::set_payload_bytes_max`].
const PAYLOAD_BYTES_MAX: usize = 2 << 20;

/// Maximum bytes of an element without the payload: the name of its channel.
const HEADER_BYTES_MAX: usize = 64 * 1024;

/// Maximum bytes that are written and not answered. The throughput is this divided by the time of a round trip: 256 MB/s
/// at 1 ms.
const WINDOW_BYTES: usize = 256 * 1024;

/// Capacity of the list of awaited replies that is retained after a burst.
const REPLIES_RETAINED: usize = 256;

#[cfg(test)]
mod tests;
