//! What both ends of a pipe in memory share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A value with several owners. Streams can be sent to other threads, so it is behind a lock, although tests use it on one.
#[derive(Debug, Default)]
pub(crate) struct Shared<T>(Arc<Mutex<T>>);

impl<T> Shared<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Arc::new(Mutex::new(value)))
    }

    /// Locks the value. Deadlocks if this thread has locked it already.
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
