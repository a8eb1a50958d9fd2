//! Names of sessions and timers.

use std::fmt;

/// The name of a session: its slot in the loop, and the number of its connection. No two sessions of a server have the
/// same one.
///
/// An `Id` outlives its session. Operations on a session that has ended have no effect. An `Id` may travel to other
/// threads ([`Handle`](crate::Handle)); it is displayed as `#slot.number`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    pub(crate) slot: u32,
    /// Counts the connections that the server has accepted. 64 bits, so that it never repeats.
    pub(crate) number: u64,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}.{}", self.slot, self.number)
    }
}

/// A timer that is set; see [`Context::set_timer`](crate::Context::set_timer).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimerId {
    /// When the timer is due, in milliseconds of the loop's clock.
    pub(crate) due: u64,
    pub(crate) sequence: u64,
}
