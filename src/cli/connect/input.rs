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
    ahead: Mutex<Taken>,
    was_taken: Condvar,
}

/// What there is.
pub(super) enum Taken {
    Chunk(Vec<u8>),
    /// The waker tells when there is something.
    NothingYet,
    End,
    Failed(io::Error),
}

impl Input {
    /// # Errors
    /// The system refuses a thread.
    pub(super) fn stdin(waker: &Arc<Waker>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            ahead: Mutex::new(Taken::NothingYet),
            was_taken: Condvar::new(),
        });
        let (input, waker) = (Self(Arc::clone(&shared)), Arc::clone(waker));
        thread::spawn(Box::new(move || read(&shared, &waker)))?;
        Ok(input)
    }

    /// Takes what there is; nothing follows an end or a failure.
    pub(super) fn take(&self) -> Taken {
        let mut ahead = thread::lock(&self.0.ahead);
        self.0.was_taken.notify_one();
        std::mem::replace(&mut ahead, Taken::NothingYet)
    }
}

/// Reads to the end or an error.
fn read(shared: &Shared, waker: &Waker) {
    let mut stdin = io::stdin().lock();
    let mut buf = vec![0; CHUNK_BYTES];
    loop {
        let read = match stdin.read(&mut buf) {
            Ok(0) => Taken::End,
            Ok(len) => Taken::Chunk(buf[..len].to_owned()),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => Taken::Failed(error),
        };
        let is_last = !matches!(read, Taken::Chunk(_));
        let ahead = thread::lock(&shared.ahead);
        let mut ahead = thread::wait_while(&shared.was_taken, ahead, |ahead| {
            !matches!(ahead, Taken::NothingYet)
        });
        *ahead = read;
        drop(ahead);
        if waker.wake().is_err() || is_last {
            return;
        }
    }
}

/// As much as a pipe holds.
const CHUNK_BYTES: usize = 64 * 1024;
