//! What the server has called, in the order in which it must arrive at the broker.

use std::collections::VecDeque;

/// A call that has not arrived.
#[derive(Debug, PartialEq)]
enum Call {
    Subscribe(String),
    Unsubscribe(String),
    /// The topic, the number, the length of the payload, and that of the command.
    Publish(String, u64, usize, usize),
}

/// The model of the outbox. Subscriptions belong to one connection, and until [`release`](Self::release) precede the
/// publications that wait.
pub(super) struct Calls {
    prefix: String,
    first: VecDeque<Call>,
    queue: VecDeque<Call>,
    is_held: bool,
    /// Number of publications since the start.
    publications: u64,
    outbox_bytes: usize,
    names_bytes: usize,
}

impl Calls {
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.into(),
            first: VecDeque::new(),
            queue: VecDeque::new(),
            is_held: true,
            publications: 0,
            outbox_bytes: 0,
            names_bytes: 0,
        }
    }

    pub(super) fn named(&mut self, topic: &str, is_subscribe: bool) {
        let call = match is_subscribe {
            true => Call::Subscribe(topic.into()),
            false => Call::Unsubscribe(topic.into()),
        };
        self.names_bytes += topic.len() + NAME_BYTES;
        match self.is_held {
            true => self.first.push_back(call),
            false => self.queue.push_back(call),
        }
    }

    /// Returns the payload, which begins with the number of the publication.
    pub(super) fn published(&mut self, topic: &str, len: usize) -> Vec<u8> {
        let number = self.publications;
        self.publications += 1;
        let channel_len = self.prefix.len() + topic.len();
        let digits = |number: usize| number.to_string().len();
        let fixed = "*3\r\n$7\r\nPUBLISH\r\n$\r\n\r\n$\r\n\r\n".len();
        let bytes = fixed + digits(channel_len) + channel_len + digits(len) + len;
        self.outbox_bytes += bytes;
        let call = Call::Publish(topic.into(), number, len, bytes);
        self.queue.push_back(call);
        let mut payload = number.to_be_bytes().to_vec();
        payload.resize(len, b'p');
        payload
    }

    pub(super) fn release(&mut self) {
        self.is_held = false;
    }

    pub(super) fn disconnected(&mut self) {
        self.first.clear();
        let is_publication = |call: &Call| matches!(call, Call::Publish(..));
        self.queue.retain(is_publication);
        self.is_held = true;
        self.names_bytes = 0;
    }

    /// Drops the publications of which nothing was written. `is_within_command`: a part of a command was.
    pub(super) fn discard(&mut self, discarded: u64, is_within_command: bool) {
        let is_publication = |call: &Call| matches!(call, Call::Publish(..));
        let all = self
            .queue
            .iter()
            .filter(|call| is_publication(call))
            .count() as u64;
        let is_begun = discarded + 1 == all && is_within_command;
        assert!(
            discarded == all || is_begun,
            "{discarded} of {all} discarded"
        );
        let mut index = 0;
        self.queue.retain(|call| {
            index += 1;
            !is_publication(call) || index == 1 && is_begun
        });
        let bytes = self.queue.iter().map(|call| match call {
            Call::Publish(_, _, _, bytes) => *bytes,
            Call::Subscribe(_) | Call::Unsubscribe(_) => 0,
        });
        self.outbox_bytes = bytes.sum();
    }

    /// The broker has received a name.
    pub(super) fn received_name(&mut self, topic: &str, is_subscribe: bool) {
        let call = match is_subscribe {
            true => Call::Subscribe(topic.into()),
            false => Call::Unsubscribe(topic.into()),
        };
        self.names_bytes -= topic.len() + NAME_BYTES;
        let expected = self.first.pop_front().or_else(|| self.queue.pop_front());
        assert_eq!(Some(call), expected);
    }

    /// The broker has received a publication.
    pub(super) fn received_publication(&mut self, topic: &str, payload: &[u8]) {
        assert_eq!(self.first.front(), None, "precedes a publication");
        let expected = self.queue.pop_front();
        let Some(Call::Publish(expected_topic, number, len, bytes)) = expected else {
            panic!("{expected:?} instead of a publication");
        };
        let (begin, rest) = payload.split_at(NUMBER_BYTES);
        assert_eq!(
            (topic, begin),
            (&*expected_topic, &number.to_be_bytes()[..])
        );
        assert!(payload.len() == len && rest.iter().all(|byte| *byte == b'p'));
        self.outbox_bytes -= bytes;
    }

    pub(super) fn outbox_bytes(&self) -> usize {
        self.outbox_bytes
    }

    /// Returns the bytes that everything that waits may need: the buffer in which names are collected doubles as it grows.
    pub(super) fn bytes(&self) -> usize {
        self.outbox_bytes + 2 * self.names_bytes
    }

    pub(super) fn check_all_written(&self) {
        assert!(
            self.first.is_empty() && self.queue.is_empty(),
            "{:?}",
            self.queue
        );
    }
}

/// How a payload begins: with the number of the publication.
pub(super) const NUMBER_BYTES: usize = 8;

/// Bytes of a name in a command, without the channel.
const NAME_BYTES: usize = 16;
