//! stdout and stderr, written on a thread of its own. A pager, a pipe or a stopped terminal may take nothing for hours;
//! the session must still hear Ctrl-C.

use crate::cli::thread;
use mio::Waker;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex};

pub(super) struct Printer(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    added: Condvar,
}

#[derive(Default)]
struct State {
    out: Vec<u8>,
    err: Vec<u8>,
    /// Bytes that the thread has taken and not yet written.
    writing: usize,
    /// Why stdout takes nothing any more.
    failure: Option<io::Error>,
}

impl Printer {
    /// `waker` is woken when all that there was is written, and when stdout fails.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(super) fn new(waker: &Arc<Waker>) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (printer, waker) = (Self(Arc::clone(&shared)), Arc::clone(waker));
        thread::spawn(Box::new(move || print(&shared, &waker)))?;
        Ok(printer)
    }

    /// Takes what is in the two, for stdout and stderr.
    pub(super) fn print(&self, out: &mut Vec<u8>, err: &mut Vec<u8>) {
        if out.is_empty() && err.is_empty() {
            return;
        }
        let mut state = thread::lock(&self.0.state);
        append(&mut state.out, out);
        append(&mut state.err, err);
        self.0.added.notify_one();
    }

    /// Whether so much waits that nothing should be added.
    pub(super) fn is_full(&self) -> bool {
        thread::lock(&self.0.state).unwritten() >= UNWRITTEN_BYTES_MAX
    }

    /// Whether all is written, or never will be.
    pub(super) fn is_empty(&self) -> bool {
        thread::lock(&self.0.state).unwritten() == 0
    }

    /// Why stdout takes nothing any more, once.
    pub(super) fn failure(&self) -> Option<io::Error> {
        thread::lock(&self.0.state).failure.take()
    }
}

impl State {
    fn unwritten(&self) -> usize {
        self.out.len() + self.err.len() + self.writing
    }
}

/// Moves all bytes of `new` to the end of `all`, without a copy if there is nothing yet.
fn append(all: &mut Vec<u8>, new: &mut Vec<u8>) {
    if all.is_empty() {
        *all = std::mem::take(new);
    } else {
        all.append(new);
    }
}

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
        // Nobody could be told that nobody can be told.
        let _ = io::stderr().write_all(&err);
        // What cannot be written is dropped: the session ends.
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

/// What may wait to be printed before no more is read: enough that a terminal never waits for the network.
const UNWRITTEN_BYTES_MAX: usize = 1 << 20;
