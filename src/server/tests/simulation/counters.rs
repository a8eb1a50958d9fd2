//! What came to pass, so that a simulation in which nothing happens is noticed.

use std::ops::AddAssign;

/// Counts of one run, or of many together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counters {
    pub(super) turns: u64,
    pub(super) sessions: u64,
    /// Connections that ended without a 101.
    pub(super) refusals: u64,
    pub(super) messages_in: u64,
    pub(super) messages_out: u64,
    pub(super) pongs: u64,
    pub(super) skips: u64,
    /// Sessions that were told 1013.
    pub(super) too_far_behind: u64,
    /// Sends that were refused for what was owed already.
    pub(super) overflows: u64,
    pub(super) drains: u64,
    pub(super) terminations: u64,
    pub(super) timeouts: u64,
    pub(super) limits: u64,
    pub(super) violations: u64,
    pub(super) failures: u64,
    /// Sessions that got all that was ever owed to them.
    pub(super) complete: u64,
    /// Sessions that their peers ended without a fault, so that all they had said must have been heard.
    pub(super) ended_by_peer: u64,
    /// Events for sessions that were gone, and of those, for slots in use again.
    pub(super) stale_events: u64,
    pub(super) stale_events_of_reused_slots: u64,
    /// Turns at exactly the next deadline, and one millisecond before.
    pub(super) turns_at_deadline: u64,
    pub(super) turns_before_deadline: u64,
    pub(super) stops: u64,
    /// Panics of the handler; only where the profile has them.
    pub(super) panics: u64,
}

impl Counters {
    fn counts(&mut self) -> [(&'static str, &mut u64); 23] {
        [
            ("turns", &mut self.turns),
            ("sessions", &mut self.sessions),
            ("refusals", &mut self.refusals),
            ("messages in", &mut self.messages_in),
            ("messages out", &mut self.messages_out),
            ("pongs", &mut self.pongs),
            ("skips", &mut self.skips),
            ("too far behind", &mut self.too_far_behind),
            ("overflows", &mut self.overflows),
            ("drains", &mut self.drains),
            ("terminations", &mut self.terminations),
            ("timeouts", &mut self.timeouts),
            ("limits", &mut self.limits),
            ("violations", &mut self.violations),
            ("failures", &mut self.failures),
            ("complete", &mut self.complete),
            ("ended by the peer", &mut self.ended_by_peer),
            ("stale events", &mut self.stale_events),
            ("of reused slots", &mut self.stale_events_of_reused_slots),
            ("turns at a deadline", &mut self.turns_at_deadline),
            ("turns before one", &mut self.turns_before_deadline),
            ("stops", &mut self.stops),
            ("panics", &mut self.panics),
        ]
    }

    /// One line for people.
    pub(super) fn print(mut self, name: &str) {
        let counts = self.counts().map(|(what, count)| format!("{what} {count}"));
        println!("{name}: {}", counts.join(", "));
    }

    /// Asserts that everything came to pass, panics if there should be some.
    pub(super) fn check(mut self, has_panics: bool) {
        for (what, count) in self.counts() {
            let is_expected = what != "panics" || has_panics;
            assert!(
                *count > 0 || !is_expected,
                "the simulation is worth nothing without {what}"
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
