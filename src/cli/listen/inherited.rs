//! Takes over listening sockets from a parent process such as systemd (sd_listen_fds(3)): `LISTEN_FDS` sockets from
//! descriptor 3 on, for the process with the id `LISTEN_PID`.
//!
//! The parent owns the sockets: wsloop does not remove their files and does not change their backlogs or permissions.
//! The connections of a socket with the name `proxy` (`FileDescriptorName` of the socket unit, `LISTEN_FDNAMES` here)
//! begin with a header of the PROXY protocol, and those of one with the name `tls` speak TLS. A socket with the name
//! `metrics` is for metrics and checks only. Names are combined with dashes, as in `proxy-tls`, because colons separate
//! the names of sockets.

use super::super::args::{NO_PROXY_PROTOCOL, NO_TLS};
use super::{Listener, ListeningSocket, with_context};
use listenfd::ListenFd;
use socket2::SockRef;
use std::env;
use std::io::{self, ErrorKind};
use std::iter;
use std::os::fd::AsFd;

/// Returns the inherited sockets; none if `LISTEN_PID` is not the id of this process.
///
/// # Errors
/// `LISTEN_FDS` is not a number, or a descriptor is not a listening TCP or Unix stream socket. The message names the
/// variable or the descriptor.
pub(super) fn take() -> io::Result<Vec<Listener>> {
    // Without LISTEN_PID no process is addressed, and the sockets are ignored. listenfd would accept them.
    let pid = env::var("LISTEN_PID").ok();
    if pid.and_then(|pid| pid.parse().ok()) != Some(std::process::id()) {
        return Ok(Vec::new());
    }
    let Ok(count) = env::var("LISTEN_FDS") else {
        return Ok(Vec::new());
    };
    // listenfd allocates an entry for each socket. The type u16 limits their number.
    let Ok(count) = count.parse::<u16>() else {
        return Err(invalid(format!(
            "LISTEN_FDS {count:?} is not a number from 0 to 65535"
        )));
    };
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let names = names.split(':').chain(iter::repeat(""));
    let mut sockets = ListenFd::from_env();
    let mut listeners = Vec::new();
    for (index, name) in (0..usize::from(count)).zip(names) {
        let options = ["proxy", "tls", "metrics"];
        // A name with another word, such as that of the unit wsloop-tls, sets no options.
        let is_options = name.split('-').all(|part| options.contains(&part));
        let [is_proxied, is_tls, is_metrics] =
            options.map(|option| is_options && name.split('-').any(|part| part == option));
        let reason = if is_proxied && cfg!(not(feature = "proxy-protocol")) {
            Some(NO_PROXY_PROTOCOL)
        } else if is_tls && cfg!(not(feature = "tls")) {
            Some(NO_TLS)
        } else {
            None
        };
        if let Some(reason) = reason {
            let number = FIRST_DESCRIPTOR + index;
            return Err(invalid(format!(
                "inherited descriptor {number}, which has the name {name:?}, {reason}"
            )));
        }
        let socket = take_socket(&mut sockets, index)?;
        listeners.push(Listener {
            socket,
            is_proxied,
            is_tls,
            is_metrics,
        });
    }
    Ok(listeners)
}

/// Takes over one socket.
fn take_socket(sockets: &mut ListenFd, index: usize) -> io::Result<ListeningSocket> {
    let name = format!("inherited descriptor {}", FIRST_DESCRIPTOR + index);
    // A failed `take_tcp_listener` leaves the descriptor in place for `take_unix_listener`.
    let listener = if let Ok(Some(tcp)) = sockets.take_tcp_listener(index) {
        ListeningSocket::Tcp(tcp)
    } else if let Ok(Some(unix)) = sockets.take_unix_listener(index) {
        ListeningSocket::Unix(unix)
    } else {
        return Err(invalid(format!(
            "{name} is neither a TCP nor a Unix stream socket"
        )));
    };
    let is_listening = match &listener {
        ListeningSocket::Tcp(tcp) => is_listening(tcp),
        ListeningSocket::Unix(unix) => is_listening(unix),
    };
    match is_listening {
        Ok(true) => Ok(listener),
        Ok(false) => Err(invalid(format!(
            "{name} is not listening; set Accept=no in its systemd socket unit"
        ))),
        Err(error) => Err(with_context(error, name)),
    }
}

/// Returns whether a socket is listening.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn is_listening(socket: &impl AsFd) -> io::Result<bool> {
    SockRef::from(socket).is_listener()
}

/// Returns `true`, because these systems have no such query. The first `accept` fails if the socket is not listening.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn is_listening(socket: &impl AsFd) -> io::Result<bool> {
    SockRef::from(socket).local_addr().map(|_| true)
}

fn invalid(text: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, text)
}

/// `SD_LISTEN_FDS_START` of sd_listen_fds(3).
const FIRST_DESCRIPTOR: usize = 3;
