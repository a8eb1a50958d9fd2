//! The ceiling: the minimum that a single-threaded epoll server must do for an echo. One `recv` into a buffer shared by all
//! connections, unmasking in that buffer, one `send` from it.
//!
//! It is a reference for measurements and not a usable server: it does not check UTF-8, limits or the order of fragments,
//! has no backpressure and no closing handshake, and `/broadcast` does not support fragments.
//!
//! - A connection is identified by an index, which is the token in epoll. It is registered once, edge-triggered. A short
//!   `recv` means that the socket is empty.
//! - A server's header is four bytes shorter than a client's. It is written directly before the payload, which is unmasked
//!   in place. Further frames are moved up to the end of the first one while they are unmasked, so one pass and one `send`
//!   suffice.
//! - The server waits for the rest of a small incomplete frame. A large one is forwarded as it arrives.
//! - All publications of one turn are contiguous, and need one `send` for each member.

use base64::Engine;
use sha1::{Digest, Sha1};
use std::io::Write;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, RawFd};

/// Maximum bytes per `recv`. For a message of 1 MiB, 64 KiB cost 20 % more time, 256 KiB about 7 % more, and 2 MiB about
/// 7 % more, because of the cache.
const BUFFER: usize = 512 * 1024;
/// Extra bytes at the end of the buffer, the maximum length of a header, so that reading a header needs no bounds check.
const BEYOND: usize = 14;
/// Incomplete frames up to this length wait for their rest; longer ones are forwarded in pieces.
const CUT_FRAME_BYTES_MAX: usize = 4096;
/// The listener's token; the other tokens are indices of connections.
const LISTENER: u64 = u64::MAX;
const EVENTS: usize = 1024;

struct Conn {
    fd: RawFd,
    kind: Kind,
    /// Payload bytes of a long frame that have not arrived yet.
    left: usize,
    /// The masking key of that frame, rotated so that it begins at the frame's next byte.
    key: u32,
    /// Input: the bytes of an incomplete frame or request. But while a member's long frame arrives, `rest` is output: the part
    /// of the frame that has arrived and is published when the frame is complete.
    rest: Vec<u8>,
    /// Bytes that the socket has not accepted.
    unsent: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Request,
    Echo,
    Member,
}

fn main() {
    let port = std::env::args().nth(1).expect("a port");
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).expect("the port is free");
    unsafe { libc::listen(listener.as_raw_fd(), 4096) };
    listener.set_nonblocking(true).expect("a socket option");
    println!("listening");
    std::io::stdout().flush().expect("stdout is there");
    let epoll = unsafe { libc::epoll_create1(0) };
    register(epoll, listener.as_raw_fd(), LISTENER);
    let mut conns: Vec<Conn> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut members: Vec<usize> = Vec::new();
    let mut buf = vec![0_u8; BUFFER + BEYOND];
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS];
    let mut published = Vec::new();
    loop {
        let count = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), EVENTS as i32, -1) };
        for event in &events[..count.max(0) as usize] {
            if event.u64 == LISTENER {
                accept(epoll, listener.as_raw_fd(), &mut conns, &mut free);
                continue;
            }
            let index = event.u64 as usize;
            let conn = &mut conns[index];
            if !conn.unsent.is_empty() && event.events & libc::EPOLLOUT as u32 != 0 {
                let unsent = std::mem::take(&mut conn.unsent);
                conn.send(&unsent);
            }
            if event.events & libc::EPOLLIN as u32 == 0 {
                continue;
            }
            let kind = conn.kind;
            let is_end = event.events & libc::EPOLLRDHUP as u32 != 0;
            if !conn.read(is_end, &mut buf, &mut published) {
                unsafe { libc::close(conn.fd) };
                members.retain(|member| *member != index);
                free.push(index);
            } else if kind == Kind::Request && conn.kind == Kind::Member {
                members.push(index);
            }
        }
        if !published.is_empty() {
            for member in &members {
                conns[*member].send(&published);
            }
            published.clear();
        }
    }
}

fn register(epoll: RawFd, fd: RawFd, token: u64) {
    let mut event = libc::epoll_event {
        events: (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET) as u32,
        u64: token,
    };
    unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event) };
}

fn accept(epoll: RawFd, listener: RawFd, conns: &mut Vec<Conn>, free: &mut Vec<usize>) {
    loop {
        let none = std::ptr::null_mut();
        let fd = unsafe { libc::accept4(listener, none, none.cast(), libc::SOCK_NONBLOCK) };
        if fd < 0 {
            return;
        }
        let on = 1_i32;
        let at = (&raw const on).cast();
        unsafe { libc::setsockopt(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, at, 4) };
        let conn = Conn {
            fd,
            kind: Kind::Request,
            left: 0,
            key: 0,
            rest: Vec::new(),
            unsent: Vec::new(),
        };
        let index = free.pop().unwrap_or(conns.len());
        if index == conns.len() {
            conns.push(conn);
        } else {
            conns[index] = conn;
        }
        register(epoll, fd, index as u64);
    }
}

impl Conn {
    /// Reads until a read is short, or with `is_end` until the end of the stream. Returns `false` at the end of the stream
    /// and after errors.
    fn read(&mut self, is_end: bool, buf: &mut [u8], published: &mut Vec<u8>) -> bool {
        loop {
            // `rest` is input, to which this read appends, unless `left` is not 0: then it is empty or output.
            let carried = if self.left > 0 { 0 } else { self.rest.len() };
            let target = buf[carried..].as_mut_ptr();
            let len = unsafe { libc::recv(self.fd, target.cast(), BUFFER - carried, 0) };
            if len <= 0 {
                return len < 0
                    && std::io::Error::last_os_error().raw_os_error() == Some(libc::EAGAIN);
            }
            let end = carried + len as usize;
            if carried > 0 {
                buf[..carried].copy_from_slice(&self.rest);
                self.rest = Vec::new();
            }
            if self.kind == Kind::Request {
                self.open(&buf[..end]);
            } else {
                let was_left = self.left > 0;
                let output = self.frames(buf, end);
                if self.kind == Kind::Echo {
                    self.send(&buf[output.start..output.end]);
                } else {
                    if was_left && output.whole > output.start {
                        published.append(&mut self.rest);
                    }
                    published.extend_from_slice(&buf[output.start..output.whole]);
                    self.rest.extend_from_slice(&buf[output.whole..output.end]);
                }
            }
            if end < BUFFER && !is_end {
                return true;
            }
        }
    }

    /// Converts the client frames in `buf[..end]` to contiguous server frames, and returns their range. An incomplete frame
    /// that has to wait for its rest is stored in `rest`.
    #[inline(always)]
    fn frames(&mut self, buf: &mut [u8], end: usize) -> Output {
        let start = buf.as_mut_ptr();
        let mut output = Output::default();
        let mut at = 0;
        if self.left > 0 {
            at = self.left.min(end);
            unsafe { unmask(start, start, at, self.key) };
            self.advance(at);
            output.end = at;
            if self.left == 0 {
                output.whole = at;
            }
        }
        loop {
            let arrived = end - at;
            if arrived < 6 {
                break;
            }
            // All accesses are within the buffer: a header is read up to `BEYOND` bytes after the end of the input, and
            // output is written at least four bytes before the input that is still to be read.
            unsafe {
                let head = start.add(at);
                let first = head.read();
                let (header, len) = match head.add(1).read() & 0x7F {
                    126 => (8, usize::from(u16::from_be(number(head.add(2))))),
                    127 => (14, u64::from_be(number(head.add(2))) as usize),
                    len => (6, usize::from(len)),
                };
                if arrived < header + len
                    && (arrived < header || header + len <= CUT_FRAME_BYTES_MAX)
                {
                    break;
                }
                let key = number(head.add(header - 4));
                let payload = head.add(header);
                let available = len.min(arrived - header);
                at += header + available;
                if first & 0x08 != 0 {
                    unmask(payload, payload, available, key);
                    self.control(first, std::slice::from_raw_parts(payload, available));
                    continue;
                }
                if output.start == output.end {
                    output = Output::at(at - available - header + 4);
                }
                let mut to = start.add(output.end);
                match header {
                    6 => put(to, u16::from_ne_bytes([first, len as u8])),
                    8 => put(to, [first, 126, head.add(2).read(), head.add(3).read()]),
                    _ => {
                        let length: u64 = number(head.add(2));
                        put(to, [first, 127]);
                        put(to.add(2), length);
                    }
                }
                to = to.add(header - 4);
                unmask(to, payload, available, key);
                output.end += header - 4 + available;
                if available < len {
                    (self.left, self.key) = (len, key);
                    self.advance(available);
                    break;
                }
                output.whole = output.end;
            }
        }
        if at < end {
            self.rest.extend_from_slice(&buf[at..end]);
        }
        output
    }

    fn advance(&mut self, len: usize) {
        self.left -= len;
        self.key = rotated(self.key, len);
    }

    /// Answers a ping or a Close with a separate `send`.
    #[cold]
    fn control(&mut self, first: u8, payload: &[u8]) {
        let answer = match first {
            0x89 => 0x8A,
            0x88 => 0x88,
            _ => return,
        };
        let mut frame = vec![answer, payload.len() as u8];
        frame.extend_from_slice(payload);
        self.send(&frame);
    }

    fn send(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let mut sent = 0;
        if self.unsent.is_empty() {
            let (at, len) = (bytes.as_ptr().cast(), bytes.len());
            sent = unsafe { libc::send(self.fd, at, len, libc::MSG_NOSIGNAL) }.max(0) as usize;
        }
        if sent < bytes.len() {
            self.unsent.extend_from_slice(&bytes[sent..]);
        }
    }

    /// Answers the request once it is complete.
    #[cold]
    fn open(&mut self, input: &[u8]) {
        if !input.ends_with(b"\r\n\r\n") {
            self.rest = input.to_vec();
            return;
        }
        let head = String::from_utf8_lossy(input);
        let key = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("sec-websocket-key")
                .then(|| value.trim())
        });
        let mut sha = Sha1::new();
        sha.update(key.unwrap_or_default());
        sha.update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
        let accept = base64::engine::general_purpose::STANDARD.encode(sha.finalize());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        self.send(answer.as_bytes());
        let is_member = head.starts_with("GET /broadcast");
        self.kind = if is_member { Kind::Member } else { Kind::Echo };
    }
}

/// A range of output in the buffer. The frames up to `whole` are complete; the rest is the beginning of a long frame.
#[derive(Default)]
struct Output {
    start: usize,
    whole: usize,
    end: usize,
}

impl Output {
    fn at(start: usize) -> Self {
        Self {
            start,
            whole: start,
            end: start,
        }
    }
}

/// Returns the masking key for the bytes after the next `len` bytes.
#[inline(always)]
fn rotated(key: u32, len: usize) -> u32 {
    key.rotate_right(8 * (len as u32 % 4))
}

/// Unmasks `len` bytes from `from` to `to` in one pass. `to` must not be after `from`. Each step reads all its input before
/// it writes. 64 bytes are four vectors of baseline x86-64 (SSE2).
#[inline(always)]
unsafe fn unmask(mut to: *mut u8, mut from: *const u8, mut len: usize, key: u32) {
    let word = u64::from(key) << 32 | u64::from(key);
    unsafe {
        while len >= 64 {
            put(to, unmasked::<8>(from, word));
            (to, from, len) = (to.add(64), from.add(64), len - 64);
        }
        match len {
            32.. => unmask_ends::<4>(to, from, len, word),
            16.. => unmask_ends::<2>(to, from, len, word),
            8.. => unmask_ends::<1>(to, from, len, word),
            _ => {
                for i in 0..len {
                    to.add(i)
                        .write(from.add(i).read() ^ key.to_ne_bytes()[i % 4]);
                }
            }
        }
    }
}

/// Unmasks `8 * N` to `16 * N` bytes: the first `N` words and the last `N` words, which may overlap.
#[inline(always)]
unsafe fn unmask_ends<const N: usize>(to: *mut u8, from: *const u8, len: usize, word: u64) {
    let last = len - N * 8;
    unsafe {
        let first = unmasked::<N>(from, word);
        let second = unmasked::<N>(from.add(last), word.rotate_right(8 * (len as u32 % 4)));
        put(to, first);
        put(to.add(last), second);
    }
}

#[inline(always)]
unsafe fn unmasked<const N: usize>(from: *const u8, word: u64) -> [u64; N] {
    let words: [u64; N] = unsafe { number(from) };
    words.map(|masked| masked ^ word)
}

#[inline(always)]
unsafe fn number<T: Copy>(at: *const u8) -> T {
    unsafe { at.cast::<T>().read_unaligned() }
}

#[inline(always)]
unsafe fn put<T: Copy>(at: *mut u8, value: T) {
    unsafe { at.cast::<T>().write_unaligned(value) }
}
