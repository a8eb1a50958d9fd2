//! A mutable value that the owners of both ends of an in-memory stream share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A mutable value with several owners. It is behind a lock because streams must be `Send`, although each test uses its
/// streams on one thread.
#[derive(Debug, Default)]
pub(crate) struct Shared<T>(Arc<Mutex<T>>);

impl<T> Shared<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Arc::new(Mutex::new(value)))
    }

    /// Locks the value, also after a panic of another owner. Deadlocks if the current thread already holds the lock.
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
