//! `wsloop connect`: lines from stdin to a server, its messages to stdout, as wscat does it.
//!
//! - `dial`: TCP and the opening handshake. `session`: the loop from there to the end.
//! - `input`: stdin on a thread of its own, which waits while there is enough; `messages`: its bytes, cut.
//! - `outbox`: frames on their way to the server. `ping`: who asks how long the way is.
//! - `screen`: how things look. `printer`: stdout and stderr on a thread of their own, since either may block for as
//!   long as it likes, and Ctrl-C must work meanwhile.
//!
//! Nothing grows without bound: while much is to be sent, stdin is not read; while much is to be printed, the server
//! is not. What is to be sent does not stop the reading, or the two sides could wait for each other for ever.

mod chunked;
mod dial;
mod input;
mod messages;
mod outbox;
mod ping;
mod printer;
mod screen;
mod session;

use super::args::Connect;
use mio::{Interest, Poll, Token, Waker};
use session::Session;
use signal_hook_mio::v1_0::Signals;
use std::io;
use std::sync::Arc;

/// Talks until one side closes.
///
/// # Errors
/// Why the end is not a clean one: one line, and below it what a server answers to a request that it refuses.
pub(super) fn run(connect: &Connect) -> Result<(), String> {
    let mut poll = Poll::new().map_err(describe)?;
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(describe)?;
    poll.registry()
        .register(&mut signals, SIGNALS, Interest::READABLE)
        .map_err(describe)?;
    let waker = Waker::new(poll.registry(), WAKER).map_err(describe)?;
    let dialled = dial::dial(connect, &mut poll, &mut signals)?;
    let session = Session::new(connect, dialled, &Arc::new(waker)).map_err(describe)?;
    session.run(&mut poll, &mut signals)
}

fn describe(error: io::Error) -> String {
    error.to_string()
}

const SERVER: Token = Token(0);
const SIGNALS: Token = Token(1);
/// The threads of stdin and stdout have something to tell.
const WAKER: Token = Token(2);

/// The same on every system that has them.
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;
