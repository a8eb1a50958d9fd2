//! What threads need of std, each once in the binary. A panic ends the process, so no mutex is poisoned.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Runs `work` until it ends or the process does.
pub(super) fn spawn(work: Box<dyn FnOnce() + Send>) {
    std::thread::spawn(work);
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until `is_waiting` no longer holds.
pub(super) fn wait_while<'m, T>(
    condition: &Condvar,
    guard: MutexGuard<'m, T>,
    is_waiting: impl FnMut(&mut T) -> bool,
) -> MutexGuard<'m, T> {
    condition
        .wait_while(guard, is_waiting)
        .unwrap_or_else(PoisonError::into_inner)
}
