//! Tests of the listeners of the binary, as a process: Unix sockets and their files, inherited sockets, shared ports,
//! backlogs, socket options of connections, the limit on open files, and environment variables.

#![cfg(feature = "serve")]

mod common;

use common::process::{self, Process, WSLOOP};
use common::unix::TempPath;
use common::*;
use std::fs;
use std::process::{Command, Stdio};
use tungstenite::Message as Sent;

/// Starts a command and waits for its announcements. Returns the process and the announced URLs.
fn start(mut command: Command, announcements: usize) -> (Process, Vec<String>) {
    let process = Process::new(&mut command);
    let lines = (0..announcements).map(|_| announced(&process)).collect();
    (process, lines)
}

/// Waits for the next announcement on stdout and returns its URL.
fn announced(process: &Process) -> String {
    loop {
        let line = process.out.recv_timeout(WAIT).expect("an announcement");
        if let Some(url) = line.strip_prefix("listening on ") {
            return url.to_owned();
        }
    }
}

fn wsloop(args: &[&str]) -> Command {
    let mut command = Command::new(WSLOOP);
    command.args(args);
    command
}

/// Returns a command that executes `line` in a shell and then replaces the shell by `wsloop ARGS`.
fn by_shell(line: &str, args: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("{line}; exec \"$0\" \"$@\""), WSLOOP])
        .args(args);
    command
}

/// Runs a command that must fail with exit code 1 and one line on stderr. Returns this line without its prefix.
fn failure(mut command: Command) -> String {
    let mut process = Process::new(&mut command);
    assert_eq!(process.code(), Some(1));
    let lines: Vec<String> = process.log.iter().collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines[0].strip_prefix("wsloop: ").unwrap().to_owned()
}

/// Returns the address in an announced URL.
fn addr_of(url: &str) -> std::net::SocketAddr {
    let addr = url
        .strip_prefix("ws://")
        .and_then(|url| url.strip_suffix('/'));
    addr.expect(url).parse().unwrap()
}

/// Checks that an echo server listens on a Unix socket.
fn check_echo(path: &TempPath) {
    let mut client = path.connect();
    client.send(Sent::text("hello")).unwrap();
    assert_eq!(client.read().unwrap(), Sent::text("hello"));
}

mod unix_sockets {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    /// Starts an echo server on a Unix socket.
    fn start_echo(path: &TempPath) -> Process {
        let (process, urls) = start(wsloop(&["echo", "-l", &path.flag()]), 1);
        assert_eq!(urls, [format!("ws+unix:{}", path.0.display())]);
        process
    }

    /// Returns the permissions of the socket file.
    fn mode(path: &TempPath) -> u32 {
        fs::metadata(&path.0).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn unix_sockets_are_announced_served_closed_with_1001_and_removed() {
        let path = TempPath::new("served");
        let mut process = start_echo(&path);
        check_echo(&path);
        let answer = path.http("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let mut client = path.connect();
        process.signal("TERM");
        let Sent::Close(Some(close)) = client.read().unwrap() else {
            panic!("a Close was expected");
        };
        assert_eq!(u16::from(close.code), 1001);
        assert!(
            !path.0.exists(),
            "the socket file must be removed before the last session ends"
        );
        assert!(client.read().is_err());
        drop(client);
        assert_eq!(process.code(), Some(0));
    }

    #[test]
    fn unix_and_tcp_listeners_are_announced_in_the_order_of_the_flags() {
        let path = TempPath::new("beside");
        let args = ["echo", "-l", "127.0.0.1:0", "-l", &path.flag(), "-l", "0"];
        let (_process, urls) = start(wsloop(&args), 3);
        assert!(urls[1].starts_with("ws+unix:"), "{urls:?}");
        for url in [&urls[0], &urls[2]] {
            assert_eq!(ask(&mut connect(addr_of(url), "/"), "hello"), "hello");
        }
        check_echo(&path);
    }

    #[test]
    fn a_socket_file_without_a_listener_is_replaced() {
        let path = TempPath::new("stale");
        drop(UnixListener::bind(&path.0).unwrap());
        assert!(path.0.exists());
        let mut process = start_echo(&path);
        check_echo(&path);
        // A server that is killed cannot remove its file.
        process.child.kill().unwrap();
        process.child.wait().unwrap();
        assert!(path.0.exists());
        let _process = start_echo(&path);
        check_echo(&path);
    }

    #[test]
    fn a_socket_file_of_a_listening_process_is_an_error() {
        let path = TempPath::new("live");
        let _process = start_echo(&path);
        let flag = path.flag();
        let expected = format!("cannot listen on {flag}: another process is listening on it");
        assert_eq!(failure(wsloop(&["echo", "-l", &flag])), expected);
        check_echo(&path);
    }

    #[test]
    fn a_socket_file_of_a_listener_with_a_full_backlog_is_an_error() {
        let path = TempPath::new("full");
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        socket
            .bind(&socket2::SockAddr::unix(&path.0).unwrap())
            .unwrap();
        socket.listen(0).unwrap();
        let _waits = std::os::unix::net::UnixStream::connect(&path.0).unwrap();
        let flag = path.flag();
        let expected = format!("cannot listen on {flag}: another process is listening on it");
        assert_eq!(failure(wsloop(&["echo", "-l", &flag])), expected);
    }

    #[test]
    fn a_file_that_is_not_a_socket_is_not_replaced() {
        let file = TempPath::new("file");
        fs::write(&file.0, "precious").unwrap();
        let link = TempPath::new("link");
        symlink(&file.0, &link.0).unwrap();
        let folder = std::env::temp_dir();
        for path in [&file.0, &link.0, &folder] {
            let flag = format!("unix:{}", path.display());
            let error = failure(wsloop(&["echo", "-l", &flag]));
            let reason = "the file exists and is not a socket; remove it or choose another path";
            let expected = format!("cannot listen on {flag}: {reason}");
            assert_eq!(error, expected);
        }
        assert_eq!(fs::read_to_string(&file.0).unwrap(), "precious");
        assert_eq!(fs::read_link(&link.0).unwrap(), file.0);
    }

    #[test]
    fn a_missing_directory_is_reported() {
        let flag = "unix:/nonexistent/wsloop.sock";
        let error = failure(wsloop(&["echo", "-l", flag]));
        let expected = format!("cannot listen on {flag}: No such file");
        assert!(error.starts_with(&expected), "{error}");
    }

    #[test]
    fn a_listener_that_fails_removes_the_socket_files_of_the_others() {
        let (path, file) = (TempPath::new("first"), TempPath::new("second"));
        fs::write(&file.0, "").unwrap();
        failure(wsloop(&["echo", "-l", &path.flag(), "-l", &file.flag()]));
        assert!(!path.0.exists());
    }

    #[test]
    fn permissions_come_from_the_flag_or_the_umask() {
        let path = TempPath::new("mode");
        let flag = path.flag();
        let with_mode = ["echo", "-l", &flag, "--unix-mode", "666"];
        let table: [(&str, &[&str], u32); 3] = [
            ("umask 077", &with_mode, 0o666),
            (
                "umask 000",
                &["echo", "-l", &flag, "--unix-mode=0600"],
                0o600,
            ),
            ("umask 027", &["echo", "-l", &flag], 0o750),
        ];
        for (line, args, expected) in table {
            let (mut process, _) = start(by_shell(line, args), 1);
            assert_eq!(mode(&path), expected, "{line} {args:?}");
            process.signal("TERM");
            assert_eq!(process.code(), Some(0));
        }
    }

    #[test]
    fn a_file_created_later_under_the_same_path_is_not_removed() {
        let path = TempPath::new("other");
        let mut process = start_echo(&path);
        fs::remove_file(&path.0).unwrap();
        let successor = UnixListener::bind(&path.0).unwrap();
        process.signal("TERM");
        assert_eq!(process.code(), Some(0));
        assert!(path.0.exists());
        drop(successor);
    }
}

mod inherited {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixListener;

    /// Shell commands that move stdin and stderr to the descriptors 3 and 4, as systemd passes sockets, and redirect
    /// the log to stdout.
    const MOVE_DESCRIPTORS: &str = "exec 3<&0 4<&2 2>&1 </dev/null; export LISTEN_PID=$$";

    /// Returns a command that executes `line` in a shell and then `wsloop ARGS`, with the descriptors 3 and 4
    /// inherited.
    fn with_sockets(line: &str, args: &[&str], tcp: OwnedFd, unix: OwnedFd) -> Command {
        let mut command = by_shell(&format!("{MOVE_DESCRIPTORS}; {line}"), args);
        command.stdin(tcp).stderr(unix);
        command
    }

    /// Starts a command. Unlike [`Process::new`], does not redirect stdin and stderr. Returns the child and its lines.
    fn spawn(mut command: Command) -> (std::process::Child, std::sync::mpsc::Receiver<String>) {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = process::lines(child.stdout.take().unwrap());
        (child, lines)
    }

    fn sockets(path: &TempPath) -> (TcpListener, UnixListener) {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        (tcp, UnixListener::bind(&path.0).unwrap())
    }

    /// Sends SIGTERM to a child and waits for it. Returns its exit code.
    fn end(mut child: std::process::Child) -> Option<i32> {
        let kill = format!("kill -TERM {}", child.id());
        Command::new("sh").args(["-c", &kill]).status().unwrap();
        child.wait().unwrap().code()
    }

    #[test]
    fn inherited_tcp_and_unix_sockets_replace_the_default_address() {
        let path = TempPath::new("inherited");
        let (tcp, unix) = sockets(&path);
        let addr = tcp.local_addr().unwrap();
        let command = with_sockets("export LISTEN_FDS=2", &["echo"], tcp.into(), unix.into());
        let (child, lines) = spawn(command);
        let expected = [
            format!("listening on ws://{addr}/"),
            format!("listening on ws+unix:{}", path.0.display()),
        ];
        for line in expected {
            assert_eq!(lines.recv_timeout(WAIT).unwrap(), line);
        }
        assert_eq!(ask(&mut connect(addr, "/"), "hello"), "hello");
        check_echo(&path);
        assert_eq!(end(child), Some(0));
        let others = lines.iter().filter(|line| line.contains("listening"));
        assert_eq!(others.count(), 0);
        assert!(
            path.0.exists(),
            "the parent, not the server, removes the file of an inherited socket"
        );
    }

    #[test]
    fn flags_add_listeners_to_inherited_sockets() {
        let path = TempPath::new("inherited-and");
        let (tcp, unix) = sockets(&path);
        let addr = tcp.local_addr().unwrap();
        let args = ["echo", "-l", "127.0.0.1:0"];
        let command = with_sockets("export LISTEN_FDS=1", &args, tcp.into(), unix.into());
        let (child, lines) = spawn(command);
        let first = lines.recv_timeout(WAIT).unwrap();
        assert_eq!(first, format!("listening on ws://{addr}/"));
        let second = lines.recv_timeout(WAIT).unwrap();
        let second = addr_of(second.strip_prefix("listening on ").unwrap());
        assert_ne!(second, addr);
        for addr in [addr, second] {
            assert_eq!(ask(&mut connect(addr, "/"), "hello"), "hello");
        }
        assert_eq!(end(child), Some(0));
    }

    #[test]
    fn an_inherited_socket_with_the_name_metrics_is_for_metrics() {
        let path = TempPath::new("inherited-metrics");
        let (tcp, unix) = sockets(&path);
        let addr = tcp.local_addr().unwrap();
        let line = "export LISTEN_FDS=2 LISTEN_FDNAMES=metrics:wsloop.socket";
        let (child, lines) = spawn(with_sockets(line, &["echo"], tcp.into(), unix.into()));
        let first = lines.recv_timeout(WAIT).unwrap();
        assert_eq!(first, format!("metrics on http://{addr}/"));
        let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
        assert_eq!(http(addr, request).status, 200);
        check_echo(&path);
        assert_eq!(end(child), Some(0));
        let others = lines.iter().filter(|line| line.starts_with("listening"));
        assert_eq!(others.count(), 1);
    }

    #[cfg(feature = "proxy-protocol")]
    #[test]
    fn an_inherited_socket_with_the_name_proxy_expects_the_proxy_protocol() {
        let path = TempPath::new("inherited-proxy");
        let (tcp, unix) = sockets(&path);
        let addr = tcp.local_addr().unwrap();
        let line = "export LISTEN_FDS=2 LISTEN_FDNAMES=proxy:wsloop.socket";
        let (child, lines) = spawn(with_sockets(line, &["echo"], tcp.into(), unix.into()));
        let first = lines.recv_timeout(WAIT).unwrap();
        assert_eq!(first, format!("listening on ws://{addr}/ (PROXY protocol)"));
        lines.recv_timeout(WAIT).unwrap();
        check_echo(&path);
        let mut client = Raw::new(addr);
        client.send(format!("PROXY UNKNOWN\r\n{}", upgrade_request("/")));
        assert_eq!(client.response_head().status, 101);
        drop(client);
        assert_eq!(end(child), Some(0));
    }

    #[cfg(feature = "tls-self-signed")]
    #[test]
    fn an_inherited_socket_with_the_name_tls_speaks_tls() {
        for (names, tcp_url, unix_url) in [
            ("tls", "wss://", "ws+unix:"),
            ("tls:proxy-tls", "wss://", "wss+unix:"),
            ("metrics-tls:my-tls", "https://", "ws+unix:"),
            ("tls.socket:tls", "ws://", "wss+unix:"),
        ] {
            let path = TempPath::new("inherited-tls");
            let (tcp, unix) = sockets(&path);
            let line = format!("export LISTEN_FDS=2 LISTEN_FDNAMES={names}");
            let args = ["echo", "--tls-self-signed"];
            let (child, lines) = spawn(with_sockets(&line, &args, tcp.into(), unix.into()));
            let next = || {
                let mut lines = lines.iter();
                let line =
                    lines.find(|line| line.contains(" on ") && line.ends_with(['/', 's', ')']));
                line.unwrap().split_once(" on ").unwrap().1.to_owned()
            };
            assert!(next().starts_with(tcp_url), "{names}");
            assert!(next().starts_with(unix_url), "{names}");
            assert_eq!(end(child), Some(0));
        }
    }

    #[cfg(feature = "tls-self-signed")]
    #[test]
    fn inherited_sockets_and_certificates_must_fit() {
        for (names, args, expected) in [
            (
                "tls",
                &["echo"][..],
                "an inherited socket with TLS needs a certificate",
            ),
            (
                "x",
                &["echo", "--tls-self-signed"],
                "no listener uses the certificates; add -l tls:PORT",
            ),
        ] {
            let path = TempPath::new("inherited-unfit");
            let (tcp, unix) = sockets(&path);
            let line = format!("export LISTEN_FDS=1 LISTEN_FDNAMES={names}");
            let (mut child, lines) = spawn(with_sockets(&line, args, tcp.into(), unix.into()));
            assert_eq!(child.wait().unwrap().code(), Some(1));
            let last = lines.iter().last().unwrap();
            assert!(last.contains(expected), "{last}");
        }
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn an_inherited_socket_with_the_name_tls_needs_the_feature() {
        let path = TempPath::new("inherited-no-tls");
        let (tcp, unix) = sockets(&path);
        let line = "export LISTEN_FDS=1 LISTEN_FDNAMES=tls";
        let (mut child, lines) = spawn(with_sockets(line, &["echo"], tcp.into(), unix.into()));
        assert_eq!(child.wait().unwrap().code(), Some(1));
        let last = lines.iter().last().unwrap();
        let expected = "inherited descriptor 3, which has the name \"tls\", needs TLS";
        assert!(last.contains(expected), "{last}");
    }

    #[test]
    fn sockets_for_another_process_or_without_a_process_id_are_ignored() {
        for line in [
            "export LISTEN_FDS=2 LISTEN_PID=1",
            "export LISTEN_FDS=2 LISTEN_PID=",
            "export LISTEN_FDS=2; unset LISTEN_PID",
            "unset LISTEN_FDS",
            "export LISTEN_FDS=0",
        ] {
            let path = TempPath::new("not-ours");
            let (tcp, unix) = sockets(&path);
            let addr = tcp.local_addr().unwrap();
            let args = ["echo", "-l", "127.0.0.1:0"];
            let (child, lines) = spawn(with_sockets(line, &args, tcp.into(), unix.into()));
            let url = lines.recv_timeout(WAIT).unwrap();
            let own = addr_of(url.strip_prefix("listening on ").unwrap());
            assert_ne!(own, addr, "{line}");
            assert_eq!(ask(&mut connect(own, "/"), "hello"), "hello");
            assert_eq!(end(child), Some(0), "{line}");
        }
    }

    #[test]
    fn a_descriptor_that_is_not_a_listening_socket_is_reported_by_number() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = || TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let file = fs::File::open("/dev/null").unwrap();
        let no_socket = "is neither a TCP nor a Unix stream socket";
        let table: [(OwnedFd, &str, String); 5] = [
            (
                stream().into(),
                "LISTEN_FDS=1",
                "inherited descriptor 3 is not listening; set Accept=no in its systemd socket unit"
                    .to_owned(),
            ),
            (
                udp.into(),
                "LISTEN_FDS=1",
                format!("inherited descriptor 3 {no_socket}"),
            ),
            (
                file.into(),
                "LISTEN_FDS=1",
                format!("inherited descriptor 3 {no_socket}"),
            ),
            (
                listener.try_clone().unwrap().into(),
                "LISTEN_FDS=2",
                format!("inherited descriptor 4 {no_socket}"),
            ),
            (
                listener.try_clone().unwrap().into(),
                "LISTEN_FDS=many",
                "LISTEN_FDS \"many\" is not a number from 0 to 65535".to_owned(),
            ),
        ];
        for (first, line, expected) in table {
            let second = fs::File::open("/dev/null").unwrap().into();
            let command = with_sockets(&format!("export {line}"), &["echo"], first, second);
            let (mut child, lines) = spawn(command);
            assert_eq!(child.wait().unwrap().code(), Some(1), "{expected}");
            let lines: Vec<String> = lines.iter().collect();
            assert_eq!(lines, [format!("wsloop: {expected}")]);
        }
    }
}

#[cfg(feature = "proxy-protocol")]
mod proxies {
    use super::*;

    #[test]
    fn the_client_that_a_proxy_names_is_logged_and_limited() {
        let path = TempPath::new("proxied");
        let proxied_path = format!("proxy:{}", path.flag());
        let args = [
            "echo",
            "-l=proxy:127.0.0.1:0",
            "-l",
            &proxied_path,
            "-l=127.0.0.1:0",
            "--trusted-proxy=127.0.0.1",
            "--connections-per-address-max=1",
        ];
        let (process, urls) = start(wsloop(&args), 3);
        let addr = addr_of(urls[0].strip_suffix(" (PROXY protocol)").unwrap());
        let unix = format!("ws+unix:{} (PROXY protocol)", path.0.display());
        assert_eq!(urls[1], unix);
        let plain = addr_of(&urls[2]);
        // The built-in page is not accessible to browsers at the first two.
        process.logged(&format!("page is at http://{plain}/"));

        let header = "PROXY TCP4 192.0.2.1 127.0.0.1 4660 80\r\n";
        let mut client = Raw::new(addr);
        client.send(format!("{header}{}", upgrade_request("/")));
        assert_eq!(client.response_head().status, 101);
        process.logged("192.0.2.1:4660 connected, path \"/\"");

        let forwarded = "\r\nX-Forwarded-For: 192.0.2.1\r\n";
        let mut second = Raw::new(plain);
        second.send(upgrade_request("/").replacen("\r\n", forwarded, 1));
        assert_eq!(second.response_head().status, 503);
        let line = process.logged("192.0.2.1 refused");
        assert!(
            line.contains("--connections-per-address-max reached"),
            "{line}"
        );

        let mut third = Raw::new(addr);
        third.send(upgrade_request("/"));
        third.expect_end_or_reset();
        let line = process.logged("no valid header of the PROXY protocol");
        assert!(line.contains("127.0.0.1:"), "{line}");
    }
}

#[cfg(not(feature = "tls"))]
#[test]
fn a_binary_without_tls_names_its_feature() {
    for args in [
        &["echo", "-l", "tls:8443"][..],
        &["echo", "--tls-cert", "x"],
        &["echo", "--tls-self-signed"],
    ] {
        let (code, _, error) = process::output(args);
        assert_eq!(code, Some(2));
        assert!(error.contains("the cargo feature \"tls"), "{error}");
    }
}

#[cfg(not(feature = "proxy-protocol"))]
#[test]
fn a_binary_without_the_proxy_protocol_names_its_feature() {
    let (code, _, error) = process::output(&["echo", "-l", "proxy:9700"]);
    assert_eq!(code, Some(2));
    assert!(
        error.contains("cargo feature \"proxy-protocol\""),
        "{error}"
    );
}

mod ports {
    use super::*;

    #[test]
    fn a_port_can_be_shared_by_processes_with_reuse_port() {
        let first = Process::start(&["echo", "--reuse-port"]);
        let addr = first.addr.to_string();
        let error = failure(wsloop(&["echo", "-l", &addr]));
        assert!(
            error.starts_with(&format!("cannot listen on {addr}: ")),
            "{error}"
        );
        let (second, urls) = start(wsloop(&["echo", "--reuse-port", "-l", &addr]), 1);
        assert_eq!(urls, [format!("ws://{addr}/")]);
        // The kernel chooses one of the two processes by the client's port. The chance that all 64 clients get the same
        // process is 1 in 2^63.
        for _ in 0..64 {
            assert_eq!(ask(&mut connect(first.addr, "/"), "hello"), "hello");
        }
        first.logged("connected");
        second.logged("connected");
    }

    #[test]
    fn a_port_is_not_shared_unless_both_have_reuse_port() {
        let first = Process::start(&["echo"]);
        let addr = first.addr.to_string();
        let error = failure(wsloop(&["echo", "--reuse-port", "-l", &addr]));
        assert!(
            error.starts_with(&format!("cannot listen on {addr}: ")),
            "{error}"
        );
    }
}

#[test]
fn a_name_that_cannot_be_resolved_is_a_failure_and_no_usage_error() {
    // RFC 1035 section 2.3.4: a label has at most 63 octets, so no resolver asks the network for this one.
    let flag = format!("metrics:{}:80", "x".repeat(64));
    let error = failure(wsloop(&["echo", "-l=0", "-l", &flag]));
    let expected = format!("cannot listen on {flag}: failed to lookup address information: ");
    assert!(error.starts_with(&expected), "{error}");
}

#[cfg(target_os = "linux")]
mod backlogs {
    use super::*;
    use socket2::{Domain, SockAddr, Socket, Type};
    use std::net::TcpStream;

    /// More than 128, the backlog of std's listeners.
    const CLIENTS: usize = 300;

    #[test]
    fn the_backlog_is_as_long_as_the_system_allows() {
        let max = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
        if max.trim().parse::<usize>().unwrap() < CLIENTS {
            eprintln!("skipped: net.core.somaxconn is {max}");
            return;
        }
        let path = TempPath::new("backlog");
        let (process, urls) = start(wsloop(&["echo", "-l", "0", "-l", &path.flag()]), 2);
        process.signal("STOP");
        let addr = addr_of(&urls[0]);
        let over_tcp: Vec<TcpStream> = (0..CLIENTS)
            .map(|_| TcpStream::connect_timeout(&addr, WAIT).unwrap())
            .collect();
        let over_unix: Vec<Socket> = (0..CLIENTS)
            .map(|_| {
                let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
                socket.set_nonblocking(true).unwrap();
                // Fails with WouldBlock if the backlog is full.
                socket.connect(&SockAddr::unix(&path.0).unwrap()).unwrap();
                socket
            })
            .collect();
        process.signal("CONT");
        check_echo(&path);
        drop((over_tcp, over_unix));
    }
}

#[cfg(target_os = "linux")]
mod connections {
    use super::*;

    /// Returns the timer that is active for the server's socket of an idle connection, from `/proc/net/tcp`: "02" is
    /// the keepalive timer, "00" is none.
    fn timer(process: &Process) -> String {
        let client = Raw::open(process.addr, "/");
        let port = client.0.local_addr().unwrap().port();
        let ours = format!("{:04X}", process.addr.port());
        let mut timer = String::new();
        // The retransmission timer, "01", is active until the acknowledgment of the response has arrived.
        eventually(|| {
            let table = fs::read_to_string("/proc/net/tcp").unwrap();
            let line = table.lines().find(|line| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                fields[1].ends_with(&format!(":{ours}"))
                    && fields[2].ends_with(&format!(":{port:04X}"))
            });
            let field = line.and_then(|line| line.split_whitespace().nth(5));
            timer = field.unwrap().split(':').next().unwrap().to_owned();
            timer != "01"
        });
        timer
    }

    #[test]
    fn connections_have_tcp_keepalive_only_with_the_flag() {
        let with = Process::start(&["echo", "--tcp-keepalive", "60", "--tcp-user-timeout", "90"]);
        assert_eq!(timer(&with), "02");
        assert_eq!(timer(&Process::start(&["echo"])), "00");
    }
}

#[cfg(target_os = "linux")]
mod open_files {
    use super::*;

    #[test]
    fn the_soft_limit_on_open_files_is_raised() {
        let (process, urls) = start(by_shell("ulimit -Sn 64", &["echo", "-l", "127.0.0.1:0"]), 1);
        let raised = process.logged("open files");
        assert!(
            raised.contains("raised the limit on open files from 64 to "),
            "{raised}"
        );
        let addr = addr_of(&urls[0]);
        let clients: Vec<Raw> = (0..100).map(|_| Raw::open(addr, "/")).collect();
        drop(clients);
    }

    #[test]
    fn raising_the_limit_does_not_change_connections_max_from_the_command_line() {
        let args = ["echo", "-l", "127.0.0.1:0", "--connections-max", "3"];
        let (process, urls) = start(by_shell("ulimit -Sn 64", &args), 1);
        process.logged("open files");
        let addr = addr_of(&urls[0]);
        let _clients: Vec<Raw> = (0..3).map(|_| Raw::open(addr, "/")).collect();
        let mut one_more = Raw::new(addr);
        one_more.send(upgrade_request("/"));
        assert_eq!(one_more.response_head().status, 503);
    }

    #[test]
    fn nothing_is_logged_when_the_limit_cannot_be_raised() {
        let args = ["echo", "-l", "127.0.0.1:0"];
        let (mut process, _) = start(by_shell("ulimit -n 64", &args), 1);
        process.signal("TERM");
        assert_eq!(process.code(), Some(0));
        let lines: Vec<String> = process.log.iter().collect();
        assert!(
            !lines.iter().any(|line| line.contains("open files")),
            "{lines:?}"
        );
    }
}

mod variables {
    use super::*;

    #[test]
    fn variables_replace_flags() {
        let path = TempPath::new("variable");
        let mut command = wsloop(&[]);
        command
            .env("WSLOOP_LISTEN", format!("127.0.0.1:0 {}", path.flag()))
            .env("WSLOOP_ROUTE", "/=echo\n/r=reply:a, b")
            .env("WSLOOP_UNIX_MODE", "600");
        let (_process, urls) = start(command, 2);
        let mut client = connect(addr_of(&urls[0]), "/r");
        assert_eq!(ask(&mut client, "?"), "a, b");
        check_echo(&path);
    }

    #[test]
    fn a_flag_overrides_its_variable() {
        let mut command = wsloop(&["echo", "-l", "127.0.0.1:0"]);
        command.env("WSLOOP_LISTEN", "256.0.0.1:99999");
        let (_process, urls) = start(command, 1);
        assert_eq!(ask(&mut connect(addr_of(&urls[0]), "/"), "hello"), "hello");
    }

    #[test]
    fn an_invalid_value_is_reported_with_the_variables_name_and_exit_code_2() {
        let mut command = wsloop(&["echo"]);
        command.env("WSLOOP_IDLE_TIMEOUT", "soon");
        let mut process = Process::new(&mut command);
        assert_eq!(process.code(), Some(2));
        process.logged("wsloop: WSLOOP_IDLE_TIMEOUT \"soon\" is not a duration");
    }

    #[test]
    fn an_unknown_variable_is_a_warning() {
        let mut command = wsloop(&["echo", "-l", "127.0.0.1:0"]);
        command.env("WSLOOP_IDLE_TIME", "1s");
        let (process, _) = start(command, 1);
        process.logged("ignored an environment variable: WSLOOP_IDLE_TIME belongs to no flag");
    }
}

/// Listeners for metrics: `-l metrics:ADDR`.
mod metrics {
    use super::*;
    use std::net::SocketAddr;

    /// Starts `wsloop ARGS` and returns the addresses of its first listener and of its first listener for metrics.
    fn start_with_metrics(args: &[&str]) -> (Process, SocketAddr, SocketAddr) {
        let process = Process::new(&mut wsloop(args));
        let (mut serving, mut metrics) = (None, None);
        while serving.is_none() || metrics.is_none() {
            let line = process.out.recv_timeout(WAIT).expect("an announcement");
            if let Some(url) = line.strip_prefix("metrics on http://") {
                metrics = Some(url.trim_end_matches('/').parse().unwrap());
            } else if let Some(url) = line.strip_prefix("listening on ") {
                serving = Some(addr_of(url));
            }
        }
        (process, serving.unwrap(), metrics.unwrap())
    }

    fn get(addr: SocketAddr, path: &str, host: &str) -> (u16, String) {
        let response = http(
            addr,
            &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        );
        (response.status, response.body)
    }

    fn status(addr: SocketAddr, path: &str) -> u16 {
        get(addr, path, "localhost").0
    }

    #[test]
    fn a_listener_for_metrics_answers_metrics_and_checks_and_nothing_else() {
        let args = ["serve", "-l", "metrics:127.0.0.1:0", "-l", "127.0.0.1:0"];
        let (process, serving, metrics) = start_with_metrics(&args);
        let (code, text) = get(metrics, "/metrics", "localhost");
        assert_eq!(code, 200);
        assert!(text.contains("\nwsloop_connections_open 0\n"), "{text}");
        // Turns are measured only if there is a handler for metrics.
        assert!(text.contains("\nwsloop_turn_seconds_count "), "{text}");
        assert!(!text.contains("\nwsloop_turn_seconds_count 0\n"), "{text}");
        for (path, expected) in [
            ("/healthz", [200, 200]),
            ("/readyz", [200, 200]),
            ("/metrics", [404, 200]),
            ("/metrics/", [404, 404]),
            ("/", [200, 404]),
            ("/echo", [426, 404]),
        ] {
            let found = [serving, metrics].map(|addr| status(addr, path));
            assert_eq!(found, expected, "{path}");
        }
        for path in ["/echo", "/", "/metrics", "/readyz"] {
            let mut client = Raw::new(metrics);
            client.send(upgrade_request(path));
            assert_eq!(client.response().status, 404, "{path}");
        }
        assert_eq!(ask(&mut connect(serving, "/echo"), "hello"), "hello");
        process.signal("USR1");
        eventually(|| status(metrics, "/readyz") == 503);
        assert_eq!(status(metrics, "/healthz"), 200);
    }

    #[test]
    fn the_path_of_the_metrics_is_that_of_the_flag_and_can_be_that_of_a_check() {
        let args = [
            "serve",
            "-l=0",
            "-l=metrics:0",
            "--metrics=/healthz",
            "--no-page",
        ];
        let (_process, serving, metrics) = start_with_metrics(&args);
        assert_eq!(get(serving, "/healthz", "localhost").1, "ok\n");
        assert!(
            get(metrics, "/healthz", "localhost")
                .1
                .contains("wsloop_build_info")
        );
        assert_eq!(status(metrics, "/metrics"), 404);
        assert_eq!(status(metrics, "/readyz"), 200);
    }

    #[test]
    fn the_path_of_the_metrics_on_their_listener_can_be_that_of_a_route() {
        let args = [
            "serve",
            "-r=/m=echo",
            "-l=0",
            "-l=metrics:0",
            "--metrics=/m",
        ];
        let (_process, serving, metrics) = start_with_metrics(&args);
        assert!(
            get(metrics, "/m", "localhost")
                .1
                .contains("wsloop_build_info")
        );
        assert_eq!(ask(&mut connect(serving, "/m"), "hello"), "hello");
    }

    #[test]
    fn a_slot_of_a_request_for_metrics_is_reused_by_a_session_of_another_listener() {
        let (_process, serving, metrics) =
            start_with_metrics(&["echo", "-l=0", "-l=metrics:0", "--connections-max=1"]);
        for _ in 0..20 {
            // Until then, the server has not read the end of the session before.
            eventually(|| {
                let (_, text) = get(metrics, "/metrics", "localhost");
                text.contains("\nwsloop_connections_open 0\n")
            });
            let mut client = connect(serving, "/metrics");
            assert_eq!(ask(&mut client, "hello"), "hello");
        }
    }

    #[test]
    fn checks_on_the_listener_for_metrics_are_answered_at_the_limits_of_connections() {
        let mut args = vec!["echo", "-l=0", "-l=metrics:0", "--connections-max=1"];
        if cfg!(feature = "client-addresses") {
            args.extend([
                "--connections-per-address-max=1",
                "--handshakes-per-address-max=1",
                "--trusted-proxy=127.0.0.1",
            ]);
        }
        let (_process, serving, metrics) = start_with_metrics(&args);
        let mut client = connect(serving, "/");
        assert_eq!(ask(&mut client, "hello"), "hello");
        assert_eq!(status(serving, "/healthz"), 503);
        // More than are accepted above the limit at once: each ends when its answer is read.
        for _ in 0..20 {
            for path in ["/healthz", "/readyz", "/metrics"] {
                assert_eq!(status(metrics, path), 200, "{path}");
            }
        }
        assert_eq!(ask(&mut client, "still here"), "still here");
    }

    #[test]
    fn hosts_of_metrics_are_those_of_its_own_listeners() {
        let args = ["echo", "-l=0.0.0.0:0", "-l=metrics:127.0.0.1:0"];
        let (_process, serving, metrics) = start_with_metrics(&args);
        assert_eq!(get(metrics, "/metrics", "127.0.0.1:9700").0, 200);
        assert_eq!(get(metrics, "/metrics", "site.example").0, 421);
        let serving = SocketAddr::from(([127, 0, 0, 1], serving.port()));
        assert_eq!(get(serving, "/healthz", "site.example").0, 200);

        let args = ["echo", "-l=0", "-l=metrics:0", "--host=ws.example"];
        let (_process, serving, metrics) = start_with_metrics(&args);
        for host in ["ws.example", "localhost"] {
            assert_eq!(get(metrics, "/metrics", host).0, 200, "{host}");
        }
        assert_eq!(get(metrics, "/metrics", "site.example").0, 421);
        assert_eq!(get(serving, "/healthz", "localhost").0, 421);

        let args = ["echo", "-l=0", "-l=metrics:0.0.0.0:0", "--host=ws.example"];
        let (_process, serving, metrics) = start_with_metrics(&args);
        let metrics = SocketAddr::from(([127, 0, 0, 1], metrics.port()));
        assert_eq!(get(metrics, "/metrics", "192.0.2.1:9700").0, 200);
        assert_eq!(get(serving, "/healthz", "192.0.2.1").0, 421);
    }

    #[test]
    fn a_port_for_metrics_is_not_shared() {
        let args = ["echo", "--reuse-port", "-l=0", "-l=metrics:0"];
        let (_process, serving, metrics) = start_with_metrics(&args);
        let port = metrics.port();
        let (serving, metrics) = (serving.to_string(), format!("metrics:{port}"));
        let error = failure(wsloop(&[
            "echo",
            "--reuse-port",
            "-l",
            &serving,
            "-l",
            &metrics,
        ]));
        let expected = format!("cannot listen on metrics:{port} (127.0.0.1:{port}): ");
        assert!(error.starts_with(&expected), "{error}");
    }

    #[test]
    fn metrics_can_be_on_a_unix_socket() {
        let path = TempPath::new("metrics");
        let flag = format!("metrics:{}", path.flag());
        let process = Process::new(wsloop(&["echo", "-l=0"]).args(["-l", &flag]));
        let lines = [(); 2].map(|()| process.out.recv_timeout(WAIT).unwrap());
        assert!(lines[0].starts_with("listening on ws://"), "{lines:?}");
        let expected = format!("metrics on http+unix:{}", path.0.display());
        assert_eq!(lines[1], expected);
        // No website can reach a Unix socket.
        let answer = path.http("GET /metrics HTTP/1.1\r\nHost: site.example\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}
