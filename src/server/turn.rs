//! The order of the phases of a turn: its poll ([`begin`]), then accept, read, expire, flush, reap, and the steps of
//! a stop ([`turn`]).
//!
//! The server, the test harness, the unit tests and the simulation all call both functions. They differ in their
//! [`Environment`].

use crate::context::Context;
use crate::engine::{Engine, Stop};
use crate::handler::Handler;
use crate::stream::Stream;
use std::io;
use std::mem;
use std::time::Duration;

/// The listeners and the poll of a turn. The default methods are those of an environment without them.
pub(crate) trait Environment {
    /// Accepts connections and inserts them into the engine. `is_last`: the listeners are about to be closed, so the
    /// whole backlog is to be accepted.
    fn accept(&mut self, engine: &mut Engine, handler: &mut impl Handler, is_last: bool) {
        let _ = (engine, handler, is_last);
    }

    /// Waits for events, for at most `timeout` (`None`: without a limit), and marks their sessions. Returns whether
    /// there may be more events already.
    fn poll_once(&mut self, engine: &mut Engine, timeout: Option<Duration>) -> io::Result<bool> {
        let _ = (engine, timeout);
        Ok(false)
    }

    /// Called before the reap phase, for checks of the sessions that have ended.
    #[cfg(test)]
    fn before_reap(&mut self, engine: &Engine) {
        let _ = engine;
    }

    /// Removes the stream of an ended session from the poll.
    fn deregister(&mut self, stream: &mut Stream) {
        let _ = stream;
    }

    /// Called when descriptors have become free: accept, which failed before, may succeed now.
    fn retry_accept(&mut self) {}

    /// Closes the listeners.
    fn close_listeners(&mut self) {}

    /// Returns the connection to the broker, if there is one.
    #[cfg(feature = "backplane")]
    fn backplane(&mut self) -> Option<&mut dyn crate::backplane::Backplane> {
        None
    }
}

/// Waits for events, at most `timeout`, marks what all of them report, and begins the turn at the time that `clock`
/// returns after that, in milliseconds.
pub(crate) fn begin(
    engine: &mut Engine,
    timeout: Option<Duration>,
    clock: impl FnOnce() -> u64,
    environment: &mut impl Environment,
) -> io::Result<()> {
    poll(engine, timeout, environment)?;
    engine.begin_turn(clock());
    if engine.has_due_deadline() {
        // Input that has arrived by now can still meet its deadline: the process may have been suspended between the
        // poll and the reading of the clock.
        poll(engine, Some(Duration::ZERO), environment)?;
    }
    Ok(())
}

/// Waits for events, at most `timeout`, and marks what all of them report. Repeats the poll until there are no more
/// events: a single poll can return only some of them, or none because a signal interrupted it, and deadlines must not
/// be acted on while events are missing.
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
    engine.call_ready_sources(handler);
    #[cfg(feature = "backplane")]
    if let Some(backplane) = environment.backplane() {
        let received = engine.receive_shared(backplane, handler);
        received.map_err(io::Error::other)?;
    }
    engine.evict_excess_handshakes();
    environment.accept(engine, handler, false);
    engine.read(buf, handler);
    engine.expire(buf, handler);
    #[cfg(feature = "backplane")]
    if let Some(backplane) = environment.backplane() {
        engine.send_shared(backplane);
    }
    engine.flush(handler);
    reap(engine, handler, environment);
    match engine.stop_state() {
        Stop::No => return Ok(false),
        Stop::Asked => {
            drain_backlog(engine, buf, handler, environment)?;
            announce_stop(engine, handler);
            if engine.stop_state() == Stop::Asked {
                let sessions = engine.count();
                let spread = match engine.config.stop_spread {
                    Duration::ZERO => String::new(),
                    // Floating-point numbers in one log line would add 15 KB to the smallest program.
                    spread => format!(
                        " within {}.{:03} s",
                        spread.as_secs(),
                        spread.subsec_millis()
                    ),
                };
                log::info!("stopping: closing {sessions} sessions with code 1001{spread}");
                environment.close_listeners();
                engine.begin_stop();
            }
            // Otherwise a handler has requested a second stop meanwhile. The next turn terminates all sessions.
        }
        Stop::Spreading(_) => engine.close_due(),
        Stop::Until(end) if end <= engine.now() => {
            let sessions = engine.len();
            log::warn!(
                "stopping: terminating {sessions} sessions that have not closed within shutdown_grace"
            );
            engine.terminate_all();
        }
        Stop::Until(_) => {}
        Stop::Now => {
            announce_stop(engine, handler);
            environment.close_listeners();
            engine.terminate_all();
            reap(engine, handler, environment);
        }
    }
    let has_stopped = engine.is_stopping() && engine.len() == 0;
    #[cfg(feature = "backplane")]
    if has_stopped && let Some(backplane) = environment.backplane() {
        engine.end_sharing(backplane);
    }
    Ok(has_stopped)
}

/// Calls `on_stop`, unless it was called before.
fn announce_stop(engine: &mut Engine, handler: &mut impl Handler) {
    // Set before the call, so that a panic in it is not repeated.
    if !mem::replace(&mut engine.is_stop_announced, true) {
        handler.on_stop(&mut Context::new(engine));
    }
}

/// Runs the reap phase, and retries accept if it has freed descriptors.
fn reap(engine: &mut Engine, handler: &mut impl Handler, environment: &mut impl Environment) {
    #[cfg(test)]
    environment.before_reap(engine);
    // Closing a descriptor removes it from the poll, but only if it has no duplicate: otherwise its events would
    // continue.
    if engine.reap(handler, |stream| environment.deregister(stream)) > 0 {
        environment.retry_accept();
    }
}

/// Accepts all connections in the backlogs, and answers the requests that have arrived.
///
/// Closing a listener resets the connections in its backlog, which are established from the clients' point of view.
/// Connections that arrive between the last accept and the close are still reset, unless the system moves them to
/// another listener of the same port (net.ipv4.tcp_migrate_req on Linux).
fn drain_backlog(
    engine: &mut Engine,
    buf: &mut [u8],
    handler: &mut impl Handler,
    environment: &mut impl Environment,
) -> io::Result<()> {
    environment.accept(engine, handler, true);
    poll(engine, Some(Duration::ZERO), environment)?;
    for _ in 0..BACKLOG_READS_MAX {
        if engine.read_queue.is_empty() {
            break;
        }
        engine.read(buf, handler);
    }
    Ok(())
}

/// Maximum read phases before a stop. Each reads as much as a turn, some 10 000 requests. The limit ends the reading of
/// sessions that send continuously.
const BACKLOG_READS_MAX: usize = 16;

/// Maximum polls in one turn. With the 1 024 events that a poll of the server returns, these are the events of 131 072
/// sockets. Further events are polled in the next turn.
const POLLS_PER_TURN_MAX: usize = 128;
