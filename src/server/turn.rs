//! One turn: its poll ([`begin`]), then accept, read, expire, flush, reap, and the stop ([`turn`]). The server, the test harness,
//! the unit tests and the simulation all run it; what differs between them is an [`Environment`].

use crate::engine::{Engine, Stop};
use crate::handler::Handler;
use crate::stream::Stream;
use std::io;
use std::time::Duration;

/// What a turn needs from outside of the engine: listeners and a poll. The defaults have neither.
pub(crate) trait Environment {
    /// Accepts connections that wait, and inserts them into the engine. `is_last`: all of them, because the listeners are
    /// about to be closed.
    fn accept(&mut self, engine: &mut Engine, handler: &mut impl Handler, is_last: bool) {
        let _ = (engine, handler, is_last);
    }

    /// Waits for events, at most `timeout` (`None`: without end), and marks the sessions that they are about. Returns whether
    /// there may be more events already.
    fn poll_once(&mut self, engine: &mut Engine, timeout: Option<Duration>) -> io::Result<bool> {
        let _ = (engine, timeout);
        Ok(false)
    }

    /// Looks at the sessions that have ended, before they are freed.
    #[cfg(test)]
    fn before_reap(&mut self, engine: &Engine) {
        let _ = engine;
    }

    /// Takes the stream of an ended session out of the poll.
    fn deregister(&mut self, stream: &mut Stream) {
        let _ = stream;
    }

    /// Descriptors have become free.
    fn retry_accept(&mut self) {}

    /// Closes the listeners.
    fn close_listeners(&mut self) {}
}

/// Waits for events, at most `timeout`, marks what all of them report, and begins the turn at the time that `clock` returns
/// after that, in milliseconds.
pub(crate) fn begin(
    engine: &mut Engine,
    timeout: Option<Duration>,
    clock: impl FnOnce() -> u64,
    environment: &mut impl Environment,
) -> io::Result<()> {
    poll(engine, timeout, environment)?;
    engine.begin_turn(clock());
    if engine.has_due_deadline() {
        // Whatever has arrived by now counts. The process may have been stopped since the poll returned.
        poll(engine, Some(Duration::ZERO), environment)?;
    }
    Ok(())
}

/// Waits for events, at most `timeout`, and marks what all of them report: deadlines are acted on only after that, and a single
/// poll may not return all events, or none because of a signal.
fn poll(
    engine: &mut Engine,
    mut timeout: Option<Duration>,
    environment: &mut impl Environment,
) -> io::Result<()> {
    for _ in 0..POLLS_PER_TURN_MAX {
        if !environment.poll_once(engine, timeout)? {
            break;
        }
        timeout = Some(Duration::ZERO);
    }
    Ok(())
}

/// Runs the phases of a turn that has begun. Returns whether the server has stopped: no listener, no session.
pub(crate) fn turn(
    engine: &mut Engine,
    buf: &mut [u8],
    handler: &mut impl Handler,
    environment: &mut impl Environment,
) -> io::Result<bool> {
    engine.evict_excess_handshakes();
    environment.accept(engine, handler, false);
    engine.read(buf, handler);
    engine.expire(buf, handler);
    engine.flush(handler);
    reap(engine, handler, environment);
    match engine.stop_state() {
        Stop::No => return Ok(false),
        Stop::Asked => {
            drain_backlog(engine, buf, handler, environment)?;
            if engine.stop_state() == Stop::Asked {
                let sessions = engine.count();
                log::info!("stopping: closing {sessions} sessions with code 1001");
                environment.close_listeners();
                engine.begin_stop();
            }
            // Else a handler has asked again: at once, in the next turn.
        }
        Stop::Until(end) if end <= engine.now() => {
            let sessions = engine.len();
            log::warn!("stopping: terminating {sessions} sessions after shutdown_grace");
            engine.terminate_all();
        }
        Stop::Until(_) => {}
        Stop::Now => {
            environment.close_listeners();
            engine.terminate_all();
            reap(engine, handler, environment);
        }
    }
    Ok(engine.is_stopping() && engine.len() == 0)
}

fn reap(engine: &mut Engine, handler: &mut impl Handler, environment: &mut impl Environment) {
    #[cfg(test)]
    environment.before_reap(engine);
    // Closing the descriptor would do as well, but a stream that is not closed yet, as one with a duplicate elsewhere,
    // would go on to give events.
    if engine.reap(handler, |stream| environment.deregister(stream)) > 0 {
        environment.retry_accept();
    }
}

/// Accepts all connections that wait in a backlog, and answers the requests that have arrived: closing a listener resets the
/// connections in its backlog, whose systems told them that they are connected. Connections that come between the last
/// accept and the close are reset all the same, unless the system hands them to another listener of the same port
/// (net.ipv4.tcp_migrate_req on Linux).
fn drain_backlog(
    engine: &mut Engine,
    buf: &mut [u8],
    handler: &mut impl Handler,
    environment: &mut impl Environment,
) -> io::Result<()> {
    environment.accept(engine, handler, true);
    poll(engine, Some(Duration::ZERO), environment)?;
    for _ in 0..LAST_READS_MAX {
        if engine.read_queue.is_empty() {
            break;
        }
        engine.read(buf, handler);
    }
    Ok(())
}

/// Read phases before a stop. Each reads what a turn reads, some 10 000 requests; sessions that never fall silent are closed
/// all the same.
const LAST_READS_MAX: usize = 16;

/// Polls before the phases of a turn. With the 1024 events that the server's poll returns, that is events of 131 072 sockets;
/// others wait for the next turn.
const POLLS_PER_TURN_MAX: usize = 128;
