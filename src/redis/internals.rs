//! The conversation with the server without its socket, for the fuzz target (`tests/fuzz/src/redis.rs`).

use super::Settings;
use super::protocol::Protocol;
use crate::backplane::{BackplaneError, BackplaneEvent};
use std::io::IoSlice;
use std::time::Instant;

/// What [`Redis`](super::Redis) is without its socket: bytes in, bytes out, with the time as an argument.
pub struct Client(Protocol);

impl Client {
    /// Returns a client without a connection.
    pub fn new(settings: Settings, payload_bytes_max: usize) -> Self {
        let mut protocol = Protocol::new(settings);
        protocol.set_payload_bytes_max(payload_bytes_max);
        Self(protocol)
    }

    /// Begins a connection.
    pub fn connected(&mut self, now: Instant, random: u64) {
        self.0.connected(now, random);
    }

    /// Ends the connection. Returns the number of publications that were written and not acknowledged.
    pub fn disconnected(&mut self) -> u64 {
        self.0.disconnected()
    }

    /// As [`Backplane::subscribe`](crate::backplane::Backplane::subscribe).
    pub fn subscribe(&mut self, topic: &str) {
        self.0.subscribe(topic);
    }

    /// As [`Backplane::unsubscribe`](crate::backplane::Backplane::unsubscribe).
    pub fn unsubscribe(&mut self, topic: &str) {
        self.0.unsubscribe(topic);
    }

    /// As [`Backplane::publish`](crate::backplane::Backplane::publish).
    pub fn publish(&mut self, topic: &str, payload: &[u8]) {
        self.0.publish(topic, payload);
    }

    /// As [`Backplane::flush`](crate::backplane::Backplane::flush), but writes nothing.
    pub fn flush(&mut self) {
        self.0.flush();
    }

    /// As [`Backplane::outbox_bytes`](crate::backplane::Backplane::outbox_bytes).
    pub fn outbox_bytes(&self) -> usize {
        self.0.outbox_bytes()
    }

    /// As [`Backplane::discard_outbox`](crate::backplane::Backplane::discard_outbox).
    pub fn discard_outbox(&mut self) -> u64 {
        self.0.discard_outbox()
    }

    /// Returns what one write would write.
    pub fn output(&self) -> Vec<u8> {
        if !self.0.has_output() {
            return Vec::new();
        }
        let mut slices = [IoSlice::new(&[]); super::SLICES_MAX];
        let count = self.0.output(&mut slices);
        slices[..count]
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect()
    }

    /// Counts bytes of the output that were written.
    pub fn written(&mut self, bytes: usize, now: Instant) {
        self.0.written(bytes, now);
    }

    /// The socket accepts no more.
    pub fn blocked(&mut self, now: Instant) {
        self.0.blocked(now);
    }

    /// Returns memory to read into.
    pub fn space(&mut self) -> &mut [u8] {
        self.0.space()
    }

    /// Counts bytes that were read into [`space`](Self::space).
    pub fn received(&mut self, bytes: usize, now: Instant) {
        self.0.received(bytes, now);
    }

    /// Returns the next event; `None` if the rest of the input is incomplete.
    ///
    /// # Errors
    /// Why the connection is to be ended.
    pub fn next_event(
        &mut self,
        now: Instant,
    ) -> Result<Option<BackplaneEvent<'_>>, BackplaneError> {
        let step = self.0.next(now)?;
        Ok(step.map(|step| self.0.event(step)))
    }

    /// Queues a probe and a check of the role if they are due.
    ///
    /// # Errors
    /// Why the connection is stale.
    pub fn check(&mut self, now: Instant) -> Result<(), BackplaneError> {
        self.0.check(now)
    }

    /// Returns when [`check`](Self::check) has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.0.deadline()
    }
}
