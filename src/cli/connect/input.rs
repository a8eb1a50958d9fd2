//! Reads stdin on a thread. stdin may be a file, which epoll does not accept, or a terminal, which must stay in
//! blocking mode because the shell shares it.
//!
//! The thread reads one chunk ahead and waits until the session has taken it. A mutex and a condition variable need a
//! tenth of the code of the standard library's channels, which add 25 KiB to a binary whose size CI limits.

use crate::cli::thread;
use mio::Waker;
use std::io::{self, ErrorKind, Read};
use std::sync::{Arc, Condvar, Mutex};

/// The session's end of the input thread.
pub(super) struct Input(Arc<Shared>);

struct Shared {
    slot: Mutex<Available>,
    /// Notified when the session has emptied `slot`.
    consumed: Condvar,
}

/// The next input of stdin.
pub(super) enum Available {
    /// At most [`CHUNK_BYTES`], at least one.
    Chunk(Vec<u8>),
    /// No input yet. The waker is woken when input arrives.
    Nothing,
    End,
    Failed(io::Error),
}

impl Input {
    /// Starts the thread. `waker` is woken when there is input.
    ///
    /// # Errors
    /// The system does not start a thread.
    pub(super) fn stdin(waker: &Arc<Waker>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            slot: Mutex::new(Available::Nothing),
            consumed: Condvar::new(),
        });
        let (input, waker) = (Self(Arc::clone(&shared)), Arc::clone(waker));
        thread::spawn(Box::new(move || read(&shared, &waker)))?;
        Ok(input)
    }

    /// Returns the next input and removes it, without blocking. After `End` or `Failed`, always returns `Nothing`.
    pub(super) fn take(&self) -> Available {
        let mut slot = thread::lock(&self.0.slot);
        self.0.consumed.notify_one();
        std::mem::replace(&mut slot, Available::Nothing)
    }
}

/// The work of the thread: reads until the end of stdin or an error.
fn read(shared: &Shared, waker: &Waker) {
    let mut stdin = io::stdin().lock();
    let mut buf = vec![0; CHUNK_BYTES];
    loop {
        let read = match stdin.read(&mut buf) {
            Ok(0) => Available::End,
            Ok(len) => Available::Chunk(buf[..len].to_owned()),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => Available::Failed(error),
        };
        let is_last = !matches!(read, Available::Chunk(_));
        let slot = thread::lock(&shared.slot);
        let mut slot = thread::wait_while(&shared.consumed, slot, |slot| {
            !matches!(slot, Available::Nothing)
        });
        *slot = read;
        drop(slot);
        if waker.wake().is_err() || is_last {
            return;
        }
    }
}

/// Maximum size of a chunk: the capacity of a pipe on Linux.
const CHUNK_BYTES: usize = 64 * 1024;
