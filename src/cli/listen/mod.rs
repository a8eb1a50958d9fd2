//! Opens the listeners of a server: inherited sockets, TCP addresses and paths of Unix sockets.
//!
//! Either all listeners are opened, or the error names the one that failed. This module accepts no connections.

mod inherited;
mod unix;

pub(super) use unix::SocketFile;

use super::args::{Listen, ListenAddress, Serve, SocketOptions};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;

/// A listener that is open.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) socket: ListeningSocket,
    /// Whether connections begin with a header of the PROXY protocol.
    pub(super) is_proxied: bool,
    /// Whether connections speak TLS, after that header.
    pub(super) is_tls: bool,
    /// Whether the listener answers requests for metrics and checks only.
    pub(super) is_metrics: bool,
}

/// A listening socket.
#[derive(Debug)]
pub(super) enum ListeningSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Opens all listeners. Returns them with the socket files that this process has created, which are removed on drop.
///
/// # Errors
/// The first error, with the address or inherited descriptor of the listener, or with the flag of a socket option that
/// cannot be set.
pub(super) fn open(serve: &Serve) -> io::Result<(Vec<Listener>, Vec<SocketFile>)> {
    let options = &serve.sockets;
    let mut listeners = inherited::take()?;
    let mut files = Vec::new();
    let is_default_needed = listeners.iter().all(|listener| listener.is_metrics)
        && serve.listen.iter().all(|listen| listen.is_metrics);
    let default_address = is_default_needed.then(Listen::default_address);
    for one in default_address.iter().chain(&serve.listen) {
        let failed = |error| with_context(error, format!("cannot listen on {one}"));
        let socket = match &one.at {
            ListenAddress::Tcp(address) => {
                let socket = address.resolve().map_err(failed)?;
                // Two processes on one port for metrics would both be hidden: each request reaches either of them.
                let is_port_shared = options.is_port_shared && !one.is_metrics;
                let listener = listen_tcp(socket, is_port_shared).map_err(|error| {
                    if socket.to_string() == address.text {
                        return failed(error);
                    }
                    with_context(error, format!("cannot listen on {one} ({socket})"))
                })?;
                ListeningSocket::Tcp(listener)
            }
            ListenAddress::Unix(path) => {
                let (listener, file) =
                    unix::bind(path, options.unix_mode, BACKLOG).map_err(failed)?;
                files.push(file);
                ListeningSocket::Unix(listener)
            }
        };
        listeners.push(Listener {
            socket,
            is_proxied: one.is_proxied,
            is_tls: one.is_tls,
            is_metrics: one.is_metrics,
        });
    }
    for listener in &listeners {
        if let ListeningSocket::Tcp(listener) = &listener.socket {
            set_options(listener, options)?;
        }
    }
    Ok((listeners, files))
}

/// Opens a TCP listener. Differs from `TcpListener::bind` in its backlog and, if requested, in `SO_REUSEPORT`: the
/// backlog of std is 128, which a burst of new connections overflows.
fn listen_tcp(address: SocketAddr, is_port_shared: bool) -> io::Result<TcpListener> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    // Allows a restarted server to use the port while connections of its predecessor are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    if is_port_shared {
        share_port(&socket).map_err(|error| with_context(error, "--reuse-port"))?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(not(any(target_os = "solaris", target_os = "illumos")))]
fn share_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

#[cfg(any(target_os = "solaris", target_os = "illumos"))]
fn share_port(_: &Socket) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, UNSUPPORTED))
}

/// Sets socket options on a listener. On Linux and the BSDs, accepted connections inherit them, which saves the
/// system calls for each connection.
fn set_options(listener: &TcpListener, options: &SocketOptions) -> io::Result<()> {
    let socket = SockRef::from(listener);
    if let Some(time) = options.tcp_keepalive {
        let probes = TcpKeepalive::new()
            .with_time(time)
            .with_interval((time / KEEPALIVE_PROBES).max(INTERVAL_MIN))
            .with_retries(KEEPALIVE_PROBES);
        socket
            .set_tcp_keepalive(&probes)
            .map_err(|error| with_context(error, "--tcp-keepalive"))?;
    }
    if let Some(timeout) = options.tcp_user_timeout {
        set_user_timeout(&socket, timeout)
            .map_err(|error| with_context(error, "--tcp-user-timeout"))?;
    }
    Ok(())
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn set_user_timeout(socket: &SockRef<'_>, timeout: std::time::Duration) -> io::Result<()> {
    socket.set_tcp_user_timeout(Some(timeout))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn set_user_timeout(_: &SockRef<'_>, _: std::time::Duration) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, UNSUPPORTED))
}

/// Returns the error with `what` before its message.
fn with_context(error: io::Error, what: impl AsRef<str>) -> io::Error {
    let what = what.as_ref();
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// Requested backlog: the maximum. The kernel reduces it to its current limit (net.core.somaxconn on Linux,
/// kern.ipc.somaxconn or kern.somaxconn on the BSDs), so that wsloop need not read that limit.
const BACKLOG: i32 = i32::MAX;

/// Number of consecutive unanswered probes after which a connection is dropped.
const KEEPALIVE_PROBES: u32 = 3;

/// Minimum interval between probes; systems count it in seconds.
const INTERVAL_MIN: std::time::Duration = std::time::Duration::from_secs(1);

#[cfg(not(any(target_os = "linux", target_os = "android")))]
const UNSUPPORTED: &str = "this system does not support the option";

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::net::TcpStream;
    use std::time::Duration;

    fn listener(options: &SocketOptions) -> TcpListener {
        let address = ([127, 0, 0, 1], 0).into();
        let listener = listen_tcp(address, options.is_port_shared).unwrap();
        set_options(&listener, options).unwrap();
        listener
    }

    #[test]
    fn accepted_connections_inherit_keep_alive_and_user_timeout() {
        let options = SocketOptions {
            tcp_keepalive: Some(Duration::from_secs(30)),
            tcp_user_timeout: Some(Duration::from_millis(4500)),
            ..SocketOptions::default()
        };
        let listener = listener(&options);
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let accepted = SockRef::from(&accepted);
        assert!(accepted.keepalive().unwrap());
        let seconds = Duration::from_secs;
        assert_eq!(accepted.tcp_keepalive_time().unwrap(), seconds(30));
        assert_eq!(accepted.tcp_keepalive_interval().unwrap(), seconds(10));
        assert_eq!(accepted.tcp_keepalive_retries().unwrap(), 3);
        assert_eq!(
            accepted.tcp_user_timeout().unwrap(),
            options.tcp_user_timeout
        );
        drop(client);
    }

    #[test]
    fn the_shortest_keep_alive_probes_each_second() {
        let options = SocketOptions {
            tcp_keepalive: Some(Duration::from_secs(1)),
            ..SocketOptions::default()
        };
        let listener = listener(&options);
        let socket = SockRef::from(&listener);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), INTERVAL_MIN);
    }

    #[test]
    fn no_socket_option_is_set_by_default() {
        let listener = listener(&SocketOptions::default());
        let socket = SockRef::from(&listener);
        assert!(!socket.keepalive().unwrap() && !socket.reuse_port().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), None);
    }
}
