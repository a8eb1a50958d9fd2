//! What handlers may do, carried out: the engine behind [`Context`](crate::Context). Everything here queues or marks;
//! the phases that follow do the rest. The one write, of large messages, shows in nothing but speed.

use super::deadlines::Deadline;
use super::engine::{Engine, Stop, Timer};
use super::flush::write_slices;
use super::session::{Ending, Membership, Session, Stream, id};
use crate::config::LagPolicy;
use crate::handler::{Core, Error, Id, SendStatus, Side, TimerId};
use crate::proto::{CODE_NONE, Message, is_code_allowed};
use crate::stats::Stats;
use std::any::Any;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

impl<S: Stream> Core for Engine<S> {
    fn send(&mut self, id: Id, message: Message<'_>) -> SendStatus {
        let Some(slot) = self.open_slot(id) else {
            return SendStatus::Refused;
        };
        let session = &self.sessions[slot];
        let owned = session.outbound.cost() - session.outbound.log_len();
        // Up to high water one more message is always taken, however large.
        let is_over = owned > self.config.high_water_bytes;
        if is_over && owned + message.len() > self.config.backlog_bytes_max {
            // A message that is refused leaves a gap, so nothing may follow it.
            self.kill(
                slot,
                Ending::abnormal(Side::Us, Some(Error::Limit("backlog_bytes_max"))),
            );
            return SendStatus::Refused;
        }
        if session.extra.is_some() {
            self.claim_all(slot);
        }
        let header = message.server_header();
        let session = &mut self.sessions[slot];
        if message.len() >= WRITE_THROUGH_BYTES
            && session.outbound.is_empty()
            && !session.is_blocked
        {
            self.write_through(slot, header.as_slice(), message.as_bytes());
        } else {
            session
                .outbound
                .push(header.as_slice(), message.as_bytes(), &mut self.buffers);
        }
        self.sessions[slot].messages_out += 1;
        self.stats.messages_out += 1;
        self.queue_flush(slot);
        self.pause_if_over(slot)
    }

    fn ping(&mut self, id: Id, payload: &[u8]) -> bool {
        let Some(slot) = self.open_slot(id) else {
            return false;
        };
        let session = &self.sessions[slot];
        if session.outbound.cost() - session.outbound.log_len() > self.config.backlog_bytes_max {
            return false;
        }
        self.ping_slot(slot, payload);
        true
    }

    fn buffered_amount(&self, id: Id) -> usize {
        let Some(session) = self.session(id) else {
            return 0;
        };
        let unclaimed = session.memberships().iter().map(|membership| {
            let Membership { topic, index, .. } = *membership;
            self.topics.unclaimed(topic, index)
        });
        session.outbound.len() + unclaimed.sum::<usize>()
    }

    fn close(&mut self, id: Id, code: u16, reason: &str) -> bool {
        if code != CODE_NONE && !is_code_allowed(code) {
            return false;
        }
        let Some(slot) = self.open_slot(id) else {
            return false;
        };
        self.close_slot(slot, code, reason, None);
        true
    }

    fn terminate(&mut self, id: Id) {
        if self.session(id).is_some() {
            self.kill(id.slot as usize, Ending::abnormal(Side::Us, None));
        }
    }

    fn subscribe(&mut self, id: Id, topic: &str) -> bool {
        let Some(slot) = self.open_slot(id) else {
            return false;
        };
        let topic = self.topics.find_or_insert(topic);
        if self.membership(id, topic).is_some() {
            return false;
        }
        let index = self.topics.join(topic, slot);
        self.sessions[slot]
            .extra_mut()
            .memberships
            .push(Membership {
                topic,
                not_sent: self.topics.published(topic),
                index,
            });
        true
    }

    fn unsubscribe(&mut self, id: Id, topic: &str) -> bool {
        let Some(topic) = self.topics.find(topic) else {
            return false;
        };
        let Some(position) = self.membership(id, topic) else {
            return false;
        };
        let slot = id.slot as usize;
        self.claim_all(slot);
        let membership = self.sessions[slot]
            .extra_mut()
            .memberships
            .swap_remove(position);
        self.leave(slot, membership);
        self.queue_flush(slot);
        true
    }

    fn publish(&mut self, topic: &str, message: Message<'_>) -> usize {
        let Some(topic) = self.topics.find(topic) else {
            return 0;
        };
        let members = self.topics.publish(topic, message, &mut self.buffers);
        self.stats.messages_out += members as u64;
        members
    }

    fn subscribers(&self, topic: &str) -> usize {
        self.topics
            .find(topic)
            .map_or(0, |topic| self.topics.member_count(topic))
    }

    fn set_lag_policy(&mut self, topic: &str, policy: Option<LagPolicy>) {
        self.topics.set_policy(topic, policy);
    }

    fn set_timer(&mut self, after: Duration, key: u64, scope: u16) -> TimerId {
        // Rounded up: a timer is never early.
        let after = u64::try_from(after.as_micros().div_ceil(1000)).unwrap_or(u64::MAX);
        let timer = TimerId {
            due: self.now.saturating_add(after),
            sequence: self.timer_sequence,
        };
        self.timer_sequence += 1;
        self.timers.insert(timer, Timer { key, scope });
        timer
    }

    fn cancel_timer(&mut self, timer: TimerId) -> bool {
        self.timers.remove(&timer).is_some()
    }

    fn timer_scope(&self) -> u16 {
        self.timer_scope
    }

    fn peer_addr(&self, id: Id) -> Option<SocketAddr> {
        self.session(id)?.peer.address()
    }

    fn path(&self, id: Id) -> Option<Arc<str>> {
        Some(Arc::clone(self.paths.path(self.session(id)?.path?)))
    }

    fn count(&self) -> usize {
        self.open
    }

    fn ids(&self) -> Vec<Id> {
        let open = |(slot, session): (usize, &Session<S>)| {
            let id = id(slot, session.generation);
            self.open_slot(id).map(|_| id)
        };
        self.sessions.iter().filter_map(open).collect()
    }

    fn is_open(&self, id: Id) -> bool {
        self.open_slot(id).is_some()
    }

    fn set_state(&mut self, id: Id, state: Box<dyn Any + Send>) {
        if let Some(session) = self.session_mut(id) {
            session.extra_mut().state = Some(state);
        }
    }

    fn state(&mut self, id: Id) -> Option<&mut (dyn Any + Send)> {
        self.session_mut(id)?
            .extra
            .as_deref_mut()?
            .state
            .as_deref_mut()
    }

    fn stats(&self) -> Stats {
        let mut stats = self.stats.clone();
        stats.connections_open = self.open;
        // Whose socket takes nothing has this deadline.
        for slot in self.deadlines.slots(Deadline::Write) {
            let session = &self.sessions[slot];
            stats.backlog_bytes += session.outbound.len();
            stats.members_lagging += session.memberships().len();
        }
        stats
    }

    fn measure_turns(&mut self) {
        self.stats.turns.get_or_insert_default();
    }

    fn stop(&mut self) {
        self.stop = match self.stop {
            Stop::No => Stop::Asked,
            Stop::Asked | Stop::Until(_) | Stop::Now => Stop::Now,
        };
    }

    fn route(&self, id: Id) -> u16 {
        self.session(id).map_or(0, |session| session.route)
    }

    fn set_route(&mut self, id: Id, route: u16) {
        if let Some(session) = self.session_mut(id) {
            session.route = route;
        }
    }
}

impl<S: Stream> Engine<S> {
    /// Writes a large message straight from where it lies; what the stream does not take is queued.
    fn write_through(&mut self, slot: usize, header: &[u8], payload: &[u8]) {
        let session = &mut self.sessions[slot];
        let slices = [IoSlice::new(header), IoSlice::new(payload)];
        // After an error nothing is written; the flush phase meets it again and deals with it.
        let written = write_slices(&mut session.stream, &slices);
        let len = *written.as_ref().unwrap_or(&0);
        session.bytes_out += len as u64;
        self.stats.bytes_out += len as u64;
        let payload_len = len.saturating_sub(header.len());
        if len < header.len() + payload.len() {
            session.outbound.push(
                &header[len - payload_len..],
                &payload[payload_len..],
                &mut self.buffers,
            );
            if written.is_ok() {
                self.stalled(slot);
            }
        }
    }

    /// Over the high-water mark the session is not read until it is under the low one.
    fn pause_if_over(&mut self, slot: usize) -> SendStatus {
        let session = &mut self.sessions[slot];
        if session.outbound.cost() <= self.config.high_water_bytes {
            return SendStatus::Queued;
        }
        session.is_paused = true;
        SendStatus::OverHighWater
    }
}

/// From here on a message is written straight from where it lies: 16 KiB take about 1 us to copy, and a write of
/// its own about 4, but it needs none of its own when nothing else is queued.
const WRITE_THROUGH_BYTES: usize = 16 * 1024;
