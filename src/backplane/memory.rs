//! A broker in memory, for tests: [`Broker`].

use super::{Backplane, BackplaneContext, BackplaneError, BackplaneEvent};
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A broker for [harnesses](crate::testing::Harness) and servers of one process, with methods that make it fail. Clones
/// refer to the same broker.
///
/// A publication does not wake a server that waits in its poll: the server processes it in its next turn. A harness
/// processes it in the next [`run`](crate::testing::Harness::run).
///
/// ```
/// use wsloop::backplane::memory::Broker;
/// use wsloop::handlers::Broadcast;
/// use wsloop::testing::{Harness, Received};
///
/// let broker = Broker::new();
/// let [mut first, mut second] = [(), ()].map(|()| {
///     let mut harness = Harness::new(Default::default(), Broadcast);
///     harness.set_backplane(broker.connect(), Default::default());
///     harness
/// });
/// let anna = first.connect("/chat");
/// let bert = second.connect("/chat");
/// first.send(anna, "hello");
/// second.run();
/// assert_eq!(second.received(bert), [Received::Text("hello".into())]);
/// assert_eq!(first.received(anna), [Received::Text("hello".into())]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Broker(Arc<Mutex<State>>);

/// The connection of one server to a [`Broker`].
#[derive(Debug)]
pub struct MemoryBackplane {
    broker: Broker,
    /// Index in [`State::connections`]; `None` without a connection.
    connection: Option<usize>,
    outbox: VecDeque<(String, Vec<u8>)>,
    outbox_bytes: usize,
    /// Number of publications that were written and not acknowledged.
    unacknowledged: u64,
    /// The source of the event that was returned last, from which the event borrows.
    current: Option<Delivery>,
    retry_at: Option<Instant>,
    /// The time of the last call of `next_event`. `next_at` returns it when there are events: they are due at once.
    last_call: Option<Instant>,
}

#[derive(Debug, Default)]
struct State {
    is_down: bool,
    is_stalled: bool,
    is_manual: bool,
    connections: Vec<Connection>,
    /// The publications of servers in the order in which they were processed.
    #[cfg(test)]
    processed: Vec<(String, Vec<u8>)>,
}

#[derive(Debug, Default)]
struct Connection {
    /// Commands that the client has written and the broker has not processed.
    commands: VecDeque<Command>,
    /// Deliveries that the broker has written and the client has not read.
    deliveries: VecDeque<Delivery>,
    topics: BTreeSet<String>,
    is_ended: bool,
}

#[derive(Debug)]
enum Command {
    Subscribe(String),
    Unsubscribe(String),
    Publish(String, Vec<u8>),
}

#[derive(Clone, Debug)]
enum Delivery {
    Subscribed(String),
    Message(String, Vec<u8>),
    Acknowledged,
}

impl Broker {
    /// Returns a broker without connections, which processes each command at once.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the connection of a server. It is established in the server's first turn.
    pub fn connect(&self) -> MemoryBackplane {
        MemoryBackplane {
            broker: self.clone(),
            connection: None,
            outbox: VecDeque::new(),
            outbox_bytes: 0,
            unacknowledged: 0,
            current: None,
            retry_at: None,
            last_call: None,
        }
    }

    /// Ends all connections, and accepts none until [`start`](Self::start). Commands that were not processed and deliveries
    /// that were not read are lost, as when a process is killed.
    pub fn stop(&self) {
        let mut state = self.lock();
        state.is_down = true;
        for connection in &mut state.connections {
            connection.end();
        }
    }

    /// Accepts connections again.
    pub fn start(&self) {
        self.lock().is_down = false;
    }

    /// Accepts no publications until [`resume`](Self::resume), as a broker that is too slow. Publications stay in the
    /// outboxes of the servers, and the connections stay open.
    pub fn stall(&self) {
        self.lock().is_stalled = true;
    }

    /// Accepts publications again. A server sends those in its outbox in its next turn.
    pub fn resume(&self) {
        self.lock().is_stalled = false;
    }

    /// Ends a connection, by its number: connections are numbered from 0 in the order in which they were established.
    /// Commands and deliveries of this connection are lost as in [`stop`](Self::stop). Returns whether it was open.
    pub fn cut(&self, connection: usize) -> bool {
        let mut state = self.lock();
        match state.connections.get_mut(connection) {
            Some(connection) if !connection.is_ended => {
                connection.end();
                true
            }
            Some(_) | None => false,
        }
    }

    /// Returns the number of connections since the start, including those that have ended.
    pub fn connections(&self) -> usize {
        self.lock().connections.len()
    }

    /// Processes commands only in calls of [`process`](Self::process), until [`release`](Self::release).
    pub fn hold(&self) {
        self.lock().is_manual = true;
    }

    /// Processes all commands that wait, and from now on each command at once.
    pub fn release(&self) {
        let mut state = self.lock();
        state.is_manual = false;
        for connection in 0..state.connections.len() {
            while state.process(connection) {}
        }
    }

    /// Processes the oldest command of the connection with this number. Returns whether there was one.
    pub fn process(&self, connection: usize) -> bool {
        self.lock().process(connection)
    }

    /// Publishes as another client of the broker would. Returns the number of connections that receive it.
    pub fn publish(&self, topic: &str, payload: &[u8]) -> usize {
        self.lock().publish(topic, payload)
    }

    /// Returns the publications of servers in the order in which they were processed.
    #[cfg(test)]
    pub(super) fn processed(&self) -> Vec<(String, Vec<u8>)> {
        self.lock().processed.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The lock is poisoned if a test has panicked while it held the lock. That test fails anyway.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn process(&mut self, connection: usize) -> bool {
        let Some(one) = self.connections.get_mut(connection) else {
            return false;
        };
        match one.commands.pop_front() {
            None => return false,
            Some(Command::Subscribe(topic)) => {
                one.topics.insert(topic.clone());
                one.deliveries.push_back(Delivery::Subscribed(topic));
            }
            Some(Command::Unsubscribe(topic)) => {
                one.topics.remove(&topic);
            }
            Some(Command::Publish(topic, payload)) => {
                self.publish(&topic, &payload);
                #[cfg(test)]
                self.processed.push((topic, payload));
                let deliveries = &mut self.connections[connection].deliveries;
                deliveries.push_back(Delivery::Acknowledged);
            }
        }
        true
    }

    fn publish(&mut self, topic: &str, payload: &[u8]) -> usize {
        let mut receivers = 0;
        for connection in &mut self.connections {
            if connection.topics.contains(topic) {
                let message = Delivery::Message(topic.to_owned(), payload.to_owned());
                connection.deliveries.push_back(message);
                receivers += 1;
            }
        }
        receivers
    }
}

impl Connection {
    fn end(&mut self) {
        *self = Self {
            is_ended: true,
            ..Self::default()
        };
    }
}

impl MemoryBackplane {
    fn write(&mut self, command: Command) {
        let Some(index) = self.connection else {
            return;
        };
        let mut state = self.broker.lock();
        let connection = &mut state.connections[index];
        if !connection.is_ended {
            connection.commands.push_back(command);
            if !state.is_manual {
                while state.process(index) {}
            }
        }
    }
}

impl Backplane for MemoryBackplane {
    fn next_event(&mut self, cx: &mut BackplaneContext<'_>) -> Option<BackplaneEvent<'_>> {
        self.last_call = Some(cx.now());
        let Some(index) = self.connection else {
            if self.retry_at.is_some_and(|at| cx.now() < at) {
                return None;
            }
            let mut state = self.broker.lock();
            if state.is_down {
                self.retry_at = Some(cx.now() + RETRY);
                return Some(BackplaneEvent::Disconnected {
                    error: BackplaneError::new("the broker is stopped"),
                    unacknowledged: 0,
                });
            }
            self.retry_at = None;
            state.connections.push(Connection::default());
            self.connection = Some(state.connections.len() - 1);
            return Some(BackplaneEvent::Connected);
        };
        let mut state = self.broker.lock();
        let connection = &mut state.connections[index];
        if connection.is_ended {
            self.connection = None;
            self.retry_at = Some(cx.now() + RETRY);
            return Some(BackplaneEvent::Disconnected {
                error: BackplaneError::new("the broker has closed the connection"),
                unacknowledged: std::mem::take(&mut self.unacknowledged),
            });
        }
        let delivery = connection.deliveries.pop_front()?;
        drop(state);
        Some(match self.current.insert(delivery) {
            Delivery::Subscribed(topic) => BackplaneEvent::Subscribed { topic },
            Delivery::Message(topic, payload) => BackplaneEvent::Message { topic, payload },
            Delivery::Acknowledged => {
                self.unacknowledged -= 1;
                BackplaneEvent::Acknowledged { publications: 1 }
            }
        })
    }

    fn subscribe(&mut self, topic: &str) {
        self.write(Command::Subscribe(topic.to_owned()));
    }

    fn unsubscribe(&mut self, topic: &str) {
        self.write(Command::Unsubscribe(topic.to_owned()));
    }

    fn publish(&mut self, topic: &str, payload: &[u8]) {
        self.outbox_bytes += payload.len();
        self.outbox
            .push_back((topic.to_owned(), payload.to_owned()));
    }

    fn flush(&mut self, _: &mut BackplaneContext<'_>) {
        if let Some(index) = self.connection {
            let state = self.broker.lock();
            if state.is_stalled || state.connections[index].is_ended {
                return;
            }
            drop(state);
            self.outbox_bytes = 0;
            for (topic, payload) in std::mem::take(&mut self.outbox) {
                self.unacknowledged += 1;
                self.write(Command::Publish(topic, payload));
            }
        }
    }

    fn outbox_bytes(&self) -> usize {
        self.outbox_bytes
    }

    fn discard_outbox(&mut self) -> u64 {
        self.outbox_bytes = 0;
        std::mem::take(&mut self.outbox).len() as u64
    }

    fn next_at(&self) -> Option<Instant> {
        match self.connection {
            None => self.retry_at,
            Some(index) => {
                let state = self.broker.lock();
                let connection = &state.connections[index];
                let has_events = connection.is_ended || !connection.deliveries.is_empty();
                self.last_call.filter(|_| has_events)
            }
        }
    }
}

/// Time between two attempts to connect.
const RETRY: Duration = Duration::from_millis(100);
