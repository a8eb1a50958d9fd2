//! Counters of the events in simulation runs, so that a simulation that no longer causes some kind of event fails.

use std::ops::AddAssign;

/// The counters of one run, or the sums of several runs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counters {
    pub(super) turns: u64,
    /// Calls of `on_open`.
    pub(super) sessions: u64,
    /// Connections that ended without a 101.
    pub(super) refusals: u64,
    /// Messages that the handler received.
    pub(super) messages_in: u64,
    /// Messages that the peers received.
    pub(super) messages_out: u64,
    /// Pongs that the peers received.
    pub(super) pongs: u64,
    /// Publications to all members of a topic but one.
    pub(super) exceptions: u64,
    /// Retained messages that were queued for sessions that joined later.
    pub(super) replays: u64,
    /// Messages that `on_skip` reported.
    pub(super) skips: u64,
    /// Sessions that received Close 1013.
    pub(super) disconnected_for_lag: u64,
    /// Sends that were refused because of `backlog_bytes_max`.
    pub(super) overflows: u64,
    /// Calls of `on_drain`.
    pub(super) drains: u64,
    /// Sessions that the handler has paused.
    pub(super) pauses: u64,
    /// Calls of `Context::set_limits`.
    pub(super) limit_changes: u64,
    /// Sessions that the handler terminated.
    pub(super) terminations: u64,
    /// Calls of `on_error` for a handshake or idle timeout.
    pub(super) timeouts: u64,
    /// Calls of `on_error` for another limit or a stop.
    pub(super) limits: u64,
    /// Calls of `on_error` for a violation of the protocol.
    pub(super) violations: u64,
    /// Calls of `on_error` for an I/O error.
    pub(super) failures: u64,
    /// Sessions that received every message that was accepted for them and not reported as skipped.
    pub(super) complete: u64,
    /// Sessions that were ended by their peers and had no error, so that all input up to the end must have been handled.
    pub(super) ended_by_peer: u64,
    /// Poll events of sessions that no longer exist.
    pub(super) stale_events: u64,
    /// Stale events of a slot that another session uses now.
    pub(super) stale_events_of_reused_slots: u64,
    /// Turns at the time of the next deadline.
    pub(super) turns_at_deadline: u64,
    /// Turns one millisecond before the next deadline.
    pub(super) turns_before_deadline: u64,
    /// Calls of `Context::stop`.
    pub(super) stops: u64,
    /// Calls of `on_error` for an error of TLS.
    #[cfg(feature = "tls")]
    pub(super) tls_failures: u64,
    /// Panics of the handler. Always 0 unless the profile enables them.
    pub(super) panics: u64,
}

impl Counters {
    fn counts(&mut self) -> [(&'static str, &mut u64); COUNTERS] {
        [
            ("turns", &mut self.turns),
            ("sessions", &mut self.sessions),
            ("refusals", &mut self.refusals),
            ("messages in", &mut self.messages_in),
            ("messages out", &mut self.messages_out),
            ("pongs", &mut self.pongs),
            ("exceptions", &mut self.exceptions),
            ("replays", &mut self.replays),
            ("skips", &mut self.skips),
            ("disconnected for lag", &mut self.disconnected_for_lag),
            ("overflows", &mut self.overflows),
            ("drains", &mut self.drains),
            ("pauses", &mut self.pauses),
            ("limit changes", &mut self.limit_changes),
            ("terminations", &mut self.terminations),
            ("timeouts", &mut self.timeouts),
            ("limits", &mut self.limits),
            ("violations", &mut self.violations),
            ("failures", &mut self.failures),
            ("complete", &mut self.complete),
            ("ended by the peer", &mut self.ended_by_peer),
            ("stale events", &mut self.stale_events),
            (
                "stale events of reused slots",
                &mut self.stale_events_of_reused_slots,
            ),
            ("turns at a deadline", &mut self.turns_at_deadline),
            ("turns before a deadline", &mut self.turns_before_deadline),
            ("stops", &mut self.stops),
            #[cfg(feature = "tls")]
            ("failures of TLS", &mut self.tls_failures),
            ("panics", &mut self.panics),
        ]
    }

    /// Prints all counters in one line.
    pub(super) fn print(mut self, name: &str) {
        let counts = self.counts().map(|(what, count)| format!("{what} {count}"));
        println!("{name}: {}", counts.join(", "));
    }

    /// Asserts that no counter is 0. The counter of panics is checked only if `has_panics`.
    pub(super) fn check(mut self, has_panics: bool) {
        for (what, count) in self.counts() {
            let is_expected = what != "panics" || has_panics;
            assert!(
                *count > 0 || !is_expected,
                "the simulation caused no {what}"
            );
        }
    }
}

impl AddAssign for Counters {
    fn add_assign(&mut self, mut other: Self) {
        for ((_, sum), (_, count)) in self.counts().into_iter().zip(other.counts()) {
            *sum += *count;
        }
    }
}

/// Number of counters.
const COUNTERS: usize = if cfg!(feature = "tls") { 28 } else { 27 };
