//! Tests of a server inside another event loop: its descriptor (`AsRawFd`) is registered in the host's poll,
//! `next_timeout` bounds the time that the host sleeps, and `turn` with a timeout of zero does the pending work. The
//! host's poll is a mio poll, which is edge-triggered; the first poll after a registration reports the current
//! readiness (the level).

#![cfg(unix)]

mod common;

use common::*;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};
use tungstenite::Message as Sent;
use wsloop::handlers::Echo;
use wsloop::{Config, Context, Handler, Id, Message, Router, Server, Turn, handler_fn};

/// A host with its own poll, and a server in it. Everything runs on the test's thread.
struct Host<H: Handler> {
    poll: Poll,
    events: Events,
    server: Server<H>,
    /// The number of events for the server's descriptor.
    wakes: usize,
}

impl<H: Handler> Host<H> {
    fn new(config: Config, handler: H) -> Self {
        let poll = Poll::new().unwrap();
        let mut server = Server::new(config, handler).unwrap();
        server.listen("127.0.0.1:0").unwrap();
        let fd = server.as_raw_fd();
        poll.registry()
            .register(&mut SourceFd(&fd), Token(0), Interest::READABLE)
            .unwrap();
        Self {
            poll,
            events: Events::with_capacity(8),
            server,
            wakes: 0,
        }
    }

    fn addr(&self) -> std::net::SocketAddr {
        self.server.local_addrs().next().unwrap()
    }

    /// Runs one pass of the host's loop, which sleeps at most `timeout`.
    fn pass(&mut self, timeout: Duration) -> Turn {
        let sleep = self.server.next_timeout().unwrap_or(timeout).min(timeout);
        self.poll.poll(&mut self.events, Some(sleep)).unwrap();
        self.wakes += self.events.iter().count();
        self.server.turn(Some(Duration::ZERO)).unwrap()
    }

    /// Runs passes until `is_done` returns `true`. Panics after [`WAIT`].
    fn pass_until(&mut self, mut is_done: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !is_done(self) {
            assert!(
                start.elapsed() < WAIT,
                "the host sleeps although there is work"
            );
            let _ = self.pass(WAIT);
        }
    }

    /// Runs one pass that sleeps at most 50 ms. Returns `true` if the server's descriptor had no event.
    fn pass_without_event(&mut self) -> bool {
        let wakes = self.wakes;
        let _ = self.pass(Duration::from_millis(50));
        wakes == self.wakes
    }

    /// Returns whether the server's descriptor is readable now, independently of earlier events.
    fn is_readable(&self) -> bool {
        let mut poll = Poll::new().unwrap();
        let mut events = Events::with_capacity(1);
        let fd = self.server.as_raw_fd();
        poll.registry()
            .register(&mut SourceFd(&fd), Token(0), Interest::READABLE)
            .unwrap();
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        !events.is_empty()
    }
}

#[test]
fn a_host_wakes_for_every_message() {
    let mut echoed = 0;
    let counting = handler_fn(move |cx, id, message| {
        let _ = cx.send(id, message);
        echoed += 1;
        if echoed == 200 {
            cx.stop();
        }
    });
    let mut host = Host::new(Config::default(), counting);
    let addr = host.addr();
    let talk = move || {
        let mut client = connect(addr, "/");
        (0..50).for_each(|i| assert_eq!(ask(&mut client, &i.to_string()), i.to_string()));
        assert_eq!(closed(client).0, 1001);
    };
    let clients: Vec<_> = (0..4).map(|_| thread::spawn(talk)).collect();
    let start = Instant::now();
    while host.pass(WAIT) == Turn::Running {
        assert!(
            start.elapsed() < WAIT,
            "the host sleeps although there is work"
        );
    }
    for client in clients {
        client.join().unwrap();
    }
    assert!(host.wakes >= 50, "{}", host.wakes);
}

#[test]
fn after_a_turn_the_descriptor_is_not_readable() {
    let mut host = Host::new(Config::default(), Echo::new());
    let addr = host.addr();
    let connecting = thread::spawn(move || connect(addr, "/"));
    host.pass_until(|host| host.server.count() == 1);
    let mut client = connecting.join().unwrap();
    let _ = host.server.turn(Some(Duration::ZERO)).unwrap();
    assert!(!host.is_readable());
    client.send(Sent::text("hello")).unwrap();
    // The descriptor stays readable (level) until the server has run a turn.
    eventually(|| host.is_readable());
    assert!(host.is_readable());
    let _ = host.server.turn(Some(Duration::ZERO)).unwrap();
    assert!(!host.is_readable());
    assert_eq!(text(&mut client), "hello");
}

#[test]
fn a_host_wakes_for_a_handle() {
    struct Idle;
    impl Handler for Idle {
        fn on_message(&mut self, _: &mut Context<'_>, _: Id, _: Message<'_>) {}
    }
    let mut host = Host::new(Config::default(), Idle);
    let _ = host.pass(Duration::ZERO);
    assert_eq!(host.server.next_timeout(), None);
    let handle = host.server.handle();
    let stopping = thread::spawn(move || handle.stop().unwrap());
    let start = Instant::now();
    while host.pass(WAIT) == Turn::Running {
        assert!(start.elapsed() < WAIT, "the handle did not wake the host");
    }
    stopping.join().unwrap();
}

#[test]
fn a_host_wakes_for_timers() {
    struct Ticking(u64);
    impl Handler for Ticking {
        fn on_start(&mut self, cx: &mut Context<'_>) {
            cx.set_timer(Duration::from_millis(20), 0);
        }
        fn on_message(&mut self, _: &mut Context<'_>, _: Id, _: Message<'_>) {}
        fn on_timer(&mut self, cx: &mut Context<'_>, _: u64) {
            self.0 += 1;
            cx.set_timer(Duration::from_millis(20), 0);
        }
    }
    let mut host = Host::new(Config::default(), Ticking(0));
    let start = Instant::now();
    let mut passes = 0;
    host.pass_until(|host| {
        passes += 1;
        host.server.handler().0 == 5
    });
    assert!(start.elapsed() >= Duration::from_millis(100));
    // The host slept until each timer was due, and did not spin.
    assert!(passes <= 20, "{passes} passes");
}

#[test]
fn messages_sent_between_turns_need_no_event_to_be_written() {
    let mut host = Host::new(Config::default(), Echo::new());
    let addr = host.addr();
    let connecting = thread::spawn(move || connect(addr, "/"));
    host.pass_until(|host| host.server.count() == 1);
    let mut client = connecting.join().unwrap();
    let _ = host.pass(Duration::ZERO);
    host.server.with_context(|cx| {
        for id in cx.ids() {
            let _ = cx.send(id, "from the host");
        }
    });
    assert_eq!(host.server.next_timeout(), Some(Duration::ZERO));
    let _ = host.pass(WAIT);
    assert_eq!(text(&mut client), "from the host");
}

/// One poll of the server returns at most 1 024 events. The host's edge-triggered poll reports the server's descriptor
/// only once, even if more than 1 024 sessions are ready, so the server must process the others without another event.
#[test]
fn more_ready_sessions_than_one_poll_returns_are_all_served() -> std::io::Result<()> {
    const CLIENTS: usize = 1500;
    if wsloop::descriptors_max() < 2 * CLIENTS + 100 {
        eprintln!("skipped: too few descriptors (ulimit -n)");
        return Ok(());
    }
    let mut host = Host::new(Config::default(), Echo::new());
    let addr = host.addr();
    let connecting =
        thread::spawn(move || -> Vec<Raw> { (0..CLIENTS).map(|_| Raw::open(addr, "/")).collect() });
    host.pass_until(|host| host.server.count() == CLIENTS);
    let mut clients = connecting.join().unwrap();
    while !host.pass_without_event() {}
    for client in &mut clients {
        client.send(frame(TEXT, b"all at once"));
    }
    let start = Instant::now();
    for client in &mut clients {
        client.0.set_nonblocking(true)?;
        host.pass_until(|_| client.0.peek(&mut [0]).is_ok());
        client.0.set_nonblocking(false)?;
        assert_eq!(client.frame(), (TEXT, b"all at once".to_vec()));
    }
    assert!(start.elapsed() < WAIT);
    Ok(())
}

/// Before the first turn, a route had no scope of its own: timers that `with_route` set reached no handler.
#[test]
fn a_timer_that_with_route_sets_before_the_first_turn_reaches_its_route() {
    #[derive(Default)]
    struct Keys(Vec<u64>);
    impl Handler for Keys {
        fn on_message(&mut self, _: &mut Context<'_>, _: Id, _: Message<'_>) {}
        fn on_timer(&mut self, _: &mut Context<'_>, key: u64) {
            self.0.push(key);
        }
    }
    let nested = Router::new().route("/b/b", Keys::default());
    let router = Router::new()
        .route("/a", Keys::default())
        .route("/b/*", nested);
    let mut server = Server::new(Config::default(), router).unwrap();
    let mut set_timer = |path: &'static str, key| {
        let set = |_: &mut Keys, cx: &mut Context<'_>| {
            cx.set_timer(Duration::ZERO, key);
        };
        server.with_handler(|router, cx| match path {
            "/b/b" => router
                .with_route(cx, "/b/*", |nested: &mut Router, cx| {
                    nested.with_route(cx, path, set)
                })
                .flatten(),
            _ => router.with_route(cx, path, set),
        })
    };
    for (path, key) in [("/a", 1), ("/b/b", 2), ("/a", 3)] {
        assert_eq!(set_timer(path, key), Some(()));
    }
    for _ in 0..3 {
        let _ = server.turn(Some(Duration::from_millis(10))).unwrap();
    }
    server.with_handler(|router, cx| {
        let keys = router.with_route(cx, "/a", |keys: &mut Keys, _| keys.0.clone());
        assert_eq!(keys, Some(vec![1, 3]));
        let keys = router.with_route(cx, "/b/*", |nested: &mut Router, cx| {
            nested.with_route(cx, "/b/b", |keys: &mut Keys, _| keys.0.clone())
        });
        assert_eq!(keys, Some(Some(vec![2])));
    });
}
