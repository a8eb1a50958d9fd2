//! Operations on many client connections: open, fill with messages, read in a thread, and reset.

use crate::child::lower_priority;
use crate::wire;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Timeout of connecting, and of each blocking read and write.
pub(crate) const IO_TIMEOUT: Duration = Duration::from_secs(20);

/// Opens a TCP connection and sends nothing.
pub(crate) fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&addr, IO_TIMEOUT)?;
    prepare(&stream)?;
    Ok(stream)
}

/// Opens a TCP connection with a receive buffer of `bytes` bytes, so that the kernel accepts little from the server
/// before the client reads.
fn connect_narrow(addr: SocketAddr, bytes: usize) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    // Set before connecting, so that the kernel never announces a larger window.
    socket.set_recv_buffer_size(bytes)?;
    socket.connect_timeout(&addr.into(), IO_TIMEOUT)?;
    let stream = TcpStream::from(socket);
    prepare(&stream)?;
    Ok(stream)
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(IO_TIMEOUT))?;
    stream.set_write_timeout(Some(IO_TIMEOUT))?;
    stream.set_nodelay(true)
}

/// Opens a WebSocket connection.
pub(crate) fn open(addr: SocketAddr, path: &str) -> io::Result<TcpStream> {
    let stream = connect(addr)?;
    (&stream).write_all(&wire::request(path))?;
    expect_open(&stream)?;
    Ok(stream)
}

/// Opens `count` WebSocket connections on one path.
pub(crate) fn open_many(addr: SocketAddr, count: usize, path: &str) -> io::Result<Vec<TcpStream>> {
    open_each(addr, count, |_| wire::request(path))
}

/// Opens a WebSocket connection with the smallest receive buffer that the kernel allows, about 1 KiB of payload.
pub(crate) fn open_narrowest(addr: SocketAddr, path: &str) -> io::Result<TcpStream> {
    let stream = connect_narrow(addr, 1)?;
    (&stream).write_all(&wire::request(path))?;
    expect_open(&stream)?;
    Ok(stream)
}

/// Opens `count` WebSocket connections on one path, with receive buffers of 4 KiB in the kernel.
pub(crate) fn open_narrow(
    addr: SocketAddr,
    count: usize,
    path: &str,
) -> io::Result<Vec<TcpStream>> {
    let request = wire::request(path);
    connect_in_batches(count, |_| connect_narrow(addr, 4096), |_| request.clone())
}

/// Opens `count` WebSocket connections; `request` returns the request of each connection from its number.
pub(crate) fn open_each(
    addr: SocketAddr,
    count: usize,
    request: impl Fn(usize) -> Vec<u8>,
) -> io::Result<Vec<TcpStream>> {
    connect_in_batches(count, |_| connect(addr), request)
}

fn connect_in_batches(
    count: usize,
    connect: impl Fn(usize) -> io::Result<TcpStream>,
    request: impl Fn(usize) -> Vec<u8>,
) -> io::Result<Vec<TcpStream>> {
    let mut streams = Vec::with_capacity(count);
    while streams.len() < count {
        let begin = streams.len();
        for number in begin..count.min(begin + HANDSHAKES_MAX) {
            let stream = connect(number)?;
            (&stream).write_all(&request(number))?;
            streams.push(stream);
        }
        streams[begin..].iter().try_for_each(expect_open)?;
    }
    Ok(streams)
}

fn expect_open(stream: &TcpStream) -> io::Result<()> {
    match status(stream)? {
        101 => Ok(()),
        status => Err(io::Error::other(format!("{status} instead of 101"))),
    }
}

/// Reads the head of a response and returns the status code. Bytes after the head stay in the socket.
pub(crate) fn status(stream: &TcpStream) -> io::Result<u16> {
    let mut buf = [0; 2048];
    loop {
        let len = stream.peek(&mut buf)?;
        if let Some(end) = buf[..len].windows(4).position(|four| four == b"\r\n\r\n") {
            let mut stream = stream;
            stream.read_exact(&mut buf[..end + 4])?;
            let status = std::str::from_utf8(&buf[9..12]).ok();
            return status
                .and_then(|status| status.parse().ok())
                .ok_or_else(|| io::Error::other("no status"));
        }
        if len == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        thread::sleep(Duration::from_micros(200));
    }
}

/// Opens `count` connections, exchanges one echo of 20 bytes on each, and closes all of them. This gives the server's
/// allocator a history like that of ordinary service.
pub(crate) fn echo_and_close(addr: SocketAddr, count: usize) -> io::Result<()> {
    let streams = open_many(addr, count, "/echo")?;
    for mut stream in &streams {
        stream.write_all(&wire::text(20))?;
    }
    for mut stream in &streams {
        stream.read_exact(&mut [0; 22])?;
    }
    Ok(())
}

/// Closes each connection with a TCP reset.
pub(crate) fn reset(streams: impl IntoIterator<Item = TcpStream>) -> io::Result<()> {
    for stream in streams {
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    }
    Ok(())
}

/// Writes copies of `block`, which holds complete frames, to each connection until each has accepted `bytes_max` bytes,
/// or until no connection has accepted a byte for [`STALL_TIME`]. Leaves the connections in non-blocking mode. Returns
/// the number of bytes accepted by all connections together.
pub(crate) fn fill(streams: &[TcpStream], block: &[u8], bytes_max: usize) -> io::Result<u64> {
    let mut sent = vec![0; streams.len()];
    let mut progress_at = Instant::now();
    streams
        .iter()
        .try_for_each(|stream| stream.set_nonblocking(true))?;
    while progress_at.elapsed() < STALL_TIME {
        let mut is_done = true;
        for (mut stream, sent) in streams.iter().zip(&mut sent) {
            if *sent >= bytes_max {
                continue;
            }
            is_done = false;
            // Up to the end of the block or `bytes_max`, and at most `WRITE_BYTES_MAX`.
            let begin = *sent % block.len();
            let end = block
                .len()
                .min(begin + WRITE_BYTES_MAX)
                .min(begin + bytes_max - *sent);
            match stream.write(&block[begin..end]) {
                Ok(len) => {
                    *sent += len;
                    progress_at = Instant::now();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        if is_done {
            break;
        }
        if progress_at.elapsed() > Duration::from_millis(2) {
            thread::sleep(Duration::from_millis(2));
        }
    }
    Ok(sent.iter().map(|sent| *sent as u64).sum())
}

/// A thread that reads and discards all input of many connections.
pub(crate) struct Drain {
    bytes: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Vec<TcpStream>>>,
}

impl Drain {
    pub(crate) fn start(streams: Vec<TcpStream>) -> Self {
        let bytes = Arc::new(AtomicU64::new(0));
        let is_over = Arc::new(AtomicBool::new(false));
        let (count, until) = (Arc::clone(&bytes), Arc::clone(&is_over));
        let thread = thread::spawn(move || {
            lower_priority();
            drain(&streams, &count, &until)?;
            Ok(streams)
        });
        Self {
            bytes,
            is_over,
            thread,
        }
    }

    /// Returns the number of bytes read so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Waits up to `time` until `bytes` bytes have been read in total. Returns whether they have.
    pub(crate) fn wait_for(&self, bytes: u64, time: Duration) -> bool {
        let start = Instant::now();
        while self.bytes() < bytes && start.elapsed() < time {
            thread::sleep(Duration::from_millis(5));
        }
        self.bytes() >= bytes
    }

    /// Stops the thread and returns the connections.
    pub(crate) fn stop(self) -> io::Result<Vec<TcpStream>> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().expect("the thread does not panic")
    }
}

fn drain(streams: &[TcpStream], bytes: &AtomicU64, is_over: &AtomicBool) -> io::Result<()> {
    let mut poll = Poll::new()?;
    for (number, stream) in streams.iter().enumerate() {
        stream.set_nonblocking(true)?;
        let descriptor = stream.as_raw_fd();
        poll.registry().register(
            &mut SourceFd(&descriptor),
            Token(number),
            Interest::READABLE,
        )?;
    }
    let mut events = Events::with_capacity(1024);
    let mut buf = vec![0; 256 * 1024];
    while !is_over.load(Ordering::Relaxed) {
        match poll.poll(&mut events, Some(Duration::from_millis(50))) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result?,
        }
        for event in &events {
            let mut stream = &streams[event.token().0];
            // A short read means that the socket is empty. The end of the stream and errors end the loop as well.
            while let Ok(len @ 1..) = stream.read(&mut buf) {
                bytes.fetch_add(len as u64, Ordering::Relaxed);
                if len < buf.len() {
                    break;
                }
            }
        }
    }
    for stream in streams {
        let descriptor = stream.as_raw_fd();
        poll.registry().deregister(&mut SourceFd(&descriptor))?;
    }
    Ok(())
}

/// Maximum opening handshakes in progress at once.
const HANDSHAKES_MAX: usize = 256;

/// Maximum bytes per write to one connection before the next connection is served.
const WRITE_BYTES_MAX: usize = 64 * 1024;

/// If no connection accepts a byte for this time, their socket buffers are considered full.
const STALL_TIME: Duration = Duration::from_millis(300);
