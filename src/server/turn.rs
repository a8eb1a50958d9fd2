//! One turn after its poll: accept, read, expire, flush, reap, and the stop. The server, the test harness, the unit tests and
//! the simulation all run it; what differs between them is an [`Environment`].

use crate::engine::{Engine, Stop};
use crate::handler::Handler;
use crate::stream::Stream;
use std::io;

/// What a turn needs from outside of the engine: listeners and a poll. The defaults have neither.
pub(crate) trait Environment {
    /// Accepts connections that wait, and inserts them into the engine. `is_last`: all of them, because the listeners are
    /// about to be closed.
    fn accept(&mut self, engine: &mut Engine, handler: &mut impl Handler, is_last: bool) {
        let _ = (engine, handler, is_last);
    }

    /// Marks all sessions for which there are events by now, without waiting.
    fn poll_now(&mut self, engine: &mut Engine) -> io::Result<()> {
        let _ = engine;
        Ok(())
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

/// Runs the phases of a turn. Returns whether the server has stopped: no listener, no session.
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
    environment.poll_now(engine)?;
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
