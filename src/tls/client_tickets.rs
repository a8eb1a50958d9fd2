//! Tickets of sessions with a client certificate.
//!
//! A ticket contains the client's certificate, and each resumed session gets another ticket, so that a client could resume
//! sessions without end, and its certificate would never be verified again. A ticket of this module also contains the time at
//! which the certificate was verified. When a session is resumed, its ticket gets the time in the previous one.
//!
//! rustls passes nothing about the connection to the producer of tickets, and processes the ClientHello, in which the old
//! ticket is, before the Finished, which causes the new one. So [`set_verified_at`] and [`take_verified_at`] enclose each
//! call of rustls, and the connection stores the time between these calls.

use rustls::server::ProducesTickets;
use std::cell::Cell;
use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

thread_local! {
    /// The time in the ticket of the connection whose handshake this thread continues.
    static VERIFIED_AT: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Sets the time for the connection whose handshake this thread continues.
pub(super) fn set_verified_at(seconds: Option<u64>) {
    VERIFIED_AT.set(seconds);
}

/// Returns the time for the connection whose handshake this thread has continued.
pub(super) fn take_verified_at() -> Option<u64> {
    VERIFIED_AT.take()
}

/// Adds the time to the tickets of another producer, and rejects those that are too old.
#[derive(Debug)]
pub(crate) struct ClientTickets {
    inner: Arc<dyn ProducesTickets>,
    start: Instant,
    /// Seconds that have passed in the view of a test.
    #[cfg(test)]
    pub(crate) passed: AtomicU64,
}

impl ClientTickets {
    pub(crate) fn new(inner: Arc<dyn ProducesTickets>) -> Self {
        Self {
            inner,
            start: Instant::now(),
            #[cfg(test)]
            passed: AtomicU64::new(0),
        }
    }

    /// Returns the seconds since the producer was created.
    fn now(&self) -> u64 {
        let now = self.start.elapsed().as_secs();
        #[cfg(test)]
        let now = now + self.passed.load(Ordering::Relaxed);
        now
    }
}

impl ProducesTickets for ClientTickets {
    fn enabled(&self) -> bool {
        self.inner.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.inner.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let verified_at = VERIFIED_AT.get().unwrap_or_else(|| self.now());
        self.inner
            .encrypt(&[&verified_at.to_be_bytes(), plain].concat())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let mut plain = self.inner.decrypt(cipher)?;
        let verified_at = u64::from_be_bytes(*plain.first_chunk()?);
        if self.now().saturating_sub(verified_at) >= u64::from(self.lifetime()) {
            return None;
        }
        VERIFIED_AT.set(Some(verified_at));
        plain.drain(..size_of::<u64>());
        Some(plain)
    }
}
