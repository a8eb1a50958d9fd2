//! The load itself: one poll loop over all connections, through warm-up, measurement and the last answers.

mod traffic;

use super::connect::Opened;
use super::connection::LoadConnection;
use super::cycle::Cycle;
use super::process::Process;
use super::progress::Progress;
use super::schedule::{Pace, Rounds, Schedule, Window};
use super::tally::{Errors, Latency, Tally, Totals};
use super::{Clock, SIGNALS, Signals};
use crate::cli::args::{Bench, Load};
use mio::net::TcpStream;
use mio::{Events, Poll};
use std::io;
use std::time::Duration;

/// A load that is under way.
pub(super) struct Engine<'b> {
    bench: &'b Bench,
    process: Option<&'b Process>,
    requests: &'b Cycle,
    expected: &'b Cycle,
    clock: Clock,
    /// `None`: it was lost.
    connections: Vec<Option<LoadConnection<TcpStream>>>,
    live: usize,
    /// For each connection, when something last came, or it began to wait.
    waiting_since: Vec<u64>,
    schedule: Schedule,
    phase: Phase,
    /// Of the phase: what comes before the measurement is thrown away, and what comes after it, but for the latencies of
    /// a rate.
    tally: Tally,
    errors: Errors,
    first_error: Option<String>,
    buf: Vec<u8>,
    /// Connections with more to read than a turn allows.
    unread: Vec<usize>,
    /// Who is to send how many messages; empty between turns, kept for its memory.
    due: Vec<(usize, u64)>,
}

/// Until when it lasts; a load of rounds ends each phase with a round.
#[derive(Clone, Copy)]
enum Phase {
    WarmUp {
        until: u64,
    },
    Measure {
        until: u64,
        /// The server's CPU at its start.
        cpu: Option<u64>,
    },
    /// Nothing more is sent, and what is under way may arrive.
    Drain {
        until: u64,
    },
}

/// What a load gave.
pub(super) struct Outcome {
    /// `None`: it ended before the measurement began.
    pub(super) totals: Option<Totals>,
    /// The server's, while it was measured.
    pub(super) cpu_nanos: Option<u64>,
    pub(super) errors: Errors,
    pub(super) first_error: Option<String>,
    /// The connections that are left.
    pub(super) connections: Vec<LoadConnection<TcpStream>>,
    pub(super) end: End,
}

/// Why a load ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Its time was over.
    Time,
    Signal,
    /// No connection was left to send on.
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
            phase: Phase::WarmUp {
                until: nanos(bench.warmup),
            },
            tally: Tally::new(0, 0),
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

    /// Runs until its time is over, a signal comes, or all connections are lost.
    ///
    /// # Errors
    /// What the system says to polling.
    pub(super) fn run(mut self, poll: &mut Poll, signals: &mut Signals) -> io::Result<Outcome> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN_MAX);
        let mut progress = Progress::new();
        let mut next_scan = 0;
        let mut totals = None;
        let mut cpu_nanos = None;
        let scan_interval = nanos(self.bench.timeout / 4).min(SCAN_INTERVAL);
        self.fill_windows();
        let end = loop {
            let now = self.clock.now();
            if now >= next_scan {
                next_scan = now + scan_interval;
                self.expire(now);
                progress.show(
                    now,
                    &self.tally,
                    matches!(self.phase, Phase::Measure { .. }),
                );
            }
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
        }
        if end == End::Time {
            self.count_missing();
        }
        Ok(Outcome {
            totals,
            cpu_nanos,
            errors: self.errors,
            first_error: self.first_error,
            connections: self.connections.into_iter().flatten().collect(),
            end,
        })
    }

    /// The first messages of a closed loop.
    fn fill_windows(&mut self) {
        if let Schedule::Window(window) = &self.schedule {
            let in_flight = window.in_flight;
            for index in 0..self.connections.len() {
                let now = self.clock.now();
                self.send(index, in_flight, now);
            }
        }
    }

    /// Whether a phase may end now: rounds are not cut.
    fn may_change_phase(&self) -> bool {
        match &self.schedule {
            Schedule::Window(_) | Schedule::Pace(_) => true,
            Schedule::Rounds(rounds) => rounds.is_complete(),
        }
    }

    /// Goes on to the next phase, if it is time; gives what was measured when that ends.
    fn advance_phase(&mut self, now: u64) -> Option<(Option<Totals>, Option<u64>)> {
        match self.phase {
            Phase::WarmUp { until } if now >= until => {
                let cpu = self.cpu();
                let now = self.clock.now();
                self.tally = Tally::new(now, self.awaited());
                let until = now + nanos(self.bench.duration);
                self.phase = Phase::Measure { until, cpu };
                None
            }
            Phase::Measure { until, cpu } if now >= until => {
                let latencies = self.tally.latencies.clone();
                let finished = self.finish_tally(now, cpu);
                if let Schedule::Pace(_) = self.schedule {
                    // What was due in the measurement belongs to it, whenever it is answered.
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
                }
                None
            }
        }
    }

    fn finish_tally(&mut self, now: u64, cpu: Option<u64>) -> (Option<Totals>, Option<u64>) {
        let used = cpu.and_then(|before| Some(self.cpu()?.saturating_sub(before)));
        let unsent = self
            .connections
            .iter()
            .flatten()
            .map(LoadConnection::unsent)
            .sum();
        let tally = std::mem::replace(&mut self.tally, Tally::new(now, 0));
        (Some(tally.finish(now, unsent)), used)
    }

    fn cpu(&self) -> Option<u64> {
        self.process?.cpu_nanos().ok()
    }

    /// Drops what is due and not begun to be written.
    fn cancel_unstarted(&mut self, now: u64) {
        for index in 0..self.connections.len() {
            if let Some(connection) = &mut self.connections[index] {
                let messages = connection.cancel_unstarted();
                self.record_unanswered(index, messages, now);
                self.schedule.cancel(index, messages);
            }
        }
    }

    /// With a rate, the newest messages of a connection count as late, though nobody answers them.
    #[inline(never)]
    fn record_unanswered(&mut self, index: usize, messages: u64, now: u64) {
        if let Schedule::Pace(pace) = &self.schedule {
            pace.record_unanswered(index, messages, now, &mut self.tally.latencies);
        }
    }

    fn record_all_unanswered(&mut self, now: u64) {
        for index in 0..self.connections.len() {
            if self.connections[index].is_some() {
                self.record_unanswered(index, self.schedule.awaited(index), now);
            }
        }
    }

    /// Whether everything under way has arrived, or has had its time.
    fn is_drained(&self, now: u64) -> bool {
        let Phase::Drain { until } = self.phase else {
            return false;
        };
        match self.schedule {
            Schedule::Window(_) | Schedule::Pace(_) => now >= until || self.awaited() == 0,
            // All has arrived; what comes now is too much.
            Schedule::Rounds(_) => now >= until,
        }
    }

    /// Messages that the connections which are left wait for.
    fn awaited(&self) -> u64 {
        let connections = self.connections.iter().enumerate();
        let live = connections.filter(|(_, connection)| connection.is_some());
        live.map(|(index, _)| self.schedule.awaited(index)).sum()
    }

    fn count_missing(&mut self) {
        self.errors.missing += self.awaited();
    }

    fn has_no_senders(&self) -> bool {
        match &self.schedule {
            Schedule::Window(_) | Schedule::Pace(_) => self.live == 0,
            Schedule::Rounds(rounds) => !rounds.has_senders(),
        }
    }

    /// Sends what is due by time, or begins the next round.
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

    /// How long to wait for events.
    fn wait(&self, now: u64, next_scan: u64) -> Duration {
        if !self.unread.is_empty() {
            return Duration::ZERO;
        }
        let mut next = next_scan;
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
            // The poll sleeps for whole milliseconds, rounded up: the last part of one is spent awake, so that
            // nothing is late by our own fault.
            next = next.min(due.saturating_sub(MILLISECOND).max(now));
            if due < now + MILLISECOND {
                return Duration::ZERO;
            }
            return Duration::from_millis((next - now) / MILLISECOND);
        }
        Duration::from_nanos(next.saturating_sub(now))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("every TIME is at most a day")
}

const MILLISECOND: u64 = 1_000_000;

/// Between looks at who is silent, and lines of progress.
const SCAN_INTERVAL: u64 = 500 * MILLISECOND;

/// After the last round, for messages too many.
const SURPLUS_WAIT: u64 = 20 * MILLISECOND;

/// In a turn; few enough that a phase ends on time.
const EVENTS_PER_TURN_MAX: usize = 256;

/// One for all connections. Large messages need few reads, and it stays in a cache.
const READ_BUF_BYTES: usize = 256 * 1024;
