//! Tests with a real broker: `redis-server` from PATH, or the program in the variable `REDIS_SERVER`. To run these tests:
//! `cargo test --features redis --lib redis::tests -- --include-ignored`

use super::driver::{Driver, Event, Proxy, RedisServer};
use crate::backplane::Backplane;
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

/// Returns the payloads of the messages among `events`.
fn payloads(events: &[Event]) -> Vec<String> {
    let payloads = events.iter().filter_map(|event| match event {
        Event::Message(_, payload) => Some(String::from_utf8_lossy(payload).into()),
        _ => None,
    });
    payloads.collect()
}

fn is_acknowledged(event: &Event) -> bool {
    matches!(event, Event::Acknowledged(_))
}

fn is_message(payload: &str) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::Message(_, found) if found == payload.as_bytes())
}

#[test]
#[ignore = "needs redis-server"]
fn a_publication_reaches_all_subscribers_over_tcp_and_a_unix_socket() {
    let server = RedisServer::start(&[]);
    let mut tcp = Driver::connect(&format!("redis://localhost:{}", server.port));
    let mut unix = Driver::connect(&server.unix_url());
    tcp.subscribe("/chat");
    unix.subscribe("/chat");
    tcp.publish("/chat", b"\0\xff\r\n");
    let message = Event::Message("/chat".into(), b"\0\xff\r\n".into());
    for driver in [&mut tcp, &mut unix] {
        driver.until(3 * SECOND, |event| *event == message);
    }
    unix.publish("/chat", b"second");
    for driver in [&mut tcp, &mut unix] {
        driver.until(3 * SECOND, is_message("second"));
    }
    // Foreign publishers use the same channels.
    server.cli(&["PUBLISH", "wsloop:/chat", "hi"]);
    tcp.until(3 * SECOND, is_message("hi"));
    tcp.during(SECOND / 10);
    tcp.redis.unsubscribe("/chat");
    tcp.publish("/chat", b"third");
    let events = tcp.until(3 * SECOND, is_acknowledged);
    assert_eq!(events, [Event::Acknowledged(1)]);
    assert!(server.cli(&["CLIENT", "LIST"]).contains("name=wsloop-"));
}

#[test]
#[ignore = "needs redis-server"]
fn a_wrong_password_is_a_permanent_error_and_the_right_one_connects() {
    let server = RedisServer::start(&["--requirepass", "p@ss"]);
    let table = [
        (format!("redis://{}", server.address()), "needs a password"),
        (
            format!("redis://:wrong@{}", server.address()),
            "correct them",
        ),
        (
            format!("redis://bob:p@ss@{}", server.address()),
            "correct them",
        ),
    ];
    for (url, remedy) in table {
        let (reason, is_permanent, _) = Driver::new(url.parse().unwrap()).disconnection(3 * SECOND);
        assert!(is_permanent && reason.contains(remedy), "{reason}");
    }
    Driver::connect(&format!("redis://:p%40ss@{}", server.address()));
    Driver::connect(&format!("redis://default:p%40ss@{}", server.address()));
}

#[test]
#[ignore = "needs redis-server"]
fn a_user_with_the_documented_permissions_can_do_everything() {
    let server = RedisServer::start(&[]);
    let permissions = "+hello +publish +subscribe +unsubscribe +client|list +client|kill";
    let rule = format!("ACL SETUSER bob on >pw resetchannels &wsloop:* -@all {permissions}");
    assert_eq!(server.cli(&rule.split(' ').collect::<Vec<_>>()), "OK");
    let url = format!("redis://bob:pw@{}", server.address());
    let mut driver = Driver::connect(&url);
    driver.subscribe("/a");
    driver.publish("/a", b"x");
    driver.until(3 * SECOND, is_message("x"));
    server.cli(&["CLIENT", "KILL", "USER", "bob"]);
    driver.disconnection(3 * SECOND);
    driver.until(3 * SECOND, |event| *event == Event::Connected);
    // Without the permissions for the fence, it connects as well.
    assert_eq!(server.cli(&["ACL", "SETUSER", "bob", "-client"]), "OK");
    server.cli(&["CLIENT", "KILL", "USER", "bob"]);
    driver.disconnection(3 * SECOND);
    driver.until(3 * SECOND, |event| *event == Event::Connected);

    let settings = url
        .parse::<crate::redis::Settings>()
        .unwrap()
        .prefix("other:");
    let (reason, is_permanent, _) = Driver::new(settings).disconnection(3 * SECOND);
    assert!(is_permanent && reason.contains("&other:*"), "{reason}");
}

#[test]
#[ignore = "needs redis-server"]
fn after_kill_9_and_a_restart_unwritten_publications_arrive_and_written_ones_are_counted() {
    for is_unix in [false, true] {
        let mut server = RedisServer::start(&[]);
        let mut driver = Driver::connect(&match is_unix {
            true => server.unix_url(),
            false => server.url(),
        });
        driver.subscribe("/a");
        driver.publish("/a", b"before");
        driver.until(3 * SECOND, is_acknowledged);
        server.signal("-STOP");
        driver.publish("/a", b"written");
        server.kill();
        let (_, is_permanent, unacknowledged) = driver.disconnection(3 * SECOND);
        assert_eq!((is_permanent, unacknowledged), (false, 1));
        driver.publish("/a", b"while away");
        driver.during(SECOND);
        server.restart();
        let restarted = Instant::now();
        driver.until(3 * SECOND, |event| *event == Event::Connected);
        assert!(
            restarted.elapsed() < SECOND / 2,
            "{:?}",
            restarted.elapsed()
        );
        driver.redis.subscribe("/a");
        driver.publish("/a", b"after");
        let events = driver.until(3 * SECOND, is_message("after"));
        assert_eq!(payloads(&events), ["while away", "after"]);
        assert_eq!(driver.redis.outbox_bytes(), 0);
    }
}

#[test]
#[ignore = "needs redis-server"]
fn a_broker_that_was_stopped_delivers_nothing_of_the_earlier_connection_after_newer_publications() {
    let server = RedisServer::start(&[]);
    let mut other = Driver::connect(&server.unix_url());
    other.subscribe("/a");
    let mut driver = Driver::connect(&server.unix_url());
    driver.publish("/a", b"before");
    other.until(3 * SECOND, is_message("before"));
    server.signal("-STOP");
    let stopped = Instant::now();
    for _ in 0..10 {
        driver.publish("/a", b"ghost");
    }
    let (reason, _, unacknowledged) = driver.disconnection(7 * SECOND);
    assert!(reason.contains("has not replied"), "{reason}");
    assert_eq!(unacknowledged, 10);
    assert!(stopped.elapsed() >= 5 * SECOND);
    driver.publish("/a", b"retained");
    server.signal("-CONT");
    driver.until(6 * SECOND, |event| *event == Event::Connected);
    driver.publish("/a", b"after");
    let events = other.until(6 * SECOND, is_message("after"));
    let payloads = payloads(&events);
    let newer = payloads
        .iter()
        .position(|payload| payload == "retained")
        .unwrap();
    assert_eq!(payloads[newer..], ["retained", "after"]);
    // The two clients and redis-cli: the earlier connection is gone.
    assert_eq!(server.cli(&["CLIENT", "LIST"]).lines().count(), 3);
}

#[test]
#[ignore = "needs redis-server"]
fn a_client_that_is_killed_connects_again_at_once() {
    let server = RedisServer::start(&[]);
    let mut driver = Driver::connect(&server.url());
    driver.subscribe("/a");
    let killed = Instant::now();
    server.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    let (reason, is_permanent, _) = driver.disconnection(3 * SECOND);
    assert!(!is_permanent && reason.contains("ended"), "{reason}");
    driver.until(3 * SECOND, |event| *event == Event::Connected);
    assert!(killed.elapsed() < SECOND / 2, "{:?}", killed.elapsed());
}

#[test]
#[ignore = "needs redis-server"]
fn a_pause_of_3_s_is_no_gap_and_an_idle_connection_needs_few_turns() {
    let server = RedisServer::start(&[]);
    let mut driver = Driver::connect(&server.url());
    driver.subscribe("/a");
    driver.during(SECOND / 10);
    server.cli(&["CLIENT", "PAUSE", "3000"]);
    driver.publish("/a", b"x");
    let start = Instant::now();
    driver.turns = 0;
    let mut events = driver.until(6 * SECOND, is_message("x"));
    assert!(start.elapsed() > 2 * SECOND);
    events.extend(driver.during(12 * SECOND));
    let ended = |event: &Event| matches!(event, Event::Disconnected { .. });
    assert!(!events.iter().any(ended), "{events:?}");
    // Turns of this loop are 100 ms at most while it waits for the message.
    assert!(driver.turns < 60, "{}", driver.turns);
}

#[test]
#[ignore = "needs redis-server"]
fn a_broker_with_the_maximum_of_clients_is_tried_until_one_leaves() {
    let server = RedisServer::start(&["--maxclients", "1"]);
    let first = Driver::connect(&server.url());
    let mut second = Driver::new(server.url().parse().unwrap());
    for _ in 0..3 {
        let (reason, is_permanent, _) = second.disconnection(3 * SECOND);
        assert!(
            !is_permanent && reason.contains("max number of clients"),
            "{reason}"
        );
    }
    drop(first);
    second.until(3 * SECOND, |event| *event == Event::Connected);
}

#[test]
#[ignore = "needs redis-server"]
fn long_messages_arrive_and_longer_ones_are_skipped() {
    let server = RedisServer::start(&[]);
    let mut driver = Driver::connect(&server.url());
    driver.subscribe("/a");
    let long = "x".repeat((1 << 20) + 16 * 1024);
    for _ in 0..3 {
        driver.publish("/a", long.as_bytes());
        driver.until(3 * SECOND, is_message(&long));
    }
    driver.publish("/a", &vec![b'y'; 5 << 20]);
    driver.publish("/a", b"next");
    let events = driver.until(5 * SECOND, is_message("next"));
    let too_long = Event::TooLong("/a".into(), 5 << 20);
    assert!(events.contains(&too_long), "{}", events.len());
    driver.during(SECOND / 10);
    assert_eq!(driver.redis.outbox_bytes(), 0);
}

#[test]
#[ignore = "needs redis-server"]
fn ten_thousand_topics_are_subscribed_within_200_ms_after_a_restart() {
    let mut server = RedisServer::start(&[]);
    let mut driver = Driver::connect(&server.url());
    server.kill();
    driver.disconnection(3 * SECOND);
    server.restart();
    driver.until(3 * SECOND, |event| *event == Event::Connected);
    let start = Instant::now();
    for number in 0..10_000 {
        driver.redis.subscribe(&format!("/topic/{number}"));
    }
    driver.flush();
    let last = Event::Subscribed("/topic/9999".into());
    let events = driver.until(3 * SECOND, |event| *event == last);
    let elapsed = start.elapsed();
    assert_eq!(events.len(), 10_000);
    println!("10 000 topics: {elapsed:?}");
    assert!(elapsed < SECOND / 5, "{elapsed:?}");
}

#[test]
#[ignore = "needs redis-server"]
fn a_connection_whose_end_the_broker_has_not_noticed_is_killed_by_the_next() {
    let server = RedisServer::start(&[]);
    let proxy = Proxy::start(server.address());
    let mut driver = Driver::connect(&format!("redis://127.0.0.1:{}", proxy.port));
    let ours = || {
        let clients = server.cli(&["CLIENT", "LIST"]);
        clients
            .lines()
            .filter(|line| line.contains("wsloop-"))
            .count()
    };
    for _ in 0..3 {
        proxy.cut_clients();
        driver.disconnection(3 * SECOND);
        assert_eq!(ours(), 1);
        driver.until(3 * SECOND, |event| *event == Event::Connected);
        assert_eq!(ours(), 1);
    }
}
