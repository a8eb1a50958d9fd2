//! Tests of [`Handle`] (other threads), of [`Server::turn`] inside another loop, and of listeners.

mod common;

use common::*;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use wsloop::handlers::{Broadcast, Echo};
use wsloop::{Config, Handle, HandleError, Server, Side, Turn};

mod handle {
    use super::*;

    #[test]
    fn a_message_from_another_thread_wakes_the_loop_and_reaches_its_session() {
        let (handler, events) = watch(Echo::new());
        let server = serve(Config::default(), handler);
        let mut first = connect(server.addr, "/");
        let id = opened(&events);
        let mut second = connect(server.addr, "/");
        let handle = server.handle.clone();
        thread::spawn(move || {
            handle.send(id, "for the first").unwrap();
            handle.send(id, &b"and binary"[..]).unwrap();
        });
        assert_eq!(text(&mut first), "for the first");
        let binary = first.read().unwrap();
        assert_eq!(binary.into_data(), &b"and binary"[..]);
        assert_eq!(ask(&mut second, "nothing for me?"), "nothing for me?");
    }

    #[test]
    fn a_publication_reaches_all_members() {
        let server = serve(Config::default(), Broadcast);
        let mut clients: Vec<Client> = (0..3).map(|_| connect(server.addr, "/news")).collect();
        let mut other = connect(server.addr, "/other");
        server.handle.publish("/news", "extra").unwrap();
        server.handle.publish("/no members", "extra").unwrap();
        for client in &mut clients {
            assert_eq!(text(client), "extra");
        }
        assert_eq!(ask(&mut other, "hello"), "hello");
    }

    /// Regression: commands stay queued while more than 1 MiB of publications is unclaimed, that is, not yet in the
    /// queues of the members. A member that does not read claims its publications in one turn and causes no event
    /// afterwards, so the loop slept and did not execute the queued commands.
    fn commands_behind_large_publications_are_carried_out(
        command: impl Fn(&Handle),
        expected: impl Fn(Client),
    ) {
        let config = Config {
            lag_bytes_max: 64 << 20,
            ..Config::default()
        };
        let server = serve(config, Broadcast);
        let _stalled = Raw::open(server.addr, "/news");
        let other = connect(server.addr, "/other");
        let text = "x".repeat(700_000);
        // One publication per turn, until the kernel's buffers for the stalled member are full.
        for _ in 0..12 {
            server.handle.publish("/news", &text).unwrap();
            thread::sleep(Duration::from_millis(30));
        }
        for _ in 0..8 {
            server.handle.publish("/news", &text).unwrap();
        }
        command(&server.handle);
        expected(other);
    }

    #[test]
    fn a_publication_behind_large_ones_does_not_wait_for_an_event() {
        commands_behind_large_publications_are_carried_out(
            |handle| handle.publish("/other", "hello").unwrap(),
            |mut client| assert_eq!(text(&mut client), "hello"),
        );
    }

    #[test]
    fn a_stop_behind_large_publications_does_not_wait_for_an_event() {
        commands_behind_large_publications_are_carried_out(
            |handle| handle.stop().unwrap(),
            |client| assert_eq!(closed(client).0, 1001),
        );
    }

    #[test]
    fn close_and_terminate_end_one_session() {
        let (handler, events) = watch(Echo::new());
        let server = serve(Config::default(), handler);
        let client = connect(server.addr, "/");
        let id = opened(&events);
        server.handle.send(id, "before").unwrap();
        server.handle.close(id, 4000, "from outside").unwrap();
        server.handle.send(id, "after").unwrap();
        let mut client = client;
        assert_eq!(text(&mut client), "before");
        assert_eq!(closed(client), (4000, "from outside".to_owned()));
        assert_eq!(events.end(), end(4000, "from outside", true, Side::Us));
        let mut raw = Raw::open(server.addr, "/");
        let other = opened(&events);
        server.handle.terminate(other).unwrap();
        raw.expect_end_or_reset();
        assert_eq!(events.end(), end(1006, "", false, Side::Us));
        // Both sessions have ended. Commands with their ids do not affect a session that reuses their slots.
        let mut third = connect(server.addr, "/");
        server.handle.terminate(id).unwrap();
        server.handle.close(other, 1000, "").unwrap();
        assert_eq!(ask(&mut third, "still here"), "still here");
    }

    #[test]
    fn a_code_that_must_not_be_sent_closes_nothing() {
        let (handler, events) = watch(Echo::new());
        let server = serve(Config::default(), handler);
        let mut client = connect(server.addr, "/");
        let id = opened(&events);
        for code in [0, 999, 1004, 1006, 1015, 5000] {
            server.handle.close(id, code, "").unwrap();
        }
        assert_eq!(ask(&mut client, "still here"), "still here");
    }

    #[test]
    fn a_burst_of_publications_is_delivered_completely_and_in_order() {
        let server = serve(Config::default(), Broadcast);
        let mut clients: Vec<Client> = (0..3).map(|_| connect(server.addr, "/")).collect();
        let handle = server.handle.clone();
        let burst = thread::spawn(move || {
            for i in 0..10_000 {
                publish_again(&handle, &i.to_string());
            }
        });
        for client in &mut clients {
            for i in 0..10_000 {
                assert_eq!(text(client), i.to_string());
            }
        }
        burst.join().unwrap();
    }

    #[test]
    fn publications_of_each_thread_stay_in_order() {
        let server = serve(Config::default(), Broadcast);
        let mut client = connect(server.addr, "/");
        let threads: Vec<_> = (0..4_usize)
            .map(|thread| {
                let handle = server.handle.clone();
                thread::spawn(move || {
                    (0..1000).for_each(|i| publish_again(&handle, &format!("{thread} {i}")));
                })
            })
            .collect();
        let mut next = [0; 4];
        for _ in 0..4000 {
            let line = text(&mut client);
            let (thread, i) = line.split_once(' ').unwrap();
            let next = &mut next[thread.parse::<usize>().unwrap()];
            assert_eq!(i, next.to_string());
            *next += 1;
        }
        assert_eq!(next, [1000; 4]);
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    }

    #[test]
    fn a_full_command_queue_accepts_only_a_stop() {
        let config = Config {
            handle_commands_max: 3,
            // The bytes of the topic's name count as well: 1 for "/" and 10 for the message.
            handle_bytes_max: 11,
            ..Config::default()
        };
        let mut server = Server::new(config, Broadcast).unwrap();
        let addr = server.listen("127.0.0.1:0").unwrap();
        let handle = server.handle();
        // The server runs no turn, so the queue is not emptied.
        for i in ["1", "2", "3"] {
            handle.publish("/", i).unwrap();
        }
        assert_eq!(handle.publish("/", "4"), Err(HandleError::Full));
        turn_until(&mut server, |server| server.count() == 0);
        handle.publish("/", "1234567890").unwrap();
        assert_eq!(handle.publish("/", "x"), Err(HandleError::Full));
        turn_until(&mut server, |_| true);
        // Commands that were accepted are executed.
        let client = thread::spawn(move || {
            let mut client = connect(addr, "/");
            let received = [text(&mut client), text(&mut client), text(&mut client)];
            (received, closed(client).0)
        });
        turn_until(&mut server, |server| server.count() == 1);
        for i in ["1", "2", "3"] {
            handle.publish("/", i).unwrap();
        }
        assert_eq!(handle.publish("/", "4"), Err(HandleError::Full));
        handle.stop().unwrap();
        turn_to_the_end(&mut server);
        let received = client.join().unwrap();
        assert_eq!(received, (["1", "2", "3"].map(str::to_owned), 1001));
        assert_eq!(handle.publish("/", "late"), Err(HandleError::Stopped));
    }

    /// Commands that were being executed did not count, so that each round could add as many to those that stayed.
    #[test]
    fn commands_that_are_being_executed_count_in_the_limit() {
        let config = Config {
            handle_commands_max: 3,
            ..Config::default()
        };
        let mut server = Server::new(config, Echo::new()).unwrap();
        let handle = server.handle();
        let (sender, results) = mpsc::channel();
        for _ in 0..3 {
            let (handle, sender) = (handle.clone(), sender.clone());
            let run_again = move |_: &mut wsloop::Context<'_>| {
                sender.send(handle.run(|_| {})).unwrap();
            };
            server.handle().run(run_again).unwrap();
        }
        turn_until(&mut server, |_| true);
        assert_eq!(
            results.try_iter().collect::<Vec<_>>(),
            [Err(HandleError::Full); 3]
        );
        handle.run(|_| {}).unwrap();
    }

    #[test]
    fn memberships_change_in_order_with_publications() {
        let (handler, events) = watch(Echo::new());
        let server = serve(Config::default(), handler);
        let mut first = connect(server.addr, "/");
        let first_id = opened(&events);
        let mut second = connect(server.addr, "/");
        let second_id = opened(&events);
        let handle = &server.handle;
        handle.publish("news", "0").unwrap();
        handle.subscribe(first_id, "news").unwrap();
        handle.subscribe(second_id, "news").unwrap();
        handle.publish("news", String::from("1")).unwrap();
        handle.publish_except(first_id, "news", "2").unwrap();
        handle.publish("news", vec![3]).unwrap();
        handle.unsubscribe(second_id, "news").unwrap();
        handle.publish("news", "4").unwrap();
        handle.close(second_id, 1000, "").unwrap();
        assert_eq!(text(&mut first), "1");
        assert_eq!(first.read().unwrap().into_data(), &[3][..]);
        assert_eq!(text(&mut first), "4");
        assert_eq!([text(&mut second), text(&mut second)], ["1", "2"]);
        assert_eq!(second.read().unwrap().into_data(), &[3][..]);
        assert_eq!(closed(second).0, 1000);
        // Without effect: a session that has ended.
        handle.subscribe(second_id, "news").unwrap();
        handle.unsubscribe(second_id, "news").unwrap();
        assert_eq!(ask(&mut first, "still here"), "still here");
    }

    #[test]
    fn closures_run_on_the_loop_in_order_with_other_commands() {
        let (handler, events) = watch(Echo::new());
        let server = serve(Config::default(), handler);
        let mut client = connect(server.addr, "/");
        let id = opened(&events);
        let (sender, receiver) = mpsc::channel();
        server.handle.send(id, "1").unwrap();
        let again = server.handle.clone();
        server
            .handle
            .run(move |cx| {
                let _ = cx.send(id, "2");
                // Queued behind the commands that are queued already.
                again.send(id, "4").unwrap();
                sender.send((thread::current().id(), cx.ids())).unwrap();
            })
            .unwrap();
        server.handle.send(id, "3").unwrap();
        for expected in ["1", "2"] {
            assert_eq!(text(&mut client), expected);
        }
        // The third may have been queued while the closure ran.
        let mut rest = [text(&mut client), text(&mut client)];
        rest.sort();
        assert_eq!(rest, ["3", "4"]);
        let (thread, ids) = receiver.recv_timeout(WAIT).unwrap();
        assert_ne!(thread, thread::current().id());
        assert_eq!(ids, [id]);
    }

    /// The commands after the closure were lost, and still counted against the limits.
    #[test]
    fn a_closure_that_panics_leaves_the_server_usable_and_the_other_commands_queued() {
        let config = Config {
            handle_commands_max: 3,
            handle_bytes_max: 100,
            ..Config::default()
        };
        let mut server = Server::new(config, Echo::new()).unwrap();
        let addr = server.listen("127.0.0.1:0").unwrap();
        let handle = server.handle();
        let client = thread::spawn(move || {
            let mut client = connect(addr, "/");
            let received = [text(&mut client), text(&mut client)];
            (received, ask(&mut client, "still here"), closed(client).0)
        });
        turn_until(&mut server, |server| server.count() == 1);
        let id = server.with_context(|cx| cx.ids()[0]);
        handle.send(id, "before").unwrap();
        handle.run(|_| panic!("as intended by the test")).unwrap();
        handle.send(id, "after").unwrap();
        assert_eq!(handle.run(|_| {}), Err(HandleError::Full));
        let turn = std::panic::AssertUnwindSafe(|| server.turn(Some(WAIT)));
        assert!(std::panic::catch_unwind(turn).is_err());
        assert_eq!(server.next_timeout(), Some(Duration::ZERO));
        // One command is left.
        handle.run(|_| {}).unwrap();
        handle.run(|_| {}).unwrap();
        assert_eq!(handle.run(|_| {}), Err(HandleError::Full));
        turn_until(&mut server, |server| server.stats().messages_in == 1);
        for _ in 0..3 {
            handle.publish("no members", "x".repeat(80)).unwrap();
            let _ = server.turn(Some(Duration::ZERO)).unwrap();
        }
        handle.stop().unwrap();
        turn_to_the_end(&mut server);
        let (received, answer, code) = client.join().unwrap();
        assert_eq!(received, ["before", "after"]);
        assert_eq!(answer, "still here");
        assert_eq!(code, 1001);
    }

    #[test]
    fn a_closure_counts_its_own_size() {
        let config = Config {
            handle_bytes_max: 100,
            ..Config::default()
        };
        let server = Server::new(config, Echo::new()).unwrap();
        let handle = server.handle();
        let large = [0_u8; 101];
        assert_eq!(
            handle.run(move |_| assert_eq!(large[100], 0)),
            Err(HandleError::Full)
        );
        handle.run(|_| {}).unwrap();
    }

    /// The closure was dropped while the inbox was locked.
    #[test]
    fn a_closure_that_uses_the_handle_when_it_is_dropped_does_not_block_the_server() {
        struct OnDrop(Handle, mpsc::Sender<Result<(), HandleError>>);
        impl Drop for OnDrop {
            fn drop(&mut self) {
                self.1.send(self.0.publish("topic", "dropped")).unwrap();
            }
        }
        let server = Server::new(Config::default(), Echo::new()).unwrap();
        let (sender, receiver) = mpsc::channel();
        let on_drop = OnDrop(server.handle(), sender);
        server.handle().run(move |_| drop(on_drop)).unwrap();
        let stopped = thread::spawn(move || drop(server));
        let result = receiver.recv_timeout(WAIT).unwrap();
        assert_eq!(result, Err(HandleError::Stopped));
        stopped.join().unwrap();
    }

    #[test]
    fn wake_runs_a_turn_even_if_the_inbox_is_full() {
        let config = Config {
            handle_commands_max: 1,
            ..Config::default()
        };
        let mut server = Server::new(config, Echo::new()).unwrap();
        let handle = server.handle();
        let _ = server.turn(Some(Duration::ZERO)).unwrap();
        assert_eq!(server.next_timeout(), None);
        let waker = handle.clone();
        let waking = thread::spawn(move || {
            thread::sleep(SHORT);
            waker.wake()
        });
        let start = Instant::now();
        assert_eq!(server.turn(Some(10 * WAIT)).unwrap(), Turn::Running);
        assert!(start.elapsed() < WAIT);
        waking.join().unwrap().unwrap();
        handle.publish("topic", "x").unwrap();
        assert_eq!(handle.publish("topic", "x"), Err(HandleError::Full));
        handle.wake().unwrap();
        drop(server);
        assert_eq!(handle.wake(), Err(HandleError::Stopped));
        assert_eq!(handle.run(|_| {}), Err(HandleError::Stopped));
    }

    #[test]
    fn the_handle_of_a_dropped_server_returns_an_error() {
        let server = Server::new(Config::default(), Echo::new()).unwrap();
        let handle = server.handle();
        handle.publish("topic", "no members").unwrap();
        drop(server);
        assert_eq!(handle.publish("topic", "x"), Err(HandleError::Stopped));
        assert_eq!(handle.stop(), Err(HandleError::Stopped));
    }

    fn opened(events: &Events) -> wsloop::Id {
        events.find(|seen| match seen {
            Seen::Open(id) => Some(*id),
            _ => None,
        })
    }

    /// Publishes, and tries again while the command queue is full.
    fn publish_again(handle: &Handle, message: &str) {
        eventually(|| match handle.publish("/", message) {
            Ok(()) => true,
            Err(HandleError::Full) => false,
            Err(error) => panic!("{error}"),
        });
    }
}

/// Runs turns on this thread, at least one, until a condition holds.
fn turn_until<H: wsloop::Handler>(server: &mut Server<H>, is_done: impl Fn(&Server<H>) -> bool) {
    let start = Instant::now();
    loop {
        let turn = server.turn(Some(Duration::from_millis(10))).unwrap();
        assert_eq!(turn, Turn::Running);
        if is_done(server) {
            return;
        }
        assert!(start.elapsed() < WAIT, "the condition did not hold in time");
    }
}

/// Runs turns on this thread until the server, which has been stopped, has ended.
fn turn_to_the_end<H: wsloop::Handler>(server: &mut Server<H>) {
    let start = Instant::now();
    while server.turn(Some(WAIT)).unwrap() == Turn::Running {
        assert!(start.elapsed() < WAIT, "the server did not stop in time");
    }
}

mod turns {
    use super::*;

    #[test]
    fn a_turn_without_anything_to_do_ends_at_its_timeout() {
        let mut server = Server::new(Config::default(), Echo::new()).unwrap();
        server.listen("127.0.0.1:0").unwrap();
        for timeout in [Duration::ZERO, Duration::from_millis(20)] {
            for _ in 0..3 {
                let start = Instant::now();
                assert_eq!(server.turn(Some(timeout)).unwrap(), Turn::Running);
                assert!(start.elapsed() < WAIT);
            }
        }
        assert_eq!(server.next_timeout(), None, "nothing is due");
    }

    #[test]
    fn next_timeout_is_the_next_deadline() {
        let config = Config {
            handshake_timeout: 2 * SHORT,
            close_timeout: SHORT,
            ..Config::default()
        };
        let mut server = Server::new(config, Echo::new()).unwrap();
        let addr = server.listen("127.0.0.1:0").unwrap();
        assert_eq!(
            server.next_timeout(),
            Some(Duration::ZERO),
            "on_start is due"
        );
        turn_until(&mut server, |server| server.next_timeout().is_none());
        let mut raw = Raw::new(addr);
        turn_until(&mut server, |server| server.next_timeout().is_some());
        assert!(server.next_timeout().unwrap() <= 2 * SHORT);
        // No further event arrives: turns wait until the deadline has passed.
        while server.next_timeout().is_some_and(|wait| !wait.is_zero()) {
            let _ = server.turn(Some(WAIT)).unwrap();
        }
        let _ = server.turn(Some(Duration::ZERO)).unwrap();
        raw.expect_end();
    }

    #[cfg(feature = "serve")]
    #[test]
    fn a_server_can_be_registered_in_another_poll() {
        use mio::unix::SourceFd;
        use mio::{Events, Interest, Poll, Token};
        use std::os::fd::AsRawFd;

        let mut server = Server::new(Config::default(), Echo::new()).unwrap();
        let addr = server.listen("127.0.0.1:0").unwrap();
        let handle = server.handle();
        let mut poll = Poll::new().unwrap();
        let fd = server.as_raw_fd();
        poll.registry()
            .register(&mut SourceFd(&fd), Token(7), Interest::READABLE)
            .unwrap();
        let client = thread::spawn(move || {
            let mut client = connect(addr, "/");
            let large = "x".repeat(4 * MIB);
            assert!(ask(&mut client, &large) == large);
            for i in 0..100 {
                assert_eq!(ask(&mut client, &i.to_string()), i.to_string());
            }
            handle.stop().unwrap();
            closed(client).0
        });
        let mut events = Events::with_capacity(8);
        let start = Instant::now();
        loop {
            let wait = server.next_timeout().unwrap_or(WAIT).min(WAIT);
            poll.poll(&mut events, Some(wait)).unwrap();
            if server.turn(Some(Duration::ZERO)).unwrap() == Turn::Stopped {
                break;
            }
            assert!(
                start.elapsed() < 3 * WAIT,
                "the server did not stop in time"
            );
        }
        assert_eq!(client.join().unwrap(), 1001);
    }

    #[test]
    fn a_context_between_turns_acts_like_a_handler() {
        let mut server = Server::new(Config::default(), Broadcast).unwrap();
        let addr = server.listen("127.0.0.1:0").unwrap();
        let client = thread::spawn(move || {
            let mut client = connect(addr, "/");
            let received = [text(&mut client), text(&mut client)];
            (received, closed(client).0)
        });
        turn_until(&mut server, |server| server.count() == 1);
        server.with_context(|cx| {
            let id = cx.ids()[0];
            let _ = cx.send(id, "sent");
            assert_eq!(cx.publish("/", "published"), 1);
            cx.stop();
        });
        turn_to_the_end(&mut server);
        let received = ["sent", "published"].map(str::to_owned);
        assert_eq!(client.join().unwrap(), (received, 1001));
        assert_eq!(server.turn(None).unwrap(), Turn::Stopped, "still stopped");
    }

    #[test]
    fn a_server_can_be_moved_to_another_thread_and_back() {
        let mut server = Server::new(Config::default(), Echo::new()).unwrap();
        server.listen("127.0.0.1:0").unwrap();
        let (send, receive) = mpsc::channel();
        thread::spawn(move || {
            let turn = server.turn(Some(Duration::ZERO)).unwrap();
            send.send((server, turn)).unwrap();
        });
        let (mut server, turn) = receive.recv_timeout(WAIT).unwrap();
        assert_eq!(turn, Turn::Running);
        server.handle().stop().unwrap();
        turn_to_the_end(&mut server);
        assert_eq!(server.local_addrs().count(), 0, "stopped");
    }
}

mod listeners {
    use super::*;

    #[test]
    fn port_0_is_reported_as_the_assigned_port() {
        let mut server = Server::new(Config::default(), Echo::new()).unwrap();
        let addr = server.listen("127.0.0.1:0").unwrap();
        assert_ne!(addr.port(), 0);
        assert_eq!(addr.ip(), Ipv4Addr::LOCALHOST);
        assert_eq!(server.local_addrs().collect::<Vec<_>>(), [addr]);
        let server = run(server);
        assert_eq!(ask(&mut connect(addr, "/"), "hello"), "hello");
        drop(server);
    }

    #[test]
    fn several_listeners_share_one_handler() {
        let mut server = Server::new(Config::default(), Broadcast).unwrap();
        let addrs: Vec<SocketAddr> = (0..3)
            .map(|_| server.listen("127.0.0.1:0").unwrap())
            .collect();
        assert_eq!(server.local_addrs().collect::<Vec<_>>(), addrs);
        let server = run(server);
        let mut clients: Vec<Client> = addrs.iter().map(|addr| connect(*addr, "/")).collect();
        assert_eq!(ask(&mut clients[1], "to all"), "to all");
        assert_eq!(text(&mut clients[0]), "to all");
        assert_eq!(text(&mut clients[2]), "to all");
        server.handle.stop().unwrap();
        assert!(clients.into_iter().all(|client| closed(client).0 == 1001));
        server.join();
    }

    #[test]
    fn a_port_in_use_is_an_error_with_the_address() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = taken.local_addr().unwrap();
        let mut server = Server::new(Config::default(), Echo::new()).unwrap();
        let error = server.listen(addr).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&addr.to_string()), "{error}");
        assert_eq!(server.local_addrs().count(), 0);
        // The server is still usable after the error.
        server.listen("127.0.0.1:0").unwrap();
        let server = run(server);
        assert_eq!(ask(&mut connect(server.addr, "/"), "hello"), "hello");
    }

    #[test]
    fn the_first_address_that_can_be_bound_is_used() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let addrs = [
            taken.local_addr().unwrap(),
            SocketAddr::from(([127, 0, 0, 1], 0)),
        ];
        let mut server = Server::new(Config::default(), Echo::new()).unwrap();
        let addr = server.listen(&addrs[..]).unwrap();
        assert_ne!(addr.port(), addrs[0].port());
    }

    #[test]
    fn connections_in_the_listen_backlog_of_the_callers_listener_are_served() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = socket.local_addr().unwrap();
        // The clients connect before the server exists.
        let mut early: Vec<Raw> = (0..10).map(|_| Raw::new(addr)).collect();
        for raw in &mut early {
            raw.send(upgrade_request("/"));
        }
        let mut server = Server::new(Config::default(), Echo::new()).unwrap();
        assert_eq!(server.listen_on(socket).unwrap(), addr);
        let server = run(server);
        for raw in &mut early {
            assert_eq!(raw.response_head().status, 101);
        }
        assert_eq!(ask(&mut connect(server.addr, "/"), "hello"), "hello");
    }

    #[test]
    fn a_thousand_clients_at_once_are_served() {
        let server = serve(Config::default(), Echo::new());
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let addr = server.addr;
                thread::spawn(move || {
                    let mut clients: Vec<Client> = (0..250).map(|_| connect(addr, "/")).collect();
                    for client in &mut clients {
                        assert_eq!(ask(client, "hello"), "hello");
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
    }
}
