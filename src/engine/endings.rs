//! Every way in which a session ends.
//!
//! | method | because | last bytes | then |
//! |---|---|---|---|
//! | `close` | we begin the closing handshake | Close | the peer's Close is awaited |
//! | `finish` | the protocol has ended: both Closes, a violation, an HTTP answer, the peer's end of stream | what the protocol answers | `Finishing`: unsent bytes are sent |
//! | `refuse` | the connection becomes no WebSocket | an HTTP response | as `finish` |
//! | `drain` | a finishing session has sent everything | - | `Draining`: our direction is shut, the peer's end is awaited |
//! | `kill` | the socket failed, a deadline passed, terminated, evicted | - | `Dead`: the reap phase frees it in this turn |

use super::deadlines::{Deadline, Millis};
use super::session::{Ending, InputEnd, Kind, Phase, id};
use super::{Engine, Stop};
use crate::error::{Error, Limit, Side};
use crate::id::Id;
use crate::proto::{HttpResponse, Stage};
use crate::stream::Transport;
use std::io::{self, ErrorKind};
use std::mem;

impl Engine {
    /// Ends a session at once; the reap phase does the rest. Nothing is published to it or due for it any more, so that
    /// until then nothing meets it half alive.
    pub(crate) fn kill(&mut self, slot: usize, ending: Ending) {
        let session = &mut self.sessions[slot];
        // First, so that allocations on the way to the end can use the memory that this releases.
        session.connection.abandon();
        session.end_with(ending);
        if mem::replace(&mut session.phase, Phase::Dead) != Phase::Dead {
            self.reap_queue.push_back(id(slot, session.number));
            self.end_handshake(slot);
            self.deadlines.clear(slot);
            self.forget_topics(slot);
        }
    }

    /// Ends a session whose socket has failed.
    pub(crate) fn fail(&mut self, id: Id, error: io::Error) {
        self.kill(
            id.slot as usize,
            Ending::abnormal(Side::Us, Some(Error::Io(error))),
        );
    }

    /// Ends a session whose stream has failed in a write.
    pub(crate) fn write_failed(&mut self, slot: usize, error: io::Error) {
        let by = match error.kind() {
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Side::Peer,
            _ => Side::Us,
        };
        self.kill(slot, Ending::abnormal(by, Some(Error::Io(error))));
    }

    /// Ends the session in whose input the handler panicked.
    pub(super) fn kill_panicked(&mut self, slot: usize) {
        if self.sessions.contains(slot) {
            self.kill(
                slot,
                Ending::abnormal(Side::Us, Some(Error::HandlerPanicked)),
            );
        }
    }

    /// Ends a session whose peer has not taken enough for too long. What the kernel could not send is dropped.
    pub(crate) fn kill_stalled(&mut self, slot: usize) {
        self.sessions[slot].stream.reset_on_close();
        self.kill(
            slot,
            Ending::abnormal(Side::Us, Some(Error::Limit(Limit::WriteTimeout))),
        );
    }

    /// Queues `replies` as the protocol's last bytes, and lets the session finish.
    pub(crate) fn finish(&mut self, slot: usize, ending: Ending) {
        debug_assert!(self.sessions[slot].phase == Phase::Live);
        self.end_handshake(slot);
        self.leave_topics(slot);
        // As much input as one largest message, which would have been read anyway, and a receive buffer.
        let discard_left = self
            .config
            .message_bytes_max
            .saturating_add(self.config.receive_buffer_bytes);
        let session = &mut self.sessions[slot];
        session.end_with(ending);
        session.extra_mut().discard_left = discard_left;
        // A pong that waited comes before the Close, after which nothing may follow.
        session.outbound.queue_pong(&mut self.buffers);
        session
            .outbound
            .push(&self.replies, &[], &mut self.turn_buffer, &mut self.buffers);
        session.phase = Phase::Finishing;
        // An answer in HTTP can be large.
        self.replies.clear();
        self.replies.shrink_to(REPLIES_BYTES_KEPT);
        self.expect_close(slot);
        self.queue_flush(slot);
    }

    /// Answers a request (or what did not become one) in HTTP, and lets the session finish.
    pub(crate) fn refuse(
        &mut self,
        slot: usize,
        response: &HttpResponse,
        is_head: bool,
        error: Option<Error>,
    ) {
        self.replies.clear();
        self.sessions[slot]
            .connection
            .refuse(response, is_head, &mut self.replies);
        self.finish(
            slot,
            Ending {
                reason: response.status().to_string(),
                ..Ending::abnormal(Side::Us, error)
            },
        );
    }

    /// Begins the closing handshake of an open session.
    pub(crate) fn close_slot(
        &mut self,
        slot: usize,
        code: u16,
        reason: &str,
        error: Option<Error>,
    ) {
        self.leave_topics(slot);
        let session = &mut self.sessions[slot];
        self.replies.clear();
        session.connection.close(code, reason, &mut self.replies);
        session.outbound.queue_pong(&mut self.buffers);
        session
            .outbound
            .push(&self.replies, &[], &mut self.turn_buffer, &mut self.buffers);
        session.end_with(Ending {
            code,
            reason: reason.to_owned(),
            is_clean: false,
            by: Side::Us,
            error,
        });
        self.expect_close(slot);
        self.queue_flush(slot);
    }

    /// Closes a member that is further behind its topics than allowed, and must not skip. Nothing is sent after the gap but
    /// the Close.
    pub(crate) fn close_lagging(&mut self, slot: usize) {
        self.forget_topics(slot);
        let Self {
            sessions,
            topics,
            turn_buffer,
            buffers,
            ..
        } = self;
        let outbound = &mut sessions[slot].outbound;
        outbound.cut_at_log(topics, turn_buffer, buffers);
        let error = Some(Error::Limit(Limit::LagBytesMax));
        self.close_slot(slot, 1013, "too far behind", error);
    }

    /// Shuts our direction of a finishing session that has sent everything, and awaits the peer's end.
    pub(crate) fn drain(&mut self, slot: usize) {
        let session = &mut self.sessions[slot];
        debug_assert!(session.phase == Phase::Finishing && session.outbound.is_empty());
        if session.input_end == InputEnd::Read || session.stream.shutdown_write().is_err() {
            self.kill(slot, Ending::abnormal(Side::Peer, None));
            return;
        }
        session.phase = Phase::Draining;
        if self.deadlines.kind(slot) != Some(Deadline::Close) {
            self.deadlines
                .set(slot, Deadline::Close, self.now as Millis);
        }
        self.queue_read(slot);
    }

    /// Sets the last deadline: all unsent bytes must be taken within the write timeout, which nothing postpones any more;
    /// after that the close timeout follows.
    fn expect_close(&mut self, slot: usize) {
        let is_blocked = self.sessions[slot].is_blocked;
        let last = if is_blocked {
            Deadline::Write
        } else {
            Deadline::Close
        };
        self.deadlines.set(slot, last, self.now as Millis);
    }

    /// Counts a session no more among those whose request is awaited.
    fn end_handshake(&mut self, slot: usize) {
        if self.sessions[slot].kind == Kind::Requesting {
            self.set_kind(slot, Kind::Answered);
        }
    }

    /// Begins the graceful stop that was asked for: Close 1001 to everyone.
    pub(crate) fn begin_stop(&mut self) {
        self.stop = Stop::Until(self.now + self.config.shutdown_grace.as_millis() as u64);
        let slots: Vec<usize> = self.sessions.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            let session = &self.sessions[slot];
            if session.phase != Phase::Live {
                continue;
            }
            match session.connection.stage() {
                Stage::Open => {
                    self.close_slot(slot, 1001, "the server is shutting down", None);
                }
                Stage::Opening => {
                    let response = HttpResponse::new(503, "the server is shutting down\n");
                    self.stats.count_refusal(crate::stats::Refusal::Shutdown);
                    self.refuse(slot, &response, false, Some(Error::Shutdown));
                }
                Stage::Closing | Stage::Closed | Stage::Ended => {}
            }
        }
    }

    /// Ends every session at once.
    pub(crate) fn terminate_all(&mut self) {
        self.stop = Stop::Now;
        let slots: Vec<usize> = self.sessions.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            self.kill(slot, Ending::abnormal(Side::Us, None));
        }
    }
}

/// The allocation of the scratch for replies that is retained.
const REPLIES_BYTES_KEPT: usize = 16 * 1024;
