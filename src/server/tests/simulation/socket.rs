//! A simulated socket with an edge-triggered poll: each change of readiness is reported once, and a lasting state is not
//! reported again. A session that ignores a report waits forever; the simulation detects that.

use crate::engine::Readiness;
use crate::random::Random;
use crate::server::testing::shared::Shared;
use crate::stream::Transport;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};

/// The state of the socket, which the session and its peer share.
#[derive(Debug)]
pub(super) struct Socket {
    /// Bytes that have arrived and are not read.
    arrived: VecDeque<u8>,
    end: End,
    /// Number of bytes that writes accept before they would block.
    writable_bytes: usize,
    /// A write has accepted less than it was offered, so the poll reports when the socket is writable again.
    awaits_writable: bool,
    /// Changes that the poll has not reported yet.
    edges: Edges,
    /// Number of calls that will fail with `Interrupted`.
    pub(super) interrupts: usize,
    /// Number of writes that will accept only half of what they could.
    pub(super) short_writes: usize,
    written: Vec<u8>,
    /// The session has shut down its write side.
    is_shut: bool,
    /// The session has dropped its stream.
    is_dropped: bool,
}

/// How the peer has ended its side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Not,
    /// By a FIN: the other direction stays open.
    HalfClosed,
    Reset,
}

#[derive(Clone, Copy, Debug, Default)]
struct Edges {
    is_readable: bool,
    is_writable: bool,
}

impl Socket {
    /// Creates a socket. If it is writable, the first poll reports that.
    pub(super) fn new(writable_bytes: usize) -> Shared<Self> {
        Shared::new(Self {
            arrived: VecDeque::new(),
            end: End::Not,
            writable_bytes,
            awaits_writable: false,
            edges: Edges {
                is_readable: false,
                is_writable: writable_bytes > 0,
            },
            interrupts: 0,
            short_writes: 0,
            written: Vec::new(),
            is_shut: false,
            is_dropped: false,
        })
    }

    /// Adds bytes from the peer.
    pub(super) fn arrive(&mut self, bytes: impl IntoIterator<Item = u8>) {
        self.arrived.extend(bytes);
        self.edges.is_readable = true;
    }

    /// Ends the peer's side. The peer still reads.
    pub(super) fn half_close(&mut self) {
        self.end = End::HalfClosed;
        self.edges.is_readable = true;
    }

    /// Resets the connection. `is_unread_lost`: unread bytes are lost.
    pub(super) fn reset(&mut self, is_unread_lost: bool) {
        if is_unread_lost {
            self.arrived.clear();
        }
        self.end = End::Reset;
        self.edges = Edges {
            is_readable: true,
            is_writable: true,
        };
    }

    /// Lets writes accept `more` bytes, because the peer has read.
    pub(super) fn add_writable_bytes(&mut self, more: usize) {
        self.writable_bytes = self.writable_bytes.saturating_add(more);
        if self.writable_bytes > 0 && std::mem::take(&mut self.awaits_writable) {
            self.edges.is_writable = true;
        }
    }

    /// Returns what the poll reports, which is then not reported again. `None` if nothing has changed.
    pub(super) fn take_readiness(&mut self, random: &mut Random) -> Option<Readiness> {
        let Edges {
            is_readable,
            is_writable,
        } = std::mem::take(&mut self.edges);
        if !is_readable && !is_writable {
            return None;
        }
        // A poll may report the other direction as well, if it is ready.
        let reports_both = random.one_in(2);
        Some(Readiness {
            is_readable: is_readable || reports_both && !self.arrived.is_empty(),
            is_writable: is_writable || reports_both && self.writable_bytes > 0,
            is_end: is_readable && self.end != End::Not,
            is_error: false,
        })
    }

    /// Returns whether the next poll will report the socket as readable.
    pub(super) fn will_report_readable(&self) -> bool {
        self.edges.is_readable
    }

    /// Returns whether the poll will report the socket as writable, at once or after the peer has read.
    pub(super) fn will_report_writable(&self) -> bool {
        self.edges.is_writable || self.awaits_writable
    }

    /// Returns whether a read would return bytes, the end of the stream or an error.
    pub(super) fn has_input(&self) -> bool {
        !self.arrived.is_empty() || self.end != End::Not
    }

    /// Returns whether the session has dropped its stream.
    pub(super) fn is_dropped(&self) -> bool {
        self.is_dropped
    }

    /// Returns and removes the bytes that the session has written since the last call.
    pub(super) fn take_written(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.written)
    }

    /// Fails with `Interrupted` if the call is to be interrupted.
    fn check_interrupt(&mut self) -> io::Result<()> {
        if self.interrupts == 0 {
            return Ok(());
        }
        self.interrupts -= 1;
        Err(ErrorKind::Interrupted.into())
    }
}

/// The session's end of a [`Socket`].
#[derive(Debug)]
pub(super) struct SocketStream(pub(super) Shared<Socket>);

impl Read for SocketStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut socket = self.0.lock();
        socket.check_interrupt()?;
        if socket.arrived.is_empty() {
            return match socket.end {
                End::Not => Err(ErrorKind::WouldBlock.into()),
                End::HalfClosed => Ok(0),
                End::Reset => Err(ErrorKind::ConnectionReset.into()),
            };
        }
        // As on Linux, a read returns as much as fits, so a short read means that nothing is left.
        let len = socket.arrived.len().min(buf.len());
        for (into, byte) in buf.iter_mut().zip(socket.arrived.drain(..len)) {
            *into = byte;
        }
        Ok(len)
    }
}

impl Write for SocketStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(buf)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut socket = self.0.lock();
        assert!(!socket.is_shut, "a write after the write side was shut");
        socket.check_interrupt()?;
        if socket.end == End::Reset {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        assert!(offered > 0, "a write of zero bytes");
        let mut len = offered.min(socket.writable_bytes);
        if len > 1 && socket.short_writes > 0 {
            socket.short_writes -= 1;
            len /= 2;
        }
        // As on Linux, the poll reports that the socket is writable again only after a write that was not accepted completely.
        socket.awaits_writable |= len < offered;
        if len == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        socket.writable_bytes -= len;
        let bytes = slices.iter().flat_map(|slice| slice.iter());
        socket.written.extend(bytes.take(len));
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Transport for SocketStream {
    fn shutdown_write(&mut self) -> io::Result<()> {
        let mut socket = self.0.lock();
        if socket.end == End::Reset {
            return Err(ErrorKind::NotConnected.into());
        }
        socket.is_shut = true;
        Ok(())
    }
}

impl Drop for SocketStream {
    fn drop(&mut self) {
        self.0.lock().is_dropped = true;
    }
}
