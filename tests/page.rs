//! Tests of [`Page`] over real sockets: the responses to GET and HEAD, conditional requests, and the WebSocket
//! handler that serves the same path.

mod common;

use common::*;
use mio::Interest;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;
use tungstenite::Message as Sent;
use wsloop::handlers::{Broadcast, Echo};
use wsloop::page::Page;
use wsloop::{
    Close, Config, Context, Error, Handler, HttpResponse, Id, LagPolicy, Message, Ready, Request,
    Router, SendStatus, Server, Upgrade,
};

/// Runs a server with the built-in page at `/` (with an echo) and `/topic/*` (with a broadcast), and a custom page
/// without a WebSocket handler at `/own`.
fn routed() -> Running {
    let own = Page::bytes("text/css", &b"p{}"[..])
        .with_header("Cache-Control", "max-age=60")
        .unwrap()
        .with_header("X-Own", "yes")
        .unwrap();
    let router = Router::sendable()
        .route("/", Page::new().beside(Echo::new()))
        .route("/own", own)
        .route("/topic/*", Page::default().beside(Broadcast));
    serve(Config::default(), router)
}

/// Requests a page. `headers` are whole lines with their CRLF. A response to HEAD, or to a request with `headers`,
/// must not have a body.
fn request_page(addr: SocketAddr, method: &str, path: &str, headers: &str) -> Response {
    let mut raw = Raw::new(addr);
    raw.send(format!(
        "{method} {path} HTTP/1.1\r\nHost: here\r\n{headers}\r\n"
    ));
    if method == "GET" && headers.is_empty() {
        return raw.response();
    }
    let head = raw.response_head();
    raw.expect_end();
    head
}

fn get(addr: SocketAddr, path: &str) -> Response {
    request_page(addr, "GET", path, "")
}

mod reading {
    use super::*;

    #[test]
    fn the_built_in_page_is_complete_and_has_a_content_security_policy() {
        let server = routed();
        let page = get(server.addr, "/");
        assert_eq!(page.status, 200);
        assert!(page.body.starts_with("<!doctype html>"));
        assert!(page.body.ends_with("</script>\n"));
        for (name, value) in [
            ("content-type", "text/html; charset=utf-8"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-cache"),
        ] {
            assert_eq!(page.header(name), Some(value));
        }
        let policy = page.header("content-security-policy").unwrap();
        let directives: Vec<_> = policy.split("; ").collect();
        for directive in [
            "default-src 'none'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ] {
            assert!(directives.contains(&directive), "{directive}: {policy}");
        }
        assert!(
            !policy.contains("unsafe") && !policy.contains('*'),
            "{policy}"
        );
    }

    #[test]
    fn a_query_is_not_part_of_the_path_and_an_unknown_path_is_404() {
        let server = routed();
        assert_eq!(get(server.addr, "/?a=b").status, 200);
        assert_eq!(get(server.addr, "/topic/any").status, 200);
        for path in ["/index.html", "/topic", "/favicon.ico", "//"] {
            assert_eq!(get(server.addr, path).status, 404, "{path}");
        }
    }

    #[test]
    fn a_head_has_the_headers_of_a_get_and_no_body() {
        let server = routed();
        for path in ["/", "/own"] {
            let whole = get(server.addr, path);
            assert_eq!(request_page(server.addr, "HEAD", path, "").head, whole.head);
            let len = whole.header("content-length").unwrap();
            assert_eq!(len, whole.body.len().to_string());
        }
    }

    #[test]
    fn other_methods_are_405() {
        let server = routed();
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            let request = format!("{method} / HTTP/1.1\r\nHost: here\r\n\r\n");
            let refused = http(server.addr, &request);
            assert_eq!(refused.status, 405, "{method}");
            assert!(refused.header("allow").unwrap().contains("GET"));
        }
    }

    #[test]
    fn custom_bytes_are_served_with_their_type_and_headers() {
        let server = routed();
        let own = get(server.addr, "/own");
        assert_eq!((own.status, &*own.body), (200, "p{}"));
        for (name, value) in [
            ("content-type", Some("text/css")),
            ("cache-control", Some("max-age=60")),
            ("x-own", Some("yes")),
            ("content-security-policy", None),
        ] {
            assert_eq!(own.header(name), value, "{name}");
        }
    }
}

mod etags {
    use super::*;

    fn tag(addr: SocketAddr, path: &str) -> String {
        get(addr, path).header("etag").unwrap().to_owned()
    }

    #[test]
    fn the_entity_tag_depends_on_the_bytes_only() {
        let (one, two) = (routed(), routed());
        let tags = [tag(one.addr, "/"), tag(one.addr, "/own")];
        assert_ne!(tags[0], tags[1]);
        assert_eq!(tags[0], tag(one.addr, "/topic/a"));
        assert_eq!(tags, [tag(two.addr, "/"), tag(two.addr, "/own")]);
        for tag in tags {
            assert!(tag.len() == 18 && tag.starts_with('"') && tag.ends_with('"'));
        }
    }

    #[test]
    fn a_matching_entity_tag_is_answered_with_304_without_a_body() {
        let server = routed();
        let tag = tag(server.addr, "/own");
        for named in [
            tag.clone(),
            format!("W/{tag}"),
            format!("\"a\", {tag}"),
            format!("\"a\"\r\nIf-None-Match: {tag}, \"b\""),
            "*".to_owned(),
        ] {
            for method in ["GET", "HEAD"] {
                let line = format!("If-None-Match: {named}\r\n");
                let answer = request_page(server.addr, method, "/own", &line);
                assert_eq!(answer.status, 304, "{method} {named}");
                for (name, value) in [
                    ("etag", Some(&*tag)),
                    ("cache-control", Some("max-age=60")),
                    ("content-length", None),
                    ("content-type", None),
                    ("x-own", None),
                ] {
                    assert_eq!(answer.header(name), value, "{name}");
                }
            }
        }
    }

    #[test]
    fn another_entity_tag_is_answered_with_200_and_the_body() {
        let server = routed();
        let tag = tag(server.addr, "/own");
        for named in ["\"a\", \"b\"", tag.trim_matches('"'), "W/\"a\""] {
            let line = format!("If-None-Match: {named}\r\n");
            let mut raw = Raw::new(server.addr);
            raw.send(format!("GET /own HTTP/1.1\r\nHost: here\r\n{line}\r\n"));
            let answer = raw.response();
            assert_eq!((answer.status, &*answer.body), (200, "p{}"), "{named}");
        }
    }
}

mod sockets {
    use super::*;

    #[test]
    fn websockets_are_served_beside_the_page_and_refused_without_a_handler() {
        let server = routed();
        assert_eq!(ask(&mut connect(server.addr, "/"), "hello"), "hello");
        let (mut one, mut two) = (
            connect(server.addr, "/topic/a"),
            connect(server.addr, "/topic/a"),
        );
        assert_eq!(ask(&mut one, "to all"), "to all");
        assert_eq!(text(&mut two), "to all");
        assert_eq!(http(server.addr, &upgrade_request("/own")).status, 404);
    }

    /// Sends the name of each event to the test.
    struct Named(mpsc::Sender<&'static str>);

    impl Named {
        fn record(&self, name: &'static str) {
            // Fails if the test has dropped the receiver.
            let _ = self.0.send(name);
        }
    }

    impl Handler for Named {
        fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
            self.record("message");
            match message.as_text() {
                Some("flood") => {
                    // The client does not read before the event "flooded".
                    while let SendStatus::Queued = cx.send(id, &[0; MIB][..]) {}
                    let _ = cx.send(id, "the end");
                    self.record("flooded");
                }
                Some("fall behind") => {
                    cx.subscribe(id, "topic");
                    cx.set_timer(Duration::ZERO, PUBLISH);
                }
                Some(_) | None => {
                    cx.ping(id, b"");
                    cx.set_timer(Duration::ZERO, 0);
                }
            }
        }

        fn on_start(&mut self, _: &mut Context<'_>) {
            self.record("start");
        }

        fn on_upgrade(
            &mut self,
            _: &mut Context<'_>,
            _: Id,
            _: &Request,
            _: &mut Upgrade,
        ) -> Result<(), HttpResponse> {
            self.record("upgrade");
            Ok(())
        }

        fn on_open(&mut self, cx: &mut Context<'_>, _: Id) {
            cx.set_lag_policy("topic", Some(LagPolicy::Skip));
            self.record("open");
        }

        fn on_http(&mut self, _: &mut Context<'_>, _: Id, _: &Request) -> HttpResponse {
            panic!("the page must answer a plain GET");
        }

        fn on_ping(&mut self, _: &mut Context<'_>, _: Id, _: &[u8]) {
            self.record("ping");
        }

        fn on_pong(&mut self, _: &mut Context<'_>, _: Id, _: &[u8]) {
            self.record("pong");
        }

        fn on_drain(&mut self, _: &mut Context<'_>, _: Id) {
            self.record("drain");
        }

        fn on_skip(&mut self, _: &mut Context<'_>, _: Id, _: &str, _: u64) {
            self.record("skip");
        }

        fn on_close(&mut self, _: &mut Context<'_>, _: Id, _: &Close<'_>) {
            self.record("close");
        }

        fn on_error(&mut self, _: &mut Context<'_>, _: Option<Id>, _: &Error) {
            self.record("error");
        }

        fn on_timer(&mut self, cx: &mut Context<'_>, key: u64) {
            self.record("timer");
            // Publishes as long as the topic has a member. The member then lags even if its socket buffers are large.
            if key == PUBLISH && cx.publish("topic", &[0; MIB][..]) > 0 {
                cx.set_timer(Duration::from_millis(1), PUBLISH);
            }
        }

        fn on_source(&mut self, _: &mut Context<'_>, _: u64, _: Ready) {
            self.record("source");
        }
    }

    /// The key of the timer that publishes.
    const PUBLISH: u64 = 1;

    #[test]
    fn the_handler_beside_a_page_gets_every_event_except_on_http() {
        let (event_sender, events) = mpsc::channel();
        let config = Config {
            high_water_bytes: 64 * KIB,
            low_water_bytes: 16 * KIB,
            lag_bytes_max: 64 * KIB,
            ..Config::default()
        };
        let mut server = Server::new(config, Page::new().beside(Named(event_sender))).unwrap();
        server.listen("127.0.0.1:0").unwrap();
        let (mut sender, mut receiver) = socket_pair();
        server
            .with_context(|cx| cx.register(&mut receiver, 7, Interest::READABLE))
            .unwrap();
        let server = run(server);
        assert_eq!(get(server.addr, "/").status, 200);
        let expect = |names: &[&str]| {
            let mut missing = names.to_owned();
            while !missing.is_empty() {
                let name = events.recv_timeout(WAIT);
                let name = name.unwrap_or_else(|_| panic!("no events {missing:?}"));
                missing.retain(|one| *one != name);
            }
        };
        expect(&["start"]);
        sender.write_all(b"x").unwrap();
        expect(&["source"]);
        let mut client = connect(server.addr, "/");
        expect(&["upgrade", "open"]);
        client.send(Sent::Ping("".into())).unwrap();
        client.send(Sent::text("ping me")).unwrap();
        assert!(matches!(client.read(), Ok(Sent::Pong(_))));
        assert!(matches!(client.read(), Ok(Sent::Ping(_))));
        client.flush().unwrap();
        expect(&["ping", "message", "timer", "pong"]);
        client.send(Sent::text("flood")).unwrap();
        expect(&["flooded"]);
        while let Sent::Binary(bytes) = client.read().unwrap() {
            assert_eq!(bytes.len(), MIB);
        }
        expect(&["drain"]);
        client.send(Sent::text("fall behind")).unwrap();
        expect(&["skip"]);
        drop(client);
        expect(&["close"]);
        let mut raw = Raw::open(server.addr, "/");
        raw.send([0xFF, 0xFF]);
        assert_eq!(raw.close_frame().0, 1002);
        drop(raw);
        expect(&["error", "close"]);
    }
}
