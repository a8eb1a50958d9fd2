//! The invariants that the simulation checks: after every turn ([`turn`]), at the end of every session ([`session`]) and at the
//! end of a run ([`everything_is_released`]).

use super::model::{HEADER_BYTES_MAX, Model, TOPICS};
use super::peer::Peer;
use super::run::HAS_ADDRESSES;
use crate::config::Config;
use crate::engine::Engine;
use crate::engine::deadlines::{Deadline, Millis};
use crate::engine::paths::Paths;
use crate::engine::session::{AddressState, InputEnd, Kind, Peer as Address, Phase, Session};
use crate::id::Id;
use crate::outbound::CHUNK_BYTES;
use crate::proto::Stage;
use std::collections::{BTreeSet, HashMap};

mod received;

pub(super) use received::session;

/// Upper bounds that follow from the limits of a run.
#[derive(Debug)]
pub(super) struct Bounds {
    /// Maximum unsent bytes that a session owns, which excludes the logs of topics.
    owned_bytes_max: usize,
    /// Maximum bytes of a session that are read and not processed.
    unprocessed_bytes_max: usize,
    lag_bytes_max: usize,
    replay_bytes_max: usize,
    connections_per_address_max: usize,
    handshake_timeout: u64,
}

impl Bounds {
    /// Computes the bounds. `len_max`: maximum payload bytes of the handler's messages.
    pub(super) fn new(config: &Config, len_max: usize) -> Self {
        let message_bytes = config.message_bytes_max.max(len_max) + HEADER_BYTES_MAX;
        let sent = (config.high_water_bytes + message_bytes).max(config.backlog_bytes_max);
        // The pongs for the input of one turn are not longer than that input. When a member lags, the rest of a partly sent
        // publication can be copied from the topic's log to the session's own bytes.
        let read = config.read_budget_bytes + config.receive_buffer_bytes;
        Self {
            owned_bytes_max: sent + read + message_bytes + CONTROL_BYTES,
            unprocessed_bytes_max: config.receive_buffer_bytes,
            lag_bytes_max: config.lag_bytes_max,
            replay_bytes_max: config.replay_bytes_max,
            connections_per_address_max: config.connections_per_address_max.unwrap_or(usize::MAX),
            handshake_timeout: config.handshake_timeout.as_millis() as u64,
        }
    }
}

/// Checks after a turn that no session waits for an event that will not come, and that nothing exceeds its bound.
pub(super) fn turn(engine: &Engine, peers: &[Peer], model: &Model, bounds: &Bounds) {
    assert_eq!(engine.count(), model.open_count);
    let next_timer = model.timers.first_key_value();
    assert!(
        next_timer.is_none_or(|((due, _), _)| *due >= engine.now),
        "a timer was due"
    );
    for peer in peers {
        let Some(session) = engine.session(peer.id) else {
            assert!(peer.socket.lock().is_dropped(), "a session was lost");
            continue;
        };
        check_session_bytes(session, model, bounds);
        if !engine.has_work() {
            check_wakeup(engine, session, peer);
        }
        if session.kind == Kind::Requesting {
            let deadline = model.connected_at[&peer.id] + bounds.handshake_timeout;
            assert!(engine.now < deadline, "handshake_timeout has passed");
        }
    }
    check_addresses(engine, bounds);
    check_log_bytes(engine, model, bounds);
    if !engine.has_work() {
        let next_in = engine.deadlines.next_in(engine.now as Millis);
        assert_ne!(next_in, Some(0), "a deadline was due");
    }
}

/// Checks that each connection with an address is counted for it once, and that no address is above its limit.
fn check_addresses(engine: &Engine, bounds: &Bounds) {
    let mut counts = HashMap::new();
    for (_, session) in &engine.sessions {
        let may_be_uncounted = match session.kind {
            Kind::Requesting => session.address_state == AddressState::Awaited,
            // Refused, or ended before its request.
            Kind::Answered | Kind::Surplus | Kind::Reported => true,
            Kind::Opened | Kind::Ended => false,
        };
        if session.address_state == AddressState::Counted {
            *counts.entry(session.peer.ip()).or_insert(0) += 1;
        } else {
            assert!(session.peer == Address::Unknown || may_be_uncounted || !HAS_ADDRESSES);
        }
    }
    let total = counts.values().sum::<usize>();
    let counted = engine.connections_by_address();
    assert_eq!(counted, HAS_ADDRESSES.then_some(total as u64));
    let largest = counts.values().max();
    assert!(largest.is_none_or(|count| *count <= bounds.connections_per_address_max));
}

/// Checks that a session waits only for events that will come. Called when the engine has no work left.
fn check_wakeup(engine: &Engine, session: &Session, peer: &Peer) {
    let socket = peer.socket.lock();
    let deadline = engine.deadlines.kind(peer.id.slot as usize);
    assert!(!session.wants_input(), "unread input without work");
    assert!(
        session.is_blocked || session.outbound.is_empty(),
        "unsent bytes, and not blocked"
    );
    if session.is_blocked {
        assert!(
            socket.will_report_writable(),
            "blocked, and the poll will not report it as writable"
        );
    }
    if !session.outbound.is_empty() {
        assert_eq!(
            deadline,
            Some(Deadline::Write),
            "unsent bytes without a deadline"
        );
    }
    if socket.has_input() && !socket.will_report_readable() && session.input_end != InputEnd::Read {
        assert!(
            session.is_readable,
            "unread input that the poll will not report"
        );
    }
    if session.is_above_high_water {
        assert!(!session.outbound.is_empty(), "paused without unsent bytes");
    }
    let idle = engine.limit_sets.idle(session.limits);
    let has_idle_timeout = engine.deadlines.idle_wait(idle).is_some();
    let may_wait = !has_idle_timeout && session.kind == Kind::Opened;
    assert!(deadline.is_some() || may_wait, "no deadline at all");
}

/// Checks the unsent and the unprocessed bytes of a session.
fn check_session_bytes(session: &Session, model: &Model, bounds: &Bounds) {
    let (len, log_len) = (session.outbound.len(), session.outbound.log_len());
    // The limit is checked before new publications are added to a session's queue, so the queue may then exceed it. A round
    // over all members takes up to 20 turns, most of which publish little. A session that does nothing itself, because it is
    // paused, waits for the whole round: up to 6 times the bytes of the turn that published most are added then.
    let lag_max = bounds.lag_bytes_max + 8 * model.published_bytes_max;
    assert!(
        log_len <= lag_max,
        "{log_len} unsent bytes of logs, maximum {lag_max}"
    );
    let len_max = bounds.owned_bytes_max + lag_max;
    assert!(len <= len_max, "{len} unsent bytes, maximum {len_max}");
    let unprocessed = session.extra.as_ref().map_or(0, |extra| {
        extra.unprocessed.bytes.len() - extra.unprocessed.start
    });
    assert!(unprocessed <= bounds.unprocessed_bytes_max, "{unprocessed}");
}

/// Checks the memory of the logs of all topics. A log retains the bytes that are unsent to its slowest member, which the lag
/// limit bounds. It also retains the bytes that are unsent to sessions that have left the topic, but nothing that was published
/// after they left. Logs are stored in chunks: two for each topic, and one for each session that has left, may be partly used.
fn check_log_bytes(engine: &Engine, model: &Model, bounds: &Bounds) {
    let member = bounds.lag_bytes_max + 2 * CHUNK_BYTES;
    let has_left = |session: &Session, id: Id| {
        let is_open = session.phase == Phase::Live && session.connection.stage() == Stage::Open;
        !is_open || model.sessions[&id].has_left_topic
    };
    let left = engine.sessions.iter().filter_map(|(slot, session)| {
        let log_len = session.outbound.log_len();
        let has_backlog = log_len > 0 && has_left(session, engine.id_of(slot));
        has_backlog.then_some(log_len + CHUNK_BYTES)
    });
    let replay = 2 * bounds.replay_bytes_max;
    let retained_max =
        TOPICS.len() * member + 2 * model.published_bytes_max + left.sum::<usize>() + replay;
    let retained = engine.topics.capacity();
    assert!(
        retained <= retained_max,
        "logs retain {retained} bytes, maximum {retained_max}"
    );
}

/// Returns those of the sessions to be reaped that have sent everything and read the end of the stream. Called before the reap
/// phase.
pub(super) fn complete_sessions(engine: &Engine) -> BTreeSet<Id> {
    let is_complete = |id: &&Id| {
        let session = engine.session(**id).expect("reaped only after this");
        assert_eq!(session.phase, Phase::Dead);
        session.input_end == InputEnd::Read && session.outbound.is_empty()
    };
    engine
        .reap_queue
        .iter()
        .filter(is_complete)
        .copied()
        .collect()
}

/// Checks at the end of a run that the engine is as empty as at the start.
pub(super) fn everything_is_released(engine: &Engine, model: &Model) {
    assert_eq!(engine.len(), 0);
    assert_eq!(engine.counts(), [0, 0, 0]);
    assert_eq!((engine.topics.count(), engine.topics.capacity()), (0, 0));
    assert_eq!(engine.deadlines.next_in(engine.now as Millis), None);
    assert!(engine.timers.is_empty());
    let later = (
        engine.buffers.next_in(),
        engine.session_log.next_in(engine.now),
    );
    assert_eq!(later, (None, None));
    assert!(engine.read_queue.is_empty() && engine.flush_queue.is_empty());
    assert!(engine.long_read_queue.is_empty() && engine.deferred.is_empty());
    assert!(engine.large_queue.is_empty());
    assert_eq!(engine.topics.unclaimed_len(), 0);
    assert!(engine.reap_queue.is_empty());
    assert_eq!(engine.connections_by_address().unwrap_or(0), 0);
    let paths = format!("{:?}", engine.paths);
    assert_eq!(paths, format!("{:?}", Paths::default()));
    assert_eq!(model.open_count, 0, "on_open without on_close");
}

/// Upper bound for a Close, a few pings and an HTTP response.
const CONTROL_BYTES: usize = 1024;
