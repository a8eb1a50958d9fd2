//! Tests of the binary as a process: its output, its exit codes, signals, and serving without free file descriptors.

#![cfg(feature = "serve")]

mod common;

use common::process::{Process, WSLOOP, output};
use common::*;
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::time::Duration;

mod command_line {
    use super::*;

    #[test]
    fn the_version_is_printed() {
        let version = concat!("wsloop ", env!("CARGO_PKG_VERSION"), "\n").to_owned();
        for flag in ["-V", "--version"] {
            assert_eq!(output(&[flag]), (Some(0), version.clone(), String::new()));
        }
    }

    #[test]
    fn help_is_printed_on_stdout() {
        let (code, out, err) = output(&["serve", "--help"]);
        assert_eq!((code, &*err), (Some(0), ""));
        assert!(out.contains("--route"), "{out}");
    }

    #[test]
    fn a_wrong_flag_is_named_with_a_hint_and_exit_code_2() {
        let (code, out, err) = output(&["serve", "--colour"]);
        assert_eq!((code, &*out), (Some(2), ""));
        let (first, hint) = err.split_once('\n').unwrap();
        assert!(first.contains("--colour"), "{first}");
        assert_eq!(hint, "Try 'wsloop serve --help'.\n");
        let (_, _, err) = output(&["--colour"]);
        assert!(err.ends_with("\nTry 'wsloop --help'.\n"), "{err}");
    }

    #[test]
    fn a_taken_port_is_named_in_one_line_with_exit_code_1() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = taken.local_addr().unwrap().to_string();
        let (code, out, err) = output(&["echo", "-l", &addr]);
        assert_eq!((code, &*out), (Some(1), ""));
        assert_eq!(err.lines().count(), 1, "{err}");
        assert!(err.contains(&addr), "{err}");
    }
}

mod serving {
    use super::*;

    #[test]
    fn every_listener_is_announced_with_its_real_port() {
        let process = Process::start(&["echo", "-l", "127.0.0.1:0"]);
        let second = process.out.recv_timeout(WAIT).unwrap();
        let second = second.strip_prefix("listening on ws://").unwrap();
        let second: SocketAddr = second.trim_end_matches('/').parse().unwrap();
        assert!(process.addr.port() != 0 && second.port() != 0);
        for addr in [process.addr, second] {
            assert_eq!(ask(&mut connect(addr, "/any/path"), "hello"), "hello");
        }
    }

    #[test]
    fn a_broadcast_replays_its_last_messages_to_clients_that_connect_later() {
        let args = ["-r", "/chat/*=broadcast", "-r", "/=echo", "--replay", "2"];
        let process = Process::start(&[&["serve", "-l", "127.0.0.1:0"], &args[..]].concat());
        let mut early = connect(process.addr, "/chat/a");
        for message in ["1", "2", "3"] {
            assert_eq!(ask(&mut early, message), message);
        }
        drop(early);
        let mut late = connect(process.addr, "/chat/a");
        assert_eq!([text(&mut late), text(&mut late)], ["2", "3"]);
        assert_eq!(ask(&mut late, "4"), "4");
        let mut other = connect(process.addr, "/chat/b");
        assert_eq!(ask(&mut other, "alone"), "alone");
    }

    #[test]
    fn a_replay_in_bytes_is_limited_for_all_paths() {
        let args = ["--replay", "1K", "--replay-bytes-max", "2K"];
        let process = Process::start(&[&["broadcast", "-l", "127.0.0.1:0"], &args[..]].concat());
        let long = "x".repeat(600);
        for path in ["/a", "/b"] {
            let mut client = connect(process.addr, path);
            for message in [&long, "short"] {
                assert_eq!(ask(&mut client, message), message);
            }
        }
        // Two paths with 600 bytes and 1 KiB each exceed 2 KiB.
        let mut late = connect(process.addr, "/b");
        assert_eq!([text(&mut late), text(&mut late)], [&*long, "short"]);
        let mut late = connect(process.addr, "/a");
        assert_eq!(ask(&mut late, "first"), "first");
    }

    /// Regression test: the first broadcast added its length to `lag_bytes_max`, which overflowed.
    #[test]
    fn a_broadcast_works_with_the_largest_limits_in_bytes() {
        let max = usize::MAX.to_string();
        let limits = [
            "--message-bytes-max",
            "--head-bytes-max",
            "--high-water-bytes",
            "--backlog-bytes-max",
            "--lag-bytes-max",
            "--replay-bytes-max",
        ];
        let limits = limits.iter().flat_map(|flag| [*flag, &max]);
        let args = ["broadcast", "-l", "127.0.0.1:0", "--replay", "2"].into_iter();
        let process = Process::start(&args.chain(limits).collect::<Vec<_>>());
        let mut early = connect(process.addr, "/");
        assert_eq!(ask(&mut early, "hello"), "hello");
        assert_eq!(text(&mut connect(process.addr, "/")), "hello");
    }

    #[test]
    fn a_replay_without_a_broadcast_is_a_usage_error() {
        let (code, out, err) = output(&["echo", "--replay", "20"]);
        assert_eq!((code, &*out), (Some(2), ""));
        assert!(
            err.starts_with("wsloop: --replay needs a broadcast"),
            "{err}"
        );
    }

    #[test]
    fn routes_and_health_are_served() {
        let routes = ["serve", "-r", "/e=echo:You sent: ", "-r", "/r=reply:{}"];
        let process = Process::start(&routes);
        let mut echo = connect(process.addr, "/e");
        assert_eq!(ask(&mut echo, "X"), "You sent: X");
        assert_eq!(ask(&mut connect(process.addr, "/r"), "X"), "{}");
        let health = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
        assert_eq!(http(process.addr, health).status, 200);
        let page = "GET /e HTTP/1.1\r\nHost: localhost\r\n\r\n";
        assert_eq!(http(process.addr, page).status, 426);
    }

    /// Returns the subprotocol that a server selects for these offers.
    fn selected(process: &Process, path: &str, offers: &str) -> Option<String> {
        let line = format!("Sec-WebSocket-Protocol: {offers}\r\nHost:");
        let mut raw = Raw::new(process.addr);
        raw.send(upgrade_request(path).replace("Host:", &line));
        let head = raw.response_head();
        assert_eq!(head.status, 101);
        head.header("sec-websocket-protocol").map(str::to_owned)
    }

    #[test]
    fn the_first_subprotocol_that_the_client_offers_is_selected() {
        let routes = ["-r", "/e=echo", "-r", "/b=broadcast", "-r", "/r=reply:x"];
        let process = Process::start(&[&["serve"][..], &routes].concat());
        for path in ["/e", "/b", "/r"] {
            let first = selected(&process, path, "b, a");
            assert_eq!(first.as_deref(), Some("b"), "{path}");
            try_connect(process.addr, path).expect("a client without offers");
        }
        let args = [
            &["serve", "--subprotocol=a", "--subprotocol=c"][..],
            &routes,
        ];
        let process = Process::start(&args.concat());
        for path in ["/e", "/b", "/r"] {
            for (offers, expected) in [
                ("a", Some("a")),
                ("b, c, a", Some("c")),
                ("b", None),
                ("A", None),
            ] {
                let name = selected(&process, path, offers);
                assert_eq!(name.as_deref(), expected, "{path} {offers}");
            }
        }
    }

    #[test]
    fn checks_in_http_1_0_are_answered_also_without_a_host() {
        let process = Process::start(&["serve"]);
        for path in ["/healthz", "/readyz"] {
            // HAProxy's `option httpchk GET /readyz`, and nginx's default for `proxy_pass`.
            for lines in ["", "Host: localhost\r\n"] {
                let response = http(process.addr, &format!("GET {path} HTTP/1.0\r\n{lines}\r\n"));
                assert_eq!((response.status, &*response.body), (200, "ok\n"));
                assert!(response.header("date").is_some());
                let mut raw = Raw::new(process.addr);
                raw.send(format!("HEAD {path} HTTP/1.0\r\n{lines}\r\n"));
                assert_eq!(raw.response_head().status, 200);
                raw.expect_end();
            }
        }
        let foreign = "GET /healthz HTTP/1.0\r\nHost: evil.example\r\n\r\n";
        assert_eq!(http(process.addr, foreign).status, 421);
    }

    fn get(process: &Process, path: &str) -> Response {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        http(process.addr, &request)
    }

    #[test]
    fn the_page_is_served_at_the_root_beside_the_routed_handler() {
        // Arguments, and the answer of the WebSocket at / to "X". `None`: the opening handshake is refused with 404.
        let table: [(&[&str], Option<&str>); 7] = [
            (&[], Some("X")),
            (&["serve"], Some("X")),
            (&["echo"], Some("X")),
            (&["broadcast"], Some("X")),
            (
                &["serve", "-r", "/=echo:root ", "-r", "/*=echo"],
                Some("root X"),
            ),
            (&["serve", "-r", "/*=reply:{}"], Some("{}")),
            (&["serve", "-r", "/chat=broadcast"], None),
        ];
        for (args, answer) in table {
            let process = Process::start(args);
            let page = get(&process, "/");
            assert_eq!(page.status, 200, "{args:?}");
            assert!(page.body.contains("<title>wsloop</title>"), "{args:?}");
            assert!(page.header("content-security-policy").is_some());
            assert_eq!(get(&process, "/healthz").body, "ok\n", "{args:?}");
            match answer {
                Some(answer) => assert_eq!(ask(&mut connect(process.addr, "/"), "X"), answer),
                None => assert_eq!(http(process.addr, &upgrade_request("/")).status, 404),
            }
            let url = format!("http://{}/", process.addr);
            assert!(process.logged("page").ends_with(&url), "{args:?}");
        }
    }

    #[test]
    fn without_the_page_the_root_is_served_by_its_route() {
        let table: [(&[&str], u16, bool); 4] = [
            (&["--no-page"], 426, true),
            (&["echo", "--no-page"], 426, true),
            (&["serve", "--no-page", "-r", "/*=echo"], 426, true),
            (&["serve", "--no-page", "-r", "/chat=broadcast"], 404, false),
        ];
        for (args, status, is_served) in table {
            let process = Process::start(args);
            assert_eq!(get(&process, "/").status, status, "{args:?}");
            assert_eq!(get(&process, "/healthz").status, 200, "{args:?}");
            assert_eq!(
                try_connect(process.addr, "/").is_ok(),
                is_served,
                "{args:?}"
            );
        }
    }

    #[test]
    fn an_unknown_path_is_404_and_a_websockets_path_426() {
        let process = Process::start(&[]);
        for (path, status) in [("/index.html", 404), ("/favicon.ico", 404), ("/echo", 426)] {
            assert_eq!(get(&process, path).status, status, "{path}");
        }
    }

    #[test]
    fn a_connect_and_a_disconnect_are_logged_with_code_and_byte_counts() {
        let process = Process::start(&["echo"]);
        let mut raw = Raw::open(process.addr, "/path");
        let peer = raw.0.local_addr().unwrap().to_string();
        let connected = process.logged("connected");
        assert!(
            connected.contains(&peer) && connected.contains("/path"),
            "{connected}"
        );
        raw.send([frame(TEXT, b"12345"), close_frame(4001, "bye")].concat());
        assert_eq!(raw.frame(), (TEXT, b"12345".to_vec()));
        assert_eq!(raw.close_frame().0, 4001);
        raw.expect_end();
        drop(raw);
        let disconnected = process.logged("disconnected");
        let bytes_in = upgrade_request("/path").len() + 6 + 5 + 6 + 5;
        for part in [&peer, "4001", "bye", &format!("{bytes_in} B in")] {
            assert!(disconnected.contains(part), "{part}: {disconnected}");
        }
    }

    #[test]
    fn with_log_format_json_each_log_line_is_an_object() {
        let process = Process::start(&["echo", "--log-format", "json"]);
        let mut raw = Raw::open(process.addr, "/a\"b");
        raw.send([frame(TEXT, b"12345"), close_frame(4001, "b\"ye")].concat());
        assert_eq!(raw.frame(), (TEXT, b"12345".to_vec()));
        assert_eq!(raw.close_frame().0, 4001);
        raw.expect_end();
        let peer = raw.0.local_addr().unwrap().to_string();
        drop(raw);
        let line = process.logged("\"message\":\"disconnected\"");
        assert!(
            line.starts_with("{\"time\":\"2") && line.ends_with('}'),
            "{line}"
        );
        let peer = format!(r#""peer":"{peer}""#);
        for part in [
            r#""level":"INFO""#,
            peer.as_str(),
            r#""path":"/a\"b""#,
            r#""code":4001"#,
            r#""reason":"b\"ye""#,
            r#""clean":true"#,
            r#""by":"peer""#,
            r#""messages_in":1"#,
            r#""messages_out":1"#,
            r#""seconds":0"#,
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
    }

    #[test]
    fn an_exceeded_limit_is_logged_by_the_name_of_its_flag() {
        for format in ["text", "json"] {
            let format = ["--log-format", format];
            let limits = ["echo", "--message-bytes-max=9", "--idle-timeout=100ms"];
            let process = Process::start(&[&limits[..], &format].concat());
            let mut raw = Raw::open(process.addr, "/idle_timeout");
            raw.send(frame(TEXT, b"0123456789"));
            assert_eq!(raw.close_frame().0, 1009);
            drop(raw);
            process.logged("the message is too big (--message-bytes-max)");
            let mut raw = Raw::open(process.addr, "/idle_timeout");
            raw.send(frame(TEXT, b"1"));
            raw.frame();
            process.logged("--idle-timeout reached");
        }
    }

    /// Regression: the health check replaced the WebSocket route `/*` on its path.
    #[test]
    fn websockets_are_served_on_the_path_of_the_health_check() {
        let process = Process::start(&["echo"]);
        assert_eq!(
            ask(&mut connect(process.addr, "/healthz"), "hello"),
            "hello"
        );
        let health = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
        assert_eq!(http(process.addr, health).status, 200);
    }

    #[test]
    fn a_refusal_by_path_or_origin_is_logged_in_one_line() {
        let process = Process::start(&["serve", "-r", "/a=echo", "--origin", "http://a"]);
        for (path, status) in [("/b", "404"), ("/a", "403")] {
            let mut raw = Raw::new(process.addr);
            raw.send(upgrade_request(path));
            assert_eq!(raw.response_head().status.to_string(), status);
            let line = process.logged("refused");
            assert!(line.contains(status) && line.contains(path), "{line}");
            // Regression test: the line named the Origin, of which there is none.
            let hint = "a request without Origin is not allowed; --origin none allows it";
            assert_eq!(line.ends_with(hint), status == "403", "{line}");
        }
    }

    #[test]
    fn a_get_of_an_unknown_path_is_logged_with_its_path_at_debug() {
        // The process is started without RUST_LOG.
        let mut command = Command::new("env");
        command.args([
            "RUST_LOG=debug",
            WSLOOP,
            "-l",
            "127.0.0.1:0",
            "-r",
            "/a=echo",
        ]);
        let process = Process::announced(command);
        assert_eq!(get(&process, "/b").status, 404);
        let line = process.logged("refused");
        assert!(
            line.contains("DEBUG") && line.contains("path \"/b\", host"),
            "{line}"
        );
        assert!(
            line.ends_with(": 404 nothing is served at this path"),
            "{line}"
        );
        assert_eq!(get(&process, "/").status, 200);
        assert_eq!(get(&process, "/a").status, 426);
        assert!(process.logged("refused").contains("path \"/a\""));
    }

    /// Returns the status of a GET of `/healthz` and that of an opening handshake, both with this `Host`.
    fn statuses_of_host(process: &Process, host: &str) -> [u16; 2] {
        let get = format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let upgrade = upgrade_request("/").replace("localhost", host);
        let mut raw = Raw::new(process.addr);
        raw.send(upgrade);
        [http(process.addr, &get).status, raw.response_head().status]
    }

    #[test]
    fn on_a_loopback_address_requests_for_other_hosts_are_421() {
        let process = Process::start(&["echo", "--metrics", "/metrics"]);
        for host in [
            "localhost",
            "LOCALHOST:1",
            "127.0.0.1",
            "[::1]:8080",
            &process.addr.to_string(),
        ] {
            assert_eq!(statuses_of_host(&process, host), [200, 101], "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example", "10.0.0.1"] {
            assert_eq!(statuses_of_host(&process, host), [421, 421], "{host}");
        }
        for path in ["/", "/metrics", "/missing"] {
            let rebound = format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\n\r\n");
            let response = http(process.addr, &rebound);
            assert_eq!(response.status, 421, "{path}");
            assert!(response.body.contains("--host NAME"), "{}", response.body);
            assert!(!response.body.contains("wsloop"), "{}", response.body);
        }
        let line = process.logged(": 421 ");
        assert!(
            line.contains("evil.example") && line.contains("--host NAME"),
            "{line}"
        );
    }

    #[test]
    fn host_names_the_hosts_and_a_star_allows_all() {
        let process = Process::start(&["echo", "--host", "a.example", "--host", "[::1]:80"]);
        for host in ["a.example", "A.example:9", "[::1]"] {
            assert_eq!(statuses_of_host(&process, host), [200, 101], "{host}");
        }
        for host in ["localhost", "127.0.0.1", "[::1]:81"] {
            assert_eq!(statuses_of_host(&process, host), [421, 421], "{host}");
        }
        let process = Process::start(&["echo", "--host", "*"]);
        assert_eq!(statuses_of_host(&process, "b.example"), [200, 101]);
        let mut raw = Raw::new(process.addr);
        raw.send(with_origin("http://b.example"));
        assert_eq!(raw.response_head().status, 101);
    }

    #[test]
    fn on_other_addresses_every_host_and_origin_is_accepted() {
        let mut command = Command::new(WSLOOP);
        command.args(["echo", "-l", "127.0.0.1:0", "-l", "0.0.0.0:0"]);
        let process = Process::announced(command);
        assert_eq!(statuses_of_host(&process, "b.example"), [200, 101]);
        let mut raw = Raw::new(process.addr);
        raw.send(with_origin("http://b.example"));
        assert_eq!(raw.response_head().status, 101);
    }

    fn with_origin(origin: &str) -> String {
        upgrade_request("/").replace("Host:", &format!("Origin: {origin}\r\nHost:"))
    }

    #[test]
    fn on_a_loopback_address_pages_of_other_hosts_are_403() {
        // Flags, origins that are accepted, origins that are refused, and whether no origin is accepted.
        type Row<'a> = (&'a [&'a str], &'a [&'a str], &'a [&'a str], bool);
        let table: [Row<'_>; 5] = [
            (
                &[],
                &[
                    "http://localhost:3000",
                    "https://127.0.0.1",
                    "http://[::1]",
                    "tauri://localhost",
                    "capacitor://localhost",
                ],
                &[
                    "http://a.example",
                    "null",
                    "http://localhost.a.example",
                    "http://tauri.localhost",
                ],
                true,
            ),
            (
                &["--host", "localhost", "--host", "a.example"],
                &["https://a.example", "http://localhost:3000"],
                &["http://b.example", "http://127.0.0.1"],
                true,
            ),
            (
                &["--origin", "http://a.example"],
                &["http://a.example"],
                &["http://localhost", "null"],
                false,
            ),
            (
                &["--origin", "http://a.example", "--origin", "none"],
                &["http://a.example"],
                &["http://localhost", "null"],
                true,
            ),
            (
                &["--origin", "*"],
                &["http://a.example", "null", "http://localhost"],
                &[],
                true,
            ),
        ];
        for (flags, accepted, refused, accepts_none) in table {
            let process = Process::start(&[&["echo"], flags].concat());
            let status = |request: String| {
                let mut raw = Raw::new(process.addr);
                raw.send(request);
                raw.response_head().status
            };
            for origin in accepted {
                assert_eq!(status(with_origin(origin)), 101, "{flags:?} {origin}");
            }
            for origin in refused {
                assert_eq!(status(with_origin(origin)), 403, "{flags:?} {origin}");
                let line = process.logged(": 403 ");
                assert!(line.contains(origin), "{line}");
                assert!(line.contains("--origin ORIGIN"), "{line}");
            }
            let none = if accepts_none { 101 } else { 403 };
            assert_eq!(status(upgrade_request("/")), none, "{flags:?}");
        }
    }

    #[test]
    fn metrics_are_served_on_their_path_only() {
        let ask_for = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let process = Process::start(&["serve", "--metrics", "/m"]);
        let mut client = connect(process.addr, "/echo");
        assert_eq!(ask(&mut client, "hello"), "hello");
        let answer = http(process.addr, &ask_for("/m"));
        assert_eq!(answer.status, 200);
        let body = answer.body;
        for line in [
            "wsloop_connections_open 1",
            "wsloop_messages_received_total 1",
            "wsloop_messages_sent_total 1",
        ] {
            assert!(body.lines().any(|other| other == line), "{line}\n{body}");
        }
        assert_eq!(http(process.addr, &ask_for("/metrics")).status, 404);
        let process = Process::start(&["serve"]);
        assert_eq!(http(process.addr, &ask_for("/metrics")).status, 404);
    }

    #[test]
    fn signals_close_clients_with_1001_and_end_the_process_with_exit_code_0() {
        for signal in ["TERM", "INT"] {
            let mut process = Process::start(&["echo"]);
            let clients: Vec<Client> = (0..5).map(|_| connect(process.addr, "/")).collect();
            process.signal(signal);
            for client in clients {
                assert_eq!(closed(client).0, 1001, "SIG{signal}");
            }
            assert_eq!(process.code(), Some(0), "SIG{signal}");
        }
    }

    #[test]
    fn sigusr1_drains_and_sigterm_stops_afterwards() {
        for route in ["/*=echo", "/echo=echo"] {
            let mut process = Process::start(&["serve", "-r", route]);
            let mut client = connect(process.addr, "/echo");
            assert_eq!(get(&process, "/readyz").status, 200, "{route}");
            process.signal("USR1");
            process.logged("draining");
            let ready = get(&process, "/readyz");
            assert_eq!((ready.status, &*ready.body), (503, "draining\n"));
            assert_eq!(get(&process, "/healthz").status, 200, "{route}");
            assert_eq!(get(&process, "/").status, 200, "{route}");
            assert_eq!(http(process.addr, &upgrade_request("/echo")).status, 503);
            // Regression test: the line named a stop only.
            process.logged("the server is draining or stopping");
            process.signal("USR1");
            assert_eq!(ask(&mut client, "hello"), "hello");
            process.signal("TERM");
            assert_eq!(closed(client).0, 1001);
            assert_eq!(process.code(), Some(0));
        }
    }

    #[test]
    fn the_closes_after_a_signal_are_spread() {
        let mut process = Process::start(&["echo", "--stop-spread", "400ms"]);
        let clients: Vec<Client> = (0..4).map(|_| connect(process.addr, "/")).collect();
        let start = std::time::Instant::now();
        process.signal("TERM");
        for (n, client) in (0..).zip(clients) {
            assert_eq!(closed(client).0, 1001);
            assert!(start.elapsed() >= Duration::from_millis(100) * n, "{n}");
        }
        assert_eq!(process.code(), Some(0));
    }

    #[test]
    fn a_second_signal_ends_at_once() {
        let mut process = Process::start(&["echo", "--shutdown-grace=1h", "--close-timeout=1h"]);
        let mut raw = Raw::open(process.addr, "/");
        process.signal("TERM");
        assert_eq!(raw.close_frame().0, 1001);
        process.signal("INT");
        assert_eq!(process.code(), Some(0));
    }

    #[test]
    fn two_signals_that_arrive_together_end_at_once() {
        let mut process = Process::start(&["echo", "--shutdown-grace=1h", "--close-timeout=1h"]);
        let raw = Raw::open(process.addr, "/");
        process.signal("STOP");
        process.signal("TERM");
        process.signal("INT");
        process.signal("CONT");
        assert_eq!(process.code(), Some(0));
        drop(raw);
    }
}

mod descriptors {
    use super::*;

    /// Starts a server with fewer descriptors than its limit on connections needs.
    fn start_with_few_descriptors() -> Process {
        let mut command = Command::new("sh");
        let line = r#"ulimit -n 40; exec "$0" echo --connections-max 1000 -l 127.0.0.1:0"#;
        command.args(["-c", line, WSLOOP]);
        Process::announced(command)
    }

    /// Returns the CPU time of a process, in clock ticks of a hundredth of a second.
    fn cpu_ticks(process: &Process) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.child.id())).unwrap();
        // The second field is the name in brackets; utime and stime are the 14th and 15th.
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let fields: Vec<&str> = fields.split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn without_free_descriptors_clients_wait_until_others_leave() {
        let process = start_with_few_descriptors();
        let mut clients: Vec<Raw> = (0..60)
            .map(|_| {
                let mut raw = Raw::new(process.addr);
                raw.send(upgrade_request("/"));
                raw
            })
            .collect();
        process.logged("cannot accept");
        let mut waiting = clients.split_off(15);
        for raw in &mut clients {
            assert_eq!(raw.response_head().status, 101);
        }
        // The last client in the backlog gets nothing for a second, and the server uses little CPU time meanwhile.
        let before = cpu_ticks(&process);
        waiting
            .last_mut()
            .unwrap()
            .expect_silence(Duration::from_secs(1));
        let worked = cpu_ticks(&process) - before;
        assert!(worked < 50, "{worked} hundredths of a second of CPU time");
        // Open sessions are served.
        clients[0].send(frame(TEXT, b"hello"));
        assert_eq!(clients[0].frame(), (TEXT, b"hello".to_vec()));
        drop(clients);
        // Each waiting client disconnects after its echo, which frees a descriptor for another one.
        for raw in waiting {
            let mut raw = raw;
            assert_eq!(raw.response_head().status, 101);
            raw.send(frame(TEXT, b"at last"));
            assert_eq!(raw.frame(), (TEXT, b"at last".to_vec()));
        }
    }
}
