//! A socket as the kernel keeps it, edge-triggered: readiness is told once for every change, never again for what
//! is still so. A session that forgets one waits for ever, which is what the simulation is to find.

use super::random::Random;
use crate::engine::Readiness;
use crate::server::testing::shared::Shared;
use crate::stream::Transport;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};

/// What both ends share.
#[derive(Debug)]
pub(super) struct Socket {
    /// Arrived and not read.
    arrived: VecDeque<u8>,
    end: End,
    /// Bytes that are taken before writes would block.
    writable_bytes: usize,
    /// The last write took less than it was offered, so that room is news.
    awaits_writable: bool,
    /// What the poll has yet to tell.
    edges: Edges,
    /// Calls that a signal will interrupt.
    pub(super) interrupts: usize,
    /// Writes that will take only a part of what there is room for.
    pub(super) short_writes: usize,
    written: Vec<u8>,
    is_shut: bool,
    is_dropped: bool,
}

/// How the peer has ended its side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Not,
    /// A FIN: the other direction goes on.
    HalfClosed,
    Reset,
}

#[derive(Clone, Copy, Debug, Default)]
struct Edges {
    is_readable: bool,
    is_writable: bool,
}

impl Socket {
    /// A new connection; the poll tells at the first turn that it is writable.
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

    /// Bytes arrive from the peer.
    pub(super) fn arrive(&mut self, bytes: impl IntoIterator<Item = u8>) {
        self.arrived.extend(bytes);
        self.edges.is_readable = true;
    }

    /// The peer ends its side; it reads on.
    pub(super) fn half_close(&mut self) {
        self.end = End::HalfClosed;
        self.edges.is_readable = true;
    }

    /// The peer resets the connection; what arrived before may be lost with it.
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

    /// The peer has read: there is room for `more` bytes.
    pub(super) fn add_writable_bytes(&mut self, more: usize) {
        self.writable_bytes = self.writable_bytes.saturating_add(more);
        if self.writable_bytes > 0 && std::mem::take(&mut self.awaits_writable) {
            self.edges.is_writable = true;
        }
    }

    /// What the poll tells now, and not again.
    pub(super) fn take_readiness(&mut self, random: &mut Random) -> Option<Readiness> {
        let Edges {
            is_readable,
            is_writable,
        } = std::mem::take(&mut self.edges);
        if !is_readable && !is_writable {
            return None;
        }
        // A poll may tell of the other direction as well, when that is ready.
        let reports_both = random.one_in(2);
        Some(Readiness {
            is_readable: is_readable || reports_both && !self.arrived.is_empty(),
            is_writable: is_writable || reports_both && self.writable_bytes > 0,
            is_end: is_readable && self.end != End::Not,
        })
    }

    /// Whether the poll will tell that a read gives something.
    pub(super) fn will_report_readable(&self) -> bool {
        self.edges.is_readable
    }

    /// Whether the poll will tell, now or when the peer has read, that a write takes something.
    pub(super) fn will_report_writable(&self) -> bool {
        self.edges.is_writable || self.awaits_writable
    }

    /// Whether a read would give something.
    pub(super) fn has_input(&self) -> bool {
        !self.arrived.is_empty() || self.end != End::Not
    }

    /// The session has closed its end.
    pub(super) fn is_dropped(&self) -> bool {
        self.is_dropped
    }

    /// What the session wrote since the last call.
    pub(super) fn take_written(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.written)
    }

    fn check_interrupt(&mut self) -> io::Result<()> {
        if self.interrupts == 0 {
            return Ok(());
        }
        self.interrupts -= 1;
        Err(ErrorKind::Interrupted.into())
    }
}

/// The session's end.
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
        // All that has arrived, as far as it fits: a short read means that there is no more.
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
        assert!(offered > 0, "a write of nothing");
        let mut len = offered.min(socket.writable_bytes);
        if len > 1 && socket.short_writes > 0 {
            socket.short_writes -= 1;
            len /= 2;
        }
        // As Linux does: after a short count, room is told of as soon as there is some.
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
