//! What threads need of std, each once in the binary. A panic ends the process, so no mutex is poisoned.

use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;

/// Runs `work` on a thread of its own until it ends or the process does.
///
/// # Errors
/// The system refuses a thread: a limit on processes, or no memory.
pub(super) fn spawn(work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
    let builder = Builder::new().stack_size(STACK_BYTES);
    builder.spawn(work).map(drop)
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

/// Address space for a thread that reads or writes a descriptor: it holds its buffers on the heap. A signal's frame,
/// up to 11 KiB where there are the largest vector registers, fits as well.
const STACK_BYTES: usize = 64 << 10;
