use super::driver::{Driver, Event, RedisServer};
use crate::backplane::Backplane;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

#[test]
#[ignore = "needs redis-server"]
fn a_publication_reaches_all_subscribers_over_tcp_and_a_unix_socket() {
    let server = RedisServer::start(&[]);
    let mut tcp = Driver::connect(&server.url());
    let mut unix = Driver::connect(&server.unix_url());
    tcp.subscribe("/chat");
    unix.subscribe("/chat");
    tcp.publish("/chat", b"\0\xff\r\n");
    let message = Event::Message("/chat".into(), b"\0\xff\r\n".into());
    for driver in [&mut tcp, &mut unix] {
        driver.until(3 * SECOND, |event| *event == message);
    }
    unix.publish("/chat", b"second");
    let message = Event::Message("/chat".into(), b"second".into());
    for driver in [&mut tcp, &mut unix] {
        driver.until(3 * SECOND, |event| *event == message);
    }
    // Foreign publishers use the same channels.
    server.cli(&["PUBLISH", "wsloop:/chat", "hi"]);
    let message = Event::Message("/chat".into(), b"hi".into());
    tcp.until(3 * SECOND, |event| *event == message);
    tcp.redis.unsubscribe("/chat");
    tcp.publish("/chat", b"third");
    let events = tcp.until(3 * SECOND, |event| matches!(event, Event::Acknowledged(_)));
    assert_eq!(events, [Event::Acknowledged(1)]);
}
