//! Unix sockets and their files.
//!
//! A file that a dead server left is replaced; one that a process listens on is respected, and what is no socket is
//! not touched. Two servers that start on one path in the same moment may both find it free: the one that loses its
//! file to the other before it listens sees so and gives up.

use super::with_context;
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;

/// Listens at `path`, with permissions `mode` or those that the umask leaves.
///
/// # Errors
/// One line with the path.
pub(super) fn bind(
    path: &str,
    mode: Option<u32>,
    backlog: i32,
) -> io::Result<(UnixListener, SocketFile)> {
    let listen = || {
        remove_stale(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&SockAddr::unix(path)?).map_err(|error| {
            // It came since the look at the path.
            match error.kind() {
                ErrorKind::AddrInUse => in_use(),
                _ => error,
            }
        })?;
        let file = SocketFile::of(path)?;
        // Until it listens nobody can connect, so there is no moment in which more than `mode` allows may.
        if let Some(mode) = mode {
            fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
        socket.listen(backlog)?;
        if !file.is_unchanged() {
            return Err(in_use());
        }
        Ok((socket.into(), file))
    };
    listen().map_err(|error| with_context(error, format!("cannot listen on unix:{path}")))
}

/// Makes room if nobody listens there any more.
fn remove_stale(path: &str) -> io::Result<()> {
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        // What else is wrong with the path, bind says.
        Err(_) => return Ok(()),
    };
    if !kind.is_socket() {
        let reason = "the file is not a socket and is not replaced";
        return Err(io::Error::new(ErrorKind::AlreadyExists, reason));
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A listener whose backlog is full would hold us otherwise; so it is `WouldBlock`.
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
                "cannot tell whether another process listens there",
            )),
        },
    }
}

fn in_use() -> io::Error {
    io::Error::new(ErrorKind::AddrInUse, "another process listens there")
}

/// The file of a socket that we bound, removed when this is dropped, unless another has taken its place. As long as
/// the socket is open, no other file can have its number.
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
                "cannot remove the Unix socket {}: {error}; the next server there replaces it",
                self.path
            );
        }
    }
}
