//! Identifiers of sessions, timers and event sources.

use std::fmt;

/// Identifies a session by its slot in the server and the number of its connection. Never reused within a server.
///
/// An `Id` can be stored for longer than its session exists: operations on a session that has ended have no effect.
/// Other threads can use it with a [`Handle`](crate::Handle). The display format is `#slot.number`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    pub(crate) slot: u32,
    /// Number of the connection in the order of acceptance, from 1. 64 bits, so that it never repeats.
    pub(crate) number: u64,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}.{}", self.slot, self.number)
    }
}

/// Identifies a timer, to cancel it; see [`Context::set_timer`](crate::Context::set_timer).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimerId {
    /// Place in the table of timers.
    pub(crate) index: u32,
    /// Number of the timer: rises with each that is set. 64 bits, so that it never repeats.
    pub(crate) number: u64,
}

/// Identifies a registered event source; see [`Context::register`](crate::Context::register).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId {
    /// Place in the table of sources.
    pub(crate) index: u32,
    /// Number of the registration, from 1. 64 bits, so that it never repeats.
    pub(crate) number: u64,
}
