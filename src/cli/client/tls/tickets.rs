//! Stores sessions to resume, for `wsloop bench --tls-resume`.

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Sessions with one server. The store of rustls has at most 8 tickets per server. This is too few for connections that are
/// opened at the same time, because each ticket of TLS 1.3 is used only once.
#[derive(Debug)]
pub(super) struct Tickets {
    tickets_max: usize,
    /// Whether connections resume the stored sessions. Until then, each connection only adds a ticket. If it also used
    /// one, the number of tickets would not grow to that of the connections.
    is_resuming: AtomicBool,
    stored: Mutex<Stored>,
}

#[derive(Debug, Default)]
struct Stored {
    /// The key exchange group of the last handshake.
    group: Option<NamedGroup>,
    /// The newest session of TLS 1.2. Every connection can resume it.
    tls12: Option<Tls12ClientSessionValue>,
    tls13: VecDeque<Tls13ClientSessionValue>,
}

impl Tickets {
    /// Creates an empty store. When it contains `tickets_max` tickets, a new one replaces the oldest.
    pub(super) fn new(tickets_max: usize) -> Self {
        Self {
            tickets_max,
            is_resuming: AtomicBool::new(false),
            stored: Mutex::default(),
        }
    }

    /// Lets connections that begin from now on resume sessions.
    #[cfg(feature = "bench")]
    pub(super) fn start_resuming(&self) {
        self.is_resuming.store(true, Ordering::Relaxed);
    }

    fn is_resuming(&self) -> bool {
        self.is_resuming.load(Ordering::Relaxed)
    }

    fn stored(&self) -> MutexGuard<'_, Stored> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.stored().group = Some(group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.stored().group
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.stored().tls12 = Some(value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        if !self.is_resuming() {
            return None;
        }
        self.stored().tls12.clone()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.stored().tls12 = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        let tickets = &mut self.stored().tls13;
        if tickets.len() >= self.tickets_max {
            tickets.pop_front();
        }
        tickets.push_back(value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        if !self.is_resuming() {
            return None;
        }
        self.stored().tls13.pop_front()
    }
}
