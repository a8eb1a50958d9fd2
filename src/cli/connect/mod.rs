//! `wsloop connect`: an interactive client. Sends lines of stdin to a server and prints its messages on stdout, as
//! wscat does.
//!
//! - `dial`: the connection and the opening handshake. `heads`: formats both heads.
//!   `chunked`: decodes the body of a refused handshake.
//! - `session`: the poll loop, from the open connection to its end.
//! - `edit`: line editing on a terminal. `input`: reads stdin on a thread. `messages`: splits the bytes of stdin into messages.
//! - `outbox`: queues unsent frames. `ping`: schedules pings and measures round trips.
//! - `screen`: formats output for terminals and pipes. `printer`: writes stdout and stderr on a thread, because they
//!   may block without limit and Ctrl-C must work meanwhile.
//!
//! Memory is bounded: above a limit of unsent bytes, the client stops reading stdin; above a limit of unprinted bytes,
//! it stops reading from the server. Unsent bytes do not stop it from reading from the server: otherwise, client and
//! server could each wait forever until the other one reads.

mod chunked;
mod dial;
#[cfg(feature = "line-editing")]
mod edit;
mod heads;
mod input;
mod messages;
mod outbox;
mod ping;
mod printer;
mod screen;
mod session;

use super::args::Connect;
use super::client::TlsClient;
use mio::{Interest, Poll, Token, Waker};
use session::Session;
use signal_hook::consts;
use signal_hook_mio::v1_0::Signals;
use std::io;
use std::sync::Arc;

/// Connects, and exchanges messages until one side closes the connection.
///
/// # Errors
/// Returns why the connection was not opened, or why it did not end with a Close from both sides: one line. For a
/// refused opening handshake, the body of the response follows on the next lines.
pub(super) fn run(connect: &Connect) -> Result<(), String> {
    // Before signals are handled, so that Ctrl-C ends the process while a name is resolved.
    let addresses = dial::addresses(&connect.endpoint.place)?;
    let tls = match &connect.endpoint.tls_name {
        Some(name) => Some(TlsClient::new(name, &connect.tls, 0)?),
        None => None,
    };
    let mut poll = Poll::new().map_err(describe)?;
    let mut signals = Signals::new([consts::SIGINT, consts::SIGTERM]).map_err(describe)?;
    poll.registry()
        .register(&mut signals, SIGNALS, Interest::READABLE)
        .map_err(describe)?;
    let waker = Waker::new(poll.registry(), WAKER).map_err(describe)?;
    let dialled = dial::dial(connect, tls.as_ref(), &addresses, &mut poll, &mut signals)?;
    let session = Session::new(connect, dialled, &Arc::new(waker)).map_err(describe)?;
    session.run(&mut poll, &mut signals)
}

fn describe(error: io::Error) -> String {
    error.to_string()
}

const SERVER: Token = Token(0);
const SIGNALS: Token = Token(1);
/// Wakes the loop when the input thread has read or the printer thread has written something.
const WAKER: Token = Token(2);
