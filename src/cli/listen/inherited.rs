//! Sockets that a parent opened for us, as systemd does (sd_listen_fds(3)): `LISTEN_FDS` of them from descriptor 3 on,
//! meant for the process `LISTEN_PID`. They are the parent's: their files are not removed, and their backlogs and
//! permissions are as it made them.

use super::{Listener, with_context};
use listenfd::ListenFd;
use socket2::SockRef;
use std::env;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;

/// # Errors
/// A descriptor that is no listening socket, TCP or Unix.
pub(super) fn take() -> io::Result<Vec<Listener>> {
    // Without a process's number they are meant for nobody; the library takes that for everybody.
    let pid = env::var("LISTEN_PID").ok();
    if pid.and_then(|pid| pid.parse().ok()) != Some(std::process::id()) {
        return Ok(Vec::new());
    }
    let Ok(count) = env::var("LISTEN_FDS") else {
        return Ok(Vec::new());
    };
    // So many the library makes room for.
    let Ok(count) = count.parse::<u16>() else {
        return Err(invalid(format!(
            "LISTEN_FDS {count:?} is not a number of sockets"
        )));
    };
    let mut sockets = ListenFd::from_env();
    let mut listeners = Vec::new();
    for index in 0..usize::from(count) {
        listeners.push(take_socket(&mut sockets, index)?);
    }
    Ok(listeners)
}

fn take_socket(sockets: &mut ListenFd, index: usize) -> io::Result<Listener> {
    let name = format!("inherited descriptor {}", FIRST_DESCRIPTOR + index);
    // What is wrong for one kind stays where it is for the other.
    let listener = if let Ok(Some(tcp)) = sockets.take_tcp_listener(index) {
        Listener::Tcp(tcp)
    } else if let Ok(Some(unix)) = sockets.take_unix_listener(index) {
        Listener::Unix(unix)
    } else {
        return Err(invalid(format!(
            "{name} is neither a TCP nor a Unix stream socket"
        )));
    };
    let is_listening = match &listener {
        Listener::Tcp(tcp) => is_listening(tcp),
        Listener::Unix(unix) => is_listening(unix),
    };
    match is_listening {
        Ok(true) => Ok(listener),
        Ok(false) => Err(invalid(format!(
            "{name} does not listen: its systemd socket unit needs Accept=no"
        ))),
        Err(error) => Err(with_context(error, name)),
    }
}

#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn is_listening(socket: &impl AsFd) -> io::Result<bool> {
    SockRef::from(socket).is_listener()
}

/// There is no asking; the first accept will tell.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn is_listening(socket: &impl AsFd) -> io::Result<bool> {
    SockRef::from(socket).local_addr().map(|_| true)
}

fn invalid(text: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, text)
}

/// `SD_LISTEN_FDS_START`.
const FIRST_DESCRIPTOR: usize = 3;
