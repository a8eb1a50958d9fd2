//! Two to four servers at one broker, with random clients, cuts, delays and lost tails. A run depends only on its seed;
//! `WSLOOP_SEED=<seed>` replays one, `WSLOOP_SEEDS=<count>` sets their number.
//!
//! For each topic, the order in which the broker has processed the publications is known. Checked:
//!
//! - Each client receives a part of that order: no message twice, none out of order, none that was not published.
//! - A client that has missed a message was closed with 1013 or reported to `on_gap`, once for each gap.
//! - When a server stops while the broker answers, the own messages of a client that were published come back before its Close.
//! - At the end, when everything is connected, a client that was not closed has received everything up to the newest message.
//! - A client without a gap receives all of its own messages, from its join on.
//! - A publication that the broker has not processed is counted: as unacknowledged, discarded or refused.

use super::*;
use crate::backplane::{BackplaneOptions, BackplaneStats};
use crate::config::LagPolicy;
use crate::context::Context;
use crate::proto::Message;
use crate::random::Random;
use std::collections::BTreeSet;
use std::time::Duration;

#[test]
fn servers_at_one_broker() {
    let variable = |name| {
        let value = std::env::var(name).ok()?;
        Some(value.parse().expect("a number"))
    };
    let seeds = match variable("WSLOOP_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..variable("WSLOOP_SEEDS").unwrap_or(SEEDS),
    };
    let count = seeds.end - seeds.start;
    let mut total = Totals::default();
    for seed in seeds {
        let note = SeedNote(seed);
        Run::new(seed).run(&mut total);
        drop(note);
    }
    println!("{total:?}");
    // The runs have caused every kind of event.
    if count >= SEEDS {
        let Totals {
            received,
            returned,
            closed_in_gaps,
            reported_gaps,
            missed,
            unacknowledged,
            discarded,
        } = total;
        for count in [
            received,
            returned,
            closed_in_gaps,
            reported_gaps,
            missed,
            unacknowledged,
            discarded,
        ] {
            assert!(count > 0, "{total:?}");
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    received: usize,
    /// Messages of clients without a gap that have come back to them.
    returned: usize,
    closed_in_gaps: usize,
    reported_gaps: usize,
    missed: usize,
    unacknowledged: usize,
    discarded: usize,
}

/// Joins each session to the topic of its path, publishes its messages there, and reports gaps to the client.
struct Chat;

impl Handler for Chat {
    fn on_open(&mut self, cx: &mut Context<'_>, id: Id) {
        let path = cx.path(id).expect("a short path");
        cx.subscribe(id, &path);
    }

    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
        let path = cx.path(id).expect("a short path");
        cx.publish(&path, message);
    }

    fn on_gap(&mut self, cx: &mut Context<'_>, id: Id, topic: &str) {
        assert_eq!(cx.path(id).as_deref(), Some(topic));
        let _ = cx.send(id, GAP);
    }
}

struct Member {
    server: usize,
    id: Id,
    topic: usize,
    sent: Vec<String>,
    received: Vec<String>,
    close: Option<u16>,
}

struct Run {
    random: Random,
    broker: Broker,
    servers: Vec<Harness<Chat>>,
    is_skip: bool,
    members: Vec<Member>,
    /// Messages sent by clients.
    sent: usize,
    /// The server that was stopped.
    stopped: Option<usize>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let broker = Broker::new();
        let is_skip = random.one_in(2);
        let config = Config {
            lag_policy: match is_skip {
                true => LagPolicy::Skip,
                false => LagPolicy::Disconnect,
            },
            ..Config::default()
        };
        let options = BackplaneOptions {
            grace: Duration::from_millis([0, 300, 5000][random.below(3)]),
            outbox_bytes_max: 64 << 10,
            message_bytes_max: 20_000,
        };
        let servers = (0..1 + random.up_to(3)).map(|_| {
            let mut server = Harness::new(config.clone(), Chat);
            server.set_backplane(broker.connect(), options.clone());
            server
        });
        Self {
            servers: servers.collect(),
            random,
            broker,
            is_skip,
            members: Vec::new(),
            sent: 0,
            stopped: None,
        }
    }

    fn run(mut self, total: &mut Totals) {
        for _ in 0..300 {
            self.step();
        }
        self.settle();
        if self.random.one_in(2) {
            self.stop_one();
            self.settle();
        }
        self.check(total);
    }

    /// Stops a server while the broker answers late, and no connection ends.
    fn stop_one(&mut self) {
        for _ in 0..20 {
            match self.random.below(10) {
                0 => self.connect(),
                1..6 => self.send(),
                6 => self.broker.hold(),
                7 => self.broker.release(),
                _ => self.process_some(),
            }
            let server = self.random.below(self.servers.len());
            self.servers[server].run();
            self.receive();
        }
        let stopped = self.random.below(self.servers.len());
        self.stopped = Some(stopped);
        self.servers[stopped].with_context(|cx| cx.stop());
        for _ in 0..self.random.below(10) {
            self.process_some();
            if self.random.one_in(2) {
                self.send();
            }
            let time = Duration::from_millis(self.random.below(40) as u64);
            self.servers[stopped].advance(time);
            self.receive();
        }
        self.broker.release();
        self.servers[stopped].advance(Duration::from_secs(1));
        assert!(self.servers[stopped].has_stopped());
        self.receive();
    }

    fn process_some(&mut self) {
        let connection = self.random.below(self.broker.connections().max(1));
        for _ in 0..self.random.below(4) {
            self.broker.process(connection);
        }
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..15 => self.connect(),
            15..60 => self.send(),
            60..67 => self.leave(),
            67..70 => self.broker.hold(),
            70..80 => self.process_some(),
            80..83 => self.broker.release(),
            83..86 => {
                let newest = self.broker.connections();
                self.broker.cut(newest.saturating_sub(self.random.up_to(4)));
            }
            86 => self.broker.stop(),
            87..90 => self.broker.start(),
            _ => {
                let time = Duration::from_millis(self.random.below(700) as u64);
                for server in &mut self.servers {
                    server.advance(time);
                }
            }
        }
        if self.random.one_in(2) {
            let server = self.random.below(self.servers.len());
            self.servers[server].run();
        }
        self.receive();
    }

    fn connect(&mut self) {
        let server = self.random.below(self.servers.len());
        let topic = self.random.below(3);
        let id = self.servers[server].connect(&format!("/{topic}"));
        self.members.push(Member {
            server,
            id,
            topic,
            sent: Vec::new(),
            received: Vec::new(),
            close: None,
        });
    }

    fn send(&mut self) {
        if self.members.is_empty() {
            return;
        }
        let member = self.random.below(self.members.len());
        let member = &mut self.members[member];
        if member.close.is_some() {
            return;
        }
        for _ in 0..self.random.up_to(3) {
            let filler = match self.random.one_in(20) {
                true => "x".repeat(self.random.below(19_000)),
                false => String::new(),
            };
            let text = format!("{} {filler}", self.sent);
            self.servers[member.server].send(member.id, text);
            member.sent.push(self.sent.to_string());
            self.sent += 1;
        }
    }

    fn leave(&mut self) {
        if self.members.is_empty() {
            return;
        }
        let index = self.random.below(self.members.len());
        let member = &mut self.members[index];
        if member.close.is_none() {
            self.servers[member.server].close(member.id, 1000, "");
        }
    }

    fn receive(&mut self) {
        for member in &mut self.members {
            if member.close.is_some() {
                continue;
            }
            for one in self.servers[member.server].received(member.id) {
                match one {
                    Received::Text(text) => {
                        assert!(member.close.is_none());
                        let number = text.split(' ').next().expect("a number");
                        member.received.push(number.to_owned());
                    }
                    Received::Close(code, _) => member.close = Some(code),
                    Received::Ping(_) | Received::End => {}
                    other => panic!("unexpected: {other:?}"),
                }
            }
        }
    }

    /// Lets the broker process everything, and waits until each gap was reported to all its members.
    fn settle(&mut self) {
        self.broker.start();
        self.broker.release();
        for _ in 0..40 {
            for server in &mut self.servers {
                server.advance(Duration::from_millis(500));
            }
            self.broker.release();
        }
        self.receive();
        for (index, server) in self.servers.iter_mut().enumerate() {
            if self.stopped == Some(index) {
                continue;
            }
            let stats = stats(server);
            assert!(stats.is_whole);
            assert_eq!((stats.outbox_bytes, stats.waiting), (0, 0), "{stats:?}");
        }
    }

    fn check(self, total: &mut Totals) {
        let orders = self.orders();
        for member in &self.members {
            self.check_member(member, &orders[member.topic], total);
        }
        let published: usize = orders.iter().map(Vec::len).sum();
        let (mut accepted, mut lost) = (0, 0);
        for mut server in self.servers {
            // Nothing is left of the topics once their members have left.
            let ids = server.with_context(|cx| cx.ids());
            for id in ids {
                server.close(id, 1000, "");
            }
            server.advance(Duration::from_secs(2));
            let stats = stats(&mut server);
            if !server.has_stopped() {
                assert_eq!(stats.topics, 0);
            }
            accepted += stats.publications as usize;
            lost += stats.unacknowledged + stats.discarded;
            total.unacknowledged += stats.unacknowledged as usize;
            total.discarded += stats.discarded as usize;
        }
        // A batch that is lost has several messages.
        assert!(published <= accepted && accepted <= self.sent);
        assert!(lost > 0 || published == accepted, "silently lost");
    }

    /// Returns the numbers of the messages by topic, as the broker has processed them.
    fn orders(&self) -> Vec<Vec<String>> {
        let mut orders = vec![Vec::new(); 3];
        for (topic, payload) in self.broker.processed() {
            let topic: usize = topic[1..].parse().expect("a number");
            for one in crate::backplane::payload::publications(&payload) {
                let text = one.message.as_text().expect("text");
                let number = text.split(' ').next().expect("a number");
                orders[topic].push(number.to_owned());
            }
        }
        for order in &orders {
            let distinct: BTreeSet<_> = order.iter().collect();
            assert_eq!(distinct.len(), order.len(), "a publication was repeated");
        }
        orders
    }

    fn check_member(&self, member: &Member, order: &[String], total: &mut Totals) {
        total.closed_in_gaps += usize::from(member.close == Some(1013));
        // The position behind the newest message, whether there are missed messages that were not reported yet, and
        // whether a gap was reported since the newest message.
        let mut next = None;
        let mut is_missing = false;
        let mut is_reported = false;
        for one in &member.received {
            if one == GAP {
                total.reported_gaps += 1;
                is_missing = false;
                is_reported = true;
                continue;
            }
            total.received += 1;
            let position = order.iter().position(|other| other == one);
            let position = position.expect("it was published");
            if let Some(next) = next {
                assert!(next <= position, "out of order");
                total.missed += position - next;
                is_missing |= next < position && !is_reported;
            }
            is_reported = false;
            next = Some(position + 1);
        }
        // Everything up to the newest message arrives, unless the end of the order fell into a gap. That gap was reported
        // last.
        if member.close.is_none() && next.is_some_and(|next| next < order.len()) {
            is_missing |= !is_reported;
        }
        // No gap is reported to a client that closes by itself before the report.
        let is_excused = matches!(member.close, Some(1000 | 1013));
        assert!(
            !is_missing || is_excused,
            "missed messages silently: {:?} {:?} of {:?}",
            member.close,
            member.received,
            order
        );
        // The subscription precedes the first message that a client sends, so its own messages come back from the first on.
        if matches!(member.close, None | Some(1001))
            && !member.received.iter().any(|one| one == GAP)
        {
            for one in &member.sent {
                let is_published = order.contains(one);
                assert_eq!(member.received.contains(one), is_published, "{one}");
                total.returned += usize::from(is_published);
            }
        }
        if !self.is_skip {
            assert!(!member.received.iter().any(|one| one == GAP));
        }
    }
}

fn stats(server: &mut Harness<Chat>) -> BackplaneStats {
    server.with_context(|cx| cx.stats().backplane.expect("a backplane"))
}

/// Prints the seed when its run panics.
struct SeedNote(u64);

impl Drop for SeedNote {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let seed = self.0;
            eprintln!("replay with: WSLOOP_SEED={seed} cargo test --lib servers_at_one_broker");
        }
    }
}

/// The message that reports a gap.
const GAP: &str = "gap";

/// Default number of seeds: some seconds.
const SEEDS: u64 = 100;
