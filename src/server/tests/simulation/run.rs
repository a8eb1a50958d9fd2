//! One run of the simulation: creates peers, handler and engine from a seed, runs turns as the server does, ends all
//! sessions, and checks after each step.

#[cfg(feature = "tls")]
use super::super::tls_peer::Acceptor;
use super::Profile;
use super::check::{self, Bounds};
use super::counters::Counters;
use super::handler::{self, InjectedPanic, RandomHandler, RoutedHandler};
use super::model::{self, Model};
use super::peer::Peer;
use super::socket::{Socket, SocketStream};
#[cfg(feature = "tls")]
use super::tls::TlsClient;
use crate::config::{Config, LagPolicy, Replay};
use crate::context::Context;
use crate::engine::{Engine, Readiness, Stop};
use crate::handler::Handler;
use crate::id::Id;
use crate::network::Network;
use crate::random::Random;
use crate::server::testing::shared::Shared;
use crate::server::turn::{self, Environment};
use crate::stream::Stream;
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

/// A run; see the module.
pub(super) struct Simulation {
    random: Random,
    profile: Profile,
    engine: Engine,
    buf: Vec<u8>,
    /// The handler behind two routers. The engine calls it.
    router: RoutedHandler,
    handler: Shared<RandomHandler>,
    peers: Vec<Peer>,
    /// Ids of the last sessions that have ended. The poll still reports events for them (stale events).
    gone: Vec<Id>,
    /// Milliseconds since the start of the run.
    now: u64,
    bounds: Bounds,
    #[cfg(feature = "tls")]
    acceptor: Acceptor,
}

impl Simulation {
    pub(super) fn new(seed: u64, profile: Profile) -> Self {
        let mut random = Random::new(seed);
        let config = random_config(&mut random, &profile);
        config.check().unwrap();
        let policies = [(); model::TOPICS.len()].map(|()| match random.below(3) {
            0 => LagPolicy::Skip,
            _ => LagPolicy::Disconnect,
        });
        let mut handler = RandomHandler::new(random.fork(), Model::new(policies, &config), &config);
        handler.large_in_40 = profile.large_in_40;
        handler.large_len = profile.large_len;
        handler.topics = profile.topics;
        handler.panic_one_in = profile.panic_one_in;
        handler.may_stop = random.one_in(profile.stop_one_in);
        let handler = Shared::new(handler);
        let mut router = handler::behind_routers(&handler);
        let mut engine = Engine::new(config.clone(), None, None);
        for (topic, policy) in model::TOPICS.into_iter().zip(policies) {
            Context::new(&mut engine).set_lag_policy(topic, Some(policy));
        }
        for (topic, name) in model::TOPICS.into_iter().enumerate() {
            if random.one_in(2) {
                let replay = Some(Replay::Messages(random.below(30)));
                Context::new(&mut engine).set_replay(name, replay);
                handler.lock().model.record_replay(topic, replay);
            }
        }
        router.on_start(&mut Context::new(&mut engine));
        Self {
            random,
            profile,
            engine,
            buf: vec![0; config.receive_buffer_bytes],
            router,
            handler,
            peers: Vec::new(),
            gone: Vec::new(),
            now: 0,
            bounds: Bounds::new(&config, profile.large_len),
            #[cfg(feature = "tls")]
            acceptor: Acceptor::default(),
        }
    }

    /// Runs turns with random events, and then turns in which all sessions end. Returns the counters of the run.
    pub(super) fn run(mut self) -> Counters {
        for _ in 0..TURNS {
            self.advance_clock();
            self.handler.lock().actions_left = self.profile.actions;
            for peer in &mut self.peers {
                peer.act(&mut self.random, &self.profile);
            }
            self.turn(true);
            if self.engine.stop_state() != Stop::No && self.engine.len() == 0 {
                break;
            }
        }
        self.end_all_sessions();
        let handler = self.handler.lock();
        check::everything_is_released(&self.engine, &handler.model);
        handler.counters
    }

    /// Lets all peers read everything and end their streams, and advances the clock until all sessions have ended.
    fn end_all_sessions(&mut self) {
        self.handler.lock().actions_left = 0;
        self.handler.lock().panic_one_in = 0;
        let mut cx = Context::new(&mut self.engine);
        self.handler.lock().resume_all(&mut cx);
        for _ in 0..ENDING_TURNS_MAX {
            if self.engine.len() == 0 {
                break;
            }
            self.now += self.engine.next_in().unwrap_or(0);
            self.peers.iter_mut().for_each(Peer::leave);
            self.turn(false);
        }
        let next_in = self.engine.next_in();
        if self.engine.len() > 0 {
            panic!(
                "sessions are left after {ENDING_TURNS_MAX} turns, next deadline in {next_in:?} ms: {:#?}",
                self.peers
            );
        }
        for topic in model::TOPICS {
            Context::new(&mut self.engine).set_replay(topic, None);
        }
        // Timers, large buffers that are retained for reuse, and reports of suppressed log lines are due within one second.
        self.now += 1_001;
        self.turn(false);
        // A stop that is spread over a time ends with the grace, even if all sessions have ended before that time.
        self.now += 1_001;
        self.turn(false);
        match self.engine.stop_state() {
            Stop::No => assert_eq!(self.engine.next_in(), None, "a deadline is left"),
            stop => assert_eq!(stop, Stop::Now, "shutdown_grace has passed"),
        }
    }

    /// Advances the clock: by seconds (a suspended process), to the next deadline or just before it, or by a few milliseconds.
    fn advance_clock(&mut self) {
        let counters = &mut self.handler.lock().counters;
        let next_in = self.engine.next_in().unwrap_or(0);
        if self.profile.suspend_one_in > 0 && self.random.one_in(self.profile.suspend_one_in) {
            self.now += 1_000 + self.random.below(5_000) as u64;
            return;
        }
        self.now += match self.random.below(2 * self.profile.deadline_one_in) {
            0 if next_in > 0 => {
                counters.turns_at_deadline += 1;
                next_in
            }
            1 if next_in > 1 => {
                counters.turns_before_deadline += 1;
                next_in - 1
            }
            _ => (self.random.below(12) * self.random.below(2)) as u64,
        };
    }

    /// Runs a turn as the server does, and checks its results. If `is_busy`, clients connect, events are late, and the host
    /// program acts between two turns.
    fn turn(&mut self, is_busy: bool) {
        self.handler.lock().counters.turns += 1;
        self.handler.lock().model.begin_turn(self.now);
        self.begin(is_busy);
        if is_busy && self.random.one_in(20) {
            // Acts between two turns, as the host program and the commands of other threads do.
            let mut handler = self.handler.lock();
            handler.is_in_event = false;
            handler.act(&mut Context::new(&mut self.engine), None);
            handler.is_in_event = true;
        }
        if is_busy && self.random.one_in(self.profile.connect_one_in) {
            self.connect();
        }
        let mut environment = Observer::default();
        let Self {
            engine,
            buf,
            router,
            ..
        } = self;
        let turned = catch_unwind(AssertUnwindSafe(|| {
            turn::turn(engine, buf, router, &mut environment).unwrap()
        }));
        self.peers.iter_mut().for_each(Peer::collect);
        match turned {
            Ok(has_stopped) => {
                let Self { engine, peers, .. } = &*self;
                assert_eq!(has_stopped, engine.is_stopping() && engine.len() == 0);
                check::turn(engine, peers, &self.handler.lock().model, &self.bounds);
            }
            // A panic of the handler ended the turn early. The next turn does the work that is left.
            Err(payload) if payload.is::<InjectedPanic>() => {}
            Err(payload) => resume_unwind(payload),
        }
        self.check_ended_sessions(&environment.complete);
    }

    /// Polls the sockets and begins a turn.
    fn begin(&mut self, is_busy: bool) {
        let Self {
            random,
            engine,
            handler,
            peers,
            gone,
            now,
            ..
        } = self;
        let mut events = Events {
            random,
            handler,
            peers,
            gone,
            is_busy,
        };
        turn::begin(engine, None, || *now, &mut events).unwrap();
    }

    fn connect(&mut self) {
        // A stopping server has no listeners.
        if !matches!(self.engine.stop_state(), Stop::No | Stop::Asked) {
            return;
        }
        let writable_bytes = self.random.below(30_000);
        let socket = Socket::new(writable_bytes);
        let stream = Stream::memory(SocketStream(socket.clone()));
        #[cfg(feature = "tls")]
        let (stream, tls) = self.add_tls(stream);
        let address = ADDRESSES[self.now as usize % ADDRESSES.len()];
        let address = address.map(|ip| SocketAddr::new(ip, 9));
        match self.engine.insert(stream, address) {
            Some(id) => {
                let mut handler = self.handler.lock();
                handler.model.connected_at.insert(id, self.now);
                let is_slow = self.random.one_in(self.profile.slow_one_in);
                let peer = Peer::new(id, socket, is_slow);
                #[cfg(feature = "tls")]
                let peer = peer.with_tls(tls);
                self.peers.push(peer);
            }
            None => self.handler.lock().counters.refusals += 1,
        }
    }

    /// Returns the stream with TLS on both sides, or on none. A few clients of a TLS listener do not speak TLS.
    #[cfg(feature = "tls")]
    fn add_tls(&mut self, stream: Stream) -> (Stream, Option<Box<TlsClient>>) {
        let one_in = self.profile.tls_one_in;
        if one_in == 0 || !self.random.one_in(one_in) {
            return (stream, None);
        }
        let is_client = !self.random.one_in(30);
        let tls = is_client.then(|| Box::new(TlsClient::new(&mut self.random)));
        (self.acceptor.stream(stream), tls)
    }

    /// Checks and removes the peers of the sessions that have ended. `complete`: the sessions that have sent and read
    /// everything.
    fn check_ended_sessions(&mut self, complete: &BTreeSet<Id>) {
        let Self {
            peers,
            handler,
            gone,
            ..
        } = self;
        peers.retain(|peer| {
            if !peer.socket.lock().is_dropped() {
                return true;
            }
            let is_complete = complete.contains(&peer.id);
            check::session(peer, is_complete, &mut handler.lock());
            gone.push(peer.id);
            if gone.len() > GONE_MAX {
                gone.remove(0);
            }
            false
        });
    }
}

/// A poll of the sockets. Some events are reported late, in several parts, or for sessions that no longer exist.
struct Events<'a> {
    random: &'a mut Random,
    handler: &'a Shared<RandomHandler>,
    peers: &'a [Peer],
    gone: &'a [Id],
    is_busy: bool,
}

impl Environment for Events<'_> {
    fn poll_once(&mut self, engine: &mut Engine, _: Option<Duration>) -> io::Result<bool> {
        for peer in self.peers {
            if self.is_busy && self.random.one_in(10) {
                continue;
            }
            let readiness = peer.socket.lock().take_readiness(self.random);
            if let Some(readiness) = readiness {
                engine.mark(peer.id, readiness);
            }
            if self.random.one_in(10) {
                self.mark_stale(engine);
            }
        }
        Ok(self.random.one_in(4))
    }
}

impl Events<'_> {
    /// Marks a session that no longer exists. Checks that this changes neither the read queue nor the session that has reused
    /// the slot.
    fn mark_stale(&mut self, engine: &mut Engine) {
        let Some(id) = self.random.pick(self.gone) else {
            return;
        };
        let readiness = Readiness {
            is_readable: self.random.one_in(2),
            is_writable: self.random.one_in(2),
            is_end: self.random.one_in(2),
            is_error: false,
        };
        let successor = engine.id_at(id.slot as usize);
        let state = |engine: &Engine| {
            let session = engine.session(successor?)?;
            Some((session.is_readable, session.is_blocked, session.input_end))
        };
        let before = (state(engine), engine.read_queue.len());
        engine.mark(id, readiness);
        assert_eq!(before, (state(engine), engine.read_queue.len()));
        let counters = &mut self.handler.lock().counters;
        counters.stale_events += 1;
        counters.stale_events_of_reused_slots += u64::from(successor.is_some());
    }
}

/// Records which of the ending sessions have sent and read everything.
#[derive(Default)]
struct Observer {
    complete: BTreeSet<Id>,
}

impl Environment for Observer {
    fn before_reap(&mut self, engine: &Engine) {
        self.complete.extend(check::complete_sessions(engine));
    }
}

/// Returns limits that are small enough to be reached in a run.
fn random_config(random: &mut Random, profile: &Profile) -> Config {
    let idle_timeout = Some(Duration::from_millis(400));
    let ping_interval = Some(Duration::from_millis(30 + random.below(300) as u64));
    Config {
        high_water_bytes: 20_000,
        low_water_bytes: 5_000,
        backlog_bytes_max: 20_000 + random.below(20_000),
        message_bytes_max: 40_000,
        lag_bytes_max: match profile.lag_bytes_max {
            0 => 1_000 + random.below(40_000),
            bytes => bytes,
        },
        replay_bytes_max: match random.below(4) {
            0 => 16 << 20,
            _ => random.below(60_000),
        },
        receive_buffer_bytes: 1024 << random.below(4),
        read_budget_bytes: random.up_to(9_000),
        handshake_timeout: Duration::from_millis(100),
        idle_timeout: idle_timeout.filter(|_| !random.one_in(8)),
        ping_interval: ping_interval.filter(|_| !random.one_in(4)),
        close_timeout: Duration::from_millis(60),
        write_timeout: Duration::from_millis(if random.one_in(3) { 3_000 } else { 150 }),
        stop_spread: Duration::from_millis(random.below(2) as u64 * 300),
        shutdown_grace: Duration::from_millis(120),
        connections_max: profile.connections,
        handshakes_max: 10,
        connections_per_address_max: HAS_ADDRESSES.then_some(profile.connections / 6 + 1),
        trusted_proxies: ADDRESSES[3]
            .filter(|_| HAS_ADDRESSES)
            .map(Network::from)
            .into_iter()
            .collect(),
        ..Config::default()
    }
}

/// Whether the server can count addresses and trust proxies.
pub(super) const HAS_ADDRESSES: bool = cfg!(feature = "client-addresses");

/// Addresses of the clients. The last is that of a trusted proxy.
const ADDRESSES: [Option<IpAddr>; 4] = [
    None,
    Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))),
    Some(IpAddr::V6(Ipv6Addr::LOCALHOST)),
    Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1))),
];

/// Number of turns with random events in one run.
const TURNS: usize = 500;

/// Maximum number of turns after [`TURNS`] until all sessions have ended.
const ENDING_TURNS_MAX: usize = 500;

/// Maximum ids of ended sessions that are retained for stale events.
const GONE_MAX: usize = 30;
