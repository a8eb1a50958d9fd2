//! Writes stdout and stderr on a thread. A pager, a pipe or a stopped terminal may block writes for hours, and the
//! session must handle Ctrl-C meanwhile.

use crate::cli::thread;
use mio::Waker;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex};

/// The session's end of the printer thread. The thread runs until the process exits.
pub(super) struct Printer(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Notified when output has been added.
    added: Condvar,
}

#[derive(Default)]
struct State {
    /// Unwritten output for stdout.
    out: Vec<u8>,
    /// Unwritten output for stderr.
    err: Vec<u8>,
    /// Number of bytes that the thread is writing.
    writing: usize,
    /// The error of stdout, until it is reported.
    failure: Option<io::Error>,
}

impl Printer {
    /// Starts the thread. `waker` is woken each time queued output has been written, and when stdout fails.
    ///
    /// # Errors
    /// The system does not start a thread.
    pub(super) fn new(waker: &Arc<Waker>) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (printer, waker) = (Self(Arc::clone(&shared)), Arc::clone(waker));
        thread::spawn(Box::new(move || print(&shared, &waker)))?;
        Ok(printer)
    }

    /// Queues output for stdout and stderr, and leaves both buffers empty. Does not block.
    pub(super) fn print(&self, out: &mut Vec<u8>, err: &mut Vec<u8>) {
        if out.is_empty() && err.is_empty() {
            return;
        }
        let mut state = thread::lock(&self.0.state);
        append(&mut state.out, out);
        append(&mut state.err, err);
        self.0.added.notify_one();
    }

    /// Returns whether at least [`UNWRITTEN_BYTES_MAX`] are unwritten. The caller should then queue no more.
    pub(super) fn is_full(&self) -> bool {
        thread::lock(&self.0.state).unwritten() >= UNWRITTEN_BYTES_MAX
    }

    /// Returns whether all output is written, or dropped because stdout has failed.
    pub(super) fn is_empty(&self) -> bool {
        thread::lock(&self.0.state).unwritten() == 0
    }

    /// Returns the error of stdout, once. Output after the error is dropped.
    pub(super) fn failure(&self) -> Option<io::Error> {
        thread::lock(&self.0.state).failure.take()
    }
}

impl State {
    fn unwritten(&self) -> usize {
        self.out.len() + self.err.len() + self.writing
    }
}

/// Moves the bytes of `new` to the end of `all`, without copying if `all` is empty.
fn append(all: &mut Vec<u8>, new: &mut Vec<u8>) {
    if all.is_empty() {
        *all = std::mem::take(new);
    } else {
        all.append(new);
    }
}

/// The work of the thread.
fn print(shared: &Shared, waker: &Waker) {
    let mut stdout = io::stdout().lock();
    let mut has_failed = false;
    loop {
        let state = thread::lock(&shared.state);
        let mut state = thread::wait_while(&shared.added, state, |state| state.unwritten() == 0);
        let (out, err) = (
            std::mem::take(&mut state.out),
            std::mem::take(&mut state.err),
        );
        state.writing = out.len() + err.len();
        drop(state);
        // An error of stderr could only be reported on stderr.
        let _ = io::stderr().write_all(&err);
        // After an error, output is dropped: the session ends.
        let mut failure = None;
        if !has_failed {
            failure = stdout.write_all(&out).and_then(|()| stdout.flush()).err();
            has_failed = failure.is_some();
        }
        let mut state = thread::lock(&shared.state);
        state.writing = 0;
        state.failure = failure.or(state.failure.take());
        drop(state);
        let _ = waker.wake();
    }
}

/// Unwritten bytes above which the session stops reading from the server. Large enough that output does not stop while
/// the session waits for the network.
const UNWRITTEN_BYTES_MAX: usize = 1 << 20;
