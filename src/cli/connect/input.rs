//! stdin, read on a thread of its own: it may be a file, which no poll takes, or a terminal, which must not be made
//! non-blocking under the shell that shares it.
//!
//! The thread reads one chunk ahead and waits until it is taken. A mutex and a condition do that in a tenth of the code
//! that std's channels bring along (25 KiB of a binary that is to stay below 1 MiB).

use crate::cli::thread;
use mio::Waker;
use std::io::{self, ErrorKind, Read};
use std::sync::{Arc, Condvar, Mutex};

pub(super) struct Input(Arc<Shared>);

struct Shared {
    slot: Mutex<Available>,
    consumed: Condvar,
}

/// What there is.
pub(super) enum Available {
    Chunk(Vec<u8>),
    /// The waker tells when there is something.
    Nothing,
    End,
    Failed(io::Error),
}

impl Input {
    /// # Errors
    /// The system refuses a thread.
    pub(super) fn stdin(waker: &Arc<Waker>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            slot: Mutex::new(Available::Nothing),
            consumed: Condvar::new(),
        });
        let (input, waker) = (Self(Arc::clone(&shared)), Arc::clone(waker));
        thread::spawn(Box::new(move || read(&shared, &waker)))?;
        Ok(input)
    }

    /// Takes what there is; nothing follows an end or a failure.
    pub(super) fn take(&self) -> Available {
        let mut slot = thread::lock(&self.0.slot);
        self.0.consumed.notify_one();
        std::mem::replace(&mut slot, Available::Nothing)
    }
}

/// Reads to the end or an error.
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

/// As much as a pipe holds.
const CHUNK_BYTES: usize = 64 * 1024;
