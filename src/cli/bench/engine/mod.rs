//! Runs the load: one poll loop over all connections, through warm-up, measurement and drain.

mod traffic;

use super::connect::Opened;
use super::connection::LoadConnection;
use super::cycle::Cycle;
use super::greetings::{Greetings, Held};
use super::process::Process;
use super::progress::{Progress, Stage};
use super::schedule::{Pace, Rounds, Schedule, Window};
use super::tally::{self, Errors, Latency, Tally, Totals};
use super::timeline::Timeline;
use super::{Clock, SIGNALS, Signals};
use crate::cli::args::{Bench, Load};
use crate::cli::client::Stream;
use mio::{Events, Poll};
use std::io;
use std::time::Duration;

/// A running load. Times are in nanoseconds since the start of `clock`.
pub(super) struct Engine<'b> {
    bench: &'b Bench,
    process: Option<&'b Process>,
    requests: &'b Cycle,
    expected: &'b Cycle,
    clock: Clock,
    /// `None` for a lost connection.
    connections: Vec<Option<LoadConnection<Stream>>>,
    /// Number of connections that are not lost.
    live: usize,
    /// For each connection, the later of two times: when bytes were last received, and when a message was last sent
    /// while no answer was expected. While answers are expected, the time since then must stay below `--timeout`.
    waiting_since: Vec<u64>,
    schedule: Schedule,
    greetings: Greetings,
    phase: Phase,
    /// Counts of the current phase. Only those of [`Phase::Measure`] are reported, except that with [`Schedule::Pace`]
    /// the latencies of [`Phase::Drain`] are included.
    tally: Tally,
    /// Messages received in [`Phase::Drain`].
    late: u64,
    /// Messages that were sent in the measurement, or expected at its start, and will not be answered.
    unanswered: u64,
    /// `None` without `--chart`.
    timeline: Option<Timeline>,
    errors: Errors,
    first_error: Option<String>,
    buf: Vec<u8>,
    /// Connections that have spent their read budget of the turn and may have more input.
    unread: Vec<usize>,
    /// Connections that must send, and how many messages. Empty between turns; a field so that its memory is reused.
    due: Vec<(usize, u64)>,
}

/// Phase of a run, in their order.
///
/// `WarmUp` and `Measure` last until `until`. With [`Schedule::Rounds`] they last longer, until the current round is
/// complete.
#[derive(Clone, Copy)]
enum Phase {
    /// Nothing is reported except errors.
    WarmUp { until: u64 },
    Measure {
        until: u64,
        /// CPU time of the server's process in nanoseconds when the measurement started.
        cpu: Option<u64>,
    },
    /// No new message is sent. Expected answers are received until `until`; except with [`Schedule::Rounds`] the phase
    /// ends earlier when all have arrived.
    Drain { until: u64 },
}

/// Result of a run.
pub(super) struct Outcome {
    /// `None` if the run ended before the measurement started.
    pub(super) totals: Option<Totals>,
    /// CPU time that the server's process used during the measurement.
    pub(super) cpu_nanos: Option<u64>,
    /// Number of messages that were skipped as greetings.
    pub(super) greetings: u64,
    /// `None` without `--chart`.
    pub(super) timeline: Option<Timeline>,
    pub(super) errors: Errors,
    /// Description of the first error.
    pub(super) first_error: Option<String>,
    /// The connections that were not lost, still open.
    pub(super) connections: Vec<LoadConnection<Stream>>,
    pub(super) end: End,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The time of the run elapsed.
    Time,
    /// SIGINT or SIGTERM arrived.
    Signal,
    /// All connections, or with [`Schedule::Rounds`] all those that send, were lost.
    Lost,
}

impl<'b> Engine<'b> {
    pub(super) fn new(
        bench: &'b Bench,
        process: Option<&'b Process>,
        requests: &'b Cycle,
        expected: &'b Cycle,
        opened: Opened,
    ) -> Self {
        let clock = Clock::start();
        let live = opened.connections.len();
        let schedule = match bench.load {
            Load::InFlight(in_flight) => Schedule::Window(Window::new(live, in_flight)),
            Load::Rate(rate) => Schedule::Pace(Pace::new(live, rate, clock.now())),
            Load::Broadcast { senders, burst } => {
                Schedule::Rounds(Rounds::new(live, senders.min(live), burst))
            }
        };
        Self {
            bench,
            process,
            requests,
            expected,
            clock,
            connections: opened.connections.into_iter().map(Some).collect(),
            live,
            waiting_since: vec![0; live],
            schedule,
            greetings: Greetings::new(bench.skip_greeting, &opened.greetings, nanos(bench.timeout)),
            phase: Phase::WarmUp {
                until: nanos(bench.warmup),
            },
            tally: Tally::new(0, 0),
            late: 0,
            unanswered: 0,
            timeline: bench
                .chart
                .is_some()
                .then(|| Timeline::new(nanos(bench.duration))),
            errors: Errors {
                connect: opened.errors,
                ..Errors::default()
            },
            first_error: opened.first_error,
            buf: vec![0; READ_BUF_BYTES],
            unread: Vec::new(),
            due: Vec::new(),
        }
    }

    /// Runs until the time has elapsed, a signal arrives, or no sending connection is left.
    ///
    /// # Errors
    /// Returns an error of the poll. Errors of connections are counted instead.
    pub(super) fn run(mut self, poll: &mut Poll, signals: &mut Signals) -> io::Result<Outcome> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN_MAX);
        let mut progress = Progress::new();
        let mut next_scan = 0;
        let mut totals = None;
        let mut cpu_nanos = None;
        let mut released = Vec::new();
        let scan_interval = nanos(self.bench.timeout / 4).min(SCAN_INTERVAL);
        self.fill_windows();
        let end = loop {
            let now = self.clock.now();
            if now >= next_scan {
                next_scan = now + scan_interval;
                self.expire(now);
                progress.show(now, &self.tally, || self.stage(now));
            }
            self.release_held(now, &mut released);
            if self.has_no_senders() {
                break End::Lost;
            }
            if self.may_change_phase()
                && let Some(finished) = self.advance_phase(now)
            {
                (totals, cpu_nanos) = finished;
            }
            if self.is_drained(now) {
                break End::Time;
            }
            self.send_due(now);
            let wait = self.wait(now, next_scan);
            match poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            }
            let mut has_signal = false;
            for event in &events {
                if event.token() == SIGNALS {
                    has_signal |= signals.pending().count() > 0;
                    continue;
                }
                if event.is_writable() {
                    self.unblock(event.token().0);
                }
                if event.is_readable() || event.is_read_closed() || event.is_error() {
                    let is_ended = event.is_read_closed() || event.is_error();
                    self.read(event.token().0, is_ended);
                }
            }
            for index in std::mem::take(&mut self.unread) {
                self.read(index, false);
            }
            if has_signal {
                break End::Signal;
            }
        };
        progress.clear();
        let now = self.clock.now();
        self.record_all_unanswered(now);
        if let Phase::Measure { cpu, .. } = self.phase {
            (totals, cpu_nanos) = self.finish_tally(now, cpu);
        } else if let (Some(totals), Schedule::Pace(_)) = (&mut totals, &self.schedule) {
            totals.latency = Latency::of(&self.tally.latencies);
            if let Some(timeline) = &mut self.timeline {
                timeline.set_latencies(&self.tally.latencies);
            }
        }
        if end == End::Time {
            self.count_missing();
        }
        if let Some(totals) = &mut totals {
            (totals.late, totals.never) = (self.late, self.unanswered);
        }
        Ok(Outcome {
            totals,
            cpu_nanos,
            greetings: self.greetings.skipped(),
            timeline: self.timeline,
            errors: self.errors,
            first_error: self.first_error,
            connections: self.connections.into_iter().flatten().collect(),
            end,
        })
    }

    /// With [`Schedule::Window`], sends the first messages on each connection.
    fn fill_windows(&mut self) {
        if let Schedule::Window(window) = &self.schedule {
            let in_flight = window.in_flight;
            for index in 0..self.connections.len() {
                let now = self.clock.now();
                self.send(index, in_flight, now);
            }
        }
    }

    /// Returns whether a phase may end now. A round is never divided between two phases.
    fn may_change_phase(&self) -> bool {
        match &self.schedule {
            Schedule::Window(_) | Schedule::Pace(_) => true,
            Schedule::Rounds(rounds) => rounds.is_complete(),
        }
    }

    /// Starts the next phase if the current one has ended. Returns the result of the measurement, as
    /// [`finish_tally`](Self::finish_tally) does, when the measurement has ended.
    fn advance_phase(&mut self, now: u64) -> Option<(Option<Totals>, Option<u64>)> {
        match self.phase {
            Phase::WarmUp { until } if now >= until => {
                self.start_measurement();
                None
            }
            Phase::Measure { until, cpu }
                if now >= until && self.tally.messages == 0 && self.greetings.is_holding(now) =>
            {
                // The phase starts again if what is held are answers.
                let until = self.greetings.next_release().unwrap_or(now);
                self.phase = Phase::Measure { until, cpu };
                None
            }
            Phase::Measure { until, cpu } if now >= until => {
                let latencies = self.tally.latencies.clone();
                let finished = self.finish_tally(now, cpu);
                if let Schedule::Pace(_) = self.schedule {
                    // A message that was due during the measurement counts, no matter when its answer arrives.
                    self.tally.latencies = latencies;
                }
                let wait = match self.schedule {
                    Schedule::Window(_) | Schedule::Pace(_) => nanos(self.bench.timeout),
                    Schedule::Rounds(_) => SURPLUS_WAIT,
                };
                self.cancel_unstarted(now);
                self.phase = Phase::Drain { until: now + wait };
                Some(finished)
            }
            Phase::WarmUp { .. } | Phase::Drain { .. } => None,
            Phase::Measure { .. } => {
                if now >= self.tally.next_sample() {
                    self.tally.sample(now);
                    if let Some(timeline) = &mut self.timeline {
                        timeline.sample(now, &self.tally);
                    }
                }
                None
            }
        }
    }

    fn start_measurement(&mut self) {
        let cpu = self.cpu();
        let now = self.clock.now();
        self.tally = Tally::new(now, self.awaited());
        self.unanswered = 0;
        if let Some(timeline) = &mut self.timeline {
            timeline.clear();
        }
        let until = now + nanos(self.bench.duration);
        self.phase = Phase::Measure { until, cpu };
    }

    /// Counts messages as answers that were held as possible greetings. If the server turns out to be one that answers
    /// with other content than it receives, starts the phase again: until now, no connection has sent more than its
    /// first messages.
    fn release_held(&mut self, now: u64, released: &mut Vec<Held>) {
        if self
            .greetings
            .next_release()
            .is_none_or(|release| now < release)
        {
            return;
        }
        let is_decided = self.greetings.release(now, released);
        let has_no_messages = self.tally.messages == 0;
        for held in released.drain(..) {
            self.answer(held, held.messages, now);
        }
        if !is_decided {
            return;
        }
        match self.phase {
            Phase::WarmUp { .. } => {
                let until = self.clock.now() + nanos(self.bench.warmup);
                self.phase = Phase::WarmUp { until };
            }
            Phase::Measure { .. } if has_no_messages && self.may_change_phase() => {
                self.start_measurement();
            }
            Phase::Measure { .. } | Phase::Drain { .. } => {}
        }
    }

    fn stage(&self, now: u64) -> Stage {
        match self.phase {
            Phase::WarmUp { .. } => Stage::WarmUp,
            Phase::Measure { .. } => Stage::Measure(
                tally::seconds(now - self.tally.started()),
                self.bench.duration.as_secs_f64(),
            ),
            Phase::Drain { .. } => Stage::Drain(self.awaited()),
        }
    }

    /// Ends the measurement. Returns its totals, and the CPU time that the server's process used in it.
    fn finish_tally(&mut self, now: u64, cpu: Option<u64>) -> (Option<Totals>, Option<u64>) {
        let used = cpu.and_then(|before| Some(self.cpu()?.saturating_sub(before)));
        let unstarted = self
            .connections
            .iter()
            .flatten()
            .map(LoadConnection::unstarted)
            .sum();
        if let Some(timeline) = &mut self.timeline {
            timeline.finish(now, &self.tally);
        }
        let tally = std::mem::replace(&mut self.tally, Tally::new(now, 0));
        (Some(tally.finish(now, unstarted)), used)
    }

    fn cpu(&self) -> Option<u64> {
        self.process?.cpu_nanos().ok()
    }

    /// Cancels the messages of which no byte is written, and returns their number. Called when the measurement ends, and
    /// when a round is abandoned.
    fn cancel_unstarted(&mut self, now: u64) -> u64 {
        let mut cancelled = 0;
        for index in 0..self.connections.len() {
            if let Some(connection) = &mut self.connections[index] {
                let messages = connection.cancel_unstarted();
                self.record_unanswered(index, messages, now);
                self.schedule.cancel(index, messages);
                cancelled += messages;
            }
        }
        cancelled
    }

    /// With [`Schedule::Pace`], records the time that the newest `messages` of a connection have waited as their
    /// latency, since they will not be answered.
    #[inline(never)]
    fn record_unanswered(&mut self, index: usize, messages: u64, now: u64) {
        if let Schedule::Pace(pace) = &self.schedule {
            pace.record_unanswered(index, messages, now, &mut self.tally.latencies);
        }
    }

    /// Records the latencies of all messages that are unanswered at the end of the run.
    fn record_all_unanswered(&mut self, now: u64) {
        for index in 0..self.connections.len() {
            if self.connections[index].is_some() {
                self.record_unanswered(index, self.schedule.awaited(index), now);
            }
        }
    }

    /// Returns whether the drain has ended: all expected answers have arrived, or its time has elapsed.
    fn is_drained(&self, now: u64) -> bool {
        let Phase::Drain { until } = self.phase else {
            return false;
        };
        match self.schedule {
            Schedule::Window(_) | Schedule::Pace(_) => now >= until || self.awaited() == 0,
            // The last round is complete, so no answer is expected. Surplus messages may still arrive.
            Schedule::Rounds(_) => now >= until,
        }
    }

    /// Returns the number of messages that the live connections expect.
    fn awaited(&self) -> u64 {
        let connections = self.connections.iter().enumerate();
        let live = connections.filter(|(_, connection)| connection.is_some());
        live.map(|(index, _)| self.schedule.awaited(index)).sum()
    }

    fn count_missing(&mut self) {
        let awaited = self.awaited();
        self.errors.missing += awaited;
        self.unanswered += awaited;
    }

    /// Returns whether all connections that send are lost.
    fn has_no_senders(&self) -> bool {
        match &self.schedule {
            Schedule::Window(_) | Schedule::Pace(_) => self.live == 0,
            Schedule::Rounds(rounds) => !rounds.has_senders(),
        }
    }

    /// Sends the messages that are due, or those of the next round if the last one is complete.
    fn send_due(&mut self, now: u64) {
        if let Phase::Drain { .. } = self.phase {
            return;
        }
        let mut due = std::mem::take(&mut self.due);
        match &mut self.schedule {
            Schedule::Window(_) => {}
            Schedule::Pace(pace) => {
                pace.send_due(now, |index, messages| due.push((index, messages)))
            }
            Schedule::Rounds(rounds) => {
                if rounds.is_complete() {
                    rounds.start(now, |index, messages| due.push((index, messages)));
                }
            }
        }
        for (index, messages) in due.drain(..) {
            self.send(index, messages, now);
        }
        self.due = due;
    }

    /// Returns the maximum time to wait for events.
    fn wait(&self, now: u64, next_scan: u64) -> Duration {
        if !self.unread.is_empty() {
            return Duration::ZERO;
        }
        let mut next = next_scan;
        if let Some(release) = self.greetings.next_release() {
            next = next.min(release);
        }
        match self.phase {
            Phase::WarmUp { until } | Phase::Drain { until } => next = next.min(until),
            Phase::Measure { until, .. } => {
                next = next.min(until).min(self.tally.next_sample());
            }
        }
        if let (Schedule::Pace(pace), Phase::WarmUp { .. } | Phase::Measure { .. }) =
            (&self.schedule, self.phase)
        {
            let due = pace.next_due();
            // The poll sleeps for whole milliseconds, rounded up. The rest, less than a millisecond, is spent polling
            // without a wait: otherwise the load generator itself would send late.
            next = next.min(due.saturating_sub(MILLISECOND).max(now));
            if due < now + MILLISECOND {
                return Duration::ZERO;
            }
            return Duration::from_millis(next.saturating_sub(now) / MILLISECOND);
        }
        Duration::from_nanos(next.saturating_sub(now))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos())
        .expect("durations of the command line are at most a day, and a u64 holds 584 years")
}

/// Nanoseconds per millisecond.
const MILLISECOND: u64 = 1_000_000;

/// Maximum time between two searches for silent connections, which also update the progress line.
const SCAN_INTERVAL: u64 = 500 * MILLISECOND;

/// Time to wait for surplus messages after the last round.
const SURPLUS_WAIT: u64 = 20 * MILLISECOND;

/// Maximum number of events per turn. A turn must be short for a phase to end on time.
const EVENTS_PER_TURN_MAX: usize = 256;

/// Size of the read buffer, which all connections share. A large message needs few reads, and the buffer fits in a CPU
/// cache.
const READ_BUF_BYTES: usize = 256 * 1024;
