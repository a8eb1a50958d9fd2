//! What the binary listens on, as a process: Unix sockets and their files, sockets that it inherits, shared ports,
//! backlogs, what is set on connections, how many files it may open, and variables.

#![cfg(feature = "serve")]

mod common;

use common::process::{self, Process, WSLOOP};
use common::unix::Place;
use common::*;
use std::fs;
use std::process::{Command, Stdio};
use tungstenite::Message as Sent;

/// Starts it and waits for as many announcements.
fn start(mut command: Command, announcements: usize) -> (Process, Vec<String>) {
    let process = Process::new(&mut command);
    let lines = (0..announcements).map(|_| announced(&process)).collect();
    (process, lines)
}

/// The next URL that is announced.
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

/// A line of shell that ends with `exec "$0" "$@"`.
fn by_shell(line: &str, args: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("{line}; exec \"$0\" \"$@\""), WSLOOP])
        .args(args);
    command
}

/// Runs it to its end, which must be exit code 1 and one line on stderr, which is given.
fn failure(mut command: Command) -> String {
    let mut process = Process::new(&mut command);
    assert_eq!(process.code(), Some(1));
    let lines: Vec<String> = process.log.iter().collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines[0].strip_prefix("wsloop: ").unwrap().to_owned()
}

fn addr_of(url: &str) -> std::net::SocketAddr {
    let addr = url
        .strip_prefix("ws://")
        .and_then(|url| url.strip_suffix('/'));
    addr.expect(url).parse().unwrap()
}

fn echoes_at(place: &Place) {
    let mut client = place.connect();
    client.send(Sent::text("hello")).unwrap();
    assert_eq!(client.read().unwrap(), Sent::text("hello"));
}

mod unix_sockets {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    fn echo_at(place: &Place) -> Process {
        let (process, urls) = start(wsloop(&["echo", "-l", &place.flag()]), 1);
        assert_eq!(urls, [format!("ws+unix:{}", place.0.display())]);
        process
    }

    fn mode(place: &Place) -> u32 {
        fs::metadata(&place.0).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn they_are_announced_served_told_1001_and_removed() {
        let place = Place::new("served");
        let mut process = echo_at(&place);
        echoes_at(&place);
        let answer = place.http("GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let mut client = place.connect();
        process.signal("TERM");
        let Sent::Close(Some(close)) = client.read().unwrap() else {
            panic!("a Close was expected");
        };
        assert_eq!(u16::from(close.code), 1001);
        assert!(
            !place.0.exists(),
            "a successor could not tell that it is free"
        );
        assert!(client.read().is_err());
        drop(client);
        assert_eq!(process.code(), Some(0));
    }

    #[test]
    fn they_stand_beside_tcp_in_the_order_of_the_flags() {
        let place = Place::new("beside");
        let args = ["echo", "-l", "127.0.0.1:0", "-l", &place.flag(), "-l", "0"];
        let (_process, urls) = start(wsloop(&args), 3);
        assert!(urls[1].starts_with("ws+unix:"), "{urls:?}");
        for url in [&urls[0], &urls[2]] {
            assert_eq!(ask(&mut connect(addr_of(url), "/"), "hello"), "hello");
        }
        echoes_at(&place);
    }

    #[test]
    fn a_file_that_nobody_listens_on_is_replaced() {
        let place = Place::new("stale");
        drop(UnixListener::bind(&place.0).unwrap());
        assert!(place.0.exists());
        let mut process = echo_at(&place);
        echoes_at(&place);
        // The same after a server that could not clean up.
        process.child.kill().unwrap();
        process.child.wait().unwrap();
        assert!(place.0.exists());
        let _process = echo_at(&place);
        echoes_at(&place);
    }

    #[test]
    fn a_process_that_listens_there_is_respected() {
        let place = Place::new("live");
        let _process = echo_at(&place);
        let flag = place.flag();
        let expected = format!("cannot listen on {flag}: another process is listening on it");
        assert_eq!(failure(wsloop(&["echo", "-l", &flag])), expected);
        echoes_at(&place);
    }

    #[test]
    fn so_is_one_whose_backlog_is_full() {
        let place = Place::new("full");
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        socket
            .bind(&socket2::SockAddr::unix(&place.0).unwrap())
            .unwrap();
        socket.listen(0).unwrap();
        let _waits = std::os::unix::net::UnixStream::connect(&place.0).unwrap();
        let flag = place.flag();
        let expected = format!("cannot listen on {flag}: another process is listening on it");
        assert_eq!(failure(wsloop(&["echo", "-l", &flag])), expected);
    }

    #[test]
    fn what_is_no_socket_is_not_touched() {
        let file = Place::new("file");
        fs::write(&file.0, "precious").unwrap();
        let link = Place::new("link");
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
    fn a_folder_that_is_not_there_is_told() {
        let flag = "unix:/nonexistent/wsloop.sock";
        let error = failure(wsloop(&["echo", "-l", flag]));
        let expected = format!("cannot listen on {flag}: No such file");
        assert!(error.starts_with(&expected), "{error}");
    }

    #[test]
    fn a_listener_that_fails_takes_the_files_of_others_with_it() {
        let (place, file) = (Place::new("first"), Place::new("second"));
        fs::write(&file.0, "").unwrap();
        failure(wsloop(&["echo", "-l", &place.flag(), "-l", &file.flag()]));
        assert!(!place.0.exists());
    }

    #[test]
    fn permissions_are_those_asked_for_or_the_umasks() {
        let place = Place::new("mode");
        let flag = place.flag();
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
            assert_eq!(mode(&place), expected, "{line} {args:?}");
            process.signal("TERM");
            assert_eq!(process.code(), Some(0));
        }
    }

    #[test]
    fn a_file_that_took_its_place_is_not_removed() {
        let place = Place::new("other");
        let mut process = echo_at(&place);
        fs::remove_file(&place.0).unwrap();
        let successor = UnixListener::bind(&place.0).unwrap();
        process.signal("TERM");
        assert_eq!(process.code(), Some(0));
        assert!(place.0.exists());
        drop(successor);
    }
}

mod inherited {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixListener;

    /// Descriptors 3 and 4 are what is given as standard input and error, whose log goes to standard output.
    const TAKE: &str = "exec 3<&0 4<&2 2>&1 </dev/null; export LISTEN_PID=$$";

    fn with_sockets(line: &str, args: &[&str], tcp: OwnedFd, unix: OwnedFd) -> Command {
        let mut command = by_shell(&format!("{TAKE}; {line}"), args);
        command.stdin(tcp).stderr(unix);
        command
    }

    /// As [`Process::new`], which has its own idea of the standard streams.
    fn spawn(mut command: Command) -> (std::process::Child, std::sync::mpsc::Receiver<String>) {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = process::lines(child.stdout.take().unwrap());
        (child, lines)
    }

    fn sockets(place: &Place) -> (TcpListener, UnixListener) {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        (tcp, UnixListener::bind(&place.0).unwrap())
    }

    /// Ends a child by its own id, and waits for it.
    fn end(mut child: std::process::Child) -> Option<i32> {
        let kill = format!("kill -TERM {}", child.id());
        Command::new("sh").args(["-c", &kill]).status().unwrap();
        child.wait().unwrap().code()
    }

    #[test]
    fn tcp_and_unix_sockets_are_listened_on_and_without_a_flag_nothing_else() {
        let place = Place::new("inherited");
        let (tcp, unix) = sockets(&place);
        let addr = tcp.local_addr().unwrap();
        let command = with_sockets("export LISTEN_FDS=2", &["echo"], tcp.into(), unix.into());
        let (child, lines) = spawn(command);
        let expected = [
            format!("listening on ws://{addr}/"),
            format!("listening on ws+unix:{}", place.0.display()),
        ];
        for line in expected {
            assert_eq!(lines.recv_timeout(WAIT).unwrap(), line);
        }
        assert_eq!(ask(&mut connect(addr, "/"), "hello"), "hello");
        echoes_at(&place);
        assert_eq!(end(child), Some(0));
        let others = lines.iter().filter(|line| line.contains("listening"));
        assert_eq!(others.count(), 0);
        assert!(place.0.exists(), "it is the parent's to remove");
    }

    #[test]
    fn flags_add_to_them() {
        let place = Place::new("inherited-and");
        let (tcp, unix) = sockets(&place);
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
    fn those_for_another_process_or_for_nobody_are_ignored() {
        for line in [
            "export LISTEN_FDS=2 LISTEN_PID=1",
            "export LISTEN_FDS=2 LISTEN_PID=",
            "export LISTEN_FDS=2; unset LISTEN_PID",
            "unset LISTEN_FDS",
            "export LISTEN_FDS=0",
        ] {
            let place = Place::new("not-ours");
            let (tcp, unix) = sockets(&place);
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
    fn what_is_no_listening_socket_is_named() {
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

mod ports {
    use super::*;

    #[test]
    fn one_can_be_shared_by_processes_that_agree() {
        let first = Process::start(&["echo", "--reuse-port"]);
        let addr = first.addr.to_string();
        let error = failure(wsloop(&["echo", "-l", &addr]));
        assert!(
            error.starts_with(&format!("cannot listen on {addr}: ")),
            "{error}"
        );
        let (second, urls) = start(wsloop(&["echo", "--reuse-port", "-l", &addr]), 1);
        assert_eq!(urls, [format!("ws://{addr}/")]);
        // One of two for each, by its port: that 64 have the same is as likely as 1 in 2^63.
        for _ in 0..64 {
            assert_eq!(ask(&mut connect(first.addr, "/"), "hello"), "hello");
        }
        first.logged("connected");
        second.logged("connected");
    }

    #[test]
    fn one_is_not_shared_unless_both_say_so() {
        let first = Process::start(&["echo"]);
        let addr = first.addr.to_string();
        let error = failure(wsloop(&["echo", "--reuse-port", "-l", &addr]));
        assert!(
            error.starts_with(&format!("cannot listen on {addr}: ")),
            "{error}"
        );
    }
}

#[cfg(target_os = "linux")]
mod backlogs {
    use super::*;
    use socket2::{Domain, SockAddr, Socket, Type};
    use std::net::TcpStream;

    /// More than std's 128.
    const CLIENTS: usize = 300;

    #[test]
    fn as_many_wait_as_the_system_lets() {
        let max = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
        if max.trim().parse::<usize>().unwrap() < CLIENTS {
            eprintln!("not checked: net.core.somaxconn is {max}");
            return;
        }
        let place = Place::new("backlog");
        let (process, urls) = start(wsloop(&["echo", "-l", "0", "-l", &place.flag()]), 2);
        process.signal("STOP");
        let addr = addr_of(&urls[0]);
        let over_tcp: Vec<TcpStream> = (0..CLIENTS)
            .map(|_| TcpStream::connect_timeout(&addr, WAIT).unwrap())
            .collect();
        let over_unix: Vec<Socket> = (0..CLIENTS)
            .map(|_| {
                let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
                socket.set_nonblocking(true).unwrap();
                // It would block if the backlog were full.
                socket.connect(&SockAddr::unix(&place.0).unwrap()).unwrap();
                socket
            })
            .collect();
        process.signal("CONT");
        echoes_at(&place);
        drop((over_tcp, over_unix));
    }
}

#[cfg(target_os = "linux")]
mod connections {
    use super::*;

    /// The timer that runs on the server's side of an idle connection, as Linux tells it: 2 is keep-alive's.
    fn timer(process: &Process) -> String {
        let client = Raw::open(process.addr, "/");
        let port = client.0.local_addr().unwrap().port();
        let ours = format!("{:04X}", process.addr.port());
        let mut timer = String::new();
        // Until the acknowledgment of the answer is in, it is the retransmission's.
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
    fn they_have_keep_alive_if_it_is_asked_for() {
        let with = Process::start(&["echo", "--tcp-keepalive", "60", "--tcp-user-timeout", "90"]);
        assert_eq!(timer(&with), "02");
        assert_eq!(timer(&Process::start(&["echo"])), "00");
    }
}

#[cfg(target_os = "linux")]
mod open_files {
    use super::*;

    #[test]
    fn their_limit_is_raised_and_connections_follow() {
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
    fn a_number_of_connections_that_was_given_stays() {
        let args = ["echo", "-l", "127.0.0.1:0", "--connections-max", "3"];
        let (process, urls) = start(by_shell("ulimit -Sn 64", &args), 1);
        process.logged("open files");
        let addr = addr_of(&urls[0]);
        let _clients: Vec<Raw> = (0..3).map(|_| Raw::open(addr, "/")).collect();
        let mut one_more = Raw::new(addr);
        one_more.say(upgrade_request("/"));
        assert_eq!(one_more.response_head().status, 503);
    }

    #[test]
    fn nothing_is_said_when_there_is_nothing_to_raise() {
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
    fn they_stand_for_flags() {
        let place = Place::new("variable");
        let mut command = wsloop(&[]);
        command
            .env("WSLOOP_LISTEN", format!("127.0.0.1:0 {}", place.flag()))
            .env("WSLOOP_ROUTE", "/=echo\n/r=reply:a, b")
            .env("WSLOOP_UNIX_MODE", "600");
        let (_process, urls) = start(command, 2);
        let mut client = connect(addr_of(&urls[0]), "/r");
        assert_eq!(ask(&mut client, "?"), "a, b");
        echoes_at(&place);
    }

    #[test]
    fn a_flag_wins() {
        let mut command = wsloop(&["echo", "-l", "127.0.0.1:0"]);
        command.env("WSLOOP_LISTEN", "256.0.0.1:99999");
        let (_process, urls) = start(command, 1);
        assert_eq!(ask(&mut connect(addr_of(&urls[0]), "/"), "hello"), "hello");
    }

    #[test]
    fn a_wrong_value_is_told_with_its_name_and_exit_code_2() {
        let mut command = wsloop(&["echo"]);
        command.env("WSLOOP_IDLE_TIMEOUT", "soon");
        let mut process = Process::new(&mut command);
        assert_eq!(process.code(), Some(2));
        process.logged("wsloop: WSLOOP_IDLE_TIMEOUT \"soon\" is not a duration");
    }

    #[test]
    fn a_name_that_is_no_flags_is_told_and_no_error() {
        let mut command = wsloop(&["echo", "-l", "127.0.0.1:0"]);
        command.env("WSLOOP_IDLE_TIME", "1s");
        let (process, _) = start(command, 1);
        process.logged("ignored the environment variable WSLOOP_IDLE_TIME: no flag has this name");
    }
}
