//! Opens Unix sockets and removes their files.
//!
//! A socket file on which no process listens, left by a server that was killed, is replaced. It is an error if a
//! process listens on it, or if the file is not a socket. If two servers start on the same path simultaneously, both
//! may find it free. The server that finds its file replaced by the other's after `listen` returns an error.

use super::with_context;
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;

/// Listens on `path`. The file has the permissions `mode`, or without it 777 without the bits of the umask.
///
/// # Errors
/// A process listens on the path, the file is not a socket, or a system call fails.
pub(super) fn bind(
    path: &str,
    mode: Option<u32>,
    backlog: i32,
) -> io::Result<(UnixListener, SocketFile)> {
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?).map_err(|error| {
        // The file was created after `remove_stale`.
        match error.kind() {
            ErrorKind::AddrInUse => in_use(),
            _ => error,
        }
    })?;
    let file = SocketFile::of(path)?;
    // Sets the permissions before `listen`: until then no client can connect with the permissions of the umask.
    if let Some(mode) = mode {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    socket.listen(backlog)?;
    if !file.is_unchanged() {
        return Err(in_use());
    }
    Ok((socket.into(), file))
}

/// Removes a socket file on which no process listens. Does nothing if there is no file.
///
/// # Errors
/// A process listens on the file, or the file is not a socket.
fn remove_stale(path: &str) -> io::Result<()> {
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        // `bind` reports any other error of the path.
        Err(_) => return Ok(()),
    };
    if !kind.is_socket() {
        let reason = "the file exists and is not a socket; remove it or choose another path";
        return Err(io::Error::new(ErrorKind::AlreadyExists, reason));
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // If the backlog of a listener is full, a blocking `connect` would wait. A non-blocking one returns `WouldBlock`.
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Ok(()) => Err(in_use()),
        Err(error) => match error.kind() {
            ErrorKind::ConnectionRefused => fs::remove_file(path)
                .map_err(|error| with_context(error, "cannot remove the stale socket")),
            ErrorKind::NotFound => Ok(()),
            ErrorKind::WouldBlock => Err(in_use()),
            _ => Err(with_context(
                error,
                "cannot determine whether another process is listening on it",
            )),
        },
    }
}

fn in_use() -> io::Error {
    io::Error::new(ErrorKind::AddrInUse, "another process is listening on it")
}

/// The file of a socket that this process has bound. Dropping the value removes the file, unless another file is at its
/// path by then. Device and inode identify the file; while the socket is open, the system does not reuse its inode.
#[derive(Debug)]
pub(in crate::cli) struct SocketFile {
    path: String,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn of(path: &str) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }

    /// Returns whether the file at the path is still that of this socket.
    fn is_unchanged(&self) -> bool {
        fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == (self.device, self.inode))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_unchanged()
            && let Err(error) = fs::remove_file(&self.path)
        {
            log::warn!(
                "cannot remove the Unix socket {}: {error}; a server that listens on it later will replace it",
                self.path
            );
        }
    }
}
