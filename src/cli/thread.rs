//! Threads, mutexes and condition variables for the binary: wrappers around std.
//!
//! [`spawn`] takes a boxed closure, so that std's generic code for threads is compiled once and not for each closure.
//! Mutex poisoning is ignored, because a panic ends the process (`panic = "abort"` in release builds).

use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;

/// Runs `work` on a new thread. The thread is detached: it ends when `work` returns or when the process ends.
///
/// # Errors
/// The system creates no thread, because of a limit on processes or a lack of memory.
pub(super) fn spawn(work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
    let builder = Builder::new().stack_size(STACK_BYTES);
    builder.spawn(work).map(drop)
}

/// Locks a mutex.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits on `condition` until `is_waiting` returns `false`. Returns the locked guard.
pub(super) fn wait_while<'m, T>(
    condition: &Condvar,
    guard: MutexGuard<'m, T>,
    is_waiting: impl FnMut(&mut T) -> bool,
) -> MutexGuard<'m, T> {
    condition
        .wait_while(guard, is_waiting)
        .unwrap_or_else(PoisonError::into_inner)
}

/// Stack size of a thread. Enough for threads that read or write a descriptor, because their buffers are on the heap.
/// Also enough for a signal frame, which has up to 11 KiB on CPUs with the largest vector registers.
const STACK_BYTES: usize = 64 << 10;
